"""firstlook itself: its configuration for a story, its process, and what one asks it from outside."""
import json
import re
import time
from contextlib import contextmanager

from parts import CannotStart, Process, answers, free_port, request, run_tool, wait_until
from workspace import APP_TOKEN, BOT_TOKEN, CHANNEL, ONCALL_GROUP, SIGNING_SECRET

WEBHOOK_TOKEN = "webhook-token-of-a-story"


class Daemon:
    """`firstlook run` with a configuration of its own; a restart keeps ports, store and configuration.

    `slack`: the API's URL or None (cards go to stdout); `clicks`: `http` or `socket`. `approvers` and `policy` make the policy
    file. `extra` is laid over the configuration.
    """

    def __init__(self, run, kubeconfig, slack=None, model=None, clicks="http", policy=None, store=None, cluster="real", name="firstlook", extra=None, wrapper=()):
        self.run, self.folder, self.name, self.wrapper = run, run.work / name, name, list(wrapper)
        self.folder.mkdir()
        self.ports = {n: free_port() for n in ("webhook", "slack", "admin")}
        self.store = store or f"sqlite:{self.folder}/firstlook.db"
        self.process, self.starts = None, 0
        config = {
            "cluster": cluster, "kubernetes": {"kubeconfig": str(kubeconfig)}, "store": {"url": self.store},
            "listeners": {"webhook": {"address": self.address("webhook"), "bearer_token_file": self.secret("webhook-token", WEBHOOK_TOKEN)},
                          "admin": {"address": self.address("admin")}},
            "policy_file": str(self.folder / "policy.yaml"),
        }
        if slack:
            config["slack"] = {"channel": CHANNEL, "api_url": slack, "bot_token_file": self.secret("bot-token", BOT_TOKEN)}
            if clicks == "http":
                config["listeners"]["slack"] = {"address": self.address("slack")}
                config["slack"]["signing_secret_file"] = self.secret("signing-secret", SIGNING_SECRET)
            else:
                config["slack"]["app_token_file"] = self.secret("app-token", APP_TOKEN)
        if model:
            config["model"] = {"base_url": model, "name": "scripted", "api_key_file": self.secret("model-key", "model-key-of-a-story")}
        for key, value in (extra or {}).items():
            config.setdefault(key, {}).update(value) if isinstance(value, dict) else config.__setitem__(key, value)
        self.config = self.folder / "firstlook.yaml"
        self.config.write_text(json.dumps(config, indent=1))  # JSON is YAML
        everyone = {"approvers": [{"who": [f"group:{ONCALL_GROUP}"], "tiers": ["reversible"], "namespaces": ["*"]}]}
        (self.folder / "policy.yaml").write_text(json.dumps(everyone if policy is None else policy))

    def address(self, listener):
        return f"127.0.0.1:{self.ports[listener]}"

    def secret(self, name, value):
        path = self.folder / name
        path.write_text(value + "\n")
        return str(path)

    @property
    def webhook_url(self):
        return f"http://{self.address('webhook')}/webhook/alertmanager"

    @property
    def interactivity_url(self):
        return f"http://{self.address('slack')}/slack/interactivity"

    @property
    def admin_url(self):
        return f"http://{self.address('admin')}"

    @property
    def log(self):
        """All starts write into one log, in the story's folder so that a failed story shows its end."""
        return self.run.work / f"{self.name}.log"

    def start(self):
        """Starts it and waits until it is ready; seconds that took."""
        began = time.monotonic()
        self.process = Process(self.name, [*self.wrapper, self.run.binary, "run", "--config", self.config], self.log)
        self.starts += 1
        self.process.wait_ready(lambda: answers(f"{self.admin_url}/readyz"))
        return time.monotonic() - began

    def kill(self):
        self.process.kill()

    def stop(self):
        """SIGTERM, after which nothing may be left that it had to give up; how many seconds it took."""
        began = time.monotonic()
        code = self.process.stop()
        assert code == 0, f"SIGTERM: exit {code}"
        assert "did not finish in time" not in self.log.read_text(errors="replace"), "it waited for something until it gave that up"
        return time.monotonic() - began

    def alert(self, body, token=WEBHOOK_TOKEN, **options):
        """Posts a webhook body (bytes or a value) as Alertmanager does."""
        headers = {"Content-Type": "application/json", "User-Agent": "Alertmanager/0.25.0"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return request("POST", self.webhook_url, body, headers, **options)

    def readyz(self):
        return request("GET", f"{self.admin_url}/readyz")

    def metrics(self):
        """{name{labels}: value} of the metrics page."""
        text = request("GET", f"{self.admin_url}/metrics").text
        lines = (re.match(r"([^#\s][^ ]*(?:\{.*\})?) ([0-9.eE+-]+)$", line) for line in text.splitlines())
        return {m[1]: float(m[2]) for m in lines if m}

    def wait_synced(self):
        """Until its watches have seen the cluster, what ConfigMaps hold included: the first webhook may come before that, a story about events or edits may not."""
        def synced():
            answer = self.readyz()
            return answer.status == 200 and all(answer.json().get(part) == "ok" for part in ("watches", "config_maps"))
        wait_until(synced, "its watches to be in sync")

    def wait_idle(self):
        """Until nothing waits for a stage: whatever comes of what was heard so far has come. The stages are counted in the order of the way."""
        def idle():
            depths = {name: depth for name, depth in self.metrics().items() if name.startswith("firstlook_queue_depth")}
            return depths and not any(depths.values())
        wait_until(idle, "its stages to be idle")

    def command(self, *arguments, check=True):
        """Another firstlook command with this configuration."""
        return run_tool([self.run.binary, *arguments, "--config", self.config], check=check)

    def audit_verifies(self):
        """`firstlook audit verify`, which only reads; also while the daemon runs."""
        return self.command("audit", "verify").stdout

    def no_panic(self):
        text = self.log.read_text(errors="replace")
        assert "panicked" not in text and "RUST_BACKTRACE" not in text, "it panicked:\n" + "\n".join(l for l in text.splitlines() if "panick" in l)[:2000]


@contextmanager
def firstlook(run, kubeconfig, **options):
    """A daemon that is ready; killed at the end, and its log looked through for panics."""
    daemon = Daemon(run, kubeconfig, **options)
    try:
        daemon.start()
        yield daemon
    except CannotStart:
        raise
    finally:
        if daemon.process:
            daemon.process.kill()
        if daemon.log.exists():
            daemon.no_panic()
