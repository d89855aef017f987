// The demo page: the workspace's state comes as server-sent events, clicks go back as JSON.

import { el, mrkdwn, renderBlocks } from "./blocks.js";

const $ = (selector) => document.querySelector(selector);
const BOT = "firstlook";
const COLOURS = ["#2b6cb0", "#8a4baf", "#1f7a5c", "#b7791f", "#b83280"];
const GROUP_SECONDS = 300;

let state = null;
let me = null;
let openThread = null;
const drawn = new Map();

const seconds = (ts) => Number(ts.split(".")[0]);
const clockTime = (ts) => new Date(seconds(ts) * 1000).toLocaleTimeString(undefined, { hour: "numeric", minute: "2-digit" });
const visible = (message) => !message.ephemeral_to || message.ephemeral_to === me;
const plural = (count, word) => `${count} ${count === 1 ? word : word === "reply" ? "replies" : word + "s"}`;

function userName(id) {
  return state.users.find((user) => user.id === id)?.name ?? BOT;
}

function avatar(message, size) {
  if (message.is_app) return el("img", { class: `avatar ${size}`, src: "mark.svg", alt: "" });
  return face(message.user, size);
}

function face(id, size) {
  const index = Math.max(0, state.users.findIndex((user) => user.id === id));
  const node = el("span", { class: `avatar ${size}`, "aria-hidden": "true" }, userName(id)[0].toUpperCase());
  node.style.background = COLOURS[index % COLOURS.length];
  return node;
}

async function send(path, body) {
  try {
    const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    return await answer.json();
  } catch {
    return { ok: false, error: "the demo does not answer" };
  }
}

// Only an open dialog has the role, so that what reads the page meets one at a time.
function show(dialog) {
  dialog.setAttribute("role", "dialog");
  dialog.showModal();
}

function hide(dialog) {
  dialog.removeAttribute("role");
  dialog.close();
}

// A button's confirm dialog, as Slack's; resolves to whether the person went on.
function confirmed(confirm) {
  if (!confirm) return Promise.resolve(true);
  const dialog = $("#confirm");
  return new Promise((resolve) => {
    const done = (answer) => {
      hide(dialog);
      resolve(answer);
    };
    const body = el("div", { class: "modal-body text" });
    if (confirm.text.type === "mrkdwn") mrkdwn(confirm.text.text, body, { users: state.users, me });
    else body.append(confirm.text.text);
    const go = el("button", { type: "button", class: `button confirm ${confirm.style ?? "primary"}`, onclick: () => done(true) }, confirm.confirm.text);
    const stop = el("button", { type: "button", class: "button", onclick: () => done(false) }, confirm.deny.text);
    dialog.oncancel = () => done(false);
    dialog.replaceChildren(
      el("header", {}, el("h2", {}, confirm.title.text), el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => done(false) }, "×")),
      body,
      el("footer", {}, stop, go),
    );
    show(dialog);
    stop.focus();
  });
}

async function press(message, element, node) {
  if (node.classList.contains("busy") || !(await confirmed(element.confirm))) return;
  node.classList.add("busy");
  node.parentElement.querySelector(".trouble")?.remove();
  const answer = await send("click", { ts: message.ts, action_id: element.action_id, user: me });
  node.classList.remove("busy");
  if (!answer.ok) {
    const why = answer.error ?? "firstlook did not answer in time";
    node.after(el("span", { class: "trouble", title: why, role: "alert" }, "⚠️ " + why));
  }
}

function repliesOf(message) {
  return state.messages.filter((reply) => reply.thread_ts === message.ts && visible(reply));
}

function replyBar(message) {
  const replies = repliesOf(message);
  if (!replies.length) return null;
  const last = replies[replies.length - 1];
  return el("button", { type: "button", class: "replies", onclick: () => showThread(message.ts) }, avatar(last, "tiny"),
    el("b", {}, plural(replies.length, "reply")), el("span", { class: "last" }, `Last reply today at ${clockTime(last.ts)}`), el("span", { class: "view-thread" }, "View thread"));
}

function content(message) {
  const context = { users: state.users, me, press: (element, node) => press(message, element, node) };
  const edited = message.edited_ts ? el("span", { class: "edited" }, "(edited)") : null;
  if (message.blocks.length) {
    const blocks = renderBlocks(message.blocks, context);
    if (edited) blocks.append(edited);
    return blocks;
  }
  const text = mrkdwn(message.text, el("div", { class: "text" }), context);
  if (edited) text.append(" ", edited);
  return text;
}

function draw(message, compact, inThread) {
  const head = el("div", { class: "who" }, el("b", {}, userName(message.user)), message.is_app ? el("span", { class: "app-badge" }, "APP") : null,
    el("time", {}, clockTime(message.ts)));
  const only = message.ephemeral_to ? el("div", { class: "only-you" }, el("span", { class: "eye" }, "👁"), "Only visible to you") : null;
  const gutter = compact ? el("time", { class: "side-time" }, clockTime(message.ts).replace(/ ?[AP]M/i, "")) : avatar(message, "large");
  return el("li", { class: `message${compact ? " compact" : ""}${message.ephemeral_to ? " ephemeral" : ""}`, "data-ts": message.ts }, only,
    el("div", { class: "gutter" }, gutter), el("div", { class: "body" }, compact ? null : head, content(message), inThread ? null : replyBar(message)));
}

// Only what has changed is drawn again, so that nothing a person looks at flickers.
function list(place, messages, inThread) {
  const nodes = [];
  let before = null;
  for (const message of messages) {
    const compact = !!before && before.user === message.user && before.ephemeral_to === message.ephemeral_to && seconds(message.ts) - seconds(before.ts) < GROUP_SECONDS && !inThread;
    const key = `${place}|${message.ts}`;
    const mark = JSON.stringify([message, compact, me, inThread ? 0 : repliesOf(message).map((reply) => reply.ts)]);
    if (drawn.get(key)?.mark !== mark) drawn.set(key, { mark, node: draw(message, compact, inThread) });
    nodes.push(drawn.get(key).node);
    before = message;
  }
  return nodes;
}

function fill(parent, nodes) {
  nodes.forEach((node, index) => {
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  while (parent.children.length > nodes.length) parent.lastElementChild.remove();
}

function keepAtEnd(scroll, change) {
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  change();
  if (atEnd) scroll.scrollTop = scroll.scrollHeight;
}

const dayDivider = el("li", { class: "day" }, el("span", {}, "Today"));
const welcome = el("li", { class: "welcome" });

function drawChannel() {
  const top = state.messages.filter((message) => !message.thread_ts && visible(message));
  const scroll = $("#channel");
  welcome.replaceChildren(el("h3", {}, `# ${state.channel.name}`),
    el("p", {}, "firstlook posts here when something breaks: one card for one incident, edited in place. Its buttons work; whatever you approve happens in a simulated cluster."));
  keepAtEnd(scroll, () => fill(scroll.querySelector(".messages"), [welcome, ...(top.length ? [dayDivider] : []), ...list("channel", top, false)]));
}

function drawThread() {
  const pane = $(".thread");
  const root = state.messages.find((message) => message.ts === openThread);
  pane.hidden = !root;
  document.body.classList.toggle("with-thread", !!root);
  if (!root) return;
  const replies = repliesOf(root);
  const count = el("li", { class: "count" }, el("span", {}, plural(replies.length, "reply")));
  const [first, ...rest] = list("thread", [root, ...replies], true);
  keepAtEnd(pane.querySelector(".scroll"), () => fill(pane.querySelector(".messages"), [first, count, ...rest]));
}

function showThread(ts) {
  openThread = ts;
  drawThread();
  const scroll = $(".thread .scroll");
  scroll.scrollTop = scroll.scrollHeight;
}

function drawModal() {
  const dialog = $("#view");
  const modal = state.modals.findLast((one) => one.user === me);
  if (!modal) {
    if (dialog.open) hide(dialog);
    return;
  }
  if (dialog.open && dialog.dataset.view === modal.id) return;
  const { view } = modal;
  const close = () => send("close", { view: modal.id });
  const problem = el("span", { class: "trouble", role: "alert" });
  const submit = async () => {
    const values = {};
    for (const field of dialog.querySelectorAll("[data-block]")) {
      if (!field.reportValidity()) return;
      (values[field.dataset.block] ??= {})[field.dataset.action] = field.value;
    }
    const answer = await send("submit", { view: modal.id, user: me, values });
    problem.textContent = answer.ok ? Object.values(answer.response?.errors ?? {}).join(" ") : (answer.error ?? "firstlook did not answer in time");
  };
  dialog.dataset.view = modal.id;
  dialog.oncancel = close;
  dialog.replaceChildren(
    el("header", {}, el("img", { class: "avatar small", src: "mark.svg", alt: "" }), el("h2", {}, view.title.text), el("button", { type: "button", class: "close", "aria-label": "Close", onclick: close }, "×")),
    el("div", { class: "modal-body" }, renderBlocks(view.blocks, { users: state.users, me, press() {} })),
    el("footer", {}, problem, el("button", { type: "button", class: "button", onclick: close }, view.close?.text ?? "Cancel"),
      view.submit ? el("button", { type: "button", class: "button primary", onclick: submit }, view.submit.text) : null),
  );
  if (!dialog.open) show(dialog);
}

function drawFrame() {
  const { channel, users } = state;
  $(".view-title").replaceChildren(el("span", { class: "hash" }, "#"), channel.name);
  $(".thread-where").textContent = `# ${channel.name}`;
  $(".hint").textContent = `Message #${channel.name}`;
  $(".channels").replaceChildren(el("li", { class: "on" }, el("span", { class: "hash" }, "#"), channel.name));
  $(".people").replaceChildren(...users.map((user) => el("li", {}, face(user.id, "small"), user.name, user.id === me ? el("span", { class: "is-you" }, "you") : null)));
  const choices = users.map((user) => {
    const node = el("button", { type: "button", role: "radio", "aria-checked": String(user.id === me), class: user.id === me ? "on" : "", onclick: () => become(user.id) },
      face(user.id, "tiny"), `@${user.name}`);
    return node;
  });
  $(".you").replaceChildren(el("span", { class: "you-label" }, "You are"), ...choices);
}

function become(id) {
  me = id;
  localStorage.setItem("firstlook-demo-user", id);
  drawAll();
}

function elapsed(ms) {
  if (ms < 100_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${String(Math.floor(ms / 1000) % 60).padStart(2, "0")} s`;
}

// A step begins with its verb.
function storyLine(text) {
  const [verb, ...rest] = text.split(/\s+/);
  return el("span", {}, el("b", {}, verb), " " + rest.join(" "));
}

function drawStory() {
  const { narration } = state;
  $(".story").hidden = !narration.length;
  if (!narration.length) return;
  const start = narration[0].at_ms;
  const lines = $(".lines");
  lines.replaceChildren(...narration.map((line) => el("li", {}, el("time", {}, elapsed(line.at_ms - start)), storyLine(line.text))));
  lines.scrollTop = lines.scrollHeight;
}

function drawAll() {
  drawFrame();
  drawChannel();
  drawThread();
  drawModal();
  drawStory();
}

$(".thread .close").addEventListener("click", () => showThread(null));
$(".story-toggle").addEventListener("click", (event) => {
  const open = document.body.classList.toggle("with-story");
  event.currentTarget.setAttribute("aria-expanded", String(open));
  const lines = $(".lines");
  lines.scrollTop = lines.scrollHeight;
});

const events = new EventSource("events");
events.onmessage = (event) => {
  state = JSON.parse(event.data);
  const kept = localStorage.getItem("firstlook-demo-user");
  me ??= state.users.some((user) => user.id === kept) ? kept : state.users[0]?.id;
  document.body.classList.remove("offline");
  drawAll();
};
events.onerror = () => document.body.classList.add("offline");
