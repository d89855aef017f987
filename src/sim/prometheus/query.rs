//! The small part of PromQL that recorded series can answer: selectors, comparisons with a number, aggregations.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// A series' labels.
pub(super) type Labels = BTreeMap<String, String>;
/// One value of one series.
pub(super) type Sample = (Labels, f64);

/// How long a sample counts as the present one, in seconds, as in Prometheus.
const LOOKBACK: f64 = 300.0;

/// The values of all series that match, within so many seconds.
pub(super) type Find<'a> = dyn Fn(&dyn Fn(&Labels) -> bool, f64) -> Vec<(Labels, Vec<f64>)> + 'a;

/// A query that is understood.
pub(super) enum Expression {
    Selector {
        matchers: Vec<Matcher>,
        window: f64,
    },
    /// `max_over_time(...)` and its like: from all values within the window, the name left out.
    Over {
        name: String,
        inner: Box<Expression>,
    },
    Aggregate {
        name: String,
        by: Vec<String>,
        inner: Box<Expression>,
    },
    Compare {
        inner: Box<Expression>,
        operator: String,
        number: f64,
    },
    /// Well-formed as far as can be seen, but nothing here can answer it.
    Unknown,
}

pub(super) struct Matcher {
    label: String,
    positive: bool,
    pattern: Regex,
}

impl Matcher {
    fn matches(&self, labels: &Labels) -> bool {
        self.pattern.is_match(labels.get(&self.label).map_or("", String::as_str)) == self.positive
    }
}

impl Expression {
    /// Its samples; `find` looks series up.
    pub(super) fn evaluate(&self, find: &Find<'_>) -> Vec<Sample> {
        match self {
            Expression::Selector { matchers, window } => {
                let all = find(&|labels| matchers.iter().all(|matcher| matcher.matches(labels)), *window);
                all.into_iter().filter_map(|(labels, values)| Some((labels, *values.last()?))).collect()
            }
            Expression::Over { name, inner } => {
                let Expression::Selector { matchers, window } = &**inner else { return Vec::new() };
                let all = find(&|labels| matchers.iter().all(|matcher| matcher.matches(labels)), *window);
                let one = |(mut labels, values): (Labels, Vec<f64>)| {
                    labels.remove("__name__");
                    Some((labels, over(name, &values, *window)?))
                };
                all.into_iter().filter_map(one).collect()
            }
            Expression::Aggregate { name, by, inner } => {
                let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
                for (labels, value) in inner.evaluate(find) {
                    let key = labels.into_iter().filter(|(label, _)| by.contains(label)).collect();
                    groups.entry(key).or_default().push(value);
                }
                groups.into_iter().filter_map(|(labels, values)| Some((labels, fold(name, &values)?))).collect()
            }
            Expression::Compare { inner, operator, number } => {
                let holds = |value: f64| match operator.as_str() {
                    "==" => value == *number,
                    "!=" => value != *number,
                    ">" => value > *number,
                    "<" => value < *number,
                    ">=" => value >= *number,
                    _ => value <= *number,
                };
                inner.evaluate(find).into_iter().filter(|(_, value)| holds(*value)).collect()
            }
            Expression::Unknown => Vec::new(),
        }
    }
}

fn fold(name: &str, values: &[f64]) -> Option<f64> {
    let sum = values.iter().sum::<f64>();
    Some(match name {
        "sum" => sum,
        "avg" => sum / values.len() as f64,
        "count" => values.len() as f64,
        "min" => values.iter().copied().reduce(f64::min)?,
        "max" => values.iter().copied().reduce(f64::max)?,
        _ => return None,
    })
}

fn over(name: &str, values: &[f64], window: f64) -> Option<f64> {
    match name {
        "rate" | "increase" => {
            // Resets count from zero.
            let grown: f64 =
                values.windows(2).map(|pair| if pair[1] >= pair[0] { pair[1] - pair[0] } else { pair[1] }).sum();
            (values.len() > 1).then_some(if name == "rate" { grown / window } else { grown })
        }
        _ => fold(name.strip_suffix("_over_time")?, values),
    }
}

/// Reads a query.
///
/// # Errors
/// Brackets or strings that do not close.
pub(super) fn parse(query: &str) -> Result<Expression, String> {
    balanced(query)?;
    Ok(expression(query.trim()).unwrap_or(Expression::Unknown))
}

fn balanced(query: &str) -> Result<(), String> {
    let (mut open, mut quote) = (Vec::new(), None);
    for (at, c) in query.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '(' | '{' | '[') => open.push(c),
            (None, ')' | '}' | ']') => {
                let fits = matches!((open.pop(), c), (Some('('), ')') | (Some('{'), '}') | (Some('['), ']'));
                if !fits {
                    return Err(format!("1:{}: parse error: unexpected {c:?}", at + 1));
                }
            }
            _ => {}
        }
    }
    let closed = open.is_empty() && quote.is_none() && !query.trim().is_empty();
    if closed { Ok(()) } else { Err(format!("1:{}: parse error: unexpected end of input", query.len() + 1)) }
}

fn expression(text: &str) -> Option<Expression> {
    let compared = Regex::new(r"^(.*[\w)}\]])\s*(==|!=|>=|<=|>|<)\s*(-?[0-9.]+)$").ok()?;
    if let Some(parts) = compared.captures(text) {
        let inner = Box::new(expression(parts[1].trim())?);
        return Some(Expression::Compare { inner, operator: parts[2].to_owned(), number: parts[3].parse().ok()? });
    }
    let aggregated =
        Regex::new(r"^(sum|avg|count|min|max)\s*(?:by\s*\(([^()]*)\)\s*)?\((.*)\)(?:\s*by\s*\(([^()]*)\))?$").ok()?;
    if let Some(parts) = aggregated.captures(text) {
        let by = parts.get(2).or(parts.get(4)).map_or("", |list| list.as_str());
        let by = by.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect();
        let inner = Box::new(expression(parts[3].trim())?);
        return Some(Expression::Aggregate { name: parts[1].to_owned(), by, inner });
    }
    let over = Regex::new(r"^(rate|increase|(?:sum|avg|count|min|max)_over_time)\s*\((.*)\)$").ok()?;
    if let Some(parts) = over.captures(text) {
        return Some(Expression::Over { name: parts[1].to_owned(), inner: Box::new(expression(parts[2].trim())?) });
    }
    selector(text)
}

fn selector(text: &str) -> Option<Expression> {
    let whole = Regex::new(r"^([A-Za-z_:][A-Za-z0-9_:]*)?\s*(?:\{(.*)\})?\s*(?:\[([0-9]+)([smhd])\])?$").ok()?;
    let parts = whole.captures(text)?;
    let mut matchers = Vec::new();
    if let Some(name) = parts.get(1) {
        matchers.push(matcher("__name__", "=", name.as_str())?);
    }
    let one = Regex::new(r#"^\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*,?"#).ok()?;
    let mut rest = parts.get(2).map_or("", |inner| inner.as_str());
    while !rest.trim().is_empty() {
        let found = one.captures(rest)?;
        matchers.push(matcher(&found[1], &found[2], &found[3].replace("\\\\", "\\").replace("\\\"", "\""))?);
        rest = &rest[found[0].len()..];
    }
    let unit = |unit: &str| match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => 86_400.0,
    };
    let window = parts.get(3).zip(parts.get(4));
    let window = window.map_or(Some(LOOKBACK), |(n, u)| Some(n.as_str().parse::<f64>().ok()? * unit(u.as_str())))?;
    (!matchers.is_empty()).then_some(Expression::Selector { matchers, window })
}

fn matcher(label: &str, operator: &str, value: &str) -> Option<Matcher> {
    let pattern = if operator.ends_with('~') { value.to_owned() } else { regex::escape(value) };
    let pattern = Regex::new(&format!("^(?s:{pattern})$")).ok()?;
    Some(Matcher { label: label.to_owned(), positive: !operator.starts_with('!'), pattern })
}

/// The matcher that a client puts before its own to stay within one namespace.
fn held() -> Option<Regex> {
    Regex::new(r#"\{?namespace=~"([^"|]*)\|",?"#).ok()
}

/// The query as it was recorded: without that matcher and white space.
pub(super) fn bare(query: &str) -> String {
    let Some(held) = held() else { return query.to_owned() };
    let whole = held.replace_all(query, |found: &regex::Captures<'_>| if found[0].starts_with('{') { "{" } else { "" });
    whole.replace("{}", "").split_whitespace().collect()
}

/// Whether a query so held may see a series with these labels.
pub(super) fn allows(query: &str, labels: &Value) -> bool {
    let held = held().and_then(|held| held.captures(query).map(|found| found[1].replace("[.]", ".")));
    match (held, labels["namespace"].as_str()) {
        (Some(own), Some(namespace)) => own == namespace,
        _ => true,
    }
}
