//! What is kept of the past and what it is good for: anchors of the audit chain, prices, the bar of earned autonomy.

use std::path::PathBuf;

use serde::Deserialize;

/// The audit chain.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Where heads of the chain are written down, one line each: `stdout`, or a file that is appended to. It proves
    /// something only where whoever can write the database cannot write.
    pub anchors: Option<PathBuf>,
}

/// What a million tokens of a model cost.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub input: f64,
    pub output: f64,
    /// Only shown.
    #[serde(default = "dollars")]
    pub currency: String,
}

fn dollars() -> String {
    "USD".to_owned()
}

impl Price {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is_price = |price: f64| (0.0..1e6).contains(&price);
        let is_currency = self.currency.len() == 3 && self.currency.bytes().all(|b| b.is_ascii_uppercase());
        if !is_price(self.input) || !is_price(self.output) {
            return Err("input and output are what a million tokens cost, at least 0");
        }
        if is_currency { Ok(()) } else { Err("currency: three capital letters, such as USD") }
    }
}

/// What a tool's record in a namespace must be before a standing leave is suggested; nothing is ever given by itself.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Promotion {
    /// Approved at least so often.
    pub approved: u32,
    /// Bad outcomes at most: not better, failed, unknown, undone.
    pub bad: u32,
}

impl Default for Promotion {
    fn default() -> Self {
        // Twenty without a bad one: at three in a hundred bad, half of such records would show it.
        Self { approved: 20, bad: 0 }
    }
}
