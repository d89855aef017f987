"""The simulated API server, judged by kubectl and by the real one: what they take for Kubernetes, the demo may show."""
import json

from identities import NAMESPACE as HOME, install
from parts import KUBECTL, PATIENCE_S, ROOT, deployment, namespace_object, request, run_tool, stand_in

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
    kubectl("-n", NAMESPACE, "rollout", "status", DEPLOYMENT, f"--timeout={PATIENCE_S}s")
    after = json.loads(kubectl("-n", NAMESPACE, "get", DEPLOYMENT, "-o", "json").stdout)
    assert after["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "11", after["metadata"]["annotations"]
    assert after["status"]["readyReplicas"] == after["spec"]["replicas"]


def the_same_requests_get_the_same_refusals_from_both(run):
    """Status code, reason and message of what goes wrong, compared word for word with the real API server's."""
    said = run.start(stand_in(run, "cluster_stand_in", SCENARIO, "127.0.0.1:0"))
    cluster = run.cluster()
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
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
            answer = request(method, api + path, data, {**headers, "Accept": "application/json", "User-Agent": "story", **({"Content-Type": kind} if kind else {})})
            status = answer.json() if answer.body.startswith(b"{") else {}
            answers.append((answer.status, status.get("reason"), status.get("message")))
        if answers[0] != answers[1]:
            different.append(f"{method} {path}: simulated {answers[0]}, real {answers[1]}")
    assert not different, "\n".join(different)


def each_account_is_refused_in_the_same_words_by_both(run):
    """RBAC and the admission policies of deploy/, as the real API server applies them, against the simulated one's rules."""
    said = run.start(stand_in(run, "cluster_stand_in", SCENARIO, "127.0.0.1:0"))
    cluster = run.cluster()
    install(cluster)
    cluster.apply(namespace_object(NAMESPACE), deployment(NAMESPACE, "dispatch-api", "dispatch:1", replicas=1))
    servers = {said["api"]: {"firstlook": said["token"]}, cluster.api: {"firstlook": cluster.token_of(HOME, "firstlook")}}
    target = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/dispatch-api"
    merge = "application/merge-patch+json"

    def touch(approval=None):
        return {"metadata": {"annotations": {"firstlook.dev/approval": approval} if approval else {"x": "y"}}}
    token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    cases = [
        ("firstlook", "GET", f"/api/v1/namespaces/{NAMESPACE}/secrets", None, None),
        ("firstlook", "GET", "/api/v1/secrets?limit=1", None, None),
        ("firstlook", "GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/x", None, None),
        ("firstlook", "PATCH", target, touch(), merge),
        ("firstlook", "DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/x", None, None),
        ("firstlook", "POST", f"/api/v1/namespaces/{HOME}/serviceaccounts/default/token", token, "application/json"),
        ("firstlook-preview", "GET", f"/api/v1/namespaces/{NAMESPACE}/pods", None, None),
        ("firstlook-preview", "PATCH", target, touch(), merge),
        ("firstlook-preview", "PATCH", target + "?dryRun=All", touch(), merge),
        ("firstlook-preview", "DELETE", target, None, None),
        ("firstlook-write", "PATCH", target, touch(), merge),
        ("firstlook-write", "PATCH", target, touch("ap-1"), merge),
        ("firstlook-write", "PATCH", target, touch("ap-1"), merge),
        ("firstlook-write", "PATCH", target, touch("ap-2"), merge),
    ]

    def ask(api, account, method, path, body, kind):
        headers = {"Authorization": f"Bearer {servers[api][account]}", "Accept": "application/json", "User-Agent": "story", **({"Content-Type": kind} if kind else {})}
        return request(method, api + path, None if body is None else json.dumps(body).encode(), headers)
    for api, tokens in servers.items():
        for account in ("firstlook-preview", "firstlook-write"):
            answer = ask(api, "firstlook", "POST", f"/api/v1/namespaces/{HOME}/serviceaccounts/{account}/token", token, "application/json")
            assert answer.status == 201, f"{api} {account}: {answer.text}"
            tokens[account] = answer.json()["status"]["token"]
    different = []
    for case in cases:
        simulated, real = (ask(api, *case) for api in servers)
        said_by = [(a.status, (s := a.json()).get("reason"), s.get("message")) for a in (simulated, real)]
        if said_by[0] != said_by[1]:
            different.append(f"{' '.join(case[:3])}:\n  simulated {said_by[0]}\n  real      {said_by[1]}")
    assert not different, "\n".join(different)
