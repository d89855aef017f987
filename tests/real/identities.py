"""firstlook's three accounts on a test cluster: the RBAC and admission policies of deploy/, and proof that they are in force."""

from parts import KUBECTL, ROOT, run_tool, wait_until

NAMESPACE = "firstlook"
DAEMON, PREVIEW, WRITE = (f"system:serviceaccount:{NAMESPACE}:{n}" for n in ("firstlook", "firstlook-preview", "firstlook-write"))
# Not the daemon itself: here it runs outside, and its unscheduled pod would be an incident of its own.
KINDS = {"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
_installed = set()


def rendered():
    """Every object of `kubectl kustomize deploy`."""
    import yaml
    return [o for o in yaml.safe_load_all(run_tool([KUBECTL, "kustomize", ROOT / "deploy"]).stdout) if o]


def install(cluster):
    """Applies the accounts once per cluster and waits until both policies refuse what they must."""
    if cluster.api in _installed:
        return
    cluster.apply(*(o for o in rendered() if o["kind"] in KINDS))
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "policy-probe"}},
                  {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "policy-probe", "name": "probe"},
                   "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "probe"}},
                            "template": {"metadata": {"labels": {"app": "probe"}}, "spec": {"containers": [{"name": "c", "image": "probe:1"}]}}}})

    def refused(token, words):
        answer = cluster.request("PATCH", "/apis/apps/v1/namespaces/policy-probe/deployments/probe", token,
                                 {"metadata": {"labels": {"probe": "x"}}}, "application/strategic-merge-patch+json")
        return answer.status == 403 and words in answer.text
    for account, words in (("firstlook-preview", "rehearse"), ("firstlook-write", "without an approval")):
        token = cluster.token_of(NAMESPACE, account)
        wait_until(lambda: refused(token, words), f"the admission policy of {account} to be in force")
    _installed.add(cluster.api)
