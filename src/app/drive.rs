//! What keeps the stages running: at once while there is work, then on news of the store, and by a sweep.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::Stages;
use crate::stages::Ran;
use crate::store::Subscription;
use crate::telemetry::{Metrics, StageLabels};

/// Turns under way at once, each mostly waiting for the model. Twenty alerts with a slow model take as long as one.
const TURNS_AT_ONCE: usize = 20;
/// A stage looks for work by itself this often, for what no write announces: leases that ran out, times that came.
const SWEEP: Duration = Duration::from_secs(1);
/// A stage that failed pauses, so that a broken store is not hammered.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Runs the investigate stage: as many turns side by side as are allowed.
pub(super) async fn investigate(
    stages: Arc<Stages>,
    news: Subscription,
    stop: CancellationToken,
    metrics: Metrics,
    tasks: TaskTracker,
) {
    let slots = Arc::new(tokio::sync::Semaphore::new(TURNS_AT_ONCE));
    let failed = move |error: anyhow::Error| {
        metrics.stage_errors.get_or_create(&StageLabels { stage: "investigate" }).inc();
        tracing::error!(stage = "investigate", "turn failed, it is tried again: {error:#}");
    };
    while !stop.is_cancelled() {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match stages.investigate.next().await {
            Ok(Some((card, claim))) => {
                let (stages, failed) = (Arc::clone(&stages), failed.clone());
                tasks.spawn(async move {
                    stages.investigate.take_turn(card, claim).await.unwrap_or_else(failed);
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
        match run().await {
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
