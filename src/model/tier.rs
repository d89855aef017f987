//! Tiers: how far a tool reaches.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::redact::Safe;

/// How far a tool reaches. Compiled into each tool; policy may raise it, nothing lowers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    ReadOnly,
    Reversible,
    Destructive,
}

impl Tier {
    /// The word used in policy, card and audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::ReadOnly => "read-only",
            Tier::Reversible => "reversible",
            Tier::Destructive => "destructive",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Safe for Tier {}
