"""Bad input against the running binary: each gets a clear answer or a clear card; no panic, nothing lost."""
import json
import socket
import sqlite3
import threading
import time

import plot
from daemon import WEBHOOK_TOKEN, Daemon, firstlook
from identities import NAMESPACE, install
from parts import CannotStart, request, run_tool, wait_until
from proxy import Proxy, only
from workspace import BOT_TOKEN, CHANNEL, ONCALL, SIGNING_SECRET, form, send_signed, signed_headers, workspace


def account(run, cluster, **options):
    """A kubeconfig of the daemon's account."""
    install(cluster)
    return cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook", **options)


def body(alerts, **more):
    return {**plot.alert("bad-input"), "alerts": alerts, **more}


def one(**labels):
    return plot.alert("bad-input", **labels)["alerts"][0]


def the_webhook_answers_every_bad_request_and_lives(run):
    slack = run.start(workspace(run))
    daemon = run.start(firstlook(run, account(run, run.cluster()), slack=slack.api))
    good = json.dumps(body([one()])).encode()
    cases = [
        ("no credential", dict(body=good, token=None), {401}),
        ("wrong credential", dict(body=good, token="wrong"), {401}),
        ("truncated JSON", dict(body=good[:-40]), {400}),
        ("no JSON at all", dict(body=b"<html>"), {400}),
        ("empty", dict(body=b""), {400}),
        ("invalid UTF-8", dict(body=good.replace(b"Deployment has", b"\xff\xfe")), {400}),
        ("alerts as a text", dict(body=body("none")), {400, 422}),
        ("labels as a list", dict(body=body([{**one(), "labels": ["a"]}])), {400, 422}),
        ("startsAt as a number", dict(body=body([{**one(), "startsAt": 5}])), {400, 422}),
        ("an unknown status", dict(body=body([{**one(), "status": "perhaps"}])), {200, 400, 422}),
        ("100,000 brackets", dict(body=b"[" * 100_000), {400}),
        ("5 MiB", dict(body=json.dumps(body([one()], pad="x" * (5 << 20))).encode()), {413}),
        ("an alert without labels", dict(body=body([{**one(), "labels": {}}])), {200}),
        ("no alerts", dict(body=body([])), {200}),
        ("fields of a newer version", dict(body=body([{**one(), "newer": 1}], newest={"a": 2})), {200}),
        ("3,000 alerts", dict(body=body([one(pod=f"p{i}") for i in range(3000)])), {200}),
    ]
    for name, request_of, expected in cases:
        answer = daemon.alert(**request_of)
        assert answer.status in expected, f"{name}: {answer.status} {answer.text[:300]}"
        assert answer.status < 400 or answer.body.strip(), f"{name}: a refusal says why"
    for method in ("GET", "PUT", "DELETE"):
        assert request(method, daemon.webhook_url, headers={"Authorization": f"Bearer {WEBHOOK_TOKEN}"}).status == 405
    for elsewhere in ("/x", "/"):
        assert request("POST", daemon.webhook_url + elsewhere, good, {"Authorization": f"Bearer {WEBHOOK_TOKEN}"}).status == 404
    basic = request("POST", daemon.webhook_url, good, {"Authorization": "Basic " + "x" * 9000})
    assert basic.status in (400, 401, 431), basic.status
    metrics = daemon.metrics()
    for outcome in ("unauthorized", "bad_request", "too_large", "not_found", "wrong_method"):
        assert any(f'outcome="{outcome}"' in k and v > 0 for k, v in metrics.items()), f"no metric tells of {outcome}: {sorted(metrics)}"
    slow_clients_do_not_block_others(daemon, good)
    assert daemon.readyz().status == 200
    half_a_request_holds_no_shutdown(daemon)


def slow_clients_do_not_block_others(daemon, good):
    """50 connections that send half a request and then nothing."""
    host, port = daemon.address("webhook").split(":")
    sockets = []
    for _ in range(50):
        s = socket.create_connection((host, int(port)))
        s.sendall(b"POST /webhook/alertmanager HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n")
        sockets.append(s)
    assert daemon.alert(good).status == 200
    held = sum(is_open(s) for s in sockets)
    assert held, "it was answered only when each of the others had been given up"
    for s in sockets:
        s.close()


def is_open(connection):
    """Whether the other side has neither said anything nor gone."""
    connection.setblocking(False)
    try:
        connection.recv(1)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def half_a_request_holds_no_shutdown(daemon):
    """One that has sent half a head, one whose body does not come: the second gets its answer, and both are gone before the daemon is."""
    host, port = daemon.address("webhook").split(":")
    head = b"POST /webhook/alertmanager HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    with socket.create_connection((host, int(port))) as half, socket.create_connection((host, int(port))) as late:
        half.sendall(head)
        late.sendall(head + f"Authorization: Bearer {WEBHOOK_TOKEN}\r\n\r\n{{".encode())
        assert late.recv(100).startswith(b"HTTP/1.1 503 "), "an answer that Alertmanager repeats"
        late.close()
        daemon.stop()


def slack_requests_that_are_not_slacks_are_refused(run):
    """firstlook's verdict on signatures is Bolt's (stories/slack_stand_in.py shows that Bolt's is slack_sdk's)."""
    slack = run.start(workspace(run))
    daemon = run.start(firstlook(run, account(run, run.cluster()), slack=slack.api))
    url = daemon.interactivity_url
    posted = request("POST", f"{slack.api}/chat.postMessage", {"channel": CHANNEL, "text": "x", "blocks": [
        {"type": "actions", "elements": [{"type": "button", "action_id": "nobody-knows", "value": "v", "text": {"type": "plain_text", "text": "x"}}]}]},
        {"Authorization": f"Bearer {BOT_TOKEN}"}).json()
    payload = slack.payload(posted["ts"], "nobody-knows", ONCALL)
    data = form(payload)
    good = signed_headers(data)

    def sent(headers, sent_body=data):
        return request("POST", url, sent_body, {k: v for k, v in headers.items() if v is not None}).status
    assert sent({**good, "X-Slack-Signature": None}) == 401
    assert sent({**good, "X-Slack-Request-Timestamp": None}) == 401
    assert sent({**good, "X-Slack-Signature": "v0=" + "0" * 64}) == 401
    assert sent({**good, "X-Slack-Signature": "nonsense"}) == 401
    assert sent({**good, "X-Slack-Request-Timestamp": "soon"}) == 401
    assert sent(good, data + b"&x=1") == 401
    assert sent(signed_headers(data, at_s=time.time() - 360)) == 401, "six minutes old"
    assert sent(signed_headers(data, at_s=time.time() + 360)) == 401, "six minutes ahead"
    assert sent(signed_headers(data, secret="another")) == 401
    for strange in (b"payload=%7B", b"payload=%FF%FE", b"nothing", b"payload=5", b"payload=%7B%22type%22%3A%22block_actions%22%7D"):
        assert sent(signed_headers(strange), strange) in (200, 400, 422), strange
    big = b"payload=" + b"x" * (5 << 20)
    assert sent(signed_headers(big), big) == 413
    assert request("GET", url).status == 405
    assert send_signed(url, payload).status == 200, "a button of another version is Slack's own request"
    wait_until(lambda: slack.told(ONCALL), "an answer about the unknown button")
    assert daemon.readyz().status == 200


def a_channel_that_is_gone_loses_no_card(run):
    cluster = run.cluster()
    plot.set_up(run, cluster, "channel-gone")
    slack = run.start(workspace(run))
    for _ in range(3):
        slack.fault("chat.postMessage", error="channel_not_found")
    daemon = run.start(firstlook(run, account(run, cluster), slack=slack.api))
    daemon.wait_synced()
    plot.break_it(cluster, "channel-gone")
    assert daemon.alert(plot.alert("channel-gone")).status == 200
    wait_until(lambda: "channel_not_found" in daemon.log.read_text(), "a log line that names Slack's reason")
    slack.wait_for_card("checkout")


def slack_that_is_slow_busy_or_down_gets_one_card(run):
    cluster = run.cluster()
    plot.set_up(run, cluster, "slack-down")
    slack = run.start(workspace(run))
    slack.fault("chat.postMessage", rate_limited=1)
    slack.fault("chat.postMessage", status=503)
    slack.fault("chat.postMessage", fault="html")
    daemon = run.start(firstlook(run, account(run, cluster), slack=slack.api))
    daemon.wait_synced()
    plot.break_it(cluster, "slack-down")
    assert daemon.alert(plot.alert("slack-down")).status == 200
    slack.wait_for_card("checkout")
    daemon.wait_idle()
    assert len(slack.cards()) == 1


def a_model_that_talks_nonsense_leaves_a_card_from_the_rules(run):
    """Errors, HTML, no JSON, unknown tools, calls without end: the card says what the rules found, and that no model answered."""
    cluster = run.cluster()
    kubeconfig = account(run, cluster)

    def completion(message, finish="tool_calls"):
        return json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                           "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}).encode()

    def calls(*pairs):
        return completion({"role": "assistant", "content": None, "tool_calls": [
            {"id": f"c{i}", "type": "function", "function": {"name": n, "arguments": a}} for i, (n, a) in enumerate(pairs)]})
    kinds = {
        "server errors": (500, "application/json", b'{"error": {"message": "boom"}}'),
        "html": (200, "text/html", b"<html>busy</html>"),
        "half a JSON": (200, "application/json", b'{"id": "x", "choices": ['),
        "no choices": (200, "application/json", b'{"object": "error", "message": "context"}'),
        "quota": (429, "text/plain\r\nRetry-After: 1", b"slow down"),
        "unknown tools without end": (200, "application/json", calls(("delete_everything", "{}"), ("get_secret", '{"namespace": "kube-system"}'))),
        "broken arguments without end": (200, "application/json", calls(("list_events", '{"namespace": '), ("rollout_undo", "null"))),
        "only words": (200, "application/json", completion({"role": "assistant", "content": "I think it is DNS."}, "stop")),
        "a report with made-up proof": (200, "application/json", calls(("submit_report", json.dumps({
            "headline": "the database is down", "cause": "The database host is down.", "certainty": "proved", "citations": [{"evidence": "e1", "quote": "the database host is down"}],
            "ruled_out": [], "proposals": [{"tool": "rollout_undo", "kind": "Deployment", "namespace": "kube-system", "name": "coredns"}], "reasoning": []})))),
    }
    plot.write_logs(cluster)
    for number, (name, answer) in enumerate(kinds.items()):
        namespace = f"nonsense-{number}"
        plot.set_up(run, cluster, namespace)
        api, slack = run.start(Proxy(cluster.api, rewrite=only(namespace))), run.start(workspace(run))
        model = run.start(Proxy("http://127.0.0.1:1/v1"))
        model.rule(name, "POST", "/chat/completions", answer=answer, times=None)
        cluster.kubeconfig_for(kubeconfig, NAMESPACE, "firstlook", server=api.url)
        with firstlook(run, kubeconfig, slack=slack.api, model=model.url, name=namespace) as daemon:
            daemon.wait_synced()
            plot.break_it(cluster, namespace)
            assert daemon.alert(plot.alert(namespace)).status == 200
            card = slack.wait_for_card("checkout", "revision 2", without=("Looking further",))
            assert "database" not in card["plain"], f"{name}: an unproved claim is on the card:\n{card['plain']}"
            assert "coredns" not in json.dumps(card["buttons"]), f"{name}: a button outside the incident's scope"
            asked = len(model.requests("POST", "/chat/completions"))
            assert asked <= 40, f"{name}: {asked} paid requests for one incident"
            assert len(slack.cards()) == 1
            daemon.audit_verifies()


def a_model_that_never_comes_to_an_end_leaves_a_card_from_the_rules(run):
    """One that takes the question and says nothing, and one that drips a 200 for ever: each turn ends after turn_timeout_seconds."""
    cluster = run.cluster()
    kubeconfig = account(run, cluster)
    plot.write_logs(cluster)
    for name, drip in (("silent", b""), ("dripping", b" ")):
        namespace = f"model-{name}"
        plot.set_up(run, cluster, namespace)
        slack, model = run.start(workspace(run)), Endless(drip)
        run.story.callback(model.close)
        with firstlook(run, kubeconfig, slack=slack.api, model=model.url, name=namespace, extra={"model": {"turn_timeout_seconds": 3}}) as daemon:
            daemon.wait_synced()
            plot.break_it(cluster, namespace)
            assert daemon.alert(plot.alert(namespace)).status == 200
            slack.wait_for_card("checkout", "revision 2", without=("Looking further",))
            assert 1 <= model.asked <= 40, f"{name}: asked {model.asked} times"
            assert len(slack.cards()) == 1
            daemon.audit_verifies()


class Endless:
    """A model's server that never ends an answer: nothing at all, or a head and then a byte every tenth of a second."""

    def __init__(self, drip):
        self.asked, self.drip = 0, drip
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.asked += 1
            threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client):
        try:
            if self.drip:
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            while client.fileno() >= 0:
                if self.drip:
                    client.sendall(b"1\r\n" + self.drip + b"\r\n")
                elif not client.recv(1 << 16):
                    return
                time.sleep(0.1)
        except OSError:
            pass

    def close(self):
        self.listener.close()


def an_api_server_that_hangs_or_breaks_in_a_watch_delays_nothing(run):
    cluster = run.cluster()
    kubeconfig = account(run, cluster)
    plot.set_up(run, cluster, "api-broken")
    api, slack = run.start(Proxy(cluster.api, rewrite=only("api-broken"))), run.start(workspace(run))
    error = {"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "etcd is too old", "code": 500}}
    broken = api.rule("500 inside a watch", "GET", "watch=", answer=(200, "application/json", json.dumps(error).encode() + b"\n"), times=200)
    cluster.kubeconfig_for(kubeconfig, NAMESPACE, "firstlook", server=api.url)
    daemon = run.start(firstlook(run, kubeconfig, slack=slack.api))
    time.sleep(3)
    watches = 200 - broken.times
    assert watches < 150, f"it spins: {watches} watches in 3 s"
    broken.times = 0
    plot.break_it(cluster, "api-broken")
    hung = api.rule("hangs", "GET", "/log[?]|/events|/replicasets", when="before", times=None, not_path="watch=")
    began = time.monotonic()
    assert daemon.alert(plot.alert("api-broken")).status == 200
    slack.wait_for_card("checkout", timeout_s=20)
    print(f"     (card after {time.monotonic() - began:.2f} s while the API server hangs)", flush=True)
    hung.times = 0
    hung.drop()
    slack.wait_for_card("checkout", "revision 2")
    assert len(slack.cards()) == 1


def a_full_disk_refuses_with_5xx_and_loses_nothing(run):
    """The store on a small tmpfs that is filled up: what is answered 200 before is there after; what cannot be stored is a 5xx, which Alertmanager repeats."""
    cluster = run.cluster()
    kubeconfig = account(run, cluster)
    disk = run.work / "disk"
    disk.mkdir()
    mounted = run_tool(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False)
    if mounted.returncode != 0:
        raise CannotStart(f"tmpfs for the full disk: {mounted.stderr}")
    run.story.callback(lambda: run_tool(["umount", "-l", disk], check=False))
    slack = run.start(workspace(run))
    daemon = Daemon(run, kubeconfig, slack=slack.api, store=f"sqlite:{disk}/firstlook.db")
    run.story.callback(lambda: daemon.process.kill())
    daemon.start()
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as f:
        try:
            while f.write(b"x" * 4096):
                pass
        except OSError:
            pass  # full
    stored, refused = [], None
    for i in range(2000):
        answer = daemon.alert(body([one(pod=f"full-{i}", padding="x" * 900)]))
        if answer.status != 200:
            refused = answer
            break
        stored.append(i)
    assert refused is not None and refused.status in (500, 503, 507), f"{refused and refused.status} after {len(stored)} alerts on a full disk"
    filler.unlink()
    wait_until(lambda: daemon.alert(body([one(pod="after")])).status == 200, "the webhook to work again once there is room")
    daemon.kill()
    with sqlite3.connect(f"file:{disk}/firstlook.db?mode=ro", uri=True) as store:
        heard = " ".join(row[0] for row in store.execute("SELECT doc FROM signal"))
    lost = [i for i in stored if f'"full-{i}"' not in heard]
    assert not lost and '"after"' in heard, f"{len(lost)} of {len(stored)} alerts that got 200 are not in the store: {lost[:10]}"
    daemon.start()
    daemon.audit_verifies()
    daemon.no_panic()


def a_configuration_that_cannot_work_says_what_to_do(run):
    cluster = run.cluster()
    kubeconfig = account(run, cluster)
    cases = {
        "an unknown key": (dict(extra={"model_name": "x"}), "model_name"),
        "a listener in the open": (dict(extra={"listeners": {"webhook": {"address": "0.0.0.0:0"}}}), "bearer_token_file"),
        "a policy of another kind": (dict(policy={"approvers": [{"who": "me"}]}), "policy"),
        "a store that is no database": (dict(store="redis://x"), "store"),
    }
    for number, (name, (options, word)) in enumerate(cases.items()):
        daemon = Daemon(run, kubeconfig, name=f"config-{number}", **options)
        done = run_tool([run.binary, "run", "--config", daemon.config], check=False)
        assert done.returncode in (1, 2), f"{name}: exit {done.returncode}"
        assert word in done.stderr, f"{name}: {done.stderr}"
        assert SIGNING_SECRET not in done.stderr and WEBHOOK_TOKEN not in done.stderr
    second = Daemon(run, kubeconfig, name="config-second")
    second.start()
    run.story.callback(lambda: second.process.kill())
    done = run_tool([run.binary, "run", "--config", second.config], check=False)
    assert done.returncode == 1 and done.stderr.strip(), "a second daemon on the same store must refuse by name"
