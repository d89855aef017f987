//! The narrator: says what firstlook does, step by step, from what its store, the cluster and the channel show.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::{
    Approval, ApprovalState, Call, CallOutcome, Card, Incident, IncidentId, IncidentState, Origin, Verification,
};
use crate::sim::cluster::{Cluster, Request};
use crate::sim::slack::Slack;
use crate::store::{Store, Turn};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: Timestamp,
    /// What kind of step: `heard`, `read`, `found`, `posted`, `asked`, `proved`, `offered`, `clicked`, `changed`, ...
    pub verb: &'static str,
    pub text: String,
}

/// Remembers what it said, so that each step is told once.
pub struct Narrator {
    store: Store,
    cluster: Cluster,
    slack: Slack,
    requests: u64,
    /// Reads that no line has told yet.
    reads: Vec<Request>,
    told: BTreeSet<String>,
    approvals: BTreeMap<String, (ApprovalState, usize, Verification)>,
    since: Timestamp,
}

impl Narrator {
    /// A narrator of what happens from `since` on.
    pub fn new(store: Store, cluster: Cluster, slack: Slack, since: Timestamp) -> Self {
        Self {
            store,
            cluster,
            slack,
            requests: 0,
            reads: Vec::new(),
            told: BTreeSet::new(),
            approvals: BTreeMap::new(),
            since,
        }
    }

    /// What has happened since it was last asked, in the order of time.
    ///
    /// # Errors
    /// The store's.
    pub async fn catch_up(&mut self) -> anyhow::Result<Vec<Line>> {
        let mut lines = self.requests();
        for incident in self.store.recent_incidents(self.since).await? {
            self.incident(&incident, &mut lines).await?;
        }
        // What the store says now may rest on requests that came meanwhile: they are told with it.
        lines.extend(self.requests());
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }

    fn requests(&mut self) -> Vec<Line> {
        let (new, seen) = self.cluster.requests_after(self.requests);
        self.requests = seen;
        let mut lines = Vec::new();
        for request in new {
            match write(&request) {
                Some(line) => lines.push(line),
                None if request.method == "GET" => self.reads.push(request),
                None => {}
            }
        }
        lines
    }

    async fn incident(&mut self, incident: &Incident, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        let id = &incident.id;
        let Some(card) = self.store.card(id).await? else { return Ok(()) };
        if self.is_new(format!("{id} opened")) {
            lines.extend(reads(&std::mem::take(&mut self.reads), incident.opened_at));
            let found = card.report.as_ref().map_or_else(|| incident.subject.to_string(), |r| r.headline.to_string());
            lines.push(Line { at: incident.opened_at, verb: "found", text: format!("{}: {found}", incident.severity) });
        }
        // Later ones belong to tool calls and to watching the rollout, which are told as such.
        self.reads.clear();
        self.posted(id, incident, lines).await?;
        self.turns(id, lines).await?;
        self.reported(&card, lines);
        for approval in card.approvals.iter().rev() {
            self.approval(approval, lines);
        }
        self.state(&card, lines);
        Ok(())
    }

    /// The model's turns, each with the calls that it asked for. A turn is stored when they are done.
    async fn turns(&mut self, id: &IncidentId, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        let calls = self.store.calls_of(id).await?;
        let mut after = Timestamp::MIN;
        for turn in self.store.transcript(id).await? {
            if self.is_new(format!("{id} turn {}", turn.number)) {
                let made = |call: &&Call| call.called_at > after && call.called_at <= turn.at;
                let made: Vec<&Call> = calls.iter().filter(made).collect();
                let at = made.iter().map(|call| call.called_at).min().unwrap_or(turn.at);
                lines.push(asked(&turn, at));
                lines.extend(made.into_iter().filter_map(called));
            }
            after = turn.at;
        }
        Ok(())
    }

    /// Whether this was not told before; from then on it was.
    fn is_new(&mut self, what: String) -> bool {
        self.told.insert(what)
    }

    async fn posted(&mut self, id: &IncidentId, incident: &Incident, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        let card = self.store.posts_of(id).await?.into_iter().find(|post| post.kind == crate::model::PostKind::Card);
        let Some(ts) = card.and_then(|post| post.ts) else { return Ok(()) };
        let Some(at) = instant(&ts) else { return Ok(()) };
        if self.is_new(format!("{id} posted")) {
            let heard = self.store.signals_of(id, 1_000).await?.into_iter().map(|signal| signal.heard_at).min();
            let waited = at.duration_since(heard.unwrap_or(incident.opened_at)).as_millis();
            let channel = self.slack.options().channels.first().map(|channel| channel.name.clone()).unwrap_or_default();
            let text = format!("first card in #{channel}, {waited} ms after the alert was heard");
            lines.push(Line { at, verb: "posted", text });
        }
        Ok(())
    }

    fn reported(&mut self, card: &Card, lines: &mut Vec<Line>) {
        let Some(report) = card.report.as_ref().filter(|report| report.origin == Origin::Model) else { return };
        let id = &card.incident.id;
        if self.is_new(format!("{id} report {}", report.headline)) {
            let quotes = report.citations.len();
            let struck = if report.struck > 0 { format!(", {} struck", report.struck) } else { String::new() };
            let text = format!("{} ({quotes} quotes found word for word in the evidence{struck})", report.headline);
            lines.push(Line { at: self.now(), verb: "proved", text });
        }
    }

    fn approval(&mut self, approval: &Approval, lines: &mut Vec<Line>) {
        let now = (approval.state, approval.presses.len(), approval.verification.clone());
        let before = self.approvals.insert(approval.id.to_string(), now.clone());
        if before.as_ref() == Some(&now) {
            return;
        }
        // Its offer stands in no instant of its own: it is told when it is seen, before any press that was as quick.
        let was_offered = approval.preview.is_some() && approval.state != ApprovalState::Refused;
        if was_offered && self.is_new(format!("{} offered", approval.id)) {
            let who: Vec<String> = approval.approvers.iter().map(|who| self.name(who.as_str())).collect();
            let text = format!("{}; may be approved by {}", what(approval), who.join(", "));
            let at = approval.presses.first().map_or_else(|| self.now(), |press| press.at);
            lines.push(Line { at, verb: "offered", text });
        }
        let pressed = before.as_ref().map_or(0, |(_, presses, _)| *presses);
        for press in approval.presses.iter().skip(pressed) {
            let says = if press.yes { "yes" } else { "no" };
            let text = format!("{} says {says}", self.name(press.user.as_str()));
            lines.push(Line { at: press.at, verb: "clicked", text });
        }
        let moved = before.as_ref().is_none_or(|(state, ..)| *state != approval.state);
        if let Some((verb, text)) = moved.then(|| stands(approval)).flatten() {
            lines.push(Line { at: last_instant(approval), verb, text });
        }
        if before.is_none_or(|(_, _, verification)| verification != approval.verification)
            && let Some((at, verb, text)) = verified(approval)
        {
            lines.push(Line { at: at.unwrap_or_else(|| self.now()), verb, text });
        }
    }

    fn state(&mut self, card: &Card, lines: &mut Vec<Line>) {
        let id = &card.incident.id;
        match &card.incident.state {
            IncidentState::Over { at, .. } => {
                if self.is_new(format!("{id} over {at}")) {
                    let resolved = if card.heard.resolved_at.is_some() { "alerts resolved, " } else { "" };
                    let name = &card.incident.subject.name;
                    let text = match &card.incident.absorbed_by {
                        Some(merge) => format!("incident of {name} is part of that of {}", merge.subject),
                        None => format!("incident closed: {resolved}{name} healthy"),
                    };
                    lines.push(Line { at: *at, verb: "over", text });
                }
            }
            IncidentState::Open => {}
        }
    }

    /// `@oncall` for a user's id; what else a policy names stays as it is.
    fn name(&self, id: &str) -> String {
        let user = self.slack.options().users.iter().find(|user| user.id == id);
        user.map_or_else(|| id.to_owned(), |user| format!("@{}", user.name))
    }

    fn now(&self) -> Timestamp {
        crate::clock::from_ms(self.slack.now_ms())
    }
}

/// The action and its object.
fn what(approval: &Approval) -> String {
    format!("{} of {}", approval.proposal.tool(), approval.proposal.object())
}

/// Where an approval stands now, where that is a step worth telling and not told otherwise.
fn stands(approval: &Approval) -> Option<(&'static str, String)> {
    let (what, because) = (what(approval), &approval.because);
    Some(match approval.state {
        ApprovalState::Refused => ("refused", format!("{what}: {because}")),
        ApprovalState::Rejected => ("rejected", what),
        ApprovalState::Expired => ("expired", what),
        ApprovalState::Withdrawn => ("withdrawn", format!("{what}: {because}")),
        ApprovalState::Failed => ("failed", format!("{what}: {because}")),
        ApprovalState::OutcomeUnknown => ("unknown", format!("{what}: {because}")),
        ApprovalState::Executed => ("executed", what),
        ApprovalState::Proposed | ApprovalState::Pending | ApprovalState::Approved | ApprovalState::Executing => {
            return None;
        }
    })
}

/// A line for a request that asks for leave, rehearses or changes something; reads are told together.
fn write(request: &Request) -> Option<Line> {
    let account = request.user.rsplit(':').next().unwrap_or_default();
    let path = request.path.split('?').next().unwrap_or_default();
    let what = path.rsplit('/').take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("/");
    let dry = request.path.contains("dryRun=All");
    let (verb, text) = match request.method.as_str() {
        "POST" if path.ends_with("/token") => {
            let whose = path.rsplit('/').nth(1).unwrap_or_default();
            ("read", format!("a 10-minute token of {whose}, for one request"))
        }
        "PATCH" | "POST" | "DELETE" if dry => {
            ("rehearsed", format!("{} {what} as {account}, dry run: {}", request.method, answered(request.status)))
        }
        "POST" if path.contains("reviews") => return None,
        "PATCH" | "POST" | "PUT" | "DELETE" => {
            ("changed", format!("{} {what} as {account}: {}", request.method, answered(request.status)))
        }
        _ => return None,
    };
    Some(Line { at: request.at, verb, text })
}

fn answered(status: u16) -> String {
    match status {
        200..=299 => "accepted".to_owned(),
        status => format!("refused ({status})"),
    }
}

/// The reads that made the scene, in one line.
fn reads(requests: &[Request], before: Timestamp) -> Option<Line> {
    let made: Vec<&Request> = requests.iter().filter(|request| request.at <= before).collect();
    let (first, last) = (made.first()?, made.last()?);
    let mut kinds: Vec<&str> = Vec::new();
    for request in &made {
        let kind = kind(&request.path);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let took = last.at.duration_since(first.at).as_millis();
    let text = format!("{} reads of the API server in {took} ms: {}", made.len(), kinds.join(", "));
    Some(Line { at: last.at, verb: "read", text })
}

/// `/api/v1/namespaces/shop/pods/x/log` -> `logs`, `/apis/apps/v1/namespaces/shop/deployments/x` -> `deployments`.
fn kind(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or_default();
    if path.ends_with("/log") {
        return "logs";
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // `api/v1/...` or `apis/<group>/<version>/...`, then perhaps `namespaces/<name>/...`.
    let rest = parts.get(if parts.first() == Some(&"apis") { 3 } else { 2 }..).unwrap_or_default();
    match rest {
        ["namespaces", _, kind, ..] => kind,
        [kind, ..] => kind,
        [] => "versions",
    }
}

/// What the model answered in a turn.
fn asked(turn: &Turn, at: Timestamp) -> Line {
    let messages = turn.messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let calls = messages.iter().flat_map(|message| message["tool_calls"].as_array().into_iter().flatten());
    let names: Vec<&str> = calls.filter_map(|call| call["function"]["name"].as_str()).collect();
    let reviews = messages.iter().any(|message| message["firstlook"] == "review");
    let said = match names[..] {
        _ if reviews => "looks at its report again".to_owned(),
        [] => "no tool".to_owned(),
        _ => names.join(", "),
    };
    let tokens = turn.usage.input_tokens + turn.usage.output_tokens;
    let text = format!("the model, turn {} ({tokens} tokens): {said}", turn.number + 1);
    Line { at, verb: "asked", text }
}

fn called(call: &Call) -> Option<Line> {
    let arguments: serde_json::Value = serde_json::from_str(call.arguments.as_str()).unwrap_or_default();
    let values: Vec<String> = ["kind", "name", "pod", "pattern"]
        .iter()
        .filter_map(|key| arguments[key].as_str().map(str::to_owned))
        .collect();
    let came = match &call.outcome {
        CallOutcome::Read { evidence } => format!("→ {evidence}"),
        CallOutcome::Failed { why } => format!("→ nothing: {why}"),
        CallOutcome::NotRun => return None,
    };
    let text = [call.tool.clone(), values.join(" "), came].into_iter().filter(|part| !part.is_empty());
    Some(Line { at: call.called_at, verb: "read", text: text.collect::<Vec<_>>().join(" ") })
}

/// The latest instant that an approval knows of.
fn last_instant(approval: &Approval) -> Timestamp {
    let execution = approval.execution.as_ref().map(|execution| execution.finished_at.unwrap_or(execution.started_at));
    execution.or(approval.presses.last().map(|press| press.at)).unwrap_or(approval.created_at)
}

fn verified(approval: &Approval) -> Option<(Option<Timestamp>, &'static str, String)> {
    match &approval.verification {
        Verification::NotStarted => None,
        Verification::Watching { ready, wanted } => {
            Some((None, "watched", format!("rolling out, {ready} of {wanted} ready")))
        }
        Verification::WaitsFor { pod, ready, wanted } => {
            Some((None, "watched", format!("{ready} of {wanted} ready, waits for {pod} to be deleted")))
        }
        Verification::Better { at, ready, wanted } => {
            let came = approval.action.as_ref().map(|action| action.came(*ready, *wanted)).unwrap_or_default();
            Some((Some(*at), "verified", format!("{}: {came}", approval.proposal.object())))
        }
        Verification::NotBetter { at, why } | Verification::Worse { at, why, .. } => {
            Some((Some(*at), "unmended", why.to_string()))
        }
    }
}

/// The instant of a Slack timestamp.
fn instant(ts: &str) -> Option<Timestamp> {
    let (seconds, micros) = ts.split_once('.')?;
    Timestamp::from_microsecond(seconds.parse::<i64>().ok()? * 1_000_000 + micros.parse::<i64>().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, user: &str, status: u16) -> Request {
        let at = Timestamp::UNIX_EPOCH;
        Request { at, method: method.into(), path: path.into(), user: user.into(), status }
    }

    #[test]
    fn a_rehearsal_is_told_apart_from_a_change() {
        let path = "/apis/apps/v1/namespaces/shop/deployments/web?fieldManager=firstlook";
        let told =
            |path: &str, status| write(&request("PATCH", path, "system:serviceaccount:f:firstlook-write", status));
        assert_eq!(told(path, 200).unwrap().text, "PATCH deployments/web as firstlook-write: accepted");
        assert_eq!(told(path, 403).unwrap().text, "PATCH deployments/web as firstlook-write: refused (403)");
        assert_eq!(told(&format!("{path}&dryRun=All"), 200).unwrap().verb, "rehearsed");
        assert_eq!(write(&request("GET", path, "x", 200)), None);
    }

    #[test]
    fn reads_are_told_together_by_kind() {
        let paths = [
            "/apis/apps/v1/namespaces/shop/deployments/web",
            "/api/v1/namespaces/shop/pods?labelSelector=app",
            "/api/v1/namespaces/shop/pods/web-1/log?tailLines=5",
            "/api/v1/nodes/n1",
        ];
        let made: Vec<Request> = paths.iter().map(|path| request("GET", path, "x", 200)).collect();
        let line = reads(&made, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(line.text, "4 reads of the API server in 0 ms: deployments, pods, logs, nodes");
    }
}
