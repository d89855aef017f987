//! Who is there: the app itself, users, their groups and the channels.

use serde_json::{Value, json};

use super::api::{Answer, Args, Refusal};
use super::{BOT_ID, BOT_NAME, BOT_USER, Slack, TEAM_DOMAIN, TEAM_ID, TEAM_NAME};

/// <https://docs.slack.dev/reference/methods/auth.test>
pub(super) fn auth_test(_: &Slack) -> Value {
    json!({"url": format!("https://{TEAM_DOMAIN}.slack.com/"), "team": TEAM_NAME, "user": BOT_NAME, "team_id": TEAM_ID,
        "user_id": BOT_USER, "bot_id": BOT_ID, "is_enterprise_install": false})
}

/// <https://docs.slack.dev/reference/methods/users.info>
pub(super) fn user(slack: &Slack, args: &Args) -> Answer {
    let id = args.text("user");
    let is_bot = id == BOT_USER;
    let name = if is_bot {
        BOT_NAME
    } else {
        let found = slack.options().users.iter().find(|u| u.id == id);
        &found.ok_or_else(|| Refusal::new("user_not_found"))?.name
    };
    Ok(
        json!({"user": {"id": id, "team_id": TEAM_ID, "name": name, "deleted": false, "real_name": name, "tz": "Etc/UTC",
        "tz_label": "UTC", "tz_offset": 0, "is_bot": is_bot, "is_admin": false, "is_owner": false, "is_restricted": false,
        "profile": {"real_name": name, "display_name": name, "real_name_normalized": name, "team": TEAM_ID}}}),
    )
}

/// <https://docs.slack.dev/reference/methods/usergroups.users.list>
pub(super) fn group(slack: &Slack, args: &Args) -> Answer {
    let found = slack.options().groups.iter().find(|g| g.id == args.text("usergroup"));
    Ok(json!({"users": found.ok_or_else(|| Refusal::new("no_such_subteam"))?.users}))
}

/// <https://docs.slack.dev/reference/methods/conversations.info>
pub(super) fn conversation(slack: &Slack, args: &Args) -> Answer {
    let channel = slack.channel(args.text("channel")).ok_or_else(|| Refusal::new("channel_not_found"))?;
    Ok(json!({"channel": {"id": channel.id, "name": channel.name, "name_normalized": channel.name, "is_channel": true,
        "is_group": false, "is_im": false, "is_private": false, "is_archived": false, "is_member": true, "is_general": false,
        "created": slack.now_ms() / 1000, "creator": BOT_USER, "topic": {"value": "", "creator": "", "last_set": 0},
        "purpose": {"value": "", "creator": "", "last_set": 0}}}))
}
