"""Starts the real counterparts: Alertmanager, Prometheus, a Kubernetes control plane, PostgreSQL, a model, a browser, firstlook.

Each is a context manager that yields a small object to talk to the part, listens on loopback only, and ends what it
started by its pid. A part that does not come up raises `CannotStart` with its name and the end of its log.
"""
import ctypes
import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("FIRSTLOOK_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "firstlook")
PYTHON_PART, NODE_PART, CONTROL_PLANE_PART, CLIENTS_PART = (CACHE / "parts" / name for name in ("python", "node", "controlplane", "clients"))
KUBECTL = str(PYTHON_PART / "bin" / "kubectl")
# What must come comes within this, also on two busy cores that are slow; elsewhere it takes a hundredth. Only a failure waits so long.
PATIENCE_S = 180


class CannotStart(Exception):
    """A counterpart did not come up: its name, what was waited for, the end of its log."""


# Below the range that the kernel gives outgoing connections (from 32768) and below `consecutive_ports`: one that is free stays
# free while its owner is restarted. Many more than the stories use.
PORTS = random.sample(range(10_000, 28_000), 4_000)


def free_port():
    """A loopback port that nobody listens on and that nobody was given before."""
    while True:
        port = PORTS.pop()
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def wait_until(condition, what, timeout_s=PATIENCE_S, every_s=0.05):
    """The first true value of `condition()`; AssertionError naming `what` when there is none in time."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(every_s)


# --- HTTP -----------------------------------------------------------------------------------------------------------

@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode(errors="replace")


def request(method, url, body=None, headers=None, timeout_s=PATIENCE_S):
    """One HTTP request, redirects not followed, every status returned. `body`: bytes, or a value sent as JSON."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    at = urllib.parse.urlsplit(url)
    if at.scheme == "https":
        # The test API server makes its own certificate at each start.
        connection = http.client.HTTPSConnection(at.hostname, at.port, timeout=timeout_s, context=ssl._create_unverified_context())
    else:
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=timeout_s)
    try:
        try:
            connection.request(method, (at.path or "/") + (f"?{at.query}" if at.query else ""), body=body, headers=headers)
        except BrokenPipeError:
            pass  # refused by its size before it was all sent; the answer is there
        reply = connection.getresponse()
        return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def answers(url, status=200):
    """Whether `url` answers a GET with `status` right now."""
    try:
        return request("GET", url, timeout_s=2).status == status
    except OSError:
        return False


# --- processes ------------------------------------------------------------------------------------------------------

def die_with_parent():
    """Run in a child before exec: the kernel kills it when this process dies, however it dies (PR_SET_PDEATHSIG = 1)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def remember(pid):
    """Notes a started process for tests/run, which kills what is left over: pid and start time, since pids are reused."""
    if folder := os.environ.get("FIRSTLOOK_RUN_DIR"):
        began = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        with open(Path(folder) / "pids", "a") as f:
            f.write(f"{pid} {began}\n")


def python_environment():
    """The environment in which Python finds the judges and stand-ins of the cache."""
    return {**os.environ, "PYTHONPATH": str(PYTHON_PART), "PYTHONDONTWRITEBYTECODE": "1", "PATH": f"{PYTHON_PART}/bin:{os.environ['PATH']}"}


def tail(path, lines=15):
    """The last lines of a log, for an error message; long ones are cut."""
    return "\n".join(line[:400] for line in Path(path).read_text(errors="replace").splitlines()[-lines:]) if Path(path).exists() else "(no log)"


class Process:
    """A started program with its log file."""

    def __init__(self, name, argv, log, env=None, cwd=None, stdout=None):
        self.name, self.log = name, Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as f:
            self.popen = subprocess.Popen(
                [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=stdout or f, stderr=f, env=env, cwd=cwd, preexec_fn=die_with_parent
            )
        remember(self.popen.pid)

    @property
    def pid(self):
        return self.popen.pid

    def wait_ready(self, ready, timeout_s=PATIENCE_S):
        end = time.monotonic() + timeout_s
        while not ready():
            if self.popen.poll() is not None:
                raise CannotStart(f"{self.name} ended with {self.popen.returncode}:\n{tail(self.log)}")
            if time.monotonic() > end:
                raise CannotStart(f"{self.name} was not ready within {timeout_s} s:\n{tail(self.log)}")
            time.sleep(0.02)
        return self

    def kill(self):
        """SIGKILL: no chance to tidy up, which is the point of a crash test."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()

    def stop(self, timeout_s=PATIENCE_S):
        """SIGTERM, then SIGKILL. Returns the exit code, or None when it had to be killed."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
                return None
        return self.popen.returncode


@contextmanager
def running(name, argv, log, ready=lambda: True, **options):
    """`argv` as a `Process` that is ready, killed at the end."""
    process = Process(name, argv, log, **options)
    try:
        yield process.wait_ready(ready)
    finally:
        process.kill()


def run_tool(argv, stdin=None, check=True, env=None, cwd=None):
    """Runs a command to its end; its completed process, with text output. AssertionError with its stderr when it fails."""
    # Longer than any of them waits for something itself.
    done = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, text=True, env=env, cwd=cwd, timeout=2 * PATIENCE_S)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(str(a) for a in argv[:6])} ended with {done.returncode}:\n{done.stderr[-3000:]}{done.stdout[-1000:]}")
    return done


# --- Alertmanager and Prometheus (Debian) -----------------------------------------------------------------------------

@dataclass
class Alertmanager:
    url: str

    def post(self, *alerts):
        """Hands in alerts as Prometheus does: {labels, annotations?, startsAt?, endsAt?} each."""
        answer = request("POST", f"{self.url}/api/v2/alerts", list(alerts))
        assert answer.status == 200, answer.text

    def alerts(self):
        return request("GET", f"{self.url}/api/v2/alerts").json()


@contextmanager
def alertmanager(folder, webhook_url, token, repeat_interval="1h", group_interval="1s", group_by=("alertname", "namespace"), port=None):
    """Alertmanager 0.25 with one webhook receiver, which firstlook's token opens. First webhook about 20 ms after an alert."""
    folder = Path(folder) / "alertmanager"
    folder.mkdir(parents=True)
    config = {
        "route": {"receiver": "firstlook", "group_by": list(group_by), "group_wait": "0s", "group_interval": group_interval, "repeat_interval": repeat_interval},
        "receivers": [{
            "name": "firstlook",
            "webhook_configs": [{"url": webhook_url, "send_resolved": True, "http_config": {"authorization": {"type": "Bearer", "credentials": token}}}],
        }],
    }
    (folder / "am.yml").write_text(json.dumps(config))  # JSON is YAML
    port = port or free_port()
    argv = ["prometheus-alertmanager", f"--config.file={folder}/am.yml", f"--storage.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=", "--log.level=debug"]
    url = f"http://127.0.0.1:{port}"
    with running("alertmanager", argv, folder / "log", lambda: answers(f"{url}/-/ready")):
        yield Alertmanager(url)


@dataclass
class Prometheus:
    url: str

    def query(self, promql):
        answer = request("GET", f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}").json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]


@contextmanager
def prometheus(folder, target, rules, alertmanager_url):
    """Prometheus 2.42 that scrapes `target` (host:port) each second and sends `rules` (a rule group list) to Alertmanager."""
    folder = Path(folder) / "prometheus"
    folder.mkdir(parents=True)
    (folder / "rules.yml").write_text(json.dumps({"groups": rules}))
    (folder / "prom.yml").write_text(json.dumps({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager_url.removeprefix("http://")]}]}]},
        "scrape_configs": [{"job_name": "kube-state-metrics", "honor_labels": True, "static_configs": [{"targets": [target]}]}],
    }))
    run_tool(["promtool", "check", "config", folder / "prom.yml"])
    port = free_port()
    argv = ["prometheus", f"--config.file={folder}/prom.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}"
    with running("prometheus", argv, folder / "log", lambda: answers(f"{url}/-/ready")):
        yield Prometheus(url)


# --- Kubernetes -------------------------------------------------------------------------------------------------------

@dataclass
class Cluster:
    """A real control plane; its kubelets are kwok's. What an image tag does to a pod: tests/controlplane/README.md."""
    folder: Path
    api: str

    @property
    def kubeconfig(self):
        return self.folder / "kubeconfig"

    @property
    def logs(self):
        """Pods log from here: container `api` api.log and api.previous.log, every other one other.log."""
        return self.folder / "logs"

    def kubectl(self, *arguments, stdin=None, check=True, kubeconfig=None):
        return run_tool([KUBECTL, "--kubeconfig", kubeconfig or self.kubeconfig, *arguments], stdin=stdin, check=check)

    def get(self, *arguments, kubeconfig=None):
        return json.loads(self.kubectl("get", *arguments, "-o", "json", kubeconfig=kubeconfig).stdout)

    def apply(self, *objects):
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def deployment(self, namespace, name):
        """One Deployment, without the price of a kubectl process: for what is asked many times a second."""
        return self.request("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}", self.admin_token()).json()

    def admin_token(self):
        return (self.folder / "tokens.csv").read_text().split(",")[0]

    def token_of(self, namespace, account):
        """A token of a ServiceAccount, as the TokenRequest API gives it."""
        return self.kubectl("create", "token", "-n", namespace, account).stdout.strip()

    def kubeconfig_for(self, path, namespace, account, server=None):
        """Writes a kubeconfig that speaks as a ServiceAccount, through `server` where a proxy stands before the API server."""
        cluster = {"server": server or self.api}
        if cluster["server"].startswith("https"):
            cluster["insecure-skip-tls-verify"] = True
        Path(path).write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": account, "user": {"token": self.token_of(namespace, account)}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": account, "namespace": namespace}}],
        }))
        return Path(path)

    def request(self, method, path, token, body=None, content_type="application/json"):
        """A bare request to the API server with a token, for what kubectl would not send."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type, "Accept": "application/json", "User-Agent": "story"}
        return request(method, self.api + path, data, headers)

    def audited(self):
        """What the API server noted of firstlook's own requests, as its accounts: none of those that stories make with their tokens."""
        lines = (json.loads(line) for line in (self.folder / "audit.log").read_text().splitlines())
        return [entry for entry in lines if not entry.get("userAgent", "").startswith(("story", "kubectl"))]

    def rolled_out(self, namespace, name):
        self.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", f"--timeout={PATIENCE_S}s")


def deployment(namespace, name, image, replicas=4, container="api", env=(), labels=None, history=10):
    """A Deployment as a person would write it; `image`'s tag decides what becomes of its pods."""
    labels = {"app": name, **(labels or {})}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {
            "replicas": replicas, "revisionHistoryLimit": history, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": container, "image": image, "env": [{"name": k, "value": v} for k, v in env]}]},
            },
        },
    }


def namespace_object(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@contextmanager
def control_plane(folder):
    """etcd, API server, controller manager, scheduler and kwok with one Ready node; up in about 11 s."""
    folder = Path(folder) / "controlplane"
    base = consecutive_ports(6)
    began = time.monotonic()
    up = Process("control plane", [ROOT / "tests" / "controlplane" / "up", CONTROL_PLANE_PART, folder, base], folder.with_suffix(".log"), env=python_environment())
    try:
        if up.popen.wait(PATIENCE_S) != 0:
            raise CannotStart(f"control plane: {tail(up.log)}\n{tail(folder / 'apiserver.log')}")
        for pid in control_plane_pids(folder):
            remember(pid)
        cluster = Cluster(folder, f"https://127.0.0.1:{base}")
        cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}})
        cluster.kubectl("wait", "--for=condition=Ready", "node/node-a", f"--timeout={PATIENCE_S}s")
        print(f"     (control plane up in {time.monotonic() - began:.1f} s)", flush=True)
        yield cluster
    finally:
        up.kill()
        for pid in control_plane_pids(folder):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(folder / "etcd", ignore_errors=True)


def control_plane_pids(folder):
    """What `up` has started so far; its children outlive it."""
    return [int(p) for p in (folder / "pids").read_text().split()] if (folder / "pids").exists() else []


def consecutive_ports(count):
    """The first of `count` free loopback ports in a row."""
    for base in range(28100, 60000, 10):
        sockets = []
        try:
            for port in range(base, base + count):
                s = socket.socket()
                sockets.append(s)
                s.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for s in sockets:
                s.close()
    raise CannotStart("no free ports in a row")


# --- PostgreSQL -------------------------------------------------------------------------------------------------------

@contextmanager
def postgres(folder):
    """The URL of a PostgreSQL 15 that starts empty."""
    folder = Path(folder) / "postgres"
    Path(folder).parent.chmod(0o755)  # initdb runs as another user
    script = HERE / "postgres"
    try:
        done = subprocess.run([script, "start", folder, str(free_port())], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S)
        if done.returncode != 0:
            raise CannotStart(f"postgres: {done.stderr}\n{tail(folder / 'log')}")
        yield done.stdout.strip().splitlines()[-1]
    finally:
        subprocess.run([script, "stop", folder], stdin=subprocess.DEVNULL, capture_output=True)


# --- the model --------------------------------------------------------------------------------------------------------

@dataclass
class Model:
    """llmock: an OpenAI-compatible server whose answers a story scripts, and which grades how its client copes."""
    url: str

    @property
    def base_url(self):
        return f"{self.url}/v1"

    def queue(self, *behaviors):
        """Adds behaviours. They compose on one request, so queue one step's worth and wait for its request."""
        answer = request("POST", f"{self.url}/_llmock/scenario", {"behaviors": list(behaviors)})
        assert answer.status == 201, answer.text

    def call(self, *calls, **options):
        """The next answer calls these tools: (name, arguments) each."""
        self.queue({"type": "reply", "tool_calls": [{"name": n, "arguments": a} for n, a in calls], **options})

    def requests(self):
        """Every completion request so far, with its `body`, `status` and timing."""
        return request("GET", f"{self.url}/_llmock/requests").json()["requests"]

    def wait_for_request(self, number):
        """The `number`th request, counted from 1."""
        return wait_until(lambda: (r := self.requests()) and len(r) >= number and r[number - 1], f"request {number} to the model")

    def verdict(self):
        return request("GET", f"{self.url}/_llmock/verdict").json()

    def reset(self):
        request("POST", f"{self.url}/_llmock/reset")


@contextmanager
def llmock(folder):
    """A scripted model, ready after one to four seconds."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, PYTHON_PART / "bin" / "llmock", "serve", "--port", port, "--host", "127.0.0.1", "--log-level", "warning"]
    with running("llmock", argv, Path(folder) / "llmock.log", lambda: answers(f"{url}/_llmock/requests"), env=python_environment()):
        yield Model(url)


# --- firstlook's own stand-ins ------------------------------------------------------------------------------------------

@contextmanager
def stand_in(run, name, *arguments):
    """An example binary of this folder (slack_stand_in.rs, cluster_stand_in.rs); what it says of itself once it listens."""
    binary = run.binary.parent / "examples" / name
    if not binary.exists():
        raise CannotStart(f"{name}: no {binary}; cargo build --examples")
    process = Process(name, [binary, *arguments], run.work / f"{name}.log", stdout=subprocess.PIPE)
    try:
        line = process.popen.stdout.readline()
        if not line:
            raise CannotStart(f"{name}:\n{tail(process.log)}")
        yield json.loads(line)
    finally:
        process.kill()
        process.popen.stdout.close()


# --- the browser ------------------------------------------------------------------------------------------------------

def browse(script, *arguments):
    """Runs a playwright-core script of this folder against headless Chromium; its standard output as JSON.

    The script gets a fresh profile folder and Chromium's path from the environment."""
    env = {**os.environ, "NODE_PATH": str(NODE_PART / "node_modules"), "CHROMIUM": "/usr/bin/chromium"}
    return json.loads(run_tool(["node", HERE / script, *arguments], env=env).stdout)
