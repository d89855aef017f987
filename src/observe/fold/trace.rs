//! Which lines are one stack trace: Java, Python, Go, JavaScript, .NET, Ruby, Rust. Pure.

/// What is known of the lines that came last and may belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trace {
    /// A line like others.
    #[default]
    No,
    /// Frames follow, or were there: indented lines belong to it.
    Open,
    /// Python: after the frames one line tells the exception.
    Python,
    /// Python: another exception follows.
    Chained,
    /// Go: functions stand at the margin.
    Go,
}

/// Lines with which a trace goes on after its frames, and those after which Python begins another one.
const JOINS: [&str; 2] = ["Caused by:", "Suppressed:"];
const CHAINS: [&str; 2] = ["During handling of the above", "The above exception was"];

impl Trace {
    /// What a line that stands alone begins.
    pub(super) fn begun_by(line: &str) -> Self {
        if line.contains("Traceback (most recent call last)") {
            Trace::Python
        } else if line.starts_with("panic: ") || line.starts_with("fatal error: ") || is_goroutine(line) {
            Trace::Go
        } else {
            Trace::No
        }
    }

    /// Whether `line` goes on with what is known, and what is known then.
    pub(super) fn goes_on(self, line: &str) -> Option<Self> {
        let indented = line.starts_with([' ', '\t']);
        if self != Trace::No && JOINS.iter().any(|join| line.starts_with(join)) {
            return Some(Trace::Open);
        }
        if self == Trace::Open && CHAINS.iter().any(|chain| line.starts_with(chain)) {
            return Some(Trace::Chained);
        }
        match self {
            Trace::No => is_frame(line).then_some(Trace::Open),
            Trace::Python if indented => Some(Trace::Python),
            // The exception itself; what follows is another matter.
            Trace::Python => Some(Trace::Open),
            Trace::Go if indented || is_goroutine(line) || is_go_function(line) => Some(Trace::Go),
            Trace::Go if line.starts_with("[signal ") || line.starts_with("exit status") => Some(Trace::Go),
            Trace::Chained if line.starts_with("Traceback (most recent call last)") => Some(Trace::Python),
            Trace::Open | Trace::Chained if indented => Some(Trace::Open),
            _ => None,
        }
    }
}

/// A line that is part of a trace whatever stands before it.
fn is_frame(line: &str) -> bool {
    let text = line.trim_start();
    if text.len() == line.len() {
        return false;
    }
    let numbered = text.split_once(": ").is_some_and(|(n, _)| n.len() <= 3 && n.bytes().all(|b| b.is_ascii_digit()));
    text.starts_with("at ")
        || text.starts_with("File \"")
        || text.starts_with("from /")
        || text.starts_with("... ")
        || numbered
}

fn is_goroutine(line: &str) -> bool {
    line.starts_with("goroutine ") && line.ends_with("]:")
}

/// `main.(*Server).serve(0xc000010000)` or `created by net/http.(*Server).Serve in goroutine 1`.
fn is_go_function(line: &str) -> bool {
    let call =
        line.ends_with(')') && line.split_once('(').is_some_and(|(name, _)| !name.contains(' ') && name.contains('.'));
    call || line.starts_with("created by ")
}
