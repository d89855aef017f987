"""The outcome, on real parts: from the bad rollout to the closed card, once and only once."""
import json
import time

import plot
import slack_judge
from daemon import firstlook
from identities import NAMESPACE, install
from parts import PATIENCE_S, alertmanager, llmock, prometheus, request, wait_until
from proxy import Proxy
from workspace import ONCALL, VISITOR, form, send_signed, signed_headers, workspace

SHOP = "shop"


def a_bad_rollout_is_seen_explained_approved_undone_verified_and_closed(run):
    cluster = run.cluster()
    install(cluster)
    plot.set_up(run, cluster, SHOP, replicas=4)
    slack, model = run.start(workspace(run)), run.start(llmock(run.work))
    to_model = run.start(Proxy(model.base_url))
    kubeconfig = cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")
    daemon = run.start(firstlook(run, kubeconfig, slack=slack.api, model=to_model.url))
    to_webhook = run.start(Proxy(daemon.webhook_url.rsplit("/webhook", 1)[0]))
    alerts = run.start(alertmanager(run.work, to_webhook.url + "/webhook/alertmanager", "webhook-token-of-a-story"))
    exporter = run.start(plot.Exporter(cluster, SHOP))
    run.start(prometheus(run.work, exporter.target, plot.RULES, alerts.url))
    daemon.wait_synced()

    # The provider is busy at first; then the model reads, and its report waits until the story has seen what it was told.
    model.queue({"type": "fail", "status": 429, "retry_after": 1})
    model.call(*plot.first_calls(SHOP))
    results = to_model.rule("the model's second turn", "POST", "/chat/completions", when="before", body=r'"role": ?"tool"')
    first_template = plot.image(cluster, SHOP)
    plot.break_it(cluster, SHOP)
    slack.wait_for_card("checkout", SHOP)
    firing = wait_until(lambda: [s for s in to_webhook.requests("POST", "/webhook") if s.json()["status"] == "firing"], "Alertmanager's webhook")[0]
    assert firing.status in (None, 200), firing.status
    assert results.hit.wait(PATIENCE_S), "the model was not asked a second time"
    messages = to_model.requests("POST", "/chat/completions")[-1].json()["messages"]
    assert plot.FATAL in json.dumps(messages, ensure_ascii=False).replace('\\\\\\"', '"').replace('\\"', '"'), "the model was not shown the failing container's log"
    model.call(plot.report_call(SHOP, messages))
    results.release()

    ts, approve = slack.wait_for_button("approve")
    card = slack.wait_for_card("Roll back", "checkout")
    assert "revision 1" in card["plain"] and "exceed the role" in card["plain"], f"the model's report is not on the card:\n{card['plain']}"
    assert plot.image(cluster, SHOP) == plot.BAD, "nobody has clicked yet"
    verdict = model.verdict()
    assert not verdict.get("findings"), f"llmock's verdict on the client: {verdict}"

    only_the_right_person_with_slacks_signature_counts(slack, daemon, ts, approve)
    assert plot.image(cluster, SHOP) == plot.BAD

    # Sent again before, during and after: Alertmanager repeats, people double-click.
    assert daemon.alert(firing.body).status == 200
    payload = slack.payload(ts, approve, ONCALL)
    assert send_signed(daemon.interactivity_url, payload).status == 200
    assert send_signed(daemon.interactivity_url, payload).status == 200, "Slack sends a click again when it heard no answer"
    assert daemon.alert(firing.body).status == 200
    wait_until(lambda: plot.image(cluster, SHOP) == first_template, "the rollback")
    undone = cluster.get("-n", SHOP, "deployment", "checkout")
    assert daemon.alert(firing.body).status == 200
    cluster.rolled_out(SHOP, "checkout")
    assert "firstlook.dev/approval" in undone["metadata"]["annotations"], undone["metadata"]["annotations"]
    assert not undone["spec"]["template"]["spec"]["containers"][0].get("env"), "the added variable must be gone too"

    slack.wait_for_card("✅", "4 of 4")
    wait_until(lambda: [s for s in to_webhook.requests("POST", "/webhook") if s.json()["status"] == "resolved"], "Alertmanager's resolve")
    slack.wait_for_card("✅", "resolved")
    assert len(slack.cards()) == 1, [c["plain"] for c in slack.cards()]

    assert daemon.alert(firing.body).status == 200
    daemon.wait_idle()  # whatever would act on it has done so
    now = cluster.get("-n", SHOP, "deployment", "checkout")
    assert now["metadata"]["generation"] == undone["metadata"]["generation"], "something changed the Deployment again"
    assert now["metadata"]["annotations"]["firstlook.dev/approval"] == undone["metadata"]["annotations"]["firstlook.dev/approval"]

    the_daemons_and_the_preview_token_cannot_do_it(cluster)
    every_payload_is_good(slack)
    assert "the chain holds" in daemon.audit_verifies()
    daemon.stop()
    assert "the chain holds" in daemon.audit_verifies()


def only_the_right_person_with_slacks_signature_counts(slack, daemon, ts, approve):
    """A forged, a stale and a stranger's click change nothing; the stranger is told who may."""
    payload = slack.payload(ts, approve, ONCALL)
    assert send_signed(daemon.interactivity_url, payload, secret="wrong").status == 401
    assert send_signed(daemon.interactivity_url, payload, at_s=time.time() - 360).status == 401
    body = form(payload)
    assert request("POST", daemon.interactivity_url, body + b"x", signed_headers(body)).status == 401
    assert slack.press(daemon.interactivity_url, ts, approve, VISITOR).status == 200
    wait_until(lambda: slack.told(VISITOR), "an answer to the visitor")


def the_daemons_and_the_preview_token_cannot_do_it(cluster):
    """The very patch that the rollback is, with the wrong identities."""
    path = f"/apis/apps/v1/namespaces/{SHOP}/deployments/checkout"
    template = cluster.get("-n", SHOP, "deployment", "checkout")["spec"]["template"]
    body = [{"op": "replace", "path": "/spec/template", "value": template}]
    for account, words in (("firstlook", "cannot patch"), ("firstlook-preview", "rehearse")):
        answer = cluster.request("PATCH", path, cluster.token_of(NAMESPACE, account), body, "application/json-patch+json")
        assert answer.status == 403 and words in answer.text, f"{account}: {answer.status} {answer.text}"


def every_payload_is_good(slack):
    """All that went to Slack in this story, before the judges."""
    sent = [r for r in slack.requests() if r["method"] in ("chat.postMessage", "chat.update", "chat.postEphemeral", "views.open")]
    assert sent
    complaints = slack_judge.judge({f"{i} {r['method']}": r["args"] for i, r in enumerate(sent)})
    assert not complaints, complaints
    refused = [r["answer"] for r in sent if r["answer"] != "ok"]
    assert not refused, refused
