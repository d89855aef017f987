"""Every right that is granted is used and none beside it is tried: by the API server's audit log of all stories until here."""
import json

import plot
from identities import NAMESPACE
from parts import run_tool
from world import World

SHOP = "verbs"
ACCOUNTS = ("firstlook", "firstlook-preview", "firstlook-write", "firstlook-write-destructive")
# What lives in no namespace, and what is read in one of its own.
CLUSTER_WIDE = {"nodes", "namespaces", "persistentvolumes", "storageclasses", "ingressclasses"}
ELSEWHERE = {"leases": "kube-node-lease"}


def granted(binary):
    """{account: {(verb, resource)}}, as `firstlook rbac` prints it."""
    import yaml
    printed = [o for o in yaml.safe_load_all(run_tool([binary, "rbac"]).stdout) if o]
    rules = {(o["kind"], o["metadata"]["name"]): o["rules"] for o in printed if o["kind"] in ("ClusterRole", "Role")}
    rights = {account: set() for account in ACCOUNTS}
    for binding in (o for o in printed if o["kind"] in ("ClusterRoleBinding", "RoleBinding")):
        for rule in rules[binding["roleRef"]["kind"], binding["roleRef"]["name"]]:
            named = [r + (f".{g}" if g else "") for g in rule["apiGroups"] for r in rule["resources"]]
            assert "*" not in "".join((*named, *rule["verbs"])) and "secrets" not in rule["resources"], rule
            for subject in binding["subjects"]:
                rights[subject["name"]] |= {(verb, what) for verb in rule["verbs"] for what in named}
    return rights


def told(cluster):
    """What firstlook's accounts asked for: {account: {(verb, resource)}} that one of its own bindings allowed, and what nothing allowed."""
    used, refused = {account: set() for account in ACCOUNTS}, set()
    for entry in cluster.audited():
        account, at = entry["user"]["username"].rsplit(":", 1)[1], entry.get("objectRef", {})
        if account not in used or not at.get("resource"):
            continue
        what = at["resource"] + (f"/{at['subresource']}" if "subresource" in at else "") + (f".{at['apiGroup']}" if "apiGroup" in at else "")
        notes = entry.get("annotations", {})
        if notes.get("authorization.k8s.io/decision") == "forbid":
            refused.add((account, entry["verb"], what))
        elif f'Binding "{NAMESPACE}' in notes.get("authorization.k8s.io/reason", ""):
            used[account].add((entry["verb"], what))
    return used, refused


def every_right_that_is_granted_is_used_and_none_beside_it_is_tried(run):
    """Run together with the stories of actions: those that write are theirs. Here a caller asks for one object of each kind, and for none."""
    rights = granted(run.binary)
    world = World(run, f"{SHOP},kube-node-lease")
    cluster = world.cluster
    plot.set_up(run, cluster, SHOP)
    for _, what in sorted(rights["firstlook"]):
        kind = what.partition(".")[0]
        if "/" in kind or what.endswith(".admissionregistration.k8s.io"):
            continue
        place = {} if kind in CLUSTER_WIDE else {"namespace": ELSEWHERE.get(kind, SHOP)}
        answer = world.caller.send("tools/call", {"name": "get_object", "arguments": {"kind": kind, "name": "none-such", **place}})
        assert answer["isError"] and "none-such" in json.dumps(answer), answer
    pod = cluster.get("-n", SHOP, "pods")["items"][0]["metadata"]["name"]
    answer = world.caller.send("tools/call", {"name": "pod_logs", "arguments": {"namespace": SHOP, "pod": pod}})
    assert "too many connections for role" in json.dumps(answer), answer
    # Of an alert that names no namespace that there is the near names are looked for.
    assert world.daemon.alert(plot.alert(f"{SHOP}s")).status == 200
    world.slack.wait_for_card("Which one?", f"there is no namespace `{SHOP}s`")

    used, refused = told(cluster)
    for account in ACCOUNTS:
        unused, beside = rights[account] - used[account], used[account] - rights[account]
        assert not unused, f"{account} is granted what nothing used: {sorted(unused)}"
        assert not beside, f"{account} used what `firstlook rbac` does not grant: {sorted(beside)}"
    assert not refused, f"tried and refused: {sorted(refused)}"
    print(f"        {sum(map(len, rights.values()))} rights of {len(ACCOUNTS)} accounts, each used")
