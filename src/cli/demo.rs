//! `firstlook demo`: the whole story in an embedded world, on a page with working buttons or, with `--once`, by itself.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cli::DemoArgs;
use crate::clock::Clock;
use crate::model::{Approval, ApprovalState, Incident, IncidentState, Kind, Verification};
use crate::sim::alerts::Alerts;
use crate::sim::narrator::{Line, Narrator};
use crate::sim::slack::{Delivery, Slack, SlackOptions};
use crate::sim::world::{APPROVER, Living, Scenario, World};
use crate::slack::render::APPROVE;

/// The page is open by then, so that its reader sees the first card appear.
const BEFORE_TROUBLE: Duration = Duration::from_secs(1);
/// Between two alerts of the same fault.
const BETWEEN_ALERTS: Duration = Duration::from_secs(3);
/// How long the model thinks before each answer, so that a person can follow.
const MODEL_DELAY: Duration = Duration::from_millis(600);
/// Alertmanager notices at its next look that a rule is quiet, or fires again.
const NOTICED_AFTER: Duration = Duration::from_millis(1_500);
/// Steps are told this soon after they were taken.
const TOLD_EVERY: Duration = Duration::from_millis(50);
/// A person looks before pressing: long enough that the button itself was told first.
const PRESSED_AFTER: Duration = Duration::from_millis(150);
/// The whole story takes some seconds; a minute means that something is wrong.
const ONCE_WITHIN: Duration = Duration::from_secs(60);
/// Digits, verb and text in columns.
const VERB_WIDTH: usize = 9;

/// Runs the command.
///
/// # Errors
/// What cannot be started, or with `--once` why the story did not end well.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start_logging(false, "error");
    let scenario = Scenario::find(&args.scenario)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told_to_stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    if !args.once {
        page(scenario, args.listen, told_to_stop).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let to = Teller::new(std::io::stdout(), std::io::stdout().is_terminal());
    tokio::select! {
        ended = once(scenario, to) => ended.map(|()| ExitCode::SUCCESS),
        () = told_to_stop => anyhow::bail!("stopped before the story was over"),
    }
}

/// Writes steps, each with the time since the first.
#[derive(Clone)]
pub struct Teller {
    out: Arc<Mutex<dyn Write + Send>>,
    coloured: bool,
    /// The instants of the first line and of the last: time does not run backwards in a story.
    told: Arc<Mutex<Option<(Timestamp, Timestamp)>>>,
}

impl Teller {
    /// Writes to `out`, in colours where asked for.
    pub fn new(out: impl Write + Send + 'static, coloured: bool) -> Self {
        Self { out: Arc::new(Mutex::new(out)), coloured, told: Arc::default() }
    }

    fn tell(&self, line: &Line) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = told.map_or((line.at, line.at), |(first, last)| (first, last.max(line.at)));
        *told = Some((first, last));
        let since = last.duration_since(first).as_millis();
        let time = format!("{:>3}.{:03} s", since / 1000, since % 1000);
        let (dim, bold, plain) = if self.coloured { ("\x1b[2m", colour(line.verb), "\x1b[0m") } else { ("", "", "") };
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that went away ends nothing.
        let _ = writeln!(out, "{dim}{time}{plain}  {bold}{:VERB_WIDTH$}{plain}  {}", line.verb, line.text);
        let _ = out.flush();
    }
}

fn colour(verb: &str) -> &'static str {
    match verb {
        "heard" => "\x1b[1;33m",
        "verified" | "over" => "\x1b[1;32m",
        "clicked" | "changed" | "executed" => "\x1b[1;35m",
        "refused" | "failed" | "unknown" | "unmended" => "\x1b[1;31m",
        _ => "\x1b[1;36m",
    }
}

/// A story under way.
struct Story {
    world: World,
    living: Living,
    alerts: Alerts,
    to: Teller,
}

impl Story {
    async fn begin(scenario: Scenario, slack: Slack, model_delay: Duration, to: Teller) -> anyhow::Result<Self> {
        let world = World::start(scenario, Clock::system(), slack, model_delay).await?;
        let alerts = Alerts::of(&world.scenario, &world.cluster)?;
        let living = world.inhabit().await?;
        Ok(Self { world, living, alerts, to })
    }

    /// Says a step on the terminal and on the page.
    fn tell(&self, line: &Line) {
        self.to.tell(line);
        self.world.slack.narrate(format!("{:VERB_WIDTH$} {}", line.verb, line.text));
    }

    fn heard(&self, at: Timestamp, what: &str) {
        self.tell(&Line { at, verb: "heard", text: what.to_owned() });
    }

    /// Tells every step until `done`, and then what is left to tell.
    async fn narrate(&self, done: &CancellationToken) -> anyhow::Result<()> {
        let (world, store) = (&self.world, &self.living.store);
        let mut narrator = Narrator::new(store.clone(), world.cluster.clone(), world.slack.clone(), world.clock.now());
        loop {
            let last = done.is_cancelled();
            for line in narrator.catch_up().await? {
                self.tell(&line);
            }
            if last {
                return Ok(());
            }
            // Not cut short: what a step was waiting for may be written a moment after it.
            sleep(TOLD_EVERY).await;
        }
    }

    /// Lets every alert of the scenario be heard.
    async fn fire(&self, since: Option<Timestamp>, between: Duration) -> anyhow::Result<()> {
        for index in 0..self.alerts.count() {
            if index > 0 {
                sleep(between).await;
            }
            let at = self.world.clock.now();
            if let Some(name) = self.alerts.fire(index, &self.world.cluster, since, &self.living).await? {
                self.heard(at, &format!("alert {name} fires; it was on disk before the webhook answered 200"));
            }
        }
        Ok(())
    }

    async fn resolve(&self) -> anyhow::Result<()> {
        for index in 0..self.alerts.count() {
            let at = self.world.clock.now();
            let name = self.alerts.resolve(index, at, &self.living).await?;
            self.heard(at, &format!("alert {name} resolved"));
        }
        Ok(())
    }

    /// Waits until the Deployments of the incidents are healthy, or not.
    async fn until_healthy(&self, wanted: bool) -> anyhow::Result<()> {
        loop {
            let incidents = self.incidents().await?;
            let subjects = incidents.iter().map(|i| &i.subject).filter(|subject| subject.kind == Kind::Deployment);
            let health: Vec<bool> = subjects.map(|s| self.is_healthy(s.namespace(), s.name())).collect();
            if !health.is_empty() && health.iter().all(|healthy| *healthy) == wanted {
                return Ok(());
            }
            sleep(TOLD_EVERY).await;
        }
    }

    /// As a rule over kube-state-metrics would see it.
    fn is_healthy(&self, namespace: &str, name: &str) -> bool {
        let Some(deployment) = self.world.cluster.get("Deployment", namespace, name) else { return false };
        let (spec, status) = (&deployment["spec"], &deployment["status"]);
        let wanted = spec["replicas"].as_i64().unwrap_or(1);
        let seen = status["observedGeneration"].as_i64() >= deployment["metadata"]["generation"].as_i64();
        let all = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
        seen && all.iter().all(|field| status[field].as_i64().unwrap_or(0) == wanted)
    }

    async fn incidents(&self) -> anyhow::Result<Vec<Incident>> {
        self.living.store.recent_incidents(Timestamp::UNIX_EPOCH).await
    }

    /// Alertmanager's part, for as long as it is polled: alerts resolve when all is well, and fire when it no longer is.
    async fn alertmanager(&self) -> anyhow::Result<()> {
        sleep(BEFORE_TROUBLE).await;
        self.fire(None, BETWEEN_ALERTS).await?;
        loop {
            self.until_healthy(true).await?;
            sleep(NOTICED_AFTER).await;
            self.resolve().await?;
            self.until_healthy(false).await?;
            let since = self.world.clock.now();
            sleep(NOTICED_AFTER).await;
            self.fire(Some(since), BETWEEN_ALERTS).await?;
        }
    }

    /// A person's part: waits for the button and presses it, as Slack sends it over signed HTTP.
    async fn approve(&self) -> anyhow::Result<()> {
        let slack = &self.world.slack;
        let has_button = |m: &crate::sim::slack::Message| m.buttons().iter().any(|b| b["action_id"] == APPROVE);
        let ts = slack.wait_for(|messages| messages.iter().find(|m| has_button(m)).map(|m| m.ts.clone())).await;
        sleep(PRESSED_AFTER).await;
        let outcome = slack.click(&ts, APPROVE, APPROVER, Delivery::Http).await?;
        anyhow::ensure!(outcome.acked, "firstlook did not take the click: status {}", outcome.status);
        Ok(())
    }

    /// Waits until an action has helped.
    async fn until_verified(&self) -> anyhow::Result<()> {
        loop {
            for approval in self.approvals().await? {
                if matches!(approval.verification, Verification::Better { .. }) {
                    return Ok(());
                }
                let why = &approval.because;
                anyhow::ensure!(
                    !approval.state.is_final() || approval.state == ApprovalState::Executed,
                    "the action was {}: {why}",
                    approval.state.as_str()
                );
                if let Verification::NotBetter { why, .. } | Verification::Worse { why, .. } = &approval.verification {
                    anyhow::bail!("the action did not help: {why}");
                }
            }
            sleep(TOLD_EVERY).await;
        }
    }

    /// Until every incident is over, and its card and thread say so.
    async fn until_over(&self) -> anyhow::Result<()> {
        loop {
            let incidents = self.incidents().await?;
            let over = incidents.iter().all(|incident| matches!(incident.state, IncidentState::Over { .. }));
            let depths = self.living.store.depths().await?;
            if over && depths.iter().all(|depth| depth.stage != "deliver" || depth.waiting == 0) {
                return Ok(());
            }
            sleep(TOLD_EVERY).await;
        }
    }

    async fn approvals(&self) -> anyhow::Result<Vec<Approval>> {
        let mut all = Vec::new();
        for incident in self.incidents().await? {
            all.extend(self.living.store.approvals_of(&incident.id).await?);
        }
        Ok(all)
    }

    /// The story without a person: trouble, report, click, rollback, resolved, over.
    async fn play(&self) -> anyhow::Result<()> {
        self.fire(None, Duration::ZERO).await?;
        tokio::select! {
            clicked = self.approve() => clicked?,
            refused = self.until_verified() => refused?,
        }
        self.until_verified().await?;
        self.resolve().await?;
        self.until_over().await
    }

    /// Plays and tells, within a minute.
    async fn told_to_its_end(&self) -> anyhow::Result<()> {
        let done = CancellationToken::new();
        let played = async {
            let played = timeout(ONCE_WITHIN, self.play()).await;
            done.cancel();
            played
        };
        let (played, told) = tokio::join!(played, self.narrate(&done));
        match played {
            Ok(ended) => ended.with_context(|| self.standing())?,
            Err(_) => anyhow::bail!("not over after {} s; {}", ONCE_WITHIN.as_secs(), self.standing()),
        }
        told?;
        self.audited().await
    }

    /// Proves the audit chain of everything that was told.
    async fn audited(&self) -> anyhow::Result<()> {
        let verdict = self.living.store.audit_verify(&[]).await?;
        if let Some(fault) = verdict.fault {
            anyhow::bail!("the audit chain is broken: {fault}");
        }
        let text = format!("the hash chain of {} entries holds", verdict.sealed);
        self.tell(&Line { at: self.world.clock.now(), verb: "audited", text });
        Ok(())
    }

    /// Where the story stands, for the one who asks why it did not end.
    fn standing(&self) -> String {
        let messages = self.world.slack.messages();
        let card = messages.iter().find(|message| message.thread_ts.is_none());
        card.map_or_else(|| "no card was posted".to_owned(), |card| format!("the card says:\n{}", card.plain()))
    }
}

/// Plays the scenario without a browser and tells every step.
///
/// # Errors
/// Why the action was not verified, or the incident is not over, within a minute.
pub async fn once(scenario: Scenario, to: Teller) -> anyhow::Result<()> {
    let slack = Slack::new(Clock::system(), SlackOptions::default());
    let story = Story::begin(scenario, slack, Duration::ZERO, to).await?;
    let ended = story.told_to_its_end().await;
    story.living.end().await;
    ended
}

/// Serves the page and plays the world around it until `stop`.
async fn page(scenario: Scenario, listen: SocketAddr, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            anyhow::bail!("{listen} is taken: end what uses it, or choose another with --listen 127.0.0.1:0")
        }
        Err(error) => return Err(error).with_context(|| format!("--listen {listen}")),
    };
    println!("http://{}", listener.local_addr()?);
    let to = Teller::new(std::io::stderr(), std::io::stderr().is_terminal());
    let slack = Slack::new(Clock::system(), SlackOptions::default());
    let story = Story::begin(scenario, slack, MODEL_DELAY, to).await?;
    story.world.serve_page(listener);
    eprintln!("Open it in a browser. Everything runs in this process and ends with it: Ctrl-C.");
    let never = CancellationToken::new();
    let played = async { tokio::try_join!(story.narrate(&never), story.alertmanager()).map(|_| ()) };
    let ended = tokio::select! {
        ended = played => ended,
        () = stop => Ok(()),
    };
    story.living.end().await;
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::tests::{Lines, incident_of};

    /// What was told, line by line.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<u8>>>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Plays a scenario whose Deployment must then run again what its ReplicaSet of `revision` holds.
    async fn ends_well(name: &str, deployment: &str, revision: &str, lines_changed: usize) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let told = Told::default();
        let lines = Lines::default();
        let _guard = lines.listen();
        let slack = Slack::new(Clock::system(), SlackOptions::default());
        let scenario = Scenario::find(name).unwrap();
        let story = Story::begin(scenario, slack, Duration::ZERO, Teller::new(told.clone(), false)).await.unwrap();
        let cluster = &story.world.cluster;
        let numbered = |set: &&serde_json::Value| {
            let of = set["metadata"]["ownerReferences"][0]["name"] == deployment;
            of && set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == revision
        };
        let before = cluster.list("ReplicaSet", "shop").iter().find(numbered).cloned().unwrap();
        story.told_to_its_end().await.unwrap();
        let told = String::from_utf8(told.0.lock().unwrap().clone()).unwrap();

        let after = cluster.get("Deployment", "shop", deployment).unwrap();
        assert_eq!(after["spec"]["template"]["spec"], before["spec"]["template"]["spec"], "{told}");
        let messages = story.world.slack.messages();
        let cards: Vec<_> = messages.iter().filter(|m| m.thread_ts.is_none() && m.ephemeral_to.is_none()).collect();
        assert_eq!(cards.len(), 1, "one incident, one card");
        assert!(cards[0].text.starts_with('✅') && cards[0].buttons().iter().all(|b| b["action_id"] != APPROVE));
        let ours = |line: &&serde_json::Value| {
            let target = line["target"].as_str().unwrap_or_default();
            ["agent", "act", "govern", "mcp", "slack::client", "stages"]
                .iter()
                .any(|module| target.starts_with(&format!("firstlook::{module}")))
        };
        let lines = lines.all();
        let concerned: Vec<_> = lines.iter().filter(ours).collect();
        assert!(!concerned.is_empty(), "the click and the action are told");
        assert!(concerned.iter().all(|line| incident_of(line).is_some()), "{concerned:#?}");
        let script = story.world.scenario.json("model/1/0003.json").unwrap();
        let headline = script["tool_calls"][0]["arguments"]["headline"].as_str().unwrap();
        let card = cards[0].plain();
        assert!(card.contains(headline), "the model's report stands to the end:\n{card}");
        let changes = card.matches(" → ").count();
        assert_eq!(changes, lines_changed, "what changed is what went wrong, not what mended it:\n{card}");
        assert!(story.world.model.missing().is_empty(), "the script has every answer");
        let writes = cluster.requests().into_iter().filter(|r| r.method == "PATCH" && !r.path.contains("dryRun"));
        let writers: Vec<String> = writes.map(|request| request.user).collect();
        assert_eq!(writers, ["system:serviceaccount:firstlook:firstlook-write"], "one change, by the one who may");
        let verbs: Vec<&str> = told.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
        let at = |verb: &str| verbs.iter().position(|told| *told == verb).unwrap_or_else(|| panic!("{verb}: {told}"));
        // The first card and the model's first turn go on side by side.
        let investigated = ["heard", "found", "asked", "proved", "offered", "clicked", "changed", "verified", "over"];
        let delivered = ["found", "posted", "clicked"];
        assert!(investigated.is_sorted_by_key(|verb| at(verb)), "{told}");
        assert!(delivered.is_sorted_by_key(|verb| at(verb)), "{told}");
        story.living.end().await;
    }

    #[tokio::test]
    async fn a_bad_image_is_rolled_back_by_one_click() {
        ends_well("bad-image-rollout", "checkout", "6", 1).await;
    }

    #[tokio::test]
    async fn an_oom_loop_is_rolled_back_by_one_click() {
        ends_well("oom-loop", "pricing", "11", 2).await;
    }

    #[test]
    fn a_scenario_that_is_not_there_names_those_that_are() {
        let error = Scenario::find("no-such").unwrap_err().to_string();
        assert!(error.contains("bad-image-rollout, oom-loop"), "{error}");
    }
}
