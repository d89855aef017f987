//! `firstlook look`: the cards of one object, or of all that is in trouble in a namespace, on the terminal.

mod card;
mod paint;
mod survey;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::app::clients;
use crate::cli::LookArgs;
use crate::cli::look::card::Seen;
use crate::cli::look::paint::Paint;
use crate::cli::look::survey::Survey;
use crate::clock::Clock;
use crate::correlate::root;
use crate::findings::Health;
use crate::model::{ClusterName, Kind, ObjectRef, Part, Scene};
use crate::observe::owner::Owners;
use crate::observe::scene;
use crate::observe::{ReadError, Reader};
use crate::redact::Redactor;
use crate::sim::still::Still;

/// Something is in trouble.
const IN_TROUBLE: u8 = 3;
/// A person waits, but a whole answer is worth more than a fast one: an API server far away takes a second or two.
const SCENE_DEADLINE: Duration = Duration::from_secs(8);
/// Scenes that are read at once: enough to hide the API server's latency, too few to hurt it.
const AT_ONCE: usize = 8;
/// Cards of one look; more nobody reads, and the worst part of a namespace is seldom larger.
const CARDS_MAX: usize = 30;
/// In a namespace with no more workloads than this those with a healthy status are looked at as well: calls that fail,
/// a volume that fills and the like do not show in a status.
const LOOK_AT_ALL_MAX: usize = 20;
/// Names of what is healthy in the last line.
const NAMES_MAX: usize = 8;
/// A terminal that does not say how wide it is (`COLUMNS`), in columns.
const WIDTH: usize = 120;

/// The short names that kubectl knows.
const SHORT: [(&str, Kind); 12] = [
    ("deploy", Kind::Deployment),
    ("sts", Kind::StatefulSet),
    ("ds", Kind::DaemonSet),
    ("rs", Kind::ReplicaSet),
    ("cj", Kind::CronJob),
    ("po", Kind::Pod),
    ("svc", Kind::Service),
    ("ing", Kind::Ingress),
    ("pvc", Kind::PersistentVolumeClaim),
    ("no", Kind::Node),
    ("ns", Kind::Namespace),
    ("hpa", Kind::HorizontalPodAutoscaler),
];

/// What is looked at, and through which API server.
struct Place {
    reader: Reader,
    clock: Clock,
    cluster: ClusterName,
    /// The API server's address, for errors.
    server: String,
    namespace: String,
    /// The simulated cluster ends with this.
    _still: Option<Still>,
}

/// What was seen.
#[derive(Default)]
struct Sight {
    /// Worst first; the named object first of all.
    seen: Vec<Seen>,
    survey: Option<Survey>,
    /// Suspects beyond the bound.
    left_out: usize,
}

/// Runs the command: 0 healthy, 3 in trouble.
pub async fn run(args: LookArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start_logging(false, "error");
    let named = match args.object.as_deref().map(named).transpose() {
        Ok(named) => named,
        Err(usage) => {
            eprintln!("firstlook: {usage}");
            return Ok(ExitCode::from(2));
        }
    };
    let place = Place::find(&args).await?;
    let sight = place.look(named).await?;
    let in_trouble = sight.seen.iter().any(|seen| seen.in_trouble);
    let mut out = std::io::stdout().lock();
    let text = if args.json { format!("{}\n", place.json(&sight)) } else { place.text(&sight, paint()) };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("stdout")?;
    Ok(if in_trouble { ExitCode::from(IN_TROUBLE) } else { ExitCode::SUCCESS })
}

/// Colours and broken lines are for people at a terminal (https://no-color.org).
fn paint() -> Paint {
    let terminal = std::io::stdout().is_terminal();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    Paint { colours: terminal && !plain, width: terminal.then(|| columns.unwrap_or(WIDTH)) }
}

/// `deploy/checkout`: a kind by its name, its plural or its short name, and a name.
fn named(text: &str) -> Result<(Kind, &str), String> {
    let Some((kind, name)) = text.split_once('/') else {
        return Err(format!(
            "`{text}` is no KIND/NAME: write for example deployment/{text}, or -n {text} for the namespace"
        ));
    };
    let short = SHORT.iter().find(|(short, _)| short.eq_ignore_ascii_case(kind)).map(|(_, kind)| *kind);
    let known = short.or_else(|| Kind::named(kind)).filter(|kind| *kind != Kind::Alert);
    match known {
        Some(known) if ObjectRef::new(known, Some("any"), name).is_some() => Ok((known, name)),
        Some(_) => Err(format!("`{name}` is no name of a Kubernetes object")),
        None => Err(format!(
            "`{kind}` is no kind that firstlook looks at: try deployment, statefulset, job, pod, service, ingress, node"
        )),
    }
}

impl Place {
    async fn find(args: &LookArgs) -> anyhow::Result<Self> {
        let (kubernetes, name, clock, still) = match &args.scenario {
            Some(scenario) => {
                let still = Still::open(scenario).await?;
                (still.kubernetes.clone(), still.name.clone(), still.clock.clone(), Some(still))
            }
            None => {
                let (kubernetes, name) = clients::at_hand(args.context.as_deref()).await?;
                (kubernetes, name, Clock::system(), None)
            }
        };
        let default =
            still.as_ref().map_or_else(|| kubernetes.default_namespace.clone(), |still| still.namespace.clone());
        let namespace = args.namespace.clone().unwrap_or(default);
        let (client, _) = clients::tools(&kubernetes).context("the kubeconfig's credentials cannot be used")?;
        // Contexts of cloud providers hold slashes, colons and at signs.
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        let cluster = name.chars().map(plain).take(128).collect::<String>();
        let cluster = ClusterName::parse(&cluster).context("the context has no name")?;
        let reader = Reader::new(client, cluster.clone(), Redactor::default(), clock.clone());
        Ok(Self { reader, clock, cluster, server: kubernetes.cluster_url.to_string(), namespace, _still: still })
    }

    async fn look(&self, named: Option<(Kind, &str)>) -> anyhow::Result<Sight> {
        match named {
            Some((Kind::Namespace, name)) => self.everything(name).await,
            None => self.everything(&self.namespace).await,
            Some((kind, name)) => {
                let object = ObjectRef::new(kind, Some(&self.namespace), name)
                    .with_context(|| format!("`{}` is no name of a namespace", self.namespace))?;
                self.one(object).await
            }
        }
    }

    /// One object, upward to what a person deploys, and what explains its trouble from outside it.
    async fn one(&self, object: ObjectRef) -> anyhow::Result<Sight> {
        let subject = self.upward(object).await?;
        let scene = self.scene(&subject).await;
        if scene.not_found.is_some() {
            return Err(self.absent(&subject).await);
        }
        if let Part::Missing(why) = &scene.workload {
            anyhow::bail!("{subject} could not be read: {why}{}", remedy(why.as_str(), &self.server));
        }
        let root = root::of(&scene);
        let mut seen = vec![self.see(scene)];
        if let Some(root) = root {
            let mut behind = self.see(self.scene(&root.object).await);
            behind.hit.push((subject, root.because));
            seen.push(behind);
        }
        Ok(Sight { seen, ..Sight::default() })
    }

    /// What a person deploys to get a pod or a ReplicaSet.
    async fn upward(&self, object: ObjectRef) -> anyhow::Result<ObjectRef> {
        if !matches!(object.kind, Kind::Pod | Kind::ReplicaSet) {
            return Ok(object);
        }
        let Some(value) = self.reader.get(&object).await.map_err(|error| self.failed(&object, &error))? else {
            return Err(self.absent(&object).await);
        };
        let owner = Owners::new(&self.reader).of(&value).await.ok().flatten();
        Ok(owner.filter(|owner| owner.kind != Kind::Node).unwrap_or(object))
    }

    /// All that is in trouble in a namespace, worst first.
    async fn everything(&self, namespace: &str) -> anyhow::Result<Sight> {
        let own = ObjectRef::new(Kind::Namespace, None, namespace)
            .with_context(|| format!("`{namespace}` is no name of a namespace"))?;
        let (survey, there) = tokio::join!(survey::read(&self.reader, namespace), self.reader.get(&own));
        if let Ok(None) = there {
            return Err(self.absent(&own).await);
        }
        let survey = survey.map_err(|error| self.failed(&own, &error))?;
        let mut subjects: Vec<ObjectRef> = survey.suspects.iter().cloned().collect();
        let left_out = subjects.len().saturating_sub(CARDS_MAX);
        subjects.truncate(CARDS_MAX);
        if survey.others.len() + subjects.len() <= LOOK_AT_ALL_MAX {
            subjects.extend(survey.others.iter().cloned());
        }
        let scenes = self.scenes(subjects).await;
        let mut behind: BTreeMap<ObjectRef, Vec<_>> = BTreeMap::new();
        for scene in &scenes {
            if let Some(root) = root::of(scene) {
                behind.entry(root.object).or_default().push((scene.subject.clone(), root.because));
            }
        }
        let unread = behind.keys().filter(|root| scenes.iter().all(|scene| scene.subject != **root)).cloned().collect();
        let roots = self.scenes(unread).await;
        let mut seen: Vec<Seen> = scenes.into_iter().chain(roots).map(|scene| self.see(scene)).collect();
        // As in Slack: what is hit by something that is in trouble itself stands on the card of that.
        for (root, hit) in behind {
            let Some(at) = seen.iter().position(|seen| *seen.subject() == root && seen.in_trouble) else { continue };
            let gone: Vec<ObjectRef> = hit.iter().map(|(object, _)| object.clone()).collect();
            seen[at].hit = hit;
            seen.retain(|seen| *seen.subject() == root || !gone.contains(seen.subject()));
        }
        seen.sort_by_key(|seen| (!seen.in_trouble, std::cmp::Reverse(seen.card.incident.severity)));
        Ok(Sight { seen, survey: Some(survey), left_out })
    }

    async fn scene(&self, subject: &ObjectRef) -> Scene {
        scene::read(&self.reader, subject, &[], SCENE_DEADLINE).await
    }

    async fn scenes(&self, subjects: Vec<ObjectRef>) -> Vec<Scene> {
        let read = stream::iter(subjects).map(|subject| async move { self.scene(&subject).await });
        read.buffered(AT_ONCE).collect().await
    }

    fn see(&self, scene: Scene) -> Seen {
        Seen::of(scene, &self.cluster, self.clock.now())
    }

    fn failed(&self, object: &ObjectRef, error: &ReadError) -> anyhow::Error {
        let why = error.reason();
        anyhow::anyhow!("{object} could not be read: {why}{}", remedy(why.as_str(), &self.server))
    }

    /// That an object does not exist, with the names that nearly match: for choosing, none is taken instead.
    async fn absent(&self, object: &ObjectRef) -> anyhow::Error {
        let Ok(found) = scene::not_found(&self.reader, object).await else {
            return anyhow::anyhow!("{object} does not exist");
        };
        let near: Vec<String> = found.near.iter().map(ToString::to_string).collect();
        let near = if near.is_empty() { String::new() } else { format!("; there is {}", near.join(", ")) };
        match found.namespace_exists {
            true => anyhow::anyhow!("{object} does not exist{near}"),
            false => anyhow::anyhow!("there is no namespace {}{near}", object.namespace()),
        }
    }

    fn text(&self, sight: &Sight, paint: Paint) -> String {
        let now = self.clock.now();
        let one = sight.survey.is_none();
        let mut out = String::new();
        for seen in sight.seen.iter().filter(|seen| one || seen.in_trouble) {
            let mut text = seen.text(now);
            for (object, because) in &seen.hit {
                text.push_str(&format!("\n*Hit by it*  {object}: {because}"));
            }
            out.push_str(&paint.card(&text));
            out.push('\n');
        }
        if let Some(survey) = &sight.survey {
            for line in self.summary(sight, survey) {
                out.push_str(&paint.dim(&line));
                out.push('\n');
            }
        }
        out
    }

    /// What is healthy, and what was not looked at.
    fn summary(&self, sight: &Sight, survey: &Survey) -> Vec<String> {
        let mut healthy = self.healthy(sight, survey);
        let (count, ill) = (healthy.len(), sight.seen.iter().filter(|seen| seen.in_trouble).count());
        let more = count.saturating_sub(NAMES_MAX);
        healthy.truncate(NAMES_MAX);
        let names: Vec<&str> = healthy.iter().map(ObjectRef::name).collect();
        let names = match (names.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(" ({})", names.join(", ")),
            (false, more) => format!(" ({}, and {more} more)", names.join(", ")),
        };
        let namespace = &self.namespace;
        let pods = survey.pods;
        let mut lines = vec![match (ill, count) {
            (0, 0) if pods == 0 => format!("⚪ nothing runs in {namespace}"),
            (0, _) => format!("✅ {namespace} is healthy: {count} workloads{names}, {pods} pods"),
            (ill, _) => format!("{namespace}: {ill} in trouble, {count} healthy{names}, {pods} pods"),
        }];
        if sight.left_out > 0 {
            lines.push(format!(
                "{} more objects in trouble were not looked at: name one with KIND/NAME",
                sight.left_out
            ));
        }
        for (kind, error) in &survey.missing {
            lines.push(format!("{kind}s could not be listed: {}", error.reason()));
        }
        lines
    }

    fn healthy(&self, sight: &Sight, survey: &Survey) -> Vec<ObjectRef> {
        let ill = |object: &ObjectRef| {
            sight.seen.iter().any(|seen| {
                seen.in_trouble && (seen.subject() == object || seen.hit.iter().any(|hit| hit.0 == *object))
            })
        };
        let looked = sight.seen.iter().filter(|seen| seen.health == Health::Healthy).map(|seen| seen.subject().clone());
        let mut all: Vec<ObjectRef> = survey.others.iter().cloned().chain(looked).collect();
        all.retain(|object| object.kind.is_workload() && !ill(object));
        all.sort();
        all.dedup();
        all
    }

    /// The reports as data, the same that a daemon would store.
    fn json(&self, sight: &Sight) -> Value {
        let one = sight.survey.is_none();
        let told = sight.seen.iter().filter(|seen| one || seen.in_trouble).map(|seen| {
            let incident = &seen.card.incident;
            json!({
                "object": incident.subject,
                "in_trouble": seen.in_trouble,
                "severity": incident.severity,
                "began_at": incident.began_at,
                "report": seen.card.report,
                "hit": seen.hit.iter().map(|(object, because)| json!({"object": object, "because": because})).collect::<Vec<_>>(),
            })
        });
        let mut value =
            json!({"cluster": self.cluster, "namespace": self.namespace, "objects": told.collect::<Vec<_>>()});
        if let Some(survey) = &sight.survey {
            value["healthy"] = json!(self.healthy(sight, survey));
            value["left_out"] = json!(sight.left_out);
            value["missing"] =
                survey.missing.iter().map(|(kind, error)| json!({"kind": kind, "why": error.reason()})).collect();
        }
        value
    }
}

/// What to do about a read that failed, by what it says.
fn remedy(why: &str, server: &str) -> String {
    match why {
        why if why.starts_with("not allowed") => {
            " (ask for the verbs get and list there; `kubectl auth can-i --list` shows what you have)".to_owned()
        }
        "no answer in time" | "the API server cannot be reached" => {
            format!(" ({server}: is it up, is a VPN needed, is this the right --context?)")
        }
        _ => String::new(),
    }
}
