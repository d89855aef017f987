"""Useful without a model: every scenario as it is, and with every name replaced, graded from outside."""
import json

from parts import ROOT, run_tool
from rename import all_renamed, grader

FOLDER = ROOT / "fixtures" / "scenarios"
# Every folder that says what a right answer is.
SCENARIOS = sorted(truth.parent for truth in FOLDER.glob("*/truth.json"))
# A scenario whose notes say so, with the reason, may stay unsolved by rules alone; never more than this many.
MARK, MARKED_MAX = "needs a model", 6


def evaluate(run, folder):
    """Result by scenario of `firstlook eval` over a folder."""
    done = run_tool([run.binary, "eval", "--json", "--model", "none", folder], timeout_s=120)
    return {(r := json.loads(line))["id"]: r for line in done.stdout.splitlines()}


def graded(grade, results):
    """(ids that pass, lines about hard failures and wrong numbers of incidents) for results by id."""
    passed, hard = set(), []
    for name, result in sorted(results.items()):
        if "error" in result:
            hard.append({"id": name, "error": result["error"]})
            continue
        verdict = grade.grade(grade.load(name, grade.ROOT), result)
        if verdict["pass"]:
            passed.add(name)
        if verdict["hard_fail"] or not verdict.get("incidents_ok", True):
            shown = ("incidents_ok", "wrong_actions", "leaks", "mis_tiered", "unapproved_execution", "citation_validity")
            hard.append({"id": name, **{k: verdict[k] for k in shown if k in verdict}})
    return passed, hard


def marked():
    """Scenarios that only a model is expected to solve."""
    return {s.name for s in SCENARIOS if MARK in json.loads((s / "truth.json").read_text())["notes"].lower()}


def every_scenario_is_consistent(run):
    grade = grader(FOLDER)
    problems = {s.name: errors for s in SCENARIOS if (errors := grade.validate(s.name, FOLDER))}
    assert not problems, problems


def every_scenario_passes_or_says_that_it_needs_a_model(run):
    results = evaluate(run, FOLDER)
    missing = [s.name for s in SCENARIOS if s.name not in results]
    assert not missing, f"no result for {missing}"
    passed, hard = graded(grader(FOLDER), {s.name: results[s.name] for s in SCENARIOS})
    print(f"     ({len(passed)} of {len(SCENARIOS)} pass, {len(marked())} need a model)", flush=True)
    assert not hard, hard
    failed = {s.name for s in SCENARIOS} - passed - marked()
    assert not failed, f"fail without a model: {sorted(failed)}"
    assert len(marked()) <= MARKED_MAX, sorted(marked())


def the_same_pass_under_other_names(run):
    results = evaluate(run, FOLDER)
    before, _ = graded(grader(FOLDER), {s.name: results[s.name] for s in SCENARIOS})
    for seed in (run.seed, run.seed + 1):
        grade = all_renamed(SCENARIOS, run.work / f"renamed-{seed}", seed)
        after, hard = graded(grade, evaluate(run, run.work / f"renamed-{seed}"))
        assert not hard, f"seed {seed}: {hard}"
        assert before <= after, f"seed {seed}: {sorted(before - after)} passed only by a name"
