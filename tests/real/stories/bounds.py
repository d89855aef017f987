"""Bounds, on the process itself: whatever the cluster holds, an answer stays small, keeps what matters, and memory stays flat."""
import json
import re
from pathlib import Path

from caller import Caller
from daemon import firstlook
from flood import CULPRIT, NAMESPACE, SERIES, SIGNAL, WORKLOADS, flood
from parts import free_port

# What one answer of a tool may hold; the process at its peak, and what all reads together may add to it.
ANSWER_MAX_CHARS, PEAK_MAX_KIB, ADDED_MAX_KIB = 6_500, 80 << 10, 30 << 10


def peak_kib(pid):
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])


def floods_are_read_within_bounds_and_the_line_that_matters_is_kept(run):
    # A build without optimisation reads a tenth of what a real one reads in the seconds that a tool has, and its code alone is 50 MiB.
    real = "release" in run.binary.parts
    log_bytes = (100 if real else 10) << 20
    url = run.start(flood(log_bytes))
    kubeconfig = run.work / "kubeconfig"
    kubeconfig.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "test", "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}], "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]}))
    address = f"127.0.0.1:{free_port()}"
    extra = {"prometheus": {"url": url}, "listeners": {"mcp": {"address": address, "without_token": True}}}
    daemon = run.start(firstlook(run, kubeconfig, extra=extra))
    caller = Caller(f"http://{address}/mcp")
    before = peak_kib(daemon.process.pid)

    def call(tool, **arguments):
        text = caller.call(tool, namespace=NAMESPACE, **arguments)
        assert len(text) <= ANSWER_MAX_CHARS, f"{tool}: {len(text)} characters"
        return text
    logs = call("pod_logs", pod="many-0")
    assert SIGNAL in logs, logs
    assert CULPRIT in logs and "more runs of containers" in logs and "give `container`" in logs, logs
    assert re.search(r"x\d{5}", logs), f"the noise is one line with a count:\n{logs}"
    found = call("search_logs", kind="Pod", name="many-0", pattern="permission denied")
    assert SIGNAL in found, found
    status = call("get_object", kind="Pod", name="many-0")
    assert "[cut: " in status, status[-300:]
    part = call("get_object", kind="Pod", name="many-0", part=f"/status/containerStatuses/{CULPRIT[1:]}")
    assert "CrashLoopBackOff" in part, part
    table = call("list_workloads")
    assert f"60 of {WORKLOADS}" in table and "give `text`" in table, table[:300]
    first = next(line for line in table.splitlines() if line.startswith("Deployment "))
    assert "workload-613" in first and "in trouble" in first, table[:600]
    assert "workload-42 " in call("list_workloads", text="workload-42"), "what was cut can be asked for"
    metrics = call("query_metrics_range", query="queue_length", minutes=60)
    assert 'pod="pod-7777"' in metrics and f"{SERIES} series" in metrics and "more series not shown" in metrics, metrics

    peak = peak_kib(daemon.process.pid)
    print(f"     peak {peak / 1024:.1f} MiB ({before / 1024:.1f} before), {log_bytes >> 20} MiB of logs read twice")
    assert peak <= (PEAK_MAX_KIB if real else before + ADDED_MAX_KIB), f"{peak / 1024:.1f} MiB"
