//! Observe: layer 1, what is read from the cluster. It has no other verb than to read and to ask what one may.

pub mod json;
pub mod reader;
pub mod typed;

pub use reader::{Listed, LogAsk, ReadError, Reader, Selector};
