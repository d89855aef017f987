//! Services of other namespaces that the subject calls, or would have to: by full names, by short ones, and the DNS.

use std::collections::BTreeMap;
use std::future::Future;

use futures::future::try_join_all;
use serde_json::Value;

use crate::model::scene::{LogLine, LogTail, ServiceLink};
use crate::model::{Kind, Lookup, Name, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::scene::Look;
use crate::observe::scene::backing::Said;
use crate::observe::scene::named::{Called, called};
use crate::observe::typed::network::Joined;
use crate::redact::Redacted;
use crate::text;

/// Services of other namespaces that a scene holds.
const SERVICES_MAX: usize = 10;
/// The DNS of the cluster, as a text would name it: every distribution keeps this Service, whatever answers behind it.
const DNS: &str = "kube-dns.kube-system.svc";
/// Short names that do not resolve, and Services of one such name in other namespaces: more are guesses.
const NAMESAKES_MAX: usize = 3;

impl Look<'_> {
    /// The Services of other namespaces that matter, each with the reason. What this account may not read is left out.
    pub(super) async fn elsewhere(
        &self,
        services: &[Value],
        said: &Said<'_>,
    ) -> Result<Vec<(Value, Joined)>, ReadError> {
        let foreign = self.foreign(said);
        let (found, namesakes) = tokio::join!(
            try_join_all(foreign.keys().map(|service| beyond(self.reader.get(service)))),
            self.namesakes(services, said.logs),
        );
        let found = found?.into_iter().zip(foreign).filter_map(|(value, (_, joined))| Some((value.flatten()?, joined)));
        let mut all: Vec<(Value, Joined)> = found.collect();
        all.extend(namesakes?);
        Ok(all)
    }

    /// Services of other namespaces that bear a short name which logs say does not resolve here.
    async fn namesakes(&self, services: &[Value], logs: &[LogTail]) -> Result<Vec<(Value, Joined)>, ReadError> {
        let stands = |name: &str| services.iter().any(|service| json::text(service, "/metadata/name") == name);
        let mut wanted = BTreeMap::new();
        for (log, line) in logs.iter().flat_map(|log| log.lines.iter().map(move |line| (log, line))) {
            let Some(Lookup::Absent(host)) = Lookup::of(&line.text) else { continue };
            if let Some(name) = Name::parse(host.as_str()).filter(|name| !name.as_str().contains('.'))
                && !stands(name.as_str())
                && wanted.len() < NAMESAKES_MAX
            {
                wanted.entry(name).or_insert_with(|| text!("of the name that the log of {} asks for", log.pod));
            }
        }
        let ask = |name: &Name| Selector::fields(format!("metadata.name={name}")).at_most(NAMESAKES_MAX);
        let lists = wanted.keys().map(|name| {
            let ask = ask(name);
            async move { beyond(self.reader.list(Kind::Service, None, &ask)).await }
        });
        let found = try_join_all(lists).await?.into_iter().zip(wanted.into_values());
        Ok(found
            .flat_map(|(list, because)| {
                list.into_iter().flatten().map(move |value| (value, (ServiceLink::Namesake, because.clone())))
            })
            .collect())
    }

    /// Services of other namespaces that logs, variables or the signals name.
    fn foreign(&self, said: &Said<'_>) -> BTreeMap<ObjectRef, Joined> {
        let mut found = BTreeMap::new();
        let mut add = |text: &str, link: ServiceLink, because: &Redacted| {
            for call in called(text) {
                if let Called::Full(name, namespace) = call
                    && Some(namespace.as_str()) != self.namespace()
                    && let Some(service) = ObjectRef::new(Kind::Service, Some(&namespace), &name)
                {
                    found.entry(service).or_insert_with(|| (link, because.clone()));
                }
            }
        };
        for refusal in &said.refusals {
            add(refusal, ServiceLink::Refuses, &Redacted::literal("named by what refuses the subject's pods"));
        }
        for log in said.logs {
            let because = text!("named in the log of {}", log.pod);
            let silent = |line: &LogLine| matches!(Lookup::of(&line.text), Some(Lookup::Silent(_)));
            if log.lines.iter().any(silent) {
                add(DNS, ServiceLink::Silent, &text!("did not answer {}", log.pod));
            }
            log.lines.iter().for_each(|line| add(line.text.as_str(), ServiceLink::Logged, &because));
        }
        for (place, value) in self.spoken() {
            add(value.as_str(), ServiceLink::Told, &text!("named by {}", place));
        }
        for hint in self.hints.iter().filter(|hint| hint.kind == Kind::Service) {
            if Some(hint.namespace()) != self.namespace() {
                found.entry(hint.clone()).or_insert((ServiceLink::Heard, Redacted::literal("named by the alert")));
            }
        }
        while found.len() > SERVICES_MAX {
            found.pop_last();
        }
        found
    }
}

/// A read of another namespace, which may be closed to this account.
async fn beyond<T>(read: impl Future<Output = Result<T, ReadError>>) -> Result<Option<T>, ReadError> {
    match read.await {
        Err(ReadError::Forbidden(_)) => Ok(None),
        read => read.map(Some),
    }
}
