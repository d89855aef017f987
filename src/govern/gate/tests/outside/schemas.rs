//! What every tool of every server says of itself: short, bounded, and as true as its answers.

use rmcp::model::Tool;

use super::*;
use crate::mcp::tests::holds;
use crate::model::Tier;

const EVERYTHING: &str = "namespaces: [fleet-ops], cluster: true, tiers: [read-only, reversible, destructive], \
                          calls_per_minute: 4294967295, asks_per_hour: 4294967295";

/// A caller that reaches every tool that there is.
async fn everything() -> (World, Connection, Vec<Tool>) {
    let mut world = world().await;
    world.gate = with_every_source(&world).await;
    let client = connect(&world, &guest(EVERYTHING), None).await;
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(tools.len(), mcp::TOOLS.len());
    (world, client, tools)
}

/// Arguments that a tool would take.
fn fitting(tool: &Tool) -> Value {
    let mut arguments = json!({});
    for (name, of) in tool.input_schema["properties"].as_object().unwrap() {
        arguments[name] = match name.as_str() {
            "namespace" => "fleet-ops".into(),
            "kind" => of["enum"].get(0).cloned().unwrap_or("Deployment".into()),
            "incident" => "i1".into(),
            "evidence" => "e1".into(),
            _ if of["type"] == "integer" => of["minimum"].clone(),
            _ if of["type"] == "boolean" => false.into(),
            _ => "dispatch-api".into(),
        };
    }
    arguments
}

async fn refused(client: &Connection, tool: &Tool, arguments: &Value) -> String {
    let request = CallToolRequestParams::new(tool.name.clone()).with_arguments(object(arguments.clone()));
    let result = client.call_tool(request).await.unwrap();
    let text: String = result.content.iter().filter_map(|c| c.as_text()).map(|t| t.text.clone()).collect();
    let is_write = mcp::tool(&tool.name).unwrap().1 != Tier::ReadOnly;
    // An error of a tool that reads may have no more than words.
    if is_write || result.structured_content.is_some() {
        let told = result.structured_content.clone().unwrap_or_default();
        let schema = Value::Object((**tool.output_schema.as_ref().unwrap()).clone());
        holds(&schema, &told).unwrap_or_else(|why| panic!("{} {arguments}: {why}", tool.name));
        assert!(!is_write || told["status"] == "refused", "{} took {arguments}: {text}", tool.name);
    }
    assert!(is_write || result.is_error == Some(true), "{} took {arguments}: {text}", tool.name);
    text
}

#[tokio::test]
async fn all_tools_of_all_servers_cost_at_most_100_tokens_each() {
    let (_world, client, tools) = everything().await;
    let told = serde_json::to_string(&client.list_tools(None).await.unwrap()).unwrap();
    let encoding = tiktoken_rs::o200k_base().unwrap();
    let tokens = encoding.encode_ordinary(&told).len();
    println!("{tokens} tokens for {} tools", tools.len());
    let mut each: Vec<(usize, String)> = tools
        .iter()
        .map(|tool| (encoding.encode_ordinary(&serde_json::to_string(tool).unwrap()).len(), tool.name.to_string()))
        .collect();
    each.sort();
    assert!(tokens <= 100 * tools.len(), "{tokens} tokens for {} tools: {each:?}\n{told}", tools.len());
    for tool in &tools {
        let about = tool.description.as_deref().unwrap_or_default();
        let is_sentence = about.starts_with(|c: char| c.is_uppercase()) && about.ends_with('.');
        assert!(is_sentence && about.split(' ').count() >= 5, "{}: {about}", tool.name);
        assert!(tool.output_schema.is_some(), "{}", tool.name);
    }
}

#[tokio::test]
async fn every_bound_stands_in_the_schema_and_what_is_beyond_it_is_refused_by_name() {
    let (_world, client, tools) = everything().await;
    let mut bounds = 0;
    for tool in &tools {
        let fits = fitting(tool);
        for (name, of) in tool.input_schema["properties"].as_object().unwrap() {
            let mut beyond: Vec<Value> = Vec::new();
            if of["type"] == "integer" {
                let bound = |key: &str| of[key].as_i64().unwrap_or_else(|| panic!("{}.{name}: no {key}", tool.name));
                beyond.extend([(bound("minimum") - 1).into(), (bound("maximum") + 1).into(), "1".into()]);
            }
            if let Some(max) = of["maxLength"].as_u64() {
                beyond.push("1".repeat(max as usize + 1).into());
            }
            if of["type"] == "string" {
                beyond.push(7.into());
            }
            for value in beyond {
                let mut arguments = fits.clone();
                arguments[name] = value;
                let said = refused(&client, tool, &arguments).await;
                // What names a namespace or an id is judged before.
                let known =
                    said.contains(&format!("{name}: ")) || of.get("maximum").is_none() && of.get("maxLength").is_none();
                assert!(known, "{} {arguments}: {said}", tool.name);
                bounds += 1;
            }
        }
    }
    assert!(bounds > 100, "{bounds}");
}

#[tokio::test]
async fn a_kind_that_a_schema_does_not_list_is_refused() {
    let (_world, client, tools) = everything().await;
    let mut kinds = 0;
    for tool in &tools {
        let Some(listed) = tool.input_schema["properties"]["kind"]["enum"].as_array() else { continue };
        for kind in Kind::ALL.iter().filter(|kind| !listed.contains(&kind.as_str().into())) {
            let mut arguments = fitting(tool);
            arguments["kind"] = kind.as_str().into();
            refused(&client, tool, &arguments).await;
            kinds += 1;
        }
    }
    assert!(kinds > 100, "{kinds}");
}

#[tokio::test]
async fn every_answer_to_who_asks_for_a_change_holds_to_the_schema_that_it_was_shown() {
    let (world, client, tools) = everything().await;
    let few = connect(&world, &guest("namespaces: [shop], tiers: [reversible]"), None).await;
    let mut told = std::collections::BTreeSet::new();
    for tool in tools.iter().filter(|tool| mcp::tool(&tool.name).unwrap().1 != Tier::ReadOnly) {
        let schema = Value::Object((**tool.output_schema.as_ref().unwrap()).clone());
        for (client, arguments) in [
            (&client, fitting(tool)),
            (&client, json!({})),
            (&client, json!({"name": "x", "y": 1})),
            (&few, fitting(tool)),
        ] {
            let request = CallToolRequestParams::new(tool.name.clone()).with_arguments(object(arguments.clone()));
            let answer = client.call_tool(request).await.unwrap().structured_content.unwrap_or_default();
            holds(&schema, &answer).unwrap_or_else(|why| panic!("{} {arguments}: {why}", tool.name));
            assert!(answer["status"] != "refused" || answer["reason"].is_string(), "{answer}");
            told.insert(answer["status"].as_str().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(told.into_iter().collect::<Vec<_>>(), ["pending_approval", "refused"]);
}
