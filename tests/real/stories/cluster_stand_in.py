"""The simulated API server, judged by kubectl and by the real one: what they take for Kubernetes, the demo may show."""
import json

from parts import KUBECTL, ROOT, request, run_tool, stand_in

SCENARIO = ROOT / "fixtures" / "scenarios" / "d12-bad-image-rollout"
NAMESPACE, DEPLOYMENT, FIRST_POD = "fleet-ops", "deployment/dispatch-api", "dispatch-api-x7ft9mqdn-f7cp9"


def kubectl_drives_the_stand_in(run):
    said = run.start(stand_in(run, "cluster_stand_in", SCENARIO, "127.0.0.1:0"))

    def kubectl(*arguments, check=True, token=None):
        argv = [KUBECTL, "--server", said["api"], "--cache-dir", run.work / "cache", *(("--token", token) if token else ()), *arguments]
        return run_tool(argv, check=check, env={"HOME": str(run.work), "PATH": "/usr/bin:/bin"})

    assert len(kubectl("get", "nodes", "-o", "name").stdout.splitlines()) >= 2
    # Without the server-side tables kubectl prints names and ages: enough to see that it reads the lists.
    pods = kubectl("-n", NAMESPACE, "get", "pods").stdout
    assert FIRST_POD in pods and len(pods.splitlines()) == 7, pods
    assert len(kubectl("-n", NAMESPACE, "get", "pods", "-l", "app=nothing", "-o", "name", check=False).stdout.splitlines()) == 0
    assert "Events" in kubectl("-n", NAMESPACE, "describe", DEPLOYMENT).stdout
    assert kubectl("-n", NAMESPACE, "describe", "pod", FIRST_POD).stdout.startswith("Name:")
    assert kubectl("-n", NAMESPACE, "logs", FIRST_POD, "--tail=1").stdout.count("\n") == 1
    assert kubectl("-n", NAMESPACE, "get", "events").stdout.count("\n") > 1
    history = kubectl("-n", NAMESPACE, "rollout", "history", DEPLOYMENT).stdout
    assert "9" in history and "10" in history, history
    missing = kubectl("-n", NAMESPACE, "get", "pod", "nobody", check=False)
    assert missing.returncode == 1 and 'pods "nobody" not found' in missing.stderr, missing.stderr
    secrets = kubectl("-n", NAMESPACE, "get", "secrets", check=False, token=said["token"])
    assert secrets.returncode == 1 and "forbidden" in secrets.stderr.lower(), secrets.stderr

    before = json.loads(kubectl("-n", NAMESPACE, "get", DEPLOYMENT, "-o", "json").stdout)
    kubectl("-n", NAMESPACE, "rollout", "undo", DEPLOYMENT, "--dry-run=server")
    assert json.loads(kubectl("-n", NAMESPACE, "get", DEPLOYMENT, "-o", "json").stdout)["spec"] == before["spec"], "a dry run changed the Deployment"
    kubectl("-n", NAMESPACE, "rollout", "undo", DEPLOYMENT)
    kubectl("-n", NAMESPACE, "rollout", "status", DEPLOYMENT, "--timeout=30s")
    after = json.loads(kubectl("-n", NAMESPACE, "get", DEPLOYMENT, "-o", "json").stdout)
    assert after["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "11", after["metadata"]["annotations"]
    assert after["status"]["readyReplicas"] == after["spec"]["replicas"]


def the_same_requests_get_the_same_refusals_from_both(run):
    """Status code, reason and message of what goes wrong, compared word for word with the real API server's."""
    said = run.start(stand_in(run, "cluster_stand_in", SCENARIO, "127.0.0.1:0"))
    cluster = run.cluster()
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
    run.story.callback(lambda: cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false", check=False))
    admin = cluster.admin_token()
    patch = "application/merge-patch+json"
    cases = [
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/nobody", None, None),
        ("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/nobody", None, None),
        ("GET", "/api/v1/nodes/nobody", None, None),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/nobody/log", None, None),
        ("PATCH", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/nobody", {}, patch),
        ("PATCH", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/nobody", {}, "application/json"),
    ]
    different = []
    for method, path, body, kind in cases:
        answers = []
        for api, headers in ((said["api"], {}), (cluster.api, {"Authorization": f"Bearer {admin}"})):
            data = None if body is None else json.dumps(body).encode()
            answer = request(method, api + path, data, {**headers, "Accept": "application/json", **({"Content-Type": kind} if kind else {})})
            status = answer.json() if answer.body.startswith(b"{") else {}
            answers.append((answer.status, status.get("reason"), status.get("message")))
        if answers[0] != answers[1]:
            different.append(f"{method} {path}: simulated {answers[0]}, real {answers[1]}")
    assert not different, "\n".join(different)
