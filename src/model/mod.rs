//! The nouns of firstlook, pure: what is heard, seen, found, asked and done.

pub mod action;
pub mod approval;
pub mod call;
pub mod card;
pub mod evidence;
pub mod finding;
pub mod ids;
pub mod incident;
pub mod lookup;
pub mod object;
pub mod past;
pub mod patience;
pub mod report;
pub mod resources;
pub mod room;
pub mod scene;
pub mod schedule;
pub mod signal;
pub mod silence;
pub mod tier;
pub mod words;

pub use action::{Action, ActionHash, Moved, Proposal};
pub use approval::{
    Approval, ApprovalState, Bound, Click, Execution, Press, Pressed, Preview, ReasonFor, Standing, Verification,
};
pub use call::{Call, CallOutcome, Caller, Verdict};
pub use card::{Bond, BondKind, Card, Digest, DigestLine, Heard, Link, Member, Post, PostKind, Thumb};
pub use evidence::{Citation, Evidence, Reading, Segment, Source};
pub use finding::{Certainty, Finding, Role};
pub use ids::{ApprovalId, CallId, ClusterName, EvidenceId, IncidentId, Nonce, SignalId};
pub use incident::{
    ASKED, Again, Carried, Cause, Ending, Incident, IncidentState, Investigation, InvestigationState, Listed, Merge,
    Severity, Shared, Weight, Why,
};
pub use lookup::Lookup;
pub use object::{Kind, Name, ObjectRef};
pub use past::Past;
pub use patience::Patience;
pub use report::{Origin, Report, Review};
pub use resources::{Quantity, Resources};
pub use room::Room;
pub use scene::{Part, Scene};
pub use signal::{Alert, AlertStatus, Rollout, Signal, SignalBody, Warning, WarningSource};
pub use silence::Raised;
pub use tier::Tier;
pub use words::Words;
