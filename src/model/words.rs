//! How an action is told: the one place with its verb, what a person is asked, and what is said afterwards.

use crate::model::{Action, Kind};
use crate::redact::Redacted;
use crate::text;

/// An action in words. The object's name stands between `order` and `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// `roll back`
    pub order: &'static str,
    /// ` to revision 6`
    pub after: Redacted,
    /// `rolled back`
    pub done: &'static str,
    /// ` to the template of revision 6`
    pub done_after: Redacted,
    /// What the object does afterwards: `runs the pod template of revision 6 again`.
    pub then: Redacted,
    /// What taking it back leads to: `back to revision 5`. None for what cannot be taken back.
    pub undo: Option<Redacted>,
}

impl Action {
    /// This action in words.
    pub fn words(&self) -> Words {
        match self {
            Action::RolloutUndo { to_revision, from_revision, .. } => undone(*to_revision, *from_revision),
            Action::RolloutRestart { .. } => plain("restart", "restarted", "is restarted with the same template", ""),
            Action::Scale { to, from, .. } => scaled(*to, *from),
            Action::PauseRollout { .. } => plain(
                "pause the rollout of",
                "rollout paused",
                "keeps its pods as they are, and changes of its template reach none until it is resumed",
                "resume it",
            ),
            Action::ResumeRollout { .. } => plain(
                "resume the rollout of",
                "rollout resumed",
                "rolls out the template that it has now",
                "pause it again",
            ),
            Action::SetResources { container, .. } => Words {
                after: text!(" in container {}", container),
                done_after: text!(" in container {}", container),
                ..plain(
                    "change the resources of",
                    "resources changed",
                    "runs with other requests or limits",
                    "back to the resources before",
                )
            },
            Action::SuspendCronjob { .. } => {
                plain("suspend", "suspended", "starts no run until it is resumed; runs under way go on", "resume it")
            }
            Action::ResumeCronjob { .. } => {
                plain("resume", "resumed", "starts its runs by its schedule again", "suspend it again")
            }
            Action::Cordon { .. } => plain("cordon", "cordoned", "takes no new pods; those on it go on", "uncordon it"),
            Action::RerunJob { .. } => {
                Words { after: " again".into(), ..plain("run", "started again", "runs once more, as a new Job", "") }
            }
            Action::DeletePod { owner, .. } => Words {
                then: text!("is evicted, and {} makes another in its place", owner),
                ..plain("evict", "evicted", "", "")
            },
            Action::Drain { pods, was_cordoned, .. } => Words {
                after: text!(" of {} pods", pods.len()),
                then: "takes no new pods, and those on it are evicted one by one".into(),
                ..plain("drain", "drained", "", if *was_cordoned { "" } else { "uncordon it" })
            },
            Action::SilenceAlert { alert, hours, .. } => silenced(&alert.name, *hours),
            Action::ExpireSilence { alert, .. } => heard_again(alert),
            Action::Uncordon { .. } => plain("uncordon", "uncordoned", "takes new pods again", "cordon it again"),
        }
    }

    /// What is known of it once it has done what it should: only of pods it says that they are ready.
    pub fn came(&self, ready: u32, wanted: u32) -> Redacted {
        match self {
            Action::RerunJob { .. } => text!("{} of {} done", ready, wanted),
            Action::Drain { .. } => text!("{} of {} pods moved", ready, wanted),
            _ if self.moves_pods() => text!("{} of {} ready", ready, wanted),
            _ => "it stands".into(),
        }
    }

    /// The command with which a person does the same; None where it is not one command.
    pub fn by_hand(&self) -> Option<Redacted> {
        let object = self.object();
        let at = match &object.namespace {
            Some(namespace) => text!("kubectl -n {}", namespace),
            None => "kubectl".into(),
        };
        let of = text!("{}/{}", Redacted::literal(object.kind.as_str()), object.name);
        let suspend = |yes: &'static str| text!("{} patch {} -p '{{\"spec\":{{\"suspend\":{}}}}}'", at, of, yes);
        Some(match self {
            Action::RolloutUndo { to_revision, .. } => {
                text!("{} rollout undo {} --to-revision={}", at, of, *to_revision)
            }
            Action::RolloutRestart { .. } => text!("{} rollout restart {}", at, of),
            Action::Scale { to, .. } => text!("{} scale {} --replicas={}", at, of, *to),
            Action::PauseRollout { .. } => text!("{} rollout pause {}", at, of),
            Action::ResumeRollout { .. } => text!("{} rollout resume {}", at, of),
            Action::SuspendCronjob { .. } => suspend("true"),
            Action::ResumeCronjob { .. } => suspend("false"),
            Action::Cordon { .. } => text!("kubectl cordon {}", object.name),
            Action::Uncordon { .. } => text!("kubectl uncordon {}", object.name),
            Action::Drain { .. } => text!("kubectl drain {} --ignore-daemonsets", object.name),
            Action::DeletePod { .. } => text!("{} delete {}", at, of),
            Action::RerunJob { .. } if object.kind == Kind::CronJob => {
                text!("{} create job {}-again --from={}", at, object.name, of)
            }
            Action::SetResources { container, .. } => {
                text!("{} set resources {} -c {} (values as shown)", at, of, container)
            }
            Action::RerunJob { .. } | Action::SilenceAlert { .. } | Action::ExpireSilence { .. } => return None,
        })
    }
}

/// Words that hold no name and no number.
fn plain(order: &'static str, done: &'static str, then: &'static str, undo: &'static str) -> Words {
    Words {
        order,
        after: Redacted::default(),
        done,
        done_after: Redacted::default(),
        then: then.into(),
        undo: (!undo.is_empty()).then(|| undo.into()),
    }
}

fn undone(to: i64, from: i64) -> Words {
    Words {
        after: text!(" to revision {}", to),
        done_after: text!(" to the template of revision {}", to),
        then: text!("runs the pod template of revision {} again", to),
        undo: Some(text!("back to revision {}", from)),
        ..plain("roll back", "rolled back", "", "")
    }
}

fn scaled(to: u32, from: u32) -> Words {
    Words {
        after: text!(" from {} to {}", from, to),
        done_after: text!(" from {} to {}", from, to),
        then: text!("runs {} instead of {} pods", to, from),
        undo: Some(text!("back to {}", from)),
        ..plain("scale", "scaled", "", "")
    }
}

fn silenced(alert: &Redacted, hours: u32) -> Words {
    Words {
        after: text!(": {} for {} h", alert, hours),
        done_after: text!(": {} for {} h", alert, hours),
        then: text!("stays as it is, and nobody is notified of {} for {} h", alert, hours),
        ..plain("silence the alert of", "alert silenced", "", "end the silence")
    }
}

fn heard_again(alert: &Redacted) -> Words {
    Words {
        after: text!(": {}", alert),
        done_after: text!(": {}", alert),
        then: text!("stays as it is, and people are notified of {} again", alert),
        ..plain("end the silence of", "silence ended", "", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Moved, ObjectRef};

    #[test]
    fn what_has_an_inverse_has_words_for_it_and_nothing_else_has() {
        let object = ObjectRef::new(Kind::Deployment, Some("shop"), "web").unwrap();
        let drain = |was_cordoned| {
            let pods = vec![Moved { pod: object.clone(), uid: "u".to_owned() }];
            Action::Drain { object: object.clone(), pods, was_cordoned }
        };
        for action in [
            Action::RolloutRestart { object: object.clone() },
            Action::Scale { object: object.clone(), to: 6, from: 4 },
            Action::PauseRollout { object: object.clone() },
            Action::Cordon { object: object.clone() },
            drain(false),
            drain(true),
        ] {
            assert_eq!(action.words().undo.is_some(), action.inverse().is_some(), "{action:?}");
        }
    }
}
