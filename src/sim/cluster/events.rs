//! Events that the simulated controllers write.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::cluster::objects::{World, name, namespace, random, stamp, uid_of, version};

/// What a controller has to say about an object.
pub(crate) struct Said<'a> {
    /// `Normal` or `Warning`.
    pub(crate) kind: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
    /// Which controller says it.
    pub(crate) component: &'a str,
}

/// Records an event; the same words about the same object count up the event that is there.
pub(crate) fn record(world: &mut World, object: &Value, said: &Said<'_>, at: Timestamp) {
    let (ns, time) = (namespace(object), stamp(at));
    let again = world.all("Event", ns).into_iter().find(|event| {
        event["involvedObject"]["uid"] == uid_of(object)
            && event["reason"] == said.reason
            && event["message"] == said.message
            && event["count"].is_u64()
    });
    if let Some(event) = again
        && let Some(key) = world.key_of("Event", ns, name(&event))
    {
        let mut event = Value::clone(&event);
        event["count"] = json!(event["count"].as_u64().unwrap_or(1) + 1);
        event["lastTimestamp"] = json!(time);
        world.put(key, event);
        return;
    }
    let called = format!("{}.{:016x}", name(object), random());
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": called, "namespace": ns},
        "involvedObject": {"kind": object["kind"], "namespace": ns, "name": name(object), "uid": uid_of(object),
            "apiVersion": object["apiVersion"], "resourceVersion": version(object).to_string()},
        "reason": said.reason, "message": said.message, "type": said.kind, "source": {"component": said.component},
        "firstTimestamp": time, "lastTimestamp": time, "count": 1, "eventTime": null,
        "reportingComponent": said.component, "reportingInstance": ""});
    if let Some(key) = world.key_of("Event", ns, &called) {
        world.add(key, event, at);
    }
}

/// Says about `pod` what `pattern`, an event, said about another.
pub(crate) fn echo(world: &mut World, pattern: &Value, other: &Value, pod: &Value, at: Timestamp) {
    let text = pattern.to_string().replace(name(other), name(pod)).replace(uid_of(other), uid_of(pod));
    let Ok(pattern) = serde_json::from_str::<Value>(&text) else { return };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let component = [&pattern["source"]["component"], &pattern["reportingComponent"]].map(text);
    let [reason, message] = [&pattern["reason"], &pattern["message"]].map(text);
    let component = component.iter().find(|c| !c.is_empty()).map_or("kubelet", String::as_str);
    record(world, pod, &Said { kind: "Warning", reason: &reason, message: &message, component }, at);
}
