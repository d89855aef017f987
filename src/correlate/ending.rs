//! How an incident ends: its alerts have resolved and its subject is healthy; presumptions are said as such.

use jiff::{SignedDuration, Timestamp};

use crate::correlate::ARRIVAL;
use crate::model::{Approval, ApprovalState, Ending, Heard, Incident, Listed};

/// A Warning is over when its subject has been healthy, or gone, for this long: two rounds of a crash loop's early back-off.
pub const WARNING_QUIET: SignedDuration = SignedDuration::from_mins(5);
/// A resolve that never comes is presumed after this long in health: three default group intervals of Alertmanager.
pub const PRESUMED_AFTER: SignedDuration = SignedDuration::from_mins(15);
/// An alert without a resolve is given up after this long.
pub const ALERT_MAX_AGE: SignedDuration = SignedDuration::from_hours(24);

/// An alert that its rules do not raise any more is over after this long: Alertmanager's own `resolve_timeout`.
pub const UNLISTED_QUIET: SignedDuration = SignedDuration::from_mins(5);

/// A request that nobody answered may be asked again for this long.
pub const ASK_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// Whether all that was asked for in an incident has its answer, and what was done is known to have helped or not.
pub fn is_answered(approvals: &[Approval], now: Timestamp) -> bool {
    approvals.iter().all(|approval| match approval.state {
        ApprovalState::Executed => approval.verification.is_judged(),
        ApprovalState::Expired => now.duration_since(approval.expires_at) >= ASK_AGAIN,
        state => state.is_final(),
    })
}

/// The subject's health as the scene shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    Unhealthy,
    /// Could not be read, or the subject is no object of Kubernetes.
    Unknown,
    /// The object no longer exists.
    Gone,
}

/// Notes the subject's health on the incident; true if anything changed.
pub fn note_health(incident: &mut Incident, health: Health, now: Timestamp) -> bool {
    match health {
        Health::Unhealthy => {
            let changed = incident.unhealthy_at.is_none() || incident.healthy_since.is_some();
            incident.unhealthy_at.get_or_insert(now);
            incident.healthy_since = None;
            changed
        }
        Health::Healthy | Health::Gone => {
            let changed = incident.healthy_since.is_none();
            incident.healthy_since.get_or_insert(now);
            changed
        }
        Health::Unknown => false,
    }
}

/// Whether it matters to an incident's end if the rules still raise its alerts: some fire, and its subject's own state
/// does not say that they are right.
pub fn asks_list(incident: &Incident, heard: &Heard) -> bool {
    heard.alerts_firing > 0 && (incident.healthy_since.is_some() || incident.unhealthy_at.is_none())
}

/// Notes on the incident whether the rules raise its alerts now; true if anything changed.
///
/// What they were never seen to raise may be raised elsewhere: that they do not tells nothing.
pub fn note_listed(incident: &mut Incident, raised: bool, now: Timestamp) -> bool {
    let before = incident.listed;
    incident.listed = match (before, raised) {
        (None, false) => None,
        (None, true) => Some(Listed { since: now, gone_since: None }),
        (Some(listed), true) => Some(Listed { gone_since: None, ..listed }),
        (Some(listed), false) => Some(Listed { gone_since: listed.gone_since.or(Some(now)), ..listed }),
    };
    incident.listed != before
}

/// How `incident` has ended by now, if it has.
pub fn of(incident: &Incident, heard: &Heard, now: Timestamp) -> Option<Ending> {
    if incident.fault == ARRIVAL {
        // A list of old trouble: after a day it is old news.
        return (now.duration_since(incident.opened_at) >= ALERT_MAX_AGE).then_some(Ending::ResolveNotSeen);
    }
    if incident.waits_for.is_some() && now.duration_since(incident.opened_at) < ALERT_MAX_AGE {
        return None;
    }
    let healthy_for = incident.healthy_since.map(|since| now.duration_since(since));
    if heard.alerts > 0 && heard.alerts_firing == 0 {
        // Resolved: over at once, unless the subject is seen to be in trouble still.
        let troubled = incident.unhealthy_at.is_some() && incident.healthy_since.is_none();
        return (!troubled).then_some(Ending::Resolved);
    }
    if heard.alerts == 0 {
        return healthy_for.filter(|quiet| *quiet >= WARNING_QUIET).map(|_| Ending::Healthy);
    }
    match incident.listed {
        // It fires, whatever the subject looks like and however old it is.
        Some(Listed { gone_since: None, .. }) => return None,
        Some(Listed { gone_since: Some(gone), .. })
            if incident.unhealthy_at.is_none() && now.duration_since(gone) >= UNLISTED_QUIET =>
        {
            return Some(Ending::Unlisted);
        }
        _ => {}
    }
    if incident.unhealthy_at.is_some() && healthy_for.is_some_and(|quiet| quiet >= PRESUMED_AFTER) {
        return Some(Ending::Presumed);
    }
    (now.duration_since(incident.opened_at) >= ALERT_MAX_AGE).then_some(Ending::ResolveNotSeen)
}
