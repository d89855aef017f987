"""An HTTP proxy that a story puts before the API server, Slack or the model: it counts, holds, breaks or invents answers.

It runs in a thread of its own and speaks plain HTTP/1.1 to firstlook, TLS to the upstream where that wants it. Each
request gets a connection of its own (`Connection: close`), so watches stream through untouched.
"""
import asyncio
import json
import re
import ssl
import threading
import time
import urllib.parse
from dataclasses import dataclass, field


@dataclass
class Seen:
    """One request that came by, and what became of it; `status` is None until the upstream has answered."""
    method: str
    path: str
    body: bytes
    at: float
    status: int | None = None

    def json(self):
        return json.loads(self.body or b"null")


@dataclass
class Rule:
    """What to do with the requests that match.

    when `before`: keep the request back; it has not reached the upstream. `after`: the upstream has accepted it and has
    answered; keep the answer back. `hit` is set when a request is being held; `release()` lets it go, `drop()` breaks its
    connection. With `answer` (status, content type, body; more header
    lines may follow the content type) the request never reaches the upstream at all. A rule with `since`
    sleeps until that returns true.
    """
    name: str
    method: str
    path: re.Pattern
    when: str = "after"
    body: re.Pattern | None = None
    not_path: re.Pattern | None = None
    since: object = None
    answer: tuple | None = None
    times: int | None = 1
    hit: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    dropped: bool = False

    def matches(self, seen):
        return (self.times != 0 and (self.since is None or self.since()) and self.method in (seen.method, "*") and bool(self.path.search(seen.path))
                and not (self.not_path and self.not_path.search(seen.path))
                and (self.body is None or bool(self.body.search(seen.body.decode(errors="replace")))))

    def release(self):
        self.go.set()

    def drop(self):
        self.dropped = True
        self.go.set()


class Proxy:
    """A context manager; `url` is what firstlook is told instead of `upstream`."""

    def __init__(self, upstream, rewrite=lambda path: path):
        at = urllib.parse.urlsplit(upstream)
        self.host, self.port, self.base = at.hostname, at.port or (443 if at.scheme == "https" else 80), at.path.rstrip("/")
        self.tls = ssl._create_unverified_context() if at.scheme == "https" else None
        self.rewrite = rewrite
        self.seen, self.rules, self.lock = [], [], threading.RLock()
        self.loop = asyncio.new_event_loop()
        self.tasks = set()  # asyncio itself holds its tasks only weakly
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.ready = threading.Event()

    def __enter__(self):
        self.thread.start()
        self.ready.wait()
        return self

    def __exit__(self, *_):
        for rule in self.rules:
            rule.drop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def rule(self, name, method, path, **options):
        """Adds a rule; the first that matches a request is taken."""
        for key in ("body", "not_path"):
            if isinstance(options.get(key), str):
                options[key] = re.compile(options[key])
        made = Rule(name, method, re.compile(path), **options)
        with self.lock:
            self.rules.append(made)
        return made

    def requests(self, method, path, not_path=None):
        """What came by so far."""
        with self.lock:
            return [s for s in self.seen if s.method == method and re.search(path, s.path) and not (not_path and re.search(not_path, s.path))]

    # --- inside the thread ---

    def _run(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{self.base}"
        self.ready.set()
        self.loop.run_forever()
        server.close()
        self.loop.set_exception_handler(lambda *_: None)
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.close()

    async def _serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            method, path, _ = lines[0].split(" ", 2)
            headers = [line.split(": ", 1) for line in lines[1:] if ": " in line]
            length = next((int(v) for k, v in headers if k.lower() == "content-length"), 0)
            seen = Seen(method, self.rewrite(path), await reader.readexactly(length), time.monotonic())
            rule = self._take(seen)
            if rule and rule.when == "before":
                await self._hold(rule)
            if rule and rule.dropped:
                return
            if rule and rule.answer:
                status, kind, body = rule.answer
                seen.status = status
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
                await writer.drain()
                return
            forward, gone = (self.loop.create_task(c) for c in (self._forward(seen, headers, writer, rule), reader.read(1)))
            self.tasks |= {forward, gone}
            _, rest = await asyncio.wait({forward, gone}, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            await asyncio.gather(forward, gone, return_exceptions=True)
            self.tasks -= {forward, gone}
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side went away, which is what stories are about
        finally:
            writer.close()
            self.tasks.discard(asyncio.current_task())

    def _take(self, seen):
        with self.lock:
            self.seen.append(seen)
            for rule in self.rules:
                if rule.matches(seen):
                    if rule.times is not None:
                        rule.times -= 1
                    return rule
        return None

    async def _hold(self, rule):
        rule.hit.set()
        while not rule.go.is_set():
            await asyncio.sleep(0.005)

    async def _forward(self, seen, headers, writer, rule):
        up_reader, up_writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls, limit=2**24)
        try:
            kept = [(k, v) for k, v in headers if k.lower() not in ("connection", "host")]
            lines = [f"{seen.method} {seen.path} HTTP/1.1", f"Host: {self.host}:{self.port}", "Connection: close"] + [f"{k}: {v}" for k, v in kept]
            up_writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + seen.body)
            await up_writer.drain()
            head = await up_reader.readuntil(b"\r\n\r\n")
            seen.status = int(head.split(b" ", 2)[1])
            if rule and rule.when == "after":
                # The upstream has done it and said so; firstlook does not hear of it yet.
                rest = await up_reader.read()
                await self._hold(rule)
                if rule.dropped:
                    return
                writer.write(with_close(head) + rest)
                await writer.drain()
                return
            writer.write(with_close(head))
            while chunk := await up_reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        finally:
            up_writer.close()


def only(namespace):
    """Rewrites cluster-wide lists and watches of namespaced kinds to one namespace: several stories share a cluster in peace."""
    kinds = "pods|events|deployments|replicasets|statefulsets|daemonsets|jobs|cronjobs|services|endpointslices|ingresses|persistentvolumeclaims"
    pattern = re.compile(rf"^(/api/v1|/apis/[^/]+/[^/]+)/({kinds})(?=\?|$)")
    return lambda path: pattern.sub(rf"\1/namespaces/{namespace}/\2", path)


def with_close(head):
    """The response's head with `Connection: close`, whatever it said before."""
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join(lines + [b"Connection: close"]) + b"\r\n\r\n"
