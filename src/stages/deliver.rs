//! Deliver: each changed incident's card is brought to where people read it, exactly once.

mod digest;
mod posting;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::govern::off::Off;
use crate::model::{Card, IncidentId, IncidentState, Link, PostKind, Signal};
use crate::observe::{Runbook, Runbooks};
use crate::redact::Redactor;
use crate::slack::client::{Slack, SlackError};
use crate::slack::render;
use crate::slack::render::{Message, Options};
use crate::stages::Ran;
use crate::stages::away;
use crate::stages::away::Away;
use crate::stages::deliver::digest::Place;
use crate::stages::deliver::posting::{Trouble, Way};
use crate::stages::lease;
use crate::stages::lease::LEASE;
use crate::store::{Claim, Due, Durability, Store, Write};
use crate::telemetry;
use crate::telemetry::Metrics;
use crate::text;

/// A card that failed is tried again after this long, up to the store's five attempts.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// While a person has something to mend in Slack, a card is tried after waits that grow between these two: at once for
/// whoever is at it, and never more than a few calls an hour for what is left over a weekend.
const SHUT_FIRST: SignedDuration = SignedDuration::from_secs(10);
const SHUT_LONGEST: SignedDuration = SignedDuration::from_mins(5);

/// A thread that takes nothing is tried again after waits that grow between these two: a few calls in the first hour, one
/// an hour for what stays locked. Nobody is asked anything there, so it can wait longer than a card.
const LOCKED_FIRST: SignedDuration = SignedDuration::from_mins(5);
const LOCKED_LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// A card is edited this often while its investigation runs: it only tells how far that is, and Slack takes about one
/// edit a second. Its end is told at once.
const PROGRESS_EVERY: SignedDuration = SignedDuration::from_secs(1);

/// Signals whose labels choose runbooks; an incident with more repeats itself.
const SIGNALS_MAX: u32 = 200;

/// Label of the link to a dashboard, the same as of an alert's own.
const DASHBOARD: &str = "Dashboard";

/// Where cards go.
#[derive(Clone)]
pub enum Outlet {
    Slack {
        slack: Slack,
        channel: String,
    },
    /// No Slack is configured: a first try needs nothing.
    Stdout,
    /// A replay reads the cards from the store.
    Nowhere,
}

/// The stage.
pub struct Deliver {
    pub store: Store,
    pub outlet: Outlet,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Where an object's dashboard is: a URL with `{namespace}`, `{kind}` and `{name}`.
    pub dashboard: Option<String>,
    pub runbooks: Runbooks,
    pub redactor: Redactor,
    pub off: Off,
    pub edits: Edits,
    /// The cards that wait for a person to mend something in Slack.
    pub away: Away,
}

/// When each card was last brought up to date. Bounded by the cards of one `PROGRESS_EVERY`: older ones are forgotten.
#[derive(Debug, Default)]
pub struct Edits(Mutex<BTreeMap<IncidentId, Timestamp>>);

impl Edits {
    fn is_recent(&self, incident: &IncidentId, now: Timestamp) -> bool {
        let edits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        edits.get(incident).is_some_and(|at| now.duration_since(*at) < PROGRESS_EVERY)
    }

    fn note(&self, incident: &IncidentId, now: Timestamp) {
        let mut edits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        edits.retain(|_, at| now.duration_since(*at) < PROGRESS_EVERY);
        edits.insert(incident.clone(), now);
    }
}

impl Deliver {
    /// Brings the card of the incident that has waited longest up to date.
    ///
    /// # Errors
    /// The store's, and Slack's refusals; the unit is then tried again later.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        // At most eight are looked at: those whose turn it is and that another worker does not hold.
        let all = self.store.undelivered(8).await?;
        for (at, due) in all.iter().enumerate() {
            let incident = &due.incident;
            if due.is_running && due.has_card && self.edits.is_recent(incident, self.clock.now()) {
                continue;
            }
            // A first card is worth more than the thread of another: Slack takes one message a second.
            let others_wait = all[at + 1..].iter().any(|due| !due.has_card);
            let Some(claim) = self.store.claim("deliver", incident.as_str(), LEASE).await? else { continue };
            let deliver = async { Ok(self.deliver(due, &claim, others_wait).await) };
            let result = lease::hold(&self.store, &claim, deliver).instrument(telemetry::incident(incident)).await;
            let result = result.unwrap_or_else(|lost| Err(Trouble::Failed(lost)));
            match result {
                Ok(()) => {
                    self.away.forget(incident.as_str());
                    self.edits.note(incident, self.clock.now());
                    self.store.release(claim).await?;
                }
                Err(Trouble::Later(wait)) => {
                    let until = self.clock.now().checked_add(SignedDuration::try_from(wait)?)?;
                    self.store.postpone(claim, until).await?;
                }
                Err(Trouble::Shut(why)) => {
                    let now = self.clock.now();
                    let lasted = self.away.note(incident.as_str(), &why, now);
                    let wait = away::again(lasted, SHUT_FIRST, SHUT_LONGEST);
                    tracing::error!(%incident, "Slack takes no card until this is mended, next try in {} s: {why}", wait.as_secs());
                    self.store.postpone(claim, now.checked_add(wait)?).await?;
                }
                Err(Trouble::Gone(error) | Trouble::Failed(error)) => {
                    let retry_at = self.clock.now().checked_add(RETRY_AFTER)?;
                    self.store.fail(claim, retry_at).await?;
                    return Err(error.context(format!("card of incident {incident}")));
                }
            }
            return Ok(Ran::Worked);
        }
        Ok(Ran::Idle)
    }

    async fn deliver(&self, due: &Due, claim: &Claim, others_wait: bool) -> Result<(), Trouble> {
        let Some(mut card) = self.store.card(&due.incident).await? else { return Ok(()) };
        card.off = self.off.tools().map(str::to_owned).collect();
        if let Some(template) = &self.dashboard {
            link_dashboard(&mut card, template, &self.redactor);
        }
        if !self.runbooks.is_empty() {
            let signals = self.store.signals_of(&due.incident, SIGNALS_MAX).await?;
            let found = self.runbooks.matching(&card.incident, signals.iter().filter_map(Signal::alert));
            card.links.extend(found.into_iter().map(link));
        }
        let options = Options { now: self.clock.now() };
        let message = render::card(&card, &options);
        let job = Job { due, card: &card, message: &message, others_wait };
        let thread = match &self.outlet {
            Outlet::Slack { slack, channel } => {
                let way = Way { slack, channel, claim, cluster: &card.incident.cluster, of: &due.incident };
                match self.place(way, &card).await? {
                    Place::Channel => self.in_channel(way, job).await?,
                    // Boxed: with the thread and the digest in it, it is more than the stacks of debug builds hold.
                    Place::Digest(digest) => Box::pin(self.in_digest(way, job, &digest)).await?,
                }
            }
            Outlet::Nowhere => Thread::Whole,
            Outlet::Stdout => {
                println!("{}\n", render::flatten(&message));
                Thread::Whole
            }
        };
        match thread {
            Thread::Whole => {}
            Thread::AfterOthers => return Ok(()),
            Thread::After(wait) => return self.leave_thread(due, wait).await,
        }
        if !matches!(self.outlet, Outlet::Slack { .. }) {
            self.observe(job);
        }
        let delivered = Write::Delivered { incident: due.incident.clone(), version: due.version };
        Ok(self.store.commit(vec![delivered], Durability::Soon, Some(claim)).await?)
    }

    /// Leaves the thread of a card that stands for later. A card that changes meanwhile is another unit, and waits for
    /// nothing.
    async fn leave_thread(&self, due: &Due, wait: SignedDuration) -> Result<(), Trouble> {
        let until = self.clock.now().checked_add(wait)?;
        if let Some(thread) = self.store.claim("thread", &due.thread(), LEASE).await? {
            self.store.postpone(thread, until).await?;
        }
        Ok(())
    }

    /// The card in the channel, and what stands in its thread.
    async fn in_channel(&self, way: Way<'_>, job: Job<'_>) -> Result<Thread, Trouble> {
        let stands = match self.bring(way, PostKind::Card, job.message, None).await {
            Err(Trouble::Gone(why)) => {
                let is_open = job.card.incident.state == IncidentState::Open;
                let again =
                    if is_open && job.card.stands_alone() { self.stand_again(way, job.message).await? } else { None };
                tracing::warn!(again = again.is_some(), "somebody deleted the card: {why:#}");
                // What nobody is asked about and is not critical is not put before them again.
                let Some(again) = again else { return Ok(Thread::Whole) };
                again
            }
            stands => stands?,
        };
        self.observe(job);
        let ts = stands.ts.unwrap_or_default();
        // A thread stands where its card does, whatever channel is set now.
        let way = Way { channel: &stands.channel, ..way };
        let replies = render::replies(job.card, &Options { now: self.clock.now() });
        if job.others_wait && !replies.is_empty() {
            return Ok(Thread::AfterOthers);
        }
        for (key, reply) in replies {
            match self.bring(way, PostKind::Reply { key }, &reply, Some(&ts)).await {
                // One that somebody deleted stays so.
                Ok(_) | Err(Trouble::Gone(_)) => {}
                // The card stands: what changes on it must not wait for a thread that somebody has locked, nor be given up
                // for a reply that Slack does not take.
                Err(Trouble::Shut(why)) => return Ok(self.locked(job, &why)),
                Err(Trouble::Failed(error)) if error.is::<SlackError>() => return Ok(self.locked(job, &error)),
                // What changes on the card meanwhile is not held up by its thread.
                Err(Trouble::Later(wait)) => return Ok(Thread::After(SignedDuration::try_from(wait)?)),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(Thread::Whole)
    }

    /// A thread that takes nothing now. The longer its card stands unchanged, the less often it is tried.
    fn locked(&self, job: Job<'_>, why: &dyn std::fmt::Display) -> Thread {
        let unchanged = self.clock.now().duration_since(job.card.incident.updated_at);
        let wait = away::again(unchanged, LOCKED_FIRST, LOCKED_LONGEST);
        tracing::warn!("a card's thread takes nothing until this is mended, next try in {} s: {why:#}", wait.as_secs());
        Thread::After(wait)
    }

    /// How long the first card took; a card whose thread follows later is told once.
    fn observe(&self, job: Job<'_>) {
        if !job.due.has_card {
            let waited = self.clock.now().duration_since(job.card.incident.opened_at).as_secs_f64();
            self.metrics.first_card_seconds.observe(waited.max(0.0));
        }
    }
}

/// When the thread of a card that stands is brought up to date.
enum Thread {
    /// It is.
    Whole,
    /// Once the others have their first cards: they come before it from now on.
    AfterOthers,
    /// After this long, unless the card changes before.
    After(SignedDuration),
}

/// One card to be delivered.
#[derive(Clone, Copy)]
struct Job<'a> {
    due: &'a Due,
    card: &'a Card,
    message: &'a Message,
    /// Whether others have no card yet.
    others_wait: bool,
}

/// A runbook by its title; without an address of its own the title stands alone.
fn link(runbook: &Runbook) -> Link {
    Link { label: text!("Runbook: {}", runbook.title), url: runbook.url.clone().unwrap_or_default() }
}

/// Adds the dashboard of the incident's subject, unless its alert names one.
fn link_dashboard(card: &mut Card, template: &str, redactor: &Redactor) {
    if card.links.iter().any(|link| link.label.as_str() == DASHBOARD) {
        return;
    }
    let subject = &card.incident.subject;
    let namespace = subject.namespace.as_ref().map_or("", |namespace| namespace.as_str());
    let url = template
        .replace("{namespace}", &encoded(namespace))
        .replace("{kind}", &encoded(subject.kind.as_str()))
        .replace("{name}", &encoded(subject.name.as_str()));
    card.links.push(Link { label: DASHBOARD.into(), url: redactor.redact(&url) });
}

/// What stays as it is in a URL (RFC 3986, unreserved); all else is percent-encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// So that a name is one value of a URL whatever it holds.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slack::render::tests::with_button;

    #[test]
    fn the_configured_dashboard_is_linked_unless_the_alert_names_its_own() {
        let mut card = with_button();
        let shown = |card: &Card| -> Vec<String> {
            card.links.iter().filter(|l| l.label.as_str() == DASHBOARD).map(|l| l.url.to_string()).collect()
        };
        card.links.retain(|link| link.label.as_str() != DASHBOARD);
        link_dashboard(&mut card, "https://grafana.example/d/w?ns={namespace}&w={name}&k={kind}", &Redactor::default());
        assert_eq!(shown(&card), ["https://grafana.example/d/w?ns=shop&w=checkout&k=Deployment"]);
        link_dashboard(&mut card, "https://other.example/{name}", &Redactor::default());
        assert_eq!(shown(&card).len(), 1);
        let message = render::card(&card, &Options { now: card.incident.opened_at });
        assert!(serde_json::to_string(&message.blocks).unwrap().contains("https://grafana.example"));
        assert_eq!(encoded("system:node a/ü"), "system%3Anode%20a%2F%C3%BC");
    }
}
