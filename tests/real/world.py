"""A daemon on a real cluster that a caller asks for changes over `/mcp`, and a person in Slack who says yes."""
import json

from daemon import firstlook
from identities import NAMESPACE, install
from parts import free_port, request, run_tool, wait_until
from workspace import ONCALL, workspace

EVERYTHING = {
    "approvers": [{"who": [ONCALL], "tiers": ["reversible", "destructive"], "namespaces": ["*"], "cluster": True}],
    "limits": {"writes_per_hour": 100, "writes_per_incident": 100},
}


class Caller:
    """An MCP client with a token, over streamable HTTP."""

    def __init__(self, url, token):
        self.url, self.headers, self.number = url, {"Authorization": f"Bearer {token}", "Content-Type": "application/json",
                                                    "Accept": "application/json, text/event-stream"}, 0
        hello = self.send("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "story", "version": "1"}})
        self.headers["MCP-Protocol-Version"] = hello["protocolVersion"]
        request("POST", self.url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, self.headers)

    def send(self, method, params):
        self.number += 1
        answer = request("POST", self.url, {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}, self.headers)
        assert answer.status == 200, f"{method}: {answer.status} {answer.text}"
        if session := next((v for k, v in dict(answer.headers).items() if k.lower() == "mcp-session-id"), None):
            self.headers["Mcp-Session-Id"] = session
        texts = [line[5:].strip() for line in answer.text.splitlines() if line.startswith("data:")] or [answer.text]
        told = next(m for m in (json.loads(t) for t in texts if t) if m.get("id") == self.number)
        assert "error" not in told, told
        return told["result"]

    def ask(self, tool, **arguments):
        """Asks for a change; the approval's id, or the reason why not."""
        told = self.send("tools/call", {"name": tool, "arguments": arguments})["structuredContent"]
        return told["approval_id"] if told["status"] == "pending_approval" else told["reason"]


class World:
    """A daemon with `/mcp`, running as its own ServiceAccount on a real cluster, and a person who says yes."""

    def __init__(self, run, namespace, beside=None):
        self.run, self.cluster, self.namespace = run, run.cluster(), namespace
        install(self.cluster)
        self.slack = run.start(workspace(run))
        done = run_tool([run.binary, "mcp", "token", "--name", "story", "--for", ONCALL, "--namespaces", namespace, "--cluster",
                         "--tiers", "read-only,reversible,destructive", "--asks-per-hour", "100"])
        token, entry = done.stdout.split("\n", 1)
        (run.work / "callers.yaml").write_text("callers:\n" + entry)
        address = f"127.0.0.1:{free_port()}"
        extra = {"listeners": {"mcp": {"address": address}}, "mcp_callers_file": str(run.work / "callers.yaml"), **(beside or {})}
        kubeconfig = self.cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")
        self.daemon = run.start(firstlook(run, kubeconfig, slack=self.slack.api, policy=EVERYTHING, extra=extra))
        self.daemon.wait_synced()
        self.caller = Caller(f"http://{address}/mcp", token.strip())

    def get(self, kind, name, namespace=""):
        """One object, of its own namespace unless another (or None) is given."""
        namespace = self.namespace if namespace == "" else namespace
        return self.cluster.get(*(["-n", namespace] if namespace else []), kind, name)

    def approve(self, approval):
        """Its own button: a card whose request was just carried out may still show the old one."""
        ts, action_id = self.slack.wait_for_button("approve", value=approval)
        assert self.slack.press(self.daemon.interactivity_url, ts, action_id, ONCALL).status == 200
        return ts

    def state(self, approval):
        return self.caller.send("tools/call", {"name": "get_approval", "arguments": {"approval_id": approval}})

    def carry_out(self, tool, **arguments):
        """Asked, approved, executed: the card's timestamp."""
        asked = self.caller.ask(tool, **arguments)
        assert asked.startswith("a") and " " not in asked, f"{tool}: {asked}"
        ts = self.approve(asked)
        told = wait_until(lambda: (t := json.dumps(self.state(asked))) and ("executed" in t or "failed" in t or "withdrawn" in t) and t, f"{tool} to be carried out")
        assert "executed" in told, f"{tool}: {told}"
        return ts

    def take_back(self, ts, leads):
        """Undo on that card, by what it leads to (a card can hold several): asked for, approved."""
        def button(kind, text):
            card = next(c for c in self.slack.cards() if c["message"]["ts"] == ts)
            return next((b["action_id"] for b in card["buttons"] if b["action_id"].startswith(kind) and text in json.dumps(b)), None)
        for kind, text in (("undo", f"Undo: {leads}"), ("approve", "")):
            action_id = wait_until(lambda: button(kind, text), f"the button {kind} on the card", 60)
            assert self.slack.press(self.daemon.interactivity_url, ts, action_id, ONCALL).status == 200
