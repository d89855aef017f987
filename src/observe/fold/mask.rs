//! What tells one log line from another: its words without numbers, ids and times. Pure.

/// The line with what may differ taken out: equal masks are one line. Of runs of letters and digits `#` stands for what
/// looks like an id (hex of seven or more, digits and letters mixed), and for each run of digits in the rest.
pub(super) fn mask(line: &str, mask: &mut String) {
    mask.clear();
    let bytes = line.as_bytes();
    let (mut at, mut word, mut before) = (0, 0, "");
    while at < bytes.len() {
        let from = at;
        if !bytes[at].is_ascii_alphanumeric() {
            while at < bytes.len() && !bytes[at].is_ascii_alphanumeric() {
                if bytes[at].is_ascii_whitespace() {
                    if at > word {
                        before = &line[word..at];
                    }
                    word = at + 1;
                }
                at += 1;
            }
            mask.push_str(&line[from..at]);
            continue;
        }
        let (mut digits, mut turns, mut hex) = (0, 0, true);
        while at < bytes.len() && bytes[at].is_ascii_alphanumeric() {
            let digit = bytes[at].is_ascii_digit();
            turns += usize::from(at > from && digit != bytes[at - 1].is_ascii_digit());
            digits += usize::from(digit);
            hex &= bytes[at].is_ascii_hexdigit();
            at += 1;
        }
        let run = &line[from..at];
        let is_code = || digits == 3 && run.len() == 3 && is_status(before, word_of(line, word, at));
        if digits == 0 || is_code() {
            mask.push_str(run);
        } else if turns >= 2 || (hex && run.len() >= 7) || digits == run.len() {
            mask.push('#');
        } else if bytes[from].is_ascii_digit() {
            mask.push('#');
            mask.push_str(run.trim_start_matches(|c: char| c.is_ascii_digit()));
        } else {
            mask.push_str(run.trim_end_matches(|c: char| c.is_ascii_digit()));
            mask.push('#');
        }
    }
}

fn word_of(line: &str, from: usize, at: usize) -> &str {
    let end = line[at..].find(|c: char| c.is_ascii_whitespace()).map_or(line.len(), |end| at + end);
    &line[from..end]
}

/// HTTP status codes tell lines apart: three digits after a path, a quoted request, or a word that announces one.
fn is_status(before: &str, word: &str) -> bool {
    let digits = word.rsplit('=').next().unwrap_or(word).trim_end_matches([',', ';', '"', ')']);
    let code = digits.len() == 3
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (b'1'..=b'5').contains(&digits.as_bytes()[0]);
    let announced = word.starts_with("status=") || word.starts_with("code=");
    let after = before.contains('/') || before.ends_with('"') || {
        let before = before.trim_end_matches([':', '=', '"']).to_ascii_lowercase();
        before.ends_with("status") || before.ends_with("code")
    };
    code && (announced || after)
}
