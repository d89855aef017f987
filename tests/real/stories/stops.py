"""SIGTERM while work is under way: the process ends in time, and the next one goes on where it was."""
import time

import plot
from daemon import Daemon
from identities import NAMESPACE, install
from proxy import Proxy, only
from parts import PATIENCE_S, wait_until
from workspace import workspace


def a_stop_while_the_model_thinks_is_in_time_and_the_next_start_asks_again(run):
    """The turn is given back, not left to its lease: no attempt is counted, nobody waits, and there is one card."""
    cluster = run.cluster()
    install(cluster)
    namespace = "stopped"
    plot.set_up(run, cluster, namespace)
    api, slack = run.start(Proxy(cluster.api, rewrite=only(namespace))), run.start(workspace(run))
    model = run.start(Proxy("http://127.0.0.1:1/v1"))
    thinks = model.rule("thinks", "POST", "/chat/completions", when="before", times=None)
    kubeconfig = cluster.kubeconfig_for(run.work / "kubeconfig", NAMESPACE, "firstlook", server=api.url)
    daemon = Daemon(run, kubeconfig, slack=slack.api, model=model.url)
    run.story.callback(lambda: daemon.process.kill())
    daemon.start()
    daemon.wait_synced()
    plot.break_it(cluster, namespace)
    assert daemon.alert(plot.alert(namespace)).status == 200
    assert thinks.hit.wait(PATIENCE_S), "the model was not asked"

    seconds = daemon.stop()
    thinks.drop()
    asked = len(model.requests("POST", "/chat/completions"))
    daemon.start()
    began = time.monotonic()
    wait_until(lambda: len(model.requests("POST", "/chat/completions")) > asked, "the model to be asked again")
    print(f"     (stopped in {seconds:.1f} s, asked again {time.monotonic() - began:.2f} s after the start)", flush=True)
    assert len(slack.cards()) == 1
    daemon.no_panic()
