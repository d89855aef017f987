//! Preview: what a person is shown before being asked, computed by the API server's dry run and by reading.

use serde_json::{Value, json};

use crate::act::account::{Account, Trouble, WRITES_OFF};
use crate::act::{Actor, Refusal, again, change};
use crate::model::scene::DiffLine;
use crate::model::{Action, ApprovalId, Bound, Kind, Moved, ObjectRef, Preview};
use crate::observe::reader::Selector;
use crate::observe::scene::limits::covers;
use crate::observe::typed::Typed;
use crate::observe::typed::workload::selector;
use crate::observe::{changes, json};
use crate::redact::Redacted;
use crate::text;

/// Versions of an object that may pass by before a preview waits: a rollout writes its status many times a second.
const TRIES_MAX: u32 = 5;

/// Why nothing is carried out on a cluster without `ValidatingAdmissionPolicy`.
const UNGUARDED: &str = "firstlook changes nothing here, since no admission policy binds the account that it writes with \
    (`firstlook rbac` prints it)";

/// The object as the dry run returned it, and a note where there was none.
type Rehearsed = (Option<Value>, Option<Redacted>);

impl Actor {
    /// Shows what `action` would do, and what its approval will be bound to.
    ///
    /// # Errors
    /// When it would be wrong, is impossible, or cannot be told now.
    pub async fn preview(
        &self,
        action: &Action,
        approval: &ApprovalId,
        now: jiff::Timestamp,
    ) -> Result<(Preview, Bound), Refusal> {
        if !self.0.accounts.writes {
            return Err(Refusal::Refused(WRITES_OFF.into()));
        }
        if action.mutes() {
            return self.preview_silence(action).await;
        }
        for _ in 0..TRIES_MAX {
            if let Some(shown) = Box::pin(self.rehearse(action, approval, now)).await? {
                return Ok(shown);
            }
        }
        Err(Refusal::Later(text!("{} is changing", action.object())))
    }

    /// One rehearsal; None when the object changed between the look and the dry run.
    async fn rehearse(
        &self,
        action: &Action,
        approval: &ApprovalId,
        now: jiff::Timestamp,
    ) -> Result<Option<(Preview, Bound)>, Refusal> {
        let sight = self.look(action).await?;
        let (reader, object) = (&self.0.reader, action.object());
        let typed = Typed { redactor: reader.redactor() };
        let body = change::body(action, approval, now, &sight);
        let Some((result, note)) = self.dry_run(action, &change::guarded(&body, &sight.object)).await? else {
            return Ok(None);
        };
        let by_api_server = result.is_some();
        let after = result.unwrap_or_else(|| change::applied(&sight.object, &body));
        let diff = match action {
            Action::RerunJob { object } => vec![line("Job", None, Some(again::name(object, approval)), typed)],
            Action::DeletePod { object, .. } => vec![line("Pod", Some(object.name().to_owned()), None, typed)],
            Action::Drain { pods, .. } => {
                pods.iter().map(|moved| line("Pod", Some(moved.pod.path()), None, typed)).collect()
            }
            _ => difference(action, &sight.object, &after, typed),
        };
        if diff.is_empty() {
            return Err(Refusal::Refused(text!("{} would be as it is", object)));
        }
        let mut preview = Preview {
            diff,
            by_api_server,
            note,
            unguarded: self.unguarded(action).await?,
            pods_touched: pods(action, &sight.object),
            down_at_worst: down_at_worst(action, &sight.object),
            owner: owner(&sight.object, typed),
            then: self.then(action, &sight.object).await?,
            dependents: self.dependents(action, &sight.object).await,
            gitops: typed.gitops(&sight.object),
            result_hash: after.pointer("/spec/template").filter(|_| action.rolls()).map(change::hash),
            ..Preview::default()
        };
        if action.moves_pods() {
            let namespace = Some(object.namespace());
            let budgets = reader.list(Kind::PodDisruptionBudget, namespace, &Selector::all()).await?;
            let scalers = reader.list(Kind::HorizontalPodAutoscaler, namespace, &Selector::all()).await?;
            preview.disruptions_allowed = allowed(&budgets, &sight.object);
            preview.autoscaler = autoscaler(&scalers, object, typed);
        }
        if let Action::Drain { object, pods, .. } = action {
            preview.disruptions_allowed = self.narrowest(object, pods).await?;
        }
        if action.rolls() || matches!(action, Action::ResumeRollout { .. }) {
            preview.pace = pace(&sight.object, typed);
        }
        Ok(Some((preview, sight.bound)))
    }

    /// What must follow the action, or follows it by itself. An OrderedReady StatefulSet waits for its broken pod before
    /// it replaces any, that pod too: whatever its template says now, somebody has to delete it.
    async fn then(&self, action: &Action, workload: &Value) -> Result<Option<Redacted>, Refusal> {
        let object = action.object();
        if let Action::ResumeCronjob { .. } = action {
            let bounded = workload.pointer("/spec/startingDeadlineSeconds").is_some();
            return Ok((!bounded).then(|| "a run that was missed meanwhile starts at once".into()));
        }
        if !action.rolls() {
            return Ok(None);
        }
        let ordered = json::text(workload, "/spec/podManagementPolicy") != "Parallel";
        if object.kind != Kind::StatefulSet || !ordered {
            return Ok(None);
        }
        let Some(labels) = selector(workload) else { return Ok(None) };
        let uid = json::text(workload, "/metadata/uid");
        let mut pods = self.0.reader.list(Kind::Pod, Some(object.namespace()), &Selector::labels(labels)).await?;
        pods.retain(|pod| json::controller(pod).is_some_and(|(_, _, owner)| owner == uid) && !is_ready(pod));
        let broken: Vec<Redacted> = pods.iter().filter_map(json::reference).map(|pod| text!("{}", pod.name)).collect();
        Ok((!broken.is_empty()).then(|| {
            text!(
                "{} must be deleted afterwards: the StatefulSet waits for it (OrderedReady)",
                Redacted::join(&broken, ", ")
            )
        }))
    }

    /// Disruptions that the narrowest budget of a drain's pods allows now.
    async fn narrowest(&self, node: &ObjectRef, pods: &[Moved]) -> Result<Option<u32>, Refusal> {
        let reader = &self.0.reader;
        let here = reader.list(Kind::Pod, None, &Selector::fields(format!("spec.nodeName={}", node.name()))).await?;
        let budgets = reader.list(Kind::PodDisruptionBudget, None, &Selector::all()).await?;
        let moving = |pod: &&Value| pods.iter().any(|moved| moved.uid == json::text(pod, "/metadata/uid"));
        let of_pod = |pod: &Value| {
            let namespace = json::text(pod, "/metadata/namespace");
            let own = budgets.iter().filter(|budget| json::text(budget, "/metadata/namespace") == namespace);
            allowed(&own.cloned().collect::<Vec<_>>(), pod)
        };
        Ok(here.iter().filter(moving).filter_map(of_pod).min())
    }

    /// Why the write would be refused later, where nothing binds the account that would send it.
    async fn unguarded(&self, action: &Action) -> Result<Option<Redacted>, Refusal> {
        match self.0.accounts.is_guarded(Account::Write(action.tier())).await {
            Ok(true) => Ok(None),
            Ok(false) => Ok(Some(UNGUARDED.into())),
            Err(why) => Err(Refusal::Later(why)),
        }
    }

    /// The object as it would be, or why firstlook has to compute it by itself; None when it has changed meanwhile.
    async fn dry_run(&self, action: &Action, body: &Value) -> Result<Option<Rehearsed>, Refusal> {
        let accounts = &self.0.accounts;
        match accounts.is_guarded(Account::Preview).await {
            Ok(true) => {}
            Ok(false) => {
                let note = "no dry run: the admission policy of the preview account is not installed";
                return Ok(Some((None, Some(note.into()))));
            }
            Err(why) => return Ok(Some((None, Some(text!("no dry run: {}", why))))),
        }
        match accounts.send(Account::Preview, action, body, true).await {
            Ok(result) => Ok(Some((Some(result), None))),
            Err(Trouble::Refused(why) | Trouble::Held(why)) => {
                Err(Refusal::Refused(text!("the API server refuses it: {}", why)))
            }
            Err(Trouble::Conflict) => Ok(None),
            Err(Trouble::NotSent(why) | Trouble::Unknown(why)) => Err(Refusal::Later(why)),
        }
    }
}

/// What the action changes, line by line.
fn difference(action: &Action, before: &Value, after: &Value, typed: Typed<'_>) -> Vec<DiffLine> {
    let template = |object: &Value| object.pointer("/spec/template").map(|it| typed.template(it)).unwrap_or_default();
    let mut diff = Vec::new();
    for path in change::fields(action) {
        let (old, new) = (change::field(before, path), change::field(after, path));
        if *path == "spec.template" {
            diff.extend(changes::compare(&template(before), &template(after), typed.redactor));
        } else if old != new {
            diff.push(line(path.trim_start_matches("spec."), Some(old.to_string()), Some(new.to_string()), typed));
        }
    }
    diff
}

fn line(field: &'static str, before: Option<String>, after: Option<String>, typed: Typed<'_>) -> DiffLine {
    let side = |text: Option<String>| text.map(|text| typed.redactor.redact(&text));
    DiffLine { container: None, field: field.into(), before: side(before), after: side(after) }
}

/// Pods that are replaced, started or ended.
fn pods(action: &Action, workload: &Value) -> u32 {
    let all = match action.object().kind {
        Kind::DaemonSet => json::count(workload, "/status/desiredNumberScheduled"),
        _ => json::number(workload, "/spec/replicas").unwrap_or(1).try_into().unwrap_or(0),
    };
    match action {
        Action::Scale { to, from, .. } => to.abs_diff(*from),
        Action::RerunJob { .. } => {
            let cron_job = workload.pointer("/spec/jobTemplate");
            json::count(cron_job.unwrap_or(workload), "/spec/parallelism").max(1)
        }
        Action::DeletePod { .. } => 1,
        Action::Drain { pods, .. } => pods.len() as u32,
        Action::ResumeRollout { .. } => all.saturating_sub(json::count(workload, "/status/updatedReplicas")),
        _ if action.rolls() => all,
        _ => 0,
    }
}

/// What the object belongs to: an operator's own resource may set it back.
fn owner(object: &Value, typed: Typed<'_>) -> Option<Redacted> {
    let (kind, name, _) = json::controller(object)?;
    Some(text!("{} {}", typed.redactor.redact(kind), typed.redactor.redact(name)))
}

/// Pods that may be down at once by the action, as its strategy bounds it.
fn down_at_worst(action: &Action, workload: &Value) -> u32 {
    let touched = pods(action, workload);
    match action {
        Action::Scale { to, from, .. } => from.saturating_sub(*to),
        Action::RerunJob { .. } => 0,
        _ if !action.rolls() && !matches!(action, Action::ResumeRollout { .. }) => touched,
        _ => touched.min(match json::text(workload, "/kind") {
            "StatefulSet" => 1,
            "DaemonSet" => {
                bound(workload.pointer("/spec/updateStrategy/rollingUpdate/maxUnavailable"), "1", touched, true)
            }
            _ if json::text(workload, "/spec/strategy/type") == "Recreate" => touched,
            _ => bound(workload.pointer("/spec/strategy/rollingUpdate/maxUnavailable"), "25%", touched, false),
        }),
    }
}

/// A count, or a share in percent of `all`, as Kubernetes rounds it.
fn bound(value: Option<&Value>, default: &str, all: u32, up: bool) -> u32 {
    let text = value.map_or_else(|| default.to_owned(), |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    match text.strip_suffix('%').map(str::parse::<u32>) {
        Some(Ok(percent)) if up => all.saturating_mul(percent).div_ceil(100),
        Some(Ok(percent)) => all.saturating_mul(percent) / 100,
        // What is not understood may be all of them.
        _ => text.parse().unwrap_or(all),
    }
}

/// Disruptions that every budget covering the pods allows now; None when no budget covers them.
fn allowed(budgets: &[Value], workload: &Value) -> Option<u32> {
    let labels = match json::text(workload, "/kind") {
        "Pod" => workload.pointer("/metadata/labels"),
        _ => workload.pointer("/spec/template/metadata/labels"),
    };
    let labels = labels.cloned().unwrap_or_else(|| json!({}));
    budgets
        .iter()
        .filter(|budget| covers(budget, &labels))
        .map(|budget| json::count(budget, "/status/disruptionsAllowed"))
        .min()
}

/// How the workload replaces its pods, as its strategy says.
fn pace(workload: &Value, typed: Typed<'_>) -> Redacted {
    match json::text(workload, "/kind") {
        "StatefulSet" => {
            return match json::count(workload, "/spec/updateStrategy/rollingUpdate/partition") {
                0 => Redacted::literal("one at a time, the highest number first"),
                from => text!("one at a time, only those numbered {} and above (partition)", from),
            };
        }
        "DaemonSet" => {
            let at_once = workload.pointer("/spec/updateStrategy/rollingUpdate/maxUnavailable");
            let at_once =
                at_once.map_or_else(|| "1".to_owned(), |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            return text!("node by node, at most {} down at a time", typed.redactor.redact(&at_once));
        }
        _ => {}
    }
    if json::text(workload, "/spec/strategy/type") == "Recreate" {
        return Redacted::literal("all at once (strategy Recreate)");
    }
    let written = |field: &str| {
        let value = workload.pointer(&format!("/spec/strategy/rollingUpdate/{field}"));
        let text = value.map_or_else(|| "25%".to_owned(), |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        typed.redactor.redact(&text)
    };
    text!("rolling, at most {} down and {} more at a time", written("maxUnavailable"), written("maxSurge"))
}

fn is_ready(pod: &Value) -> bool {
    let ready = |condition: &&Value| json::text(condition, "/type") == "Ready";
    json::list(pod, "/status/conditions").iter().find(ready).is_some_and(|c| json::text(c, "/status") == "True")
}

fn autoscaler(scalers: &[Value], object: &ObjectRef, typed: Typed<'_>) -> Option<Redacted> {
    let of_object = |scaler: &&Value| {
        json::text(scaler, "/spec/scaleTargetRef/name") == object.name()
            && json::text(scaler, "/spec/scaleTargetRef/kind") == object.kind.as_str()
    };
    scalers.iter().find(of_object).map(|scaler| typed.text(scaler, "/metadata/name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_down_at_once_is_what_the_strategy_allows() {
        let object = ObjectRef::new(Kind::Deployment, Some("shop"), "web").unwrap();
        let restart = Action::RolloutRestart { object: object.clone() };
        let of = |kind: &str, strategy: Value| {
            let spec = json!({"replicas": 10, "strategy": strategy, "updateStrategy": strategy});
            let workload = json!({"kind": kind, "spec": spec, "status": {"desiredNumberScheduled": 10}});
            down_at_worst(&restart, &workload)
        };
        assert_eq!(of("Deployment", json!({})), 2, "a quarter, rounded down");
        assert_eq!(of("Deployment", json!({"rollingUpdate": {"maxUnavailable": "35%"}})), 3);
        assert_eq!(of("Deployment", json!({"rollingUpdate": {"maxUnavailable": 0}})), 0);
        assert_eq!(of("Deployment", json!({"type": "Recreate"})), 10);
        assert_eq!(of("StatefulSet", json!({})), 1);
        let scaled = |to, from| down_at_worst(&Action::Scale { object: object.clone(), to, from }, &json!({}));
        assert_eq!((scaled(2, 6), scaled(6, 2)), (4, 0));
    }
}
