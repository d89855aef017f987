// Block Kit and mrkdwn as Slack's web client draws them. Texts become text nodes, never markup.

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

// The short names that an incident tool is likely to use; any other stays as it is written.
const EMOJI = {
  red_circle: "🔴", large_orange_circle: "🟠", large_yellow_circle: "🟡", large_green_circle: "🟢", large_blue_circle: "🔵",
  white_circle: "⚪", black_circle: "⚫", white_check_mark: "✅", heavy_check_mark: "✔️", warning: "⚠️", x: "❌", no_entry: "⛔",
  rotating_light: "🚨", fire: "🔥", eyes: "👀", mag: "🔍", hourglass: "⌛", hourglass_flowing_sand: "⏳", thumbsup: "👍", "+1": "👍",
  thumbsdown: "👎", "-1": "👎", lock: "🔒", bell: "🔔", bulb: "💡", memo: "📝", link: "🔗", rocket: "🚀", rewind: "⏪", bug: "🐛",
  arrows_counterclockwise: "🔄", information_source: "ℹ️", question: "❓", exclamation: "❗", tada: "🎉", raised_hand: "✋", zzz: "💤",
};

const decode = (text) => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");

function safeUrl(text) {
  try {
    const url = new URL(decode(text));
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(url, label) {
  const href = safeUrl(url);
  if (!href) return document.createTextNode(label);
  return el("a", { href, target: "_blank", rel: "noopener noreferrer" }, label);
}

// <!date^1392734382^{date_short} at {time}^link|fallback>, in the reader's own zone.
export function dateText(seconds, format, fallback) {
  const at = new Date(seconds * 1000);
  if (!Number.isFinite(seconds) || Number.isNaN(at.getTime())) return fallback;
  const say = (options) => at.toLocaleString(undefined, options);
  const day = (options) => {
    const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(at).setHours(0, 0, 0, 0)) / 86400000);
    return { "-1": "tomorrow", 0: "today", 1: "yesterday" }[days] ?? say(options);
  };
  const long = { weekday: "long", month: "long", day: "numeric", year: "numeric" };
  const short = { month: "short", day: "numeric", year: "numeric" };
  const date = { month: "long", day: "numeric", year: "numeric" };
  const ago = () => {
    const minutes = Math.round((Date.now() - at) / 60000);
    if (minutes < 1) return "just now";
    return minutes < 60 ? `${minutes} minutes ago` : minutes < 2880 ? `${Math.round(minutes / 60)} hours ago` : `${Math.round(minutes / 1440)} days ago`;
  };
  const tokens = {
    date_num: () => at.toISOString().slice(0, 10), date_slash: () => say({ year: "numeric", month: "2-digit", day: "2-digit" }),
    date_long: () => say(long), date_long_full: () => say(long), date_long_pretty: () => day(long), date: () => say(date),
    date_pretty: () => day(date), date_short: () => say(short), date_short_pretty: () => day(short), ago, day_divider_pretty: () => day(long),
    time: () => say({ hour: "numeric", minute: "2-digit" }), time_secs: () => say({ hour: "numeric", minute: "2-digit", second: "2-digit" }),
  };
  const text = format.replace(/\{(\w+)\}/g, (whole, name) => (tokens[name] ? tokens[name]() : whole));
  return text.replace(/^[a-z]/, (letter) => letter.toUpperCase());
}

function mention(text, loud) {
  return el("span", { class: loud ? "mention loud" : "mention" }, text);
}

// What stands between < and >: a mention, a date, a link.
function token(body, context) {
  const bar = body.indexOf("|");
  const target = bar < 0 ? body : body.slice(0, bar);
  const label = bar < 0 ? null : decode(body.slice(bar + 1));
  if (target.startsWith("@")) {
    const user = context.users.find((u) => u.id === target.slice(1));
    return mention("@" + (user ? user.name : label ?? target.slice(1)), user && user.id === context.me);
  }
  if (target.startsWith("#")) return mention("#" + (label ?? target.slice(1)), false);
  const date = target.match(/^!date\^(-?\d+)\^([^^]*)(?:\^(.*))?$/);
  if (date) {
    const text = dateText(Number(date[1]), decode(date[2]), label ?? "");
    const title = new Date(Number(date[1]) * 1000).toLocaleString();
    return date[3] ? link(date[3], text) : el("time", { title }, text);
  }
  if (/^!(here|channel|everyone)$/.test(target)) return mention("@" + target.slice(1), true);
  if (target.startsWith("!subteam^")) return mention(label ?? "@" + target.slice(9), false);
  if (target.startsWith("!")) return document.createTextNode(label ?? target);
  return link(target, label ?? decode(target));
}

const EDGE_BEFORE = /(^|[\s([{"'*_~.,:;–—>|])$/;
const EDGE_AFTER = /^($|[\s)\]}"'*_~.,:;!?–—<|])/;
const STYLES = { "*": "strong", _: "em", "~": "s" };
const INLINE = /`([^`\n]+)`|<([^<>\n]+)>|([*_~])(?=\S)|:([a-z0-9_+-]+):/g;

function inline(text, parent, context) {
  let done = 0;
  let plain = "";
  const flush = () => {
    if (plain) parent.append(decode(plain));
    plain = "";
  };
  INLINE.lastIndex = 0;
  const rule = new RegExp(INLINE);
  for (let found = rule.exec(text); found; found = rule.exec(text)) {
    if (found.index < done) continue;
    plain += text.slice(done, found.index);
    done = found.index + found[0].length;
    const [whole, code, body, mark, emoji] = found;
    if (code !== undefined) {
      flush();
      parent.append(el("code", {}, decode(code.replace(/<([^<>|]+\|)?([^<>]+)>/g, "$2"))));
    } else if (body !== undefined) {
      flush();
      parent.append(token(body, context));
    } else if (emoji !== undefined) {
      plain += EMOJI[emoji] ?? whole;
    } else {
      const end = closing(text, found.index, mark);
      if (end < 0) {
        plain += whole;
        continue;
      }
      flush();
      const styled = el(STYLES[mark]);
      inline(text.slice(found.index + 1, end), styled, context);
      parent.append(styled);
      done = end + 1;
      rule.lastIndex = done;
    }
  }
  plain += text.slice(done);
  flush();
}

// Where the emphasis that opens at `start` closes on its line; -1: it is only a character.
function closing(text, start, mark) {
  if (!EDGE_BEFORE.test(text.slice(0, start))) return -1;
  for (let end = text.indexOf(mark, start + 2); end > 0; end = text.indexOf(mark, end + 1)) {
    const inner = text.slice(start + 1, end);
    if (inner.includes("\n")) return -1;
    const inCode = (inner.match(/`/g) ?? []).length % 2 === 1;
    if (!inCode && !/\s$/.test(inner) && EDGE_AFTER.test(text.slice(end + 1))) return end;
  }
  return -1;
}

// https://docs.slack.dev/messaging/formatting-message-text
export function mrkdwn(text, parent, context) {
  text.split(/```\n?([\s\S]+?)\n?```\n?/).forEach((part, index) => {
    if (index % 2 === 1) return parent.append(el("pre", {}, decode(part.replace(/<([^<>|]+\|)?([^<>]+)>/g, "$2"))));
    let quote = [];
    let lines = [];
    const flush = () => {
      if (quote.length) {
        const node = el("blockquote");
        inline(quote.join("\n"), node, context);
        parent.append(node);
      }
      if (lines.length) inline(lines.join("\n"), parent, context);
      quote = [];
      lines = [];
    };
    for (const line of part.split("\n")) {
      const quoted = line.match(/^(?:&gt;|>) ?(.*)$/);
      if (quoted ? lines.length : quote.length) flush();
      (quoted ? quote : lines).push(quoted ? quoted[1] : line);
    }
    flush();
  });
  return parent;
}

function emojiOnly(text) {
  return text.replace(/:([a-z0-9_+-]+):/g, (whole, name) => EMOJI[name] ?? whole);
}

function textObject(text, node, context) {
  if (text.type === "mrkdwn") return mrkdwn(text.text, node, context);
  node.append(emojiOnly(text.text));
  return node;
}

function richPiece(piece, context) {
  let node;
  switch (piece.type) {
    case "text": node = document.createTextNode(piece.text); break;
    case "link": node = link(piece.url.replace(/&/g, "&amp;"), piece.text ?? piece.url); break;
    case "emoji": node = document.createTextNode(EMOJI[piece.name] ?? `:${piece.name}:`); break;
    case "user": node = token("@" + piece.user_id, context); break;
    case "channel": node = token("#" + piece.channel_id, context); break;
    case "broadcast": node = mention("@" + piece.range, true); break;
    case "date": node = document.createTextNode(dateText(piece.timestamp, piece.format, piece.fallback ?? "")); break;
    default: return document.createTextNode("");
  }
  const style = piece.style ?? {};
  for (const [name, tag] of [["code", "code"], ["strike", "s"], ["italic", "em"], ["bold", "strong"]]) {
    if (style[name]) node = el(tag, {}, node);
  }
  return node;
}

function richElement(element, context) {
  const pieces = (from) => (from.elements ?? []).map((piece) => richPiece(piece, context));
  switch (element.type) {
    case "rich_text_preformatted": return el("pre", {}, pieces(element));
    case "rich_text_quote": return el("blockquote", {}, pieces(element));
    case "rich_text_list": {
      const items = (element.elements ?? []).map((item) => el("li", {}, pieces(item)));
      return el(element.style === "ordered" ? "ol" : "ul", { class: `list indent-${element.indent ?? 0}` }, items);
    }
    default: return el("div", { class: "rich-section" }, pieces(element));
  }
}

function button(element, context) {
  const style = element.style ? ` ${element.style}` : "";
  const label = emojiOnly(element.text.text);
  const title = element.accessibility_label ?? label;
  if (element.url) return el("a", { class: `button${style}`, href: safeUrl(element.url) ?? "#", target: "_blank", rel: "noopener noreferrer" }, label);
  const node = el("button", { type: "button", class: `button${style}`, "aria-label": title, "data-action": element.action_id }, label);
  node.addEventListener("click", () => context.press(element, node));
  return node;
}

function contextElement(element, context) {
  if (element.type === "image") return el("span", { class: "context-text" }, `[${element.alt_text}]`);
  return textObject(element, el("span", { class: "context-text" }), context);
}

function input(block) {
  const { element, label, hint, optional } = block;
  const props = { "data-block": block.block_id, "data-action": element.action_id };
  if (element.placeholder) props.placeholder = element.placeholder.text;
  if (element.max_length) props.maxlength = String(element.max_length);
  const field = el(element.multiline ? "textarea" : "input", props);
  field.required = !optional;
  field.value = element.initial_value ?? "";
  const note = optional ? el("span", { class: "optional" }, " (optional)") : null;
  return el("label", { class: "block input" }, el("span", { class: "label" }, label.text, note), field,
    hint ? el("span", { class: "hint-text" }, hint.text) : null);
}

function block(block, context) {
  switch (block.type) {
    case "header": return el("div", { class: "block header", role: "heading", "aria-level": "3" }, emojiOnly(block.text.text));
    case "section": {
      const body = el("div", { class: "section-body" });
      if (block.text) body.append(textObject(block.text, el("div", { class: "text" }), context));
      if (block.fields) body.append(el("div", { class: "fields" }, block.fields.map((field) => textObject(field, el("div", { class: "text" }), context))));
      const accessory = block.accessory?.type === "button" ? el("div", { class: "accessory" }, button(block.accessory, context)) : null;
      return el("div", { class: "block section" }, body, accessory);
    }
    case "divider": return el("hr", { class: "block" });
    case "context": return el("div", { class: "block context" }, block.elements.map((element) => contextElement(element, context)));
    case "actions": return el("div", { class: "block actions" }, block.elements.filter((e) => e.type === "button").map((e) => button(e, context)));
    case "rich_text": return el("div", { class: "block rich" }, block.elements.map((element) => richElement(element, context)));
    case "markdown": return el("div", { class: "block text" }, block.text);
    case "image": return el("div", { class: "block context" }, `[${block.alt_text}]`);
    case "input": return input(block);
    default: return el("div", { class: "block context" }, `(${block.type} block)`);
  }
}

// `context`: { users, me, press(element, node) }.
export function renderBlocks(blocks, context) {
  return el("div", { class: "blocks" }, blocks.map((one) => block(one, context)));
}
