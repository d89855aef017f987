"""Scenarios with every name and namespace replaced at random: what is right by general rules stays right, what knew a name does not."""
import importlib.util
import json
import random
import re
import shutil
from pathlib import Path

from parts import ROOT

# Names that Kubernetes itself or Argo CD gives, and that code may know.
SYSTEM = re.compile(r"default|argocd|kube-.*|system:.*|coredns|kubernetes|cluster-admin|admin|edit|view")
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


def grader(folder):
    """grade.py as a module that looks for scenarios in `folder`."""
    spec = importlib.util.spec_from_file_location("grade", ROOT / "tests" / "grade.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ROOT = str(folder)
    return module


def new_word(chance, taken):
    """A word that means nothing and is no other name."""
    while True:
        word = "".join(chance.choice(CONSONANTS) + chance.choice(VOWELS) for _ in range(chance.randint(3, 5)))
        if word not in taken:
            taken.add(word)
            return word


def mapping(scenario, chance):
    """Old name -> new name, for what a person named: namespaces, and objects without an owner."""
    names, taken = set(), set()
    for item in json.loads((scenario / "cluster.json").read_text())["items"]:
        metadata = item["metadata"]
        if item["kind"] == "Event" or metadata.get("ownerReferences"):
            continue
        names |= {metadata["name"], metadata.get("namespace") or metadata["name"]}
    new = {}
    for name in sorted((n for n in names if not SYSTEM.fullmatch(n)), key=lambda n: (len(n), n)):
        # Names that resemble each other may be the fault itself: what began with another name still does.
        root = next((n for n in sorted(new, key=len, reverse=True) if name.startswith(n) and len(n) * 2 > len(name)), None)
        new[name] = new[root] + name[len(root):] if root else new_word(chance, taken)
    return new


def renamed(scenario, target, seed):
    """Copies `scenario` to the folder `target` with other names in every file and path."""
    names = mapping(scenario, random.Random(seed))
    # Longest first; a name counts where no letter or digit touches it, so that `api` is found in `api-7f9c-x2lkq` and not in `rapid`.
    # truth.json holds names in regular expressions too, as JSON writes them: `a\\-b`, `\\bname\\b`.
    alternatives = "|".join(re.escape(n).replace("\\-", r"(?:\\\\)?-") for n in sorted(names, key=len, reverse=True))
    pattern = re.compile(rf"(?:(?<![A-Za-z0-9])|(?<=\\\\b))({alternatives})(?![A-Za-z0-9])")

    def replaced(text):
        return pattern.sub(lambda m: names[m[1].replace("\\", "")], text)
    fingerprint = grader(target.parent).fingerprint
    for path in sorted(p for p in scenario.rglob("*") if p.is_file()):
        to = target / replaced(str(path.relative_to(scenario)))
        to.parent.mkdir(parents=True, exist_ok=True)
        text = replaced(path.read_text())
        if path.name.startswith("alert") and path.suffix == ".json":
            body = json.loads(text)
            for alert in body["alerts"]:
                alert["fingerprint"] = fingerprint(alert["labels"])
            text = json.dumps(body, indent=1)
        if path.name == "truth.json":
            text = json.dumps({**json.loads(text), "id": target.name}, indent=1)
        to.write_text(text)


def all_renamed(scenarios, folder, seed):
    """Every scenario renamed, in `folder`; the grader that reads them there."""
    shutil.rmtree(folder, ignore_errors=True)
    for scenario in scenarios:
        renamed(scenario, Path(folder) / scenario.name, f"{seed}-{scenario.name}")
    return grader(folder)
