"""Each action on the real control plane, with the RBAC and admission policies of deploy/: done for real, taken back for real, and nothing beside it."""
import plot
from daemon import WEBHOOK_TOKEN
from identities import NAMESPACE, install
from parts import alertmanager, deployment, free_port, namespace_object, request, wait_until
from workspace import ONCALL
from world import World

SHOP = "acts"
# Of the story of a silence: the other namespace is still going away while it begins.
HEARD = "heard"
SECRET_FREE = ("firstlook", "firstlook-preview", "firstlook-write", "firstlook-write-destructive")


def limit(found):
    """The memory that the first container may use, if that is bounded."""
    return found["spec"]["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory")


def field(name):
    return lambda found: found["spec"].get(name, False)


def restarted(found):
    return "kubectl.kubernetes.io/restartedAt" in found["spec"]["template"]["metadata"].get("annotations", {})


def each(before):
    """Every change of a field: (tool, arguments, kind and name and namespace, what is read, what it is then, where Undo leads), and what kubectl
    does before it and after it, where it takes back what somebody else did."""
    web, nightly, node = ("deployment", "checkout", SHOP), ("cronjob", "nightly", SHOP), ("node", "node-a", None)
    named, job, bare = {"namespace": SHOP, "name": "checkout"}, {"namespace": SHOP, "name": "nightly"}, {"name": "node-a"}
    suspend = ("patch", "cronjob", "nightly", "-p")
    yield "scale", {**named, "kind": "Deployment", "replicas": before + 1}, web, field("replicas"), before + 1, f"back to {before}"
    yield "pause_rollout", named, web, field("paused"), True, "resume it"
    yield ("resume_rollout", named, web, field("paused"), False, "pause it again",
           ("rollout", "pause", "deployment/checkout"), ("rollout", "resume", "deployment/checkout"))
    yield "suspend_cronjob", job, nightly, field("suspend"), True, "resume it"
    yield ("resume_cronjob", job, nightly, field("suspend"), False, "suspend it again",
           (*suspend, '{"spec":{"suspend":true}}'), (*suspend, '{"spec":{"suspend":false}}'))
    yield "cordon", bare, node, field("unschedulable"), True, "uncordon it"
    yield "uncordon", bare, node, field("unschedulable"), False, "cordon it again", ("cordon", "node-a"), ("uncordon", "node-a")


def rolled():
    """The same of what gives pods another template: the resources change and come back, which leaves a revision to go back to."""
    for kind, name in (("Deployment", "checkout"), ("StatefulSet", "statefulset"), ("DaemonSet", "daemonset")):
        what, asked = (kind.lower(), name, SHOP), {"namespace": SHOP, "kind": kind, "name": name}
        resources = {"container": "api", "memory_limit": "256Mi", "cpu_request": "50m"}
        yield "set_resources", {**asked, **resources}, what, limit, "256Mi", "back to the resources before"
        yield "rollout_undo", asked, what, limit, "256Mi", "back to revision"
        yield "rollout_restart", asked, what, restarted, True, None


def each_action_is_done_and_taken_back_for_real(run):
    world = World(run, SHOP)
    cluster = world.cluster
    plot.set_up(run, cluster, SHOP)
    pods = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "api", "image": "registry.test/x:1"}]}}
    job = {"template": {"metadata": {"labels": {"app": "report"}}, "spec": {**pods["spec"], "restartPolicy": "Never"}}}
    cluster.apply(
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"namespace": SHOP, "name": "nightly"}, "spec": {"schedule": "0 3 1 1 *", "jobTemplate": {"spec": job}}},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": SHOP, "name": "report"}, "spec": job},
        *({"apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": SHOP, "name": kind.lower()},
           "spec": {"selector": {"matchLabels": {"app": kind.lower()}}, **({"serviceName": "x"} if kind == "StatefulSet" else {}),
                    "template": {**pods, "metadata": {"labels": {"app": kind.lower()}}}}} for kind in ("StatefulSet", "DaemonSet")))

    before = world.get("deployment", "checkout")["spec"]["replicas"]
    for tool, asked, what, read, then, leads, *by_hand in (*each(before), *rolled()):
        if by_hand:
            cluster.kubectl("-n", SHOP, *by_hand[0])
        stood = read(world.get(*what))
        assert stood != then, f"{tool} would change nothing of {what}"
        ts = world.carry_out(tool, **asked)
        assert read(world.get(*what)) == then, f"{tool} of {what}: {read(world.get(*what))}"
        if leads:
            world.take_back(ts, leads)
            wait_until(lambda: read(world.get(*what)) == stood, f"{tool} of {what} to be taken back")
        if by_hand:
            cluster.kubectl("-n", SHOP, *by_hand[1])
        if read in (limit, restarted):
            cluster.kubectl("-n", SHOP, "rollout", "status", f"{what[0]}/{what[1]}", "--timeout=60s")

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
    world = World(run, HEARD, {"alertmanager": {"url": f"http://127.0.0.1:{port}"}})
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
