//! What a silence is made for and found again by: one alert with all its labels, and the approval in its comment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::ids::{ApprovalId, IncidentId};
use crate::model::object::Name;
use crate::redact::Redacted;

/// One alert of Alertmanager: what its labels say is the whole of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    pub name: Redacted,
    /// 16 hex digits over the labels, as Alertmanager computes them.
    pub fingerprint: Name,
    /// Every label, as it is.
    pub labels: BTreeMap<Name, Redacted>,
}

/// What the comment of a silence begins with.
const SILENCED: &str = "firstlook, approval";

/// The comment of the silence that an approval makes: by it the silence is found again.
pub fn silence_comment(approval: &ApprovalId, incident: &IncidentId, alert: &Raised) -> String {
    format!("{SILENCED} {approval}, alert {}, incident {incident}", alert.fingerprint)
}

/// The approval and the alert's fingerprint that such a comment names.
pub fn silenced_in(comment: &str) -> Option<(ApprovalId, Name)> {
    let (approval, rest) = comment.strip_prefix(SILENCED)?.trim_start().split_once(", alert ")?;
    let (fingerprint, _) = rest.split_once(',')?;
    Some((ApprovalId::parse(approval)?, Name::parse(fingerprint)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_found_by_the_comment_that_its_approval_writes() {
        let (approval, incident) = (ApprovalId::parse("a01").unwrap(), IncidentId::parse("i1").unwrap());
        let fingerprint = Name::parse("66fbcb5d4f2b1d45").unwrap();
        let alert = Raised { name: "X".into(), fingerprint: fingerprint.clone(), labels: BTreeMap::new() };
        let comment = silence_comment(&approval, &incident, &alert);
        assert_eq!(silenced_in(&comment), Some((approval, fingerprint)), "{comment}");
        assert_eq!(silenced_in("silenced by hand, approval a01, alert x, incident i1"), None);
    }
}
