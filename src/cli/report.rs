//! `firstlook report`: what was asked for and what came of it, for the people who own the policy.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use jiff::{SignedDuration, Timestamp};

use crate::cli::run;
use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::govern::budget;
use crate::govern::budget::Price;
use crate::govern::record::{Bar, Pair, Record, counted, records};
use crate::model::{IncidentId, Thumb};
use crate::store::{Options, Store, Suspension};

/// What was asked for and what came of it, by tool and namespace; what the causes, the cards and the model were worth.
///
/// Only a person's edit of the policy gives a standing leave: this shows which tools have earned one.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  firstlook report --since 30d --config firstlook.yaml")]
pub struct ReportArgs {
    /// How far back, as in 30d; what the store keeps is the end (store.keep_days).
    #[arg(long, value_name = "DAYS", default_value = "30d", value_parser = days)]
    pub since: u32,
    /// The configuration file, for the store's place.
    #[arg(long, value_name = "FILE", env = "FIRSTLOOK_CONFIG", default_value = "firstlook.yaml")]
    pub config: PathBuf,
}

/// `30d`, or plain days.
pub(super) fn days(text: &str) -> Result<u32, String> {
    let digits = text.strip_suffix('d').unwrap_or(text);
    digits.parse().ok().filter(|days| (1..=3650).contains(days)).ok_or_else(|| "write days, such as 30d".to_owned())
}

/// The store of the configuration, to be read beside a running daemon.
pub(super) async fn open(config: &Config, clock: Clock) -> anyhow::Result<Store> {
    let cluster = config.cluster_name().map_err(anyhow::Error::msg)?;
    Store::open_read_only(config.store_url(), clock, Options::new(cluster)).await.context("store.url")
}

/// Prints it; the daemon may run meanwhile.
///
/// # Errors
/// What cannot be read.
pub async fn run(args: ReportArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config, &config::environment())?;
    let clock = Clock::system();
    let since = clock.now().checked_sub(SignedDuration::from_hours(24 * i64::from(args.since)))?;
    let store = open(&config, clock).await?;
    let heading = Heading { cluster: config.cluster.clone(), days: args.since, since };
    let bar = Bar { approved: config.promotion.approved, bad: config.promotion.bad };
    let facts = gather(&store, heading, run::price(config.model.as_ref()), bar).await;
    store.close().await;
    print!("{}", told(facts?));
    Ok(ExitCode::SUCCESS)
}

/// Reads everything that the report tells.
async fn gather(store: &Store, heading: Heading, price: Option<Price>, bar: Bar) -> anyhow::Result<Facts> {
    let since = heading.since;
    let thumbs = store.thumbs_since(since).await?;
    let approvals = store.approvals_made_since(since).await?;
    let (tokens, micros) = store.spent_since(since).await?;
    let times = store.times_to_card(since).await?;
    let spent = store.spent_by_incident(since).await?;
    let incidents = times.iter().map(|(id, _)| id).chain(thumbs.iter().map(|(id, _)| id));
    let incidents = incidents.chain(spent.iter().map(|(id, ..)| id)).cloned().collect();
    let names = store.namespaces_of(&incidents).await?;
    let place = |id: &IncidentId| match names.get(id).map(String::as_str) {
        None => NOT_STORED.to_owned(),
        Some("") => CLUSTER.to_owned(),
        Some(namespace) => namespace.to_owned(),
    };
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    for (id, ms) in &times {
        places.entry(place(id)).or_default().times_to_card.push(*ms);
    }
    for (id, thumb) in &thumbs {
        let at = places.entry(place(id)).or_default();
        if thumb.up { at.right += 1 } else { at.wrong += 1 }
    }
    for (id, tokens, micros) in &spent {
        let at = places.entry(place(id)).or_default();
        (at.tokens, at.micros) = (at.tokens + tokens, at.micros + micros);
    }
    Ok(Facts {
        heading,
        records: records(&approvals, &thumbs),
        is_cut: approvals.len() >= REQUESTS_MAX,
        thumbs,
        places,
        times_to_card: times.into_iter().map(|(_, ms)| ms).collect(),
        tokens,
        micros,
        currency: price.map(|price| price.currency.to_string()),
        bar,
        suspended: store.leaves_suspended().await?,
    })
}

/// Requests that one read of the store returns at most.
const REQUESTS_MAX: usize = 1_000;
/// Objects without a namespace, as in the record of a tool.
const CLUSTER: &str = "(cluster)";
/// Incidents that retention has taken: what they cost is still known.
const NOT_STORED: &str = "(not stored)";

/// Of what the report is.
struct Heading {
    cluster: String,
    days: u32,
    since: Timestamp,
}

/// What came of the incidents of one namespace.
#[derive(Default)]
struct Place {
    /// In ms.
    times_to_card: Vec<u64>,
    right: u32,
    wrong: u32,
    tokens: u64,
    micros: u64,
}

/// Everything that the report tells.
struct Facts {
    heading: Heading,
    records: BTreeMap<Pair, Record>,
    /// Whether there were more requests than were read.
    is_cut: bool,
    thumbs: Vec<(IncidentId, Thumb)>,
    places: BTreeMap<String, Place>,
    /// In ms.
    times_to_card: Vec<u64>,
    tokens: u64,
    micros: u64,
    /// None without a price.
    currency: Option<String>,
    bar: Bar,
    suspended: BTreeMap<String, Suspension>,
}

fn told(mut facts: Facts) -> String {
    let Heading { cluster, days, since } = &facts.heading;
    let mut lines = vec![format!("cluster {cluster}, the {days} days since {since}")];
    facts.times_to_card.sort_unstable();
    lines.push(match facts.times_to_card.as_slice() {
        [] => "cards   none was posted".to_owned(),
        times => format!(
            "cards   {}, posted {} after the first signal (median), {} (95 of 100)",
            times.len(),
            seconds(share(times, 50)),
            seconds(share(times, 95))
        ),
    });
    let (right, wrong) = counted(facts.thumbs.iter().map(|(_, thumb)| thumb));
    lines.push(match right + wrong {
        0 => "causes  nobody has said whether they were right".to_owned(),
        _ => format!("causes  {right} right, {wrong} wrong by thumbs: precision {}", precision(right, wrong)),
    });
    let money = match &facts.currency {
        Some(currency) => format!("{} {currency}", budget::shown(facts.micros)),
        None => "no price is configured (model.prices)".to_owned(),
    };
    lines.push(format!("spend   {} tokens, {money}", facts.tokens));
    lines.push(String::new());
    if !facts.places.is_empty() {
        lines.extend(places(&mut facts.places, facts.currency.as_deref()));
        lines.push(String::new());
    }
    lines.extend(table(&facts.records, facts.bar));
    if facts.is_cut {
        lines.push(format!("only the newest {REQUESTS_MAX} requests are counted: ask for fewer days"));
    }
    let reasons: Vec<String> = reasons(&facts.records, &facts.thumbs);
    if !reasons.is_empty() {
        lines.push(String::new());
        lines.push("why not".to_owned());
        lines.extend(reasons);
    }
    if !facts.suspended.is_empty() {
        lines.push(String::new());
        lines.push("standing leaves that are suspended: a person ends that by giving them again in the policy, with another `until`".to_owned());
        let suspended = facts.suspended.iter();
        lines.extend(suspended.map(|(leave, why)| format!("  {leave}: {} ({}, {})", why.why, why.at, why.approval)));
    }
    lines.push(String::new());
    lines.join("\n")
}

const COLUMNS: [&str; 14] = [
    "tool",
    "namespace",
    "asked",
    "approved",
    "rejected",
    "expired",
    "verified",
    "no help",
    "worse",
    "failed",
    "unknown",
    "undone",
    "right/wrong",
    "bar",
];

/// One row for each tool in each namespace: what came of what was asked for, and whether it has earned a leave.
fn table(records: &BTreeMap<Pair, Record>, bar: Bar) -> Vec<String> {
    if records.is_empty() {
        return vec!["nothing was asked for".to_owned()];
    }
    let mut rows: Vec<Vec<String>> = vec![COLUMNS.map(str::to_owned).to_vec()];
    for (pair, record) in records {
        let counts = [record.asked, record.approved, record.rejected, record.expired, record.verified];
        let bad = [record.not_better, record.worse, record.failed, record.unknown, record.undone];
        let mut row = vec![pair.tool.clone(), pair.namespace.clone()];
        row.extend(counts.iter().chain(&bad).map(u32::to_string));
        row.push(format!("{}/{}", record.right, record.wrong));
        row.push(if record.meets(bar) { "met" } else { "-" }.to_owned());
        rows.push(row);
    }
    let mut lines = aligned(&rows, 2);
    lines.push(format!(
        "the bar (promotion): {} approved, at most {} bad: no help, worse, failed, unknown or undone",
        bar.approved, bar.bad
    ));
    lines
}

/// One row for each namespace: how soon its cards were there, whether their causes were right, and what they cost.
fn places(places: &mut BTreeMap<String, Place>, currency: Option<&str>) -> Vec<String> {
    let money = currency.unwrap_or("money");
    let heads = ["namespace", "cards", "median", "95 of 100", "right/wrong", "precision", "tokens", money];
    let mut rows: Vec<Vec<String>> = vec![heads.map(str::to_owned).to_vec()];
    for (namespace, place) in places {
        place.times_to_card.sort_unstable();
        let time = |of_100| match place.times_to_card.as_slice() {
            [] => "-".to_owned(),
            times => seconds(share(times, of_100)),
        };
        rows.push(vec![
            namespace.clone(),
            place.times_to_card.len().to_string(),
            time(50),
            time(95),
            format!("{}/{}", place.right, place.wrong),
            precision(place.right, place.wrong),
            place.tokens.to_string(),
            currency.map_or("-".to_owned(), |_| budget::shown(place.micros).to_string()),
        ]);
    }
    aligned(&rows, 1)
}

/// `90 %`: of the causes that somebody judged so many were right.
fn precision(right: u32, wrong: u32) -> String {
    (right * 100).checked_div(right + wrong).map_or("-".to_owned(), |of_100| format!("{of_100} %"))
}

/// The rows in columns: names, the first `left` of them, to the left, numbers to the right.
fn aligned(rows: &[Vec<String>], left: usize) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = if column < left { write!(line, "{cell:<width$}  ") } else { write!(line, "{cell:>width$}  ") };
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The reasons that people gave for a no and for a thumb down.
fn reasons(records: &BTreeMap<Pair, Record>, thumbs: &[(IncidentId, Thumb)]) -> Vec<String> {
    let no = records.iter().flat_map(|(Pair { tool, namespace }, record)| {
        record.reasons.iter().map(move |reason| format!("  {tool} in {namespace}, rejected: {}", reason.one_line()))
    });
    let down = thumbs.iter().filter(|(_, thumb)| !thumb.up).filter_map(|(incident, thumb)| {
        Some(format!("  cause of {incident}, wrong: {}", thumb.reason.as_ref()?.one_line()))
    });
    no.chain(down).collect()
}

/// The value below which so many of a hundred lie; `sorted` is not empty.
fn share(sorted: &[u64], of_100: usize) -> u64 {
    let at = (sorted.len() * of_100).div_ceil(100).clamp(1, sorted.len());
    sorted[at - 1]
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ApprovalId, ApprovalState, ClusterName, Incident, Kind, Nonce, ObjectRef, Post, PostKind, Verification,
    };
    use crate::store::tests::world::on_each_engine;
    use crate::store::{Durability, Write};

    #[test]
    fn a_report_tells_the_record_of_each_pair_and_whether_it_meets_the_bar() {
        let pair = |namespace: &str| Pair { tool: "rollout_undo".to_owned(), namespace: namespace.to_owned() };
        let good =
            Record { asked: 21, approved: 20, rejected: 1, verified: 20, right: 9, wrong: 1, ..Record::default() };
        let reasons = vec!["the DBA raises the limit".into()];
        let poor = Record {
            asked: 30,
            approved: 25,
            verified: 22,
            not_better: 1,
            worse: 1,
            undone: 1,
            reasons,
            ..Record::default()
        };
        let at: Timestamp = "2026-11-01T12:00:00Z".parse().unwrap();
        let incident = IncidentId::parse("i1").unwrap();
        let thumb = |up, reason: Option<&'static str>| {
            (incident.clone(), Thumb { user: "U1".into(), up, reason: reason.map(Into::into), at })
        };
        let mut thumbs: Vec<_> = (0..9).map(|_| thumb(true, None)).collect();
        thumbs.push(thumb(false, Some("it was the node")));
        let suspension =
            Suspension { approval: ApprovalId::parse("a1").unwrap(), why: "rollout_undo did not help".into(), at };
        let shop = Place { times_to_card: vec![900, 400, 300], right: 9, wrong: 1, tokens: 300_000, micros: 1_200_000 };
        let billing = Place { times_to_card: vec![450, 12_300], tokens: 10_200, micros: 30_000, ..Place::default() };
        let facts = Facts {
            heading: Heading { cluster: "prod".to_owned(), days: 30, since: at },
            records: [(pair("shop"), good), (pair("billing"), poor)].into(),
            is_cut: false,
            thumbs,
            places: [("shop".to_owned(), shop), ("billing".to_owned(), billing)].into(),
            times_to_card: vec![900, 400, 300, 450, 12_300],
            tokens: 310_200,
            micros: 1_230_000,
            currency: Some("USD".to_owned()),
            bar: Bar { approved: 20, bad: 0 },
            suspended: [("U1 rollout_undo billing 2026-12-31".to_owned(), suspension)].into(),
        };
        insta::assert_snapshot!(told(facts), @r"
        cluster prod, the 30 days since 2026-11-01T12:00:00Z
        cards   5, posted 0.4 s after the first signal (median), 12.3 s (95 of 100)
        causes  9 right, 1 wrong by thumbs: precision 90 %
        spend   310200 tokens, 1.23 USD

        namespace  cards  median  95 of 100  right/wrong  precision  tokens     USD
        billing        2   0.4 s     12.3 s          0/0          -   10200  0.0300
        shop           3   0.4 s      0.9 s          9/1       90 %  300000    1.20

        tool          namespace  asked  approved  rejected  expired  verified  no help  worse  failed  unknown  undone  right/wrong  bar
        rollout_undo  billing       30        25         0        0        22        1      1       0        0       1          0/0    -
        rollout_undo  shop          21        20         1        0        20        0      0       0        0       0          9/1  met
        the bar (promotion): 20 approved, at most 0 bad: no help, worse, failed, unknown or undone

        why not
          rollout_undo in billing, rejected: the DBA raises the limit
          cause of i1, wrong: it was the node

        standing leaves that are suspended: a person ends that by giving them again in the policy, with another `until`
          U1 rollout_undo billing 2026-12-31: rollout_undo did not help (2026-11-01T12:00:00Z, a1)
        ");
    }

    #[test]
    fn a_report_of_nothing_says_so() {
        let facts = Facts {
            heading: Heading { cluster: "prod".to_owned(), days: 30, since: Timestamp::UNIX_EPOCH },
            records: BTreeMap::new(),
            is_cut: false,
            thumbs: Vec::new(),
            places: BTreeMap::new(),
            times_to_card: Vec::new(),
            tokens: 0,
            micros: 0,
            currency: None,
            bar: Bar { approved: 20, bad: 0 },
            suspended: BTreeMap::new(),
        };
        insta::assert_snapshot!(told(facts), @r"
        cluster prod, the 30 days since 1970-01-01T00:00:00Z
        cards   none was posted
        causes  nobody has said whether they were right
        spend   0 tokens, no price is configured (model.prices)

        nothing was asked for
        ");
    }

    const TOLD: &str = "
cluster prod, the 30 days since 1970-01-01T00:00:00Z
cards   2, posted 1.5 s after the first signal (median), 1.5 s (95 of 100)
causes  1 right, 1 wrong by thumbs: precision 50 %
spend   3007 tokens, 1.00 USD

namespace     cards  median  95 of 100  right/wrong  precision  tokens     USD
(cluster)         1   1.5 s      1.5 s          0/0          -    2000    0.50
(not stored)      0       -          -          0/0          -       7  0.0000
bank              1   1.5 s      1.5 s          1/1       50 %    1000    0.50

tool             namespace  asked  approved  rejected  expired  verified  no help  worse  failed  unknown  undone  right/wrong  bar
rollout_restart  shop           3         3         0        0         3        0      0       0        0       0          1/1  met
the bar (promotion): 3 approved, at most 0 bad: no help, worse, failed, unknown or undone
";

    #[tokio::test]
    async fn a_report_is_read_from_the_store_by_tool_and_by_namespace() {
        on_each_engine(async |world| {
            let store = world.open().await;
            let node = ObjectRef::new(Kind::Node, None, "worker-1").unwrap();
            let bank = ObjectRef::new(Kind::Deployment, Some("bank"), "ledger").unwrap();
            let mut writes = Vec::new();
            for (n, subject) in [bank, node].into_iter().enumerate() {
                let incident = Incident { subject, ..world.incident(&format!("i{n}")) };
                let (signal, id) = (world.signal(n as u32), incident.id.clone());
                let place = Write::Place { signal: signal.id.clone(), incident: id.clone() };
                writes.extend([Write::Signals(vec![signal]), Write::Incident(Box::new(incident)), place]);
                writes.push(Write::Charge {
                    incident: id,
                    key: "t".into(),
                    tokens: 1_000 * (n as u64 + 1),
                    micros: 500_000,
                });
            }
            let (bank, node) = (world.incident("i0").id, world.incident("i1").id);
            let gone = world.incident("i9").id;
            writes.push(Write::Charge { incident: gone, key: "t".into(), tokens: 7, micros: 0 });
            let thumb = |user, up| Thumb { user, up, reason: None, at: world.now() };
            writes.push(Write::Thumb { incident: bank.clone(), thumb: thumb("U1".into(), true) });
            writes.push(Write::Thumb { incident: bank.clone(), thumb: thumb("U2".into(), false) });
            store.commit(writes, Durability::Durable, None).await.unwrap();
            world.pass_ms(1_500);
            let card = |incident: &IncidentId| Post {
                nonce: Nonce::parse(&format!("n-{incident}")).unwrap(),
                cluster: ClusterName::parse("prod").unwrap(),
                incident: incident.clone(),
                kind: PostKind::Card,
                channel: "C1".into(),
                posting_at: world.now(),
                absent_reads: 0,
                ts: Some("1.2".into()),
                rendered: String::new(),
                link: None,
                anew: false,
            };
            let mut writes = vec![Write::Post(card(&bank)), Write::Post(card(&node))];
            for n in 0..3 {
                let mut done = world.approval(&format!("a{n}"), &bank, ApprovalState::Executed);
                done.verification = Verification::Better { at: world.now(), ready: 1, wanted: 1 };
                writes.push(Write::Approval { approval: Box::new(done), was: None });
            }
            store.commit(writes, Durability::Durable, None).await.unwrap();
            let heading = Heading { cluster: "prod".to_owned(), days: 30, since: Timestamp::UNIX_EPOCH };
            let price = Price { input: 1.0, output: 1.0, currency: "USD".into() };
            let facts = gather(&store, heading, Some(price), Bar { approved: 3, bad: 0 }).await.unwrap();
            assert_eq!(told(facts).trim(), TOLD.trim());
            store.close().await;
        })
        .await;
    }
}
