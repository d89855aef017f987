//! Services that select the subject's pods or that it calls, what stands behind them, and the ways in from outside.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::Value;

use crate::model::scene::{
    Astray, Change, Ingress, IngressClass, LogLine, LogTail, NearMiss, Part, ScenePart, Service, ServiceLink, Traffic,
};
use crate::model::{Kind, Lookup, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::scene::backing::{Backing, Said};
use crate::observe::scene::named::{Called, called, near};
use crate::observe::scene::page::Page;
use crate::observe::scene::pods::near_miss;
use crate::observe::scene::policies::Bar;
use crate::observe::scene::{Look, Shared};
use crate::observe::typed::network::{Joined, backends};
use crate::observe::typed::workload::{selector, selects};
use crate::redact::Redacted;
use crate::text;

/// Services, and Ingresses, of a namespace that are looked through.
const SEARCHED_MAX: usize = 500;
/// Services that a scene holds.
const SERVICES_MAX: usize = 10;
/// Ingresses that a scene holds.
const INGRESSES_MAX: usize = 10;
/// IngressClasses of a cluster.
const CLASSES_MAX: usize = 50;
/// Pods of a namespace that are looked through for near misses.
const PODS_MAX: usize = 500;
/// Pods that a Service selects, counted up to here.
const SELECTED_MAX: usize = 250;
/// EndpointSlices of one Service: each holds up to 100 endpoints.
const SLICES_MAX: usize = 10;
/// Names near one that does not exist.
const NEAR_MAX: usize = 3;
/// Near misses of one Service.
const MISSES_MAX: usize = 5;

/// The part, each kind readable or not by itself.
pub(super) struct Network {
    pub(super) services: Part<Vec<Service>>,
    pub(super) ingresses: Part<Vec<Ingress>>,
    pub(super) classes: Part<Vec<IngressClass>>,
    pub(super) traffic: Part<Option<Traffic>>,
    pub(super) changes: Vec<Change>,
    pub(super) page: Page,
    pub(super) missing: Vec<Redacted>,
}

/// A Service with what was read behind it.
struct Behind {
    value: Value,
    joined: Joined,
    slices: Vec<Value>,
    selected: usize,
    misses: Vec<Miss>,
    backing: Backing,
    astray: Vec<Astray>,
    bar: Option<Bar>,
}

struct Miss {
    label: String,
    wanted: String,
    found: String,
    pods: u32,
    of: Option<ObjectRef>,
    example: Value,
}

impl Look<'_> {
    /// The Services of the subject's namespace.
    pub(super) async fn services(&self) -> Result<Vec<Value>, ReadError> {
        self.in_namespace(Kind::Service).await
    }

    /// The Ingresses of the subject's namespace.
    pub(super) async fn ingresses(&self) -> Result<Vec<Value>, ReadError> {
        self.in_namespace(Kind::Ingress).await
    }

    async fn in_namespace(&self, kind: Kind) -> Result<Vec<Value>, ReadError> {
        match self.namespace() {
            Some(namespace) => self.reader.list(kind, Some(namespace), &Selector::all().at_most(SEARCHED_MAX)).await,
            None => Ok(Vec::new()),
        }
    }

    pub(super) async fn network(
        &self,
        services: Result<Vec<Value>, Redacted>,
        (ingresses, policies): (Result<Vec<Value>, Redacted>, Result<Vec<Value>, Redacted>),
        said: &Said<'_>,
        pods: &Shared,
        around: &[Value],
    ) -> Network {
        let mut network = Network {
            services: Part::Known(Vec::new()),
            ingresses: Part::Known(Vec::new()),
            classes: Part::Known(Vec::new()),
            traffic: Part::default(),
            changes: Vec::new(),
            page: Page::new(ScenePart::Network),
            missing: Vec::new(),
        };
        let all = services.as_deref().ok().filter(|services| services.len() < SEARCHED_MAX);
        let names = all.map(|all| all.iter().map(|service| json::text(service, "/metadata/name").to_owned()).collect());
        let policies = policies.unwrap_or_else(|why| {
            network.missing.push(text!("NetworkPolicies: {}", why));
            Vec::new()
        });
        let behind = match services {
            Ok(services) => self.part(self.behind(&services, said, pods, (around, &policies))).await,
            Err(why) => Err(why),
        };
        match behind {
            Ok(behind) => network.services = Part::Known(self.tell_services(behind, &mut network)),
            Err(why) => {
                network.missing.push(why.clone());
                network.services = Part::Missing(why);
            }
        }
        match ingresses {
            Ok(ingresses) => self.tell_ingresses(&ingresses, names, &mut network).await,
            Err(why) => {
                network.missing.push(why.clone());
                network.ingresses = Part::Missing(why.clone());
                network.classes = Part::Missing(why);
            }
        }
        // Last: a Prometheus that is slow keeps nothing else from being read.
        network.traffic = self.traffic(&network.services, &mut network.page).await;
        network
    }

    /// The Services that matter, with what stands behind each.
    async fn behind(
        &self,
        services: &[Value],
        said: &Said<'_>,
        pods: &Shared,
        (around, policies): (&[Value], &[Value]),
    ) -> Result<Vec<Behind>, ReadError> {
        let mut chosen = self.choose(services, said.logs, pods);
        chosen.extend(self.elsewhere(services, said).await?);
        chosen.truncate(SERVICES_MAX);
        let read = chosen.into_iter().map(|(value, joined)| async move {
            let elsewhere = Some(json::text(&value, "/metadata/namespace")) != self.namespace();
            match self.behind_one(value, joined, (around, policies)).await {
                // What stands behind a Service elsewhere may be closed to this account; the others are worth telling.
                Err(ReadError::Forbidden(_)) if elsewhere => Ok(None),
                read => read.map(Some),
            }
        });
        let read: Result<Vec<Option<Behind>>, ReadError> = join_all(read).await.into_iter().collect();
        Ok(read?.into_iter().flatten().collect())
    }

    async fn behind_one(
        &self,
        value: Value,
        joined: Joined,
        (around, policies): (&[Value], &[Value]),
    ) -> Result<Behind, ReadError> {
        let namespace = json::text(&value, "/metadata/namespace").to_owned();
        let name = json::text(&value, "/metadata/name");
        let slices = Selector::labels(format!("kubernetes.io/service-name={name}")).at_most(SLICES_MAX);
        let slices = self.reader.list(Kind::EndpointSlice, Some(&namespace), &slices).await?;
        let selected = match selector(&value) {
            Some(labels) => {
                let ask = Selector::labels(labels).at_most(SELECTED_MAX);
                self.reader.list(Kind::Pod, Some(&namespace), &ask).await?
            }
            None => Vec::new(),
        };
        let misses = if selected.is_empty() { self.misses(&value, &namespace).await? } else { Vec::new() };
        let backing = self.backing(&value, &slices, &selected, around).await;
        let astray = self.astray(&value, &selected);
        // What cannot be read of another namespace is no ground for saying that it bars anybody.
        let bar = match Some(namespace.as_str()) == self.namespace() {
            true => self.bar(&value, &selected, policies, policies),
            false => {
                let theirs = self.policies(Some(&namespace)).await.unwrap_or_default();
                self.bar(&value, &selected, policies, &theirs)
            }
        };
        Ok(Behind { value, joined, slices, selected: selected.len(), misses, backing, astray, bar })
    }

    /// Services of the namespace that matter, each with the reason, most telling reason first.
    fn choose(&self, services: &[Value], logs: &[LogTail], pods: &Shared) -> Vec<(Value, Joined)> {
        let own = match self.subject.kind {
            Kind::Pod => self.root.pointer("/metadata/labels"),
            _ => self.root.pointer("/spec/template/metadata/labels"),
        };
        let own = own.unwrap_or(&Value::Null);
        let behind = if self.subject.kind == Kind::Ingress { backends(&self.root) } else { BTreeSet::new() };
        let mut chosen: Vec<(Value, Joined)> = Vec::new();
        for service in services {
            let Some(object) = json::reference(service) else { continue };
            let wanted = service.pointer("/spec/selector").unwrap_or(&Value::Null);
            let selects_pods = || {
                pods.raw.iter().any(|pod| {
                    self.subject.kind.is_workload()
                        && pod.pointer("/metadata/labels").is_some_and(|l| selects(wanted, l))
                })
            };
            let says = if object == *self.subject {
                Some((ServiceLink::Itself, Redacted::literal("it is the subject")))
            } else if selects(wanted, own) || selects_pods() {
                Some((ServiceLink::Selects, Redacted::literal("selects the subject's pods")))
            } else if behind.contains(object.name()) {
                Some((ServiceLink::LedTo, text!("behind {}", self.subject)))
            } else if let Some(pod) = logs.iter().find(|log| speaks_of(log, service)).map(|log| &log.pod) {
                Some((ServiceLink::Logged, text!("named in the log of {}", pod)))
            } else if self.hints.contains(&object) {
                Some((ServiceLink::Heard, Redacted::literal("named by the alert")))
            } else if let Some(place) = self.named_in(service) {
                Some((ServiceLink::Told, text!("named by {}", place)))
            } else if misses_by_one(wanted, own) {
                Some((ServiceLink::Misses, Redacted::literal("its selector misses the subject's pods by one label")))
            } else {
                None
            };
            chosen.extend(says.map(|joined| (service.clone(), joined)));
        }
        chosen.sort_by_key(|(_, (link, _))| *link);
        chosen
    }

    /// The place in the template that names this Service.
    fn named_in(&self, service: &Value) -> Option<Redacted> {
        let names =
            |text: &Redacted| called(text.as_str()).iter().any(|call| is_called(call, service, self.namespace()));
        self.spoken().into_iter().find(|(_, text)| names(text)).map(|(place, _)| place)
    }

    /// What the template says that may name a Service: variables, commands, arguments.
    pub(super) fn spoken(&self) -> Vec<(Redacted, &Redacted)> {
        let mut spoken = Vec::new();
        for container in &self.template.containers {
            for (name, value) in &container.env {
                spoken.push((text!("the variable {}", self.typed.redactor.redact(name)), value));
            }
            for word in container.command.iter().chain(&container.args) {
                spoken.push((text!("the command of container {}", container.name), word));
            }
        }
        spoken
    }

    /// Pods that carry all labels of a Service's selector but one; of a single label, those whose value is nearly it.
    async fn misses(&self, service: &Value, namespace: &str) -> Result<Vec<Miss>, ReadError> {
        let Some(wanted) = service.pointer("/spec/selector").filter(|selector| selector.is_object()) else {
            return Ok(Vec::new());
        };
        let pods = self.reader.list(Kind::Pod, Some(namespace), &Selector::all().at_most(PODS_MAX)).await?;
        let mut found: BTreeMap<(String, String, Option<ObjectRef>), Miss> = BTreeMap::new();
        for pod in pods {
            let Some((label, wants, has)) = near_miss(wanted, &pod) else { continue };
            let (label, has) = (label.to_owned(), has.to_owned());
            let of = self.owners.of(&pod).await?;
            let miss = found.entry((label.clone(), has.clone(), of.clone())).or_insert_with(|| Miss {
                label,
                wanted: wants.to_owned(),
                found: has,
                pods: 0,
                of,
                example: pod.clone(),
            });
            miss.pods += 1;
        }
        let mut misses: Vec<Miss> = found.into_values().collect();
        misses.sort_by_key(|miss| std::cmp::Reverse(miss.pods));
        misses.truncate(MISSES_MAX);
        Ok(misses)
    }

    fn tell_services(&self, behind: Vec<Behind>, network: &mut Network) -> Vec<Service> {
        let redactor = self.typed.redactor;
        let mut services = Vec::new();
        for Behind { value, joined, slices, selected, misses, backing, astray, bar } in behind {
            let at = network.page.object(&value, redactor);
            for slice in slices.iter().take(2) {
                network.page.object(slice, redactor);
            }
            let Some(mut service) = self.typed.service(&value, &slices, joined, at) else { continue };
            service.pods_selected = u32::try_from(selected).unwrap_or(u32::MAX);
            service.near = misses
                .into_iter()
                .map(|miss| NearMiss {
                    label: redactor.redact(&miss.label),
                    wanted: redactor.redact(&miss.wanted),
                    found: redactor.redact(&miss.found),
                    pods: miss.pods,
                    of: miss.of,
                    at: network.page.object(&miss.example, redactor),
                })
                .collect();
            service.astray = astray;
            self.tell_backing(backing, &mut service, &mut network.page);
            self.tell_bar(bar, &mut service, &mut network.page);
            network.changes.extend(self.recent(&value, at));
            services.push(service);
        }
        services
    }

    async fn tell_ingresses(&self, ingresses: &[Value], names: Option<BTreeSet<String>>, network: &mut Network) {
        let services: BTreeSet<&str> = network.services.items().iter().map(|service| service.object.name()).collect();
        let matters = |ingress: &&Value| {
            json::reference(ingress).is_some_and(|o| o == *self.subject || self.hints.contains(&o))
                || backends(ingress).iter().any(|name| services.contains(name))
        };
        let kept: Vec<Value> = ingresses.iter().filter(matters).take(INGRESSES_MAX).cloned().collect();
        let mut told = Vec::new();
        for ingress in &kept {
            let at = network.page.object(ingress, self.typed.redactor);
            if let Some(mut own) = self.typed.ingress(ingress, at) {
                own.absent = names.as_ref().map_or_else(Vec::new, |names| self.absent_backends(ingress, names));
                told.push(own);
            }
            network.changes.extend(self.recent(ingress, at));
        }
        network.ingresses = Part::Known(told);
        if kept.is_empty() {
            return;
        }
        let ask = Selector::all().at_most(CLASSES_MAX);
        match self.part(self.reader.list(Kind::IngressClass, None, &ask)).await {
            Ok(classes) => {
                let tell = |class: &Value| {
                    let at = network.page.object(class, self.typed.redactor);
                    self.typed.ingress_class(class, at)
                };
                network.classes = Part::Known(classes.iter().map(tell).collect());
            }
            Err(why) => {
                network.missing.push(why.clone());
                network.classes = Part::Missing(why);
            }
        }
    }

    /// The Services behind an Ingress that do not exist, each with near names that do.
    fn absent_backends(&self, ingress: &Value, names: &BTreeSet<String>) -> Vec<(Redacted, Vec<Redacted>)> {
        let absent = backends(ingress).into_iter().filter(|name| !names.contains(*name));
        let close = |name: &str| {
            let close = names.iter().filter(|other| near(name, other)).take(NEAR_MAX);
            close.map(|other| self.typed.redactor.redact(other)).collect()
        };
        absent.map(|name| (self.typed.redactor.redact(name), close(name))).collect()
    }
}

fn speaks_of(log: &LogTail, service: &Value) -> bool {
    let namespace = Some(log.pod.namespace());
    log.lines.iter().any(|line| {
        let calls = called(line.text.as_str());
        calls.iter().any(|call| is_called(call, service, namespace)) || asks_for(line, service, namespace)
    })
}

/// Whether a line says that this Service's name was looked up in vain.
fn asks_for(line: &LogLine, service: &Value, namespace: Option<&str>) -> bool {
    let (Some(Lookup::Absent(host)) | Some(Lookup::Silent(Some(host)))) = Lookup::of(&line.text) else { return false };
    let mut labels = host.as_str().split('.');
    let (name, place) = (labels.next(), labels.next().or(namespace));
    name == Some(json::text(service, "/metadata/name")) && place == Some(json::text(service, "/metadata/namespace"))
}

/// Whether a call from `namespace` goes to this Service.
fn is_called(call: &Called, service: &Value, namespace: Option<&str>) -> bool {
    let (own, place) = (json::text(service, "/metadata/name"), json::text(service, "/metadata/namespace"));
    match call {
        Called::Name(name) => name == own && Some(place) == namespace,
        Called::Full(name, from) => name == own && from == place,
        Called::Address(address) => json::text(service, "/spec/clusterIP") == address,
    }
}

/// Whether a selector of two labels or more holds for these labels but for one.
fn misses_by_one(selector: &Value, labels: &Value) -> bool {
    let wanted: Vec<_> = json::pairs(selector, "").collect();
    let off = wanted.iter().filter(|(key, value)| labels.get(key.as_str()) != Some(value)).count();
    wanted.len() >= 2 && off == 1
}
