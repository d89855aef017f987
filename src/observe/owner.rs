//! Upward: from an object to what a person deploys, through controlling owners.

use std::collections::HashMap;

use serde_json::Value;
use tokio::sync::Mutex;

use crate::model::{Kind, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Reader;
use crate::observe::json;
use crate::observe::typed::workload::deployment_of;

/// Finds owners; remembers what it read, for one scene.
pub struct Owners<'a> {
    reader: &'a Reader,
    /// ReplicaSet -> what it belongs to.
    sets: Mutex<HashMap<ObjectRef, ObjectRef>>,
}

impl<'a> Owners<'a> {
    /// Owners as `reader` sees them.
    pub fn new(reader: &'a Reader) -> Self {
        Self { reader, sets: Mutex::default() }
    }

    /// What a person deploys to get this object: itself, if nothing that firstlook knows owns it.
    ///
    /// A Job stays a Job even where a CronJob made it: the run is what failed. A workload that an operator's own kind
    /// made stays the workload. A mirror pod belongs to its node.
    pub async fn of(&self, value: &Value) -> Result<Option<ObjectRef>, ReadError> {
        if let Some(deployment) = deployment_of(value) {
            return Ok(Some(deployment));
        }
        match owner(value) {
            Some(set) if set.kind == Kind::ReplicaSet => self.of_set(set).await.map(Some),
            Some(other) => Ok(Some(other)),
            None => Ok(json::reference(value)),
        }
    }

    async fn of_set(&self, set: ObjectRef) -> Result<ObjectRef, ReadError> {
        if let Some(known) = self.sets.lock().await.get(&set) {
            return Ok(known.clone());
        }
        let value = self.reader.get(&set).await?;
        let up = value.as_ref().and_then(owner).unwrap_or_else(|| set.clone());
        self.sets.lock().await.insert(set, up.clone());
        Ok(up)
    }
}

/// The controlling owner, if it is of a kind that firstlook reads. Jobs and what makes pods directly have none above.
pub fn owner(value: &Value) -> Option<ObjectRef> {
    if json::text(value, "/kind") == "Job" {
        return None;
    }
    let owners = json::list(value, "/metadata/ownerReferences");
    let owner = owners.iter().find(|owner| json::flag(owner, "/controller"))?;
    let kind = Kind::named(json::text(owner, "/kind"))?;
    // Other groups have a `Job` too.
    let group = json::text(owner, "/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    if kind.resource().0 != group {
        return None;
    }
    ObjectRef::new(kind, Some(json::text(value, "/metadata/namespace")), json::text(owner, "/name"))
}
