//! Create, replace, patch and scale: preconditions, pruning, validation, admission, dry run, and what the store adds.

use axum::body::Bytes;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::sim::cluster::Cluster;
use crate::sim::cluster::admission::{Attempt, admit};
use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::{GENERATION, Kind, SCALE, STATUS};
use crate::sim::cluster::objects::{Key, World, born, same, stamp, suffix, uid_of, version};
use crate::sim::cluster::patch::Patch;
use crate::sim::cluster::serve::Call;
use crate::sim::cluster::show::{Shape, as_kind, as_stored};
use crate::sim::cluster::target::Target;
use crate::sim::cluster::{objects, remove, rollout, schema};

/// Entries of `metadata.managedFields`; the eldest make room.
const MANAGERS_MAX: usize = 16;

/// One write with what all writes share.
pub(crate) struct Write<'a> {
    pub(crate) call: &'a Call<'a>,
    pub(crate) target: &'a Target<'a>,
    pub(crate) dry_run: bool,
    pub(crate) now: jiff::Timestamp,
}

/// The outcome of a write: code, body, and fields that were dropped as unknown.
pub(crate) struct Written {
    code: StatusCode,
    body: Value,
    unknown: Vec<String>,
}

impl Written {
    pub(crate) fn new(code: StatusCode, body: Value) -> Self {
        Self { code, body, unknown: Vec::new() }
    }
}

pub(crate) fn answer(cluster: &Cluster, call: &Call<'_>, target: &Target<'_>) -> Outcome<Response> {
    let write = Write { call, target, dry_run: call.query.dry_run()?, now: cluster.now() };
    let written = match (call.method, target.name.is_empty(), target.sub) {
        (&Method::POST, true, "") => create(cluster, &write, &json(&call.body)?),
        (&Method::POST, false, "eviction") if target.kind.kind == "Pod" => remove::evict(cluster, &write),
        (&Method::POST, false, "token") if target.kind.kind == "ServiceAccount" => token(cluster, &write),
        (&Method::PUT | &Method::PATCH, false, "" | "status") => change(cluster, &write),
        (&Method::PUT | &Method::PATCH, false, "scale") if target.kind.has(SCALE) => scale(cluster, &write),
        (&Method::DELETE, false, "") => remove::delete(cluster, &write),
        (_, false, "" | "status") | (_, true, _) => Err(Failure::method()),
        _ => Err(Failure::no_such_resource()),
    }?;
    let shape =
        if written.body["kind"] == *target.kind.kind { Shape::accepted(call.headers, write.now) } else { Shape::Whole };
    let body = if shape == Shape::Whole { written.body } else { shape.of(target.kind, &written.body) };
    let mut response = (written.code, axum::Json(body)).into_response();
    for field in written.unknown {
        if let Ok(warning) = HeaderValue::from_str(&format!("299 - \"unknown field \\\"{field}\\\"\"")) {
            response.headers_mut().append(header::WARNING, warning);
        }
    }
    Ok(response)
}

/// A body as JSON; the binary form that some clients of Go prefer is refused as a media type.
pub(crate) fn json(body: &Bytes) -> Outcome<Value> {
    if body.starts_with(b"k8s\0") {
        let said = "the body of the request was in an unknown format - accepted media types include: application/json";
        return Err(Failure::new(415, "UnsupportedMediaType", said));
    }
    serde_json::from_slice(body).map_err(|e| Failure::bad_request(format!("error decoding body: {e}")))
}

fn create(cluster: &Cluster, write: &Write<'_>, sent: &Value) -> Outcome<Written> {
    let Target { kind, ns, .. } = *write.target;
    let mut object = as_stored(kind, sent);
    let meta = &object["metadata"];
    if kind.namespaced && meta["namespace"].as_str().is_some_and(|own| own != ns) {
        let said = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(said));
    }
    if meta["name"].as_str().is_none_or(str::is_empty) {
        let Some(prefix) = meta["generateName"].as_str().filter(|p| !p.is_empty()) else {
            let why = "Required value: name or generateName is required";
            return Err(Failure::invalid(kind, "", "FieldValueRequired", "metadata.name", why));
        };
        object["metadata"]["name"] = json!(format!("{prefix}{}", suffix(objects::random(), 5)));
    }
    if kind.namespaced {
        object["metadata"]["namespace"] = json!(ns);
    }
    let unknown = write.prune(&mut object, &Value::Null)?;
    let fresh = object.as_object_mut().ok_or_else(|| Failure::bad_request("the object is no JSON object"))?;
    if kind.has(STATUS) {
        fresh.remove("status");
    }
    if kind.kind == "Deployment" {
        defaults(&mut object);
    }
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp", "managedFields"] {
        if let Some(meta) = object["metadata"].as_object_mut() {
            meta.remove(field);
        }
    }
    let name = objects::name(&object).to_owned();
    cluster.with(|world| {
        let key = world.key(kind, ns, &name);
        if world.get(&key).is_some() {
            return Err(Failure::exists(kind, &name));
        }
        schema::validate(kind, &name, &object, &Value::Null)?;
        admit(world, write.attempt("CREATE", &name, &Value::Null, &object))?;
        write.sign(&mut object, &Value::Null, "Update");
        born(kind, &mut object, write.now);
        let stored = if write.dry_run { object } else { Value::clone(&world.put(key.clone(), object)) };
        if rollout::rolls(&kind.kind) && !write.dry_run {
            cluster.rollouts().touch(key);
        }
        Ok(Written { unknown, ..Written::new(StatusCode::CREATED, as_kind(kind, &stored)) })
    })
}

/// What the API server fills into a new Deployment and its controller depends on.
fn defaults(deployment: &mut Value) {
    let spec = &mut deployment["spec"];
    let set = |spec: &mut Value, field: &str, value: Value| {
        if spec[field].is_null() {
            spec[field] = value;
        }
    };
    set(spec, "replicas", json!(1));
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}});
    set(spec, "strategy", rolling);
    set(spec, "revisionHistoryLimit", json!(10));
    set(spec, "progressDeadlineSeconds", json!(600));
}

/// PUT or PATCH of an object or its status.
fn change(cluster: &Cluster, write: &Write<'_>) -> Outcome<Written> {
    let Target { kind, ns, name, .. } = *write.target;
    let body = match *write.call.method {
        Method::PATCH => Body::patch(write)?,
        _ => Body::Whole(json(&write.call.body)?),
    };
    let missing = || cluster.with(|world| world.get(&world.key(kind, ns, name)).is_none());
    if let Body::Patch(Patch::Apply, object) = &body
        && missing()
    {
        return create(cluster, write, object);
    }
    cluster.with(|world| {
        let key = world.key(kind, ns, name);
        let Some(before) = world.get(&key) else {
            return Err(Failure::not_found(kind, name));
        };
        let sent = body.apply(&as_kind(kind, &before))?;
        let after = as_stored(kind, &sent);
        write.update(cluster, world, &key, after, &before)
    })
}

/// PUT or PATCH of `scale`: the workload's `spec.replicas` through another form.
fn scale(cluster: &Cluster, write: &Write<'_>) -> Outcome<Written> {
    let Target { kind, ns, name, .. } = *write.target;
    let body = match *write.call.method {
        Method::PATCH => Body::patch(write)?,
        _ => Body::Whole(json(&write.call.body)?),
    };
    cluster.with(|world| {
        let key = world.key(kind, ns, name);
        let Some(before) = world.get(&key) else {
            return Err(Failure::not_found(kind, name));
        };
        let asked = body.apply(&scale_of(kind, &before)?)?;
        let mut after = Value::clone(&before);
        after["spec"]["replicas"] = asked["spec"]["replicas"].clone();
        after["metadata"]["resourceVersion"] = asked["metadata"]["resourceVersion"].clone();
        let mut written = write.update(cluster, world, &key, after, &before)?;
        written.body = scale_of(kind, &written.body)?;
        Ok(written)
    })
}

enum Body {
    Whole(Value),
    Patch(Patch, Value),
}

impl Body {
    fn patch(write: &Write<'_>) -> Outcome<Self> {
        let sent = write.call.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let patch = Patch::of(sent)?;
        Ok(Self::Patch(patch, patch.parse(&write.call.body)?))
    }

    fn apply(&self, before: &Value) -> Outcome<Value> {
        match self {
            Self::Whole(object) => Ok(object.clone()),
            Self::Patch(patch, body) => patch.apply(before, body),
        }
    }
}

impl Write<'_> {
    /// Checks `after` against what is stored, lets admission see it, and stores it unless it is a dry run or changes nothing.
    fn update(
        &self,
        cluster: &Cluster,
        world: &mut World,
        key: &Key,
        mut after: Value,
        before: &Value,
    ) -> Outcome<Written> {
        let Target { kind, name, sub, .. } = *self.target;
        self.preconditions(&after, before)?;
        let unknown = self.prune(&mut after, before)?;
        self.keep_what_is_not_theirs(&mut after, before);
        if kind.kind == "Pod" && after["status"]["podIP"].is_string() && after["status"]["podIPs"].is_null() {
            after["status"]["podIPs"] = json!([{"ip": after["status"]["podIP"]}]);
        }
        schema::validate(kind, name, &after, before)?;
        admit(world, self.attempt("UPDATE", name, before, &after))?;
        let respecified = !same(&after["spec"], &before["spec"]);
        if respecified && kind.has(GENERATION) {
            after["metadata"]["generation"] = json!(before["metadata"]["generation"].as_u64().unwrap_or(1) + 1);
        }
        if same(&after, before) {
            return Ok(Written { unknown, ..Written::new(StatusCode::OK, as_kind(kind, before)) });
        }
        let apply = self.call.headers.get(header::CONTENT_TYPE).is_some_and(|v| v == "application/apply-patch+yaml");
        self.sign(&mut after, before, if apply { "Apply" } else { "Update" });
        let stored = if self.dry_run { after } else { Value::clone(&world.put(key.clone(), after)) };
        if respecified && rollout::rolls(&kind.kind) && !self.dry_run && sub != "status" {
            cluster.rollouts().touch(key.clone());
        }
        Ok(Written { unknown, ..Written::new(StatusCode::OK, as_kind(kind, &stored)) })
    }

    fn preconditions(&self, after: &Value, before: &Value) -> Outcome<()> {
        let Target { kind, name, .. } = *self.target;
        let sent = &after["metadata"];
        if !sent.is_object() {
            return Err(Failure::bad_request("the object provided has no metadata"));
        }
        if let Some(other) = sent["name"].as_str().filter(|other| *other != name) {
            let said = format!("the name of the object ({other}) does not match the name on the URL ({name})");
            return Err(Failure::bad_request(said));
        }
        let (uid, own) = (uid_of(after), uid_of(before));
        if !uid.is_empty() && uid != own {
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
            return Err(Failure::conflict(kind, name, &why));
        }
        match version(after) {
            0 => Ok(()),
            sent if sent == version(before) => Ok(()),
            _ => Err(Failure::modified(kind, name)),
        }
    }

    /// A write to the object leaves its status alone, one to the status all the rest; system fields are nobody's to set.
    fn keep_what_is_not_theirs(&self, after: &mut Value, before: &Value) {
        if self.target.sub == "status" {
            let status = std::mem::take(&mut after["status"]);
            *after = before.clone();
            after["status"] = status;
            return;
        }
        let keep = |into: &mut Value, from: &Value, field: &str| match (into.as_object_mut(), from.get(field)) {
            (Some(into), Some(value)) => drop(into.insert(field.to_owned(), value.clone())),
            (Some(into), None) => drop(into.remove(field)),
            _ => {}
        };
        if self.target.kind.has(STATUS) {
            keep(after, before, "status");
        }
        keep(after, before, "kind");
        keep(after, before, "apiVersion");
        let fields =
            ["name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"];
        for field in fields.into_iter().chain(["deletionTimestamp"]) {
            keep(&mut after["metadata"], &before["metadata"], field);
        }
    }

    /// Drops unknown fields, or refuses them, as `fieldValidation` asks.
    fn prune(&self, object: &mut Value, before: &Value) -> Outcome<Vec<String>> {
        let Target { kind, .. } = *self.target;
        let whole = object.to_string();
        let refuse = |why: &str| {
            if *self.call.method == Method::PATCH {
                let why = format!("Invalid value: {whole:?}: {why}");
                let cause = json!([{"reason": "FieldValueInvalid", "message": why, "field": "patch"}]);
                return Failure::new(422, "Invalid", format!(" \"\" is invalid: patch: {why}")).because(cause);
            }
            let (name, version) = (&kind.kind, &kind.version);
            Failure::bad_request(format!("{name} in version {version:?} cannot be handled as a {name}: {why}"))
        };
        let unknown = schema::prune(kind, object, before).map_err(|e| refuse(&e))?;
        match self.call.query.get("fieldValidation") {
            Some("Strict") if !unknown.is_empty() => {
                let fields: Vec<String> = unknown.iter().map(|field| format!("unknown field {field:?}")).collect();
                Err(refuse(&format!("strict decoding error: {}", fields.join(", "))))
            }
            Some("Ignore") => Ok(Vec::new()),
            _ => Ok(unknown),
        }
    }

    pub(crate) fn attempt<'b>(
        &'b self,
        operation: &'static str,
        name: &'b str,
        before: &'b Value,
        after: &'b Value,
    ) -> Attempt<'b> {
        let (user, dry_run) = (self.call.user, self.dry_run);
        let Target { kind, sub, .. } = *self.target;
        Attempt { user, operation, kind, subresource: sub, name, before, after, dry_run }
    }

    /// Notes in `metadata.managedFields` who wrote: the field manager, or the user agent's name. Of the field sets only
    /// the top is told: which fields of `spec` and `data` changed.
    fn sign(&self, object: &mut Value, before: &Value, operation: &str) {
        let mut changed = serde_json::Map::new();
        for part in ["spec", "data"] {
            let fields = object[part].as_object().into_iter().flatten();
            let differ = fields.filter(|(field, value)| !same(value, &before[part][field.as_str()]));
            let differ: serde_json::Map<String, Value> = differ.map(|(f, _)| (format!("f:{f}"), json!({}))).collect();
            if !differ.is_empty() {
                changed.insert(format!("f:{part}"), json!(differ));
            }
        }
        let agent = self.call.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("unknown");
        let agent = agent.split('/').next().unwrap_or("unknown");
        let manager = self.call.query.get("fieldManager").unwrap_or(agent);
        let mut fields = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        fields.retain(|entry| entry["manager"] != manager || entry["operation"] != operation);
        if fields.len() >= MANAGERS_MAX {
            fields.remove(0);
        }
        fields.push(json!({"manager": manager, "operation": operation, "apiVersion": self.target.kind.api_version(),
            "time": stamp(self.now), "fieldsType": "FieldsV1", "fieldsV1": changed}));
        object["metadata"]["managedFields"] = json!(fields);
    }
}

/// TokenRequest.
fn token(cluster: &Cluster, write: &Write<'_>) -> Outcome<Written> {
    let Target { kind, ns, name, .. } = *write.target;
    let asked = json(&write.call.body)?;
    let account = cluster.with(|world| world.get(&world.key(kind, ns, name)));
    let account = account.ok_or_else(|| Failure::not_found(kind, name))?;
    let minted = cluster.tokens().mint(kind, &account, &asked, write.now, write.dry_run)?;
    Ok(Written::new(StatusCode::CREATED, minted))
}

/// The `scale` subresource of a workload.
pub(crate) fn scale_of(kind: &Kind, object: &Value) -> Outcome<Value> {
    if !kind.has(SCALE) {
        return Err(Failure::no_such_resource());
    }
    let meta = &object["metadata"];
    let labels = object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    let selector: Vec<String> = labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"], "creationTimestamp": meta["creationTimestamp"]},
        "spec": {"replicas": object["spec"]["replicas"].as_u64().unwrap_or(1)},
        "status": {"replicas": object["status"]["replicas"].as_u64().unwrap_or(0), "selector": selector.join(",")}}))
}
