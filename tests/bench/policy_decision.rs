//! How long one decision of the policy takes, for the benchmark: prints `{"us": ..., "decisions": ..., "rules": ...}`.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Context;
use firstlook::clock::Clock;
use firstlook::govern::policy::{Ask, Policy, Usage, decide};
use firstlook::model::{Caller, Kind, ObjectRef, Severity, Tier, Verdict};

/// Of each kind of rule: more than the policy of a company with fifty teams.
const RULES: usize = 50;
const DECISIONS: u32 = 100_000;

fn main() -> anyhow::Result<()> {
    let list = |name: &str, rule: &dyn Fn(usize) -> String| {
        format!("{name}:\n{}", (0..RULES).map(|i| format!("  - {}\n", rule(i))).collect::<String>())
    };
    let yaml = [
        list("approvers", &|i| {
            format!("{{who: [\"group:S0614TZR{i:02}\"], tiers: [reversible], namespaces: [\"team-{i}-*\"]}}")
        }),
        list("deny", &|i| format!("{{namespaces: [system-{i}]}}")),
        list("freeze", &|i| {
            format!("{{cron: \"0 18 * * FRI\", for: 60h, timezone: Europe/Paris, namespaces: [\"shop-{i}-*\"]}}")
        }),
    ]
    .concat();
    let policy = Policy::parse(&yaml, "policy.yaml")?;
    let object = ObjectRef::new(Kind::Deployment, Some("team-49-checkout"), "api").context("a name")?;
    let ask = Ask {
        tool: "rollout_restart",
        tier: Tier::Reversible,
        object: Some(&object),
        namespace: None,
        also: &[],
        labels: &[],
        severity: Severity::High,
        caller: &Caller::Agent,
        now: Clock::system().now(),
    };
    let verdict = decide(&policy, &ask, &Usage::default());
    anyhow::ensure!(matches!(verdict, Verdict::Ask { .. }), "the last rule of all was to decide, not {verdict:?}");
    let began = Instant::now();
    for _ in 0..DECISIONS {
        black_box(decide(black_box(&policy), black_box(&ask), &Usage::default()));
    }
    let us = began.elapsed().as_secs_f64() * 1e6 / f64::from(DECISIONS);
    println!("{}", serde_json::json!({"us": us, "decisions": DECISIONS, "rules": RULES * 3}));
    Ok(())
}
