//! What the API server says when it refuses: `Status` bodies, worded as Kubernetes words them.

use axum::http::StatusCode;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::sim::cluster::kinds::Kind;

/// A refusal: an HTTP code and the `Status` object that explains it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    reason: &'static str,
    pub(crate) message: String,
    details: Option<Value>,
    /// Token with which an expired list can go on.
    resume: Option<String>,
}

pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, resume: None }
    }

    fn about(code: u16, reason: &'static str, kind: &Kind, name: &str, message: String) -> Self {
        let mut details = json!({"name": name, "group": kind.group, "kind": kind.plural});
        if let Value::Object(map) = &mut details {
            map.retain(|_, v| v != "");
        }
        Self { details: Some(details), ..Self::new(code, reason, message) }
    }

    pub(crate) fn with(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Adds causes to the details that are there.
    pub(crate) fn because(mut self, causes: Value) -> Self {
        self.details.get_or_insert_with(|| json!({}))["causes"] = causes;
        self
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::about(404, "NotFound", kind, name, format!("{} \"{name}\" not found", kind.resource()))
    }

    /// A path inside a known group that names no resource of it.
    pub(crate) fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with(json!({}))
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn method() -> Self {
        let said = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", said).with(json!({}))
    }

    pub(crate) fn media_type() -> Self {
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").with(json!({}))
    }

    /// 403 for `why`; `name` is empty where no single object is meant.
    pub(crate) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let quoted = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
        Self::about(403, "Forbidden", kind, name, format!("{}{quoted} is forbidden: {why}", kind.resource()))
    }

    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let said = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::about(409, "Conflict", kind, name, said)
    }

    /// The object changed since the caller read it.
    pub(crate) fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    pub(crate) fn exists(kind: &Kind, name: &str) -> Self {
        Self::about(409, "AlreadyExists", kind, name, format!("{} \"{name}\" already exists", kind.resource()))
    }

    /// 422 for one field.
    pub(crate) fn invalid(kind: &Kind, name: &str, reason: &str, field: &str, why: &str) -> Self {
        let named = if kind.group.is_empty() { kind.kind.to_string() } else { format!("{}.{}", kind.kind, kind.group) };
        let said = format!("{named} \"{name}\" is invalid: {field}: {why}");
        let cause = json!([{"reason": reason, "message": why, "field": field}]);
        let mut made = Self::about(422, "Invalid", kind, name, said).because(cause);
        if let Some(details) = &mut made.details {
            details["kind"] = json!(kind.kind);
        }
        made
    }

    /// 422 without a word on which part was wrong: a JSON patch that does not apply.
    pub(crate) fn unprocessable() -> Self {
        Self::new(422, "Invalid", "the server rejected our request due to an error in our request").with(json!({}))
    }

    /// A watch from before what is kept. Events are not cached by the real server, hence their own words.
    pub(crate) fn too_old(kind: &Kind, asked: u64, oldest: u64) -> Self {
        let said = match kind.kind.as_ref() {
            "Event" => "The resourceVersion for the provided watch is too old.".to_owned(),
            _ => format!("too old resource version: {asked} ({oldest})"),
        };
        Self::new(410, "Expired", said)
    }

    /// A continue token from before what is kept; `resume` goes on with what is there now.
    pub(crate) fn continue_expired(resume: String) -> Self {
        let said = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                    list without the continue parameter, or use the continue token in this response to retrieve the \
                    remainder of the results. Continuing with the provided token results in an inconsistent list - \
                    objects that were created, modified, or deleted between the time the first chunk was returned and \
                    now may show up in the list.";
        Self { resume: Some(resume), ..Self::new(410, "Expired", said) }
    }

    /// A list that wants a resourceVersion which is not there yet.
    pub(crate) fn too_new(asked: u64, current: u64) -> Self {
        let said = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        Self::new(504, "Timeout", said).with(json!({"causes": cause, "retryAfterSeconds": 1}))
    }

    /// The `Status` object.
    pub(crate) fn body(&self) -> Value {
        let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                                "message": self.message, "code": self.code});
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        if let Some(resume) = &self.resume {
            status["metadata"]["continue"] = json!(resume);
        }
        status
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (code, axum::Json(self.body())).into_response();
        let retry = self.details.as_ref().and_then(|d| d["retryAfterSeconds"].as_u64());
        if let Some(seconds) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
