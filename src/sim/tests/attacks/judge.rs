//! What must hold after an attack, counted where it would have done harm: at the API server, on Slack, at the model, with
//! the callers, and in the database's own bytes.

use std::sync::{Mutex, Once, PoisonError};

use crate::sim::cluster::Request;
use crate::sim::tests::attacks::doors::KEEPER;
use crate::sim::tests::attacks::siege::{ACCOUNTS, Siege};
use crate::sim::tests::attacks::world::VAULT;

impl Siege {
    /// Everything that is not as it must be.
    pub(super) async fn judge(&self) -> Vec<String> {
        let mut found = self.at_the_api_server();
        found.extend(self.in_sight());
        found.extend(self.beside.judge(&self.case.holds.muted));
        found.extend(self.in_the_store().await);
        found
    }

    fn at_the_api_server(&self) -> Vec<String> {
        let holds = &self.case.holds;
        let mut found = Vec::new();
        let all = || self.asked.iter().chain(&self.stolen);
        let carried_out = |request: &&Request| is_change(request) && is_done(request) && !is_rehearsal(request);
        let writes: Vec<String> = all().filter(carried_out).map(|r| format!("{} {}", r.method, r.path)).collect();
        if writes.len() != holds.writes {
            found.push(format!("{} writes instead of {}: {}", writes.len(), holds.writes, writes.join(", ")));
        }
        for request in self.asked.iter().filter(|request| is_change(request)) {
            if !holds.targets.iter().any(|target| target == path_of(request)) {
                found.push(format!("out of scope: {} {}", request.method, request.path));
            }
        }
        for path in &holds.paths {
            let named = all().filter(|request| path_of(request).contains(path.as_str()));
            found.extend(named.map(|request| format!("{path:?} is in {} {}", request.method, request.path)));
        }
        for request in all().filter(|request| request.path.contains("/secrets") && is_done(request)) {
            found.push(format!("a secret was read: {} {}", request.method, request.path));
        }
        found
    }

    /// What was shown to people, the model and callers.
    fn in_sight(&self) -> Vec<String> {
        let (holds, world) = (&self.case.holds, &self.town.world);
        let slack: Vec<String> = world.slack.messages().iter().map(|message| format!("{message:?}")).collect();
        let model: Vec<String> = world.model.requests().iter().map(|request| request.body.to_string()).collect();
        let told: Vec<String> = self.answers.iter().map(|(_, text)| text.clone()).collect();
        let others: Vec<String> =
            self.answers.iter().filter(|(caller, _)| caller != KEEPER).map(|(_, text)| text.clone()).collect();
        let mut found = Vec::new();
        let mut never = |what: &str, wheres: &[(&str, &[String])]| {
            for (place, texts) in wheres {
                if texts.iter().any(|text| text.contains(what)) {
                    found.push(format!("{what:?} was shown {place}"));
                }
            }
        };
        let everywhere: [(&str, &[String]); 3] =
            [("on Slack", &slack), ("to the model", &model), ("to a caller", &told)];
        for secret in holds.secrets.iter().cloned().chain(self.own_secrets()) {
            never(&secret, &everywhere);
        }
        never(VAULT, &[("on Slack", &slack), ("to the model", &model), ("to a caller", &others)]);
        for text in &holds.unseen {
            never(text, &[("on Slack", &slack), ("to a caller", &told)]);
        }
        for text in &holds.on_slack {
            never(text, &[("on Slack", &slack)]);
        }
        let plain: Vec<String> = world.slack.messages().iter().map(|message| message.plain()).collect();
        for text in holds.shown.iter().filter(|text| !plain.iter().any(|shown| shown.contains(text.as_str()))) {
            found.push(format!("{text:?} is not on Slack: {plain:#?}"));
        }
        found
    }

    async fn in_the_store(&self) -> Vec<String> {
        let holds = &self.case.holds;
        let mut found = Vec::new();
        if let Some(wanted) = holds.incidents {
            let incidents = self.incidents().await;
            if incidents.len() != wanted {
                let subjects: Vec<String> = incidents.iter().map(|incident| incident.subject.to_string()).collect();
                found.push(format!("{} incidents instead of {wanted}: {}", incidents.len(), subjects.join(", ")));
            }
        }
        if let Some(wanted) = &holds.approvals {
            let approvals = self.approvals().await;
            let states: Vec<&str> = approvals.iter().map(|approval| approval.state.as_str()).collect();
            if states != *wanted {
                let why: Vec<String> = approvals
                    .iter()
                    .map(|a| format!("{} of {}: {}", a.proposal.tool(), a.proposal.object(), a.because))
                    .collect();
                found.push(format!("approvals are {states:?} instead of {wanted:?} ({})", why.join("; ")));
            }
        }
        if let Some(most) = holds.audited_of_outside {
            self.town.stages.gate.flush().await;
            let mut entries = 0;
            let count = |line: &str| {
                entries += usize::from(line.contains("\"kind\":\"outside\""));
                Ok(())
            };
            self.town.store.audit_export(count).await.unwrap();
            if entries > most {
                found.push(format!("{entries} entries of the audit about calls from outside instead of {most}"));
            }
        }
        for entry in std::fs::read_dir(self.town._scratch.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for secret in holds.secrets.iter().cloned().chain(self.own_secrets()) {
                if bytes.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                    found.push(format!("{secret:?} is in the database"));
                }
            }
        }
        found
    }

    /// What firstlook itself must not tell: its credentials.
    fn own_secrets(&self) -> Vec<String> {
        let options = self.town.world.slack.options();
        let tokens = ACCOUNTS.map(|account| self.town.world.cluster.token_for(account));
        [&options.bot_token, &options.app_token, &options.signing_secret].into_iter().cloned().chain(tokens).collect()
    }
}

fn is_change(request: &Request) -> bool {
    // A token is asked for and dropped; a review asks about oneself.
    let is_question = path_of(request).ends_with("/token") || path_of(request).contains("reviews");
    !matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS") && !is_question
}

fn path_of(request: &Request) -> &str {
    request.path.split('?').next().unwrap_or_default()
}

fn is_rehearsal(request: &Request) -> bool {
    request.path.contains("dryRun=All")
}

fn is_done(request: &Request) -> bool {
    (200..300).contains(&request.status)
}

/// What panicked, with the name of its thread.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
static LISTEN: Once = Once::new();

/// How many panics a thread has had; listens from now on.
pub(super) fn panics_before(thread: &str) -> usize {
    LISTEN.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let name = std::thread::current().name().unwrap_or("a thread").to_owned();
            PANICS.lock().unwrap_or_else(PoisonError::into_inner).push((name, info.to_string()));
            usual(info);
        }));
    });
    panics_of(thread).len()
}

/// The panics of a thread since then.
pub(super) fn panics_since(thread: &str, before: usize) -> Vec<String> {
    panics_of(thread).into_iter().skip(before).map(|what| format!("a panic: {what}")).collect()
}

fn panics_of(thread: &str) -> Vec<String> {
    let all = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter(|(name, _)| name == thread).map(|(_, what)| what.clone()).collect()
}
