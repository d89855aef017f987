//! Bodies of requests that are no patch: a Job once more, and the eviction of a pod.

use serde_json::{Value, json};

use crate::act::change::APPROVAL_ANNOTATION;
use crate::model::{ApprovalId, Kind, ObjectRef};
use crate::observe::json;

/// Labels that the Job controller gives to each Job's pods alone.
const OF_ONE_JOB: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];
/// With `-rerun-` and an approval's id within the 63 characters that a Job's name may have.
const NAME_MAX: usize = 40;

/// The new Job's name: the approval's own, so that the same request made twice makes one Job.
pub fn name(object: &ObjectRef, approval: &ApprovalId) -> String {
    let base: String = object.name().chars().take(NAME_MAX).collect();
    let base = base.trim_end_matches(['-', '.']);
    format!("{base}-rerun-{}", approval.as_str().to_ascii_lowercase())
}

/// The new Job, by name.
pub fn made(object: &ObjectRef, approval: &ApprovalId) -> Option<ObjectRef> {
    ObjectRef::new(Kind::Job, Some(object.namespace()), &name(object, approval))
}

/// The new Job: like `object`, a Job, or as a CronJob would start it.
pub(super) fn job(object: &Value, name: &str, approval: &ApprovalId) -> Value {
    let of_cron_job = json::text(object, "/kind") == Kind::CronJob.as_str();
    let like = if of_cron_job { object.pointer("/spec/jobTemplate").unwrap_or(&Value::Null) } else { object };
    let mut spec = like.get("spec").cloned().unwrap_or(Value::Null);
    let mut labels = like.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    if let Some(spec) = spec.as_object_mut() {
        // The API server makes the selector anew, for the new Job's pods alone.
        for field in ["selector", "manualSelector", "suspend"] {
            spec.remove(field);
        }
    }
    for labels in [Some(&mut labels), spec.pointer_mut("/template/metadata/labels")].into_iter().flatten() {
        if let Some(labels) = labels.as_object_mut() {
            OF_ONE_JOB.iter().for_each(|label| drop(labels.remove(*label)));
        }
    }
    let mut annotations = json!({APPROVAL_ANNOTATION: approval});
    let mut metadata = json!({"name": name, "namespace": json::text(object, "/metadata/namespace"), "labels": labels});
    if of_cron_job {
        // As `kubectl create job --from` has it: the CronJob counts it among its own and clears it away.
        annotations["cronjob.kubernetes.io/instantiate"] = json!("manual");
        metadata["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "controller": true,
            "name": json::text(object, "/metadata/name"), "uid": json::text(object, "/metadata/uid")}]);
    }
    metadata["annotations"] = annotations;
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
}

/// The eviction of exactly this pod.
pub(super) fn eviction(pod: &ObjectRef, uid: &str, approval: &ApprovalId) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod.name(), "namespace": pod.namespace(), "annotations": {APPROVAL_ANNOTATION: approval}},
        "deleteOptions": {"preconditions": {"uid": uid}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_once_more_keeps_its_work_and_nothing_of_the_run_before() {
        let approval = ApprovalId::parse("a0123456789ab").unwrap();
        let labels = json!({"app": "report", "controller-uid": "u1", "batch.kubernetes.io/job-name": "report"});
        let old = json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "report", "namespace": "shop", "uid": "u1", "resourceVersion": "7", "labels": labels},
            "spec": {"backoffLimit": 2, "suspend": false, "selector": {"matchLabels": {"controller-uid": "u1"}},
                "template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never"}}},
            "status": {"failed": 3}});
        let expected = json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "report-rerun-a0123456789ab", "namespace": "shop", "labels": {"app": "report"},
                "annotations": {"firstlook.dev/approval": "a0123456789ab"}},
            "spec": {"backoffLimit": 2,
                "template": {"metadata": {"labels": {"app": "report"}}, "spec": {"restartPolicy": "Never"}}}});
        assert_eq!(job(&old, "report-rerun-a0123456789ab", &approval), expected);
    }

    #[test]
    fn the_name_of_a_job_once_more_fits_and_is_the_approvals_own() {
        let long = ObjectRef::new(Kind::Job, Some("shop"), &"very-long-name-".repeat(4)).unwrap();
        let name = name(&long, &ApprovalId::parse("aB0123456789a").unwrap());
        assert!(name.len() <= 63 && name.ends_with("-rerun-ab0123456789a") && !name.contains("--"), "{name}");
    }
}
