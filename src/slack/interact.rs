//! What Slack says that somebody did: verified, parsed, and named as a click of ours. Pure.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::Sha256;

use crate::model::{ApprovalId, Click, ClusterName, IncidentId, Pressed, ReasonFor, SignalId};
use crate::redact::{Redacted, Redactor};
use crate::slack::render;

/// Slack: "if the request timestamp is more than five minutes from local time, it could be a replay attack"
/// (<https://docs.slack.dev/authentication/verifying-requests-from-slack>).
const AGE_MAX_SECONDS: u64 = 300;
/// A card with its state comes back in each click; more than this is not Slack's.
pub const BODY_MAX_BYTES: usize = 1 << 20;

/// Why a request is no click.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the request carries no signature")]
    NotSigned,
    #[error("the request is older than five minutes, or from the future")]
    Stale,
    #[error("the signature is not Slack's")]
    Forged,
    #[error("the request is not understood: {0}")]
    NotUnderstood(&'static str),
}

/// What a parsed payload asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// To be stored, and answered by the stage that handles clicks.
    Click(Click),
    /// The form for a reason; its trigger lives three seconds.
    OpenReason { of: ReasonFor, trigger: String, response_url: Option<String> },
    /// Nothing to do but to acknowledge: a closed form, a shortcut that is not ours.
    Nothing,
}

/// Whether `body` was signed by Slack within the last five minutes (headers `x-slack-request-timestamp`, in Unix
/// seconds, and `x-slack-signature`, `v0=` and hex).
pub fn verify(
    secret: &SecretString,
    timestamp: &str,
    signature: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Refusal> {
    if timestamp.is_empty() || signature.is_empty() || secret.expose_secret().is_empty() {
        return Err(Refusal::NotSigned);
    }
    let signed_at: i64 = timestamp.parse().map_err(|_| Refusal::Forged)?;
    let signature = signature.strip_prefix("v0=").and_then(|hex| hex::decode(hex).ok()).ok_or(Refusal::Forged)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).map_err(|_| Refusal::Forged)?;
    for part in [b"v0:", timestamp.as_bytes(), b":", body] {
        mac.update(part);
    }
    // Compares in constant time.
    mac.verify_slice(&signature).map_err(|_| Refusal::Forged)?;
    if now.as_second().abs_diff(signed_at) > AGE_MAX_SECONDS { Err(Refusal::Stale) } else { Ok(()) }
}

/// The JSON in the form field `payload`, as Slack sends it over HTTP.
pub fn payload_of(body: &[u8]) -> Result<String, Refusal> {
    let not_understood = Refusal::NotUnderstood("no form with a payload");
    let field = body.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"payload="));
    let field = field.ok_or(not_understood.clone())?;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(not_understood);
                };
                (high * 16 + low) as u8
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| not_understood)
}

/// Where a click is heard: what its parse needs besides the payload.
#[derive(Clone, Debug)]
pub struct Place {
    pub cluster: ClusterName,
    pub redactor: Redactor,
}

/// What the payload (the same JSON over HTTP and Socket Mode) asks for.
pub fn parse(payload: &str, place: &Place, now: Timestamp) -> Result<Parsed, Refusal> {
    let payload: Value = serde_json::from_str(payload).map_err(|_| Refusal::NotUnderstood("not JSON"))?;
    let heard = Heard { payload: &payload, place, now };
    match text(&payload["type"]) {
        "block_actions" => heard.block_actions(),
        "view_submission" => heard.view_submission(),
        "" => Err(Refusal::NotUnderstood("no type")),
        _ => Ok(Parsed::Nothing),
    }
}

struct Heard<'a> {
    payload: &'a Value,
    place: &'a Place,
    now: Timestamp,
}

impl Heard<'_> {
    fn block_actions(&self) -> Result<Parsed, Refusal> {
        let action = &self.payload["actions"][0];
        let action_id = text(&action["action_id"]);
        let action_ts = text(&action["action_ts"]);
        if action_id.is_empty() || action_ts.is_empty() {
            return Err(Refusal::NotUnderstood("no action"));
        }
        let value = text(&action["value"]);
        let response_url = Some(text(&self.payload["response_url"])).filter(|url| !url.is_empty());
        // The suffix of the second and later buttons of a sort.
        let sort = action_id.split_once(':').map_or(action_id, |(sort, _)| sort);
        let open = |of| {
            let trigger = text(&self.payload["trigger_id"]).to_owned();
            Ok(Parsed::OpenReason { of, trigger, response_url: response_url.map(str::to_owned) })
        };
        let what = match (sort, ApprovalId::parse(value), IncidentId::parse(value)) {
            (render::APPROVE, Some(approval), _) => Pressed::Approve { approval },
            (render::REJECT, Some(approval), _) => Pressed::Reject { approval },
            (render::UNDO, Some(approval), _) => Pressed::Undo { approval },
            (render::ASK_AGAIN, Some(approval), _) => Pressed::AskAgain { approval },
            (render::THUMB_UP, _, Some(incident)) => Pressed::Thumb { incident, up: true },
            (render::THUMB_DOWN, _, Some(incident)) => Pressed::Thumb { incident, up: false },
            (render::REASON, Some(approval), _) => return open(ReasonFor::No(approval)),
            (render::THUMB_REASON, _, Some(incident)) => return open(ReasonFor::ThumbDown(incident)),
            _ => Pressed::Unknown { action_id: self.redacted(action_id, 100) },
        };
        self.click(&[action_id, value, action_ts], response_url, what)
    }

    /// The form for a reason was sent; what it is about stands in what Slack carried for us.
    fn view_submission(&self) -> Result<Parsed, Refusal> {
        let view = &self.payload["view"];
        let sort = text(&view["callback_id"]);
        if ![render::REASON, render::THUMB_REASON].contains(&sort) {
            return Ok(Parsed::Nothing);
        }
        let carried: Value = serde_json::from_str(text(&view["private_metadata"])).unwrap_or_default();
        let reason = text(&view["state"]["values"][render::REASON][render::REASON]["value"]);
        let reason = self.redacted(reason.trim(), 500);
        let of = [text(&carried["approval"]), text(&carried["incident"])];
        let what = match (sort, ApprovalId::parse(of[0]), IncidentId::parse(of[1])) {
            (render::REASON, Some(approval), _) => Pressed::RejectReason { approval, reason },
            (render::THUMB_REASON, _, Some(incident)) => Pressed::ThumbReason { incident, reason },
            _ => return Err(Refusal::NotUnderstood("a form without what it is about")),
        };
        let response_url = Some(text(&carried["response_url"])).filter(|url| !url.is_empty());
        self.click(&[sort, of[0], of[1], text(&view["id"])], response_url, what)
    }

    /// `same` are the parts that a redelivery repeats and another click does not.
    fn click(&self, same: &[&str], response_url: Option<&str>, what: Pressed) -> Result<Parsed, Refusal> {
        let user = &self.payload["user"];
        let id = text(&user["id"]);
        if id.is_empty() {
            return Err(Refusal::NotUnderstood("nobody pressed it"));
        }
        let team = text(&user["team_id"]);
        let parts: Vec<&str> = ["click", team, id].iter().chain(same).copied().collect();
        let name = [&user["username"], &user["name"]].into_iter().map(text).find(|name| !name.is_empty());
        let container = &self.payload["container"];
        let channel = [&container["channel_id"], &self.payload["channel"]["id"]].into_iter().map(text);
        Ok(Parsed::Click(Click {
            id: SignalId::derive(&parts).as_str().to_owned(),
            cluster: self.place.cluster.clone(),
            user: self.redacted(id, 40),
            user_name: self.redacted(name.unwrap_or_default(), 80),
            channel: self.redacted(channel.into_iter().find(|id| !id.is_empty()).unwrap_or_default(), 40),
            message_ts: self.redacted(text(&container["message_ts"]), 40),
            response_url: response_url.filter(|url| url.len() <= 500).map(str::to_owned),
            heard_at: self.now,
            what,
        }))
    }

    fn redacted(&self, text: &str, max_chars: usize) -> Redacted {
        self.place.redactor.redact(text).cut(max_chars)
    }
}

/// The text, empty where there is none.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::from_ms;

    fn place() -> Place {
        Place { cluster: ClusterName::parse("prod").unwrap(), redactor: Redactor::default() }
    }

    fn pressed(action_id: &str, value: &str, action_ts: &str) -> Value {
        json!({"type": "block_actions", "user": {"id": "U9", "username": "bob", "team_id": "T1"}, "trigger_id": "1.2.3",
            "container": {"type": "message", "message_ts": "1.1", "channel_id": "C1"},
            "response_url": "https://hooks.slack.com/actions/x", "something_new": {"x": 1},
            "actions": [{"type": "button", "action_id": action_id, "value": value, "action_ts": action_ts}]})
    }

    fn click(payload: &Value) -> Click {
        match parse(&payload.to_string(), &place(), from_ms(5)).unwrap() {
            Parsed::Click(click) => click,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_redelivery_is_the_same_click_and_every_other_click_is_another() {
        let first = click(&pressed("approve", "a1", "100.1"));
        assert_eq!(first.what, Pressed::Approve { approval: ApprovalId::parse("a1").unwrap() });
        assert_eq!(first, click(&pressed("approve", "a1", "100.1")));
        let mut somebody_else = pressed("approve", "a1", "100.1");
        somebody_else["user"]["id"] = json!("U8");
        let others = [pressed("approve", "a1", "100.2"), pressed("reject", "a1", "100.1"), somebody_else];
        for other in others {
            assert_ne!(click(&other).id, first.id);
        }
    }

    #[test]
    fn the_second_button_of_a_sort_means_the_same_and_what_is_unknown_is_named() {
        let second = click(&pressed("reject:2", "a2", "1.1"));
        assert_eq!(second.what, Pressed::Reject { approval: ApprovalId::parse("a2").unwrap() });
        for (id, value) in [("merge", "a1"), ("approve", "<!channel>"), ("approve", "")] {
            assert!(matches!(click(&pressed(id, value, "1.1")).what, Pressed::Unknown { .. }), "{id} {value}");
        }
    }

    #[test]
    fn a_reason_opens_a_form_and_the_form_comes_back_with_its_approval() {
        let parsed = parse(&pressed("reject_reason", "a1", "1.1").to_string(), &place(), from_ms(5)).unwrap();
        assert!(matches!(&parsed, Parsed::OpenReason { trigger, .. } if trigger == "1.2.3"), "{parsed:?}");
        let carried = json!({"approval": "a1", "response_url": "https://hooks.slack.com/actions/x"}).to_string();
        let sent = json!({"type": "view_submission", "user": {"id": "U9", "name": "bob"}, "view": {"id": "V1",
            "callback_id": "reject_reason", "private_metadata": carried,
            "state": {"values": {"reject_reason": {"reject_reason": {"value": " password=hunter22 "}}}}}});
        let sent = click(&sent);
        let Pressed::RejectReason { reason, .. } = &sent.what else { panic!("{sent:?}") };
        assert!(!reason.as_str().contains("hunter22"), "people paste secrets too");
        assert_eq!(sent.response_url.as_deref(), Some("https://hooks.slack.com/actions/x"));
    }

    #[test]
    fn a_thumb_is_about_a_card_and_its_reason_comes_by_a_form() {
        let incident = IncidentId::parse("i1").unwrap();
        assert_eq!(
            click(&pressed("thumb_up", "i1", "1.1")).what,
            Pressed::Thumb { incident: incident.clone(), up: true }
        );
        let down = click(&pressed("thumb_down", "i1", "1.1"));
        assert_eq!(down.what, Pressed::Thumb { incident: incident.clone(), up: false });
        let parsed = parse(&pressed("thumb_reason", "i1", "1.1").to_string(), &place(), from_ms(5)).unwrap();
        assert!(
            matches!(&parsed, Parsed::OpenReason { of: ReasonFor::ThumbDown(of), .. } if *of == incident),
            "{parsed:?}"
        );
        let carried = json!({"incident": "i1"}).to_string();
        let sent = json!({"type": "view_submission", "user": {"id": "U9", "name": "bob"}, "view": {"id": "V1",
            "callback_id": "thumb_reason", "private_metadata": carried,
            "state": {"values": {"reject_reason": {"reject_reason": {"value": "it was the node"}}}}}});
        assert_eq!(click(&sent).what, Pressed::ThumbReason { incident, reason: "it was the node".into() });
    }

    #[test]
    fn what_is_no_click_is_refused_and_never_panics() {
        for bad in
            ["", "{", "[]", "null", "{\"type\":\"block_actions\"}", "{\"type\":\"block_actions\",\"actions\":{}}"]
        {
            assert!(matches!(parse(bad, &place(), from_ms(5)), Err(Refusal::NotUnderstood(_))), "{bad}");
        }
        let mut nobody = pressed("approve", "a1", "1.1");
        nobody["user"] = json!("U9");
        assert!(parse(&nobody.to_string(), &place(), from_ms(5)).is_err());
        assert_eq!(parse("{\"type\":\"view_closed\"}", &place(), from_ms(5)), Ok(Parsed::Nothing));
    }

    #[test]
    fn only_slacks_own_fresh_signature_counts() {
        // The example of Slack's documentation.
        let secret: SecretString = "8f742231b10e8888abcd99yyyzzz85a5".to_owned().into();
        let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let good = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        let at = |seconds: i64| from_ms((1_531_420_618 + seconds) * 1_000);
        let check = |timestamp: &str, signature: &str, now| verify(&secret, timestamp, signature, body, now);
        assert_eq!(check("1531420618", good, at(0)), Ok(()));
        assert_eq!(check("1531420618", good, at(300)), Ok(()));
        assert_eq!(check("1531420618", good, at(301)), Err(Refusal::Stale));
        assert_eq!(check("1531420618", good, at(-301)), Err(Refusal::Stale));
        assert_eq!(check("1531420619", good, at(0)), Err(Refusal::Forged), "the time is signed too");
        assert_eq!(check("1531420618", &good.replace('a', "b"), at(0)), Err(Refusal::Forged));
        assert_eq!(check("1531420618", "v0=", at(0)), Err(Refusal::Forged));
        assert_eq!(check("1531420618", &good[3..], at(0)), Err(Refusal::Forged));
        assert_eq!(check("", "", at(0)), Err(Refusal::NotSigned));
        assert_eq!(verify(&"".to_owned().into(), "1531420618", good, body, at(0)), Err(Refusal::NotSigned));
    }

    #[test]
    fn the_payload_comes_out_of_its_form() {
        assert_eq!(payload_of(b"payload=%7B%22a%22%3A+1%7D&x=1").unwrap(), "{\"a\": 1}");
        for bad in [&b"payload=%7"[..], b"payload=%zz", b"load=1", b"", b"payload=%ff"] {
            assert!(payload_of(bad).is_err());
        }
    }
}
