//! The lines of a card on a terminal: labels in a column, colours where they are wanted. Pure.

/// Columns of the label's column: the longest label and a gap.
const LABEL_WIDTH: usize = 16;
/// Escape sequences: bold, dim, cyan.
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// How to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    pub(super) colours: bool,
    /// Columns of a line; none: lines are not broken.
    pub(super) width: Option<usize>,
}

impl Paint {
    /// A card: its first line, where it is, then its parts with their labels.
    pub(super) fn card(self, text: &str) -> String {
        let mut out = String::new();
        for (number, line) in text.lines().enumerate() {
            match (number, label(line)) {
                (0, _) => out.push_str(&self.styled(BOLD, &self.wrapped(line, 3).join("\n   "))),
                (1, _) => out.push_str(&self.part("", line, 3, DIM)),
                (_, Some((label, rest))) => out.push_str(&self.part(label, rest, 3 + LABEL_WIDTH, "")),
                (_, None) => out.push_str(&self.part("", line, 3 + LABEL_WIDTH, "")),
            }
            out.push('\n');
        }
        out
    }

    /// A line that says how the rest is.
    pub(super) fn dim(self, text: &str) -> String {
        self.styled(DIM, text)
    }

    fn part(self, label: &str, text: &str, indent: usize, style: &str) -> String {
        let padding = " ".repeat(indent.saturating_sub(3 + label.chars().count()));
        let lead = format!("   {}{padding}", if label.is_empty() { String::new() } else { self.styled(BOLD, label) });
        let lines = self.wrapped(text, indent).join(&format!("\n{}", " ".repeat(indent)));
        let shown = if style.is_empty() { self.code(&lines) } else { self.styled(style, &lines.replace('`', "")) };
        format!("{lead}{shown}")
    }

    /// What stands between backticks is what something said or is called.
    fn code(self, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let parts = text.split('`').enumerate();
        parts.map(|(nth, part)| if nth % 2 == 1 { self.styled(CYAN, part) } else { part.to_owned() }).collect()
    }

    fn styled(self, style: &str, text: &str) -> String {
        if self.colours && !text.is_empty() { format!("{style}{text}{RESET}") } else { text.to_owned() }
    }

    /// Broken between words, so that no line is longer than the terminal is wide; what is longer stays whole.
    fn wrapped(self, text: &str, indent: usize) -> Vec<String> {
        let Some(room) = self.width.map(|width| width.saturating_sub(indent).max(30)) else {
            return vec![text.to_owned()];
        };
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            let line = lines.last_mut().map_or(0, |line| line.chars().count());
            if line > 0 && line + 1 + word.chars().count() > room {
                lines.push(String::new());
            }
            if let Some(last) = lines.last_mut() {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(word);
            }
        }
        lines.iter().map(|line| line.trim_end().to_owned()).collect()
    }
}

/// `*What changed*  nothing` in its two parts.
fn label(line: &str) -> Option<(&str, &str)> {
    let (label, rest) = line.strip_prefix('*')?.split_once('*')?;
    Some((label, rest.trim_start()))
}
