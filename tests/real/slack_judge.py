#!/usr/bin/env python3
"""Judges Slack payloads as Slack would: slack_sdk's validators, @slack/types through tsc, and rules that neither of them knows.

usage: slack_judge.py FOLDER     every *.json in it: the body of a chat.postMessage, chat.update, chat.postEphemeral or views.open

`judge` takes {name: body} and returns a list of complaints, empty when all is well. What each judge sees was tried: slack_sdk
the limits of lengths and counts, button styles, unknown blocks and (by parse -> to_dict) unknown fields; tsc the kind of a text object,
styles, unknown blocks and fields. Neither sees duplicate action ids, empty texts, a 51st block or a field over 2,000 characters.
"""
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.dont_write_bytecode = True
from parts import NODE_PART, PYTHON_PART  # noqa: E402

if str(PYTHON_PART) not in sys.path:
    sys.path.append(str(PYTHON_PART))
from slack_sdk.errors import SlackObjectFormationError  # noqa: E402
from slack_sdk.models.blocks import Block  # noqa: E402
from slack_sdk.models.views import View  # noqa: E402

# https://docs.slack.dev/reference/block-kit/blocks: 50 in a message, 100 in a modal.
MESSAGE_BLOCKS, VIEW_BLOCKS = 50, 100
# https://docs.slack.dev/reference/block-kit/blocks/section-block: each of `fields`.
FIELD_CHARACTERS = 2000
# chat.postMessage cuts `text` at 40,000 characters; a notification that long is a mistake of ours.
TEXT_CHARACTERS = 4000
# Mentions of many people. Text from outside must never become one, and firstlook itself never writes one.
LOUD_MENTION = re.compile(r"<!(channel|here|everyone|subteam)\b")


def judge(bodies):
    """Complaints about {name: body}, each beginning with the name and the judge."""
    complaints = []
    for name, body in bodies.items():
        complaints += [f"{name}: slack_sdk: {c}" for c in slack_sdk_complaints(body)]
        complaints += [f"{name}: own rule: {c}" for c in own_complaints(body)]
    return complaints + tsc_complaints(bodies)


def blocks_of(body):
    """The blocks of a message or a view; Bolt and forms send them as a JSON string."""
    blocks = body["view"].get("blocks", []) if "view" in body else body.get("blocks", [])
    return json.loads(blocks) if isinstance(blocks, str) else blocks


def slack_sdk_complaints(body):
    complaints = []
    for number, block in enumerate(blocks_of(body)):
        try:
            parsed = Block.parse(block)
            if parsed is None:
                complaints.append(f"block {number}: unknown type {block.get('type')!r}")
                continue
            parsed.validate_json()
            complaints += [f"block {number}: {lost}" for lost in lost_fields(block, parsed.to_dict(), "")]
        except (SlackObjectFormationError, TypeError, ValueError, KeyError, AttributeError) as e:
            complaints.append(f"block {number}: {type(e).__name__}: {e}")
    if "view" in body:
        try:
            View(**body["view"]).validate_json()
        except (SlackObjectFormationError, TypeError) as e:
            complaints.append(f"view: {e}")
    return complaints


def lost_fields(sent, kept, path):
    """What slack_sdk did not take over from the input: fields that it does not know."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        for key, value in sent.items():
            # slack_sdk drops what equals the default.
            if key not in kept:
                if value not in (False, None, [], {}):
                    yield f"{path}/{key} is not known"
            else:
                yield from lost_fields(value, kept[key], f"{path}/{key}")
    elif isinstance(sent, list) and isinstance(kept, list):
        if len(sent) != len(kept):
            yield f"{path} had {len(sent)} entries, {len(kept)} are known"
        for i, (a, b) in enumerate(zip(sent, kept)):
            yield from lost_fields(a, b, f"{path}/{i}")


def walk(value, path=""):
    """Every object below `value` with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from walk(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from walk(inner, f"{path}/{i}")


def own_complaints(body):
    blocks, view = blocks_of(body), "view" in body
    limit = VIEW_BLOCKS if view else MESSAGE_BLOCKS
    if len(blocks) > limit:
        yield f"{len(blocks)} blocks, {limit} are allowed"
    if not view:
        if not str(body.get("text", "")).strip():
            yield "no text: the phone's notification would be empty"
        if len(body.get("text", "")) > TEXT_CHARACTERS:
            yield f"text of {len(body['text'])} characters"
    for key in ("action_id", "block_id"):
        for value, times in Counter(o[key] for _, o in walk(blocks) if isinstance(o.get(key), str)).items():
            if times > 1:
                yield f"{key} {value!r} occurs {times} times"
    for path, o in walk(blocks):
        if o.get("type") in ("mrkdwn", "plain_text") and not str(o.get("text", "")).strip():
            yield f"{path}: empty text"
        if o.get("type") == "button" and o.get("text", {}).get("type") != "plain_text":
            yield f"{path}: a button's text must be plain_text"
        for i, field in enumerate(o.get("fields", []) if o.get("type") == "section" else []):
            if len(field.get("text", "")) > FIELD_CHARACTERS:
                yield f"{path}/fields/{i}: {len(field['text'])} characters, {FIELD_CHARACTERS} are allowed"
    if LOUD_MENTION.search(json.dumps([body.get("text"), blocks])):
        yield "it mentions a whole channel"


def tsc_complaints(bodies):
    """Every body as a TypeScript literal of the type it must have, checked by tsc."""
    lines, owners = ['import type { KnownBlock, View } from "@slack/types";'], {}
    for number, (name, body) in enumerate(bodies.items()):
        if "view" in body:
            lines.append(f"export const v{number}: View = {json.dumps(body['view'])};")
            owners[len(lines)] = name
        for i, block in enumerate(blocks_of(body)):
            lines.append(f"export const b{number}_{i}: KnownBlock = {json.dumps(block)};")
            owners[len(lines)] = f"{name}: block {i}"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "node_modules").symlink_to(NODE_PART / "node_modules")
        (folder / "payloads.ts").write_text("\n".join(lines) + "\n")
        argv = ["node", str(NODE_PART / "node_modules" / "typescript" / "bin" / "tsc"), "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext",
                "--moduleResolution", "nodenext", "--types", "", "--pretty", "false", "payloads.ts"]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120)
    complaints = []
    for line in done.stdout.splitlines():
        if found := re.match(r"payloads\.ts\((\d+),\d+\): error (.*)", line):
            complaints.append(f"{owners.get(int(found[1]), '?')}: tsc: {found[2]}")
    if done.returncode != 0 and not complaints:
        raise AssertionError(f"tsc could not run: {done.stdout}{done.stderr}")
    return complaints


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    bodies = {p.name: json.loads(p.read_text()) for p in sorted(Path(sys.argv[1]).glob("*.json"))}
    complaints = judge(bodies)
    print("\n".join(complaints + [f"{len(bodies)} payloads, {len(complaints)} complaints"]))
    return 1 if complaints or not bodies else 0


if __name__ == "__main__":
    sys.exit(main())
