//! Alerts that name no object: what the model is told of them, and what it may read.

use super::*;

/// The first request of an investigation after this alert, and what the model's first call was answered.
async fn asked(labels: &[(&str, &str)]) -> (String, String) {
    let look = json!({"tool_calls": [{"name": "list_workloads", "arguments": {"namespace": "shop"}}]});
    let nothing = json!({"content": "I do not know."});
    let answers = [("0001", look), ("0002", nothing.clone()), ("0003", nothing)];
    let town = Town::of(answering(folder("oom-loop"), &answers)).await;
    town.hear(&body(&[alert("HighErrorRate", town.now(), labels)])).await;
    let requests = town.world.model.requests();
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    let first = text(&requests[0].body["messages"][1]);
    let messages = requests[1].body["messages"].as_array().unwrap();
    (first, messages.iter().find(|message| message["role"] == "tool").map(text).unwrap())
}

#[tokio::test]
async fn an_alert_that_names_a_namespace_alone_lets_the_model_look_there() {
    let (first, answer) = asked(&[("namespace", "shop"), ("slo", "availability")]).await;
    for part in [
        "Namespace: shop\n",
        "find out what is behind Alert shop.HighErrorRate, which names no object",
        "read-only tools in shop;",
        "its labels: slo=availability",
        "list_workloads of namespace shop shows what is in trouble there",
    ] {
        assert!(first.contains(part), "{part} in {first}");
    }
    assert!(answer.contains("pricing"), "{answer}");
}

#[tokio::test]
async fn an_alert_that_names_nothing_says_so_and_opens_no_namespace() {
    let (first, answer) = asked(&[("slo", "availability")]).await;
    assert!(first.contains("no object and no namespace is named"), "{first}");
    assert!(answer.contains("not part of the incident"), "{answer}");
}
