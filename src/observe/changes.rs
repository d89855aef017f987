//! What changed: templates compared revision by revision, and what stands around them by its own dates.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::scene::{At, Change, Container, DiffLine, Reference, Revision, Template, Volume};
use crate::observe::json;
use crate::observe::typed::Typed;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Revisions that are compared with the one before: the running one and two more say what led here.
pub const COMPARED_MAX: usize = 3;

/// The annotation that a restart sets.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// Labels that controllers put into a template: they differ by design.
const NOISE: [&str; 3] = ["pod-template-hash", "controller-revision-hash", "pod-template-generation"];

/// What differs between two templates, container by container, and nothing that only controllers wrote.
pub fn compare(before: &Template, after: &Template, redactor: &Redactor) -> Vec<DiffLine> {
    let mut diff = Diff { redactor, lines: Vec::new() };
    let names = before.containers.iter().chain(&after.containers).map(|container| &container.name);
    for name in names.collect::<BTreeSet<_>>() {
        let find = |template: &'_ Template| template.containers.iter().find(|c| c.name == *name).cloned();
        match (find(before), find(after)) {
            (Some(before), Some(after)) => diff.containers(&before, &after),
            (before, after) => {
                let image = |container: Option<Container>| container.map(|c| c.image);
                diff.line(Some(name), Redacted::literal("container"), image(before), image(after));
            }
        }
    }
    diff.maps("nodeSelector", &before.node_selector, &after.node_selector);
    diff.sets("toleration", &before.tolerations, &after.tolerations);
    diff.value("affinity", &before.affinity, &after.affinity);
    diff.option("serviceAccount", before.service_account.clone(), after.service_account.clone());
    diff.sets("imagePullSecret", &before.image_pull_secrets, &after.image_pull_secrets);
    let volumes = |template: &Template| template.volumes.iter().map(volume).collect::<Vec<_>>();
    diff.sets("volume", &volumes(before), &volumes(after));
    let names = |template: &Template| template.volumes.iter().map(|v| format!("volumes[{}]", v.name)).collect();
    diff.rest(&before.rest, &after.rest, &one_sided(names(before), names(after)));
    let plain = |map: &BTreeMap<String, Redacted>| -> BTreeMap<String, Redacted> {
        let kept = map.iter().filter(|(key, _)| !NOISE.contains(&key.as_str()) && *key != RESTARTED);
        kept.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    diff.maps("label", &plain(&before.labels), &plain(&after.labels));
    diff.maps("annotation", &plain(&before.annotations), &plain(&after.annotations));
    let restart = |template: &Template| template.annotations.get(RESTARTED).cloned();
    diff.option("restart", restart(before), restart(after));
    diff.lines
}

fn volume(volume: &Volume) -> Redacted {
    match &volume.source {
        Some(source) if source.name.is_empty() => text!("{} ({})", volume.name, source.kind),
        Some(source) => text!("{} ({} {})", volume.name, source.kind, source.name),
        None => volume.name.clone(),
    }
}

/// A source of environment, as one line tells it.
fn source(source: &Reference) -> Redacted {
    match source.prefix.is_empty() {
        true => text!("{} {}", source.kind, source.name),
        false => text!("{} {} (prefix {})", source.kind, source.name, source.prefix),
    }
}

struct Diff<'a> {
    redactor: &'a Redactor,
    lines: Vec<DiffLine>,
}

impl Diff<'_> {
    fn containers(&mut self, before: &Container, after: &Container) {
        let start = self.lines.len();
        self.value("image", &before.image, &after.image);
        let redactor = self.redactor;
        self.value("command", &words(&before.command, redactor), &words(&after.command, redactor));
        self.value("args", &words(&before.args, redactor), &words(&after.args, redactor));
        self.maps("env", &before.env, &after.env);
        let from = |c: &Container| c.env_from.iter().map(source).collect::<Vec<_>>();
        self.sets("envFrom", &from(before), &from(after));
        self.maps("request", &before.requests, &after.requests);
        self.maps("limit", &before.limits, &after.limits);
        let ports = |c: &Container| c.ports.iter().map(|port| text!("{}", *port)).collect::<Vec<_>>();
        self.sets("port", &ports(before), &ports(after));
        self.maps("probe", &before.probes, &after.probes);
        let ports = |c: &Container| c.ports.iter().map(|port| format!("ports[{port}]")).collect();
        self.rest(&before.rest, &after.rest, &one_sided(ports(before), ports(after)));
        for line in &mut self.lines[start..] {
            line.container = Some(after.name.clone());
        }
    }

    fn value(&mut self, field: &'static str, before: &Redacted, after: &Redacted) {
        let some = |value: &Redacted| Some(value.clone()).filter(|value| !value.is_empty());
        self.option(field, some(before), some(after));
    }

    fn option(&mut self, field: &'static str, before: Option<Redacted>, after: Option<Redacted>) {
        self.line(None, Redacted::literal(field), before, after);
    }

    /// `env DB_POOL`, `nodeSelector disk`: one line for each key that differs.
    fn maps(&mut self, field: &'static str, before: &BTreeMap<String, Redacted>, after: &BTreeMap<String, Redacted>) {
        for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            let field = text!("{} {}", field, self.redactor.redact(key));
            self.line(None, field, before.get(key).cloned(), after.get(key).cloned());
        }
    }

    /// One line for each leaf that differs, but for those within what is on one side alone and told as a whole.
    fn rest(&mut self, before: &BTreeMap<String, Redacted>, after: &BTreeMap<String, Redacted>, told: &[String]) {
        for path in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            if !told.iter().any(|told| path.starts_with(told.as_str())) {
                let field = self.redactor.redact(path);
                self.line(None, field, before.get(path).cloned(), after.get(path).cloned());
            }
        }
    }

    /// One line for each item that is on one side alone; what was replaced by something else is one line.
    fn sets(&mut self, field: &'static str, before: &[Redacted], after: &[Redacted]) {
        let gone: Vec<_> = before.iter().filter(|item| !after.contains(item)).collect();
        let new: Vec<_> = after.iter().filter(|item| !before.contains(item)).collect();
        for place in 0..gone.len().max(new.len()) {
            let side = |items: &[&Redacted]| items.get(place).map(|item| (*item).clone());
            self.option(field, side(&gone), side(&new));
        }
    }

    fn line(
        &mut self,
        container: Option<&Redacted>,
        field: Redacted,
        before: Option<Redacted>,
        after: Option<Redacted>,
    ) {
        if before != after {
            self.lines.push(DiffLine { container: container.cloned(), field, before, after });
        }
    }
}

fn one_sided(before: BTreeSet<String>, after: BTreeSet<String>) -> Vec<String> {
    before.symmetric_difference(&after).cloned().collect()
}

/// The words in a row, and redacted so: a password may be the word after the one that names it.
fn words(words: &[Redacted], redactor: &Redactor) -> Redacted {
    redactor.redact(Redacted::join(words, " ").as_str())
}

/// One change for each of the newest revisions against the one before it, newest first. `revisions` are sorted by
/// number, newest first; `workload` is the object that they belong to. A first revision is a change without lines.
pub fn of_revisions(workload: &Value, revisions: &[Revision], typed: Typed<'_>, at: At) -> Vec<Change> {
    let Some(object) = json::reference(workload) else { return Vec::new() };
    let written = json::spec_written(workload);
    let mut changes = Vec::new();
    for (place, revision) in revisions.iter().take(COMPARED_MAX).enumerate() {
        let before = before(revisions, revision);
        let (before, from_revision) = (before.map(|(before, _)| before), before.map(|(_, number)| number));
        // Only the oldest revision that is kept can have none before it; whether it was the first is said by its number.
        if before.is_none() && revision.number > 1 {
            break;
        }
        // A rollback gives an old ReplicaSet a new number: then its age is not that of the change.
        let reused = before.is_some_and(|before| before.created_at >= revision.created_at);
        let changed_at = match (reused, place, written) {
            (false, _, _) => revision.created_at,
            (true, 0, Some((at, _))) => at,
            (true, 0, None) => progressed(workload).unwrap_or(revision.created_at),
            (true, _, _) => before.map_or(revision.created_at, |before| before.created_at),
        };
        let by = written.filter(|_| place == 0).map(|(_, by)| typed.redactor.redact(by));
        changes.push(Change {
            object: object.clone(),
            changed_at,
            by: by.or_else(|| cause(workload, revision, place, typed)),
            from_revision,
            to_revision: Some(revision.number),
            lines: before
                .map(|before| compare(&before.template, &revision.template, typed.redactor))
                .unwrap_or_default(),
            at,
        });
    }
    changes
}

/// The revision that ran before `revision`, and the number that it had then.
fn before<'a>(revisions: &'a [Revision], revision: &Revision) -> Option<(&'a Revision, i64)> {
    let others = revisions.iter().filter(|other| other.uid != revision.uid);
    let numbered = others.flat_map(|other| {
        std::iter::once(other.number).chain(other.earlier_numbers.iter().copied()).map(move |number| (other, number))
    });
    numbered.filter(|(_, number)| *number < revision.number).max_by_key(|(_, number)| *number)
}

fn progressed(workload: &Value) -> Option<jiff::Timestamp> {
    let mut conditions = json::list(workload, "/status/conditions").iter();
    let progressing = conditions.find(|condition| json::text(condition, "/type") == "Progressing")?;
    json::time(progressing, "/lastUpdateTime")
}

/// The program that `kubernetes.io/change-cause` names first, for the running revision.
fn cause(workload: &Value, revision: &Revision, place: usize, typed: Typed<'_>) -> Option<Redacted> {
    let cause = workload.pointer("/metadata/annotations")?.get("kubernetes.io/change-cause")?.as_str()?;
    let program =
        cause.split_whitespace().next().filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    let running = place == 0 && revision.current;
    program.filter(|_| running).map(|program| typed.redactor.redact(program).cut(40))
}

/// The differences as lines of a diff, for evidence.
pub fn as_text(changes: &[Change]) -> Redacted {
    Redacted::join(&changes.iter().map(Change::as_text).collect::<Vec<_>>(), "\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observe::typed::workload::REVISION;

    fn lines(before: Value, after: Value) -> Vec<String> {
        let redactor = Redactor::default();
        let typed = Typed { redactor: &redactor };
        let lines = compare(&typed.template(&before), &typed.template(&after), &redactor);
        let side = |value: Option<Redacted>| value.map_or("-".to_owned(), |value| value.as_str().to_owned());
        lines.into_iter().map(|line| format!("{}: {} > {}", line.field, side(line.before), side(line.after))).collect()
    }

    #[test]
    fn after_a_rollback_each_change_is_told_against_what_ran_before_it() {
        let set = |number: &str, history: &str, minute: u32, image: &str| {
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": format!("web-{image}"), "namespace": "n",
                "uid": image, "creationTimestamp": format!("2026-03-24T16:{minute}:00Z"), "annotations": {
                    REVISION: number, "deployment.kubernetes.io/revision-history": history}},
                "spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}})
        };
        let redactor = Redactor::default();
        let typed = Typed { redactor: &redactor };
        let at = At { evidence: crate::model::EvidenceId(2), segment: 0 };
        // b ran as revision 6, was replaced by c as 7, and runs again as 8.
        let sets = [set("8", "6", 20, "b"), set("7", "", 30, "c"), set("5", "", 10, "a")];
        let revisions: Vec<Revision> = sets.iter().map(|set| typed.revision(set, at).unwrap()).collect();
        let root = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "n",
            "managedFields": [{"manager": "firstlook", "time": "2026-03-24T16:40:00Z", "spec": true}]}});
        let told: Vec<String> = of_revisions(&root, &revisions, typed, at)
            .iter()
            .map(|change| {
                let side = |text: &Option<Redacted>| text.as_ref().map_or("-".to_owned(), Redacted::to_string);
                let image = change.lines.iter().map(|l| format!("{}>{}", side(&l.before), side(&l.after)));
                let (from, to) = (change.from_revision.unwrap(), change.to_revision.unwrap());
                format!("{from}->{to} {} {}", change.changed_at, image.collect::<String>())
            })
            .collect();
        assert_eq!(told, ["7->8 2026-03-24T16:40:00Z c>b", "6->7 2026-03-24T16:30:00Z b>c"]);
    }

    #[test]
    fn only_real_differences_are_lines() {
        let before = json!({"metadata": {"labels": {"app": "a", "pod-template-hash": "1"}}, "spec": {
            "nodeSelector": {"disk": "ssd"}, "containers": [{"name": "app", "image": "a:1",
                "command": ["run"], "env": [{"name": "TOKEN", "value": "one1"}, {"name": "OLD", "value": "x"}],
                "envFrom": [{"configMapRef": {"name": "all"}}],
                "resources": {"limits": {"memory": "256Mi"}}}]}});
        let after = json!({"metadata": {"labels": {"app": "a", "pod-template-hash": "2"},
                "annotations": {"kubectl.kubernetes.io/restartedAt": "2026-03-24T16:00:00Z"}}, "spec": {
            "nodeSelector": {"disk": "nvme"}, "containers": [{"name": "app", "image": "a:2",
                "command": ["run"], "env": [{"name": "TOKEN", "value": "two2"}],
                "resources": {"limits": {"memory": "128Mi"}}}, {"name": "side", "image": "s:1"}]}});
        let lines = lines(before, after);
        assert!(lines[1].starts_with("env OLD: x > -"));
        assert!(lines[2].starts_with("env TOKEN: [redacted value") && !lines[2].contains("one1"), "{lines:?}");
        let rest: Vec<&str> = lines.iter().filter(|line| !line.starts_with("env ")).map(String::as_str).collect();
        assert_eq!(
            rest,
            [
                "image: a:1 > a:2",
                "envFrom: ConfigMap all > -",
                "limit memory: 256Mi > 128Mi",
                "container: - > s:1",
                "nodeSelector disk: ssd > nvme",
                "restart: - > 2026-03-24T16:00:00Z",
            ]
        );
    }

    #[test]
    fn a_password_that_is_a_word_of_its_own_is_not_told() {
        let template = |words: &[&str]| {
            json!({"spec": {"containers": [{"name": "app", "image": "a:1", "command": words, "args": words,
                "lifecycle": {"preStop": {"exec": {"command": words}}}}]}})
        };
        let told = lines(template(&["run"]), template(&["redis-cli", "--password", "hunter22x"]));
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().all(|line| line.contains("--password") && !line.contains("hunter22x")), "{told:?}");
    }

    #[test]
    fn whatever_else_a_template_holds_is_compared_leaf_by_leaf() {
        let template = |container: Value, pod: Value| {
            let mut spec = pod;
            spec["containers"] = json!([container]);
            json!({"spec": spec})
        };
        let before = template(
            json!({"name": "app", "image": "a:1", "securityContext": {"readOnlyRootFilesystem": false},
                "volumeMounts": [{"name": "conf", "mountPath": "/etc/app"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}}}),
            json!({"dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30, "priorityClassName": "high",
                "volumes": [{"name": "conf", "configMap": {"name": "a", "items": [{"key": "k", "path": "one"}]}}]}),
        );
        let after = template(
            json!({"name": "app", "image": "a:1", "securityContext": {"readOnlyRootFilesystem": true, "runAsNonRoot": true},
                "volumeMounts": [{"name": "conf", "mountPath": "/etc/app", "subPath": "x"}],
                "ports": [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}, {"containerPort": 81, "protocol": "TCP"}],
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "50"]}}}}),
            json!({"dnsPolicy": "Default", "terminationGracePeriodSeconds": 3, "hostNetwork": true,
                "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1}],
                "volumes": [{"name": "conf", "configMap": {"name": "a", "items": [{"key": "k", "path": "two"}]}},
                    {"name": "new", "emptyDir": {"sizeLimit": "1Gi"}}]}),
        );
        assert_eq!(
            lines(before.clone(), after),
            [
                "port: - > 81",
                "lifecycle.preStop.exec.command: sleep, 5 > sleep, 50",
                "ports[80].hostPort: - > 80",
                "securityContext.readOnlyRootFilesystem: false > true",
                "securityContext.runAsNonRoot: - > true",
                "volumeMounts[/etc/app].subPath: - > x",
                "volume: - > new (emptyDir)",
                "dnsPolicy: ClusterFirst > Default",
                "hostNetwork: - > true",
                "priorityClassName: high > -",
                "terminationGracePeriodSeconds: 30 > 3",
                "topologySpreadConstraints[zone].maxSkew: - > 1",
                "topologySpreadConstraints[zone].topologyKey: - > zone",
                "volumes[conf].configMap.items[0].path: one > two",
            ]
        );
        assert!(lines(before.clone(), before).is_empty());
    }
}
