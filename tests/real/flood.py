"""An API server and a Prometheus that answer with far too much: a log without end, a 3 MB list, a pod of 200 containers, 10,000 series.

Everything is made up as it is sent; what matters in it is one line, one workload, one container, one series.
"""
import json
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

NAMESPACE = "flood"
SIGNAL = 'could not open "/etc/app/rates.yaml": permission denied'
CULPRIT = "c150"
SERIES, WORKLOADS = 10_000, 700


def stamp(at):
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def log_lines(size):
    """Chunks of a log of `size` bytes, a line each 10 ms: requests that are all alike, visits that never are, and once, after a quarter, the signal."""
    at, number, sent, told = datetime.now(timezone.utc) - timedelta(hours=3), 0, 0, False
    while sent < size:
        lines = []
        for _ in range(2_000):
            number += 1
            at += timedelta(milliseconds=10)
            word = "".join(chr(97 + int(digit)) for digit in str(number))
            if number % 50:
                lines.append(f"{stamp(at)} level=info msg=\"request done\" path=/items/{number} status=200 took={number % 97}ms id=3f9a{number:08x}")
            else:
                lines.append(f"{stamp(at)} level=info msg=\"visit of {word} ends\" pages={number % 13}")
        if not told and sent > size // 4:
            told = True
            lines.append(f"{stamp(at)} {SIGNAL}")
        chunk = ("\n".join(lines) + "\n").encode()
        sent += len(chunk)
        yield chunk


def pod():
    """A pod of 200 containers of which one crashes."""
    containers = [{"name": f"c{n}", "image": f"registry.test/sidecar-{n}:1.0", "env": [{"name": f"SETTING_{i}", "value": "x" * 40} for i in range(4)]} for n in range(200)]

    def status(n):
        if f"c{n}" == CULPRIT:
            return {"name": CULPRIT, "ready": False, "restartCount": 7, "image": "registry.test/x", "imageID": "", "started": False,
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}},
                    "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:03Z"}}}
        return {"name": f"c{n}", "ready": True, "restartCount": 0, "image": "registry.test/x", "imageID": "", "started": True,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "lastState": {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": NAMESPACE, "name": "many-0", "uid": "5b1d8ba1-8e4f-4b8e-9f0a-000000000001",
                                                            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "many"}},
            "spec": {"nodeName": "n1", "containers": containers},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
                       "containerStatuses": [status(n) for n in range(200)]}}


def workload(n):
    """A Deployment of some 4.5 KB; one of them is short of pods."""
    ready = 1 if n == 613 else 2
    env = [{"name": f"SETTING_{i}", "value": "y" * 60} for i in range(36)]
    return {"metadata": {"namespace": NAMESPACE, "name": f"workload-{n}", "uid": f"5b1d8ba1-8e4f-4b8e-9f0a-{n:012d}", "generation": 1,
                         "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": str(n + 1)},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": f"w{n}"}},
                     "template": {"metadata": {"labels": {"app": f"w{n}"}}, "spec": {"containers": [{"name": "api", "image": f"registry.test/w{n}:1", "env": env}]}}},
            "status": {"replicas": 2, "readyReplicas": ready, "availableReplicas": ready, "updatedReplicas": 2, "observedGeneration": 1}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, chunks, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True  # the client has read enough

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/api/v1/query_range"):
            return self.stream(self.series(parse_qs(body.decode())), "application/json")
        if "selfsubjectaccessreviews" in self.path:
            return self.answer({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}, "status": {"allowed": True}}, 201)
        return self.answer({"kind": "Status", "code": 404, "message": "not found", "reason": "NotFound"}, 404)

    def do_GET(self):
        at, asked = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
        if at.path == "/version":
            return self.answer({"gitVersion": "v1.36.3", "major": "1", "minor": "36"})
        if at.path.endswith("/pods/many-0/log"):
            if asked.get("container") != [CULPRIT] or asked.get("previous") == ["true"]:
                return self.stream([f"{stamp(datetime.now(timezone.utc))} ready\n".encode()], "text/plain")
            if tail := asked.get("tailLines"):
                end = datetime.now(timezone.utc)
                lines = [f"{stamp(end - timedelta(milliseconds=10 * n))} level=info msg=\"request done\" path=/items/{n} status=200" for n in range(int(tail[0]), 0, -1)]
                return self.stream([("\n".join(lines) + "\n").encode()], "text/plain")
            return self.stream(log_lines(self.server.log_bytes), "text/plain")
        if at.path.endswith("/pods/many-0"):
            return self.answer(pod())
        if asked.get("watch"):
            # Nothing ever happens here; the watch lasts as long as it is asked for.
            return self.stream(self.server.until_stopped(), "application/json")
        name = at.path.rstrip("/").rsplit("/", 1)[1]
        items = [workload(n) for n in range(WORKLOADS)] if name == "deployments" and NAMESPACE in at.path else []
        if "/namespaces/" in at.path and at.path.count("/") > 6 and name not in ("deployments",) or at.path.endswith("/namespaces/" + NAMESPACE):
            return self.answer({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        return self.answer({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})

    def series(self, form):
        start, end, step = (float(form[key][0]) for key in ("start", "end", "step"))
        times = [start + i * step for i in range(int((end - start) / step) + 1)]
        yield b'{"status":"success","data":{"resultType":"matrix","result":['
        for n in range(SERIES):
            values = [[t, str(900 if n == 7_777 and i > len(times) // 2 else 5 + (n + i * 7) % 3)] for i, t in enumerate(times)]
            yield (b"," if n else b"") + json.dumps({"metric": {"__name__": "queue_length", "namespace": NAMESPACE, "pod": f"pod-{n}"}, "values": values}).encode()
        yield b"]}}"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    stopped = threading.Event()

    def until_stopped(self):
        while not self.stopped.wait(1):
            pass
        yield b""


@contextmanager
def flood(log_bytes):
    """The URL of both servers in one."""
    server = Server(("127.0.0.1", 0), Handler)
    server.log_bytes = log_bytes
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
