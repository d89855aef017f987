//! Layer 3, the agent runtime: the model, its prompt, its turns and the proof of its report.

mod claims;
pub mod compact;
pub mod llm;
mod opening;
pub mod prompt;
pub mod report;
pub mod review;
pub mod step;
pub mod turn;
mod written;
