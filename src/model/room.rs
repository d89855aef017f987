//! How much a language model takes in at once.

/// The room that a model has for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What its server is set to, prompt and answer together, in tokens.
    pub context_tokens: u64,
    /// None: every tool. Else the most useful ones, beside `submit_report`: small models choose badly among many.
    pub tools_at_once: Option<usize>,
}

impl Default for Room {
    fn default() -> Self {
        // 32,000: what models that are served today hold at least, unless their server is set to less.
        Self { context_tokens: 32_000, tools_at_once: None }
    }
}
