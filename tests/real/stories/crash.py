"""Killed with -9 at named and at random moments: one card, one rollback, every time."""
import os
import random
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import plot
from daemon import WEBHOOK_TOKEN, Daemon
from identities import NAMESPACE, install
import parts
from parts import request, tail, wait_until
from proxy import Proxy, only
from workspace import BOT_TOKEN, CHANNEL, ONCALL, send_signed, workspace

# Four worlds at once keep two cores busy; a world takes a few seconds, or half a minute where Slack has to be asked twice.
AT_ONCE = 4
# From the bad rollout to the closed card, a restart and Slack's settling time (30 s) included, on a loaded machine.
WORLD_TIMEOUT_S = 300


@dataclass
class Hold:
    """A moment: a request by which `proxy` (api, slack, model, webhook) lets us stop the world, before or after it was carried out."""
    name: str
    proxy: str
    method: str
    path: str
    when: str = "after"
    options: dict = field(default_factory=dict)
    # A second moment that only comes after the restart.
    then: "Hold | None" = None


@dataclass
class Mark:
    """A moment: right after firstlook answered 200 to this (`firing`, `click`, `resolved`)."""
    name: str
    what: str


REAL_PATCH = {"not_path": "dryRun=All"}
POINTS = [
    Mark("after the webhook's 200", "firing"),
    Hold("the webhook is on disk, its 200 is lost", "webhook", "POST", "/webhook/"),
    Hold("while the scene is read", "api", "GET", "/log[?]", "before"),
    Hold("the card is sent, Slack has not accepted it", "slack", "POST", "chat.postMessage", "before", {"not_body": "thread_ts"}),
    Hold("Slack has the card, its ts is lost", "slack", "POST", "chat.postMessage", "after", {"not_body": "thread_ts"}),
    Hold("Slack has the card, its ts is lost, and again while the channel is read back", "slack", "POST", "chat.postMessage", "after", {"not_body": "thread_ts"},
         then=Hold("", "slack", "*", "conversations.history", "before")),
    Hold("after the card's ts, before its first edit", "slack", "POST", "chat.update", "before"),
    Hold("the first edit is made, its answer is lost", "slack", "POST", "chat.update"),
    Hold("the model was asked, it has not answered", "model", "POST", "/chat/completions", "before"),
    Hold("the model has answered, its answer is lost", "model", "POST", "/chat/completions"),
    Hold("while a tool reads", "api", "GET", "/(events|replicasets)[?]", "before", {"not_path": "watch=", "since": "model answered"}),
    Hold("the report is asked for", "model", "POST", "/chat/completions", "before", {"body": '"role": ?"tool"'}),
    Hold("the report is written, its answer is lost", "model", "POST", "/chat/completions", "after", {"body": '"role": ?"tool"'}),
    Hold("the preview's token is asked for", "api", "POST", "firstlook-preview/token", "before"),
    Hold("the dry run is done, its answer is lost", "api", "PATCH", "dryRun=All"),
    Hold("the button is sent", "slack", "POST", "chat.update", "before", {"body": "approve"}),
    Hold("the button is shown, the answer is lost", "slack", "POST", "chat.update", "after", {"body": "approve"}),
    Mark("after the click's 200", "click"),
    Hold("between click and execution", "api", "POST", "firstlook-write/token", "before"),
    Hold("the write token is given, not used", "api", "POST", "firstlook-write/token"),
    Hold("the patch is sent, the API server has not accepted it", "api", "PATCH", "/deployments/", "before", REAL_PATCH),
    Hold("the patch is done, its answer is lost", "api", "PATCH", "/deployments/", "after", REAL_PATCH),
    Hold("after the patch, before the card tells", "slack", "POST", "chat.update", "before", {"since": "patched"}),
    Hold("a thread reply is posted, its ts is lost", "slack", "POST", "chat.postMessage", "after", {"body": "thread_ts"}),
    Hold("the card ends verified, the answer is lost", "slack", "POST", "chat.update", "after", {"body": "\\\\u2705|✅"}),
    Mark("after the resolve's 200", "resolved"),
]
RANDOM_POINTS = 10
# Where a dead process holds a claim of each stage: there PostgreSQL, which has no start that voids them, differs from SQLite.
ON_POSTGRES = ["after the webhook's 200", "while the scene is read", "Slack has the card, its ts is lost", "the model was asked, it has not answered",
               "the dry run is done, its answer is lost", "between click and execution", "the patch is done, its answer is lost",
               "after the patch, before the card tells"]


class World:
    """One incident with a daemon of its own, proxies on each of its sides, and a person who clicks."""

    def __init__(self, run, cluster, number, store=None):
        self.run, self.cluster, self.namespace, self.store = run, cluster, f"crash-{number}", store
        self.stack, self.helpers = ExitStack(), ThreadPoolExecutor(4)
        self.kill_after_mark, self.restarts = None, 0
        self.over = threading.Event()

    def __enter__(self):
        enter = self.stack.enter_context
        kubeconfig = self.cluster.kubeconfig_for(self.run.work / f"{self.namespace}.kubeconfig", NAMESPACE, "firstlook")
        self.api = enter(Proxy(self.cluster.api, rewrite=only(self.namespace)))
        self.cluster.kubeconfig_for(kubeconfig, NAMESPACE, "firstlook", server=self.api.url)
        self.workspace = enter(workspace(self.run))
        self.slack = enter(Proxy(self.workspace.api))
        self.model = enter(Proxy(enter(plot.ScriptedModel(self.namespace)).url))
        self.daemon = Daemon(self.run, kubeconfig, slack=self.slack.url, model=self.model.url, name=self.namespace, store=self.store)
        self.stack.callback(lambda: self.daemon.process and self.daemon.kill())
        self.webhook = enter(Proxy(self.daemon.webhook_url.rsplit("/webhook", 1)[0]))
        self.daemon.start()
        self.daemon.wait_synced()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.helpers.shutdown(wait=False)
        self.stack.close()

    # --- the moment ---

    def arm(self, point):
        """Prepares the moment; returns the event that says it has come."""
        if isinstance(point, Mark):
            self.kill_after_mark = point.what
            event = threading.Event()
            self.mark_event = event
            return event, None
        options = dict(point.options)
        since = {"model answered": lambda: any(s.status for s in self.model.seen), "patched": lambda: bool(self.patches())}.get(options.pop("since", None))
        if not_body := options.pop("not_body", None):
            options["body"] = f"^(?!.*{not_body})(?s:.*)$"
        rule = getattr(self, point.proxy).rule(point.name, point.method, point.path, when=point.when, since=since, **options)
        return rule.hit, rule

    def crash(self, rule):
        """The kill and the restart. What was held is broken off: nobody ever hears that answer."""
        self.daemon.kill()
        if rule:
            rule.drop()
        self.restarts += 1
        self.daemon.start()

    # --- the outside world ---

    def patches(self):
        """Changes of the Deployment that the API server accepted."""
        return [s for s in self.api.requests("PATCH", "/deployments/", not_path="dryRun=All") if s.status == 200]

    def insist(self, what, send):
        """As Alertmanager and people do: again until it was heard. Right after the 200, the kill where that is the moment."""
        def attempt():
            while not self.over.is_set():
                try:
                    if send().status == 200:
                        if self.kill_after_mark == what:
                            self.kill_after_mark = None
                            os.kill(self.daemon.process.pid, signal.SIGKILL)
                            self.mark_event.set()
                        return True
                except OSError:
                    pass
                self.over.wait(0.1)
        return self.helpers.submit(attempt)

    def send_alert(self, status, began):
        body, headers = plot.alert(self.namespace, status, began=began), {"Authorization": f"Bearer {WEBHOOK_TOKEN}"}
        return request("POST", self.webhook.url + "/webhook/alertmanager", body, headers, timeout_s=10)

    def play(self, point=None, kill_at_s=None):
        """The whole story with one crash; seconds it took."""
        plot.set_up_bare(self.cluster, self.namespace)
        hit, rule = self.arm(point) if point else (threading.Event(), None)
        then = point.then if isinstance(point, Hold) else None
        sent, crashed = {}, point is None and kill_at_s is None
        plot.break_it(self.cluster, self.namespace)
        began = plot.now()
        start = time.monotonic()
        sent["firing"] = self.insist("firing", lambda: self.send_alert("firing", began))
        while True:
            passed = time.monotonic() - start
            assert passed < WORLD_TIMEOUT_S, f"not over after {passed:.0f} s: {self.state()}"
            if not crashed and (hit.is_set() if point else passed >= kill_at_s):
                crashed = True
                if then:
                    second = self.arm(then)
                self.crash(rule)
                if then:
                    hit, rule, then, crashed, point = *second, None, False, then
            cards = self.cards()
            button = next((b for c in cards for b in c["buttons"] if b["action_id"].startswith("approve")), None)
            if button and "click" not in sent:
                ts = cards[0]["message"]["ts"]
                payload = self.workspace.payload(ts, button["action_id"], ONCALL)
                # Answers go where firstlook believes Slack to be.
                payload["response_url"] = payload["response_url"].replace(self.workspace.api.removesuffix("/api"), self.slack.url.removesuffix("/api"))
                sent["click"] = self.insist("click", lambda: send_signed(self.daemon.interactivity_url, payload))
            if self.patches() and "resolved" not in sent and self.healthy():
                sent["resolved"] = self.insist("resolved", lambda: self.send_alert("resolved", began))
            if cards and "✅" in cards[0]["plain"] and "resolved" in cards[0]["plain"] and crashed:
                return time.monotonic() - start
            time.sleep(0.03)

    def cards(self):
        return self.workspace.cards()

    def healthy(self):
        found = self.cluster.deployment(self.namespace, "checkout")
        status = found["status"]
        return status.get("observedGeneration") == found["metadata"]["generation"] and status.get("readyReplicas") == status.get("updatedReplicas") == found["spec"]["replicas"]

    def state(self):
        cards = "\n---\n".join(c["plain"] for c in self.cards())
        return f"{len(self.patches())} rollbacks, {self.restarts} restarts, cards:\n{cards}"

    def check(self):
        """One card, one rollback, no reply twice, an audit chain that holds."""
        cards = self.cards()
        assert len(cards) == 1, f"{len(cards)} cards: {self.state()}"
        assert len(self.patches()) == 1, f"{len(self.patches())} rollbacks: {self.state()}"
        assert plot.image(self.cluster, self.namespace) == plot.GOOD
        replies = [r["plain"] for r in self.workspace.replies(cards[0]["message"]["ts"])]
        assert len(replies) == len(set(replies)), f"a reply was posted twice: {replies}"
        self.daemon.audit_verifies()
        self.daemon.no_panic()


def one_card_and_one_rollback_at_every_named_point(run):
    many(run, [(p.name, lambda world, p=p: world.play(p)) for p in POINTS if run.point in p.name])


def one_card_and_one_rollback_at_random_points(run):
    cluster = run.cluster()
    install(cluster)
    with World(run, cluster, "calm") as world:
        whole = world.play()
        world.check()
    seeds = [random.Random(run.seed + i).randrange(2**32) for i in range(RANDOM_POINTS)]
    print(f"     (seed {run.seed}; undisturbed {whole:.1f} s)", flush=True)

    def at(seed):
        moment = random.Random(seed).uniform(0, whole)
        return f"seed {seed}: {moment:.3f} s after the rollout", lambda world: world.play(kill_at_s=moment)
    many(run, [at(seed) for seed in seeds])


def one_card_and_one_rollback_on_postgresql(run):
    """A claim of the dead process holds its work no longer than a lease; each world has a database of its own on one server."""
    url = run.start(parts.postgres(run.work))
    chosen = [p for p in POINTS if p.name in ON_POSTGRES and run.point in p.name]
    many(run, [(p.name, lambda world, p=p: world.play(p)) for p in chosen], server=url)


def many(run, plays, server=None):
    """Runs each play in a world of its own, a few at once, on SQLite or on databases of a PostgreSQL server; all failures are told."""
    cluster = run.cluster()
    install(cluster)
    plot.write_logs(cluster)
    failures, lock = [], threading.Lock()

    def one(number, name, play):
        began = time.monotonic()
        try:
            store = server and database(server, f"world_{number}")
            with World(run, cluster, number, store) as world:
                play(world)
                world.check()
            said = "ok"
        except Exception as e:
            said = f"FAILED: {type(e).__name__}: {e}\n--- the end of its log\n{tail(run.work / f'crash-{number}.log')}"
            with lock:
                failures.append(f"{name}: {said}")
        finally:
            cluster.kubectl("delete", "namespace", f"crash-{number}", "--wait=false", check=False)
        print(f"     {time.monotonic() - began:5.1f} s  {name}: {said[:2000]}", flush=True)
    prefix = "q" if server else "p" if "named" in str(run.work) else "r"
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for future in [pool.submit(one, f"{prefix}{i}", *p) for i, p in enumerate(plays)]:
            future.result()
    assert not failures, f"{len(failures)} of {len(plays)} moments: " + "; ".join(f.split(":")[0] for f in failures)


def database(server, name):
    """The URL of a new database."""
    parts.run_tool(["psql", "-q", server, "-c", f"CREATE DATABASE {name}"])
    return f"{server.rsplit('/', 1)[0]}/{name}"


def what_is_called_durable_is_synced(run):
    """Seen from outside, by strace: between the reading of each webhook, of each click, and the first byte of its 200 lies a sync."""
    cluster = run.cluster()
    install(cluster)
    plot.set_up(run, cluster, "synced")
    kubeconfig = cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")
    trace, slack = run.work / "syncs.txt", run.start(workspace(run))
    calls = "fsync,fdatasync,read,recvfrom,sendto,write,writev"
    daemon = Daemon(run, kubeconfig, slack=slack.api, wrapper=["strace", "-f", "-qq", "-s", "40", "-e", f"trace={calls}", "-o", trace])
    run.story.callback(lambda: kill_traced(daemon.process.pid))
    daemon.start()
    posted = request("POST", f"{slack.api}/chat.postMessage", {"channel": CHANNEL, "text": "x", "blocks": [
        {"type": "actions", "elements": [{"type": "button", "action_id": "nobody-knows", "value": "v", "text": {"type": "plain_text", "text": "x"}}]}]},
        {"Authorization": f"Bearer {BOT_TOKEN}"}).json()

    def webhook(i):
        return daemon.alert(plot.alert("synced", name=f"Alert{i}", pod=f"p{i}"))

    def click(_):
        return send_signed(daemon.interactivity_url, slack.payload(posted["ts"], "nobody-knows", ONCALL))
    for path, ask in (("/webhook/alertmanager", webhook), ("/slack/interactivity", click)):
        for i in range(10):
            # Longer than whatever is synced later (100 ms) takes: nothing of before falls between by chance.
            time.sleep(0.5)
            seen = len(trace.read_text(errors="replace").splitlines())
            assert ask(i).status == 200
            wait_until(lambda: synced_before_200(trace.read_text(errors="replace").splitlines()[seen:], path) is not None, f"request {i} of {path} in the trace")
            lines = trace.read_text(errors="replace").splitlines()[seen:]
            assert synced_before_200(lines, path), f"no sync before the 200 of request {i} of {path}:\n" + "\n".join(lines[:60])


def synced_before_200(lines, path):
    """Whether a sync begins and succeeds between the request's first bytes and its 200; None while either is not in the trace."""
    # A server may read the first bytes alone, to see which protocol it is.
    read = next((n for n, line in enumerate(lines) if f'"POST {path[:12]}' in line), None)
    answered = next((n for n, line in enumerate(lines) if read is not None and n > read and '"HTTP/1.1 200' in line), None)
    if answered is None:
        return None
    begun = set()
    for line in lines[read:answered]:
        thread = line.split()[0]
        if re.search(r" f(data)?sync\(\d+ <unfinished", line):
            begun.add(thread)
        elif re.search(r" f(data)?sync\(\d+\)\s+= 0$", line) or thread in begun and re.search(r"sync resumed>\)\s+= 0$", line):
            return True
    return False


def kill_traced(strace):
    """Kills the daemon below strace: strace itself would only let go of it."""
    for child in open(f"/proc/{strace}/task/{strace}/children").read().split():
        os.kill(int(child), signal.SIGKILL)
