//! What a model says of the worst of what was seen: an investigation over a store that ends with the command.

use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::agent::llm::LlmOptions;
use crate::app::{Setup, Stages};
use crate::cli::look::card::Seen;
use crate::cli::model;
use crate::clock::Clock;
use crate::govern::policy::Policy;
use crate::model::{ApprovalState, Card, ClusterName, Incident, Investigation, InvestigationState, ObjectRef, Origin};
use crate::stages::Ran;
use crate::store::{Durability, Options, Store, Write};

/// Nobody is asked anything here: under a policy that keeps nothing from anybody what is refused is what the gate and the
/// tools themselves refuse, and no such step stands on the card as one to take.
const POLICY: &str =
    "approvers: [{who: [U0LOOK000], tiers: [reversible, destructive], namespaces: ['*'], cluster: true}]";
/// A provider that is to be asked once more is asked some seconds later: the wait is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A model with what it is asked through.
pub(super) struct Asking {
    setup: Setup,
    model: String,
    host: String,
    _scratch: TempDir,
}

/// A store in a temporary folder, which is gone when that is dropped.
pub(super) async fn store(cluster: &ClusterName, clock: &Clock) -> anyhow::Result<(Store, TempDir)> {
    let scratch = tempfile::Builder::new().prefix("firstlook-look-").tempdir().context("a temporary folder")?;
    let url = format!("sqlite:{}", scratch.path().join("look.db").display());
    Ok((Store::open(&url, clock.clone(), Options::new(cluster.clone())).await?, scratch))
}

impl Asking {
    pub(super) fn new(setup: Setup, llm: LlmOptions, scratch: TempDir) -> anyhow::Result<Self> {
        let (model, host) = (llm.model.clone(), model::host(&llm.base_url).unwrap_or_default().to_owned());
        let setup = Setup { llm: Some(llm), policy: Policy::parse(POLICY, "the look's policy")?, ..setup };
        Ok(Self { setup, model, host, _scratch: scratch })
    }

    /// Lets the model look further; its report then stands on the card, or why there is none.
    pub(super) async fn about(&self, seen: &mut Seen) -> anyhow::Result<()> {
        let card = tokio::select! {
            card = self.investigated(&seen.card) => card?,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted while the model was asked"),
        };
        self.setup.store.close().await;
        seen.card.incident.investigation = card.incident.investigation;
        seen.card.findings = card.findings;
        if let Some(mut report) = card.report.filter(|report| report.origin == Origin::Model) {
            let refused: Vec<_> =
                card.approvals.into_iter().filter(|one| one.state == ApprovalState::Refused).collect();
            report.proposals.retain(|proposal| refused.iter().all(|one| one.proposal != *proposal));
            seen.card.report = Some(report);
            seen.card.approvals = refused;
        }
        Ok(())
    }

    /// The card as it is when the investigation is at its end.
    async fn investigated(&self, card: &Card) -> anyhow::Result<Card> {
        let Setup { store, .. } = &self.setup;
        let id = &card.incident.id;
        store.commit(opening(card), Durability::Durable, None).await?;
        let stages = Stages::new(&self.setup).await?;
        let request = stages.request(id).await?.map_or(0, |request| model::tokens(request.to_string().len()));
        let told = Told { model: &self.model, host: &self.host, about: &card.incident.subject, request };
        loop {
            let card = store.card(id).await?.context("the store lost what was looked at")?;
            let investigation = &card.incident.investigation;
            if !matches!(investigation.state, InvestigationState::Waiting | InvestigationState::Running) {
                told.end(investigation);
                return Ok(card);
            }
            told.progress(investigation);
            if stages.investigate().await? == Ran::Idle {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// What an investigation begins with: what was looked at already, so that nothing is read twice.
fn opening(card: &Card) -> Vec<Write> {
    let incident =
        Incident { investigation: Investigation::unbegun(InvestigationState::Waiting), ..card.incident.clone() };
    let id = || incident.id.clone();
    let mut writes = vec![Write::Findings { incident: id(), findings: card.findings.clone() }];
    writes.extend(card.report.iter().map(|report| Write::Report { incident: id(), report: Box::new(report.clone()) }));
    if let Some(scene) = &card.scene {
        let evidence = scene.evidence.iter().cloned();
        writes.extend(evidence.map(|evidence| Write::Evidence { incident: id(), evidence, replace: false }));
        writes.push(Write::Scene { scene: Box::new(scene.as_ref().clone()) });
    }
    writes.insert(0, Write::Incident(Box::new(incident.clone())));
    writes
}

/// What is said of what leaves the cluster, on standard error.
struct Told<'a> {
    model: &'a str,
    host: &'a str,
    about: &'a ObjectRef,
    /// The first request, in tokens.
    request: usize,
}

impl Told<'_> {
    /// For whoever waits at a terminal.
    fn progress(&self, now: &Investigation) {
        let mut err = std::io::stderr();
        if !err.is_terminal() {
            return;
        }
        let so_far = match now.turns {
            0 => format!("a first request of about {} tokens, redacted", self.request),
            turns => format!("turn {} of {}, {} tokens so far", turns + 1, now.turns_max, now.input_tokens),
        };
        // A terminal that is gone shows nothing.
        let _ = write!(err, "\r\x1b[K{} at {} is asked about {}: {so_far} …", self.model, self.host, self.about);
    }

    /// Once, whatever came of it.
    fn end(&self, now: &Investigation) {
        let clear = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
        let sent = match now.turns {
            0 => format!("a request of about {} tokens, which got no answer", self.request),
            1 => format!("{} tokens in 1 turn", now.input_tokens),
            turns => format!("{} tokens in {turns} turns", now.input_tokens),
        };
        eprintln!("{clear}sent, redacted, to {} at {} about {}: {sent}", self.model, self.host, self.about);
    }
}
