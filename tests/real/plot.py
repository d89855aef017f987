"""What happens in the stories: a Deployment that works, a rollout that breaks it, the alert about it, and a model's answers."""
import hashlib
import json
import re
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler

from chat import ChatServer, Served, calling
from parts import deployment, namespace_object

GOOD, BAD = "registry.test/checkout:2.3.1", "registry.test/checkout:crash"
FATAL = 'FATAL: too many connections for role "checkout" (pool 200)'
LOG_LINES = ["starting checkout 2.4.0", "pool size 200", FATAL]


def set_up(run, cluster, namespace, replicas=2):
    """The namespace with `checkout` running its first template; gone again after the story."""
    write_logs(cluster)
    set_up_bare(cluster, namespace, replicas)
    run.story.callback(lambda: cluster.kubectl("delete", "namespace", namespace, "--wait=false", check=False))
    run.story.callback(lambda: cluster.kubectl("-n", namespace, "delete", "deployment", "--all", "--wait=true", check=False))


def set_up_bare(cluster, namespace, replicas=2):
    """The same without logs and without an end."""
    cluster.apply(namespace_object(namespace), deployment(namespace, "checkout", GOOD, replicas=replicas))
    cluster.rolled_out(namespace, "checkout")


def write_logs(cluster):
    """What every container `api` says, as a runtime writes it: now and in its previous life."""
    at = datetime.now(timezone.utc) - timedelta(seconds=5)
    lines = [f"{(at + timedelta(milliseconds=i)).strftime('%Y-%m-%dT%H:%M:%S.%f')}000Z stdout F {line}" for i, line in enumerate(LOG_LINES)]
    for name in ("api.log", "api.previous.log"):
        (cluster.logs / name).write_text("\n".join(lines) + "\n")


def break_it(cluster, namespace):
    """The bad rollout: a new image and a variable, as a person's `kubectl set` makes it."""
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "api", "image": BAD, "env": [{"name": "DB_POOL", "value": "200"}]}]}}}}
    cluster.kubectl("-n", namespace, "patch", "deployment", "checkout", "-p", json.dumps(patch))


def image(cluster, namespace):
    return cluster.deployment(namespace, "checkout")["spec"]["template"]["spec"]["containers"][0]["image"]


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def alert(namespace, status="firing", name="KubeDeploymentReplicasMismatch", began=None, **labels):
    """A webhook body of Alertmanager 0.25 with one alert about `checkout`."""
    began = began or now()
    ends = "0001-01-01T00:00:00Z" if status == "firing" else now()
    labels = {"alertname": name, "namespace": namespace, "deployment": "checkout", "severity": "warning", **labels}
    annotations = {"summary": "Deployment has not matched the expected number of replicas."}
    fingerprint = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:16]
    one = {"status": status, "labels": labels, "annotations": annotations, "startsAt": began, "endsAt": ends,
           "generatorURL": "http://prometheus.test/graph", "fingerprint": fingerprint}
    return {"receiver": "firstlook", "status": status, "alerts": [one], "groupLabels": {"alertname": name}, "commonLabels": labels,
            "commonAnnotations": annotations, "externalURL": "http://alertmanager.test", "version": "4", "groupKey": f'{{}}:{{alertname="{name}"}}', "truncatedAlerts": 0}


# --- the model's answers ------------------------------------------------------------------------------------------------

def first_calls(namespace):
    """What the model asks for in its first turn: two reads at once."""
    return [("list_events", {"namespace": namespace}), ("rollout_history", {"namespace": namespace, "kind": "Deployment", "name": "checkout"})]


def evidence_with(messages, quote):
    """The id of evidence that the messages show to hold `quote`, or None.

    The task writes an id before each of its quotes, or before the lines of a log; a tool's answer has it at its beginning."""
    for message in messages:
        text = message.get("content") or ""
        for line in text.splitlines():
            if quote in line:
                if before := re.search(r"(e\d+) `[^`]*" + re.escape(quote), line) or re.search(r"\[(e\d+)\]: .*" + re.escape(quote), line):
                    return before[1]
                if message["role"] == "tool" and (first := re.match(r"(e\d+)\b", text)):
                    return first[1]
    return None


def later_calls(namespace, messages):
    """What a model asks that has seen nothing yet that it could quote: the logs of the pods that it was told of."""
    told = " ".join(m.get("content") or "" for m in messages)
    pods = sorted(set(re.findall(r"\bcheckout-[a-z0-9]{6,10}-[a-z0-9]{5}\b", told)))
    return [("list_events", {"namespace": namespace})] + [("pod_logs", {"namespace": namespace, "pod": pod}) for pod in pods[:4]]


def quotable(messages):
    """The words that prove the cause, if the evidence that was shown holds them."""
    return next((q for q in (FATAL, "Back-off restarting failed container") if evidence_with(messages, q)), None)


def report_call(namespace, messages):
    """`submit_report` with the cause, a quote that the evidence holds, and the rollback."""
    quote = quotable(messages)
    citations = [{"evidence": evidence_with(messages, quote), "quote": quote}] if quote else []
    workload = {"kind": "Deployment", "namespace": namespace, "name": "checkout"}
    return ("submit_report", {
        "headline": "checkout is failing: revision 2 opens more database connections than the role allows",
        "cause": "Revision 2 sets DB_POOL=200; the pods exceed the role's connection limit, and every new pod exits.",
        "certainty": "likely", "culprit": workload, "citations": citations, "ruled_out": ["node pressure", "image pull"],
        "proposals": [{"tool": "rollout_undo", **workload}], "reasoning": ["The crash began with revision 2."],
    })


class ScriptedModel(ChatServer):
    """Turn one reads; the first that can quote something reports, as a later one does that has read in vain."""

    def __init__(self, namespace):
        super().__init__()
        self.namespace = namespace

    def message(self, body):
        rounds = sum(bool(m.get("tool_calls")) for m in body["messages"])
        if not body.get("tools"):
            return {"role": "assistant", "content": "{}"}
        if rounds == 0:
            calls = first_calls(self.namespace)
        elif quotable(body["messages"]) or rounds > 4:
            calls = [report_call(self.namespace, body["messages"])]
        else:
            calls = later_calls(self.namespace, body["messages"])
        return calling(*((f"call_{len(body['messages'])}_{i}", name, arguments) for i, (name, arguments) in enumerate(calls)))


class Exporter(Served):
    """kube-state-metrics for one Deployment: each scrape asks the real API server. A context manager; `target` is host:port."""

    def __init__(self, cluster, namespace):
        exporter = self
        self.cluster, self.namespace, self.scrapes = cluster, namespace, 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                data = exporter.page().encode()
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass
        super().__init__(Handler)

    def page(self):
        self.scrapes += 1
        found = self.cluster.deployment(self.namespace, "checkout")
        status, labels = found["status"], f'namespace="{self.namespace}",deployment="checkout"'
        return "".join(f"# TYPE {name} gauge\n{name}{{{labels}}} {value}\n" for name, value in (
            ("kube_deployment_spec_replicas", found["spec"]["replicas"]),
            ("kube_deployment_status_replicas_updated", status.get("updatedReplicas", 0)),
            ("kube_deployment_status_replicas_unavailable", status.get("unavailableReplicas", 0)),
        ))


# kubernetes-mixin's rule, shortened to a test's patience: a rollout that leaves pods unavailable.
RULES = [{"name": "kubernetes-apps", "rules": [{
    "alert": "KubeDeploymentReplicasMismatch", "expr": "kube_deployment_status_replicas_unavailable > 0", "for": "2s",
    "labels": {"severity": "warning"},
    "annotations": {"summary": "Deployment has not matched the expected number of replicas.",
                    "description": "Deployment {{ $labels.namespace }}/{{ $labels.deployment }} has {{ $value }} unavailable pods."},
}]}]
