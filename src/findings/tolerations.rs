//! Which taints a toleration tolerates, both as they are told: by key, value, effect and operator.

/// A taint.
#[derive(Clone, Copy)]
pub(super) struct Taint<'a> {
    key: &'a str,
    value: &'a str,
    /// Empty where it is not known: the scheduler does not name it.
    effect: &'a str,
}

impl<'a> Taint<'a> {
    /// As nodes have it: `key=value:effect`.
    pub(super) fn of_node(text: &'a str) -> Self {
        let (key, value, effect) = parts(text);
        Self { key, value, effect }
    }

    /// As the scheduler names it: `key: value`.
    pub(super) fn named(text: &'a str) -> Self {
        let (key, value) = text.split_once(':').unwrap_or((text, ""));
        Self { key: key.trim(), value: value.trim(), effect: "" }
    }

    /// Whether it keeps pods from being scheduled.
    pub(super) fn closes(&self) -> bool {
        matches!(self.effect, "NoSchedule" | "NoExecute")
    }

    /// Whether both are of one key and value.
    pub(super) fn is_like(&self, other: &Taint<'_>) -> bool {
        (self.key, self.value) == (other.key, other.value)
    }
}

/// `key=value:effect`: neither a key nor a value holds a colon.
fn parts(text: &str) -> (&str, &str, &str) {
    let (rest, effect) = text.split_once(':').unwrap_or((text, ""));
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    (key, value, effect)
}

/// As the scheduler decides it. What compares numbers (`Lt`, `Gt`) is taken to tolerate nothing.
pub(super) fn tolerates(toleration: &str, taint: &Taint<'_>) -> bool {
    let mut words = toleration.split(' ');
    let (key, value, effect) = parts(words.next().unwrap_or_default());
    let of_value = match words.find_map(|word| word.strip_prefix("op=")) {
        // A toleration without a value and without an operator tolerates a taint that has none either.
        None => value == taint.value,
        Some(operator) => operator == "Exists",
    };
    let of_effect =
        effect.is_empty() || effect == taint.effect || (taint.effect.is_empty() && effect != "PreferNoSchedule");
    (key == "*" || key == taint.key) && of_value && of_effect
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toleration_tolerates_what_it_leaves_open() {
        let tolerates = |toleration: &str, taint: &str| tolerates(toleration, &Taint::of_node(taint));
        assert!(
            tolerates("gpu=yes:NoSchedule", "gpu=yes:NoSchedule") && tolerates("gpu op=Exists", "gpu=yes:NoExecute")
        );
        assert!(
            tolerates("* op=Exists", "gpu=yes:NoExecute") && tolerates("*:NoExecute op=Exists", "gpu=yes:NoExecute")
        );
        assert!(tolerates("gpu=yes", "gpu=yes:NoExecute") && tolerates("gpu:NoExecute for 60s", "gpu:NoExecute"));
        assert!(
            !tolerates("gpu=no:NoSchedule", "gpu=yes:NoSchedule") && !tolerates("gpu op=Exists", "gpus:NoSchedule")
        );
        assert!(!tolerates("gpu:NoExecute op=Exists", "gpu:NoSchedule"));
        assert!(
            !tolerates("gpu:NoSchedule", "gpu=yes:NoSchedule"),
            "without an operator it wants the value to be empty"
        );
    }

    #[test]
    fn a_taint_that_the_scheduler_names_has_any_effect_that_closes() {
        assert!(super::tolerates("team=red:NoExecute", &Taint::named("team: red")));
        assert!(
            super::tolerates("team op=Exists", &Taint::named("team"))
                && super::tolerates("team", &Taint::named("team"))
        );
        assert!(!super::tolerates("team=red:PreferNoSchedule", &Taint::named("team: red")));
        assert!(!super::tolerates("team", &Taint::named("team: red")));
    }
}
