//! What is kept of the past and what it is good for: anchors of the audit chain, the bar of earned autonomy.

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
