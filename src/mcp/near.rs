//! The answer that an object does not exist, with the names that nearly match: for saying so, never for acting on them.

use crate::mcp::answer::ToolError;
use crate::model::ObjectRef;
use crate::observe::Reader;
use crate::observe::scene;
use crate::text;

/// The error that `object` does not exist, with near names of its kind or of namespaces.
pub(super) async fn not_found(reader: &Reader, object: &ObjectRef) -> ToolError {
    let what = text!("{}", object);
    match scene::not_found(reader, object).await {
        Ok(found) if found.namespace_exists => ToolError::NotFound { what, near: found.near },
        Ok(found) => {
            let namespace = object.namespace.as_ref().map_or(what.clone(), |name| text!("namespace {}", name));
            ToolError::NotFound { what: namespace, near: found.near }
        }
        // A list that may not be read leaves the plain answer.
        Err(_) => ToolError::NotFound { what, near: Vec::new() },
    }
}
