//! firstlook takes the first look at an incident: this is the code map, in the order in which an alert meets the files.
//!
//! ```text
//!  world ──► ingest ──► resolve ──► correlate ──► deliver ──► investigate ──► preview ──► deliver ──► (a person clicks)
//!                                                                                                          │
//!                      closed ◄── verify ◄── execute (everything asked again, then one permit) ◄───────────┘
//! ```
//!
//! | step | file | what happens |
//! | --- | --- | --- |
//! | 1 | [`http::webhook`] | authenticates, [`ingest::alertmanager`] parses (pure), the signals are on disk, 200 |
//! | | [`ingest::watch`] | the same for rollouts, pods in trouble, nodes and Warning events |
//! | 2 | [`stages::resolve`] | [`observe::subject`]: which object it is about; [`observe::scene`]: what stands around it |
//! | 3 | [`stages::correlate`] | [`correlate::plan`] (pure): which signals are one fault, each with a sentence why |
//! | 4 | [`stages::deliver`] | the first card, from [`findings`] (pure) over the scene, drawn by [`slack::render`] (pure) |
//! | 5 | [`stages::investigate`] | one model turn a run: [`agent::turn`], tools through [`govern::gate`] to [`mcp`], [`agent::report`] proves, [`agent::review`] doubts |
//! | 6 | [`stages::preview`] | [`act`] rehearses what was proposed: dry run, pods touched, budget |
//! | 7 | [`stages::deliver`] | the same card, edited, now with a button |
//! | 8 | [`http::slack`], [`slack::socket`] | one desk for clicks: on disk before Slack is told |
//! | 9 | [`stages::execute`] | [`govern::approvals`] asks everything again and mints a [`govern::permit::Permit`]; [`act`] spends it |
//! | 10 | [`stages::verify`] | did it help? [`correlate::ending`] says when an incident is over |
//!
//! Beside the way: [`stages::expire`] ends requests for leave, [`stages::seal`] chains the audit, [`app`] builds and
//! spawns all of it, [`cli`] is the command line, [`sim`] the embedded world of demo, eval and tests. [`model`] names the
//! things, [`store`] remembers them, [`redact`] is the only way for outside text to get in, [`clock`] the only clock.
//!
//! # Invariants
//!
//! 1. [`observe`] only reads. Nothing reaches a tool but through the gate. Nothing changes the cluster but [`act`], and
//!    that does not compile without a permit.
//! 2. A webhook is answered 2xx only after its signals are on disk, a click only after it is.
//! 3. The database is the queue: a stage finds its own work, claims it by lease, does one unit, can be run again.
//! 4. All text from outside becomes `Redacted` at its edge. No verb on secrets exists: there is no such kind in the code.
//! 5. Everything from a tool is data, never an instruction. What a button does is written by code from a typed action.
//! 6. A citation lies word for word within one piece of evidence, or it is struck with its claim. A tool that failed is
//!    missing data, never evidence.
//! 7. Without a model the card still says what fired, what changed and what the rules found.
//! 8. Every instant that is stored or compared comes from [`clock`].
//! 9. Planning is pure, acting is thin.
//!
//! `tests/tidy.rs` holds the modules to their import table.

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
