//! The one writer of a SQLite file: a thread that commits all waiting operations together, with one sync.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::model::Signal;
use crate::store::claims;
use crate::store::lite;
use crate::store::lock::Lock;
use crate::store::news::{News, Waiters};
use crate::store::operation::{BEAT, Context, Fault, Operation, Outcome};
use crate::store::signals;
use crate::store::sql;
use crate::store::sql::Conn;
use crate::store::write::Write;
use crate::store::{CommitError, OpenError, Options};

/// Operations that may wait; whoever comes later waits before the door.
const QUEUE_MAX: usize = 1_024;
/// Operations in one transaction: enough to share a sync, few enough that none waits long.
const BATCH_MAX: usize = 256;
/// What was committed without a sync is synced after this at the latest (design: durability).
const UNSYNCED_MAX: Duration = Duration::from_millis(100);
/// A sync that failed is tried again after this long; whatever is durable tries by itself.
const SYNC_AGAIN: Duration = Duration::from_secs(5);
/// How long the writer waits for those it has just answered, who mostly come again at once: less than a sync takes.
const RETURN_WAIT: Duration = Duration::from_micros(50);

/// What the writer is told.
pub(super) enum Message {
    Do(Waiting),
    /// Answered when what waited before is written: the writer lives.
    Ask(oneshot::Sender<()>),
    /// End after all that waits; answered when the file is closed.
    Stop(oneshot::Sender<()>),
}

/// One operation and where its answer goes.
pub(super) struct Waiting {
    operation: Operation,
    durable: bool,
    answer: oneshot::Sender<Result<Outcome, CommitError>>,
}

/// Locks, opens and migrates the file and starts its writer.
pub(super) async fn start(
    path: &Path,
    options: &Options,
    context: Arc<Context>,
    waiters: Arc<Waiters>,
) -> Result<mpsc::Sender<Message>, OpenError> {
    let lock = Lock::take(path)?;
    let mut conn = lite::open(path, options.size_max_bytes)?;
    claims::unpark(&mut Conn::Lite(&mut conn), &context.cluster).await?;
    claims::void_all(&mut Conn::Lite(&mut conn)).await?;
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let writer = Writer { conn, queue, context, waiters, synced: true, unsynced_since: None, lock };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(anyhow::Error::from);
    let runtime = runtime.map_err(OpenError::Unopened)?;
    // A thread of its own: whoever waits for the disk here holds nobody else.
    let thread = std::thread::Builder::new().name("firstlook-store".into());
    let run = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(writer.run())));
        // Without it nothing can be stored: started again, the process goes on from what is on disk.
        ended.unwrap_or_else(|_| std::process::abort());
    };
    thread.spawn(run).map_err(|error| OpenError::Unopened(error.into()))?;
    Ok(sender)
}

/// Hands an operation to the writer and waits for its answer.
pub(super) async fn operate(
    writer: &mpsc::Sender<Message>,
    operation: Operation,
    durable: bool,
) -> Result<Outcome, CommitError> {
    let closed = || CommitError::Store(anyhow::anyhow!("the store is closed"));
    let (answer, answered) = oneshot::channel();
    writer.send(Message::Do(Waiting { operation, durable, answer })).await.map_err(|_| closed())?;
    answered.await.map_err(|_| closed())?
}

/// Returns when the writer has done all that waited before.
pub(super) async fn ask(writer: &mpsc::Sender<Message>) -> Result<(), CommitError> {
    let closed = || CommitError::Store(anyhow::anyhow!("the store is closed"));
    let (answer, answered) = oneshot::channel();
    writer.send(Message::Ask(answer)).await.map_err(|_| closed())?;
    answered.await.map_err(|_| closed())
}

/// Ends the writer after all that waits; returns when the file is closed.
pub(super) async fn stop(writer: &mpsc::Sender<Message>) {
    let (answer, answered) = oneshot::channel();
    if writer.send(Message::Stop(answer)).await.is_ok() {
        let _ = answered.await;
    }
}

struct Writer {
    conn: Connection,
    queue: mpsc::Receiver<Message>,
    context: Arc<Context>,
    waiters: Arc<Waiters>,
    /// Whether the connection syncs at each commit now (`synchronous`).
    synced: bool,
    /// When the oldest commit was made that no sync has followed.
    unsynced_since: Option<Instant>,
    lock: Lock,
}

impl Writer {
    async fn run(mut self) {
        let mut stops = Vec::new();
        let mut messages = Vec::new();
        let mut expected = 0;
        while self.receive(&mut messages).await {
            if messages.len() < expected {
                // So they share a sync. A sleep of the thread, on which nothing else runs: a timer's tick is 1 ms.
                std::thread::sleep(RETURN_WAIT);
                let more = std::iter::from_fn(|| self.queue.try_recv().ok());
                messages.extend(more.take(BATCH_MAX));
            }
            expected = messages.len();
            let mut batch = Vec::with_capacity(expected);
            let mut asked = Vec::new();
            for message in messages.drain(..) {
                match message {
                    Message::Do(waiting) => batch.push(waiting),
                    Message::Ask(answer) => asked.push(answer),
                    Message::Stop(answer) => {
                        self.queue.close();
                        stops.push(answer);
                    }
                }
            }
            if !batch.is_empty() {
                self.write(batch).await;
            }
            for answer in asked {
                // Whoever no longer waits for the answer gets none.
                let _ = answer.send(());
            }
        }
        if self.unsynced_since.is_some() {
            self.sync();
        }
        if let Err((_, error)) = self.conn.close() {
            tracing::warn!(%error, "the store's file was not closed cleanly");
        }
        drop(self.lock);
        for stop in stops {
            let _ = stop.send(());
        }
    }

    /// Takes what waits, syncing meanwhile what is due; false when nothing will come any more.
    async fn receive(&mut self, messages: &mut Vec<Message>) -> bool {
        loop {
            let Some(since) = self.unsynced_since else {
                return self.queue.recv_many(messages, BATCH_MAX).await > 0;
            };
            let came = self.queue.recv_many(messages, BATCH_MAX);
            match tokio::time::timeout_at(since + UNSYNCED_MAX, came).await {
                Ok(came) => return came > 0,
                Err(_) => self.sync(),
            }
        }
    }

    /// Writes a batch and answers each of it.
    async fn write(&mut self, batch: Vec<Waiting>) {
        let overdue = self.unsynced_since.is_some_and(|since| since.elapsed() >= UNSYNCED_MAX);
        let durable = overdue || batch.iter().any(|waiting| waiting.durable);
        let operations: Vec<&Operation> = batch.iter().map(|waiting| &waiting.operation).collect();
        let answers = match self.transaction(&operations, durable).await {
            Ok(answers) => answers,
            Err(error) => {
                // After a full disk SQLite may have rolled back by itself; then this fails, and that is well.
                let _ = self.plain("ROLLBACK");
                let again = CommitError::from(Fault::Sql(error));
                batch.iter().map(|_| Err(again.same())).collect()
            }
        };
        let told = operations
            .iter()
            .zip(&answers)
            .filter_map(|(operation, answer)| answer.as_ref().ok().map(|outcome| News::of(operation, outcome)));
        self.waiters.tell(told.fold(News::default(), News::and));
        for (waiting, answer) in batch.into_iter().zip(answers) {
            // As above.
            let _ = waiting.answer.send(answer);
        }
    }

    /// One transaction: an operation that fails by itself is undone alone; an error of the whole is returned.
    async fn transaction(
        &mut self,
        operations: &[&Operation],
        durable: bool,
    ) -> sql::Result<Vec<Result<Outcome, CommitError>>> {
        self.set_synced(durable)?;
        self.plain("BEGIN IMMEDIATE")?;
        let alone = operations.len() == 1;
        let mut answers: Vec<Option<Result<Outcome, CommitError>>> = Vec::new();
        answers.resize_with(operations.len(), || None);
        // Signals conflict with nothing: those of the whole batch share their statements.
        let mut together: Vec<&Signal> = Vec::new();
        for (operation, answer) in operations.iter().zip(&mut answers) {
            match only_signals(operation) {
                Some(signals) => together.extend(signals),
                None => *answer = Some(self.one(operation, alone).await?),
            }
        }
        self.signals(&together, &mut answers).await?;
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        if answers.iter().all(Result::is_err) {
            self.plain("ROLLBACK")?;
            return Ok(answers);
        }
        self.plain("COMMIT")?;
        self.unsynced_since = if durable { None } else { self.unsynced_since.or_else(|| Some(Instant::now())) };
        Ok(answers)
    }

    async fn signals(
        &mut self,
        signals: &[&Signal],
        answers: &mut [Option<Result<Outcome, CommitError>>],
    ) -> sql::Result<()> {
        let written = signals::insert(&mut Conn::Lite(&mut self.conn), signals).await;
        if let Err(Fault::Sql(error)) = written {
            return Err(error);
        }
        let failed = written.err().map(CommitError::from);
        for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
            *answer = Some(failed.as_ref().map_or(Ok(Outcome::Done), |error| Err(error.same())));
        }
        Ok(())
    }

    /// One operation of a transaction. Its own failure is the inner result.
    async fn one(&mut self, operation: &Operation, alone: bool) -> sql::Result<Result<Outcome, CommitError>> {
        if !alone {
            self.plain("SAVEPOINT one")?;
        }
        let result = operation.run(&mut Conn::Lite(&mut self.conn), &self.context).await;
        match result {
            Ok(outcome) => {
                if !alone {
                    self.plain("RELEASE one")?;
                }
                Ok(Ok(outcome))
            }
            Err(Fault::Sql(error)) if !error.is_its_own() => Err(error),
            Err(fault) => {
                if !alone {
                    self.plain("ROLLBACK TO one")?;
                    self.plain("RELEASE one")?;
                }
                Ok(Err(fault.into()))
            }
        }
    }

    /// Syncs what was committed without one; tried again later when it fails.
    fn sync(&mut self) {
        let synced = match self.set_synced(true) {
            Ok(()) => self.plain(BEAT),
            failed => failed,
        };
        self.unsynced_since = match synced {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(%error, "the store could not be synced; will try again");
                Some(Instant::now() + SYNC_AGAIN)
            }
        };
    }

    /// SQLite applies this pragma while it compiles it, so it must not come from the cache of statements.
    fn set_synced(&mut self, synced: bool) -> sql::Result<()> {
        if self.synced != synced {
            self.conn.pragma_update(None, "synchronous", if synced { "FULL" } else { "NORMAL" })?;
            self.synced = synced;
        }
        Ok(())
    }

    fn plain(&mut self, sql: &'static str) -> sql::Result<()> {
        self.conn.prepare_cached(sql)?.raw_execute()?;
        Ok(())
    }
}

/// The signals of a commit that does nothing else.
fn only_signals(operation: &Operation) -> Option<&Vec<Signal>> {
    match operation {
        Operation::Commit { writes, claim: None } => match writes.as_slice() {
            [Write::Signals(signals)] => Some(signals),
            _ => None,
        },
        _ => None,
    }
}

impl CommitError {
    /// The same error for another of the batch.
    fn same(&self) -> Self {
        match self {
            Self::LostClaim => Self::LostClaim,
            Self::Conflict(what) => Self::Conflict(what.clone()),
            Self::Full(what) => Self::Full(what.clone()),
            Self::Store(error) => Self::Store(anyhow::anyhow!("{error:#}")),
        }
    }
}
