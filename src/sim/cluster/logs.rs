//! Container logs of the scenario and the rules by which `pods/log` answers or refuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::objects::{Key, World, name, namespace};
use crate::sim::cluster::serve::Query;

/// Log texts by `<namespace>/<pod>/<container>[.previous].log`, lines with their times as `kubectl logs --timestamps` prints them.
#[derive(Debug, Default)]
pub(crate) struct Logs(BTreeMap<String, Arc<str>>);

impl Logs {
    /// Takes the texts; a leading `logs/` of a key is left out.
    pub(crate) fn new(texts: BTreeMap<String, String>) -> Self {
        let short = |path: String| path.strip_prefix("logs/").map(str::to_owned).unwrap_or(path);
        Self(texts.into_iter().map(|(path, text)| (short(path), text.into())).collect())
    }

    pub(crate) fn put(&mut self, ns: &str, pod: &str, file: &str, text: Arc<str>) {
        self.0.insert(format!("{ns}/{pod}/{file}"), text);
    }

    pub(crate) fn forget(&mut self, ns: &str, pod: &str) {
        let prefix = format!("{ns}/{pod}/");
        self.0.retain(|path, _| !path.starts_with(&prefix));
    }

    /// The files of a pod: name without the folder, text.
    pub(crate) fn of_pod(&self, ns: &str, pod: &str) -> Vec<(String, Arc<str>)> {
        let prefix = format!("{ns}/{pod}/");
        let files = self.0.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        files.map(|(path, text)| (path[prefix.len()..].to_owned(), text.clone())).collect()
    }

    fn get(&self, ns: &str, pod: &str, container: &str, previous: bool) -> Option<Arc<str>> {
        let previous = if previous { ".previous" } else { "" };
        self.0.get(&format!("{ns}/{pod}/{container}{previous}.log")).cloned()
    }
}

/// Answers `pods/log`; `None` is the real server's 204 for a pod that has no node yet.
pub(crate) fn read(world: &World, key: &Key, query: &Query, now: Timestamp) -> Outcome<Option<String>> {
    let Some(pod) = world.get(key) else {
        return Err(Failure::not_found(&world.kinds.all()[key.kind], &key.name));
    };
    let container = container(&pod, query.get("container"))?;
    let previous = query.is_true("previous");
    if let Some(text) = world.logs.get(&key.ns, &key.name, &container, previous) {
        return Ok(Some(cut(&text, query, now)?));
    }
    match pod["spec"]["nodeName"].as_str() {
        None => Ok(None),
        Some(node) => Err(missing(world, &pod, node, &container, previous)),
    }
}

/// The container that is meant, as the server chooses and refuses it.
fn container(pod: &Value, asked: Option<&str>) -> Outcome<String> {
    let names = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    };
    let (plain, init, short_lived) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    match asked.filter(|name| !name.is_empty()) {
        Some(name) if plain.iter().chain(&init).chain(&short_lived).any(|n| n == name) => Ok(name.to_owned()),
        Some(name) => Err(Failure::bad_request(format!("container {name} is not valid for pod {}", self::name(pod)))),
        None if plain.len() == 1 => Ok(plain.into_iter().next().unwrap_or_default()),
        None => {
            let pod = name(pod);
            let mut said =
                format!("a container name must be specified for pod {pod}, choose one of: [{}]", plain.join(" "));
            if !init.is_empty() {
                said.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Failure::bad_request(said))
        }
    }
}

/// Why there is nothing to read: no kubelet, nothing before, not started yet, or nothing kept.
fn missing(world: &World, pod: &Value, node: &str, container: &str, previous: bool) -> Failure {
    let node = world.key_of("Node", "", node).and_then(|key| world.get(&key));
    let ready = |node: &Value| {
        let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let host = pod["status"]["hostIP"].as_str().unwrap_or("0.0.0.0");
    if !node.is_some_and(|node| ready(&node)) {
        let path = format!("containerLogs/{}/{}/{container}", namespace(pod), name(pod));
        let said = format!("Get \"https://{host}:10250/{path}\": dial tcp {host}:10250: connect: no route to host");
        return Failure::new(500, "InternalError", said);
    }
    if previous {
        let said = format!("previous terminated container {container:?} in pod {:?} not found", name(pod));
        return Failure::bad_request(said);
    }
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut all = lists.iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    let state = all.find(|status| status["name"] == container);
    let waiting = state.map(|s| &s["state"]["waiting"]).filter(|w| w.is_object());
    match (state, waiting) {
        (Some(_), None) => {
            let said = format!("the server could not find the requested resource ( pods/log {})", name(pod));
            Failure::new(404, "NotFound", said)
        }
        (_, waiting) => {
            let reason = match waiting.and_then(|w| w["reason"].as_str()).unwrap_or("PodInitializing") {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                other => other,
            };
            let pod = name(pod);
            Failure::bad_request(format!("container {container:?} in pod {pod:?} is waiting to start: {reason}"))
        }
    }
}

/// Applies `sinceTime`, `sinceSeconds`, `tailLines`, `timestamps` and `limitBytes`.
fn cut(text: &str, query: &Query, now: Timestamp) -> Outcome<String> {
    let number = |name: &str| -> Outcome<Option<usize>> {
        let Some(text) = query.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Failure::bad_request(format!("invalid {name}: {text:?}")))
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(seconds), _) => now.checked_sub(SignedDuration::from_secs(seconds as i64)).ok(),
        (None, Some(time)) => {
            Some(time.parse().map_err(|_| Failure::bad_request(format!("invalid sinceTime: {time:?}")))?)
        }
        (None, None) => None,
    };
    let stamped = query.is_true("timestamps");
    let mut lines: Vec<(Option<Timestamp>, &str, &str)> = text.lines().map(parts).collect();
    if let Some(since) = since {
        lines.retain(|(at, _, _)| at.is_none_or(|at| at >= since));
    }
    if let Some(tail) = number("tailLines")? {
        lines.drain(..lines.len().saturating_sub(tail));
    }
    let mut out = String::with_capacity(text.len());
    for (_, whole, bare) in lines {
        out.push_str(if stamped { whole } else { bare });
        out.push('\n');
    }
    if let Some(limit) = number("limitBytes")? {
        out.truncate((0..=limit.min(out.len())).rev().find(|&at| out.is_char_boundary(at)).unwrap_or(0));
    }
    Ok(out)
}

/// A line's time, the line as stored, and the line without its time.
fn parts(line: &str) -> (Option<Timestamp>, &str, &str) {
    let (prefix, rest) = line.split_once(' ').unwrap_or((line, ""));
    match prefix.parse::<Timestamp>() {
        Ok(at) => (Some(at), line, rest),
        Err(_) => (None, line, line),
    }
}
