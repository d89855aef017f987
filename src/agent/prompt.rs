//! The prompts: system text and tool list byte-identical between investigations, the task bounded and fenced.

use minijinja::{Environment, UndefinedBehavior, context};
use rmcp::model::Tool;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::agent::report;
use crate::clock::words;
use crate::model::scene::{Change, DiffLine};
use crate::model::{Card, EvidenceId, Role};
use crate::redact::Redacted;
use crate::text;

/// The system prompt: constant, so that a provider's prefix cache works.
pub const SYSTEM: &str = include_str!("../../prompts/system.md");
const TASK: &str = include_str!("../../prompts/task.md");
const REPORT: &str = include_str!("../../prompts/report.md");
const DRAFT: &str = include_str!("../../prompts/draft.md");

/// Lines of each part of the task and their length: with all parts full the first request stays below 3,500 tokens.
const PART_MAX_LINES: usize = 8;
const LINE_MAX_CHARS: usize = 240;
/// More instructions than any of these templates can need.
const FUEL: u64 = 200_000;

/// One titled list of the task.
#[derive(Debug, Serialize)]
struct Part {
    title: &'static str,
    lines: Vec<String>,
}

/// The first two messages of an investigation.
///
/// # Errors
/// When a template does not render, which a test rules out.
pub fn opening(card: &Card, calls_max: u32, now: jiff::Timestamp) -> anyhow::Result<Vec<Value>> {
    let incident = &card.incident;
    let mut namespaces: Vec<&str> =
        std::iter::once(&incident.subject).chain(&incident.also).map(|o| o.namespace()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    namespaces.retain(|namespace| !namespace.is_empty());
    let scope = if namespaces.is_empty() { "the incident's nodes".to_owned() } else { namespaces.join(", ") };
    let task = render(
        TASK,
        context! {
            cluster => incident.cluster.as_str(),
            namespace => if incident.subject.namespace().is_empty() { "-" } else { incident.subject.namespace() },
            subject => incident.subject.to_string(),
            severity => incident.severity.as_str(),
            began_at => incident.began_at.to_string(),
            now => now.to_string(),
            scope => scope,
            turns_max => incident.investigation.turns_max,
            calls_max => calls_max,
            parts => minijinja::value::Serde(parts(card, now)),
        },
    )?;
    Ok(vec![json!({"role": "system", "content": SYSTEM}), json!({"role": "user", "content": task})])
}

/// What to say to the model when its reply led nowhere.
///
/// # Errors
/// As `opening`.
pub fn nudge(reason: &str, detail: &str) -> anyhow::Result<Value> {
    let text = render(REPORT, context! { reason => reason, detail => detail })?;
    Ok(json!({"role": "user", "content": text.trim()}))
}

/// What a review shows beside the report: lines of evidence, fenced.
///
/// # Errors
/// As `opening`.
pub fn draft(lines: &[Redacted]) -> anyhow::Result<String> {
    let lines: Vec<String> = lines.iter().map(|line| unfenced(line.as_str())).collect();
    render(DRAFT, context! { lines => lines })
}

fn render(template: &'static str, values: minijinja::Value) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    Ok(environment.render_str(template, values)?)
}

fn parts(card: &Card, now: jiff::Timestamp) -> Vec<Part> {
    let mut parts = vec![
        Part { title: "Heard", lines: heard(card) },
        Part { title: "What changed", lines: changes(card, now) },
        Part { title: "Found by rules (evidence ids in brackets)", lines: found(card) },
        Part { title: "State", lines: state(card) },
        Part { title: "Could not be read", lines: missing(card) },
    ];
    for part in &mut parts {
        part.lines.truncate(PART_MAX_LINES);
        for line in &mut part.lines {
            *line = fence(line);
        }
    }
    parts.retain(|part| !part.lines.is_empty());
    parts
}

/// One line, cut, which cannot close the fence around the data.
fn fence(line: &str) -> String {
    let line: String = line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LINE_MAX_CHARS).collect();
    unfenced(&line)
}

fn unfenced(line: &str) -> String {
    line.replace("<data>", "‹data›").replace("</data>", "‹/data›")
}

fn heard(card: &Card) -> Vec<String> {
    let heard = &card.heard;
    let mut lines = Vec::new();
    if heard.alerts > 0 {
        let names: Vec<&str> = heard.alert_names.iter().map(Redacted::as_str).collect();
        lines.push(format!("{} alerts, {} firing: {}", heard.alerts, heard.alerts_firing, names.join(", ")));
    }
    lines.extend(heard.says.iter().map(|says| format!("the alert says: {says}")));
    if heard.warnings + heard.rollouts > 0 {
        lines.push(format!("{} warnings, {} rollouts", heard.warnings, heard.rollouts));
    }
    lines.extend(card.incident.why.iter().skip(1).take(4).map(|why| why.sentence.to_string()));
    lines
}

fn changes(card: &Card, now: jiff::Timestamp) -> Vec<String> {
    let changes = card.scene.as_ref().map(|scene| scene.changes.items()).unwrap_or_default();
    changes.iter().take(4).map(|change| change_line(change, now)).collect()
}

fn change_line(change: &Change, now: jiff::Timestamp) -> String {
    let ago = words(now.duration_since(change.changed_at).as_secs());
    let revision = change.to_revision.map(|number| format!(" revision {number}")).unwrap_or_default();
    let by = change.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let lines: Vec<String> = change.lines.iter().take(8).map(|line| diff_line(line).to_string()).collect();
    let what = if lines.is_empty() { "changed".to_owned() } else { lines.join("; ") };
    format!("{}{revision}, {ago} ago{by} [{}]: {what}", change.object, change.at.evidence)
}

fn diff_line(line: &DiffLine) -> Redacted {
    let none = Redacted::literal("(none)");
    text!(
        "{}: {} -> {}",
        line.field,
        line.before.as_ref().unwrap_or(&none).cut(80),
        line.after.as_ref().unwrap_or(&none).cut(80)
    )
}

fn found(card: &Card) -> Vec<String> {
    let shown = card.findings.iter().filter(|finding| finding.role != Role::Context);
    let ids = |finding: &crate::model::Finding| {
        let mut ids: Vec<EvidenceId> = finding.citations.iter().map(|citation| citation.evidence).collect();
        ids.dedup();
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    shown.map(|finding| format!("{}: {} [{}]", role(finding.role), finding.says, ids(finding))).collect()
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Change => "change",
        Role::Cause => "cause",
        Role::Mechanism => "mechanism",
        Role::Symptom => "symptom",
        Role::RuledOut => "ruled out",
        Role::Context => "context",
    }
}

fn state(card: &Card) -> Vec<String> {
    let Some(scene) = &card.scene else { return Vec::new() };
    let mut lines = Vec::new();
    if let Some(workload) = scene.workload.known().and_then(Option::as_ref) {
        let revision = workload.revision.map(|number| format!(", revision {number}")).unwrap_or_default();
        lines.push(format!(
            "{}: {} of {} pods ready{revision} [{}]",
            workload.object, workload.ready, workload.wanted, workload.at.evidence
        ));
    }
    for pod in scene.pods.items().iter().filter(|pod| !pod.ready).take(2) {
        lines.push(format!("{}: {} [{}]", pod.object, pod.phase, pod.at.evidence));
    }
    for log in scene.logs.items().iter().take(3) {
        if let Some(last) = log.lines.last() {
            let previous = if log.previous { " (previous)" } else { "" };
            lines.push(format!(
                "log of {}{previous} ends x{}: {} [{}]",
                log.pod.name,
                last.count,
                last.text.cut(160),
                log.at.evidence
            ));
        }
    }
    for event in scene.events.items().iter().filter(|event| event.warning).take(3) {
        lines.push(format!(
            "{} {} x{}: {} [{}]",
            event.object,
            event.reason,
            event.count,
            event.message.cut(140),
            event.at.evidence
        ));
    }
    lines
}

fn missing(card: &Card) -> Vec<String> {
    let evidence = card.scene.as_ref().map(|scene| scene.evidence.as_slice()).unwrap_or_default();
    let missing = evidence.iter().filter_map(|e| match &e.reading {
        crate::model::Reading::Missing(why) => Some(format!("{}: {why}", e.tool)),
        crate::model::Reading::Segments(_) => None,
    });
    missing.collect()
}

/// The tools as a chat-completions server takes them: the read-only ones by name, and `submit_report` last.
pub fn tools(offered: &[Tool]) -> Value {
    let mut tools: Vec<Value> = offered.iter().map(tool).collect();
    tools.sort_by_key(|tool| tool["function"]["name"].as_str().unwrap_or_default().to_owned());
    tools.push(report::definition());
    Value::Array(tools)
}

fn tool(tool: &Tool) -> Value {
    let mut parameters = Value::Object((*tool.input_schema).clone());
    slim(&mut parameters);
    let description = tool.description.as_deref().unwrap_or_default();
    json!({"type": "function", "function": {"name": tool.name, "description": description, "parameters": parameters}})
}

/// Leaves out what a model does not need of a JSON schema: titles, formats, nulls of optional fields.
fn slim(schema: &mut Value) {
    let Value::Object(map) = schema else {
        if let Value::Array(items) = schema {
            items.iter_mut().for_each(slim);
        }
        return;
    };
    for key in ["$schema", "title", "format", "default", "additionalProperties"] {
        map.remove(key);
    }
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|kind| kind != "null");
        if types.len() == 1 {
            let only = types.remove(0);
            map.insert("type".to_owned(), only);
        }
    }
    let inner: Map<String, Value> = std::mem::take(map);
    for (key, mut value) in inner {
        match &mut value {
            // The keys below are names of arguments, whatever they are called.
            Value::Object(properties) if key == "properties" => properties.values_mut().for_each(slim),
            other => slim(other),
        }
        map.insert(key, value);
    }
}
