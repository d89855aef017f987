//! govern.
