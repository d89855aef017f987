"""firstlook by Roles in listed namespaces alone, on the real control plane: it hears, rehearses and rolls back there, and reads nothing else."""
import json

import plot
from daemon import firstlook
from identities import NAMESPACE, install
from parts import run_tool, wait_until
from workspace import ONCALL, workspace

LISTED, OTHER = "listed", "unlisted"


def it_works_by_roles_in_listed_namespaces_alone(run):
    import yaml
    cluster = run.cluster()
    install(cluster)  # the namespace of the accounts
    for namespace in (LISTED, OTHER):
        plot.set_up(run, cluster, namespace)
    settings = {"namespaces": [LISTED], "account": "within"}
    (run.work / "rbac.yaml").write_text(json.dumps({"cluster": "real", "kubernetes": settings}))
    printed = [o for o in yaml.safe_load_all(run_tool([run.binary, "rbac", "--config", run.work / "rbac.yaml"]).stdout) if o]
    (of_cluster,) = [o for o in printed if o["kind"] == "ClusterRole"]
    assert {r for rule in of_cluster["rules"] for r in rule["resources"]} == {"validatingadmissionpolicies", "validatingadmissionpolicybindings"}, of_cluster
    cluster.apply(*printed)
    kubeconfig = cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "within")
    slack = run.start(workspace(run))
    daemon = run.start(firstlook(run, kubeconfig, slack=slack.api, extra={"kubernetes": settings}))
    daemon.wait_synced()

    for namespace in (OTHER, LISTED):
        plot.break_it(cluster, namespace)
    ts, approve = slack.wait_for_button("approve")
    card = slack.wait_for_card("checkout", LISTED)
    assert "dry run by the API server" in card["plain"], card["plain"]
    assert slack.press(daemon.interactivity_url, ts, approve, ONCALL).status == 200
    wait_until(lambda: plot.image(cluster, LISTED) == plot.GOOD, "the rollback")
    assert plot.image(cluster, OTHER) == plot.BAD
    assert all(OTHER not in json.dumps(card) for card in slack.cards()), "nothing was heard of the other namespace"
    assert "the chain holds" in daemon.audit_verifies()
