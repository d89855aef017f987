//! Preview: what a person is shown before being asked, computed by the API server's dry run and by reading.

use serde_json::Value;

use crate::act::account::{Account, Trouble};
use crate::act::{Actor, Refusal, change};
use crate::model::scene::{DiffLine, Template};
use crate::model::{Action, ApprovalId, Bound, Kind, ObjectRef, Preview};
use crate::observe::reader::Selector;
use crate::observe::typed::Typed;
use crate::observe::typed::workload::selector;
use crate::observe::{changes, json};
use crate::redact::Redacted;
use crate::text;

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
        let sight = self.look(action).await?;
        let reader = &self.0.reader;
        let typed = Typed { redactor: reader.redactor() };
        let body = change::guarded(&change::body(action, approval, now, &sight), &sight.object);
        let (result, note) = self.dry_run(action.object(), &body).await?;
        let by_api_server = result.is_some();
        let before = json_template(&sight.object, typed);
        let after = match &result {
            Some(result) => json_template(result, typed),
            None => match &sight.target {
                Some(target) => typed.template(target),
                None => before.clone(),
            },
        };
        let mut diff = changes::compare(&before, &after, reader.redactor());
        if diff.is_empty() && matches!(action, Action::RolloutRestart { .. }) {
            let after = Some(text!("{}", now));
            diff.push(DiffLine { container: None, field: "restart".into(), before: None, after });
        }
        if diff.is_empty() {
            return Err(Refusal::Refused(text!("{} already runs this template", action.object())));
        }
        let namespace = action.object().namespace();
        let budgets = reader.list(Kind::PodDisruptionBudget, Some(namespace), &Selector::all()).await?;
        let scalers = reader.list(Kind::HorizontalPodAutoscaler, Some(namespace), &Selector::all()).await?;
        let result_template = result.as_ref().and_then(|result| result.pointer("/spec/template")).cloned();
        let preview = Preview {
            diff,
            by_api_server,
            note,
            pods_touched: pods(action.object().kind, &sight.object),
            then: self.then(action, &sight.object).await?,
            disruptions_allowed: allowed(&budgets, &sight.object),
            pace: pace(&sight.object, typed),
            autoscaler: autoscaler(&scalers, action.object(), typed),
            gitops: typed.gitops(&sight.object),
            result_hash: result_template.or(sight.target.clone()).as_ref().map(change::hash),
        };
        Ok((preview, sight.bound))
    }

    /// What must follow the action by itself. An OrderedReady StatefulSet waits for its broken pod before it replaces
    /// any, that pod too: whatever its template says now, somebody has to delete it.
    async fn then(&self, action: &Action, workload: &Value) -> Result<Option<Redacted>, Refusal> {
        let object = action.object();
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

    /// The object as it would be, or why firstlook has to compute it by itself.
    async fn dry_run(&self, object: &ObjectRef, body: &Value) -> Result<(Option<Value>, Option<Redacted>), Refusal> {
        let accounts = &self.0.accounts;
        match accounts.is_guarded(Account::Preview).await {
            Ok(true) => {}
            Ok(false) => {
                let note = "no dry run: the admission policy of the preview account is not installed";
                return Ok((None, Some(note.into())));
            }
            Err(why) => return Ok((None, Some(text!("no dry run: {}", why)))),
        }
        match accounts.patch(Account::Preview, object, body, true).await {
            Ok(result) => Ok((Some(result), None)),
            Err(Trouble::Refused(why)) => Err(Refusal::Refused(text!("the API server refuses it: {}", why))),
            Err(Trouble::Conflict) => Err(Refusal::Later(text!("{} is changing", object))),
            Err(Trouble::NotSent(why) | Trouble::Unknown(why)) => Err(Refusal::Later(why)),
        }
    }
}

/// Pods that a rollout replaces.
fn pods(kind: Kind, workload: &Value) -> u32 {
    match kind {
        Kind::DaemonSet => json::count(workload, "/status/desiredNumberScheduled"),
        _ => json::number(workload, "/spec/replicas").unwrap_or(1).try_into().unwrap_or(0),
    }
}

fn json_template(workload: &Value, typed: Typed<'_>) -> Template {
    workload.pointer("/spec/template").map(|template| typed.template(template)).unwrap_or_default()
}

/// Disruptions that every budget covering the pods allows now; None when no budget covers them.
fn allowed(budgets: &[Value], workload: &Value) -> Option<u32> {
    let labels = workload.pointer("/spec/template/metadata/labels")?.as_object()?;
    let covers = |budget: &&Value| {
        let wanted = budget.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
        wanted.is_some_and(|wanted| {
            !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
    };
    budgets.iter().filter(covers).map(|budget| json::count(budget, "/status/disruptionsAllowed")).min()
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
