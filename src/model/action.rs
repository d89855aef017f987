//! Actions: the closed list of changes that a person can approve, and the proposals that may become one.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::model::ids::ApprovalId;
use crate::model::object::{Kind, Name, ObjectRef};
use crate::model::resources::Resources;
use crate::model::silence::Raised;
use crate::model::tier::Tier;
use crate::redact::Redacted;
use crate::text;

/// An action that somebody suggests, by names alone. Governance turns it into an `Action` or refuses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "tool", rename_all = "snake_case")]
pub enum Proposal {
    /// Back to an earlier revision: `to_revision` as now numbered; None is the one before the present one.
    RolloutUndo {
        object: ObjectRef,
        to_revision: Option<i64>,
    },
    RolloutRestart {
        object: ObjectRef,
    },
    Scale {
        object: ObjectRef,
        replicas: u32,
    },
    PauseRollout {
        object: ObjectRef,
    },
    ResumeRollout {
        object: ObjectRef,
    },
    SetResources {
        object: ObjectRef,
        container: Name,
        #[serde(flatten)]
        resources: Resources,
    },
    SuspendCronjob {
        object: ObjectRef,
    },
    ResumeCronjob {
        object: ObjectRef,
    },
    Cordon {
        object: ObjectRef,
    },
    Uncordon {
        object: ObjectRef,
    },
    RerunJob {
        object: ObjectRef,
    },
    DeletePod {
        object: ObjectRef,
    },
    Drain {
        object: ObjectRef,
    },
    /// Nobody is notified of this alert of the object for so long: its name, or its fingerprint where several have it.
    SilenceAlert {
        object: ObjectRef,
        alert: Redacted,
        hours: u32,
    },
    /// The silence that was made for this alert ends.
    ExpireSilence {
        object: ObjectRef,
        alert: Redacted,
    },
}

impl Proposal {
    /// The canonical verb, as kubectl names it.
    pub fn tool(&self) -> &'static str {
        match self {
            Proposal::RolloutUndo { .. } => "rollout_undo",
            Proposal::RolloutRestart { .. } => "rollout_restart",
            Proposal::Scale { .. } => "scale",
            Proposal::PauseRollout { .. } => "pause_rollout",
            Proposal::ResumeRollout { .. } => "resume_rollout",
            Proposal::SetResources { .. } => "set_resources",
            Proposal::SuspendCronjob { .. } => "suspend_cronjob",
            Proposal::ResumeCronjob { .. } => "resume_cronjob",
            Proposal::Cordon { .. } => "cordon",
            Proposal::Uncordon { .. } => "uncordon",
            Proposal::RerunJob { .. } => "rerun_job",
            Proposal::DeletePod { .. } => "delete_pod",
            Proposal::Drain { .. } => "drain",
            Proposal::SilenceAlert { .. } => "silence_alert",
            Proposal::ExpireSilence { .. } => "expire_silence",
        }
    }

    /// What would be changed.
    pub fn object(&self) -> &ObjectRef {
        match self {
            Proposal::RolloutUndo { object, .. }
            | Proposal::RolloutRestart { object }
            | Proposal::Scale { object, .. }
            | Proposal::PauseRollout { object }
            | Proposal::ResumeRollout { object }
            | Proposal::SetResources { object, .. }
            | Proposal::SuspendCronjob { object }
            | Proposal::ResumeCronjob { object }
            | Proposal::Cordon { object }
            | Proposal::Uncordon { object }
            | Proposal::RerunJob { object }
            | Proposal::DeletePod { object }
            | Proposal::Drain { object }
            | Proposal::SilenceAlert { object, .. }
            | Proposal::ExpireSilence { object, .. } => object,
        }
    }

    /// The proposal that a tool's arguments stand for: they are its fields, with the object's names beside them.
    ///
    /// # Errors
    /// What does not fit, for whoever gave them.
    pub fn of(tool: &str, arguments: &Map<String, Value>) -> Result<Self, String> {
        let text = |key: &str| arguments.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let kind = match Self::only_kind(tool) {
            Some(kind) => kind,
            None => Kind::named(text("kind").ok_or("`kind` is missing")?).ok_or("there is no such kind")?,
        };
        let name = text("name").ok_or("`name` is missing")?;
        let object = ObjectRef::new(kind, text("namespace"), name).ok_or("that is no name of an object")?;
        let mut fields = arguments.clone();
        fields.retain(|key, value| !["kind", "namespace", "name"].contains(&key.as_str()) && !value.is_null());
        fields.insert("tool".to_owned(), json!(tool));
        fields.insert("object".to_owned(), json!(object));
        serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
    }

    /// The arguments with which its tool is called.
    pub fn arguments(&self) -> Map<String, Value> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(self) else { return Map::new() };
        fields.retain(|key, value| !["tool", "object"].contains(&key.as_str()) && !value.is_null());
        let object = self.object();
        if Self::only_kind(self.tool()).is_none() {
            fields.insert("kind".to_owned(), json!(object.kind.as_str()));
        }
        if object.kind.is_namespaced() {
            fields.insert("namespace".to_owned(), json!(object.namespace()));
        }
        fields.insert("name".to_owned(), json!(object.name()));
        fields
    }

    /// The kind of every object of a tool that knows only one: such a tool has no argument `kind`.
    pub fn only_kind(tool: &str) -> Option<Kind> {
        match tool {
            "pause_rollout" | "resume_rollout" => Some(Kind::Deployment),
            "suspend_cronjob" | "resume_cronjob" => Some(Kind::CronJob),
            "cordon" | "uncordon" | "drain" => Some(Kind::Node),
            "delete_pod" => Some(Kind::Pod),
            _ => None,
        }
    }
}

/// A typed change with an absolute target, checked by reading. The same value always means the same change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tool", rename_all = "snake_case")]
pub enum Action {
    /// The workload runs the template of this ReplicaSet (or ControllerRevision) again.
    RolloutUndo {
        object: ObjectRef,
        /// uid of the ReplicaSet or ControllerRevision: the target itself.
        target_uid: String,
        /// `pod-template-hash` of the target.
        target_hash: String,
        /// Only shown: an undo renumbers revisions.
        to_revision: i64,
        /// Only shown.
        from_revision: i64,
    },
    /// Every pod is replaced, one by one as the workload's strategy says.
    RolloutRestart {
        object: ObjectRef,
    },
    /// `spec.replicas` of the workload itself.
    Scale {
        object: ObjectRef,
        to: u32,
        from: u32,
    },
    /// Changes of the template reach no pod until it is resumed.
    PauseRollout {
        object: ObjectRef,
    },
    ResumeRollout {
        object: ObjectRef,
    },
    /// Requests and limits of one container of the template.
    SetResources {
        object: ObjectRef,
        container: Name,
        to: Box<Resources>,
        /// The same values as they are now.
        from: Box<Resources>,
    },
    SuspendCronjob {
        object: ObjectRef,
    },
    ResumeCronjob {
        object: ObjectRef,
    },
    /// The node takes no new pods.
    Cordon {
        object: ObjectRef,
    },
    Uncordon {
        object: ObjectRef,
    },
    /// A new Job like this one, or as this CronJob would start it.
    RerunJob {
        object: ObjectRef,
    },
    /// The pod is evicted, and its owner makes another.
    DeletePod {
        object: ObjectRef,
        uid: String,
        owner: ObjectRef,
    },
    /// The node takes no new pods, and each of these pods is evicted.
    Drain {
        object: ObjectRef,
        pods: Vec<Moved>,
        /// It took no new pods before either: that is somebody else's, and stays.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        was_cordoned: bool,
    },
    /// Alertmanager notifies nobody of exactly this alert; nothing in the cluster changes.
    SilenceAlert {
        object: ObjectRef,
        alert: Box<Raised>,
        hours: u32,
    },
    /// The silence that an approval of this incident made ends.
    ExpireSilence {
        object: ObjectRef,
        /// The alert's name: only shown.
        alert: Redacted,
        silence: Name,
        /// The approval by which it was made.
        made_by: ApprovalId,
    },
}

/// A pod that is evicted: this very one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub pod: ObjectRef,
    pub uid: String,
}

impl Action {
    /// The canonical verb.
    pub fn tool(&self) -> &'static str {
        match self {
            Action::RolloutUndo { .. } => "rollout_undo",
            Action::RolloutRestart { .. } => "rollout_restart",
            Action::Scale { .. } => "scale",
            Action::PauseRollout { .. } => "pause_rollout",
            Action::ResumeRollout { .. } => "resume_rollout",
            Action::SetResources { .. } => "set_resources",
            Action::SuspendCronjob { .. } => "suspend_cronjob",
            Action::ResumeCronjob { .. } => "resume_cronjob",
            Action::Cordon { .. } => "cordon",
            Action::Uncordon { .. } => "uncordon",
            Action::RerunJob { .. } => "rerun_job",
            Action::DeletePod { .. } => "delete_pod",
            Action::Drain { .. } => "drain",
            Action::SilenceAlert { .. } => "silence_alert",
            Action::ExpireSilence { .. } => "expire_silence",
        }
    }

    /// What is changed.
    pub fn object(&self) -> &ObjectRef {
        match self {
            Action::RolloutUndo { object, .. }
            | Action::RolloutRestart { object }
            | Action::Scale { object, .. }
            | Action::PauseRollout { object }
            | Action::ResumeRollout { object }
            | Action::SetResources { object, .. }
            | Action::SuspendCronjob { object }
            | Action::ResumeCronjob { object }
            | Action::Cordon { object }
            | Action::Uncordon { object }
            | Action::RerunJob { object }
            | Action::DeletePod { object, .. }
            | Action::Drain { object, .. }
            | Action::SilenceAlert { object, .. }
            | Action::ExpireSilence { object, .. } => object,
        }
    }

    /// The tier, as compiled in.
    pub fn tier(&self) -> Tier {
        match self {
            Action::RolloutUndo { .. }
            | Action::RolloutRestart { .. }
            | Action::Scale { .. }
            | Action::PauseRollout { .. }
            | Action::ResumeRollout { .. }
            | Action::SetResources { .. }
            | Action::SuspendCronjob { .. }
            | Action::ResumeCronjob { .. }
            | Action::Cordon { .. }
            | Action::Uncordon { .. }
            | Action::RerunJob { .. }
            | Action::SilenceAlert { .. }
            | Action::ExpireSilence { .. } => Tier::Reversible,
            Action::DeletePod { .. } | Action::Drain { .. } => Tier::Destructive,
        }
    }

    /// What takes it back once it is done; None for what cannot be taken back.
    pub fn inverse(&self) -> Option<Proposal> {
        let object = self.object().clone();
        Some(match self {
            Action::RolloutRestart { .. }
            | Action::RerunJob { .. }
            | Action::DeletePod { .. }
            | Action::Drain { was_cordoned: true, .. }
            | Action::ExpireSilence { .. } => return None,
            Action::SilenceAlert { alert, .. } => {
                Proposal::ExpireSilence { object, alert: text!("{}", alert.fingerprint) }
            }
            Action::RolloutUndo { from_revision, .. } => {
                Proposal::RolloutUndo { object, to_revision: Some(*from_revision) }
            }
            Action::Scale { from, .. } => Proposal::Scale { object, replicas: *from },
            Action::PauseRollout { .. } => Proposal::ResumeRollout { object },
            Action::ResumeRollout { .. } => Proposal::PauseRollout { object },
            Action::SetResources { container, from, .. } => {
                Proposal::SetResources { object, container: container.clone(), resources: Resources::clone(from) }
            }
            Action::SuspendCronjob { .. } => Proposal::ResumeCronjob { object },
            Action::ResumeCronjob { .. } => Proposal::SuspendCronjob { object },
            Action::Cordon { .. } | Action::Drain { .. } => Proposal::Uncordon { object },
            Action::Uncordon { .. } => Proposal::Cordon { object },
        })
    }

    /// Whether it gives the workload another pod template, so that its pods are replaced.
    pub fn rolls(&self) -> bool {
        matches!(self, Action::RolloutUndo { .. } | Action::RolloutRestart { .. } | Action::SetResources { .. })
    }

    /// Whether pods start or end by it.
    pub fn moves_pods(&self) -> bool {
        let others = matches!(
            self,
            Action::Scale { .. } | Action::ResumeRollout { .. } | Action::RerunJob { .. } | Action::DeletePod { .. }
        );
        self.rolls() || others
    }

    /// Whether it changes who is notified, and nothing in the cluster.
    pub fn mutes(&self) -> bool {
        matches!(self, Action::SilenceAlert { .. } | Action::ExpireSilence { .. })
    }

    /// Whether leave for this is leave for `now`: the same, or of a drain what is left of it, or of a silence no less spared.
    pub fn allows(&self, now: &Action) -> bool {
        match (self, now) {
            (Action::Drain { object, pods, .. }, Action::Drain { object: same, pods: left, .. }) => {
                object == same && left.iter().all(|moved| pods.contains(moved))
            }
            (
                Action::SilenceAlert { object, alert, hours },
                Action::SilenceAlert { object: same, alert: fires, hours: long },
            ) => object == same && hours == long && alert.allows(fires),
            _ => self == now,
        }
    }

    /// Hash of the whole action: what a person approved is what runs.
    pub fn hash(&self) -> ActionHash {
        let text = serde_json::to_string(self).unwrap_or_default();
        ActionHash(hex::encode(Sha256::digest(text.as_bytes())))
    }
}

/// SHA-256 of an action's JSON, hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionHash(pub String);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resources::Quantity;

    #[test]
    fn the_arguments_of_a_tool_are_a_proposal_or_a_reason() {
        let of = |tool, arguments: Value| Proposal::of(tool, arguments.as_object().unwrap());
        let object = ObjectRef::new(Kind::Deployment, Some("shop"), "web").unwrap();
        let names = json!({"kind": "deployment", "namespace": "shop", "name": "web"});
        assert_eq!(of("rollout_restart", names.clone()), Ok(Proposal::RolloutRestart { object: object.clone() }));
        let undo = json!({"kind": "Deployment", "namespace": "shop", "name": "web", "to_revision": 3});
        assert_eq!(of("rollout_undo", undo), Ok(Proposal::RolloutUndo { object, to_revision: Some(3) }));
        assert!(of("rollout_undo", json!({"kind": "Secret", "namespace": "shop", "name": "web"})).is_err());
        assert!(of("rollout_restart", json!({"kind": "Deployment", "name": "web"})).is_err());
        assert!(of("get_workload", names.clone()).is_err(), "a read proposes nothing");
        assert!(of("scale", names.clone()).unwrap_err().contains("replicas"));
        let mut huge = names;
        huge["replicas"] = json!(-1);
        assert!(of("scale", huge).is_err());
    }

    #[test]
    fn a_proposal_gives_its_tool_the_arguments_that_it_came_from() {
        let names = |more: Value| {
            let mut all = json!({"kind": "Deployment", "namespace": "shop", "name": "web"});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        for (tool, arguments) in [
            ("rollout_undo", names(json!({"to_revision": 3}))),
            ("rollout_restart", names(json!({}))),
            ("scale", names(json!({"replicas": 4}))),
            ("set_resources", names(json!({"container": "app", "cpu_limit": "none", "memory_limit": "1Gi"}))),
            ("pause_rollout", json!({"namespace": "shop", "name": "web"})),
            ("suspend_cronjob", json!({"namespace": "shop", "name": "nightly"})),
            ("cordon", json!({"name": "node-1"})),
        ] {
            let proposal = Proposal::of(tool, arguments.as_object().unwrap()).unwrap();
            assert_eq!((proposal.tool(), Value::Object(proposal.arguments())), (tool, arguments));
        }
    }

    #[test]
    fn what_an_inverse_takes_back_is_named_in_full() {
        let object = ObjectRef::new(Kind::Deployment, Some("shop"), "web").unwrap();
        let container = Name::parse("app").unwrap();
        let to = Resources { memory_limit: Quantity::parse("512Mi"), ..Resources::default() };
        let from = to.map(|_, _| Quantity::none());
        let (object, container) = (object.clone(), container.clone());
        let boxed = Box::new(from.clone());
        let action = Action::SetResources {
            object: object.clone(),
            container: container.clone(),
            to: Box::new(to),
            from: boxed,
        };
        assert_eq!(
            action.inverse(),
            Some(Proposal::SetResources { object: object.clone(), container, resources: from })
        );
        let scaled = Action::Scale { object: object.clone(), to: 6, from: 4 };
        assert_eq!(scaled.inverse(), Some(Proposal::Scale { object: object.clone(), replicas: 4 }));
        assert_eq!(Action::RolloutRestart { object }.inverse(), None);
    }
}
