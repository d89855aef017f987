//! correlate.
