"""`firstlook check`: what a person runs before trusting the installation; one line each, passed or what to do."""
import plot
from daemon import Daemon
from identities import NAMESPACE, install
from parts import llmock, wait_until
from workspace import BOT_TOKEN, workspace


def check_passes_where_all_is_right_and_sends_one_marked_card(run):
    cluster = run.cluster()
    install(cluster)
    slack, model = run.start(workspace(run)), run.start(llmock(run.work))
    kubeconfig = cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")
    daemon = Daemon(run, kubeconfig, slack=slack.api, model=model.base_url, clicks="socket")
    done = daemon.command("check")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    guarded = [f"admission policy: {name} is bound with Deny" for name in ("firstlook-preview", "firstlook-write")]
    for word in ("account: firstlook-preview", "account: firstlook-write", *guarded, "slack socket mode", "makes its tables"):
        assert any(line.startswith("ok ") and word in line for line in lines), f"{word}:\n{done.stdout}"
    assert any(line.startswith("- ") and "firstlook-write-destructive is not needed" in line for line in lines), f"its policy has reversible steps alone:\n{done.stdout}"
    assert not (daemon.folder / "firstlook.db").exists(), "it looks, and makes nothing"
    assert len(lines) >= 6, f"config, store, API server, identities, Slack, model: a line each:\n{done.stdout}"
    assert not slack.messages(), "without the flag nothing is posted"
    done = daemon.command("check", "--send-card")
    assert len(slack.cards()) == 1 and "test" in slack.cards()[0]["plain"].lower(), [c["plain"] for c in slack.cards()]
    assert BOT_TOKEN not in done.stdout + done.stderr


def check_says_what_to_do_about_each_thing_that_is_wrong(run):
    cluster = run.cluster()
    install(cluster)
    slack = run.start(workspace(run))
    kubeconfig = cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")
    stranger = cluster.kubeconfig_for(run.work / "stranger", "default", "default")
    cases = {
        "Slack does not know the token": (dict(kubeconfig=kubeconfig, slack=slack.api), "bot-token", "xoxb-wrong", "invalid_auth"),
        "Slack does not know the app-level token": (dict(kubeconfig=kubeconfig, slack=slack.api, clicks="socket"), "app-token", "xapp-wrong", "slack.app_token_file"),
        "an account that may read nothing": (dict(kubeconfig=stranger, slack=slack.api), None, None, "pods"),
        "a model that is not there": (dict(kubeconfig=kubeconfig, slack=slack.api, model="http://127.0.0.1:9/v1"), None, None, "model"),
    }
    for number, (name, (options, secret, value, word)) in enumerate(cases.items()):
        daemon = Daemon(run, name=f"check-{number}", **options)
        if secret:
            daemon.secret(secret, value)
        done = daemon.command("check", check=False)
        assert done.returncode == 1, f"{name}: exit {done.returncode}\n{done.stdout}"
        assert word in done.stdout, f"{name}:\n{done.stdout}{done.stderr}"


def without_slack_the_card_goes_to_stdout(run):
    """A first try needs nothing but a cluster."""
    cluster = run.cluster()
    install(cluster)
    plot.set_up(run, cluster, "no-slack")
    kubeconfig = cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook")
    daemon = Daemon(run, kubeconfig)
    run.story.callback(lambda: daemon.process.kill())
    daemon.start()
    plot.break_it(cluster, "no-slack")
    assert daemon.alert(plot.alert("no-slack")).status == 200
    wait_until(lambda: "checkout" in daemon.log.read_text(), "the card on stdout")
