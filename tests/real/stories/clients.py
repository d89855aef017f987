"""The gate for everyone: the protocol's own judge, and four MCP clients that people use, each from a read to an approved restart."""
import json
import os
import re
import sys
from collections import Counter

import plot
from chat import ChatServer, calling
from daemon import firstlook
from identities import NAMESPACE, install
from parts import CLIENTS_PART, HERE, free_port, run_tool, wait_until
from workspace import ONCALL, workspace

BIN = CLIENTS_PART / "node_modules" / ".bin"
PROMPT = "checkout in this namespace is slow. Look at it, and ask for a restart."
# What a product's server has of the protocol. The judge's other scenarios call tools of a test build (json-schema-2020-12 too), and
# logging-set-level a capability that the server does not declare, since it sends its clients no log.
SCENARIOS = (
    "server-initialize", "server-session-lifecycle", "server-stateless", "ping", "tools-list", "resources-list", "prompts-list",
    "dns-rebinding-protection", "server-sse-polling", "server-sse-multiple-streams", "caching", "http-header-validation",
    "sep-2164-resource-not-found", "http-custom-header-server-validation",
)


def node_environment(home, **more):
    """Node 24, a home of its own, and nothing that would phone home."""
    home.mkdir(exist_ok=True)
    return {"PATH": f"{CLIENTS_PART / 'bin'}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8", "DO_NOT_TRACK": "1", **more}


class Asker(ChatServer):
    """A model that looks at `checkout`, reads a log, asks for a restart, lets a person decide, and asks how it went."""

    def __init__(self, namespace, pod, approve):
        super().__init__()
        self.namespace, self.pod, self.approve, self.answers = namespace, pod, approve, []

    def message(self, body):
        offered = [t["function"]["name"] for t in body.get("tools", [])]
        if not any(name.endswith("get_workload") for name in offered):
            return {"role": "assistant", "content": "checkout"}  # a client that asks for a title
        told = [text_of(m["content"]) for m in body["messages"] if m["role"] == "tool"]
        self.answers = told
        workload = {"namespace": self.namespace, "kind": "Deployment", "name": "checkout"}
        if len(told) == 0:
            return self.call(offered, "get_workload", workload)
        if len(told) == 1:
            return self.call(offered, "pod_logs", {"namespace": self.namespace, "pod": self.pod})
        if len(told) == 2:
            return self.call(offered, "rollout_restart", workload)
        if len(told) == 3:
            found = re.search(r"pending_approval (a[0-9a-f]+)", told[2])
            if not found:
                return {"role": "assistant", "content": f"no approval id: {told[2]}"}
            self.approve(found[1])
            return self.call(offered, "get_approval", {"approval_id": found[1]})
        return {"role": "assistant", "content": f"Done: {told[-1]}"}

    @staticmethod
    def call(offered, tool, arguments):
        """By the name under which the client offers the tool: some put the server's name before it."""
        name = next(n for n in offered if n == tool or n.endswith("__" + tool))
        return calling((f"call_{tool}", name, arguments))


def text_of(content):
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


class Guests:
    """A daemon with `/mcp` on a real cluster, and what a client's way to a restart needs."""

    def __init__(self, run, namespace):
        self.run, self.namespace, self.cluster = run, namespace, run.cluster()
        install(self.cluster)
        plot.set_up(run, self.cluster, namespace)
        self.slack = run.start(workspace(run))
        kubeconfig = self.cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")
        self.token, entry = token(run, namespace)
        callers = run.work / "callers.yaml"
        callers.write_text("callers:\n" + entry)
        self.address = f"127.0.0.1:{free_port()}"
        extra = {"listeners": {"mcp": {"address": self.address}}, "mcp_callers_file": str(callers)}
        self.daemon = run.start(firstlook(run, kubeconfig, slack=self.slack.api, extra=extra))
        self.daemon.wait_synced()
        self.url = f"http://{self.address}/mcp"
        self.pod = self.cluster.get("-n", namespace, "pods", "-l", "app=checkout")["items"][0]["metadata"]["name"]

    def approve(self, approval):
        """A person says yes in Slack; back when the restart is done."""
        before = self.restarted_at()
        ts, button = self.slack.wait_for_button("approve", value=approval)
        self.asked_on_card = self.slack.wait_for_card("checkout", "Restart")["plain"]
        assert self.slack.press(self.daemon.interactivity_url, ts, button, ONCALL).status == 200
        wait_until(lambda: self.restarted_at() != before, f"the restart of approval {approval}")
        self.daemon.wait_idle()  # and noted

    def restarted_at(self):
        annotations = self.cluster.deployment(self.namespace, "checkout")["spec"]["template"]["metadata"].get("annotations", {})
        return annotations.get("kubectl.kubernetes.io/restartedAt")

    def lived_through_by(self, client, program):
        """`client(asker)` runs the client to its end; then what it was told and what the card said of it."""
        assert self.restarted_at() is None
        with Asker(self.namespace, self.pod, self.approve) as asker:
            said = client(asker)
        assert len(asker.answers) == 4, f"{program} made {len(asker.answers)} calls:\n{asker.answers}\n{said[-2000:]}"
        workload, log, asked, told = asker.answers
        assert "checkout" in workload and plot.FATAL in log.replace('\\"', '"'), f"{workload}\n{log}"
        assert "pending_approval" in asked and re.search(r"\bexecuted\b", told), f"{asked}\n{told}"
        assert program in self.asked_on_card and ONCALL in self.asked_on_card, f"who asks, and through which program:\n{self.asked_on_card}"
        assert "the chain holds" in self.daemon.audit_verifies()


def token(run, namespace):
    """A token and its entry, from the product's own command."""
    done = run_tool([run.binary, "mcp", "token", "--name", "visitors-client", "--for", ONCALL, "--namespaces", namespace, "--tiers", "read-only,reversible"])
    first, entry = done.stdout.split("\n", 1)
    return first.strip(), entry


def langgraph_restarts_with_a_persons_leave(run):
    guests = Guests(run, "langgraph")
    env = {**os.environ, "PYTHONPATH": str(CLIENTS_PART / "python"), "PYTHONDONTWRITEBYTECODE": "1", "LANGSMITH_TRACING": "false"}
    script = HERE / "clients" / "langgraph_client.py"
    guests.lived_through_by(lambda asker: run_tool([sys.executable, script, guests.url, guests.token, asker.url, PROMPT], env=env).stdout, "mcp")


def continue_restarts_with_a_persons_leave(run):
    guests = Guests(run, "continue")

    def client(asker):
        config = run.work / "cn.yaml"
        config.write_text(json.dumps({
            "name": "story", "version": "1.0.0", "schema": "v1",
            "models": [{"name": "fake", "provider": "openai", "model": "gpt-4o", "apiBase": asker.url, "apiKey": "x", "roles": ["chat"], "capabilities": ["tool_use"]}],
            "mcpServers": [{"name": "firstlook", "type": "streamable-http", "url": guests.url,
                            "requestOptions": {"headers": {"Authorization": f"Bearer {guests.token}"}}}],
        }))
        env = node_environment(run.work / "home", CONTINUE_TELEMETRY_ENABLED="0")
        return run_tool([BIN / "cn", "-p", "--config", config, "--allow", "*", PROMPT], env=env, cwd=run.work, stdin="").stdout
    guests.lived_through_by(client, "continue")


def kimi_code_restarts_with_a_persons_leave(run):
    guests = Guests(run, "kimi")

    def client(asker):
        home = run.work / "home"
        (home / ".kimi-code").mkdir(parents=True)
        (home / ".kimi-code" / "config.toml").write_text(
            f'default_model = "fake"\n[providers.fake]\ntype = "openai"\nbase_url = "{asker.url}"\napi_key = "x"\n'
            '[models.fake]\nprovider = "fake"\nmodel = "gpt-4o"\nmax_context_size = 128000\ncapabilities = ["tool_use"]\n')
        (home / ".kimi-code" / "mcp.json").write_text(json.dumps(
            {"mcpServers": {"firstlook": {"type": "http", "url": guests.url, "headers": {"Authorization": f"Bearer {guests.token}"}}}}))
        env = node_environment(home, KIMI_CODE_NO_AUTO_UPDATE="1")
        return run_tool([BIN / "kimi", "--output-format", "stream-json", "-p", PROMPT], env=env, cwd=run.work, stdin="").stdout
    guests.lived_through_by(client, "kimi")


def the_inspector_reads_and_asks_over_http_and_over_stdio(run):
    guests = Guests(run, "inspector")
    env = node_environment(run.work / "home")
    bearer = ["--header", f"Authorization: Bearer {guests.token}"]
    over_http = [BIN / "mcp-inspector", "--cli", guests.url, "--transport", "http", *bearer]
    # By the environment: the inspector takes a `--config` for its own.
    over_stdio = [BIN / "mcp-inspector", "--cli", run.binary, "mcp", "-e", f"FIRSTLOOK_CONFIG={guests.daemon.config}", "-e", f"FIRSTLOOK_MCP_TOKEN={guests.token}"]

    def inspect(way, *arguments, check=True):
        done = run_tool([*way, *arguments], env=env, cwd=run.work, check=check)
        return json.loads(done.stdout) if check else done
    for way in (over_http, over_stdio):
        listed = inspect(way, "--method", "tools/list", "--strict")["tools"]
        assert {"get_workload", "pod_logs", "rollout_restart", "get_approval"} <= {t["name"] for t in listed}, listed
        arguments = [f"namespace={guests.namespace}", "kind=Deployment", "name=checkout"]
        read = inspect(way, "--method", "tools/call", "--tool-name", "get_workload", "--tool-arg", *arguments)
        assert not read.get("isError") and "checkout" in json.dumps(read["content"]), read
    asked = inspect(over_http, "--method", "tools/call", "--tool-name", "rollout_restart", "--tool-arg", *arguments)
    assert "pending_approval" in json.dumps(asked), asked
    approval = asked["structuredContent"]["approval_id"]
    guests.approve(approval)
    told = wait_until(lambda: (t := inspect(over_http, "--method", "tools/call", "--tool-name", "get_approval", "--tool-arg", f"approval_id={approval}"))
                      and "executed" in json.dumps(t) and t, "get_approval to say that it is executed")
    assert not told.get("isError"), told


def over_stdio(run, namespace, *command):
    """What the protocol's own Python client was told by `command`: tools, a workload, a log, and a restart that it asked for."""
    env = {**os.environ, "PYTHONPATH": str(CLIENTS_PART / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    told = json.loads(run_tool([sys.executable, HERE / "clients" / "stdio_client.py", namespace, "checkout", *command], env=env, cwd=run.work).stdout)
    assert {"get_workload", "pod_logs", "rollout_restart", "get_approval"} <= set(told["tools"]), told["tools"]
    assert not told["seen"]["failed"] and "checkout" in told["seen"]["text"], told["seen"]
    assert not told["log"]["failed"] and "<data>" in told["log"]["text"], told["log"]
    asked = told["asked"]["told"]
    assert asked["status"] == "pending_approval" and asked["approval_id"] in told["asked"]["text"], told["asked"]
    assert told["state"]["told"]["state"] in ("proposed", "pending"), told["state"]
    return asked["approval_id"]


def anyone_tries_it_over_stdio_without_a_cluster(run):
    over_stdio(run, "shop", run.binary, "mcp", "--scenario", "bad-image-rollout")


def a_bridge_over_stdio_asks_as_the_caller_whose_token_it_carries(run):
    guests = Guests(run, "bridge")
    file = run.work / "token"
    file.write_text(guests.token + "\n")
    approval = over_stdio(run, guests.namespace, run.binary, "mcp", "--config", guests.daemon.config, "--token-file", file)
    guests.approve(approval)
    for words in ("visitor", ONCALL):
        assert words in guests.asked_on_card, f"who asks, and through which program:\n{guests.asked_on_card}"


def the_protocols_own_judge_finds_nothing(run):
    """Every scenario that a product's server can pass, in both revisions, and the schema of every message on the way."""
    cluster = run.cluster()
    install(cluster)
    kubeconfig = cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")
    address = f"127.0.0.1:{free_port()}"
    run.start(firstlook(run, kubeconfig, extra={"listeners": {"mcp": {"address": address, "without_token": True}}}))
    env = node_environment(run.work / "home")
    failed, passed = [], Counter()
    for revision in ("2025-11-25", "2026-07-28"):
        for scenario in SCENARIOS:
            out = run.work / f"{revision}-{scenario}"
            said = run_tool([BIN / "conformance", "server", "--url", f"http://{address}/mcp", "--scenario", scenario, "--spec-version", revision, "-o", out],
                            env=env, cwd=run.work, check=False).stdout
            checks = [c for f in out.rglob("checks.json") for c in json.loads(f.read_text())]
            # Some checks want tools of a test build; the judge itself says of these that it could not test them.
            failed += [(revision, scenario, c["id"], c.get("errorMessage")) for c in checks
                       if c["status"] == "FAILURE" and not (c.get("details") or {}).get("untestable")]
            passed.update(c["id"] for c in checks if c["status"] == "SUCCESS")
            assert checks or "not applicable" in said, f"{revision} {scenario}: judged nothing:\n{said[-1500:]}"
    assert not failed, failed
    assert sum(passed.values()) >= 70 and passed["wire-schema-valid"] >= 10, passed
