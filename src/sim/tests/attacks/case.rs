//! The shape of an attack's file.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::sim::tests::attacks::patch::{grow, merge};

/// One attack.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// What the attacker tries, and what it would mean if it worked. For whoever reads the file.
    #[serde(rename = "what")]
    _what: String,
    /// The scenario that it happens in.
    #[serde(default = "world")]
    pub(super) world: String,
    /// The policy file, if not the embedded world's.
    pub(super) policy: Option<String>,
    /// What `tools.off` names.
    #[serde(default)]
    pub(super) off: Vec<String>,
    /// More callers than there always are, each with the token `flk_` and its name.
    #[serde(default)]
    pub(super) callers: Vec<Map<String, Value>>,
    /// What was put into the world before anybody looked.
    #[serde(default)]
    pub(super) plant: Vec<Plant>,
    /// What Alertmanager holds; without it there is none.
    pub(super) alertmanager: Option<Held>,
    /// What Loki and PagerDuty answer, by part of the path that is asked for; without it there is none.
    pub(super) loki: Option<Map<String, Value>>,
    pub(super) pagerduty: Option<Map<String, Value>>,
    /// The same of Prometheus, by part of the form that is sent; without it there is the scenario's.
    pub(super) prometheus: Option<Map<String, Value>>,
    /// What a model that obeys does; without it there is no model.
    pub(super) agent: Option<Agent>,
    /// What happens, one after the other: each a `Step`, whose words may hold `$approval`, `$incident` and what was kept.
    pub(super) steps: Vec<Value>,
    #[serde(default)]
    pub(super) holds: Holds,
    /// What to change in this file (RFC 7386) so that the guard is away: then something that must hold does not.
    unguarded: Option<Value>,
    /// Why there is no run without the guard.
    #[serde(rename = "cannot_be_unguarded")]
    _cannot: Option<String>,
}

fn world() -> String {
    "bad-image-rollout".to_owned()
}

/// Something in the cluster that an attacker could write.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Plant {
    /// `Deployment shop/checkout` and what to merge into it; what is not there is made of it.
    Object { at: String, merge: Value },
    /// Lines at the end of a container's log (`shop/pod/container`).
    Log { at: String, lines: Vec<String> },
    /// An event about an object.
    Event { about: String, reason: String, message: String },
}

impl Plant {
    /// The log and the lines that go to its end.
    pub(super) fn lines(&self) -> Option<(&str, String)> {
        match self {
            Self::Log { at, lines } => Some((at, lines.join("\n"))),
            _ => None,
        }
    }
}

/// Alerts and silences as Alertmanager's API has them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Held {
    pub(super) alerts: Vec<Value>,
    pub(super) silences: Vec<Value>,
}

/// A model that always does the worst: it makes these calls, then reports and proposes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agent {
    /// At most seven; one honest call goes before them, so that the report has something true to cite.
    #[serde(default)]
    pub(super) calls: Vec<Value>,
    #[serde(default)]
    pub(super) proposals: Vec<Value>,
    /// What the report says beside it.
    #[serde(default)]
    pub(super) report: Map<String, Value>,
    /// Whole answers instead of all that, in the scripted model's form.
    #[serde(default)]
    pub(super) replies: Vec<Value>,
}

/// One thing that happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Step {
    /// A webhook body of the scenario's folder.
    Hear(String),
    /// One firing alert through the webhook.
    Alert(Alert),
    /// Any request to the webhook.
    Post(Post),
    /// Somebody presses a button of a card.
    Press(Press),
    /// Any payload comes where clicks come.
    Payload(Payload),
    /// A caller from outside calls a tool or reads a resource.
    Call(Call),
    /// Somebody changes an object by hand.
    Change { at: String, merge: Value },
    /// Alertmanager holds other alerts, or other silences.
    Hold { alerts: Option<Vec<Value>>, silences: Option<Vec<Value>> },
    /// Time goes by until a card has this button: a second with each change of the cluster, as a rollout makes them.
    Until { button: String },
    /// Somebody removes an object by hand.
    Remove(String),
    /// While a request for this path of the API server is under way, the object is changed; `after` earlier ones pass.
    Race {
        path: String,
        at: String,
        merge: Value,
        #[serde(default)]
        after: usize,
    },
    /// So many seconds go by.
    Pass(i64),
    /// The process ends and begins anew, under another policy, with other callers, and with other tools off where they
    /// are given.
    Restart { policy: Option<String>, callers: Option<Vec<Map<String, Value>>>, off: Option<Vec<String>> },
    /// The callers' file is read again while the process goes on, and names these beside those that there always are.
    Callers(Vec<Map<String, Value>>),
    /// A request to the API server itself, with the token of one of firstlook's accounts.
    Send(Send),
    /// A file is read; it must be refused, by a message with these words.
    File(File),
    /// What stands in the database is changed by somebody who can write to it: an approval's JSON.
    Approval { merge: Value },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alert {
    pub(super) name: String,
    #[serde(default)]
    pub(super) labels: Map<String, Value>,
    #[serde(default)]
    pub(super) annotations: Map<String, Value>,
    /// As Alertmanager holds it, where it does.
    pub(super) fingerprint: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Post {
    #[serde(default)]
    pub(super) body: Value,
    /// As text, where it is no JSON.
    pub(super) text: Option<String>,
    pub(super) authorization: Option<String>,
    /// The body, so often one after the other.
    #[serde(default = "one")]
    pub(super) repeat: usize,
    pub(super) status: Option<u16>,
}

fn one() -> usize {
    1
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Press {
    /// The button's `action_id`, on the newest card that has one; `again` is the last request once more, byte by byte.
    pub(super) button: String,
    #[serde(default)]
    pub(super) by: String,
    #[serde(default = "one")]
    pub(super) times: usize,
    #[serde(default)]
    pub(super) sent: Sent,
    pub(super) status: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    #[serde(default)]
    pub(super) payload: Value,
    /// As text, where it is no JSON.
    pub(super) raw: Option<String>,
    #[serde(default)]
    pub(super) sent: Sent,
    pub(super) status: Option<u16>,
}

/// How a payload is changed and signed on its way.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sent {
    /// New values by JSON pointer, before it is signed.
    pub(super) alter: Map<String, Value>,
    /// Signed with this secret instead of Slack's; empty is not signed at all.
    pub(super) secret: Option<String>,
    /// Signed so many seconds ago.
    pub(super) ago_s: i64,
    /// What stands in the signed body, and what it is changed to.
    pub(super) tamper: Option<(String, String)>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    /// The caller's name; its token is `flk_` and that. Another token as `token`.
    #[serde(default, rename = "as")]
    pub(super) caller: String,
    pub(super) token: Option<String>,
    /// The server alone.
    pub(super) server: Option<String>,
    /// The session of this caller is used.
    pub(super) session_of: Option<String>,
    #[serde(default)]
    pub(super) headers: Map<String, Value>,
    /// The tool, or with `method` what that method takes.
    #[serde(default)]
    pub(super) tool: String,
    pub(super) method: Option<String>,
    #[serde(default)]
    pub(super) arguments: Value,
    /// The call, so often one after the other.
    #[serde(default = "one")]
    pub(super) times: usize,
    /// The arguments, so deep inside each other.
    #[serde(default)]
    pub(super) nested: usize,
    /// The answer is an error of the protocol, or of the tool.
    #[serde(default)]
    pub(super) refused: bool,
    /// Words of the answer.
    pub(super) says: Option<String>,
    pub(super) status: Option<u16>,
    /// Keeps the `approval_id` of the answer under this name.
    pub(super) keep: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Send {
    /// The account whose token was stolen.
    pub(super) account: String,
    pub(super) method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) body: Value,
    #[serde(default = "merge_patch")]
    pub(super) content_type: String,
    pub(super) status: Option<u16>,
}

fn merge_patch() -> String {
    "application/merge-patch+json".to_owned()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// `policy`, `callers` or `config`.
    pub(super) kind: String,
    pub(super) text: String,
    pub(super) says: String,
}

/// What must be so at the end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Holds {
    /// Changes that the API server carried out, dry runs apart.
    pub(super) writes: usize,
    /// The only objects that a change, or a rehearsal of one, may name: paths of the API server.
    pub(super) targets: Vec<String>,
    /// What nobody may be shown: not Slack, not the model, not a caller; and what the database does not hold.
    pub(super) secrets: Vec<String>,
    /// What neither Slack nor a caller may be shown.
    pub(super) unseen: Vec<String>,
    /// What no message's own text holds: marks that Slack would follow.
    pub(super) on_slack: Vec<String>,
    /// What no path of a request to the API server holds.
    pub(super) paths: Vec<String>,
    /// What stands on Slack.
    pub(super) shown: Vec<String>,
    /// Incidents that were opened.
    pub(super) incidents: Option<usize>,
    /// The states of all approvals, oldest first.
    pub(super) approvals: Option<Vec<String>>,
    /// Entries of the audit about calls from outside, at most.
    pub(super) audited_of_outside: Option<usize>,
    /// What became of Alertmanager's alerts and silences.
    pub(super) muted: Muted,
}

/// Who is notified of what at the end. That a silence is of exact labels and at most four hours holds always.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Muted {
    /// Silences that firstlook made, and that it ended.
    pub(super) made: usize,
    pub(super) ended: usize,
    /// Fingerprints of the alerts of which nobody is notified.
    pub(super) silenced: Vec<String>,
    /// In whose name those were made.
    pub(super) by: String,
    /// Ids of silences of others, which stand as before.
    pub(super) standing: Vec<String>,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            writes: 0,
            targets: vec!["/apis/apps/v1/namespaces/shop/deployments/checkout".to_owned()],
            secrets: Vec::new(),
            unseen: Vec::new(),
            on_slack: Vec::new(),
            paths: Vec::new(),
            shown: Vec::new(),
            incidents: None,
            approvals: None,
            audited_of_outside: None,
            muted: Muted::default(),
        }
    }
}

impl Case {
    /// Reads a file.
    pub(super) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let mut value: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        grow(&mut value);
        let case: Self = typed(value.clone(), &file.display().to_string());
        assert!(
            case.unguarded.is_some() != case._cannot.is_some(),
            "{}: `unguarded`, or why there is none in `cannot_be_unguarded`",
            file.display()
        );
        let arrives =
            !case.holds.shown.is_empty() || case.steps.iter().any(|step| step.to_string().contains("\"status\":"));
        assert!(
            case._cannot.is_none() || arrives,
            "{}: without a run that is unguarded, something must prove that the attack arrived: `shown`, or a `status`",
            file.display()
        );
        let unguarded = case.unguarded.as_ref().map(|patch| {
            merge(&mut value, patch);
            value
        });
        Self { unguarded, ..case }
    }

    /// The files that it is about, where it is about nothing else: no world is needed for them.
    pub(super) fn files(&self) -> Option<Vec<File>> {
        let file = |step: &Value| Some(typed(step.get("file")?.clone(), "file"));
        self.steps.iter().map(file).collect()
    }

    /// The same attack where its guard is away; what must hold is what must hold with it.
    pub(super) fn unguarded(&self) -> Option<Self> {
        let case: Self = typed(self.unguarded.clone()?, "unguarded");
        Some(Self { holds: self.holds.clone(), unguarded: None, ..case })
    }
}

/// A value as what it should be, or the words why not.
pub(super) fn typed<T: DeserializeOwned>(value: Value, of: &str) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{of}: {error}: {value:#}"))
}
