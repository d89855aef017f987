//! Runbooks: a folder of Markdown files, each with the labels of the alerts that it is for in its front matter.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use crate::model::{Alert, Incident};
use crate::redact::{Redacted, Redactor};

/// More files than any team keeps.
const FILES_MAX: usize = 1_000;
/// A longer one is a book: nobody reads it at night.
const FILE_MAX_BYTES: u64 = 256 << 10;
/// Runbooks of one incident: those with the most matchers say most about it.
const MATCHING_MAX: usize = 3;

/// One runbook.
#[derive(Clone, Debug, PartialEq)]
pub struct Runbook {
    /// Its file's name.
    pub file: Redacted,
    pub title: Redacted,
    /// Where people read it.
    pub url: Option<Redacted>,
    pub text: Redacted,
    /// Labels and the values that they must have; `*` stands for any text. `namespace`, `kind` and `name` are the
    /// subject's where an alert has no such label.
    matchers: BTreeMap<String, String>,
}

/// All of them; clones are the same. Empty where none are configured.
#[derive(Clone, Debug, Default)]
pub struct Runbooks(Arc<[Runbook]>);

#[derive(Deserialize)]
struct FrontMatter {
    title: Option<String>,
    url: Option<String>,
    #[serde(default, rename = "match")]
    matchers: BTreeMap<String, Value>,
}

impl Runbooks {
    /// The `.md` files of a folder that have matchers. `url` is where they are read, with `{file}` for the name.
    ///
    /// # Errors
    /// What cannot be read, with its name and what to do.
    pub fn load(folder: &Path, url: Option<&str>, redactor: &Redactor) -> Result<Self, String> {
        let fail = |what: &Path, error: std::io::Error| format!("{}: {error}", what.display());
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>())
            .map_err(|error| fail(folder, error))?;
        files.retain(|file| file.extension().is_some_and(|ending| ending == "md"));
        files.sort();
        if files.len() > FILES_MAX {
            return Err(format!("{}: more than {FILES_MAX} runbooks", folder.display()));
        }
        let mut runbooks = Vec::new();
        for file in &files {
            if std::fs::metadata(file).map_err(|error| fail(file, error))?.len() > FILE_MAX_BYTES {
                return Err(format!("{}: larger than {FILE_MAX_BYTES} bytes; split it", file.display()));
            }
            let text = std::fs::read_to_string(file).map_err(|error| fail(file, error))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let read = Runbook::parse(&name, &text, url, redactor);
            runbooks.extend(read.map_err(|why| format!("{}: {why}", file.display()))?);
        }
        tracing::info!("{} of {} Markdown files are runbooks with labels to match", runbooks.len(), files.len());
        Ok(Self(runbooks.into()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The runbooks for an incident with these alerts, the most special first; at most three.
    pub fn matching<'a>(&self, incident: &Incident, alerts: impl Iterator<Item = &'a Alert>) -> Vec<&Runbook> {
        let subject = &incident.subject;
        let own = [("namespace", subject.namespace()), ("kind", subject.kind.as_str()), ("name", subject.name())];
        let own: BTreeMap<&str, &str> = own.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let with = |alert: &'a Alert| {
            let labels = alert.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            own.iter().map(|(key, value)| (*key, *value)).chain(labels).collect()
        };
        let mut all: Vec<BTreeMap<&str, &str>> = alerts.map(with).collect();
        if all.is_empty() {
            all.push(own.clone());
        }
        let mut found: Vec<&Runbook> = self.0.iter().filter(|runbook| all.iter().any(|l| runbook.fits(l))).collect();
        found.sort_by_key(|runbook| std::cmp::Reverse(runbook.matchers.len()));
        found.truncate(MATCHING_MAX);
        found
    }
}

impl Runbook {
    /// A file's runbook; None where it has no front matter or no matchers in it.
    fn parse(file: &str, text: &str, url: Option<&str>, redactor: &Redactor) -> Result<Option<Self>, String> {
        let Some((head, body)) = text.strip_prefix("---").and_then(|rest| rest.split_once("\n---")) else {
            return Ok(None);
        };
        let head: FrontMatter = serde_saphyr::from_str(head).map_err(|error| format!("front matter: {error}"))?;
        if head.matchers.is_empty() {
            return Ok(None);
        }
        let heading = body.lines().find_map(|line| line.strip_prefix("# ")).map(str::trim);
        let title = head.title.as_deref().or(heading).unwrap_or(file);
        let named =
            |template: &str| template.replace("{file}", &utf8_percent_encode(file, NON_ALPHANUMERIC).to_string());
        let url = head.url.or(url.map(named));
        let value = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(Some(Self {
            file: redactor.redact(file),
            title: redactor.redact(title).one_line().cut(100),
            url: url.map(|url| redactor.redact(&url)),
            text: redactor.redact(body.trim()),
            matchers: head.matchers.into_iter().map(|(key, text)| (key, value(text))).collect(),
        }))
    }

    fn fits(&self, labels: &BTreeMap<&str, &str>) -> bool {
        self.matchers.iter().all(|(key, pattern)| labels.get(key.as_str()).is_some_and(|value| is_like(pattern, value)))
    }
}

/// Whether `value` is `pattern`, in which each `*` stands for any text.
fn is_like(pattern: &str, value: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == value };
    let Some(mut left) = value.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{AlertStatus, ClusterName, Kind, ObjectRef};

    fn alert(labels: &[(&str, &'static str)]) -> Alert {
        Alert {
            receiver: "".into(),
            group_key: "".into(),
            fingerprint: "".into(),
            name: "".into(),
            status: AlertStatus::Firing,
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect(),
            annotations: BTreeMap::new(),
            starts_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            generator_url: None,
            truncated: 0,
        }
    }

    #[test]
    fn a_runbook_is_found_by_the_labels_of_an_alert_and_by_the_subject() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("README.md", "# How to write one\n");
        write("any crash.md", "---\nmatch: {alertname: 'Kube*Crash*'}\n---\n# Crash loops\nLook at the log.\n");
        write(
            "api.md",
            "---\ntitle: The API\nowner: team-a\nmatch:\n  alertname: KubePodCrashLooping\n  namespace: shop\n---\nAsk.",
        );
        write("jobs.md", "---\nmatch: {kind: Job, shard: 3}\nurl: https://wiki.example/jobs\n---\n");
        let url = Some("https://git.example/{file}");
        let runbooks = Runbooks::load(folder.path(), url, &Redactor::default()).unwrap();
        let subject = ObjectRef::new(Kind::Deployment, Some("shop"), "api").unwrap();
        let mut incident =
            Incident::opened(ClusterName::parse("c").unwrap(), subject, "workload", Timestamp::UNIX_EPOCH);
        let found = |incident: &Incident, alerts: &[Alert]| -> Vec<String> {
            let all = runbooks.matching(incident, alerts.iter());
            all.iter().map(|runbook| format!("{} {}", runbook.title, runbook.url.as_ref().unwrap())).collect()
        };
        let crash = alert(&[("alertname", "KubePodCrashLooping")]);
        let both = ["The API https://git.example/api%2Emd", "Crash loops https://git.example/any%20crash%2Emd"];
        assert_eq!(found(&incident, std::slice::from_ref(&crash)), both);
        let elsewhere = alert(&[("alertname", "KubePodCrashLooping"), ("namespace", "bank")]);
        assert_eq!(found(&incident, &[elsewhere]), both[1..], "the alert's own label wins");
        assert_eq!(found(&incident, &[]), Vec::<String>::new());
        incident.subject = ObjectRef::new(Kind::Job, Some("shop"), "nightly").unwrap();
        assert_eq!(found(&incident, &[alert(&[("shard", "3")])]), ["jobs.md https://wiki.example/jobs"]);
    }

    #[test]
    fn a_runbook_that_cannot_be_understood_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bad.md"), "---\nmatch: [a\n---\n").unwrap();
        let error = Runbooks::load(folder.path(), None, &Redactor::default()).unwrap_err();
        assert!(error.contains("bad.md: front matter"), "{error}");
        assert!(Runbooks::load(&folder.path().join("none"), None, &Redactor::default()).is_err());
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, value) in [("*", ""), ("a*", "a"), ("a*c*e", "abcde"), ("*-db", "main-db"), ("x", "x")] {
            assert!(is_like(pattern, value), "{pattern} {value}");
        }
        for (pattern, value) in [("a*", "ba"), ("a*c*e", "ace-"), ("*-db", "main-dbs"), ("x", "xx"), ("ab*ba", "aba")] {
            assert!(!is_like(pattern, value), "{pattern} {value}");
        }
    }
}
