//! What keeps the stages running: at once while there is work, then on news of the store, and by a sweep.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::Stages;
use crate::stages::Ran;
use crate::stages::investigate::Run;
use crate::stages::lease::caught;
use crate::store::Subscription;
use crate::telemetry::{Metrics, StageLabels};

/// Investigations under way at once, each mostly waiting for the model. Twenty alerts with a slow model take as long as one.
const RUNS_AT_ONCE: usize = 20;
/// A turn that is under way when the process is to stop may take this much longer: a model that answers is paid for. The
/// app waits 8 s for all that it holds.
const GRACE: Duration = Duration::from_secs(3);
/// A stage looks for work by itself this often, for what no write announces: leases that ran out, times that came.
const SWEEP: Duration = Duration::from_secs(1);
/// A stage that failed pauses, so that a broken store is not hammered.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Runs the investigate stage: as many side by side as are allowed.
pub(super) async fn investigate(
    stages: Arc<Stages>,
    news: Subscription,
    stop: CancellationToken,
    metrics: Metrics,
    tasks: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(RUNS_AT_ONCE));
    let failed = move |error: anyhow::Error| {
        metrics.stage_errors.get_or_create(&StageLabels { stage: "investigate" }).inc();
        tracing::error!(stage = "investigate", "turn failed, it is tried again: {error:#}");
    };
    while !stop.is_cancelled() {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match caught(stages.investigate.next()).await {
            Ok(Some(run)) => {
                let (stages, slots) = (Arc::clone(&stages), Arc::clone(&slots));
                let (stop, failed) = (stop.clone(), failed.clone());
                tasks.spawn(async move {
                    turn_by_turn(&stages, run, &slots, &stop).await.unwrap_or_else(failed);
                    drop(slot);
                });
                continue;
            }
            Ok(None) => {}
            Err(error) => failed(error),
        }
        drop(slot);
        rest(&news, &stop).await;
    }
}

/// Takes the turns of one investigation until it ends or waits, or a more severe one needs its place. After a stop a turn
/// has a moment to end; then it is handed back for the next start.
async fn turn_by_turn(stages: &Stages, run: Run, slots: &Semaphore, stop: &CancellationToken) -> anyhow::Result<()> {
    let stopped = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let mut stopped = std::pin::pin!(stopped);
    let mut next = Some(run);
    while let Some(run) = next {
        let claim = run.claim().clone();
        let is_full = slots.available_permits() == 0;
        if stop.is_cancelled() || (is_full && stages.investigate.is_outranked(&run).await?) {
            return stages.investigate.hand_back(claim).await;
        }
        next = tokio::select! {
            taken = caught(stages.investigate.take_turn(run)) => taken?,
            () = &mut stopped => return stages.investigate.hand_back(claim).await,
        };
    }
    Ok(())
}

/// A stage's name, and how far apart its runs begin at least: one that takes whatever waits does in few large runs what
/// would be many small ones, and the first of them still begins at once.
#[derive(Clone, Copy)]
pub(super) struct Rhythm {
    pub(super) name: &'static str,
    pub(super) apart: Duration,
}

/// Runs one stage until stopped: at once while there is work, then when there is news for it, and by the sweep.
pub(super) async fn drive<F, R>(
    Rhythm { name, apart }: Rhythm,
    run: F,
    news: Subscription,
    stop: CancellationToken,
    metrics: Metrics,
) where
    F: Fn() -> R,
    R: Future<Output = anyhow::Result<Ran>>,
{
    let mut next = Instant::now();
    while !stop.is_cancelled() {
        if next > Instant::now() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
            }
        }
        next = Instant::now() + apart;
        match caught(run()).await {
            Ok(Ran::Worked) => continue,
            Ok(Ran::Idle) => {}
            Err(error) => {
                metrics.stage_errors.get_or_create(&StageLabels { stage: name }).inc();
                tracing::error!(stage = name, "unit failed, it is tried again: {error:#}");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE_AFTER_ERROR) => {}
                }
            }
        }
        rest(&news, &stop).await;
    }
}

/// Waits for news, the sweep, or the end. News that came during the last run ends the wait at once.
async fn rest(news: &Subscription, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = news.changed() => {}
        () = tokio::time::sleep(SWEEP) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::clock::Clock;
    use crate::model::ClusterName;
    use crate::store::{News, Options, Store};

    #[tokio::test]
    async fn a_stage_that_panics_is_counted_and_runs_again() {
        let (runs, stop, metrics) = (AtomicU32::new(0), CancellationToken::new(), Metrics::default());
        let run = || async {
            match runs.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("a bug"),
                _ => stop.cancel(),
            }
            Ok(Ran::Idle)
        };
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let options = Options::new(ClusterName::parse("test").unwrap());
        let store = Store::open(&url, Clock::system(), options).await.unwrap();
        let rhythm = Rhythm { name: "resolve", apart: Duration::ZERO };
        drive(rhythm, run, store.subscribe(News::HEARD), stop.clone(), metrics.clone()).await;
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        assert_eq!(metrics.stage_errors.get_or_create(&StageLabels { stage: "resolve" }).get(), 1);
    }
}
