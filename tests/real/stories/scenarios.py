"""The objects of fixtures/scenarios are such as a real API server would hold: each is created there, as a rehearsal."""

import json

from parts import ROOT, namespace_object, wait_until

# What the server itself sets, and refuses to be given or overwrites.
OF_THE_SERVER = ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds")


def every_object_of_the_scenarios_passes_a_real_api_server(run):
    cluster = run.cluster()
    refused, objects = {}, 0
    for folder in sorted((ROOT / "fixtures" / "scenarios").iterdir()):
        items = json.loads((folder / "cluster.json").read_text())["items"]
        for item in items:
            as_if_new(item)
        objects += len(items)
        places = {item["metadata"]["namespace"] for item in items if "namespace" in item["metadata"]}
        places |= {item["metadata"]["name"] for item in items if item["kind"] == "Namespace"}
        # What another story used may still be going away.
        wait_until(lambda: not places & ending(cluster), f"the namespaces of {folder.name} to be gone")
        cluster.apply(*(namespace_object(place) for place in sorted(places)), *accounts(items))
        said = rehearse(cluster, [item for item in items if item["kind"] != "Namespace"])
        if said:
            refused[folder.name] = said
    told = "\n".join(f"{name}: {line}" for name, lines in refused.items() for line in lines)
    assert not refused, f"refused of {objects} objects:\n{told}"
    assert objects > 1000, f"only {objects} objects were looked at"
    # The server is awake: a field that does not exist is refused.
    broken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "default"}, "spec": {"prts": []}}
    assert rehearse(cluster, [broken]), "a field that does not exist was taken"


def ending(cluster):
    """The namespaces that are being deleted."""
    return {item["metadata"]["name"] for item in cluster.get("namespaces")["items"] if item["status"]["phase"] == "Terminating"}


def as_if_new(item):
    """Takes out what the server gives, so that it can give it again."""
    for field in OF_THE_SERVER:
        item["metadata"].pop(field, None)
    if item["kind"] == "Service" and item["spec"].get("clusterIP") != "None":
        # An address is of a cluster's own range.
        item["spec"].pop("clusterIP", None)
        item["spec"].pop("clusterIPs", None)
    if item["kind"] == "Job":
        # Selector and labels hold the Job's uid, which a new one would get anew.
        item["spec"]["manualSelector"] = True


def accounts(items):
    """The ServiceAccounts that pods run as: admission looks them up, and in some scenarios they have since been deleted."""
    pods = [item for item in items if item["kind"] == "Pod" and item["spec"].get("serviceAccountName", "default") != "default"]
    names = {(pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]) for pod in pods}
    return [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": place, "name": name}} for place, name in sorted(names)]


def rehearse(cluster, items):
    """What the server says against creating these objects."""
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    answer = cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-", stdin=body, check=False)
    lines = [line for line in answer.stderr.splitlines() if line and not line.startswith("Warning:")]
    # What is there already, of the cluster or of another story, is found after it was validated and admitted.
    return [line for line in lines if "(AlreadyExists)" not in line]
