"""PromQL through the gate, on a real Prometheus: its own parser judges what was held to a namespace, and answers come in a few numbers."""
import plot
from caller import Caller
from daemon import firstlook
from identities import NAMESPACE, install
from parts import free_port, prometheus, wait_until

SHOP = "measured"
SPEC, GONE = "kube_deployment_spec_replicas", "kube_deployment_status_replicas_unavailable"
# Each shape that a selector can stand in; the matcher that holds it to the namespace must leave a query of the same meaning.
SHAPES = (
    (SPEC, "=> 2"),
    (f"sum by (deployment) ({SPEC}) - on (deployment) group_left () sum by (deployment) ({GONE})", "=> 1"),
    (f"max_over_time({GONE}[1m:1s])", "=> 1"),
    (f"max_over_time({GONE}{{deployment=\"checkout\"}}[30s])", "=> 1"),
    (f"{SPEC} @ end() offset 1s", "=> 2"),
    ("topk(1, {__name__=~\"kube_deployment_spec_.*\"})", "=> 2"),
    (f"count by (namespace, deployment) ({SPEC} unless on (deployment) ({GONE} > 5))", "=> 1"),
    (f"label_replace({SPEC}, \"app\", \"$1\", \"deployment\", \"(.*)\") > bool 1", "=> 1"),
    ("absent(kube_nothing_of_the_kind)", "=> 1"),
    ("up", "=> 1"),
    ("scalar(vector(41)) + 1", "42"),
)


def a_real_prometheus_answers_what_is_asked_of_it_through_the_gate(run):
    cluster = run.cluster()
    install(cluster)
    plot.set_up(run, cluster, SHOP, replicas=2)
    exporter = run.start(plot.Exporter(cluster, SHOP))
    server = run.start(prometheus(run.work, exporter.target, plot.RULES, f"http://127.0.0.1:{free_port()}"))
    address = f"127.0.0.1:{free_port()}"
    extra = {"prometheus": {"url": server.url}, "listeners": {"mcp": {"address": address, "without_token": True}}}
    run.start(firstlook(run, cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook"), extra=extra))
    caller = Caller(f"http://{address}/mcp")

    wait_until(lambda: server.query(f"{GONE} == 0"), "the first scrape")
    plot.break_it(cluster, SHOP)
    alerts = wait_until(lambda: (said := caller.call("list_alerts", namespace=SHOP)) and "1 firing" in said and said, "the rule to fire")
    for words in ("firing KubeDeploymentReplicasMismatch", "deployment=checkout", f"rule: {GONE} > 0", "has not matched the expected number"):
        assert words in alerts, alerts
    assert "none fires" in caller.call("list_alerts", namespace="elsewhere"), "alerts of another namespace are not its to read"

    for query, said in SHAPES:
        told = caller.call("query_metrics", query=query, namespace=SHOP)
        assert said in told, f"{query}:\n{told}"
    assert "no series" in caller.call("query_metrics", query=SPEC, namespace="elsewhere"), "held to the namespace that was given"
    assert "no series" in caller.call("query_metrics", query=f"{SPEC}{{namespace=\"{SHOP}\"}}", namespace="elsewhere"), "whatever the query says"

    course = caller.call("query_metrics_range", query=GONE, namespace=SHOP, minutes=5)
    assert "1 series" in course and "begins at" in course and "deployment=\"checkout\"" in course, course
    month = caller.call("query_metrics_range", fails=True, query=GONE, namespace=SHOP, minutes=30 * 24 * 60)
    assert "minutes: a whole number from 1 to 10080" in month, month
    found = caller.call("find_metrics", text="replicas", namespace=SHOP)
    assert f"{SPEC} (gauge)" in found and GONE in found, found

    for query, why in ((f"sum({SPEC}", "unclosed left parenthesis"), (f"rate({SPEC})", "expected type range vector"), ("nonsense of a model", "unexpected identifier")):
        told = caller.result({"method": "tools/call", "params": {"name": "query_metrics", "arguments": {"query": query, "namespace": SHOP}}})
        assert told["isError"] and told["structuredContent"]["error"] == "refused", told
        assert why in told["content"][0]["text"], told
