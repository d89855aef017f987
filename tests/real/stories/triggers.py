"""Triggers, on the real control plane: each kind of trouble is heard without any alert, and becomes one card with its cause."""
import json
import time
from datetime import datetime, timedelta, timezone

import plot
from daemon import firstlook
from identities import NAMESPACE, install
from parts import PATIENCE_S, deployment, namespace_object, wait_until
from workspace import workspace

# What heals within seconds is no signal; a story waits for none of that.
# But for leases: one counts as late when the API server took it 40 s before the newest, and those are up to 10 s old.
AT_ONCE = {"watch": {"pod_seconds": 1, "unschedulable_seconds": 1, "node_seconds": 1, "lease_seconds": 52}}
# As long as a tick of the watches (5 s), which makes signals of what has held; what comes of these is waited for.
SETTLED_S = 7


class Heard:
    """A daemon whose watches are all that it hears, and the workspace into which its cards go."""

    def __init__(self, run):
        self.run, self.cluster = run, run.cluster()
        install(self.cluster)
        plot.write_logs(self.cluster)

    def holds(self, *objects):
        """Namespaces with what runs in them; gone again after the story, so that the next one finds nothing in trouble."""
        namespaces = sorted({o["metadata"]["namespace"] for o in objects})
        self.cluster.apply(*map(namespace_object, namespaces), *objects)
        self.run.story.callback(lambda: self.cluster.kubectl("delete", "namespace", *namespaces, f"--timeout={PATIENCE_S}s", check=False))
        for workload in (o for o in objects if o["kind"] == "Deployment"):
            self.cluster.rolled_out(workload["metadata"]["namespace"], workload["metadata"]["name"])

    def listen(self):
        self.slack = self.run.start(workspace(self.run))
        kubeconfig = self.cluster.kubeconfig_for(self.run.work / "kubeconfig", NAMESPACE, "firstlook")
        self.daemon = self.run.start(firstlook(self.run, kubeconfig, slack=self.slack.api, extra=AT_ONCE))
        self.daemon.wait_synced()

    def pods(self, namespace):
        return self.cluster.get("-n", namespace, "pods")["items"]

    def plays(self, pod, phase, state, reason, restarts=0, **more):
        """What a kubelet would write of a pod whose container is not ready."""
        container = {**pod["status"]["containerStatuses"][0], "ready": False, "started": False, "restartCount": restarts, "state": {"running": None, **state}, **more}
        unready = [{"type": kind, "status": "False", "reason": reason, "lastTransitionTime": second()} for kind in ("Ready", "ContainersReady")]
        self.write_status("pod", pod["metadata"]["name"], {"phase": phase, "containerStatuses": [container], "conditions": unready}, pod["metadata"]["namespace"])

    def write_status(self, kind, name, status, namespace=None):
        within = ["-n", namespace] if namespace else []
        self.cluster.kubectl(*within, "patch", kind, name, "--subresource=status", "-p", json.dumps({"status": status}))

    def cards_say(self, **said):
        """One card for each subject, with these words; nothing else comes, and nothing of them is posted twice."""
        for words in said.values():
            self.slack.wait_for_card(*words)
        time.sleep(SETTLED_S)
        self.daemon.wait_idle()
        cards = [c["plain"] for c in self.slack.cards()]
        assert len(cards) == len(said), f"{len(cards)} cards:\n" + "\n---\n".join(cards)
        for words in said.values():
            assert sum(all(w in card for w in words) for card in cards) == 1, f"{words}:\n" + "\n---\n".join(cards)
        return cards


def second():
    return plot.now()[:19] + "Z"


def settings(pool):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "configs", "name": "settings"}, "data": {"pool": str(pool)}}


def each_fault_of_a_workload_is_heard_and_its_card_names_its_own_cause(run):
    heard, reads = Heard(run), deployment("configs", "checkout", plot.GOOD, replicas=2)
    reads["spec"]["template"]["spec"]["volumes"] = [{"name": "settings", "configMap": {"name": "settings"}}]
    reads["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [{"name": "settings", "mountPath": "/etc/checkout"}]
    healthy = [deployment(namespace, name, plot.GOOD, replicas=2) for namespace, name in
               (("pulls", "cart"), ("pulls", "next-door"), ("crashes", "checkout"), ("unplaced", "prices"))]
    heard.holds(settings(20), reads, *healthy)
    heard.listen()
    heard.cluster.apply(settings(200))
    wait_until(lambda: heard.daemon.metrics().get('firstlook_signals_total{kind="rollout"}', 0) >= 1, "the edit to be heard")
    heard.daemon.wait_idle()
    assert not heard.slack.cards(), "an edit alone is no trouble"

    heard.cluster.kubectl("-n", "pulls", "set", "image", "deployment/cart", "api=registry.test/cart:missing")
    plot.break_it(heard.cluster, "crashes")
    more = {"spec": {"template": {"spec": {"containers": [{"name": "api", "resources": {"requests": {"cpu": "64"}}}]}}}}
    heard.cluster.kubectl("-n", "unplaced", "patch", "deployment", "prices", "-p", json.dumps(more))
    # These start again, as after a node's maintenance, and read what the ConfigMap says now.
    last = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": second(), "finishedAt": second()}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 1m20s restarting failed container=api"}}
    for pod in heard.pods("configs"):
        heard.plays(pod, "Running", waiting, "ContainersNotReady", restarts=4, lastState=last)

    cards = heard.cards_say(
        pull=("`pulls/cart`", "cannot pull image", "which cannot be pulled (not found)", "2 pods of revision 1 still serve"),
        crash=("`crashes/checkout`", "which changed image", "added env DB_POOL (200)", plot.FATAL),
        unplaced=("`unplaced/prices`", "Insufficient cpu", "the largest node that could take it has", "added request cpu (64)"),
        config=("`configs/checkout`", "ConfigMap settings", "key pool 20 → 200", plot.FATAL),
    )
    assert not any("next-door" in card.split("*Ruled out*")[0] for card in cards), "a healthy neighbour is dragged in"


def a_dead_node_is_one_card_for_all_that_ran_on_it_and_a_silent_one_and_a_failed_job_others(run):
    heard, cluster = Heard(run), run.cluster()
    nodes = {"node-b": {"disk": "fast"}, "node-c": {"disk": "slow"}}
    cluster.apply(*({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}} for name, labels in nodes.items()))
    run.story.callback(lambda: cluster.kubectl("delete", "node", *nodes, check=False))
    cluster.kubectl("wait", "--for=condition=Ready", "node/node-b", "node/node-c", f"--timeout={PATIENCE_S}s")
    pinned = [deployment("stranded", name, plot.GOOD, replicas=2) for name in ("checkout", "payments")]
    for workload in pinned:
        workload["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "fast"}
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "api", "image": "registry.test/report:1.4"}]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "batches", "name": "nightly-report"}, "spec": {"backoffLimit": 0, "template": template}}
    heard.holds(*pinned, job)
    running = wait_until(lambda: [p for p in heard.pods("batches") if p["status"].get("phase") == "Running"], "the Job's pod")[0]

    def renew(ago_s):
        """Held by another, so that kwok does not: the story is this node's kubelet, whose clock is behind, which alone is no trouble."""
        at = (datetime.now(timezone.utc) - timedelta(seconds=ago_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = {"spec": {"holderIdentity": "story", "leaseDurationSeconds": 3600, "renewTime": at}}
        cluster.kubectl("-n", "kube-node-lease", "patch", "lease", "node-c", "--type=merge", "-p", json.dumps(lease))
    renew(70)
    heard.listen()
    renew(60)  # and never again; nothing else says yet that this node is gone
    # As the node controller writes it of a node whose lease has run out, and of the pods there.
    cluster.kubectl("label", "node", "node-b", "down=true")
    silent = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status.", "lastTransitionTime": second()}
    heard.write_status("node", "node-b", {"conditions": [silent]})
    for pod in heard.pods("stranded"):
        heard.write_status("pod", pod["metadata"]["name"], {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": second()}]}, "stranded")
    ended = {"terminated": {"exitCode": 3, "reason": "Error", "startedAt": second(), "finishedAt": second()}}
    heard.plays(running, "Failed", ended, "PodFailed")
    gave_up = lambda: cluster.get("-n", "batches", "job", "nightly-report")["status"].get("conditions", [])
    wait_until(lambda: any(c["type"] == "Failed" and c["reason"] == "BackoffLimitExceeded" for c in gave_up()), "the Job controller to give up")

    heard.cards_say(
        node=("`node-b`", "checkout", "payments", "Kubelet stopped posting node status"),
        # By its lease, or by the word of the node controller, which gives it up at about the same time.
        silent=("`node-c`", "lease"),
        job=("`batches/nightly-report`", "exits with code 3", plot.FATAL, "BackoffLimitExceeded"),
    )
