//! Observe: layer 1, what is read from the cluster. It has no other verb than to read and to ask what one may.

pub mod access;
pub mod changes;
pub mod fold;
pub mod json;
pub mod motion;
pub mod owner;
pub mod reader;
pub mod scene;
pub mod subject;
pub mod tables;
pub mod typed;

pub use reader::{Listed, LogAsk, ReadError, Reader, Selector};

#[cfg(test)]
mod tests;
