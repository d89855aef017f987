"""The Slack workspace of a story: firstlook's own stand-in (judged by the official clients), seen and clicked from outside."""
import json
import time
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass

from parts import PATIENCE_S, request, stand_in, wait_until

# The stand-in's fixed workspace (src/sim/slack): its tokens open nothing else.
BOT_TOKEN, APP_TOKEN, SIGNING_SECRET = "xoxb-stand-in", "xapp-stand-in", "stand-in-signing-secret"
CHANNEL = "C0INCIDENT"
ONCALL, LEAD, VISITOR, ONCALL_GROUP = "U0ONCALL1", "U0LEAD001", "U0VISITOR", "S0ONCALLS"


@dataclass
class Workspace:
    api: str
    control: str

    def messages(self):
        """Every message as {message, plain, buttons}, oldest first."""
        return request("GET", f"{self.control}/messages").json()

    def cards(self):
        """What the app posted into the channel itself."""
        return [m for m in self.messages() if m["message"]["is_app"] and not m["message"]["thread_ts"] and not m["message"]["ephemeral_to"]]

    def replies(self, ts):
        return [m for m in self.messages() if m["message"]["thread_ts"] == ts and not m["message"]["ephemeral_to"]]

    def told(self, user):
        """What only `user` sees."""
        return [m["plain"] for m in self.messages() if m["message"]["ephemeral_to"] == user]

    def requests(self):
        return request("GET", f"{self.control}/requests").json()

    def wait_for_card(self, *words, without=(), timeout_s=PATIENCE_S):
        """The first card that shows all of `words` and none of `without`."""
        def shown():
            for card in self.cards():
                if all(w in card["plain"] for w in words) and not any(w in card["plain"] for w in without):
                    return card
        try:
            return wait_until(shown, f"a card with {words}" + (f" without {without}" if without else ""), timeout_s)
        except AssertionError as e:
            raise AssertionError(f"{e}; the cards are:\n" + "\n---\n".join(c["plain"] for c in self.cards())) from None

    def wait_for_button(self, action_id, value=None):
        """The first card that has a button whose action id begins so, with this value if one is given: (card's ts, the button's action id)."""
        def found():
            for card in self.cards():
                for button in card["buttons"]:
                    if button["action_id"].startswith(action_id) and value in (None, button.get("value")):
                        return card["message"]["ts"], button["action_id"]
        try:
            return wait_until(found, f"a button {action_id}")
        except AssertionError as e:
            raise AssertionError(f"{e}; the cards are:\n" + "\n---\n".join(c["plain"] for c in self.cards())) from None

    def payload(self, ts, action_id, user):
        """A click's payload with a fresh trigger and response URL, as Slack would send it."""
        answer = request("POST", f"{self.control}/payload", {"ts": ts, "action_id": action_id, "user": user})
        assert answer.status == 200, answer.text
        return answer.json()

    def press(self, url, ts, action_id, user):
        """A click, signed by slack_sdk and sent to firstlook's interactivity `url`."""
        return send_signed(url, self.payload(ts, action_id, user))

    def fault(self, method, **kind):
        """The next call of `method` goes wrong: fault=NAME, status=N, error=WORD or rate_limited=SECONDS."""
        answer = request("POST", f"{self.control}/fault", {"method": method, **kind})
        assert answer.status == 200, answer.text

    def release(self):
        request("POST", f"{self.control}/release")


def form(payload):
    return urllib.parse.urlencode({"payload": json.dumps(payload)}).encode()


def signed_headers(body, secret=SIGNING_SECRET, at_s=None):
    """The headers with which Slack's own SDK signs `body`."""
    from slack_sdk.signature import SignatureVerifier
    timestamp = str(int(time.time() if at_s is None else at_s))
    return {
        "Content-Type": "application/x-www-form-urlencoded", "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": SignatureVerifier(secret).generate_signature(timestamp=timestamp, body=body),
    }


def send_signed(url, payload, **options):
    body = form(payload)
    return request("POST", url, body, signed_headers(body, **options))


@contextmanager
def workspace(run, interactivity_url=None):
    """The stand-in, listening."""
    arguments = ["127.0.0.1:0"] + ([interactivity_url] if interactivity_url else [])
    with stand_in(run, "slack_stand_in", *arguments) as said:
        yield Workspace(**said)
