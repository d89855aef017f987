//! Observe: layer 1, what is read from the cluster. It has no other verb than to read and to ask what one may.

pub mod access;
pub mod alertmanager;
pub mod answers;
pub mod changes;
pub mod edits;
pub mod fold;
pub mod json;
pub mod loki;
pub mod motion;
pub mod owner;
pub mod pagerduty;
pub mod prometheus;
pub mod queries;
pub mod reader;
pub mod runbooks;
pub mod scene;
pub mod series;
pub mod subject;
pub mod tables;
pub mod typed;
pub mod web;

pub use alertmanager::Alertmanager;
pub use loki::Loki;
pub use pagerduty::PagerDuty;
pub use prometheus::Prometheus;
pub use reader::{Listed, LogAsk, LogRead, ReadError, Reader, Selector};
pub use runbooks::{Runbook, Runbooks};

/// What may be read beside the cluster; each is there only where it is configured.
#[derive(Clone, Default)]
pub struct Sources {
    pub prometheus: Option<Prometheus>,
    pub loki: Option<Loki>,
    pub pagerduty: Option<PagerDuty>,
    pub alertmanager: Option<Alertmanager>,
    pub runbooks: Runbooks,
}

#[cfg(test)]
mod tests;
