//! Requests and limits of a container, as a change names them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::redact::Safe;

/// Requests and limits of a container: those that are named, each with a quantity or `none`, which takes it away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_request: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_request: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Quantity>,
}

impl Resources {
    /// The values that are named, with their place below a container's `resources`.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &'static str, &Quantity)> {
        let all = [
            ("requests", "cpu", &self.cpu_request),
            ("requests", "memory", &self.memory_request),
            ("limits", "cpu", &self.cpu_limit),
            ("limits", "memory", &self.memory_limit),
        ];
        all.into_iter().filter_map(|(of, what, value)| Some((of, what, value.as_ref()?)))
    }

    /// The same names, each with what `value` gives for its place.
    pub fn map(&self, value: impl Fn(&str, &str) -> Quantity) -> Self {
        let one = |of: &str, what: &str, named: &Option<Quantity>| named.as_ref().map(|_| value(of, what));
        Self {
            cpu_request: one("requests", "cpu", &self.cpu_request),
            memory_request: one("requests", "memory", &self.memory_request),
            cpu_limit: one("limits", "cpu", &self.cpu_limit),
            memory_limit: one("limits", "memory", &self.memory_limit),
        }
    }
}

/// A quantity as Kubernetes writes it (`500m`, `1.5`, `512Mi`), or `none`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Quantity(String);

impl Quantity {
    /// Stands for a value that is not set.
    pub const NONE: &str = "none";

    /// The quantity, unless it is written in another way or is longer than any real one (20 characters).
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = text.get(digits.len()..)?;
        let known = ["", "n", "u", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"].contains(&suffix);
        let number = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.ends_with(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
            && digits.matches('.').count() <= 1;
        (text == Self::NONE || (known && number && text.len() <= 20)).then(|| Self(text.to_owned()))
    }

    /// `none`.
    pub fn none() -> Self {
        Self(Self::NONE.to_owned())
    }

    /// The quantity as text; None for `none`.
    pub fn set(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| *text != Self::NONE)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no quantity such as 500m or 512Mi, nor none"))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Safe for Quantity {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_written_as_kubernetes_writes_it_or_refused() {
        for good in ["500m", "1.5", "512Mi", "2", "1G", "none"] {
            assert!(Quantity::parse(good).is_some(), "{good}");
        }
        for bad in ["", "m", "-1", "1e99", "1.2.3", "5 Mi", "12Xi", ".5", "123456789012345678901", "`rm`", "1\u{663}"] {
            assert!(Quantity::parse(bad).is_none(), "{bad}");
        }
    }
}
