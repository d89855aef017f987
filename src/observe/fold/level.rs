//! How bad a log line says it is, by the level it declares or else by its words. Pure.

/// Levels are declared near the beginning of a line; what stands later is its message.
const DECLARED_WITHIN_BYTES: usize = 200;

/// How bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    None,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    /// Its name, as a count of lines shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "without level",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
        }
    }

    fn named(word: &str) -> Option<Self> {
        const NAMES: [(&str, Level); 19] = [
            ("trace", Level::Debug),
            ("debug", Level::Debug),
            ("info", Level::Info),
            ("information", Level::Info),
            ("notice", Level::Info),
            ("log", Level::Info),
            ("warn", Level::Warn),
            ("warning", Level::Warn),
            ("error", Level::Error),
            ("err", Level::Error),
            ("eror", Level::Error),
            ("severe", Level::Error),
            ("crit", Level::Fatal),
            ("critical", Level::Fatal),
            ("alert", Level::Fatal),
            ("emerg", Level::Fatal),
            ("fatal", Level::Fatal),
            ("panic", Level::Fatal),
            ("dpanic", Level::Fatal),
        ];
        NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, level)| *level)
    }
}

/// The level that a line declares: `ERROR`, `[error]`, `level=error`, `"level":"error"`, `"level":50`, klog's `E0324`.
pub(super) fn declared(line: &str) -> Level {
    let mut end = line.len().min(DECLARED_WITHIN_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let head = &line[..end];
    if let Some(level) = klog(head) {
        return level;
    }
    let mut before: &str = "";
    let mut at = 0;
    for word in head.split(|c: char| !c.is_ascii_alphanumeric()) {
        let after = head[at..].find(word).map_or(at, |place| at + place) + word.len();
        if word.is_empty() {
            continue;
        }
        at = after;
        let keyed =
            ["level", "lvl", "severity", "levelname", "loglevel"].iter().any(|key| key.eq_ignore_ascii_case(before));
        if keyed && let Some(level) = pino(word) {
            return level;
        }
        let bracketed = head[..after - word.len()].ends_with(['[', '<']) && head[after..].starts_with([']', '>']);
        let colon = before.is_empty() && head[after..].starts_with(": ");
        let shouted = word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_uppercase());
        if (keyed || bracketed || colon || shouted)
            && let Some(level) = Level::named(word)
        {
            return level;
        }
        before = word;
    }
    Level::None
}

/// What a line is worth when only some can be shown: its declared level, or `Error` where its words speak of failure.
pub(super) fn weight(line: &str) -> Level {
    let declared = declared(line);
    if declared >= Level::Error || (declared == Level::None && speaks_of_failure(line)) {
        declared.max(Level::Error)
    } else {
        declared
    }
}

fn klog(head: &str) -> Option<Level> {
    let bytes = head.as_bytes();
    let dated = bytes.len() > 5 && bytes[1..5].iter().all(u8::is_ascii_digit) && bytes[5] == b' ';
    match bytes.first().filter(|_| dated)? {
        b'I' => Some(Level::Info),
        b'W' => Some(Level::Warn),
        b'E' => Some(Level::Error),
        b'F' => Some(Level::Fatal),
        _ => None,
    }
}

/// The numbers of bunyan and pino.
fn pino(word: &str) -> Option<Level> {
    match word.parse().ok()? {
        10 | 20 => Some(Level::Debug),
        30 => Some(Level::Info),
        40 => Some(Level::Warn),
        50 => Some(Level::Error),
        60 => Some(Level::Fatal),
        _ => None,
    }
}

/// Words with which programs say that something went wrong, without giving a level.
const FAILURE: [&str; 24] = [
    "error",
    "exception",
    "traceback",
    "panic",
    "fatal",
    "fail",
    "refused",
    "denied",
    "forbidden",
    "unauthorized",
    "timed out",
    "timeout",
    "cannot",
    "can't",
    "could not",
    "unable to",
    "not found",
    "no such",
    "not set",
    "undefined",
    "invalid",
    "killed",
    "out of memory",
    "segmentation fault",
];

fn speaks_of_failure(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    FAILURE.iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_where_programs_declare_it_and_nowhere_else() {
        for (line, level) in [
            ("2026-03-24 16:20:00,123 ERROR [main] cart: no route", Level::Error),
            (r#"{"time":"2026-03-24","level":"warn","msg":"slow"}"#, Level::Warn),
            (r#"{"level":50,"msg":"down"}"#, Level::Error),
            ("ts=2026-03-24T16:20:00Z level=info msg=\"0 errors\"", Level::Info),
            ("E0324 16:20:00.000001       1 leaderelection.go:330] lost", Level::Error),
            ("2026/03/24 16:20:00 [crit] 7#7: *1 open() failed", Level::Fatal),
            ("panic: runtime error: index out of range", Level::Fatal),
            ("error: unexpected argument '--prot' found", Level::Error),
            ("FATAL:  too many connections for role", Level::Fatal),
            ("GET /error/panic 200", Level::None),
            ("the alert is sent to ops", Level::None),
        ] {
            assert_eq!(declared(line), level, "{line}");
        }
        assert_eq!(weight("dial tcp 10.0.0.7:80: connect: connection refused"), Level::Error);
        assert_eq!(weight("level=info msg=\"0 errors\""), Level::Info, "what it declares counts");
    }
}
