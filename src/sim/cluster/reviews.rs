//! Answers to questions that exist only as a POST: what may I do, and who am I.

use serde_json::{Value, json};

use crate::sim::cluster::access::{Ask, User};
use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::Kind;
use crate::sim::cluster::objects::stamp;

/// Fills the `status` of a review sent by `user`.
pub(crate) fn answer(user: &User, kind: &Kind, sent: &Value, now: jiff::Timestamp) -> Outcome<Value> {
    let mut review = sent.clone();
    if !review.is_object() {
        return Err(Failure::bad_request("the object provided is unrecognized (must be of type object)"));
    }
    review["kind"] = json!(kind.kind);
    review["apiVersion"] = json!(kind.api_version());
    review["metadata"] = json!({});
    review["status"] = match kind.kind.as_ref() {
        "SelfSubjectAccessReview" => access(user, &review["spec"])?,
        "SelfSubjectRulesReview" => user.rules_review(),
        "SelfSubjectReview" => {
            review["metadata"]["creationTimestamp"] = json!(stamp(now));
            json!({"userInfo": user.info()})
        }
        _ => return Err(Failure::method()),
    };
    Ok(review)
}

fn access(user: &User, spec: &Value) -> Outcome<Value> {
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let allowed = if spec["resourceAttributes"].is_object() {
        let asked = &spec["resourceAttributes"];
        let [verb, group, resource, subresource, namespace, name] =
            ["verb", "group", "resource", "subresource", "namespace", "name"].map(|field| text(&asked[field]));
        user.may(Ask {
            verb: &verb,
            group: &group,
            resource: &resource,
            subresource: &subresource,
            namespace: &namespace,
            name: &name,
        })
    } else if spec["nonResourceAttributes"].is_object() {
        spec["nonResourceAttributes"]["verb"] == "get"
    } else {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        return Err(Failure::bad_request(why));
    };
    Ok(json!({"allowed": allowed}))
}
