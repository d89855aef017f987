"""What deploy/ says, checked by the real API server: it renders, validates, and grants exactly what it claims."""

import parts
from parts import ROOT, deployment, namespace_object, run_tool, wait_until
from identities import DAEMON, NAMESPACE, PREVIEW, WRITE, install

# What the daemon reads for a scene, and must therefore be able to.
READS = [("list", r) for r in (
    "pods", "deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps", "controllerrevisions.apps", "jobs.batch", "cronjobs.batch",
    "events", "nodes", "namespaces", "configmaps", "persistentvolumeclaims", "services", "endpointslices.discovery.k8s.io",
    "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io", "resourcequotas", "horizontalpodautoscalers.autoscaling", "poddisruptionbudgets.policy",
)] + [("get", "pods/log")] + [("watch", r) for r in (
    "pods", "events", "replicasets.apps", "deployments.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch", "cronjobs.batch", "nodes",
    "persistentvolumeclaims", "horizontalpodautoscalers.autoscaling", "leases.coordination.k8s.io", "endpointslices.discovery.k8s.io",
    "configmaps", "services", "ingresses.networking.k8s.io", "networkpolicies.networking.k8s.io", "resourcequotas", "limitranges",
)]
# What it must never be able to, by its own account.
NEVER = [("get", "secrets"), ("list", "secrets"), ("watch", "secrets"), ("patch", "deployments.apps"), ("update", "deployments.apps"), ("create", "pods"),
         ("delete", "pods"), ("create", "pods/exec"), ("create", "pods/eviction"), ("patch", "nodes"), ("update", "deployments.apps/scale"),
         ("create", "clusterrolebindings.rbac.authorization.k8s.io"), ("impersonate", "users"), ("create", "serviceaccounts/token")]


def the_manifests_render_and_fit_the_schema(run):
    rendered = run_tool([parts.KUBECTL, "kustomize", ROOT / "deploy"]).stdout
    (run.work / "rendered.yaml").write_text(rendered)
    validate(run.work / "rendered.yaml")
    # The validator itself is awake: a misspelt field fails.
    broken = run.work / "broken.yaml"
    broken.write_text(rendered.replace("automountServiceAccountToken", "automountServiceAccountTokn", 1))
    assert validate(broken, check=False).returncode != 0, "kubernetes-validate accepted a field that does not exist"


def validate(path, check=True):
    return run_tool([parts.PYTHON_PART / "bin" / "kubernetes-validate", "--strict", "-k", "1.36", path], check=check, env=parts.python_environment())


def a_real_api_server_takes_everything_that_deploy_makes(run):
    cluster = run.cluster()
    install(cluster)  # the namespace, without which nothing in it is rehearsed
    rendered = run.work / "all.yaml"
    rendered.write_text(run_tool([parts.KUBECTL, "kustomize", ROOT / "deploy"]).stdout)
    told = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", rendered).stdout
    for made in ("deployment.apps/firstlook", "service/firstlook", "persistentvolumeclaim/", "configmap/firstlook-config-"):
        assert made in told, f"{made} is not among {told}"
    rendered.write_text(rendered.read_text().replace("containerPort: 8080", "containerPort: 808080", 1))
    refused = cluster.kubectl("apply", "--dry-run=server", "-f", rendered, check=False)
    assert refused.returncode != 0 and "containerPort" in refused.stderr, f"a port that is none was taken: {refused.stdout}"


def each_account_may_do_what_it_is_for_and_nothing_else(run):
    cluster = run.cluster()
    install(cluster)

    def may(account, verb, resource, *more):
        answer = cluster.kubectl("auth", "can-i", verb, resource, "-n", "shop", f"--as={account}", *more, check=False)
        return answer.stdout.strip() == "yes"

    lacking = [f"{v} {r}" for v, r in READS if not may(DAEMON, v, r)]
    assert not lacking, f"the daemon may not {', '.join(lacking)}"
    too_much = [f"{v} {r}" for v, r in NEVER if may(DAEMON, v, r)]
    assert not too_much, f"the daemon may {', '.join(too_much)}"
    for name, allowed in (("firstlook-preview", True), ("firstlook-write", True), ("firstlook-write-destructive", True), ("firstlook", False), ("default", False)):
        got = token_request(cluster, name)
        assert got == allowed, f"a token of {name}: {'given' if got else 'refused'}"
    for account in (PREVIEW, WRITE):
        assert may(account, "patch", "deployments.apps"), f"{account} may not patch Deployments"
        for verb, resource in (("get", "secrets"), ("delete", "deployments.apps"), ("create", "deployments.apps"), ("delete", "pods"), ("create", "pods/exec")):
            assert not may(account, verb, resource), f"{account} may {verb} {resource}"


def token_request(cluster, name):
    """Whether the daemon's own token gets a token of the account `name`."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    answer = cluster.request("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{name}/token", cluster.token_of(NAMESPACE, "firstlook"), body)
    assert answer.status in (201, 403), answer.text
    return answer.status == 201


def a_rehearsal_changes_nothing_and_a_change_names_its_approval(run):
    cluster = run.cluster()
    install(cluster)
    cluster.apply(namespace_object("guarded"), deployment("guarded", "web", "web:1", replicas=1))
    path = "/apis/apps/v1/namespaces/guarded/deployments/web"

    def patch(account, dry_run=False, **annotations):
        body = {"spec": {"template": {"metadata": {"annotations": {"touched": account}}}}}
        if annotations:
            body["metadata"] = {"annotations": {"firstlook.dev/approval": annotations["approval"]}}
        token = cluster.token_of(NAMESPACE, account)
        return cluster.request("PATCH", path + ("?dryRun=All" if dry_run else ""), token, body, "application/strategic-merge-patch+json")

    def generation():
        return cluster.get("-n", "guarded", "deployment", "web")["metadata"]["generation"]

    before = generation()
    own = patch("firstlook")
    assert own.status == 403 and "cannot patch" in own.text, f"the daemon's own patch: {own.status} {own.text}"
    # A policy is in force a moment after it was made.
    refused = wait_until(lambda: (a := patch("firstlook-preview")).status == 403 and a, "the preview policy to be in force")
    assert "may only rehearse" in refused.text, refused.text
    assert patch("firstlook-preview", dry_run=True).status == 200
    bare = patch("firstlook-write")
    assert bare.status == 403 and "without an approval" in bare.text, f"{bare.status} {bare.text}"
    assert generation() == before, "a refused or rehearsed patch changed the Deployment"
    assert patch("firstlook-write", approval="ap-1").status == 200
    again = patch("firstlook-write", approval="ap-1")
    assert again.status == 403 and "spent" in again.text, f"{again.status} {again.text}"
    assert patch("firstlook-write", approval="ap-2").status == 200
    evict = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "x", "namespace": "guarded"}}
    answer = cluster.request("POST", "/api/v1/namespaces/guarded/pods/x/eviction", cluster.token_of(NAMESPACE, "firstlook-write"), evict)
    assert answer.status == 403, f"an eviction: {answer.status} {answer.text}"


def the_example_receiver_is_valid_for_debians_alertmanager(run):
    """amtool reads the receiver of deploy/ as it stands, but for the token file, which it wants to find."""
    text = (ROOT / "deploy" / "alertmanager-receiver.yaml").read_text()
    token = run.work / "token"
    token.write_text("x")
    config = run.work / "am.yml"
    config.write_text(text.replace("/etc/alertmanager/secrets/firstlook-webhook/token", str(token)))
    done = run_tool(["amtool", "check-config", config])
    assert "SUCCESS" in done.stdout, done.stdout


def the_slack_manifest_asks_for_what_the_code_uses_and_nothing_more(run):
    import yaml
    manifest = yaml.safe_load((ROOT / "deploy" / "slack-app-manifest.yaml").read_text())
    scopes = set(manifest["oauth_config"]["scopes"]["bot"])
    assert {"chat:write"} <= scopes, scopes
    too_wide = {s for s in scopes if s.startswith(("admin", "files:", "im:", "mpim:")) or s in ("chat:write.public", "channels:manage")}
    assert not too_wide, f"scopes that nothing needs: {too_wide}"
