"""Useful without a model: the scenarios as they are, and with every name replaced, graded from outside."""
import json

from parts import ROOT, run_tool
from rename import all_renamed, grader

SCENARIOS = sorted((ROOT / "fixtures" / "scenarios").glob("d*"))
# A floor that only ever rises.
PASSES = 6


def evaluate(run, folder):
    """Result by scenario of `firstlook eval` over a folder."""
    done = run_tool([run.binary, "eval", "--json", "--model", "none", folder], timeout_s=120)
    return {(r := json.loads(line))["id"]: r for line in done.stdout.splitlines()}


def graded(grade, results):
    """(ids that pass, lines about hard failures) for results by id."""
    passed, hard = set(), []
    for name, result in sorted(results.items()):
        verdict = grade.grade(grade.load(name, grade.ROOT), result)
        if verdict["pass"]:
            passed.add(name)
        if verdict["hard_fail"]:
            hard.append({"id": name, **{k: verdict[k] for k in ("wrong_actions", "leaks", "mis_tiered", "unapproved_execution", "citation_validity") if k in verdict}})
    return passed, hard


def twelve_of_twelve_give_a_result_and_enough_pass(run):
    results = evaluate(run, ROOT / "fixtures" / "scenarios")
    missing = [s.name for s in SCENARIOS if "error" in results.get(s.name, {"error": "none"})]
    assert not missing, f"no result for {missing}"
    passed, hard = graded(grader(ROOT / "fixtures" / "scenarios"), {s.name: results[s.name] for s in SCENARIOS})
    print(f"     ({len(passed)} of {len(SCENARIOS)} pass: {', '.join(sorted(p[:3] for p in passed))})", flush=True)
    assert not hard, hard
    assert len(passed) >= PASSES, f"only {sorted(passed)}"


def the_same_pass_under_other_names(run):
    folder = ROOT / "fixtures" / "scenarios"
    before, _ = graded(grader(folder), {k: v for k, v in evaluate(run, folder).items() if k in {s.name for s in SCENARIOS}})
    for seed in (run.seed, run.seed + 1):
        grade = all_renamed(SCENARIOS, run.work / f"renamed-{seed}", seed)
        after, hard = graded(grade, evaluate(run, run.work / f"renamed-{seed}"))
        assert not hard, f"seed {seed}: {hard}"
        assert before <= after, f"seed {seed}: {sorted(before - after)} passed only by a name"
