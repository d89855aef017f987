//! Watched objects as far as they are looked at: what is not needed is dropped while it is decoded.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference, Time};
use kube::core::ObjectMeta;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// A part of an object that is not looked at: nothing of it is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// An object with as much of its spec and status as `S` and `T` say.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "S: Deserialize<'de> + Default, T: Deserialize<'de> + Default")]
pub(super) struct Seen<S, T> {
    #[serde(default, deserialize_with = "light")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: S,
    #[serde(default)]
    pub(super) status: T,
}

/// An object whose metadata is all that the API server is asked for.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Brief {
    #[serde(default, deserialize_with = "light")]
    pub(super) metadata: ObjectMeta,
}

macro_rules! resource {
    ([$($bounds:tt)*] $name:ty, $metadata_alone:literal) => {
        impl<$($bounds)*> kube::Resource for $name {
            type DynamicType = kube::core::ApiResource;
            type Scope = kube::core::DynamicResourceScope;

            fn kind(api: &kube::core::ApiResource) -> std::borrow::Cow<'_, str> {
                api.kind.as_str().into()
            }

            fn group(api: &kube::core::ApiResource) -> std::borrow::Cow<'_, str> {
                api.group.as_str().into()
            }

            fn version(api: &kube::core::ApiResource) -> std::borrow::Cow<'_, str> {
                api.version.as_str().into()
            }

            fn api_version(api: &kube::core::ApiResource) -> std::borrow::Cow<'_, str> {
                api.api_version.as_str().into()
            }

            fn plural(api: &kube::core::ApiResource) -> std::borrow::Cow<'_, str> {
                api.plural.as_str().into()
            }

            fn metadata_api() -> bool {
                $metadata_alone
            }

            fn meta(&self) -> &kube::core::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut kube::core::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
pub(super) use resource;

resource!([S: Clone, T: Clone] Seen<S, T>, false);
resource!([] Brief, true);

/// Metadata without the lists of fields that each manager wrote, which are most of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Light {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    resource_version: Option<String>,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    managed_fields: Option<Vec<Write>>,
}

/// One manager's writes: who, when, to which part.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Write {
    manager: Option<String>,
    time: Option<Timestamp>,
    subresource: Option<String>,
}

/// Decodes metadata as far as it is looked at.
pub(super) fn light<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let light = Option::<Light>::deserialize(deserializer)?.unwrap_or_default();
    let writes = light.managed_fields.unwrap_or_default().into_iter().map(|write| ManagedFieldsEntry {
        manager: write.manager,
        time: write.time.map(Time),
        subresource: write.subresource,
        ..ManagedFieldsEntry::default()
    });
    Ok(ObjectMeta {
        name: light.name,
        namespace: light.namespace,
        uid: light.uid,
        generation: light.generation,
        resource_version: light.resource_version,
        creation_timestamp: light.creation_timestamp.map(Time),
        deletion_timestamp: light.deletion_timestamp.map(Time),
        labels: light.labels,
        annotations: light.annotations,
        owner_references: light.owner_references,
        finalizers: light.finalizers,
        managed_fields: Some(writes.collect()),
        ..ObjectMeta::default()
    })
}

/// The newest write to the object itself (not to its status): when, and by whom.
pub(super) fn written(metadata: &ObjectMeta) -> Option<(Timestamp, &str)> {
    let writes =
        metadata.managed_fields.iter().flatten().filter(|write| write.subresource.as_deref() != Some("status"));
    let dated = writes.filter_map(|write| Some((write.time.as_ref()?.0, write.manager.as_deref().unwrap_or_default())));
    dated.max_by_key(|(at, _)| *at)
}
