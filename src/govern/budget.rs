//! The budget: what may be spent on models in a day and in 30 days, and what a turn costs. Pure.

use crate::govern::policy::Limits;
use crate::model::Severity;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// What a million tokens of a model cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    pub input: f64,
    pub output: f64,
    /// `USD`: only shown.
    pub currency: Redacted,
}

/// Tokens, and what they cost in millionths of the prices' currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    pub tokens: u64,
    pub micros: u64,
}

impl Spend {
    /// What so many tokens cost. A price for a million tokens is the price of one in millionths, so nothing is lost but what
    /// is rounded, upwards.
    pub fn of(input: u64, output: u64, price: Option<&Price>) -> Self {
        let micros = price.map_or(0.0, |price| (input as f64 * price.input + output as f64 * price.output).ceil());
        // A float beyond the range of u64 becomes its end.
        Self { tokens: input + output, micros: micros as u64 }
    }
}

/// Why this turn may not be paid for, if it may not: which budget it would exceed. A share is kept for critical
/// incidents.
pub fn spent_out(limits: &Limits, severity: Severity, day: Spend, month: Spend, turn: Spend) -> Option<Redacted> {
    let share = if severity == Severity::Critical { 1.0 } else { 1.0 - limits.reserve_for_critical };
    // Precision is lost only above 2^52.
    let allowed = |limit: u64| (limit as f64 * share) as u64;
    let kept = if share < 1.0 { ", the rest is kept for critical incidents" } else { "" };
    let tokens = [
        (Some(limits.tokens_per_day), day.tokens, "limits.tokens_per_day"),
        (limits.tokens_per_month, month.tokens, "limits.tokens_per_month"),
    ];
    for (limit, spent, rule) in tokens {
        if let Some(allowed) = limit.map(allowed).filter(|allowed| spent + turn.tokens > *allowed) {
            return Some(text!("{} of {} tokens are spent{} ({})", spent, allowed, kept, rule));
        }
    }
    let money = [
        (limits.money_per_day, day.micros, "limits.money_per_day"),
        (limits.money_per_month, month.micros, "limits.money_per_month"),
    ];
    for (limit, spent, rule) in money {
        let allowed = limit.map(|limit| allowed(micros(limit)));
        if let Some(allowed) = allowed.filter(|allowed| spent + turn.micros > *allowed) {
            return Some(text!("{} of {} are spent{} ({})", shown(spent), shown(allowed), kept, rule));
        }
    }
    None
}

fn micros(money: f64) -> u64 {
    (money * 1e6) as u64
}

/// `1.25`: cents and, below ten cents, what is left of them.
pub fn shown(micros: u64) -> Redacted {
    let digits = if micros < 100_000 { 4 } else { 2 };
    Redactor::default().redact(&format!("{:.digits$}", micros as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            tokens_per_day: 1_000_000,
            tokens_per_month: Some(10_000_000),
            money_per_day: Some(2.0),
            money_per_month: Some(20.0),
            reserve_for_critical: 0.3,
            ..Limits::default()
        }
    }

    fn spend(tokens: u64, micros: u64) -> Spend {
        Spend { tokens, micros }
    }

    #[test]
    fn a_turn_costs_what_its_models_price_says() {
        let price = Price { input: 0.25, output: 2.0, currency: "USD".into() };
        assert_eq!(Spend::of(9_000, 1_000, Some(&price)), spend(10_000, 4_250));
        assert_eq!(Spend::of(9_000, 1_000, None), spend(10_000, 0));
        assert_eq!(Spend::of(1, 0, Some(&price)).micros, 1, "rounded upwards");
        assert_eq!((shown(4_200).as_str(), shown(1_234_567).as_str()), ("0.0042", "1.23"));
    }

    #[test]
    fn each_budget_is_named_and_a_share_is_kept_for_critical_incidents() {
        let (none, turn) = (Spend::default(), spend(10_000, 4_250));
        let out = |severity, day, month| spent_out(&limits(), severity, day, month, turn);
        for (day, month, part) in [
            (
                spend(695_000, 0),
                none,
                "695000 of 700000 tokens are spent, the rest is kept for critical incidents (limits.tokens_per_day)",
            ),
            (none, spend(6_995_000, 0), "limits.tokens_per_month"),
            (
                spend(0, 1_396_000),
                none,
                "1.40 of 1.40 are spent, the rest is kept for critical incidents (limits.money_per_day)",
            ),
            (none, spend(0, 13_996_000), "limits.money_per_month"),
        ] {
            for severity in [Severity::Medium, Severity::High] {
                let why = out(severity, day, month).expect(part);
                assert!(why.as_str().contains(part), "{why}");
            }
            assert_eq!(
                out(Severity::Critical, day, month),
                None,
                "the next critical alert still gets its investigation"
            );
        }
        let why = out(Severity::Critical, spend(995_000, 0), none).unwrap();
        assert_eq!(why.as_str(), "995000 of 1000000 tokens are spent (limits.tokens_per_day)");
        assert_eq!(out(Severity::Medium, spend(600_000, 1_000_000), spend(600_000, 1_000_000)), None);
    }

    proptest! {
        #[test]
        fn no_turn_that_is_allowed_exceeds_a_budget(
            day in (0_u64..2_000_000, 0_u64..4_000_000), month in (0_u64..20_000_000, 0_u64..40_000_000),
            turn in (0_u64..2_000_000, 0_u64..4_000_000), severe: bool,
        ) {
            let severity = if severe { Severity::Critical } else { Severity::Low };
            let (day, month, turn) = (spend(day.0, day.1), spend(month.0, month.1), spend(turn.0, turn.1));
            if spent_out(&limits(), severity, day, month, turn).is_none() {
                let share = if severe { 10 } else { 7 };
                prop_assert!((day.tokens + turn.tokens) * 10 <= 1_000_000 * share);
                prop_assert!((month.tokens + turn.tokens) * 10 <= 10_000_000 * share);
                prop_assert!((day.micros + turn.micros) * 10 <= 2_000_000 * share);
                prop_assert!((month.micros + turn.micros) * 10 <= 20_000_000 * share);
            }
        }
    }
}
