"""Edits, on the real API server: what somebody changed on what a workload reads is on its card, word for word, and nothing else is."""
import json

import plot
from daemon import firstlook
from identities import NAMESPACE, install
from parts import deployment, namespace_object, wait_until

SHOP = "edits"
# Secret-looking: told apart, never shown.
KEYS = ("first-key-of-a-story", "second-key-of-a-story")


def config_map(name, pool, key):
    settings = f"server:\n  port: 8080\ndb:\n  pool: {pool}\n"
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": SHOP, "name": name}, "data": {"application.yaml": settings, "API_KEY": key}}


def an_edited_config_map_and_service_are_on_the_card_with_their_difference(run):
    cluster = run.cluster()
    install(cluster)
    workload = deployment(SHOP, "checkout", plot.GOOD, replicas=2)
    workload["spec"]["template"]["spec"]["volumes"] = [{"name": "settings", "configMap": {"name": "settings"}}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": SHOP, "name": "checkout"},
               "spec": {"selector": {"app": "checkout"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}
    cluster.apply(namespace_object(SHOP), config_map("settings", 20, KEYS[0]), config_map("elsewhere", 20, KEYS[0]), service, workload)
    run.story.callback(lambda: cluster.kubectl("delete", "namespace", SHOP, "--wait=false", check=False))
    cluster.rolled_out(SHOP, "checkout")
    daemon = run.start(firstlook(run, cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")))
    daemon.wait_synced()

    cluster.apply(config_map("settings", 200, KEYS[1]), config_map("elsewhere", 200, KEYS[1]))
    port = [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 9090}]
    cluster.kubectl("-n", SHOP, "patch", "service", "checkout", "--type=json", "-p", json.dumps(port))
    wait_until(lambda: daemon.metrics().get('firstlook_signals_total{kind="rollout"}', 0) >= 2, "both edits to be heard")
    daemon.wait_idle()
    assert "edits" not in daemon.log.read_text(), "an edit alone is no trouble, so there is no card"

    assert daemon.alert(plot.alert(SHOP)).status == 200
    said = ("ConfigMap", "settings", "pool: 20", "pool: 200", "targetPort", "8080", "9090", "kubectl")
    wait_until(lambda: all(words in daemon.log.read_text() for words in said), f"a card with {said}")
    card = daemon.log.read_text()
    assert "elsewhere" not in card, f"nothing reads it:\n{card}"
    assert not any(key in card for key in KEYS), f"a key is on the card:\n{card}"
