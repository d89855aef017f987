//! What bounds a subject: autoscalers, disruption budgets, quotas.

use serde_json::Value;

use crate::model::Kind;
use crate::model::scene::{At, Autoscaler, Budget, Part, Quota, ScenePart};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::scene::Look;
use crate::observe::scene::page::Page;
use crate::redact::Redacted;

/// Objects of each kind that are looked through in a namespace.
const SEARCHED_MAX: usize = 200;
/// Objects of each kind that are kept.
const KEPT_MAX: usize = 5;

/// The part, each kind readable or not by itself.
pub(super) struct Limits {
    pub(super) autoscalers: Part<Vec<Autoscaler>>,
    pub(super) budgets: Part<Vec<Budget>>,
    pub(super) quotas: Part<Vec<Quota>>,
    pub(super) page: Page,
    pub(super) missing: Vec<Redacted>,
}

impl Look<'_> {
    pub(super) async fn limits(&self) -> Limits {
        let (autoscalers, budgets, quotas) = tokio::join!(
            self.part(self.of_namespace(Kind::HorizontalPodAutoscaler)),
            self.part(self.of_namespace(Kind::PodDisruptionBudget)),
            self.part(self.of_namespace(Kind::ResourceQuota)),
        );
        let labels = self.root.pointer("/spec/template/metadata/labels").unwrap_or(&Value::Null);
        let targets = |value: &Value| {
            let target = value.pointer("/spec/scaleTargetRef").unwrap_or(&Value::Null);
            json::text(target, "/kind") == self.subject.kind.as_str()
                && json::text(target, "/name") == self.subject.name()
        };
        let covers = |value: &Value| covers(value, labels);
        let mut page = Page::new(ScenePart::Limits);
        let mut missing = Vec::new();
        let typed = self.typed;
        Limits {
            autoscalers: self.kept(autoscalers, targets, |v, at| typed.autoscaler(v, at), &mut page, &mut missing),
            budgets: self.kept(budgets, covers, |v, at| typed.budget(v, at), &mut page, &mut missing),
            quotas: self.kept(quotas, |_| true, |v, at| typed.quota(v, at), &mut page, &mut missing),
            page,
            missing,
        }
    }

    async fn of_namespace(&self, kind: Kind) -> Result<Vec<Value>, ReadError> {
        match self.namespace() {
            Some(namespace) => self.reader.list(kind, Some(namespace), &Selector::all().at_most(SEARCHED_MAX)).await,
            None => Ok(Vec::new()),
        }
    }

    fn kept<T>(
        &self,
        read: Result<Vec<Value>, Redacted>,
        wanted: impl Fn(&Value) -> bool,
        typed: impl Fn(&Value, At) -> Option<T>,
        page: &mut Page,
        missing: &mut Vec<Redacted>,
    ) -> Part<Vec<T>> {
        match read {
            Ok(values) => {
                let values = values.iter().filter(|value| wanted(value)).take(KEPT_MAX);
                Part::Known(values.filter_map(|v| typed(v, page.object(v, self.typed.redactor))).collect())
            }
            Err(why) => {
                missing.push(why.clone());
                Part::Missing(why)
            }
        }
    }
}

/// Whether a disruption budget is for pods with these labels: in `policy/v1` an empty selector means every pod, an absent
/// one none.
pub(crate) fn covers(budget: &Value, labels: &Value) -> bool {
    let selector = budget.pointer("/spec/selector").and_then(Value::as_object);
    selector.is_some_and(|selector| selector.is_empty() || matches(&budget["spec"]["selector"], labels))
}

/// Whether labels satisfy a `LabelSelector`; an absent one matches nothing here.
pub(super) fn matches(selector: &Value, labels: &Value) -> bool {
    let value = |key: &str| labels.get(key).and_then(Value::as_str);
    let equal = json::pairs(selector, "/matchLabels").all(|(key, wanted)| value(key) == wanted.as_str());
    let fits = |rule: &Value| {
        let found = value(json::text(rule, "/key"));
        let listed = found.is_some_and(|f| json::list(rule, "/values").iter().any(|v| v.as_str() == Some(f)));
        match json::text(rule, "/operator") {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => found.is_some(),
            _ => found.is_none(),
        }
    };
    let any = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    any && !labels.is_null() && equal && json::list(selector, "/matchExpressions").iter().all(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_budget_covers_what_its_whole_selector_says() {
        let covers =
            |selector: Value| covers(&json!({"spec": {"selector": selector}}), &json!({"app": "web", "tier": "front"}));
        assert!(covers(json!({})), "an empty selector is every pod");
        assert!(!covers(Value::Null), "an absent one is none");
        assert!(covers(json!({"matchLabels": {"app": "web"}})));
        assert!(!covers(json!({"matchLabels": {"app": "web", "tier": "back"}})));
        let rule = |operator: &str, values: &[&str]| {
            covers(json!({"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]}))
        };
        assert!(rule("In", &["front", "back"]) && !rule("In", &["back"]));
        assert!(rule("NotIn", &["back"]) && !rule("NotIn", &["front"]));
        assert!(rule("Exists", &[]) && !rule("DoesNotExist", &[]));
    }
}
