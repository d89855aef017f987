//! What firstlook may read: each need of the reader and the watches, asked of the API server one by one.

use futures::future::join_all;

use crate::model::{Kind, Name};
use crate::observe::ReadError;
use crate::observe::Reader;

/// One kind, what is done with it, and why: RBAC is printed from this.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub kind: Kind,
    pub subresource: Option<&'static str>,
    pub verbs: &'static [&'static str],
    /// Where alone it is read.
    pub namespace: Option<&'static str>,
    /// Without it firstlook would be deaf.
    pub needed: bool,
    pub why: &'static str,
}

const WATCHED: &[&str] = &["get", "list", "watch"];
const READ: &[&str] = &["get", "list"];

/// Heard by itself.
const fn heard(kind: Kind, why: &'static str) -> Need {
    Need { kind, subresource: None, verbs: WATCHED, namespace: None, needed: true, why }
}

/// Heard by itself where it is allowed.
const fn more(kind: Kind, why: &'static str) -> Need {
    Need { needed: false, ..heard(kind, why) }
}

/// Read when an incident is looked at.
const fn read(kind: Kind, why: &'static str) -> Need {
    Need { verbs: READ, ..more(kind, why) }
}

const TROUBLE: &str = "heard by itself: pods, nodes and volumes in trouble, and Warning events";
const ROLLOUTS: &str = "heard by itself: rollouts, and those that are stuck";
const RUNS: &str = "heard by itself: Jobs that fail or do not end, and CronJobs that miss a run";
const START: &str = "what it mounts and runs as: of a ServiceAccount only whether it exists and names its pull secrets";
const CONFIG: &str = "what it reads at start, and edits of it: values stay in memory, and of an edit the lines that changed are kept, masked";
const REACHED: &str = "how it is reached, what forbids it, and who changed that";
const LIMITED: &str = "what limits it, and who changed that";

/// Everything that scenes, tools and watches ask for. A missing one makes cards poorer, never wrong.
pub const NEEDS: &[Need] = &[
    heard(Kind::Pod, TROUBLE),
    heard(Kind::Node, TROUBLE),
    heard(Kind::Event, TROUBLE),
    heard(Kind::PersistentVolumeClaim, TROUBLE),
    heard(Kind::Deployment, ROLLOUTS),
    heard(Kind::ReplicaSet, ROLLOUTS),
    heard(Kind::StatefulSet, ROLLOUTS),
    heard(Kind::DaemonSet, ROLLOUTS),
    heard(Kind::Job, RUNS),
    more(Kind::CronJob, RUNS),
    heard(Kind::HorizontalPodAutoscaler, "heard by itself: autoscalers at their maximum; one also takes a change back"),
    Need {
        namespace: Some("kube-node-lease"),
        ..more(Kind::Lease, "heard by itself: nodes that no longer renew theirs")
    },
    more(Kind::EndpointSlice, "heard by itself: Services that lost their last endpoint"),
    Need {
        subresource: Some("log"),
        verbs: &["get"],
        needed: false,
        ..heard(Kind::Pod, "what failing containers said last")
    },
    read(Kind::ControllerRevision, "what a StatefulSet or DaemonSet ran before"),
    read(Kind::Namespace, "their names tell a near miss from the real one"),
    more(Kind::ConfigMap, CONFIG),
    read(Kind::ServiceAccount, START),
    read(Kind::PersistentVolume, START),
    read(Kind::StorageClass, "where its volumes come from"),
    more(Kind::Service, REACHED),
    more(Kind::Ingress, REACHED),
    more(Kind::NetworkPolicy, REACHED),
    read(Kind::IngressClass, "which controllers serve it"),
    more(Kind::ResourceQuota, LIMITED),
    more(Kind::LimitRange, LIMITED),
    read(Kind::PodDisruptionBudget, "how many of its pods may be down"),
];

/// What was found of one need.
#[derive(Clone, Debug)]
pub struct Access {
    /// `pods/log`, `deployments.apps`.
    pub what: String,
    /// Whether firstlook would be deaf without it.
    pub needed: bool,
    /// Verbs that are not allowed; empty when all is well.
    pub missing: Result<Vec<&'static str>, ReadError>,
}

/// The needs where only some namespaces are read: what lives in none, or in another, is not.
pub fn within() -> impl Iterator<Item = &'static Need> {
    NEEDS.iter().filter(|need| need.kind.is_namespaced() && need.namespace.is_none())
}

/// Asks for every need (SelfSubjectAccessReview, which every account may create), in these namespaces or everywhere.
pub async fn all(reader: &Reader, namespaces: &[Name]) -> Vec<Access> {
    let needs: Vec<&Need> = if namespaces.is_empty() { NEEDS.iter().collect() } else { within().collect() };
    join_all(needs.into_iter().map(|need| async move {
        let (group, _, plural) = need.kind.resource();
        let plural = need.subresource.map_or_else(|| plural.to_owned(), |sub| format!("{plural}/{sub}"));
        let what = if group.is_empty() { plural } else { format!("{plural}.{group}") };
        Access { what, needed: need.needed, missing: missing(reader, need, namespaces).await }
    }))
    .await
}

async fn missing(reader: &Reader, need: &Need, namespaces: &[Name]) -> Result<Vec<&'static str>, ReadError> {
    let places: Vec<Option<&str>> = match namespaces {
        [] => vec![need.namespace],
        listed => listed.iter().map(|name| Some(name.as_str())).collect(),
    };
    let mut missing = Vec::new();
    for verb in need.verbs {
        for place in &places {
            if !reader.may(verb, need.kind, need.subresource, *place).await? {
                missing.push(*verb);
                break;
            }
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::world;

    #[tokio::test]
    async fn every_need_is_asked_and_secrets_are_none_of_them() {
        let world = world("d07-watchdog").await;
        let found = all(&world.reader, &[]).await;
        assert_eq!(found.len(), NEEDS.len());
        assert!(found.iter().all(|access| access.missing == Ok(Vec::new())), "{found:?}");
        assert!(found.iter().all(|access| !access.what.contains("secret")));
        assert!(world.reader.version().await.unwrap().as_str().starts_with("v1."));
    }
}
