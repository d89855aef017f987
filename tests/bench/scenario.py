"""A cluster with many bad rollouts at once, made of renamed copies of one scenario."""
import hashlib
import json
import re
import shutil

from parts import ROOT
from rename import renamed

SOURCE = ROOT / "fixtures" / "scenarios" / "d12-bad-image-rollout"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# resourceVersions of one copy lie below this, so that copies do not overlap.
VERSIONS = 10_000_000


def in_one_namespace(folder, copies):
    """The same with all of them in one namespace: its name, and how many pods are in it."""
    make(folder, copies)
    file = folder / "cluster.json"
    text = file.read_text()
    (first, *others) = dict.fromkeys(item["metadata"]["namespace"] for item in json.loads(text)["items"] if item["kind"] == "Pod")
    for other in others:
        text = text.replace(f'"namespace": "{other}"', f'"namespace": "{first}"')
    file.write_text(text)
    for log in folder.glob("logs/*/"):
        if log.name in others:
            shutil.copytree(log, folder / "logs" / first, dirs_exist_ok=True)
    return first, sum(item["kind"] == "Pod" for item in json.loads(text)["items"])


def make(folder, copies):
    """Writes `cluster.json` and `logs/` of `copies` broken Deployments; the alert bodies of each copy."""
    shutil.rmtree(folder, ignore_errors=True)
    items, alerts, seen = [], [], set()
    for number in range(copies):
        copy = folder / f"copy-{number}"
        renamed(SOURCE, copy, f"bench-{number}")
        text = UUID.sub(lambda m: unlike(m[0], number), (copy / "cluster.json").read_text())
        cluster = json.loads(text)
        for item in cluster["items"]:
            metadata = item["metadata"]
            key = (item["kind"], metadata.get("namespace"), metadata["name"])
            if key not in seen:  # what Kubernetes itself names is in every copy
                seen.add(key)
                metadata["resourceVersion"] = str(number * VERSIONS + int(metadata["resourceVersion"]))
                items.append(item)
        shutil.copytree(copy / "logs", folder / "logs", dirs_exist_ok=True)
        alerts.append([json.loads(p.read_text()) for p in sorted(copy.glob("alert*.json"))])
        shutil.rmtree(copy)
    cluster["items"] = items
    (folder / "cluster.json").write_text(json.dumps(cluster))
    return alerts


def unlike(uuid, number):
    """The same uuid for the same copy, another one for every other."""
    digest = hashlib.sha256(f"{number} {uuid}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
