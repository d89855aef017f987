"""An API server with as many pods as one asks for, made while they are served: what the watches of a large cluster cost.

Every list is paged as asked, every watch stays open; pods change and leases are renewed as they are in a cluster of that size.
Nothing in it is in trouble. A pod has the 7 KB that real ones have, a third of it managedFields.
"""
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PODS_PER_WORKLOAD, PODS_PER_NODE, NAMESPACE_OF = 5, 50, 200
# Changes of pods in a second for each thousand pods: rollouts, autoscalers and probes of a busy cluster.
PODS_CHANGED_PER_THOUSAND = 2
RENEWED_EVERY_S = 10
BORN = "2026-01-01T00:00:00Z"
LABELS = {"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/version": "2.14.3", "team": "payments", "tier": "backend"}


def fields(*paths):
    """A managedFields tree as the API server writes it."""
    return {p: {f'k:{{"name":"part-{i}"}}': {".": {}, "f:name": {}, "f:image": {}, "f:resources": {".": {}, "f:limits": {}}} for i in range(6)} for p in paths}


def metadata(name, namespace=None, **more):
    wrote = [{"manager": m, "operation": "Update", "apiVersion": "v1", "time": BORN, "fieldsType": "FieldsV1", "fieldsV1": fields("f:metadata", "f:spec")}
             for m in ("kube-controller-manager", "kubelet")]
    return {"name": name, **({"namespace": namespace} if namespace else {}), "uid": f"uid-{name}", "resourceVersion": "VERSION", "creationTimestamp": BORN,
            "labels": LABELS, "annotations": {"prometheus.io/scrape": "true", "checksum/config": "9b2cf54b3a1c6b1e0e1de7d2d3a5a0c4f7a9f0aa"}, "managedFields": wrote, **more}


def containers():
    return [{"name": name, "image": f"registry.example/shop/{name}:2.14.3", "args": ["--listen=:8080", "--log=json"],
             "env": [{"name": f"SETTING_{i}", "value": f"value-{i}"} for i in range(12)] + [{"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "CONFIG", "key": "level"}}}],
             "resources": {"limits": {"cpu": "500m", "memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
             "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080}}, "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
             "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}]} for name in ("app", "proxy")]


def template():
    return {"metadata": {"labels": LABELS}, "spec": {"containers": containers(), "volumes": [{"name": "config", "configMap": {"name": "CONFIG"}}]}}


def owner(kind, name):
    return [{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": f"uid-{name}", "controller": True, "blockOwnerDeletion": True}]


CONDITIONS = [{"type": t, "status": "True", "lastProbeTime": None, "lastTransitionTime": BORN} for t in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")]
STATUSES = [{"name": name, "ready": True, "started": True, "restartCount": 0, "image": f"registry.example/shop/{name}:2.14.3", "imageID": "sha256:" + "9b2cf54b" * 8,
             "containerID": "containerd://" + "0f1e2d3c" * 8, "lastState": {}, "state": {"running": {"startedAt": BORN}}} for name in ("app", "proxy")]
POD = {"metadata": metadata("web-W-5d4f8c7b9-P", "NS", ownerReferences=owner("ReplicaSet", "web-W-5d4f8c7b9")), "spec": {**template()["spec"], "nodeName": "NODE"},
       "status": {"phase": "Running", "conditions": CONDITIONS, "containerStatuses": STATUSES, "podIP": "10.0.0.1", "qosClass": "Burstable", "startTime": BORN}}
REVISION = {"deployment.kubernetes.io/revision": "3"}


class Kinds:
    """plural -> (apiVersion, kind, how many, the text of number i)."""

    def __init__(self, pods):
        workloads, nodes = max(1, pods // PODS_PER_WORKLOAD), max(1, pods // PODS_PER_NODE)
        spec = {"replicas": PODS_PER_WORKLOAD, "selector": {"matchLabels": LABELS}, "template": template()}
        ready = {"replicas": PODS_PER_WORKLOAD, "readyReplicas": PODS_PER_WORKLOAD, "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}
        endpoint = {"addresses": ["10.0.0.1"], "conditions": {"ready": True, "serving": True, "terminating": False}, "nodeName": "NODE", "targetRef": {"kind": "Pod", "name": "web-W-5d4f8c7b9-P", "namespace": "NS"}}
        self.of = {
            "pods": ("v1", "Pod", pods, POD),
            "nodes": ("v1", "Node", nodes, {"metadata": metadata("node-P"), "status": {"conditions": [{"type": "Ready", "status": "True"}], "images": [{"names": [f"registry.example/{i}" for i in range(40)]}]}}),
            "leases": ("coordination.k8s.io/v1", "Lease", nodes, {"metadata": metadata("node-P", "kube-node-lease"), "spec": {"holderIdentity": "node-P", "renewTime": "NOW"}}),
            "deployments": ("apps/v1", "Deployment", workloads, {"metadata": metadata("web-P", "NS"), "spec": spec, "status": ready}),
            # Two of three are of earlier revisions.
            "replicasets": ("apps/v1", "ReplicaSet", 3 * workloads, {"metadata": metadata("web-R-P", "NS", ownerReferences=owner("Deployment", "web-R"), annotations=REVISION), "spec": spec}),
            "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice", workloads, {"metadata": metadata("web-P-abcde", "NS", labels={"kubernetes.io/service-name": "web-P"}), "endpoints": [endpoint] * PODS_PER_WORKLOAD}),
            "services": ("v1", "Service", workloads, {"metadata": metadata("web-P", "NS"), "spec": {"selector": LABELS, "clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
            "configmaps": ("v1", "ConfigMap", 2 * workloads, {"metadata": metadata("web-P", "NS"), "data": {"level": "info", "application.yaml": "\n".join(f"setting.{i}: value-{i}" for i in range(60))}}),
            "ingresses": ("networking.k8s.io/v1", "Ingress", workloads // 4, {"metadata": metadata("web-P", "NS"), "spec": {"rules": [{"host": "web-P.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web-P", "port": {"number": 80}}}}]}}]}}),
            "horizontalpodautoscalers": ("autoscaling/v2", "HorizontalPodAutoscaler", workloads // 4, {"metadata": metadata("web-P", "NS"), "spec": {"minReplicas": 2, "maxReplicas": 20, "scaleTargetRef": {"kind": "Deployment", "name": "web-P"}}, "status": {"conditions": []}}),
            "persistentvolumeclaims": ("v1", "PersistentVolumeClaim", workloads // 10, {"metadata": metadata("data-P", "NS"), "spec": {}, "status": {"phase": "Bound"}}),
        }
        self.of = {plural: (version, kind, count, json.dumps({"apiVersion": version, "kind": kind, **body})) for plural, (version, kind, count, body) in self.of.items()}

        self.brief = {plural: json.dumps({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": json.loads(text)["metadata"]}) for plural, (_, _, _, text) in self.of.items()}

    def text(self, plural, i, version, brief=False):
        """Object number i as the API server would send it, or its metadata alone."""
        place = i * PODS_PER_WORKLOAD if plural not in ("pods", "nodes", "leases") else i
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1000 % 1000000:06}Z"
        text = self.brief[plural] if brief else self.of[plural][3]
        for word, value in (("-W-", f"-{place // PODS_PER_WORKLOAD}-"), ("-R", f"-{i // 3}"), ("NODE", f"node-{place // PODS_PER_NODE}"), ("NS", f"shop-{place // NAMESPACE_OF}"), ("VERSION", str(version)), ("CONFIG", f"web-{place // PODS_PER_WORKLOAD}"), ("NOW", now)):
            text = text.replace(word, value)
        return text.replace("-P", f"-{i}")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        asked, path = {k: v[0] for k, v in parse_qs(url.query).items()}, url.path.strip("/").split("/")
        kinds, plural = self.server.kinds, path[-1]
        if plural not in kinds.of and path[-2:-1] and path[-2] in kinds.of:
            number = path[-1].rsplit("-", 1)[-1]
            return self.json(kinds.text(path[-2], int(number), 1000)) if number.isdigit() else self.missing()
        if asked.get("watch") == "true":
            return self.watch(plural)
        if plural not in kinds.of:
            if path[-2:-1] == ["namespaces"] or "validatingadmission" in url.path:
                return self.missing()
            return self.json('{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":"1000"},"items":[]}')
        version, kind, count, _ = kinds.of[plural]
        first = int(asked.get("continue") or 0)
        last = min(count, first + int(asked.get("limit") or count))
        brief = self.brief()
        if brief:
            version, kind = "meta.k8s.io/v1", "PartialObjectMetadata"
        items = ",".join(kinds.text(plural, i, 1000, brief) for i in range(first, last))
        more = f',"continue":"{last}"' if last < count else ""
        self.json(f'{{"apiVersion":"{version}","kind":"{kind}List","metadata":{{"resourceVersion":"1000"{more}}},"items":[{items}]}}')

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        self.json(json.dumps({**body, "status": {"allowed": True}}), 201)

    def brief(self):
        return "PartialObjectMetadata" in self.headers.get("Accept", "")

    def missing(self):
        self.json('{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not found","reason":"NotFound","code":404}', 404)

    def json(self, text, status=200):
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def watch(self, plural):
        """Changes at the pace of a cluster of this size, else silence."""
        kinds, (_, _, count, _) = self.server.kinds, self.server.kinds.of.get(plural, (0, 0, 0, 0))
        pace = {"pods": count * PODS_CHANGED_PER_THOUSAND / 1000, "endpointslices": count * PODS_CHANGED_PER_THOUSAND / 1000, "leases": count / RENEWED_EVERY_S}.get(plural, 0)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        version, turn, brief = 1000, 0, self.brief()
        try:
            while not self.server.over.wait(1.0):
                for _ in range(int(pace)):
                    version, turn = version + 1, (turn + 1) % count
                    line = ('{"type":"MODIFIED","object":' + kinds.text(plural, turn, version, brief) + "}\n").encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
        except OSError:
            pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, pods):
        super().__init__(("127.0.0.1", 0), Handler)
        self.kinds, self.over = Kinds(pods), threading.Event()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __exit__(self, *_):
        self.over.set()
        self.shutdown()
        self.server_close()
