//! What a silence is made for and found again by: one alert with all its labels, and the approval in its comment.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Labels that it does not have, and by which others that have all of its own are told apart.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<Name>,
}

impl Raised {
    /// Whether a silence of this alert keeps quiet about one with these labels: it has all of them, and none of those
    /// that this one must be without.
    pub fn covers(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |name: &Name| labels.get(name.as_str()).map(String::as_str).unwrap_or_default();
        self.labels.iter().all(|(name, value)| has(name) == value.as_str())
            && self.without.iter().all(|name| has(name).is_empty())
    }

    /// Whether leave to silence this is leave for `now`: the same alert, of which at least as many others are spared.
    pub fn allows(&self, now: &Self) -> bool {
        now.without.is_subset(&self.without) && *self == Self { without: self.without.clone(), ..now.clone() }
    }
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
    fn a_silence_covers_what_has_each_of_its_labels_and_none_that_it_must_be_without() {
        let name = |text: &str| Name::parse(text).unwrap();
        let labels = BTreeMap::from([(name("alertname"), "X".into()), (name("pod"), "a.*".into())]);
        let (fingerprint, without) = (name("f"), BTreeSet::from([name("container")]));
        let alert = Raised { name: "X".into(), fingerprint, labels, without };
        let covers = |pairs: &[(&str, &str)]| {
            alert.covers(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        assert!(covers(&[("alertname", "X"), ("pod", "a.*")]));
        assert!(covers(&[("alertname", "X"), ("pod", "a.*"), ("job", "j"), ("container", "")]));
        assert!(!covers(&[("alertname", "X"), ("pod", "abc")]), "a value is no expression");
        assert!(!covers(&[("alertname", "X"), ("pod", "a.*"), ("container", "c")]));
        assert!(!covers(&[("alertname", "X")]));
        let narrower = Raised { without: BTreeSet::new(), ..alert.clone() };
        assert!(alert.allows(&narrower) && !narrower.allows(&alert));
    }

    #[test]
    fn a_silence_is_found_by_the_comment_that_its_approval_writes() {
        let (approval, incident) = (ApprovalId::parse("a01").unwrap(), IncidentId::parse("i1").unwrap());
        let fingerprint = Name::parse("66fbcb5d4f2b1d45").unwrap();
        let alert = Raised {
            name: "X".into(),
            fingerprint: fingerprint.clone(),
            labels: BTreeMap::new(),
            without: BTreeSet::new(),
        };
        let comment = silence_comment(&approval, &incident, &alert);
        assert_eq!(silenced_in(&comment), Some((approval, fingerprint)), "{comment}");
        assert_eq!(silenced_in("silenced by hand, approval a01, alert x, incident i1"), None);
    }
}
