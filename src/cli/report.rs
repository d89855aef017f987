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
    let thumbs = store.thumbs_since(since).await?;
    let (tokens, micros) = store.spent_since(since).await?;
    let price = run::price(config.model.as_ref());
    let facts = Facts {
        cluster: &config.cluster,
        days: args.since,
        since,
        records: records(&store.approvals_made_since(since).await?, &thumbs),
        thumbs,
        times_to_card: store.times_to_card(since).await?,
        tokens,
        money: price.map(|price| format!("{} {}", budget::shown(micros), price.currency)),
        bar: Bar { approved: config.promotion.approved, bad: config.promotion.bad },
        suspended: store.leaves_suspended().await?,
    };
    store.close().await;
    print!("{}", told(facts));
    Ok(ExitCode::SUCCESS)
}

/// Everything that the report tells.
struct Facts<'a> {
    cluster: &'a str,
    days: u32,
    since: Timestamp,
    records: BTreeMap<Pair, Record>,
    thumbs: Vec<(IncidentId, Thumb)>,
    /// In ms.
    times_to_card: Vec<u64>,
    tokens: u64,
    /// None without a price.
    money: Option<String>,
    bar: Bar,
    suspended: BTreeMap<String, Suspension>,
}

fn told(mut facts: Facts<'_>) -> String {
    let mut lines = vec![format!("cluster {}, the {} days since {}", facts.cluster, facts.days, facts.since)];
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
        all => format!("causes  {right} right, {wrong} wrong by thumbs: precision {} %", right * 100 / all),
    });
    let money = facts.money.unwrap_or_else(|| "no price is configured (model.prices)".to_owned());
    lines.push(format!("spend   {} tokens, {money}", facts.tokens));
    lines.push(String::new());
    lines.extend(table(&facts.records, facts.bar));
    let reasons: Vec<String> = reasons(&facts.records, &facts.thumbs);
    if !reasons.is_empty() {
        lines.push(String::new());
        lines.push("why not".to_owned());
        lines.extend(reasons);
    }
    if !facts.suspended.is_empty() {
        lines.push(String::new());
        lines.push("standing leaves that are suspended, until they are given again with another date".to_owned());
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
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Names to the left, numbers to the right. Writing to a String cannot fail.
                let _ = if column < 2 { write!(line, "{cell:<width$}  ") } else { write!(line, "{cell:>width$}  ") };
            }
            line.trim_end().to_owned()
        })
        .collect();
    lines.push(format!(
        "the bar (promotion): {} approved, at most {} bad: no help, worse, failed, unknown or undone",
        bar.approved, bar.bad
    ));
    lines
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
    use crate::model::ApprovalId;

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
        let facts = Facts {
            cluster: "prod",
            days: 30,
            since: at,
            records: [(pair("shop"), good), (pair("billing"), poor)].into(),
            thumbs,
            times_to_card: vec![900, 400, 300, 450, 12_300],
            tokens: 310_200,
            money: Some("1.23 USD".to_owned()),
            bar: Bar { approved: 20, bad: 0 },
            suspended: [("U1 rollout_undo billing 2026-12-31".to_owned(), suspension)].into(),
        };
        insta::assert_snapshot!(told(facts), @r"
        cluster prod, the 30 days since 2026-11-01T12:00:00Z
        cards   5, posted 0.4 s after the first signal (median), 12.3 s (95 of 100)
        causes  9 right, 1 wrong by thumbs: precision 90 %
        spend   310200 tokens, 1.23 USD

        tool          namespace  asked  approved  rejected  expired  verified  no help  worse  failed  unknown  undone  right/wrong  bar
        rollout_undo  billing       30        25         0        0        22        1      1       0        0       1          0/0    -
        rollout_undo  shop          21        20         1        0        20        0      0       0        0       0          9/1  met
        the bar (promotion): 20 approved, at most 0 bad: no help, worse, failed, unknown or undone

        why not
          rollout_undo in billing, rejected: the DBA raises the limit
          cause of i1, wrong: it was the node

        standing leaves that are suspended, until they are given again with another date
          U1 rollout_undo billing 2026-12-31: rollout_undo did not help (2026-11-01T12:00:00Z, a1)
        ");
    }

    #[test]
    fn a_report_of_nothing_says_so() {
        let facts = Facts {
            cluster: "prod",
            days: 30,
            since: Timestamp::UNIX_EPOCH,
            records: BTreeMap::new(),
            thumbs: Vec::new(),
            times_to_card: Vec::new(),
            tokens: 0,
            money: None,
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
}
