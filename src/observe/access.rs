//! What firstlook may read: each need of the reader and the watches, asked of the API server one by one.

use futures::future::join_all;

use crate::model::Kind;
use crate::observe::ReadError;
use crate::observe::Reader;

/// One kind, and what is done with it.
struct Need {
    kind: Kind,
    subresource: Option<&'static str>,
    verbs: &'static [&'static str],
    namespace: Option<&'static str>,
    /// Without it firstlook would be deaf.
    needed: bool,
}

const WATCHED: &[&str] = &["get", "list", "watch"];
const READ: &[&str] = &["get", "list"];

const fn need(kind: Kind, verbs: &'static [&'static str]) -> Need {
    Need { kind, subresource: None, verbs, namespace: None, needed: verbs.len() == WATCHED.len() }
}

/// Watched where it is allowed.
const fn more(kind: Kind) -> Need {
    Need { needed: false, ..need(kind, WATCHED) }
}

/// Everything that scenes, tools and watches ask for. A missing one makes cards poorer, never wrong.
const NEEDS: &[Need] = &[
    need(Kind::Pod, WATCHED),
    Need { kind: Kind::Pod, subresource: Some("log"), verbs: &["get"], namespace: None, needed: false },
    need(Kind::Event, WATCHED),
    need(Kind::Deployment, WATCHED),
    need(Kind::ReplicaSet, WATCHED),
    need(Kind::StatefulSet, WATCHED),
    need(Kind::DaemonSet, WATCHED),
    need(Kind::ControllerRevision, READ),
    need(Kind::Job, WATCHED),
    more(Kind::CronJob),
    need(Kind::Node, WATCHED),
    need(Kind::Namespace, READ),
    Need { namespace: Some("kube-node-lease"), ..more(Kind::Lease) },
    need(Kind::Service, READ),
    more(Kind::EndpointSlice),
    need(Kind::Ingress, READ),
    need(Kind::IngressClass, READ),
    need(Kind::ConfigMap, READ),
    need(Kind::ServiceAccount, &["get"]),
    need(Kind::PersistentVolumeClaim, WATCHED),
    need(Kind::HorizontalPodAutoscaler, WATCHED),
    need(Kind::PodDisruptionBudget, READ),
    need(Kind::ResourceQuota, READ),
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

/// Asks for every need (SelfSubjectAccessReview, which every account may create).
pub async fn all(reader: &Reader) -> Vec<Access> {
    join_all(NEEDS.iter().map(|need| async {
        let (group, _, plural) = need.kind.resource();
        let plural = need.subresource.map_or_else(|| plural.to_owned(), |sub| format!("{plural}/{sub}"));
        let what = if group.is_empty() { plural } else { format!("{plural}.{group}") };
        Access { what, needed: need.needed, missing: missing(reader, need).await }
    }))
    .await
}

async fn missing(reader: &Reader, need: &Need) -> Result<Vec<&'static str>, ReadError> {
    let mut missing = Vec::new();
    for verb in need.verbs {
        if !reader.may(verb, need.kind, need.subresource, need.namespace).await? {
            missing.push(*verb);
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
        let found = all(&world.reader).await;
        assert_eq!(found.len(), NEEDS.len());
        assert!(found.iter().all(|access| access.missing == Ok(Vec::new())), "{found:?}");
        assert!(found.iter().all(|access| !access.what.contains("secret")));
        assert!(world.reader.version().await.unwrap().as_str().starts_with("v1."));
    }
}
