//! The firstlook binary.

fn main() {}
