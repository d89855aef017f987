//! Queries held to one namespace: a matcher is put into every selector of a PromQL or LogQL text. Pure.

use crate::redact::Redacted;

/// What is put into selectors.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// The label that holds the namespace.
    pub label: &'a str,
    /// A valid name of a namespace; None: only series that belong to none.
    pub namespace: Option<&'a str>,
    /// Whether families that speak of nodes and of the cluster's own parts are read besides.
    pub cluster: bool,
}

impl Bounds<'_> {
    /// Series of the namespace, and for whom the cluster is read besides those of none: `namespace=~"shop|"`.
    fn matcher(&self) -> String {
        match self.namespace {
            Some(namespace) if !self.cluster => format!("{}=\"{namespace}\"", self.label),
            // A namespace holds letters, digits and `-`; a dot could stand for any letter.
            Some(namespace) => format!("{}=~\"{}|\"", self.label, namespace.replace('.', "[.]")),
            None => format!("{}=\"\"", self.label),
        }
    }
}

/// Families whose namespace is that of the exporter, and which speak of nodes or of the cluster's own parts: they are read
/// whatever the incident's namespace is.
const CLUSTER_WIDE: [&str; 11] = [
    "node_",
    "kube_node_",
    "machine_",
    "apiserver_",
    "etcd_",
    "coredns_",
    "scheduler_",
    "prometheus_",
    "alertmanager_",
    "instance:node_",
    "cluster:",
];

/// Whether a metric is one of these. Recording rules about pods can begin with `node_` too, and say so in their name.
pub fn is_cluster_wide(name: &str) -> bool {
    let family = CLUSTER_WIDE.iter().any(|prefix| name.starts_with(prefix));
    family && !["namespace", "pod", "container", "workload"].iter().any(|word| name.contains(word))
}

/// Selectors of `up` that ask for targets of the cluster itself alone: everything else that is scraped belongs to somebody.
const OWN_TARGETS: [&str; 5] = ["kubelet", "apiserver", "kube-scheduler", "kube-controller-manager", "node-exporter"];

/// Whether a selector, with its braces, is exactly one of these.
fn is_of_cluster(metric: &str, braces: &str) -> bool {
    let inner = braces[1..braces.len() - 1].trim();
    let job = inner.strip_prefix("job").map(str::trim_start).and_then(|rest| rest.strip_prefix('=')).map(str::trim);
    let job = job.and_then(|quoted| quoted.strip_prefix('"')?.strip_suffix('"'));
    metric == "up" && job.is_some_and(|job| OWN_TARGETS.contains(&job))
}

/// A regular expression that finds all names of `is_cluster_wide`, and some that only look like them.
pub fn cluster_wide_names() -> String {
    format!("up|(?:{}).+", CLUSTER_WIDE.join("|"))
}

/// Words of PromQL that stand before an operand or a list, and are no metrics.
const WORDS: [&str; 8] = ["and", "or", "unless", "atan2", "bool", "offset", "group_left", "group_right"];
const LISTS: [&str; 4] = ["by", "without", "on", "ignoring"];
const NUMBERS: [&str; 2] = ["inf", "nan"];

/// The PromQL query with the matcher in each of its selectors.
///
/// # Errors
/// What cannot be read for sure is refused in words.
pub fn promql(query: &str, bounds: Bounds<'_>) -> Result<String, Redacted> {
    let matcher = bounds.matcher();
    let mut out = String::with_capacity(query.len() + 64);
    let mut rest = query;
    // The metric that a following `{` belongs to, and whether it is read whatever the namespace is.
    let (mut metric, mut free) = ("", false);
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '\'' | '`' => string(rest)?,
            '#' => return Err(COMMENT.into()),
            '{' => {
                let end = braces(rest)?;
                free |= bounds.cluster && is_of_cluster(metric, &rest[..end]);
                out.push_str(&selector(&rest[..end], &matcher, free)?);
                rest = &rest[end..];
                (metric, free) = ("", false);
                continue;
            }
            // A duration or a number: `5m`, `1e3`, `0x1f`.
            '0'..='9' | '.' => word_end(rest),
            c if is_word_start(c) => {
                let end = word_end(rest);
                let (word, after) = (&rest[..end], rest[end..].trim_start());
                let lower = word.to_ascii_lowercase();
                out.push_str(word);
                rest = &rest[end..];
                (metric, free) = ("", false);
                let grouped = matches!(lower.as_str(), "group_left" | "group_right") && after.starts_with('(');
                if grouped || LISTS.contains(&lower.as_str()) {
                    let end = list(rest)?;
                    out.push_str(&rest[..end]);
                    rest = &rest[end..];
                } else if is_metric(&lower, after) {
                    (metric, free) = (word, bounds.cluster && is_cluster_wide(word));
                    if !after.starts_with('{') && !free {
                        out.push_str(&format!("{{{matcher}}}"));
                    }
                }
                continue;
            }
            c => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Ok(out)
}

/// Whether a word is a metric, by what comes after it: a function or an aggregation is followed by its operands or by
/// the list of its labels.
fn is_metric(lower: &str, after: &str) -> bool {
    if WORDS.contains(&lower) || NUMBERS.contains(&lower) || after.starts_with('(') {
        return false;
    }
    let next = &after[..word_end(after)];
    let listed = after[next.len()..].trim_start().starts_with('(');
    !(listed && matches!(next.to_ascii_lowercase().as_str(), "by" | "without"))
}

/// The LogQL query with the matcher in each of its stream selectors: the only braces outside of strings. A stream must
/// say its namespace.
///
/// # Errors
/// What cannot be read for sure is refused in words.
pub fn logql(query: &str, label: &str, namespace: &str) -> Result<String, Redacted> {
    let matcher = format!("{label}=\"{namespace}\"");
    let mut out = String::with_capacity(query.len() + 64);
    let (mut rest, mut selectors) = (query, 0);
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '`' => string(rest)?,
            '#' => return Err(COMMENT.into()),
            '\'' => return Err("write strings in double quotes".into()),
            '/' if rest.starts_with("//") || rest.starts_with("/*") => return Err(COMMENT.into()),
            '{' => {
                let end = braces(rest)?;
                out.push_str(&selector(&rest[..end], &matcher, false)?);
                rest = &rest[end..];
                selectors += 1;
                continue;
            }
            c => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    if selectors == 0 {
        return Err("a query selects streams, such as {app=\"checkout\"} |= \"error\"".into());
    }
    Ok(out)
}

const OR: &str = "write a query for each, `or` between matchers is not read here";
const COMMENT: &str = "leave comments out of the query";
const OPEN: &str = "a string or a brace of the query is not closed";

fn selector(braces: &str, matcher: &str, free: bool) -> Result<String, Redacted> {
    if free {
        return Ok(braces.to_owned());
    }
    let inner = braces[1..braces.len() - 1].trim();
    if has_or(inner)? {
        return Err(OR.into());
    }
    Ok(if inner.is_empty() { format!("{{{matcher}}}") } else { format!("{{{matcher},{inner}}}") })
}

/// Whether `or` stands between matchers, outside of strings: VictoriaMetrics reads it so, and what comes after it would not
/// be held to the namespace: <https://docs.victoriametrics.com/victoriametrics/metricsql/>.
fn has_or(inner: &str) -> Result<bool, Redacted> {
    let mut rest = inner;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '\'' | '`' => string(rest)?,
            c if is_word_start(c) => {
                let end = word_end(rest);
                if rest[..end].eq_ignore_ascii_case("or") && !rest[end..].trim_start().starts_with(['=', '!']) {
                    return Ok(true);
                }
                end
            }
            c => c.len_utf8(),
        };
        rest = &rest[taken..];
    }
    Ok(false)
}

/// Where the string at the start ends.
fn string(text: &str) -> Result<usize, Redacted> {
    let mut characters = text.char_indices();
    let Some((_, quote)) = characters.next() else { return Err(OPEN.into()) };
    let mut escaped = false;
    for (at, c) in characters {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            // Neither language lets a quoted string go over a line's end; what follows would be read otherwise.
            '\n' if quote != '`' => return Err(OPEN.into()),
            c if c == quote => return Ok(at + c.len_utf8()),
            _ => {}
        }
    }
    Err(OPEN.into())
}

/// Where the braces at the start end.
fn braces(text: &str) -> Result<usize, Redacted> {
    enclosed(text, '}')
}

/// Where the list in parentheses ends that comes next.
fn list(text: &str) -> Result<usize, Redacted> {
    let space = text.len() - text.trim_start().len();
    if !text[space..].starts_with('(') {
        return Err("`by`, `without`, `on` and `ignoring` are followed by labels in parentheses".into());
    }
    Ok(space + enclosed(&text[space..], ')')?)
}

/// Where what begins with an opening mark ends; nothing nests within selectors and lists of labels.
fn enclosed(text: &str, close: char) -> Result<usize, Redacted> {
    let mut at = 1;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '"' | '\'' | '`' => at += string(&text[at..])?,
            '#' => return Err(COMMENT.into()),
            '{' | '(' => return Err("braces and lists of labels do not nest".into()),
            c if c == close => return Ok(at + c.len_utf8()),
            c => at += c.len_utf8(),
        }
    }
    Err(OPEN.into())
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | ':')
}

fn word_end(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '.'))).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(query: &str) -> String {
        within(query, true)
    }

    fn within(query: &str, cluster: bool) -> String {
        let bounds = Bounds { label: "namespace", namespace: Some("shop"), cluster };
        promql(query, bounds).unwrap_or_else(|why| format!("! {why}"))
    }

    #[test]
    fn every_selector_of_a_query_is_held_to_the_namespace() {
        let n = r#"namespace=~"shop|""#;
        for (query, expected) in [
            ("foo", format!("foo{{{n}}}")),
            (r#"foo{a="b"}[5m]"#, format!(r#"foo{{{n},a="b"}}[5m]"#)),
            (r#"foo{namespace="other"}"#, format!(r#"foo{{{n},namespace="other"}}"#)),
            (r#"{__name__=~".+"}"#, format!(r#"{{{n},__name__=~".+"}}"#)),
            ("foo {}", format!("foo {{{n}}}")),
            (
                "sum by (pod) (rate(a_total[5m])) / on (pod) group_left (node) b offset 5m",
                format!("sum by (pod) (rate(a_total{{{n}}}[5m])) / on (pod) group_left (node) b{{{n}}} offset 5m"),
            ),
            ("SUM(a) BY (x) > bool 1e3", format!("SUM(a{{{n}}}) BY (x) > bool 1e3")),
            ("sum", format!("sum{{{n}}}")),
            ("topk(5, a) or vector(0)", format!("topk(5, a{{{n}}}) or vector(0)")),
            (
                r#"label_replace(a, "x", "$1", "y", "(b){c}")"#,
                format!(r#"label_replace(a{{{n}}}, "x", "$1", "y", "(b){{c}}")"#),
            ),
            ("a @ start()", format!("a{{{n}}} @ start()")),
            ("max_over_time(a[1h:5m]) * Inf", format!("max_over_time(a{{{n}}}[1h:5m]) * Inf")),
            (r#"a{b='}" or c{d="'}"#, format!(r#"a{{{n},b='}}" or c{{d="'}}"#)),
        ] {
            assert_eq!(held(query), expected);
        }
    }

    #[test]
    fn what_speaks_of_nodes_and_of_the_cluster_needs_no_namespace() {
        for query in [r#"up{job="kubelet"} == 0"#, r#"up { job = "apiserver" }"#, "kube_node_status_condition"] {
            assert_eq!(held(query), query);
        }
        let recorded = "node_namespace_pod_container:container_memory_rss";
        assert_eq!(held(recorded), format!(r#"{recorded}{{namespace=~"shop|"}}"#));
        let none = promql("foo", Bounds { label: "namespace", namespace: None, cluster: true }).unwrap();
        assert_eq!(none, r#"foo{namespace=""}"#);
    }

    #[test]
    fn what_is_scraped_or_probed_for_others_is_theirs() {
        for (query, expected) in [
            ("up", r#"up{namespace=~"shop|"}"#),
            (r#"up{namespace="vault"}"#, r#"up{namespace=~"shop|",namespace="vault"}"#),
            (r#"up{job="kubelet",namespace="vault"}"#, r#"up{namespace=~"shop|",job="kubelet",namespace="vault"}"#),
            (r#"up{job=~"kubelet"}"#, r#"up{namespace=~"shop|",job=~"kubelet"}"#),
            (r#"foo{job="kubelet"}"#, r#"foo{namespace=~"shop|",job="kubelet"}"#),
            (r#"probe_success{instance="x"}"#, r#"probe_success{namespace=~"shop|",instance="x"}"#),
        ] {
            assert_eq!(held(query), expected);
        }
    }

    #[test]
    fn who_does_not_reach_the_cluster_reads_no_family_of_it() {
        for query in ["node_load1", "kube_node_info", "apiserver_request_total", r#"up{job="kubelet"}"#, "cluster:x"] {
            assert!(within(query, false).contains(r#"namespace="shop""#), "{}", within(query, false));
        }
    }

    #[test]
    fn what_could_hide_a_selector_is_refused() {
        for query in [r#"up{job="kubelet" or namespace="vault"}"#, r#"a{b="c"OR d="e"}"#] {
            assert_eq!(held(query), format!("! {OR}"));
        }
        assert!(held(r#"a{or="c or d"}"#).starts_with("a{"), "a label may have that name");
        for query in ["a # {\"", "a{b=\"c", "a{b={c}}", "by", "sum by a", "a{b=\"x\ny\"}"] {
            assert!(held(query).starts_with('!'), "{query}: {}", held(query));
        }
        for query in
            [r#"{a="b"} // " "#, r#"{a="b"} /* " */"#, r#"{a="b"} |= 'x'"#, "{a=\"b\"} # \"\n{c=\"d\"}", "rate"]
        {
            assert!(logql(query, "namespace", "shop").is_err(), "{query}");
        }
    }

    #[test]
    fn every_stream_selector_is_held_to_the_namespace() {
        let query = r#"sum(rate({app="a"} |~ "(?i)err{1}" | line_format `{{.x}}` [5m])) / sum(rate({}[5m]))"#;
        let expected = r#"sum(rate({namespace="shop",app="a"} |~ "(?i)err{1}" | line_format `{{.x}}` [5m])) / sum(rate({namespace="shop"}[5m]))"#;
        assert_eq!(logql(query, "namespace", "shop").unwrap(), expected);
    }
}
