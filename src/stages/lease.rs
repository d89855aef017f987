//! Leases: a unit's claim is renewed while its work waits for others, and work whose claim was lost ends.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;

use crate::store::{Claim, Store};

/// How long a claim holds unless it is renewed. On PostgreSQL nobody voids the claims of a process that died, so its
/// work waits this long: seconds, not the minutes that a slow model or API server may take.
pub const LEASE: Duration = Duration::from_secs(10);
/// A quarter of the lease: three renewals may fail or be late before another takes the unit.
const RENEW_EVERY: Duration = Duration::from_millis(2_500);
/// Work whose last commit let go of its claim may still wait for the answer to it.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Does the work of a claimed unit and renews its claim meanwhile. Once the claim is lost the work is dropped at its
/// next wait: what it would commit would be refused anyway. A panic fails the unit like any error, so that it is
/// counted, and told once it is parked.
///
/// # Errors
/// The work's, and that the claim was lost.
pub async fn hold<T>(store: &Store, claim: &Claim, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    hold_for(store, claim, caught(work), RENEW_EVERY, ANSWER_WITHIN).await
}

/// The work, and its panic as an error: a stage that died would be missed by nobody.
///
/// # Errors
/// The work's.
pub async fn caught<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.unwrap_or_else(|_| {
        Err(anyhow::anyhow!("it panicked, which is a bug of firstlook; the lines before tell where"))
    })
}

async fn hold_for<T>(
    store: &Store,
    claim: &Claim,
    work: impl Future<Output = anyhow::Result<T>>,
    every: Duration,
    answer_within: Duration,
) -> anyhow::Result<T> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = until_lost(store, claim, every) => {}
    }
    match tokio::time::timeout(answer_within, work).await {
        Ok(done) => done,
        Err(_) => anyhow::bail!("the claim of {} on {} was lost to another process", claim.stage, claim.unit),
    }
}

/// Renews until the claim is another's. A store that does not answer is asked again: whether the claim is lost only it
/// can say.
async fn until_lost(store: &Store, claim: &Claim, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match store.renew(claim, LEASE).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::warn!(stage = claim.stage, "a claim was not renewed yet: {error:#}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, from_ms};
    use crate::model::{ClusterName, Incident, Kind, ObjectRef};
    use crate::store::{Durability, Options, Write};

    const OFTEN: Duration = Duration::from_millis(1);
    /// A lease that is over at once.
    const OVER: Duration = Duration::ZERO;

    async fn store(folder: &tempfile::TempDir) -> Store {
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let clock = Clock::manual(from_ms(1_800_000_000_000));
        Store::open(&url, clock, Options::new(ClusterName::parse("prod").unwrap())).await.unwrap()
    }

    #[tokio::test]
    async fn a_claim_is_renewed_while_its_work_runs() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let claim = store.claim("deliver", "i1", OVER).await.unwrap().unwrap();
        let work = async {
            // The lease was over from the beginning: once nobody else could take it, it was renewed.
            while !store.is_held(&claim).await? {
                tokio::task::yield_now().await;
            }
            Ok(7)
        };
        assert_eq!(hold_for(&store, &claim, work, OFTEN, OFTEN).await.unwrap(), 7);
        assert_eq!(store.claim("deliver", "i1", LEASE).await.unwrap(), None);
        store.close().await;
    }

    #[tokio::test]
    async fn a_unit_that_panics_five_times_is_parked_and_its_card_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let now = from_ms(1_800_000_000_000);
        let subject = ObjectRef::new(Kind::Deployment, Some("shop"), "web").unwrap();
        let incident = Incident::opened(ClusterName::parse("prod").unwrap(), subject, "workload", now);
        let id = incident.id.clone();
        let writes = vec![Write::Incident(Box::new(incident)), Write::Delivered { incident: id.clone(), version: 1 }];
        store.commit(writes, Durability::Soon, None).await.unwrap();
        for _ in 0..5 {
            assert!(store.undelivered(1).await.unwrap().is_empty());
            let claim = store.claim("investigate", id.as_str(), LEASE).await.unwrap().unwrap();
            let error = hold(&store, &claim, async { panic!("a bug") as anyhow::Result<()> }).await.unwrap_err();
            assert!(error.to_string().contains("panicked"), "{error}");
            store.fail(claim, now).await.unwrap();
        }
        assert_eq!(store.card(&id).await.unwrap().unwrap().parked, ["investigate"]);
        assert_eq!(store.undelivered(1).await.unwrap().len(), 1, "its card says so");
        store.close().await;
    }

    #[tokio::test]
    async fn work_under_a_lost_claim_ends() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let lost = store.claim("deliver", "i1", OVER).await.unwrap().unwrap();
        let taken = store.claim("deliver", "i1", LEASE).await.unwrap().unwrap();
        let endless = std::future::pending::<anyhow::Result<()>>();
        let error = hold_for(&store, &lost, endless, OFTEN, OFTEN).await.unwrap_err();
        assert!(error.to_string().contains("was lost"), "{error}");
        assert!(store.is_held(&taken).await.unwrap(), "the other goes on");
        store.close().await;
    }
}
