"""Each action on the real control plane, with the RBAC and admission policies of deploy/: done for real, taken back for real, and nothing beside it."""
import json

import plot
from daemon import WEBHOOK_TOKEN, firstlook
from identities import NAMESPACE, install, rendered
from parts import alertmanager, deployment, free_port, namespace_object, request, run_tool, wait_until
from workspace import ONCALL, workspace

SHOP = "acts"
# Of the story of a silence: the other namespace is still going away while it begins.
HEARD = "heard"
EVERYTHING = {
    "approvers": [{"who": [ONCALL], "tiers": ["reversible", "destructive"], "namespaces": ["*"], "cluster": True}],
    "limits": {"writes_per_hour": 100, "writes_per_incident": 100},
}
SECRET_FREE = ("firstlook", "firstlook-preview", "firstlook-write", "firstlook-write-destructive")


class Caller:
    """An MCP client with a token, over streamable HTTP."""

    def __init__(self, url, token):
        self.url, self.headers, self.number = url, {"Authorization": f"Bearer {token}", "Content-Type": "application/json",
                                                    "Accept": "application/json, text/event-stream"}, 0
        hello = self.send("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "story", "version": "1"}})
        self.headers["MCP-Protocol-Version"] = hello["protocolVersion"]
        request("POST", self.url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, self.headers)

    def send(self, method, params):
        self.number += 1
        answer = request("POST", self.url, {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}, self.headers)
        assert answer.status == 200, f"{method}: {answer.status} {answer.text}"
        if session := next((v for k, v in dict(answer.headers).items() if k.lower() == "mcp-session-id"), None):
            self.headers["Mcp-Session-Id"] = session
        texts = [line[5:].strip() for line in answer.text.splitlines() if line.startswith("data:")] or [answer.text]
        told = next(m for m in (json.loads(t) for t in texts if t) if m.get("id") == self.number)
        assert "error" not in told, told
        return told["result"]

    def ask(self, tool, **arguments):
        """Asks for a change; the approval's id, or the reason why not."""
        told = self.send("tools/call", {"name": tool, "arguments": arguments})["structuredContent"]
        return told["approval_id"] if told["status"] == "pending_approval" else told["reason"]


class World:
    """A daemon with `/mcp`, running as its own ServiceAccount on a real cluster, and a person who says yes."""

    def __init__(self, run, beside=None, namespace=SHOP):
        self.run, self.cluster = run, run.cluster()
        install(self.cluster)
        self.slack = run.start(workspace(run))
        done = run_tool([run.binary, "mcp", "token", "--name", "story", "--for", ONCALL, "--namespaces", namespace, "--cluster",
                         "--tiers", "read-only,reversible,destructive", "--asks-per-hour", "100"])
        token, entry = done.stdout.split("\n", 1)
        (run.work / "callers.yaml").write_text("callers:\n" + entry)
        address = f"127.0.0.1:{free_port()}"
        extra = {"listeners": {"mcp": {"address": address}}, "mcp_callers_file": str(run.work / "callers.yaml"), **(beside or {})}
        kubeconfig = self.cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")
        self.daemon = run.start(firstlook(run, kubeconfig, slack=self.slack.api, policy=EVERYTHING, extra=extra))
        self.daemon.wait_synced()
        self.caller = Caller(f"http://{address}/mcp", token.strip())

    def get(self, kind, name, namespace=SHOP):
        return self.cluster.get(*(["-n", namespace] if namespace else []), kind, name)

    def approve(self, approval):
        """Its own button: a card whose request was just carried out may still show the old one."""
        ts, action_id = self.slack.wait_for_button("approve", value=approval)
        assert self.slack.press(self.daemon.interactivity_url, ts, action_id, ONCALL).status == 200
        return ts

    def state(self, approval):
        return self.caller.send("tools/call", {"name": "get_approval", "arguments": {"approval_id": approval}})

    def carry_out(self, tool, **arguments):
        """Asked, approved, executed: the card's timestamp."""
        asked = self.caller.ask(tool, **arguments)
        assert asked.startswith("a") and " " not in asked, f"{tool}: {asked}"
        ts = self.approve(asked)
        told = wait_until(lambda: (t := json.dumps(self.state(asked))) and ("executed" in t or "failed" in t or "withdrawn" in t) and t, f"{tool} to be carried out")
        assert "executed" in told, f"{tool}: {told}"
        return ts

    def take_back(self, ts, leads):
        """Undo on that card, by what it leads to (a card can hold several): asked for, approved."""
        def button(kind, text):
            card = next(c for c in self.slack.cards() if c["message"]["ts"] == ts)
            return next((b["action_id"] for b in card["buttons"] if b["action_id"].startswith(kind) and text in json.dumps(b)), None)
        for kind, text in (("undo", f"Undo: {leads}"), ("approve", "")):
            action_id = wait_until(lambda: button(kind, text), f"the button {kind} on the card", 60)
            assert self.slack.press(self.daemon.interactivity_url, ts, action_id, ONCALL).status == 200


def container(found):
    return found["spec"]["template"]["spec"]["containers"][0]


def each_action_is_done_and_taken_back_for_real(run):
    world = World(run)
    cluster = world.cluster
    plot.set_up(run, cluster, SHOP)
    web = {"namespace": SHOP, "kind": "Deployment", "name": "checkout"}
    named = {"namespace": SHOP, "name": "checkout"}
    pods = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "api", "image": "registry.test/x:1"}]}}
    job = {"template": {"metadata": {"labels": {"app": "report"}}, "spec": {**pods["spec"], "restartPolicy": "Never"}}}
    cluster.apply(
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"namespace": SHOP, "name": "nightly"}, "spec": {"schedule": "0 3 1 1 *", "jobTemplate": {"spec": job}}},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": SHOP, "name": "report"}, "spec": job},
        *({"apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": SHOP, "name": kind.lower()},
           "spec": {"selector": {"matchLabels": {"app": kind.lower()}}, **({"serviceName": "x"} if kind == "StatefulSet" else {}),
                    "template": {**pods, "metadata": {"labels": {"app": kind.lower()}}}}} for kind in ("StatefulSet", "DaemonSet")))

    def replicas():
        return world.get("deployment", "checkout")["spec"]["replicas"]

    before = replicas()
    ts = world.carry_out("scale", **web, replicas=before + 1)
    assert replicas() == before + 1
    world.take_back(ts, "back to 2")
    wait_until(lambda: replicas() == before, "the number of pods of before")

    ts = world.carry_out("pause_rollout", **named)
    assert world.get("deployment", "checkout")["spec"]["paused"] is True
    world.take_back(ts, "resume it")
    wait_until(lambda: not world.get("deployment", "checkout")["spec"].get("paused"), "the rollout to be resumed")

    ts = world.carry_out("set_resources", **web, container="api", memory_limit="256Mi", cpu_request="50m")
    assert container(world.get("deployment", "checkout"))["resources"] == {"limits": {"memory": "256Mi"}, "requests": {"cpu": "50m"}}
    world.take_back(ts, "back to the resources before")
    wait_until(lambda: not container(world.get("deployment", "checkout")).get("resources", {}).get("limits"), "the resources of before")
    cluster.rolled_out(SHOP, "checkout")

    ts = world.carry_out("suspend_cronjob", namespace=SHOP, name="nightly")
    assert world.get("cronjob", "nightly")["spec"]["suspend"] is True
    world.take_back(ts, "resume it")
    wait_until(lambda: not world.get("cronjob", "nightly")["spec"]["suspend"], "the CronJob to be resumed")

    ts = world.carry_out("cordon", name="node-a")
    assert world.get("node", "node-a", None)["spec"]["unschedulable"] is True
    world.take_back(ts, "uncordon it")
    wait_until(lambda: not world.get("node", "node-a", None)["spec"].get("unschedulable"), "the node to be uncordoned")

    for kind in ("StatefulSet", "DaemonSet"):
        world.carry_out("rollout_restart", namespace=SHOP, kind=kind, name=kind.lower())
        annotations = world.get(kind.lower(), kind.lower())["spec"]["template"]["metadata"]["annotations"]
        assert "kubectl.kubernetes.io/restartedAt" in annotations, annotations

    refused = world.caller.ask("rerun_job", namespace=SHOP, kind="Job", name="report")
    assert "under way" in refused, refused
    finish(world, "report")
    world.carry_out("rerun_job", namespace=SHOP, kind="Job", name="report")
    again = next(j["metadata"]["name"] for j in cluster.get("-n", SHOP, "jobs")["items"] if j["metadata"]["name"].startswith("report-rerun-"))
    finish(world, again)
    world.slack.wait_for_card("report", "1 of 1 done", timeout_s=60)

    pod = cluster.get("-n", SHOP, "pods", "-l", "app=checkout")["items"][0]["metadata"]
    of_job = cluster.get("-n", SHOP, "pods", "-l", "job-name=report")["items"][0]["metadata"]["name"]
    refused = world.caller.ask("delete_pod", namespace=SHOP, name=of_job)
    assert "pod of a Job" in refused, refused
    world.carry_out("delete_pod", namespace=SHOP, name=pod["name"])
    wait_until(lambda: all(p["metadata"]["uid"] != pod["uid"] for p in cluster.get("-n", SHOP, "pods", "-l", "app=checkout")["items"]), "the pod to be gone")
    cluster.rolled_out(SHOP, "checkout")

    ts = world.carry_out("drain", name="node-a")
    moved = cluster.get("-n", SHOP, "pods", "-l", "app=checkout")["items"]
    assert world.get("node", "node-a", None)["spec"]["unschedulable"] is True
    assert all(not p["spec"].get("nodeName") or "deletionTimestamp" in p["metadata"] for p in moved), [p["metadata"]["name"] for p in moved]
    world.take_back(ts, "uncordon it")
    wait_until(lambda: not world.get("node", "node-a", None)["spec"].get("unschedulable"), "the drained node to be uncordoned")
    cluster.rolled_out(SHOP, "checkout")
    assert "the chain holds" in world.daemon.audit_verifies()


def an_alert_is_silenced_for_exactly_its_labels_and_heard_again(run):
    """A real Alertmanager: asked for by a caller from outside, approved in Slack, suppressed, undone."""
    port = free_port()
    world = World(run, {"alertmanager": {"url": f"http://127.0.0.1:{port}"}}, HEARD)
    plot.set_up(run, world.cluster, HEARD)
    alerts = run.start(alertmanager(run.work, world.daemon.webhook_url, WEBHOOK_TOKEN, port=port))
    labels = {"alertname": "CheckoutSlow", "namespace": HEARD, "deployment": "checkout", "severity": "warning"}
    other = {**labels, "severity": "info"}
    more = {**labels, "endpoint": "/pay"}
    alerts.post({"labels": labels}, {"labels": other}, {"labels": more})
    world.slack.wait_for_card("checkout", "3 alerts", timeout_s=60)

    def state(of):
        return next(a["status"]["state"] for a in alerts.alerts() if a["labels"] == of)

    which = next(a["fingerprint"] for a in alerts.alerts() if a["labels"] == labels)
    web = {"namespace": HEARD, "kind": "Deployment", "name": "checkout"}
    refused = world.caller.ask("silence_alert", **web, alert="CheckoutSlow", hours=1)
    assert "fingerprint" in refused and which in refused, refused
    ts = world.carry_out("silence_alert", **web, alert=which, hours=1)
    wait_until(lambda: state(labels) == "suppressed", "the alert to be suppressed")
    assert state(other) == "active", "another alert of the same name is heard as before"
    assert state(more) == "active", "an alert with the same labels and more is heard as before"
    (made,) = [s for s in request("GET", f"{alerts.url}/api/v2/silences").json() if s["status"]["state"] == "active"]
    assert made["createdBy"] == ONCALL and {m["name"]: m["value"] for m in made["matchers"]} == {**labels, "endpoint": ""}, made
    world.take_back(ts, "end the silence")
    wait_until(lambda: state(labels) == "active", "the alert to be heard again")
    assert "the chain holds" in world.daemon.audit_verifies()


def finish(world, job):
    """Its pod succeeds, as a container that ends does."""
    def pods():
        return world.cluster.get("-n", SHOP, "pods", "-l", f"job-name={job}")["items"]
    wait_until(pods, f"the pod of {job}")
    world.cluster.kubectl("-n", SHOP, "label", "pods", "-l", f"job-name={job}", "done=true")
    wait_until(lambda: world.get("job", job)["status"].get("succeeded"), f"{job} to end", 60)


# --- what the accounts may not -------------------------------------------------------------------------------------------

def writes():
    """Every write that an action makes: (verb, resource, method, path, body)."""
    note = {"metadata": {"annotations": {"touched": "yes"}}}
    for resource in ("deployments", "statefulsets", "daemonsets"):
        yield "patch", f"{resource}.apps", "PATCH", f"/apis/apps/v1/namespaces/guards/{resource}/web", note
    yield "patch", "cronjobs.batch", "PATCH", "/apis/batch/v1/namespaces/guards/cronjobs/web", note
    yield "patch", "nodes", "PATCH", "/api/v1/nodes/node-a", note
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "again", "namespace": "guards"},
           "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x:1"}]}}}}
    yield "create", "jobs.batch", "POST", "/apis/batch/v1/namespaces/guards/jobs", job
    pod = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web", "namespace": "guards"}}
    yield "create", "pods/eviction", "POST", "/api/v1/namespaces/guards/pods/web/eviction", pod


def no_account_can_write_but_as_it_should(run):
    cluster = run.cluster()
    install(cluster)
    spec = {"containers": [{"name": "c", "image": "x:1"}]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": spec}
    meta = {"namespace": "guards", "name": "web"}
    sets = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    cluster.apply(
        namespace_object("guards"), deployment("guards", "web", "x:1", replicas=0),
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": {**sets, "replicas": 0, "serviceName": "x"}},
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta, "spec": {**sets, "template": {**template, "spec": {**spec, "nodeSelector": {"no": "where"}}}}},
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta,
         "spec": {"schedule": "0 3 1 1 *", "jobTemplate": {"spec": {"template": {"spec": {**spec, "restartPolicy": "Never"}}}}}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    tokens = {name: cluster.token_of(NAMESPACE, name) for name in SECRET_FREE}

    def send(account, method, path, body, dry_run=False):
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        return cluster.request(method, path + ("?dryRun=All" if dry_run else ""), tokens[account], body, kind)

    for verb, resource, method, path, body in writes():
        own = send("firstlook", method, path, body)
        assert own.status == 403 and f"cannot {verb}" in own.text, f"the daemon's own {verb} of {resource}: {own.status} {own.text}"
        real = send("firstlook-preview", method, path, body)
        assert real.status == 403 and "may only rehearse" in real.text, f"preview, {verb} of {resource}: {real.status} {real.text}"
        assert send("firstlook-preview", method, path, body, dry_run=True).status in (200, 201), f"a rehearsal of {verb} {resource}"
        destructive = resource == "pods/eviction"
        writer, other = ("firstlook-write-destructive", "firstlook-write") if destructive else ("firstlook-write", "firstlook-write-destructive")
        bare = send(writer, method, path, body)
        # A node keeps the mark of the story above: then the same words are another's approval, spent already.
        assert bare.status == 403 and ("without an approval" in bare.text or "spent by one change" in bare.text), f"{writer}, {verb} of {resource}: {bare.status} {bare.text}"
        none = send(other, method, path, body)
        assert none.status == 403 and (f"cannot {verb}" in none.text or resource == "nodes"), f"{other}, {verb} of {resource}: {none.status} {none.text}"
        signed = {**body, "metadata": {**body["metadata"], "annotations": {"firstlook.dev/approval": f"ap-{resource}"}}}
        assert send(writer, method, path, signed).status in (200, 201), f"a signed {verb} of {resource}"
    for account in SECRET_FREE:
        for path in ("/api/v1/secrets", "/api/v1/namespaces/guards/secrets/x"):
            answer = send(account, "GET", path, None)
            assert answer.status == 403, f"{account}: {answer.status} {answer.text}"


def every_verb_that_is_granted_for_writing_is_one_that_the_story_above_used(run):
    """Read from the manifests themselves: no more and no less."""
    used = {(verb, resource) for verb, resource, *_ in writes()}
    granted = {}
    for role in (o for o in rendered() if o["kind"] in ("ClusterRole", "Role")):
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    assert "*" not in (group, resource) and resource != "secrets", rule
                    for verb in rule["verbs"]:
                        granted.setdefault(role["metadata"]["name"], set()).add((verb, resource + (f".{group}" if group else "")))
    assert granted["firstlook-preview"] == used, granted["firstlook-preview"] ^ used
    assert granted["firstlook-write"] | granted["firstlook-write-destructive"] == used
    # A drain cordons with its own account.
    assert granted["firstlook-write"] & granted["firstlook-write-destructive"] == {("patch", "nodes")}
    assert granted["firstlook-tokens"] == {("create", "serviceaccounts/token")}
    assert {verb for verb, _ in granted["firstlook"]} == {"get", "list", "watch"}
    every_read_that_is_granted_is_answered(run, granted["firstlook"])


# What lives in no namespace.
CLUSTER_WIDE = {"nodes", "namespaces", "persistentvolumes", "storageclasses", "ingressclasses", "validatingadmissionpolicies", "validatingadmissionpolicybindings"}


def every_read_that_is_granted_is_answered(run, granted):
    """With the daemon's own token: each verb on each resource, as its watches, lists and tools send them."""
    cluster = run.cluster()
    install(cluster)
    token = cluster.token_of(NAMESPACE, "firstlook")
    for verb, named in sorted(granted):
        resource, _, group = named.partition(".")
        root = f"/apis/{group}/{'v2' if group == 'autoscaling' else 'v1'}" if group else "/api/v1"
        plural, _, part = resource.partition("/")
        name = "firstlook-preview" if group == "admissionregistration.k8s.io" else "none"
        inside = root if plural in CLUSTER_WIDE else f"{root}/namespaces/kube-node-lease"
        path = {"list": f"{root}/{plural}?limit=1", "watch": f"{root}/{plural}?watch=1&timeoutSeconds=1",
                "get": f"{inside}/{plural}/{name}" + (f"/{part}" if part else "")}[verb]
        answer = cluster.request("GET", path, token)
        assert answer.status in (200, 404), f"{verb} {named}: {answer.status} {answer.text}"
