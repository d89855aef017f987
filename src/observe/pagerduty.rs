//! PagerDuty's REST API (version 2), only read: open incidents, who is on call, recent change events.

use jiff::Timestamp;
use serde_json::Value;

use crate::observe::ReadError;
use crate::observe::json;
use crate::observe::web::{Web, WebOptions};
use crate::redact::{Redacted, Redactor};

/// Entries of one page (the API's most), and pages that are read.
const PAGE: usize = 100;
const PAGES_MAX: usize = 3;
/// Characters of a title or a name.
const TEXT_MAX_CHARS: usize = 200;

/// Where it is, and of which services it is asked.
#[derive(Clone, Debug)]
pub struct PagerDutyOptions {
    pub web: WebOptions,
    /// Ids of services; empty: all that the token may read.
    pub services: Vec<String>,
}

/// The API. Clones share connections.
#[derive(Clone)]
pub struct PagerDuty {
    web: Web,
    services: Vec<String>,
}

/// Entries, and whether there are more than were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged<T> {
    pub items: Vec<T>,
    pub more: bool,
}

/// An open incident there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub number: u64,
    pub title: Redacted,
    /// `triggered` or `acknowledged`.
    pub status: Redacted,
    pub urgency: Redacted,
    pub priority: Redacted,
    pub service: Redacted,
    pub created_at: Option<Timestamp>,
    pub assigned: Vec<Redacted>,
}

/// Who is on call by one escalation policy at one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnCall {
    pub policy: Redacted,
    pub level: u64,
    pub user: Redacted,
    /// None: always.
    pub schedule: Option<Redacted>,
    pub until: Option<Timestamp>,
}

/// A change that somebody's pipeline told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeEvent {
    pub at: Option<Timestamp>,
    pub summary: Redacted,
    pub source: Redacted,
    pub services: Vec<Redacted>,
}

impl PagerDuty {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new(mut options: PagerDutyOptions, redactor: Redactor) -> anyhow::Result<Self> {
        options.web.headers.push(("accept", "application/vnd.pagerduty+json;version=2".to_owned()));
        Ok(Self { web: Web::new(options.web, redactor)?, services: options.services })
    }

    /// What makes its text `Redacted`.
    pub fn redactor(&self) -> &Redactor {
        self.web.redactor()
    }

    /// Open incidents, newest first.
    ///
    /// # Errors
    /// By remedy.
    pub async fn incidents(&self) -> Result<Paged<Page>, ReadError> {
        let mut asked = vec![
            ("statuses[]", "triggered".to_owned()),
            ("statuses[]", "acknowledged".to_owned()),
            ("sort_by", "created_at:desc".to_owned()),
        ];
        asked.extend(self.services.iter().map(|id| ("service_ids[]", id.clone())));
        let page = |value: &Value| Page {
            number: value.get("incident_number").and_then(Value::as_u64).unwrap_or_default(),
            title: self.text(value, "/title"),
            status: self.text(value, "/status"),
            urgency: self.text(value, "/urgency"),
            priority: self.text(value, "/priority/summary"),
            service: self.text(value, "/service/summary"),
            created_at: json::time(value, "/created_at"),
            assigned: self.each(value, "/assignments", "/assignee/summary"),
        };
        self.pages("/incidents", "incidents", &asked, page).await
    }

    /// Who is on call now, by escalation policy and level.
    ///
    /// # Errors
    /// By remedy.
    pub async fn on_call(&self) -> Result<Paged<OnCall>, ReadError> {
        let policies = self.policies().await?;
        let mut asked = vec![("earliest", "true".to_owned())];
        asked.extend(policies.into_iter().map(|id| ("escalation_policy_ids[]", id)));
        let on_call = |value: &Value| OnCall {
            policy: self.text(value, "/escalation_policy/summary"),
            level: value.get("escalation_level").and_then(Value::as_u64).unwrap_or_default(),
            user: self.text(value, "/user/summary"),
            schedule: Some(self.text(value, "/schedule/summary")).filter(|name| !name.is_empty()),
            until: json::time(value, "/end"),
        };
        let mut all = self.pages("/oncalls", "oncalls", &asked, on_call).await?;
        all.items.sort_by(|a, b| (&a.policy, a.level).cmp(&(&b.policy, b.level)));
        Ok(all)
    }

    /// The escalation policies of the configured services; none stands for all.
    async fn policies(&self) -> Result<Vec<String>, ReadError> {
        let mut ids: Vec<String> = Vec::new();
        for service in &self.services {
            let answer = self.web.json(self.web.get(&format!("/services/{service}"), &[])).await?;
            let id = json::text(&answer, "/service/escalation_policy/id");
            if !id.is_empty() && !ids.iter().any(|known| known == id) {
                ids.push(id.to_owned());
            }
        }
        Ok(ids)
    }

    /// Change events between two instants, newest first.
    ///
    /// # Errors
    /// By remedy.
    pub async fn changes(&self, since: Timestamp, until: Timestamp) -> Result<Paged<ChangeEvent>, ReadError> {
        let mut asked = vec![("since", since.to_string()), ("until", until.to_string())];
        asked.extend(self.services.iter().map(|id| ("service_ids[]", id.clone())));
        let change = |value: &Value| ChangeEvent {
            at: json::time(value, "/timestamp"),
            summary: self.text(value, "/summary"),
            source: self.text(value, "/source"),
            services: self.each(value, "/services", "/summary"),
        };
        let mut all = self.pages("/change_events", "change_events", &asked, change).await?;
        all.items.sort_by_key(|change| std::cmp::Reverse(change.at));
        Ok(all)
    }

    /// A list, page by page as long as the API says that there is more.
    async fn pages<T>(
        &self,
        path: &str,
        key: &str,
        asked: &[(&str, String)],
        make: impl Fn(&Value) -> T,
    ) -> Result<Paged<T>, ReadError> {
        let (mut items, mut more) = (Vec::new(), true);
        for page in 0..PAGES_MAX {
            let mut asked = asked.to_vec();
            asked.extend([("limit", PAGE.to_string()), ("offset", (page * PAGE).to_string())]);
            let answer = self.web.json(self.web.get(path, &asked)).await?;
            let Some(list) = answer.get(key).and_then(Value::as_array) else {
                return Err(ReadError::Unavailable("the answer is not what was asked for".into()));
            };
            items.extend(list.iter().map(&make));
            more = answer.get("more").and_then(Value::as_bool).unwrap_or(false);
            if !more {
                break;
            }
        }
        Ok(Paged { items, more })
    }

    fn text(&self, value: &Value, pointer: &str) -> Redacted {
        self.redactor().redact(json::text(value, pointer)).one_line().cut(TEXT_MAX_CHARS)
    }

    fn each(&self, value: &Value, list: &str, pointer: &str) -> Vec<Redacted> {
        json::list(value, list).iter().map(|item| self.text(item, pointer)).collect()
    }
}
