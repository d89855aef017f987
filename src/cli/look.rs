//! `firstlook look`: the cards of one object, or of all that is in trouble in a namespace, on the terminal.

mod ask;
mod card;
mod paint;
mod survey;
mod tell;

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt, stream};
use secrecy::ExposeSecret as _;

use crate::agent::llm::LlmOptions;
use crate::app::{Setup, clients};
use crate::cli::LookArgs;
use crate::cli::look::ask::Asking;
use crate::cli::look::card::Seen;
use crate::cli::look::paint::Paint;
use crate::cli::look::survey::Survey;
use crate::clock::Clock;
use crate::correlate::{Rules, late, root};
use crate::model::{ClusterName, Incident, Kind, ObjectRef, Scene};
use crate::observe::owner::Owners;
use crate::observe::scene;
use crate::observe::{ReadError, Reader};
use crate::redact::{Redacted, Redactor};
use crate::sim::replay::Mind;
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
    /// The model of `--model`.
    asking: Option<Asking>,
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

/// Runs the command: 0 healthy, 3 in trouble, 1 when what could be read does not tell.
pub async fn run(args: LookArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start_logging(false, "error");
    let told = args.object.as_deref().map(named).transpose();
    let (named, llm) = match told.and_then(|named| Ok((named, llm(args.model.mind())?))) {
        Ok(told) => told,
        Err(usage) => {
            eprintln!("firstlook: {usage}");
            return Ok(ExitCode::from(2));
        }
    };
    let place = Place::find(&args, named, llm).await?;
    let sight = place.look(named).await?;
    let mut out = std::io::stdout().lock();
    let text = if args.json { format!("{}\n", place.json(&sight)) } else { place.text(&sight, paint()) };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("stdout")?;
    Ok(ExitCode::from(sight.exit()))
}

/// The model that is asked, if one is.
fn llm(mind: Mind) -> Result<Option<LlmOptions>, String> {
    match mind {
        Mind::None => Ok(None),
        Mind::Server(options) => Ok(Some(options)),
        Mind::Scripted => Err("--model scripted is for eval alone: write none, or a URL".into()),
    }
}

impl Sight {
    fn exit(&self) -> u8 {
        match (self.in_trouble().next(), self.is_blind()) {
            (Some(_), _) => IN_TROUBLE,
            (None, true) => 1,
            (None, false) => 0,
        }
    }

    fn in_trouble(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| seen.in_trouble)
    }

    /// Objects of which nothing could be read, with why.
    fn unread(&self) -> impl Iterator<Item = (&ObjectRef, &Redacted)> {
        self.seen.iter().filter_map(|seen| Some((seen.subject(), seen.card.scene.as_ref()?.workload.missing()?)))
    }

    /// Whether so much could not be read that nobody may say that all is well.
    fn is_blind(&self) -> bool {
        let lists = self.survey.iter().flat_map(|survey| &survey.missing);
        lists.clone().any(|(kind, _)| kind.is_workload() || *kind == Kind::Pod) || self.unread().next().is_some()
    }
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
    async fn find(args: &LookArgs, named: Option<(Kind, &str)>, llm: Option<LlmOptions>) -> anyhow::Result<Self> {
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
        let namespace = match named {
            Some((Kind::Namespace, name)) => name.to_owned(),
            _ => args.namespace.clone().unwrap_or(default),
        };
        let (client, _) = clients::tools(&kubernetes).context("the kubeconfig's credentials cannot be used")?;
        // Contexts of cloud providers hold slashes, colons and at signs.
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        let cluster = name.chars().map(plain).take(128).collect::<String>();
        let cluster = ClusterName::parse(&cluster).context("the context has no name")?;
        let key = llm.iter().filter_map(|llm| Some(llm.api_key.as_ref()?.expose_secret().to_owned()));
        let redactor = Redactor::new(key);
        let reader = Reader::new(client, cluster.clone(), redactor.clone(), clock.clone());
        let server = kubernetes.cluster_url.to_string();
        let asking = match llm {
            Some(llm) => {
                let (store, scratch) = ask::store(&cluster, &clock).await?;
                let setup = Setup::reading(cluster.clone(), clock.clone(), redactor, store, kubernetes);
                Some(Asking::new(setup, llm, scratch)?)
            }
            None => None,
        };
        Ok(Self { reader, clock, cluster, server, namespace, asking, _still: still })
    }

    async fn look(&self, named: Option<(Kind, &str)>) -> anyhow::Result<Sight> {
        let mut sight = match named {
            None | Some((Kind::Namespace, _)) => self.everything(&self.namespace).await?,
            Some((kind, name)) => {
                let object = ObjectRef::new(kind, Some(&self.namespace), name)
                    .with_context(|| format!("`{}` is no name of a namespace", self.namespace))?;
                self.one(object).await?
            }
        };
        // What is well is not paid for.
        let worst = sight.seen.iter_mut().find(|seen| seen.in_trouble);
        if let Some((asking, worst)) = self.asking.as_ref().zip(worst) {
            // Boxed: a look without a model need not hold it.
            Box::pin(asking.about(worst)).await?;
        }
        Ok(sight)
    }

    /// One object, upward to what a person deploys, and what explains its trouble from outside it.
    async fn one(&self, object: ObjectRef) -> anyhow::Result<Sight> {
        let subject = self.upward(object).await?;
        let scene = scene::attempt(&self.reader, &subject, &[], SCENE_DEADLINE).await;
        let scene = scene.map_err(|error| self.failed(&subject, &error))?;
        if scene.not_found.is_some() {
            return Err(self.absent(&subject).await);
        }
        let mut seen = vec![self.see(scene)];
        if let Some(cause) = seen[0].card.incident.cause.clone() {
            let mut behind = self.see(self.scene(&cause.object).await);
            if behind.in_trouble {
                behind.hit.push((subject, cause.because));
                seen.push(behind);
            }
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
        let roots: BTreeSet<ObjectRef> = scenes.iter().filter_map(|scene| Some(root::of(scene)?.object)).collect();
        let unread = roots.into_iter().filter(|root| scenes.iter().all(|scene| scene.subject != *root)).collect();
        let roots = self.scenes(unread).await;
        let seen = scenes.into_iter().chain(roots).map(|scene| self.see(scene)).collect();
        let mut seen = joined(seen, self.clock.now());
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
        anyhow::anyhow!("{object} could not be read: {}{}", error.reason(), remedy(error, &self.server))
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
}

/// One card for what has one cause, by the daemon's own rule.
fn joined(mut seen: Vec<Seen>, now: jiff::Timestamp) -> Vec<Seen> {
    let mut at = 0;
    while at < seen.len() {
        let open: Vec<Incident> = seen.iter().filter(|s| s.in_trouble).map(|s| s.card.incident.clone()).collect();
        let troubled = Some(&seen[at]).filter(|s| s.in_trouble);
        let merged = troubled.and_then(|s| late::merge(&s.card.incident, &open, &Rules::default(), now));
        let place = |incident: &Incident| seen.iter().position(|s| s.card.incident.id == incident.id);
        let Some((stays, goes)) =
            merged.and_then(|(stays, goes)| Some(((place(&stays)?, stays), (place(&goes)?, goes))))
        else {
            at += 1;
            continue;
        };
        let because = goes.1.absorbed_by.map(|merge| merge.because).unwrap_or_default();
        let mut hit = std::mem::take(&mut seen[goes.0].hit);
        hit.insert(0, (goes.1.subject, because.clone()));
        hit.extend(stays.1.was.clone().map(|was| (was, because)));
        seen[stays.0].hit.extend(hit);
        seen[stays.0].card.incident = stays.1;
        seen.remove(goes.0);
        at = 0;
    }
    seen
}

/// What to do about a read that failed.
fn remedy(error: &ReadError, server: &str) -> String {
    match error {
        ReadError::Forbidden(_) => {
            " (ask for the verbs get and list there; `kubectl auth can-i --list` shows what you have)".to_owned()
        }
        ReadError::TimedOut | ReadError::Unreachable(_) => {
            format!(" ({server}: is it up, is a VPN needed, is this the right --context?)")
        }
        ReadError::NotFound | ReadError::Unavailable(_) | ReadError::Refused(_) => String::new(),
    }
}

#[cfg(test)]
mod tests;
