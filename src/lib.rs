//! firstlook takes the first look at an incident: the code map, in reading order.

pub mod act;
pub mod agent;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod correlate;
pub mod findings;
pub mod govern;
pub mod http;
pub mod ingest;
pub mod mcp;
pub mod model;
pub mod observe;
pub mod redact;
pub mod sim;
pub mod slack;
pub mod stages;
pub mod store;
pub mod telemetry;
