"""Requests for leave on the real control plane: they end by themselves when the world changes or time runs out, and a standing leave counts for its person."""
import json
import time

import plot
from daemon import firstlook
from identities import NAMESPACE, install
from parts import wait_until
from workspace import ONCALL, ONCALL_GROUP, send_signed, workspace

EVERYONE = {"who": [f"group:{ONCALL_GROUP}"], "tiers": ["reversible"], "namespaces": ["*"]}


def a_fix_by_hand_withdraws_the_request_and_asks_no_model(run):
    cluster, slack, model, daemon = begin(run, "leave-fixed", with_model=True)
    plot.break_it(cluster, "leave-fixed")
    ts, approve = slack.wait_for_button("approve")
    asked = len(model.requests)
    assert asked, "the model was never asked"
    late = slack.payload(ts, approve, ONCALL)
    cluster.kubectl("-n", "leave-fixed", "rollout", "undo", "deployment/checkout")
    fixed = time.monotonic()
    card = slack.wait_for_card("Withdrawn")
    took = time.monotonic() - fixed
    assert "someone changed" in card["plain"] and "kubectl" in card["plain"], card["plain"]
    assert not [b for b in card["buttons"] if b["action_id"].startswith("approve")], "its button is still there"
    assert len(model.requests) == asked, "a request that withdraws costs no model call"
    # A click that was on its way gets its own answer, and changes nothing.
    generation = cluster.deployment("leave-fixed", "checkout")["metadata"]["generation"]
    assert send_signed(daemon.interactivity_url, late).status == 200
    told = wait_until(lambda: slack.told(ONCALL), "an answer to the late click")
    assert "withdrawn" in told[-1].lower(), told
    assert cluster.deployment("leave-fixed", "checkout")["metadata"]["generation"] == generation
    # A figure, not a bound: a machine that does nothing else needs less than 5 s.
    print(f"        withdrawn {took:.1f} s after the fix, {asked} model calls before it and none for it")


def a_request_that_nobody_answers_expires_and_can_be_asked_again(run):
    policy = {"approvers": [EVERYONE], "limits": {"approval_minutes": 1}}
    cluster, slack, _, daemon = begin(run, "leave-late", policy=policy)
    plot.break_it(cluster, "leave-late")
    slack.wait_for_button("approve")
    slack.wait_for_card("Expired")
    daemon.wait_idle()  # the audit is sealed
    entries = [json.loads(line)["entry"] for line in daemon.command("audit", "export").stdout.splitlines()]
    at = {e["body"]["state"]: e["at_ms"] for e in entries if e["kind"] == "approval"}
    took = (at["expired"] - at["pending"]) / 1000
    assert took >= 59.9, f"expired after {took:.1f} s, not after a minute"
    assert plot.image(cluster, "leave-late") == plot.BAD, "nothing was done"
    ts, again = slack.wait_for_button("ask_again")
    assert slack.press(daemon.interactivity_url, ts, again, ONCALL).status == 200
    slack.wait_for_button("approve")
    print(f"        expired after {took:.1f} s of 60")


def a_standing_leave_rolls_back_what_a_finding_supports_and_the_card_names_its_person(run):
    leave = {"by": ONCALL, "tool": "rollout_undo", "namespace": "leave-given", "until": "2099-12-31", "per_hour": 1}
    policy = {"approvers": [{**EVERYONE, "who": [ONCALL]}], "standing_leave": [leave]}
    cluster, slack, _, daemon = begin(run, "leave-given", policy=policy)
    plot.break_it(cluster, "leave-given")
    wait_until(lambda: plot.image(cluster, "leave-given") == plot.GOOD, "the rollback by standing leave")
    card = slack.wait_for_card("standing leave of", "standing_leave[0]")
    assert ONCALL in card["plain"] or "@" in card["plain"], card["plain"]
    slack.wait_for_card("✅")
    exported = daemon.command("audit", "export").stdout
    assert '"standing_leave":{"counted"' in exported, "the audit does not tell of the leave"
    # The card's last line is an anchor: it agrees with the chain, and one that was made up does not.
    anchor = slack.wait_for_card("audit ")["plain"].strip().splitlines()[-1]
    assert "agrees with 1 anchors" in daemon.command("audit", "verify", "--anchor", anchor).stdout, anchor
    forged = anchor[:anchor.index("audit ") + 6] + "0123456789abcdef" + anchor[anchor.rindex(" (#"):]
    broken = daemon.command("audit", "verify", "--anchor", forged, check=False)
    assert broken.returncode == 1 and "BROKEN" in broken.stdout, broken.stdout
    report = daemon.command("report").stdout
    assert any(line.split()[:4] == ["rollout_undo", "leave-given", "1", "1"] for line in report.splitlines()), report


def begin(run, namespace, policy=None, with_model=False):
    """The cluster with a Deployment that works, and a daemon that has seen it."""
    cluster = run.cluster()
    install(cluster)
    plot.set_up(run, cluster, namespace)
    slack = run.start(workspace(run))
    model = run.start(plot.ScriptedModel(namespace)) if with_model else None
    kubeconfig = cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")
    daemon = run.start(firstlook(run, kubeconfig, slack=slack.api, model=model and model.url, policy=policy))
    daemon.wait_synced()
    return cluster, slack, model, daemon
