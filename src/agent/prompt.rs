//! The prompts: system text and tool list byte-identical between investigations, the task bounded and fenced.

use minijinja::{Environment, UndefinedBehavior, context};
use rmcp::model::Tool;
use serde_json::{Map, Value, json};

use crate::agent::opening;
use crate::agent::report;
use crate::govern::off::Off;
use crate::model::{Card, Kind, ObjectRef};
use crate::redact::Redacted;

/// The system prompt: constant, so that a provider's prefix cache works.
pub const SYSTEM: &str = include_str!("../../prompts/system.md");
const TASK: &str = include_str!("../../prompts/task.md");
const REPORT: &str = include_str!("../../prompts/report.md");
const DRAFT: &str = include_str!("../../prompts/draft.md");

/// More instructions than any of these templates can need.
const FUEL: u64 = 200_000;

/// The first two messages of an investigation.
///
/// # Errors
/// When a template does not render, which a test rules out.
pub fn opening(card: &Card, calls_max: u32, now: jiff::Timestamp) -> anyhow::Result<Vec<Value>> {
    let incident = &card.incident;
    let is_unnamed = incident.subject.kind == Kind::Alert;
    fn place(object: &ObjectRef) -> &str {
        if object.kind == Kind::Namespace { object.name() } else { object.namespace() }
    }
    let mut namespaces: Vec<&str> = std::iter::once(&incident.subject).chain(&incident.also).map(place).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    namespaces.retain(|namespace| !namespace.is_empty());
    let scope = if namespaces.is_empty() { "the incident's nodes".to_owned() } else { namespaces.join(", ") };
    let own = incident.subject.namespace();
    let namespace = match (own, is_unnamed) {
        ("", true) if !namespaces.is_empty() => namespaces.join(", "),
        ("", _) => "-".to_owned(),
        (own, _) => own.to_owned(),
    };
    let question = match is_unnamed {
        true => format!("what is behind {}, which names no object", incident.subject),
        false => format!("why {} is in trouble", incident.subject),
    };
    let task = render(
        TASK,
        context! {
            cluster => incident.cluster.as_str(),
            namespace => namespace,
            question => question,
            tried => card.approvals.iter().any(|approval| approval.in_vain().is_some()),
            severity => incident.severity.as_str(),
            began_at => incident.began_at.to_string(),
            now => now.to_string(),
            scope => scope,
            turns_max => incident.investigation.turns_max,
            calls_max => calls_max,
            parts => minijinja::value::Serde(opening::parts(card, now)),
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

/// One line, cut, which cannot close the fence around the data.
pub(super) fn fence(line: &str, max_chars: usize) -> String {
    let line: String = line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(max_chars).collect();
    unfenced(&line)
}

fn unfenced(line: &str) -> String {
    line.replace("<data>", "‹data›").replace("</data>", "‹/data›")
}

/// The tools in the order in which they help, for a model that is offered only some of them. Those that are not named
/// here come last.
const USEFUL: [&str; 8] = [
    "pod_logs",
    "what_changed",
    "get_workload",
    "list_events",
    "get_object",
    "search_logs",
    "get_evidence",
    "list_workloads",
];

/// The tools as a chat-completions server takes them: the read-only ones by name, at most so many, and `submit_report`
/// last, without the actions that are off.
pub fn tools(offered: &[Tool], at_once: Option<usize>, off: &Off) -> Value {
    let mut offered: Vec<&Tool> = offered.iter().collect();
    offered.sort_by_key(|tool| {
        let name = tool.name.as_ref();
        (USEFUL.iter().position(|useful| *useful == name).unwrap_or(USEFUL.len()), name.to_owned())
    });
    let mut tools: Vec<Value> = offered.into_iter().take(at_once.unwrap_or(usize::MAX)).map(tool).collect();
    tools.sort_by_key(|tool| tool["function"]["name"].as_str().unwrap_or_default().to_owned());
    tools.push(report::definition(off));
    Value::Array(tools)
}

fn tool(tool: &Tool) -> Value {
    let mut parameters = Value::Object((*tool.input_schema).clone());
    slim(&mut parameters);
    // Its own incident is the only one that the gate lets the agent ask of.
    if let Some(properties) = parameters.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("incident");
    }
    if let Some(required) = parameters.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != "incident");
    }
    if let Some(parameters) = parameters.as_object_mut()
        && parameters.get("required") == Some(&json!([]))
    {
        parameters.remove("required");
    }
    let description = tool.description.as_deref().unwrap_or_default();
    json!({"type": "function", "function": {"name": tool.name, "description": description, "parameters": parameters}})
}

/// Leaves out what a model does not need of a JSON schema: titles, formats, nulls of optional fields, bounds.
fn slim(schema: &mut Value) {
    let Value::Object(map) = schema else {
        if let Value::Array(items) = schema {
            items.iter_mut().for_each(slim);
        }
        return;
    };
    // Bounds are told where they are passed.
    for key in ["$schema", "title", "format", "additionalProperties", "minimum", "maximum", "maxLength"] {
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
