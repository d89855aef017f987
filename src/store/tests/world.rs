//! Runs each test of the store on every engine, in a database of its own, and makes what is stored.

use std::io::Write as _;

use jiff::Timestamp;
use sqlx::{Connection as _, PgConnection};

use crate::clock::Clock;
use crate::clock::from_ms;
use crate::model::approval::Execution;
use crate::model::{
    Action, Alert, AlertStatus, Approval, ApprovalId, ApprovalState, Caller, Click, ClusterName, Evidence, EvidenceId,
    Incident, IncidentId, Investigation, InvestigationState, Kind, ObjectRef, Pressed, Proposal, Reading, Scene,
    Segment, Severity, Signal, SignalBody, SignalId, Source, Tier, Verification,
};
use crate::redact::Redacted;
use crate::redact::Redactor;
use crate::store::sql::Conn;
use crate::store::{Claim, CommitError, Durability, OpenError, Options, Store, Write};

/// One database of one test.
pub(crate) struct World {
    pub(crate) url: String,
    pub(super) clock: Clock,
    pub(super) options: Options,
    _folder: tempfile::TempDir,
}

/// Runs `story` on SQLite, and on PostgreSQL (in a schema of its own) when `FIRSTLOOK_TEST_POSTGRES_URL` names one.
pub(crate) async fn on_each_engine(story: impl AsyncFn(&World)) {
    let lite = World::new(None);
    story(&lite).await;
    let engines = if on_postgres(story).await { "sqlite, postgres" } else { "sqlite" };
    // Once, and not by println!, which is shown for failed tests alone.
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        let _ = writeln!(std::io::stdout(), "store tests ran on: {engines}");
    });
}

/// Runs `story` on PostgreSQL alone; false where none is named.
pub(crate) async fn on_postgres(story: impl AsyncFn(&World)) -> bool {
    let Ok(server) = std::env::var("FIRSTLOOK_TEST_POSTGRES_URL") else { return false };
    let schema = format!("t{}", uuid::Uuid::now_v7().simple());
    let mut admin = PgConnection::connect(&server).await.unwrap();
    run(&mut admin, &format!("CREATE SCHEMA {schema}")).await;
    let separator = if server.contains('?') { '&' } else { '?' };
    story(&World::new(Some(format!("{server}{separator}options[search_path]={schema}")))).await;
    run(&mut admin, &format!("DROP SCHEMA {schema} CASCADE")).await;
    true
}

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

/// The lock of a SQLite file, held until this is dropped: its writer waits meanwhile.
pub(crate) struct Holding(#[expect(dead_code, reason = "what it does is to be there")] rusqlite::Connection);

/// Holds a SQLite file, as a disk does that takes nothing for a while.
pub(crate) fn hold(file: &std::path::Path) -> Holding {
    let conn = rusqlite::Connection::open(file).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    Holding(conn)
}

impl World {
    pub(super) fn new(server: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = server.unwrap_or_else(|| format!("sqlite:{}", folder.path().join("firstlook.db").display()));
        let options = Options::new(ClusterName::parse("prod").unwrap());
        Self { url, clock: Clock::manual(from_ms(1_800_000_000_000)), options, _folder: folder }
    }

    pub(crate) fn is_lite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    pub(crate) async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    pub(super) async fn try_open(&self) -> Result<Store, OpenError> {
        self.open_with(self.options.clone()).await
    }

    pub(super) async fn open_with(&self, options: Options) -> Result<Store, OpenError> {
        Store::open(&self.url, self.clock.clone(), options).await
    }

    pub(super) async fn open_read_only(&self) -> Result<Store, OpenError> {
        Store::open_read_only(&self.url, self.clock.clone(), self.options.clone()).await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn pass_ms(&self, ms: i64) {
        self.clock.set(from_ms(self.clock.now_ms() + ms));
    }

    /// Changes the database behind the store's back.
    pub(crate) async fn tamper(&self, sql: &'static str) -> u64 {
        if self.is_lite() {
            let mut conn = rusqlite::Connection::open(self.url.trim_start_matches("sqlite:")).unwrap();
            Conn::Lite(&mut conn).execute(sql, vec![]).await.unwrap()
        } else {
            let mut conn = PgConnection::connect(&self.url).await.unwrap();
            Conn::Pg(&mut conn).execute(sql, vec![]).await.unwrap()
        }
    }

    pub(crate) fn signal(&self, n: u32) -> Signal {
        let alert = Alert {
            receiver: "firstlook".into(),
            group_key: "{}".into(),
            fingerprint: crate::text!("{}", n),
            name: "PodCrashLooping".into(),
            status: AlertStatus::Firing,
            labels: [("namespace".to_owned(), Redacted::literal("shop"))].into(),
            annotations: [
                ("summary".to_owned(), Redacted::literal("checkout restarts")),
                ("runbook_url".to_owned(), Redacted::literal("https://runbooks.example/crash")),
            ]
            .into(),
            starts_at: self.now(),
            ends_at: None,
            generator_url: None,
            truncated: 0,
        };
        let id = SignalId::derive(&[&n.to_string()]);
        Signal { id, cluster: self.options.cluster.clone(), heard_at: self.now(), body: SignalBody::Alert(alert) }
    }

    pub(crate) fn incident(&self, id: &str) -> Incident {
        Incident {
            id: IncidentId::parse(id).unwrap(),
            severity: Severity::High,
            investigation: investigation(InvestigationState::Waiting),
            ..Incident::opened(self.options.cluster.clone(), checkout(), "workload", self.now())
        }
    }

    pub(super) fn click(&self, id: &str) -> Click {
        Click {
            id: id.to_owned(),
            cluster: self.options.cluster.clone(),
            user: "U1".into(),
            user_name: "\0 ann".into(),
            channel: "C1".into(),
            message_ts: "1.2".into(),
            response_url: None,
            heard_at: self.now(),
            what: Pressed::Unknown { action_id: "other".into() },
        }
    }

    pub(crate) fn approval(&self, id: &str, incident: &IncidentId, state: ApprovalState) -> Approval {
        let object = checkout();
        let started = matches!(state, ApprovalState::Executing | ApprovalState::Executed);
        let execution = started.then(|| Execution {
            started_at: self.now(),
            body: serde_json::json!({}),
            finished_at: None,
            generation: None,
            left: None,
            ready_before: None,
            astray: false,
        });
        Approval {
            id: ApprovalId::parse(id).unwrap(),
            cluster: self.options.cluster.clone(),
            incident: incident.clone(),
            asked_by: Caller::Agent,
            also_asked_by: Vec::new(),
            proposal: Proposal::RolloutRestart { object: object.clone() },
            action: Some(Action::RolloutRestart { object }),
            tier: Tier::Reversible,
            state,
            because: "".into(),
            created_at: self.now(),
            expires_at: self.now(),
            rule: "approvers[0]".into(),
            people_needed: 1,
            approvers: vec![],
            presses: vec![],
            preview: None,
            bound: None,
            execution,
            verification: Verification::NotStarted,
            undoes: None,
            standing: None,
        }
    }

    pub(super) fn scene(&self) -> Scene {
        Scene::unread(checkout(), self.now(), &"not read yet".into())
    }

    /// A reading of these words, or with None a failed one.
    pub(super) fn evidence(&self, number: u32, words: Option<&str>) -> Evidence {
        let segment =
            |text| vec![Segment { source: Source::Summary, text: Redactor::default().redact(text), verbatim: true }];
        let reading = words.map_or(Reading::Missing("timed out".into()), |words| Reading::Segments(segment(words)));
        Evidence { id: EvidenceId(number), tool: "pod_logs".into(), asked: "".into(), read_at: self.now(), reading }
    }
}

pub(super) fn checkout() -> ObjectRef {
    ObjectRef::new(Kind::Deployment, Some("shop"), "checkout").unwrap()
}

pub(super) fn investigation(state: InvestigationState) -> Investigation {
    Investigation { turns_max: 12, ..Investigation::unbegun(state) }
}

/// Commits durably; a failure fails the test.
pub(super) async fn put(store: &Store, writes: impl IntoIterator<Item = Write>) {
    try_put(store, writes, None).await.unwrap();
}

pub(super) async fn try_put(
    store: &Store,
    writes: impl IntoIterator<Item = Write>,
    claim: Option<&Claim>,
) -> Result<(), CommitError> {
    store.commit(writes.into_iter().collect(), Durability::Durable, claim).await
}

/// What a commit conflicted with.
#[track_caller]
pub(super) fn conflict(result: Result<(), CommitError>) -> String {
    match result {
        Err(CommitError::Conflict(what)) => what,
        other => panic!("expected a conflict, not {other:?}"),
    }
}
