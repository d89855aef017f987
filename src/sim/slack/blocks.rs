//! Block Kit as Slack's server judges it: every limit, and what official client libraries do not see.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Where blocks are shown; the limits differ.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Surface {
    #[default]
    Message,
    Modal,
}

/// What is wrong with these blocks, one line each with the place, in Slack's manner; empty: nothing.
/// Limits: <https://docs.slack.dev/reference/block-kit/blocks>.
pub(super) fn faults(list: &[Value], surface: Surface) -> Vec<String> {
    let mut check = Check { surface, ..Check::default() };
    let most = if surface == Surface::Message { 50 } else { 100 };
    if list.len() > most {
        check.say("/blocks", &format!("no more than {most} items allowed"));
    }
    for (index, block) in list.iter().enumerate() {
        check.block(block, &format!("/blocks/{index}"));
    }
    check.faults
}

/// What is wrong with a modal: <https://docs.slack.dev/reference/views/modal-views>.
pub(super) fn view_faults(view: &Value) -> Vec<String> {
    let mut check = Check { surface: Surface::Modal, ..Check::default() };
    let Some(fields) = check.object(view, "/view") else { return check.faults };
    if fields.get("type").and_then(Value::as_str) != Some("modal") {
        check.say("/view/type", "must be modal");
    }
    check.text(fields, "title", "/view", Kind::Plain, 24, true);
    check.text(fields, "submit", "/view", Kind::Plain, 24, false);
    check.text(fields, "close", "/view", Kind::Plain, 24, false);
    check.string(fields, "private_metadata", "/view", 0, 3000);
    check.string(fields, "callback_id", "/view", 0, 255);
    let blocks = fields.get("blocks").and_then(Value::as_array).cloned().unwrap_or_default();
    if blocks.is_empty() {
        check.say("/view", "missing required field: blocks");
    }
    let has_input = blocks.iter().any(|b| super::text_of(b, "type") == "input");
    if has_input && !fields.contains_key("submit") {
        check.say("/view", "missing required field: submit");
    }
    check.faults.extend(
        faults(&blocks, Surface::Modal).into_iter().map(|f| f.replace("pointer:/blocks", "pointer:/view/blocks")),
    );
    check.faults
}

/// Fills in what Slack fills in: ids of blocks and elements, and the defaults of text objects.
pub(super) fn complete(list: &mut [Value], next: &mut dyn FnMut() -> u64) {
    for block in list {
        if let Value::Object(fields) = block
            && !fields.contains_key("block_id")
        {
            fields.insert("block_id".into(), Value::String(format!("b{:04}", next())));
        }
        complete_value(block, next);
    }
}

fn complete_value(value: &mut Value, next: &mut dyn FnMut() -> u64) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| complete_value(item, next)),
        Value::Object(fields) => {
            match fields.get("type").and_then(Value::as_str) {
                Some("plain_text") => _ = fields.entry("emoji").or_insert(Value::Bool(true)),
                Some("mrkdwn") => _ = fields.entry("verbatim").or_insert(Value::Bool(false)),
                Some("button" | "plain_text_input" | "static_select" | "overflow") => {
                    fields.entry("action_id").or_insert_with(|| Value::String(format!("a{:04}", next())));
                }
                _ => {}
            }
            fields.values_mut().for_each(|field| complete_value(field, next));
        }
        _ => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Either,
}

#[derive(Default)]
struct Check {
    surface: Surface,
    faults: Vec<String>,
    block_ids: HashSet<String>,
}

impl Check {
    fn say(&mut self, place: &str, what: &str) {
        self.faults.push(format!("[ERROR] {what} [json-pointer:{place}]"));
    }

    fn object<'a>(&mut self, value: &'a Value, place: &str) -> Option<&'a Map<String, Value>> {
        let fields = value.as_object();
        if fields.is_none() {
            self.say(place, "must be an object");
        }
        fields
    }

    fn block(&mut self, block: &Value, place: &str) {
        let Some(fields) = self.object(block, place) else { return };
        self.block_id(fields, place);
        match super::text_of(block, "type") {
            "header" => {
                self.known(fields, place, &["text", "level"]);
                self.text(fields, "text", place, Kind::Plain, 150, true);
            }
            "section" => self.section(fields, place),
            "divider" => self.known(fields, place, &[]),
            "context" => {
                self.known(fields, place, &["elements"]);
                self.elements(fields, place, 10, &["mrkdwn", "plain_text", "image"]);
            }
            "actions" => {
                self.known(fields, place, &["elements"]);
                self.elements(fields, place, 25, &["button", "static_select", "overflow"]);
            }
            "image" => self.image(fields, place, true),
            "markdown" => {
                self.known(fields, place, &["text"]);
                self.required(fields, place, &["text"]);
                self.string(fields, "text", place, 1, 12_000);
            }
            // Slack takes input blocks in messages too; the app asks for text in modals alone, so one here is a slip.
            "input" if self.surface == Surface::Modal => self.input(fields, place),
            "rich_text" => {
                self.known(fields, place, &["elements"]);
                self.rich_text(fields, place);
            }
            other => self.say(&format!("{place}/type"), &format!("unsupported type: {other}")),
        }
    }

    fn block_id(&mut self, fields: &Map<String, Value>, place: &str) {
        self.string(fields, "block_id", place, 1, 255);
        if let Some(Value::String(id)) = fields.get("block_id")
            && !self.block_ids.insert(id.clone())
        {
            self.say(&format!("{place}/block_id"), &format!("`block_id` {id} already exists"));
        }
    }

    fn section(&mut self, fields: &Map<String, Value>, place: &str) {
        self.known(fields, place, &["text", "fields", "accessory", "expand"]);
        self.text(fields, "text", place, Kind::Either, 3000, false);
        let columns = fields.get("fields").and_then(Value::as_array);
        if fields.get("text").is_none() && columns.is_none() {
            self.say(place, "missing required field: text or fields");
        }
        if let Some(columns) = columns {
            self.count(columns, &format!("{place}/fields"), 10);
            for (index, field) in columns.iter().enumerate() {
                self.text_object(field, &format!("{place}/fields/{index}"), Kind::Either, 2000);
            }
        }
        if let Some(accessory) = fields.get("accessory") {
            let kinds = &["button", "static_select", "overflow", "image"];
            self.element(accessory, &format!("{place}/accessory"), kinds);
        }
    }

    fn input(&mut self, fields: &Map<String, Value>, place: &str) {
        self.known(fields, place, &["label", "element", "hint", "optional", "dispatch_action"]);
        self.text(fields, "label", place, Kind::Plain, 2000, true);
        self.text(fields, "hint", place, Kind::Plain, 2000, false);
        self.required(fields, place, &["element"]);
        if let Some(element) = fields.get("element") {
            self.element(element, &format!("{place}/element"), &["plain_text_input", "static_select"]);
        }
    }

    fn image(&mut self, fields: &Map<String, Value>, place: &str, is_block: bool) {
        self.known(
            fields,
            place,
            if is_block { &["image_url", "alt_text", "title"] } else { &["image_url", "alt_text"] },
        );
        self.required(fields, place, &["image_url", "alt_text"]);
        self.string(fields, "image_url", place, 1, 3000);
        self.string(fields, "alt_text", place, 1, 2000);
        self.text(fields, "title", place, Kind::Plain, 2000, false);
    }

    /// The elements of a context or actions block.
    fn elements(&mut self, fields: &Map<String, Value>, place: &str, most: usize, kinds: &[&str]) {
        let Some(list) = fields.get("elements").and_then(Value::as_array) else {
            return self.say(place, "missing required field: elements");
        };
        let place = format!("{place}/elements");
        self.count(list, &place, most);
        let mut ids = HashSet::new();
        for (index, element) in list.iter().enumerate() {
            let place = format!("{place}/{index}");
            self.element(element, &place, kinds);
            if let Some(Value::String(id)) = element.get("action_id")
                && !ids.insert(id)
            {
                self.say(&format!("{place}/action_id"), &format!("`action_id` {id} already exists"));
            }
        }
    }

    fn element(&mut self, element: &Value, place: &str, kinds: &[&str]) {
        let Some(fields) = self.object(element, place) else { return };
        let kind = super::text_of(element, "type");
        if !kinds.contains(&kind) {
            return self.say(&format!("{place}/type"), &format!("unsupported type: {kind}"));
        }
        self.string(fields, "action_id", place, 1, 255);
        if let Some(confirm) = fields.get("confirm") {
            self.confirm(confirm, &format!("{place}/confirm"));
        }
        match kind {
            "mrkdwn" | "plain_text" => self.text_object(element, place, Kind::Either, 3000),
            "image" => self.image(fields, place, false),
            "button" => {
                let known = &["action_id", "text", "url", "value", "style", "confirm", "accessibility_label"];
                self.known(fields, place, known);
                self.text(fields, "text", place, Kind::Plain, 75, true);
                self.string(fields, "url", place, 1, 3000);
                self.string(fields, "value", place, 0, 2000);
                self.string(fields, "accessibility_label", place, 1, 75);
                self.style(fields, place);
            }
            "static_select" | "overflow" => {
                self.known(
                    fields,
                    place,
                    &["action_id", "options", "placeholder", "initial_option", "confirm", "focus_on_load"],
                );
                self.text(fields, "placeholder", place, Kind::Plain, 150, false);
                self.options(fields, place, if kind == "overflow" { 5 } else { 100 });
            }
            _ => {
                let known = &[
                    "action_id",
                    "initial_value",
                    "multiline",
                    "min_length",
                    "max_length",
                    "placeholder",
                    "focus_on_load",
                    "dispatch_action_config",
                ];
                self.known(fields, place, known);
                self.text(fields, "placeholder", place, Kind::Plain, 150, false);
            }
        }
    }

    fn options(&mut self, fields: &Map<String, Value>, place: &str, most: usize) {
        let Some(list) = fields.get("options").and_then(Value::as_array) else {
            return self.say(place, "missing required field: options");
        };
        self.count(list, &format!("{place}/options"), most);
        for (index, option) in list.iter().enumerate() {
            let place = format!("{place}/options/{index}");
            let Some(fields) = self.object(option, &place) else { continue };
            self.text(fields, "text", &place, Kind::Either, 75, true);
            self.required(fields, &place, &["value"]);
            self.string(fields, "value", &place, 1, 150);
        }
    }

    /// <https://docs.slack.dev/reference/block-kit/composition-objects/confirmation-dialog-object>
    fn confirm(&mut self, confirm: &Value, place: &str) {
        let Some(fields) = self.object(confirm, place) else { return };
        self.known_exactly(fields, place, &["title", "text", "confirm", "deny", "style"]);
        self.text(fields, "title", place, Kind::Plain, 100, true);
        self.text(fields, "text", place, Kind::Either, 300, true);
        self.text(fields, "confirm", place, Kind::Plain, 30, true);
        self.text(fields, "deny", place, Kind::Plain, 30, true);
        self.style(fields, place);
    }

    fn style(&mut self, fields: &Map<String, Value>, place: &str) {
        if fields.get("style").is_some_and(|style| !matches!(style.as_str(), Some("primary" | "danger"))) {
            self.say(&format!("{place}/style"), "must be one of: primary, danger");
        }
    }

    fn rich_text(&mut self, fields: &Map<String, Value>, place: &str) {
        let Some(list) = fields.get("elements").and_then(Value::as_array).filter(|list| !list.is_empty()) else {
            return self.say(place, "missing required field: elements");
        };
        for (index, part) in list.iter().enumerate() {
            let place = format!("{place}/elements/{index}");
            match super::text_of(part, "type") {
                "rich_text_section" | "rich_text_preformatted" | "rich_text_quote" => self.rich_parts(part, &place),
                "rich_text_list" => match part.as_object() {
                    Some(fields) => self.rich_text(fields, &place),
                    None => self.say(&place, "must be an object"),
                },
                other => self.say(&format!("{place}/type"), &format!("unsupported type: {other}")),
            }
        }
    }

    fn rich_parts(&mut self, part: &Value, place: &str) {
        let Some(list) = part.get("elements").and_then(Value::as_array) else {
            return self.say(place, "missing required field: elements");
        };
        for (index, piece) in list.iter().enumerate() {
            let place = format!("{place}/elements/{index}");
            let Some(fields) = self.object(piece, &place) else { continue };
            let needed: &[&str] = match super::text_of(piece, "type") {
                "text" => &["text"],
                "link" => &["url"],
                "user" => &["user_id"],
                "usergroup" => &["usergroup_id"],
                "channel" => &["channel_id"],
                "emoji" => &["name"],
                "date" => &["timestamp", "format"],
                "broadcast" => &["range"],
                other => return self.say(&format!("{place}/type"), &format!("unsupported type: {other}")),
            };
            self.required(fields, &place, needed);
            if needed == ["text"] {
                self.string(fields, "text", &place, 1, usize::MAX);
            }
        }
    }

    fn text(&mut self, fields: &Map<String, Value>, name: &str, place: &str, kind: Kind, most: usize, required: bool) {
        match fields.get(name) {
            Some(value) => self.text_object(value, &format!("{place}/{name}"), kind, most),
            None if required => self.say(place, &format!("missing required field: {name}")),
            None => {}
        }
    }

    fn text_object(&mut self, value: &Value, place: &str, kind: Kind, most: usize) {
        let Some(fields) = self.object(value, place) else { return };
        match (super::text_of(value, "type"), kind) {
            ("plain_text", _) => self.known_exactly(fields, place, &["type", "text", "emoji"]),
            ("mrkdwn", Kind::Either) => self.known_exactly(fields, place, &["type", "text", "verbatim"]),
            ("mrkdwn", Kind::Plain) => self.say(&format!("{place}/type"), "must be plain_text"),
            (other, _) => self.say(&format!("{place}/type"), &format!("unsupported type: {other}")),
        }
        self.required(fields, place, &["text"]);
        self.string(fields, "text", place, 1, most);
    }

    /// A text of `least` to `most` characters, where it is given.
    fn string(&mut self, fields: &Map<String, Value>, name: &str, place: &str, least: usize, most: usize) {
        let place = format!("{place}/{name}");
        match fields.get(name) {
            None => {}
            Some(Value::String(text)) if text.chars().count() < least => {
                self.say(&place, &format!("must be more than {} characters", least - 1));
            }
            Some(Value::String(text)) if text.chars().count() > most => {
                self.say(&place, &format!("must be less than {} characters", most + 1));
            }
            Some(Value::String(_)) => {}
            Some(_) => self.say(&place, "must be a string"),
        }
    }

    fn count(&mut self, list: &[Value], place: &str, most: usize) {
        if list.is_empty() {
            self.say(place, "no fewer than 1 items allowed");
        }
        if list.len() > most {
            self.say(place, &format!("no more than {most} items allowed"));
        }
    }

    fn required(&mut self, fields: &Map<String, Value>, place: &str, names: &[&str]) {
        for name in names.iter().filter(|name| !fields.contains_key(**name)) {
            self.say(place, &format!("missing required field: {name}"));
        }
    }

    /// Fields beside `type` and `block_id`.
    fn known(&mut self, fields: &Map<String, Value>, place: &str, names: &[&str]) {
        let names: Vec<&str> = ["type", "block_id"].iter().chain(names).copied().collect();
        self.known_exactly(fields, place, &names);
    }

    fn known_exactly(&mut self, fields: &Map<String, Value>, place: &str, names: &[&str]) {
        for name in fields.keys().filter(|name| !names.contains(&name.as_str())) {
            self.say(place, &format!("invalid additional property: {name}"));
        }
    }
}
