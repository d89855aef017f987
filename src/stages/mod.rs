//! The stages: each finds its own work in the store, does one unit of it and can be run again.

pub mod absorb;
pub mod away;
mod changed;
pub mod correlate;
pub mod deliver;
pub mod execute;
pub mod expire;
pub mod investigate;
pub mod lease;
pub mod listed;
pub mod pace;
pub mod preview;
pub mod resolve;
pub mod seal;
pub mod verify;

/// What one run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// There is nothing to do until something changes.
    Idle,
    /// A unit was done; there may be more.
    Worked,
}

#[cfg(test)]
mod tests;
