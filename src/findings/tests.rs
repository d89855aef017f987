//! Stories of the rules over hand-built scenes.
