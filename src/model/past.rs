//! Incidents of before that are like a present one, and how they ended.

use serde::{Deserialize, Serialize};

use crate::model::action::Action;
use crate::model::approval::Verification;
use crate::model::incident::{Ending, Incident, IncidentState};
use crate::model::report::Report;
use crate::redact::Redacted;
use crate::text;

/// An incident that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    pub incident: Incident,
    pub report: Option<Report>,
    /// The action that was carried out last, and whether it helped.
    pub action: Option<(Action, Verification)>,
}

impl Past {
    /// How it ended, in words.
    pub fn ended(&self) -> Redacted {
        if let Some((action, verification)) = &self.action {
            let helped = match verification {
                Verification::Better { .. } => "helped",
                Verification::NotBetter { .. } => "did not help",
                Verification::Worse { .. } => "made it worse",
                _ => "was done, with what effect is not known",
            };
            return text!("{} of {} {}", action.tool(), action.object(), helped);
        }
        match self.incident.state {
            IncidentState::Over { how: Ending::ResolveNotSeen, .. } | IncidentState::Open => {
                "its end was not seen".into()
            }
            IncidentState::Over { at, .. } => {
                let minutes = at.duration_since(self.incident.began_at).as_mins();
                text!("over after {} min, firstlook changed nothing", minutes)
            }
        }
    }
}
