//! Identifiers: one type each, so that none can stand where another is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::redact::Safe;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(String);

        impl $name {
            /// Takes an identifier that firstlook itself wrote (a database row, a button's value), unless it holds
            /// anything but letters, digits, `-`, `_` and `.`, or more than 128 characters.
            pub fn parse(text: &str) -> Option<Self> {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                (!text.is_empty() && text.len() <= 128 && text.chars().all(plain)).then(|| Self(text.to_owned()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Safe for $name {}
    };
}

text_id!(
    /// The configured name of the cluster that a row belongs to; several clusters may share one database.
    ClusterName
);
text_id!(
    /// One signal; derived from what it says, so that a repeat has the same id.
    SignalId
);
text_id!(
    /// One incident.
    IncidentId
);
text_id!(
    /// One approval; also the value of the annotation `firstlook.dev/approval`.
    ApprovalId
);
text_id!(
    /// One tool call.
    CallId
);
text_id!(
    /// Marks one Slack post, so that it can be found again when its answer was lost.
    Nonce
);

impl SignalId {
    /// The id of a signal with this identity; equal parts give equal ids (128 bits of SHA-256).
    pub fn derive(parts: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        Self(hex::encode(&digest.finalize()[..16]))
    }
}

/// Twelve hex digits of a fresh UUID's random part (48 bits): short enough for a card, unique enough for one database.
fn fresh(prefix: &str) -> String {
    let id = uuid::Uuid::now_v7().simple().to_string();
    format!("{prefix}{}", &id[id.len() - 12..])
}

impl IncidentId {
    /// A new incident's id.
    pub fn fresh() -> Self {
        Self(fresh("i"))
    }
}

impl ApprovalId {
    /// A new approval's id.
    pub fn fresh() -> Self {
        Self(fresh("a"))
    }
}

impl CallId {
    /// A new call's id.
    pub fn fresh() -> Self {
        Self(fresh("c"))
    }
}

impl Nonce {
    /// A new post's mark.
    pub fn fresh() -> Self {
        Self(fresh("n"))
    }
}

/// A piece of evidence of one incident, counted from 1 in the order of the calls: `e1`, `e2`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EvidenceId(pub u32);

impl fmt::Display for EvidenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

impl Safe for EvidenceId {}

impl FromStr for EvidenceId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim().strip_prefix('e').and_then(|digits| digits.parse().ok());
        number.filter(|n| *n > 0).map(Self).ok_or_else(|| format!("`{text}` is no evidence id such as e1"))
    }
}

impl Serialize for EvidenceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EvidenceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
