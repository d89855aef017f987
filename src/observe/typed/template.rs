//! Pod templates: containers, environment, volumes, and where the pods may run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::scene::{Container, Reference, Template, Volume};
use crate::observe::json;
use crate::observe::typed::Typed;
use crate::observe::typed::rest::{OF_CONTAINER, OF_POD};
use crate::redact::Redacted;
use crate::text;

impl Typed<'_> {
    /// A pod template (`spec.template`), or a pod itself: `metadata` and `spec` stand alike in both.
    pub fn template(&self, value: &Value) -> Template {
        let spec = value.get("spec").unwrap_or(&Value::Null);
        let init = json::list(spec, "/initContainers").iter().map(|c| self.container(c, true));
        let main = json::list(spec, "/containers").iter().map(|c| self.container(c, false));
        let affinity = spec.get("affinity").filter(|affinity| affinity.as_object().is_some_and(|a| !a.is_empty()));
        Template {
            labels: self.map(value, "/metadata/labels"),
            annotations: self.map(value, "/metadata/annotations"),
            containers: init.chain(main).collect(),
            volumes: json::list(spec, "/volumes").iter().flat_map(|volume| self.volumes(volume)).collect(),
            node_selector: self.map(spec, "/nodeSelector"),
            tolerations: json::list(spec, "/tolerations").iter().map(|t| self.toleration(t)).collect(),
            affinity: affinity.map_or_else(Redacted::default, |a| self.redactor.redact(&json::spaced(a))),
            service_account: self.some_text(spec, "/serviceAccountName"),
            image_pull_secrets: json::list(spec, "/imagePullSecrets").iter().map(|s| self.text(s, "/name")).collect(),
            rest: self.rest(spec, &OF_POD),
        }
    }

    /// A taint: `key=value:effect`, `key:effect` where it has no value.
    pub fn taint(&self, value: &Value) -> Redacted {
        let part = |pointer, lead: &'static str| match self.some_text(value, pointer) {
            Some(part) => text!("{}{}", lead, part),
            None => Redacted::default(),
        };
        text!("{}{}{}", self.text(value, "/key"), part("/value", "="), part("/effect", ":"))
    }

    /// A toleration as kubectl describes it, with `*` for any key: without its operator and its time it would look like
    /// another one.
    fn toleration(&self, value: &Value) -> Redacted {
        let key = if json::text(value, "/key").is_empty() { "*" } else { "" };
        let operator = match json::text(value, "/operator") {
            "" | "Equal" => Redacted::default(),
            other => text!(" op={}", self.redactor.redact(other)),
        };
        let seconds = json::number(value, "/tolerationSeconds");
        let seconds = seconds.map_or_else(Redacted::default, |seconds| text!(" for {}s", seconds));
        text!("{}{}{}{}", key, self.taint(value), operator, seconds)
    }

    fn container(&self, value: &Value, init: bool) -> Container {
        let env = json::list(value, "/env").iter().map(|one| (json::text(one, "/name").to_owned(), self.env(one)));
        let probes = ["liveness", "readiness", "startup"].into_iter().filter_map(|name| {
            let probe = value.get(format!("{name}Probe"))?;
            Some((name.to_owned(), self.redactor.redact(&json::spaced(probe))))
        });
        let port = |port: &Value| json::number(port, "/containerPort").and_then(|n| u16::try_from(n).ok());
        Container {
            name: self.text(value, "/name"),
            init,
            image: self.text(value, "/image"),
            command: self.texts(value, "/command"),
            args: self.texts(value, "/args"),
            env: env.collect::<BTreeMap<_, _>>(),
            env_keys: json::list(value, "/env").iter().filter_map(|one| self.env_key(one)).collect(),
            env_from: json::list(value, "/envFrom").iter().filter_map(|from| self.env_from(from)).collect(),
            requests: self.map(value, "/resources/requests"),
            limits: self.map(value, "/resources/limits"),
            ports: json::list(value, "/ports").iter().filter_map(port).collect(),
            probes: probes.collect(),
            rest: self.rest(value, &OF_CONTAINER),
        }
    }

    /// The value of a variable, or where it comes from.
    fn env(&self, value: &Value) -> Redacted {
        let Some(from) = value.get("valueFrom") else {
            return self.redactor.redact_value(json::text(value, "/name"), json::text(value, "/value"));
        };
        let keyed = |kind: &'static str, from: &Value| {
            text!("{} {} key {}", kind, self.text(from, "/name"), self.text(from, "/key"))
        };
        if let Some(from) = from.get("configMapKeyRef") {
            keyed("ConfigMap", from)
        } else if let Some(from) = from.get("secretKeyRef") {
            keyed("Secret", from)
        } else if let Some(from) = from.get("fieldRef") {
            text!("field {}", self.text(from, "/fieldPath"))
        } else if let Some(from) = from.get("resourceFieldRef") {
            text!("resource {}", self.text(from, "/resource"))
        } else {
            Redacted::literal("from elsewhere")
        }
    }

    /// A variable that is the key of an object, and that object.
    fn env_key(&self, value: &Value) -> Option<(String, Reference)> {
        let one = |field: &str, kind: &'static str| {
            let from = value.get("valueFrom")?.get(field)?;
            Some(self.reference(kind, json::text(from, "/name"), json::flag(from, "/optional")))
        };
        let from = one("configMapKeyRef", "ConfigMap").or_else(|| one("secretKeyRef", "Secret"))?;
        Some((json::text(value, "/name").to_owned(), from))
    }

    fn env_from(&self, value: &Value) -> Option<Reference> {
        let one = |field: &str, kind: &'static str| {
            let from = value.get(field)?;
            Some(self.reference(kind, json::text(from, "/name"), json::flag(from, "/optional")))
        };
        let source = one("configMapRef", "ConfigMap").or_else(|| one("secretRef", "Secret"))?;
        Some(Reference { prefix: self.text(value, "/prefix"), ..source })
    }

    /// A volume; one for each ConfigMap and Secret of a projected one.
    fn volumes(&self, value: &Value) -> Vec<Volume> {
        let name = self.text(value, "/name");
        let volume = |source| Volume { name: name.clone(), source };
        let projected = json::list(value, "/projected/sources").iter().filter_map(|source| self.source(source));
        let projected: Vec<Volume> = projected.map(|source| volume(Some(source))).collect();
        if projected.is_empty() { vec![volume(self.source(value))] } else { projected }
    }

    fn source(&self, value: &Value) -> Option<Reference> {
        let named = |field: &str, kind: &'static str, name: &str| {
            let source = value.get(field)?;
            Some(self.reference(kind, json::text(source, name), json::flag(source, "/optional")))
        };
        let known = named("configMap", "ConfigMap", "/name")
            .or_else(|| named("secret", "Secret", if value.get("name").is_some() { "/secretName" } else { "/name" }))
            .or_else(|| named("persistentVolumeClaim", "PersistentVolumeClaim", "/claimName"))
            .or_else(|| named("hostPath", "hostPath", "/path"));
        known.or_else(|| {
            let other = value.as_object()?.keys().find(|key| *key != "name")?;
            let (name, prefix) = (Redacted::default(), Redacted::default());
            Some(Reference { kind: self.redactor.redact(other), name, optional: false, prefix })
        })
    }

    fn reference(&self, kind: &'static str, name: &str, optional: bool) -> Reference {
        let prefix = Redacted::default();
        Reference { kind: Redacted::literal(kind), name: self.redactor.redact(name), optional, prefix }
    }
}

/// Names of the ConfigMaps that a pod template refers to, as the API server has it.
pub fn config_map_names(template: &Value) -> BTreeSet<String> {
    let volumes = json::list(template, "/spec/volumes").iter();
    let projected = volumes.clone().flat_map(|volume| json::list(volume, "/projected/sources"));
    let containers = ["/spec/initContainers", "/spec/containers"].into_iter().flat_map(|at| json::list(template, at));
    let from = containers.clone().flat_map(|container| json::list(container, "/envFrom"));
    let env = containers.flat_map(|container| json::list(container, "/env"));
    let names = volumes.chain(projected).map(|source| json::text(source, "/configMap/name"));
    let names = names.chain(from.map(|from| json::text(from, "/configMapRef/name")));
    let names = names.chain(env.map(|one| json::text(one, "/valueFrom/configMapKeyRef/name")));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::redact::Redactor;

    #[test]
    fn a_template_says_where_each_value_comes_from() {
        let value = json!({"spec": {
            "containers": [{"name": "app", "image": "a:1", "envFrom": [{"configMapRef": {"name": "all"}, "prefix": "APP_"}], "env": [
                {"name": "PASSWORD", "value": "hunter22"},
                {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "app-env", "key": "LEVEL"}}},
                {"name": "SAID", "value": "ConfigMap not-meant key LEVEL"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}],
            "volumes": [{"name": "a", "projected": {"sources": [
                {"configMap": {"name": "one"}}, {"secret": {"name": "two"}}, {"serviceAccountToken": {"path": "t"}}]}},
                {"name": "b", "secret": {"secretName": "tls"}}, {"name": "c", "emptyDir": {}}],
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, {"operator": "Exists"},
                {"key": "team", "operator": "Equal", "value": "red", "effect": "NoExecute", "tolerationSeconds": 60},
                {"key": "gpu", "effect": "NoSchedule"}]}});
        let redactor = Redactor::default();
        let template = Typed { redactor: &redactor }.template(&value);
        let env = &template.containers[0].env;
        assert!(env["PASSWORD"].as_str().starts_with("[redacted value"));
        assert_eq!(env["LEVEL"].as_str(), "ConfigMap app-env key LEVEL");
        assert_eq!(env["KEY"].as_str(), "Secret db key password");
        let sources: Vec<String> = template
            .volumes
            .iter()
            .filter_map(|v| v.source.as_ref().map(|s| format!("{} {}", s.kind, s.name)))
            .collect();
        assert_eq!(sources, ["ConfigMap one", "Secret two", "serviceAccountToken ", "Secret tls", "emptyDir "]);
        let tolerations: Vec<&str> = template.tolerations.iter().map(Redacted::as_str).collect();
        assert_eq!(
            tolerations,
            ["gpu:NoSchedule op=Exists", "* op=Exists", "team=red:NoExecute for 60s", "gpu:NoSchedule"]
        );
        assert_eq!(template.containers[0].env_from[0].prefix.as_str(), "APP_");
        assert_eq!(template.config_maps().into_keys().collect::<Vec<_>>(), ["all", "app-env", "one"]);
        assert_eq!(config_map_names(&value).into_iter().collect::<Vec<_>>(), ["all", "app-env", "one"]);
    }
}
