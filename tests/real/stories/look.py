"""`firstlook look` with a person's kubeconfig on the real control plane: what is in trouble, what is well, and as data."""
import json
import os

import plot
from parts import PATIENCE_S, run_tool

ILL, WELL = "look-ill", "look-well"


def look(run, cluster, *arguments):
    """A look with the administrator's kubeconfig: (exit code, what it printed)."""
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "NO_COLOR": "1"}
    done = run_tool([run.binary, "look", *arguments], check=False, env=env)
    assert done.returncode in (0, 3), f"exit {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.returncode, done.stdout


def uids(cluster, namespace):
    """Every object that a look could have touched, with its version."""
    found = cluster.get("deployments,replicasets,pods,configmaps", "-n", namespace)["items"]
    return {o["metadata"]["uid"]: o["metadata"].get("generation") for o in found}


def a_look_tells_a_broken_namespace_from_a_healthy_one_and_changes_neither(run):
    cluster = run.cluster()
    for namespace in (ILL, WELL):
        plot.set_up(run, cluster, namespace)
    plot.break_it(cluster, ILL)
    cluster.kubectl("-n", ILL, "wait", "deployment/checkout", "--for=jsonpath={.status.unavailableReplicas}", f"--timeout={PATIENCE_S}s")
    cluster.kubectl("-n", ILL, "wait", "pod", "-l", "app=checkout", "--for=jsonpath={.status.containerStatuses[0].restartCount}", f"--timeout={PATIENCE_S}s")
    before = uids(cluster, WELL)

    code, told = look(run, cluster, "-n", ILL)
    assert code == 3 and "checkout" in told and plot.BAD.rsplit(":", 1)[1] in told and "What changed" in told, told
    code, told = look(run, cluster, "deploy/checkout", "-n", ILL, "--json")
    (one,) = json.loads(told)["objects"]
    assert code == 3 and one["in_trouble"] and one["object"]["name"] == "checkout" and one["report"]["headline"], told

    code, told = look(run, cluster, "-n", WELL)
    assert code == 0 and "is healthy" in told, told
    code, told = look(run, cluster, "-n", WELL, "--json")
    data = json.loads(told)
    assert code == 0 and not data["objects"] and [o["name"] for o in data["healthy"]] == ["checkout"], told
    assert uids(cluster, WELL) == before and plot.image(cluster, ILL) == plot.BAD, "a look only reads"
