"""Useful without a model: every scenario as it is, and with every name replaced, graded from outside."""
import json
import os
import time

from chat import ChatServer
from parts import ROOT, run_tool
from rename import all_renamed, grader

FOLDER = ROOT / "fixtures" / "scenarios"
# Every folder that says what a right answer is.
SCENARIOS = sorted(truth.parent for truth in FOLDER.glob("*/truth.json"))
# Two of them for a model of one's own, and what it is called there.
ASKED, NAME, KEY = [FOLDER / "bad-image-rollout", FOLDER / "oom-loop"], "our-own-model", "sk-our-own-key-0123456789"
# A scenario whose notes say so, with the reason, may stay unsolved by rules alone; never more than this many.
MARK, MARKED_MAX = "needs a model", 6


def evaluate(run, folder):
    """Result by scenario of `firstlook eval` over a folder."""
    done = run_tool([run.binary, "eval", "--json", "--model", "none", folder])
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


class Undecided(ChatServer):
    """Has only words, after a while: then the findings speak alone."""

    def __init__(self, thinks_s=0):
        super().__init__()
        self.thinks_s = thinks_s

    def message(self, body):
        time.sleep(self.thinks_s)
        return {"role": "assistant", "content": "I cannot tell."}


def asked(run, model, *options):
    """What `firstlook eval` prints of two scenarios with this model, and what each came to."""
    argv = [run.binary, "eval", "--json", "--model", model.url, "--model-name", NAME, *options, *ASKED]
    done = run_tool(argv, env={**os.environ, "FIRSTLOOK_MODEL_API_KEY": KEY})
    assert KEY not in done.stdout + done.stderr, "the key is in no output"
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(r["id"] for r in results) == sorted(folder.name for folder in ASKED), results
    assert not [r for r in results if "error" in r], results
    return results


def a_model_of_ones_own_is_asked_under_its_name_with_its_key_and_what_it_used_is_told(run):
    with Undecided() as model:
        results = asked(run, model)
    assert len(model.requests) >= len(ASKED), model.requests
    assert {body["model"] for body in model.requests} == {NAME}
    assert set(model.logins) == {f"Bearer {KEY}"}, model.logins
    used = [sum(r["usage"][kind] for r in results) for kind in ("input_tokens", "output_tokens")]
    told = [len(model.requests) * model.usage[kind] for kind in ("prompt_tokens", "completion_tokens")]
    assert used == told, f"{used}, and the model counted {told}"


def a_model_that_takes_longer_than_it_may_is_not_waited_for(run):
    with Undecided(thinks_s=30) as model:
        began = time.monotonic()
        results = asked(run, model, "--turn-timeout", "1s")
        took = time.monotonic() - began
    assert took < 20, f"{took:.0f} s"
    assert len(model.requests) >= len(ASKED) and not any(r["usage"]["output_tokens"] for r in results), results
