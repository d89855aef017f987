// Slack's official framework for JavaScript, as a judge.
// usage: bolt.js socket API_URL BOT_TOKEN APP_TOKEN     connects by Socket Mode; prints one JSON line when it is connected and one per click
//        bolt.js verify SECRET                          reads [{headers, body}] on stdin; prints which of them Bolt takes as Slack's, as [bool]
const { App, LogLevel } = require("@slack/bolt");
const { isValidSlackRequest } = require("@slack/bolt/dist/receivers/verify-request");

const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

async function socket(slackApiUrl, token, appToken) {
  const app = new App({ token, appToken, socketMode: true, logLevel: LogLevel.ERROR, clientOptions: { slackApiUrl } });
  app.action(/.*/, async ({ ack, body, action }) => {
    await ack();
    say({ user: body.user.id, action_id: action.action_id, value: action.value, ts: body.container.message_ts });
  });
  await app.start();
  const posted = await app.client.chat.postMessage({
    channel: "C0INCIDENT", text: "posted by Bolt",
    blocks: [{ type: "actions", elements: [{ type: "button", action_id: "go", value: "1", text: { type: "plain_text", text: "Go" } }] }],
  });
  say({ ts: posted.ts });
}

function verify(signingSecret) {
  const requests = JSON.parse(require("fs").readFileSync(0, "utf8"));
  say(requests.map(({ headers, body }) => isValidSlackRequest({
    signingSecret, body,
    headers: { "x-slack-signature": headers["X-Slack-Signature"], "x-slack-request-timestamp": Number(headers["X-Slack-Request-Timestamp"]) },
  })));
}

const [what, ...rest] = process.argv.slice(2);
if (what === "socket") socket(...rest);
else if (what === "verify") verify(...rest);
else process.exit(2);
