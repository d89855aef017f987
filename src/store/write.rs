//! The writes: everything that a commit can change, and the SQL of each.

use std::collections::BTreeSet;

use crate::model::{
    Approval, ApprovalState, Call, Click, Evidence, Finding, Incident, IncidentId, Investigation, Member, ObjectRef,
    Post, Report, Scene, Signal, SignalId, Thumb,
};
use crate::redact::Redacted;
use crate::store::approvals;
use crate::store::audit;
use crate::store::audit::AuditEntry;
use crate::store::claims;
use crate::store::claims::Claim;
use crate::store::digests;
use crate::store::incidents;
use crate::store::operation::{Context, Fault};
use crate::store::record;
use crate::store::record::Suspension;
use crate::store::scenes;
use crate::store::signals;
use crate::store::sql::{Conn, args};

/// One change. Those that change what a card shows count up their incident's version, once per commit.
#[derive(Clone, Debug)]
pub enum Write {
    /// Inserts; signals whose id is known are ignored.
    Signals(Vec<Signal>),
    /// What a signal is about, with a remark where that is not plain.
    Resolve {
        signal: SignalId,
        subject: Option<ObjectRef>,
        note: Redacted,
    },
    /// The signal belongs to the incident (also when it was placed elsewhere before).
    Place {
        signal: SignalId,
        incident: IncidentId,
    },
    /// The signal opens nothing.
    Ignore {
        signal: SignalId,
        why: Redacted,
    },
    /// Inserts or replaces; `investigation` is taken only when the incident is new.
    Incident(Box<Incident>),
    Investigation {
        incident: IncidentId,
        investigation: Investigation,
    },
    /// Inserts, or replaces an older reading of the same subject. Counts for the subject's open incidents.
    Scene {
        scene: Box<Scene>,
    },
    /// Inserts. What is there already is kept, unless it is a failed read or `replace` is set.
    Evidence {
        incident: IncidentId,
        evidence: Evidence,
        replace: bool,
    },
    /// Inserts or replaces; but a report of the findings never replaces one that a model wrote, which may have come
    /// while they were looked for.
    Report {
        incident: IncidentId,
        report: Box<Report>,
    },
    /// Replaces all findings.
    Findings {
        incident: IncidentId,
        findings: Vec<Finding>,
    },
    /// Appends to the transcript; a number that is taken is a conflict.
    Turn {
        incident: IncidentId,
        number: u32,
        messages: serde_json::Value,
        usage: Usage,
    },
    /// Tokens reserved before a model call, and what they cost in millionths of the currency of the prices; settled under
    /// the same key after it.
    Charge {
        incident: IncidentId,
        key: String,
        tokens: u64,
        micros: u64,
    },
    /// `was` None inserts; else replaces only while the stored state is `was`. One may be executing per object.
    Approval {
        approval: Box<Approval>,
        was: Option<ApprovalState>,
    },
    /// Inserts; a known click is ignored.
    Click(Click),
    ClickDone {
        id: String,
        answer: Redacted,
    },
    /// Inserts or replaces by nonce; a second message of the same kind in an incident is a conflict.
    Post(Post),
    /// The card is gone from Slack, and with it its thread: what is posted next begins anew.
    ForgetCard {
        incident: IncidentId,
    },
    /// The incident stands on a digest, which goes by the first incident on it; one that stands on one already stays
    /// there, and its line is replaced.
    OnDigest {
        digest: IncidentId,
        member: Box<Member>,
    },
    /// The card shows this version.
    Delivered {
        incident: IncidentId,
        version: i64,
    },
    /// Inserts, or replaces by id (its outcome).
    Call(Call),
    Audit(AuditEntry),
    /// Inserts, or replaces what the same person said before.
    Thumb {
        incident: IncidentId,
        thumb: Thumb,
    },
    /// Suspends a standing leave, by its key; a leave that is suspended already keeps its first reason.
    SuspendLeave {
        leave: String,
        suspension: Suspension,
    },
    /// Remembers that this happened once, and the first time.
    Mark(Mark),
    /// The claimed unit is done.
    Release(Claim),
}

/// What happens once in the life of a store and decides later starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Every watch has read its first list, and the trouble in it is on disk.
    WatchesSynced,
}

impl Mark {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Mark::WatchesSynced => "watches_synced",
        }
    }
}

/// Tokens of one model turn, as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// Does the writes in their order; collects the incidents whose cards they change. What settles signals comes in
/// hundreds and shares its statements.
pub(super) async fn apply(
    conn: &mut Conn<'_>,
    context: &Context,
    writes: &[Write],
    touched: &mut BTreeSet<IncidentId>,
) -> Result<(), Fault> {
    for alike in writes.chunk_by(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b)) {
        match alike {
            [Write::Resolve { .. } | Write::Place { .. } | Write::Ignore { .. }, ..] => {
                signals::settle(conn, alike).await?;
                let joined: BTreeSet<&IncidentId> = alike.iter().filter_map(shown_by).collect();
                for incident in joined {
                    claims::unpark_of(conn, context, incident).await?;
                }
            }
            _ => {
                for write in alike {
                    one(conn, context, write).await?;
                }
            }
        }
        touched.extend(alike.iter().filter_map(shown_by).cloned());
    }
    Ok(())
}

async fn one(conn: &mut Conn<'_>, context: &Context, write: &Write) -> Result<(), Fault> {
    match write {
        Write::Signals(all) => signals::insert(conn, &all.iter().collect::<Vec<_>>()).await?,
        Write::Resolve { .. } | Write::Place { .. } | Write::Ignore { .. } => {
            signals::settle(conn, std::slice::from_ref(write)).await?;
        }
        Write::Incident(incident) => incidents::put_incident(conn, incident).await?,
        Write::Investigation { incident, investigation } => {
            incidents::put_investigation(conn, incident, investigation).await?
        }
        Write::Scene { scene } => scenes::put(conn, context, scene).await?,
        Write::Evidence { incident, evidence, replace } => {
            incidents::put_evidence(conn, context, incident, evidence, *replace).await?;
        }
        Write::Report { incident, report } => incidents::put_report(conn, context, incident, report).await?,
        Write::Findings { incident, findings } => {
            const SQL: &str = "INSERT INTO findings (incident, cluster, doc) VALUES ($1, $2, $3)
                ON CONFLICT (incident) DO UPDATE SET doc = excluded.doc";
            incidents::put_doc(conn, context, SQL, incident, serde_json::to_string(findings)?).await?;
            incidents::put_signature(conn, incident, findings).await?;
        }
        Write::Turn { incident, number, messages, usage } => {
            put_turn(conn, context, incident, *number, messages, *usage).await?;
        }
        Write::Charge { incident, key, tokens, micros } => {
            put_charge(conn, context, incident, key, (*tokens, *micros)).await?;
        }
        Write::Approval { approval, was } => approvals::put(conn, approval, *was).await?,
        Write::Click(click) => approvals::put_click(conn, click).await?,
        Write::ClickDone { id, answer } => approvals::click_done(conn, context, id, answer).await?,
        Write::Post(post) => put_post(conn, post).await?,
        Write::ForgetCard { incident } => {
            const SQL: &str = "DELETE FROM post WHERE cluster = $1 AND incident = $2
                AND (kind = 'card' OR kind LIKE 'reply:%')";
            conn.execute(SQL, args![context.cluster.as_str(), incident.as_str()]).await?;
        }
        Write::OnDigest { digest, member } => digests::put(conn, context, digest, member).await?,
        Write::Delivered { incident, version } => {
            const SQL: &str = "UPDATE incident SET delivered_version = $2 WHERE id = $1 AND delivered_version < $2";
            conn.execute(SQL, args![incident.as_str(), *version]).await?;
        }
        Write::Call(call) => put_call(conn, context, call).await?,
        Write::Audit(entry) => audit::insert(conn, context, entry).await?,
        Write::Thumb { incident, thumb } => record::put_thumb(conn, context, incident, thumb).await?,
        Write::SuspendLeave { leave, suspension } => record::suspend(conn, context, leave, suspension).await?,
        Write::Mark(mark) => {
            const SQL: &str = "INSERT INTO mark (cluster, name, at_ms) VALUES ($1, $2, $3)
                ON CONFLICT (cluster, name) DO NOTHING";
            conn.execute(SQL, args![context.cluster.as_str(), mark.as_str(), context.clock.now_ms()]).await?;
        }
        Write::Release(claim) => {
            if !claims::done(conn, context, claim).await? {
                return Err(Fault::LostClaim);
            }
        }
    }
    Ok(())
}

/// The incident whose card shows what this write changes. A scene finds its incidents by subject; evidence, turns and
/// calls show only through the report and the investigation; posts and deliveries follow the card and must not call
/// for the next one.
fn shown_by(write: &Write) -> Option<&IncidentId> {
    match write {
        Write::Place { incident, .. }
        | Write::Investigation { incident, .. }
        | Write::Report { incident, .. }
        | Write::Findings { incident, .. }
        | Write::Thumb { incident, .. } => Some(incident),
        Write::Incident(incident) => Some(&incident.id),
        Write::Approval { approval, .. } => Some(&approval.incident),
        _ => None,
    }
}

async fn put_turn(
    conn: &mut Conn<'_>,
    context: &Context,
    incident: &IncidentId,
    number: u32,
    messages: &serde_json::Value,
    usage: Usage,
) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO turn (cluster, incident, number, at_ms, input_tokens, output_tokens, messages)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (incident, number) DO NOTHING";
    let args = args![
        context.cluster.as_str(),
        incident.as_str(),
        number,
        context.clock.now_ms(),
        usage.input_tokens as i64,
        usage.output_tokens as i64,
        serde_json::to_string(messages)?,
    ];
    if conn.execute(SQL, args).await? == 0 {
        return Err(Fault::Conflict(format!("turn {number} of incident {incident} is written already")));
    }
    Ok(())
}

async fn put_charge(
    conn: &mut Conn<'_>,
    context: &Context,
    incident: &IncidentId,
    key: &str,
    (tokens, micros): (u64, u64),
) -> Result<(), Fault> {
    const SQL: &str =
        "INSERT INTO charge (cluster, incident, key, at_ms, tokens, micros) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (incident, key) DO UPDATE SET tokens = excluded.tokens, micros = excluded.micros";
    let at_ms = context.clock.now_ms();
    let args = args![context.cluster.as_str(), incident.as_str(), key, at_ms, tokens as i64, micros as i64];
    conn.execute(SQL, args).await?;
    Ok(())
}

async fn put_post(conn: &mut Conn<'_>, post: &Post) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO post (nonce, cluster, incident, kind, posting_ms, ts, doc)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (nonce) DO UPDATE SET posting_ms = excluded.posting_ms, ts = excluded.ts, doc = excluded.doc";
    let kind = post.kind.to_text();
    let conflict = format!("incident {} has another post of kind {kind}", post.incident);
    let args = args![
        post.nonce.as_str(),
        post.cluster.as_str(),
        post.incident.as_str(),
        kind,
        post.posting_at.as_millisecond(),
        post.ts.clone(),
        serde_json::to_string(post)?,
    ];
    match conn.execute(SQL, args).await {
        Err(error) if error.is_unique_violation() => Err(Fault::Conflict(conflict)),
        written => Ok(written.map(|_| ())?),
    }
}

async fn put_call(conn: &mut Conn<'_>, context: &Context, call: &Call) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO call (id, cluster, incident, called_ms, doc) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (id) DO UPDATE SET doc = excluded.doc";
    let args = args![
        call.id.as_str(),
        context.cluster.as_str(),
        call.incident.as_str(),
        call.called_at.as_millisecond(),
        serde_json::to_string(call)?,
    ];
    conn.execute(SQL, args).await?;
    Ok(())
}
