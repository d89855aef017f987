"""The demo: no cluster and no key, in a browser and without one."""
import re
import shutil
import subprocess

from parts import CannotStart, Process, browse, request, run_tool, wait_until


def the_demo_plays_itself_without_a_browser(run):
    done = run_tool([run.binary, "demo", "--once"], cwd=run.work)
    assert re.search(r"verified", done.stdout, re.I), done.stdout
    assert len(done.stdout.splitlines()) >= 5, f"every step with its time:\n{done.stdout}"


def a_click_in_a_real_browser_ends_verified(run):
    """Headless Chromium loads the page, presses the button, confirms, and sees the card end verified; the picture is kept if --picture is given."""
    if not shutil.which("chromium"):
        raise CannotStart("chromium: not installed")
    demo = Process("demo", [run.binary, "demo", "--listen", "127.0.0.1:0"], run.work / "demo.log", stdout=subprocess.PIPE, cwd=run.work)
    run.story.callback(lambda: (demo.kill(), demo.popen.stdout.close()))
    url = wait_until(lambda: (m := re.search(rb"http://127\.0\.0\.1:\d+\S*", demo.popen.stdout.readline())) and m[0].decode(), "the demo's URL")
    wait_until(lambda: request("GET", url).status == 200, "the demo's page")
    picture = run.work / "card.png"
    seen = browse("demo_page.js", url, picture, run.work / "profile")
    assert seen["button"].startswith("Roll back"), seen
    assert seen["confirm"], "the button asks before it acts"
    assert "✅" in seen["card"], seen["card"]
    assert not seen["errors"], f"the page's console: {seen['errors']}"
    assert not seen["outside"], f"the page asked other hosts: {seen['outside']}"
    assert picture.stat().st_size > 10_000
    if run.picture:
        run.picture.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, run.picture)
