//! Patience: how long, or how often, trouble must show before it is said; the configuration's section `watch`.

use jiff::SignedDuration;
use serde::Deserialize;

/// Each threshold of the watches. What heals earlier by itself is no signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Patience {
    /// A container's image, configuration or crashes.
    pub pod_seconds: u32,
    /// Restarts after which crashes need not last in one piece, and a kill for memory needs no further proof.
    pub pod_restarts: u32,
    /// A pod that no node takes.
    pub unschedulable_seconds: u32,
    /// An init container that does not end.
    pub init_seconds: u32,
    /// A pod that is still there after the end of its grace period.
    pub terminating_seconds: u32,
    /// A node that is not ready.
    pub node_seconds: u32,
    /// A node that is short of memory, disk or processes, or without a network.
    pub pressure_seconds: u32,
    /// A node whose lease is not renewed.
    pub lease_seconds: u32,
    /// A claim for which no volume is provided.
    pub claim_seconds: u32,
    /// An autoscaler at its maximum.
    pub autoscaler_seconds: u32,
    /// A Service that has lost its last ready endpoint.
    pub endpoints_seconds: u32,
    /// A Service with a selector that has had no ready endpoint since it is known.
    pub service_seconds: u32,
    /// A Job that has not ended.
    pub job_seconds: u32,
    /// A CronJob whose run has not started.
    pub cronjob_seconds: u32,
    /// How often a Warning event must have been seen,
    pub event_count: u32,
    /// and over how long.
    pub event_seconds: u32,
    /// How often a probe must have failed,
    pub probe_count: u32,
    /// and over how long.
    pub probe_seconds: u32,
    /// Trouble of a pod that was not seen for this long is over; when it comes again, it is told again.
    pub quiet_seconds: u32,
    /// What had ended longer ago than this when it is first seen (a failed Job, an event, an eviction) is history.
    pub fresh_seconds: u32,
    /// The same for kills for memory, of which the last stays in the pod's status until the next.
    pub memory_seconds: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // One failed pull, one missing ConfigMap or one crash before a dependency is there heals by itself in seconds.
            pod_seconds: 30,
            // Once may be a freak.
            pod_restarts: 2,
            // A cluster's autoscaler brings a node within about two minutes.
            unschedulable_seconds: 180,
            // Migrations and restores run in init containers and take minutes; kubernetes-mixin's `KubePodNotReady` waits as long.
            init_seconds: 900,
            // A node under load is late by seconds, a controller that takes its finalizer away by a minute or two.
            terminating_seconds: 300,
            // The node controller has waited for its lease already; a restart of the kubelet takes a few seconds.
            node_seconds: 30,
            // A kubelet that is short of something frees images and evicts within some 10 s; after that it is not over soon.
            pressure_seconds: 60,
            // A kubelet renews it every 10 s, and the node controller gives a node up after 50 (40 in older versions), which it
            // looks at every 5: what comes back before that is no trouble. This is said then, before `node_seconds` have
            // passed too, and where no node controller runs it alone is.
            lease_seconds: 60,
            // A volume is provided within seconds; two minutes allow for a slow cloud.
            claim_seconds: 120,
            // It may touch its maximum in a peak; kubernetes-mixin's `KubeHpaMaxedOut` waits as long.
            autoscaler_seconds: 900,
            // A Service of one pod has none while that pod is replaced.
            endpoints_seconds: 120,
            // A Service is made before its workload, whose first pods may run migrations for minutes.
            service_seconds: 900,
            // Twelve hours, as kubernetes-mixin's `KubeJobNotCompleted` waits.
            job_seconds: 43_200,
            // The controller starts runs within seconds, after a restart of its own within a minute or two.
            cronjob_seconds: 600,
            // Controllers try three times within seconds.
            event_count: 3,
            event_seconds: 30,
            // Fewer are a hiccup. Probes fail while containers start, which takes slow programs two minutes or so.
            probe_count: 10,
            probe_seconds: 180,
            // Twice the longest pause between two starts of a crash loop.
            quiet_seconds: 600,
            fresh_seconds: 600,
            memory_seconds: 900,
        }
    }
}

/// Seconds of a threshold as a duration.
pub fn seconds(seconds: u32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(seconds))
}
