//! What a template refers to: ConfigMaps (keys only), the service account, volume claims.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use serde_json::Value;

use crate::model::scene::{At, Change, Claim, ConfigMap, Part, PersistentVolume, ScenePart, Template};
use crate::model::{Kind, Name, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::scene::named::near;
use crate::observe::scene::page::Page;
use crate::observe::scene::pods::claim_names;
use crate::observe::scene::{Look, Shared, Told};
use crate::redact::Redacted;

/// ConfigMaps, and claims, that a scene holds.
const OBJECTS_MAX: usize = 10;
/// Names that are compared with a missing one.
const NAMES_MAX: u32 = 500;
/// Other ConfigMaps that are read, when one is missing or a revision dropped one.
const NEAR_MAX: usize = 3;
/// StorageClasses of a cluster: where there are more, that one is absent is not claimed.
const CLASSES_MAX: usize = 50;
/// PersistentVolumes of a cluster that are looked through for those that a claim could have.
const VOLUMES_MAX: usize = 5_000;
/// The one that the cluster puts into every namespace.
const ROOT_CA: &str = "kube-root-ca.crt";

/// The claims, and the volumes that those which are not bound could have.
pub(super) struct Storage {
    pub(super) claims: Vec<Claim>,
    pub(super) volumes: Part<Vec<PersistentVolume>>,
}

impl Look<'_> {
    /// The ConfigMaps that the template references; where one is missing, others that may be meant (those whose names are
    /// near, then the rest); and those that the revision before this one referenced (not `referenced` any more). And what
    /// changed.
    pub(super) async fn config(
        &self,
        before: Option<&Template>,
    ) -> Result<(Told<Vec<ConfigMap>>, Vec<Change>), ReadError> {
        let mut page = Page::new(ScenePart::Config);
        let named = self.template.config_maps();
        let wanted: Vec<ObjectRef> = named
            .keys()
            .filter_map(|name| ObjectRef::new(Kind::ConfigMap, self.namespace(), name))
            .take(OBJECTS_MAX)
            .collect();
        let found = try_join_all(wanted.iter().map(|object| self.reader.get(object))).await?;
        let mut all: Vec<_> = found.iter().flatten().map(|value| (value.clone(), true)).collect();
        let dropped = before.map(Template::config_maps).unwrap_or_default();
        let dropped: Vec<ObjectRef> = dropped
            .keys()
            .filter(|name| !named.contains_key(**name))
            .filter_map(|name| ObjectRef::new(Kind::ConfigMap, self.namespace(), name))
            .take(NEAR_MAX)
            .collect();
        let kept = try_join_all(dropped.iter().map(|object| self.reader.get(object))).await?;
        all.extend(kept.into_iter().flatten().map(|value| (value, false)));
        let missing: Vec<&ObjectRef> =
            wanted.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(object, _)| object).collect();
        if !missing.is_empty() {
            let names = self.reader.names(Kind::ConfigMap, self.namespace(), NAMES_MAX).await?;
            let is_near = |name: &&Name| missing.iter().any(|object| near(object.name(), name.as_str()));
            let (close, others): (Vec<&Name>, Vec<&Name>) = names.iter().partition(is_near);
            let close: Vec<ObjectRef> = close
                .into_iter()
                .chain(others.into_iter().filter(|name| name.as_str() != ROOT_CA))
                .filter(|name| !named.contains_key(name.as_str()))
                .filter(|name| dropped.iter().all(|object| object.name != **name))
                .filter_map(|name| ObjectRef::new(Kind::ConfigMap, self.namespace(), name.as_str()))
                .take(NEAR_MAX)
                .collect();
            let found = try_join_all(close.iter().map(|object| self.reader.get(object))).await?;
            all.extend(found.into_iter().flatten().map(|value| (value, false)));
        }
        let mut maps = Vec::new();
        let mut changes = Vec::new();
        for (value, referenced) in &all {
            let at = page.object(value, self.typed.redactor);
            maps.extend(self.typed.config_map(value, *referenced, at));
            changes.extend(self.recent(value, at).filter(|_| *referenced));
        }
        self.account(&mut page).await?;
        Ok((Told { value: maps, page }, changes))
    }

    /// The template's own service account stands in the evidence: whether it exists, and since when.
    async fn account(&self, page: &mut Page) -> Result<(), ReadError> {
        let name = self.template.service_account.as_ref().filter(|name| name.as_str() != "default");
        let Some(account) = name.and_then(|n| ObjectRef::new(Kind::ServiceAccount, self.namespace(), n.as_str()))
        else {
            return Ok(());
        };
        match self.reader.get(&account).await {
            Ok(Some(value)) => {
                page.object(&value, self.typed.redactor);
            }
            Ok(None) => {
                page.summary(crate::text!("{} does not exist", account));
            }
            // Not worth losing the ConfigMaps for.
            Err(error) => {
                page.summary(crate::text!("{} could not be read: {}", account, error.reason()));
            }
        }
        Ok(())
    }

    /// The claims that the pods mount, or the subject itself; and the volumes that those not bound could have.
    pub(super) async fn claims(&self, pods: &Shared) -> Result<Told<Storage>, ReadError> {
        let mut page = Page::new(ScenePart::Storage);
        let mut names: BTreeSet<(&str, &str)> = BTreeSet::new();
        if self.subject.kind == Kind::PersistentVolumeClaim {
            names.insert((self.subject.namespace(), self.subject.name()));
        }
        for (value, pod) in pods.raw.iter().zip(pods.pods()) {
            names.extend(claim_names(value).into_iter().map(|name| (pod.object.namespace(), name)));
        }
        let wanted: Vec<ObjectRef> = names
            .into_iter()
            .filter_map(|(namespace, name)| ObjectRef::new(Kind::PersistentVolumeClaim, Some(namespace), name))
            .take(OBJECTS_MAX)
            .collect();
        let found = try_join_all(wanted.iter().map(|object| self.reader.get(object))).await?;
        let claims = found.iter().flatten();
        let claims = claims.filter_map(|v| self.typed.claim(v, page.object(v, self.typed.redactor)));
        let mut claims: Vec<Claim> = claims.collect();
        let mut volumes = Part::Known(Vec::new());
        if self.subject.kind == Kind::PersistentVolume {
            let at = page.object(&self.root, self.typed.redactor);
            volumes = Part::Known(self.typed.persistent_volume(&self.root, at).into_iter().collect());
        } else if claims.iter().any(|claim| claim.phase.as_str() == "Pending") {
            let (classes, held) = tokio::join!(self.storage_classes(), self.part(self.volumes_for(&claims, &mut page)));
            claims.iter_mut().for_each(|claim| claim.classes.clone_from(&classes));
            volumes = held.map_or_else(Part::Missing, Part::Known);
        }
        Ok(Told { value: Storage { claims, volumes }, page })
    }

    /// The volumes that claims which are not bound ask for by name, or that are held for a claim of the same name.
    async fn volumes_for(&self, claims: &[Claim], page: &mut Page) -> Result<Vec<PersistentVolume>, ReadError> {
        let mut volumes = Vec::new();
        let wanted = |value: Value| {
            let blank = At { evidence: ScenePart::Storage.evidence(), segment: 0 };
            let Some(mut volume) = self.typed.persistent_volume(&value, blank) else { return };
            let of = |claim: &Claim| {
                let named = claim.volume.as_ref().is_some_and(|name| name.as_str() == volume.object.name());
                claim.phase.as_str() != "Bound" && (named || volume.claim.as_ref() == Some(&claim.object))
            };
            if volumes.len() < OBJECTS_MAX && claims.iter().any(of) {
                volume.at = page.object(&value, self.typed.redactor);
                volumes.push(volume);
            }
        };
        let ask = Selector::all().at_most(VOLUMES_MAX);
        self.reader.each(Kind::PersistentVolume, None, &ask, wanted).await?;
        Ok(volumes)
    }

    /// The names of all StorageClasses; what cannot be read, or not whole, is not known.
    async fn storage_classes(&self) -> Option<Vec<Redacted>> {
        let ask = Selector::all().at_most(CLASSES_MAX);
        let listed = self.reader.list(Kind::StorageClass, None, &ask).await.ok()?;
        let names = listed.iter().map(|class| self.typed.redactor.redact(json::text(class, "/metadata/name")));
        (listed.len() < CLASSES_MAX).then(|| names.collect())
    }
}
