//! Services, Ingresses and their classes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::scene::{At, Ingress, IngressClass, Service, ServiceLink};
use crate::observe::json;
use crate::observe::typed::Typed;
use crate::redact::Redacted;
use crate::text;

/// The annotation that named an Ingress's class before the field did.
const OLD_CLASS: &str = "kubernetes.io/ingress.class";

/// What joins a Service to the subject, as a fact and in words.
pub type Joined = (ServiceLink, Redacted);

impl Typed<'_> {
    /// A Service with its EndpointSlices; which pods it selects or misses is for the caller to add.
    pub fn service(&self, value: &Value, slices: &[Value], (link, because): Joined, at: At) -> Option<Service> {
        let written = json::spec_written(value);
        let endpoints = one_family(slices).flat_map(|slice| json::list(slice, "/endpoints"));
        // A condition that is not there counts as ready, as kube-proxy has it.
        let ready = |e: &&Value| e.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
        let (ready, not_ready): (Vec<_>, Vec<_>) = endpoints.partition(ready);
        Some(Service {
            object: json::reference(value)?,
            created_at: json::created(value),
            changed_at: written.map(|(at, _)| at),
            changed_by: written.map(|(_, by)| self.redactor.redact(by)),
            selector: self.map(value, "/spec/selector"),
            external_name: self.some_text(value, "/spec/externalName"),
            ports: json::list(value, "/spec/ports").iter().map(|port| self.port(port)).collect(),
            ready_endpoints: u32::try_from(ready.len()).unwrap_or(u32::MAX),
            not_ready_endpoints: u32::try_from(not_ready.len()).unwrap_or(u32::MAX),
            pods_selected: 0,
            near: Vec::new(),
            behind: None,
            failing: None,
            astray: Vec::new(),
            barred: None,
            link,
            because,
            at,
        })
    }

    /// `80->8080`, `80->http`.
    fn port(&self, port: &Value) -> Redacted {
        let number = json::number(port, "/port").unwrap_or(0);
        match port.get("targetPort") {
            Some(Value::Number(target)) => text!("{}->{}", number, target.as_i64().unwrap_or(0)),
            Some(Value::String(target)) => text!("{}->{}", number, self.redactor.redact(target)),
            _ => text!("{}->{}", number, number),
        }
    }

    /// An Ingress.
    pub fn ingress(&self, value: &Value, at: At) -> Option<Ingress> {
        let old = value.pointer("/metadata/annotations").and_then(|all| all.get(OLD_CLASS)).and_then(Value::as_str);
        Some(Ingress {
            object: json::reference(value)?,
            created_at: json::created(value),
            class: self.some_text(value, "/spec/ingressClassName"),
            annotated: old.map(|class| self.redactor.redact(class)),
            hosts: hosts(value).into_iter().map(|host| self.redactor.redact(host)).collect(),
            services: backends(value).into_iter().map(|name| self.redactor.redact(name)).collect(),
            absent: Vec::new(),
            has_address: !json::list(value, "/status/loadBalancer/ingress").is_empty(),
            at,
        })
    }

    /// An IngressClass.
    pub fn ingress_class(&self, value: &Value, at: At) -> IngressClass {
        let annotations = value.pointer("/metadata/annotations");
        let default = annotations.and_then(|all| all.get("ingressclass.kubernetes.io/is-default-class"));
        IngressClass {
            name: self.text(value, "/metadata/name"),
            default: default.and_then(Value::as_str) == Some("true"),
            at,
        }
    }
}

/// The slices of one address family: a dual-stack Service has each pod in those of both.
fn one_family(slices: &[Value]) -> impl Iterator<Item = &Value> {
    let family = |slice: &Value| json::text(slice, "/addressType").to_owned();
    let held = |of: &str| -> usize {
        let own = slices.iter().filter(|slice| family(slice) == of);
        own.map(|slice| json::list(slice, "/endpoints").len()).sum()
    };
    let fullest = slices.iter().map(family).max_by_key(|of| held(of)).unwrap_or_default();
    slices.iter().filter(move |slice| family(slice) == fullest)
}

/// The hosts of an Ingress, without repeats.
pub fn hosts(ingress: &Value) -> BTreeSet<&str> {
    let rules = json::list(ingress, "/spec/rules").iter().map(|rule| json::text(rule, "/host"));
    rules.filter(|host| !host.is_empty()).collect()
}

/// The names of the Services behind an Ingress.
pub fn backends(ingress: &Value) -> BTreeSet<&str> {
    let paths = json::list(ingress, "/spec/rules").iter().flat_map(|rule| json::list(rule, "/http/paths"));
    let backends = paths.map(|path| json::text(path, "/backend/service/name"));
    let default = json::text(ingress, "/spec/defaultBackend/service/name");
    backends.chain([default]).filter(|name| !name.is_empty()).collect()
}

/// Whether a host matches one of an Ingress's, a leading `*.` standing for one label.
pub fn serves(ingress: &Value, host: &str) -> bool {
    hosts(ingress).into_iter().any(|own| match own.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(_, after)| after == rest),
        None => own.eq_ignore_ascii_case(host),
    })
}
