//! Get and list: selectors, paging, resourceVersions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};

use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::Kind;
use crate::sim::cluster::objects::{Key, World};
use crate::sim::cluster::select::Selector;
use crate::sim::cluster::serve::Query;
use crate::sim::cluster::show::{Shape, as_kind};

/// One object.
pub(crate) fn get(world: &World, kind: &Kind, key: &Key, shape: Shape) -> Outcome<Value> {
    world.get(key).map(|object| shape.of(kind, &object)).ok_or_else(|| Failure::not_found(kind, &key.name))
}

/// Objects of a kind in `ns`, or everywhere.
pub(crate) fn list(world: &World, kind: &Kind, ns: Option<&str>, query: &Query, shape: Shape) -> Outcome<Value> {
    let selector = Selector::parse(kind, query.get("labelSelector"), query.get("fieldSelector"))?;
    let asked = query.version()?;
    if asked > world.rv() {
        return Err(Failure::too_new(asked, world.rv()));
    }
    let limit = query.get("limit").and_then(|l| l.parse::<usize>().ok()).filter(|l| *l > 0).unwrap_or(usize::MAX);
    let page = match query.get("continue").filter(|token| !token.is_empty()) {
        Some(token) => Some(Page::read(token)?),
        None => None,
    };
    if let Some(page) = &page
        && page.rv > 0
        && (page.rv as u64) < world.oldest()
    {
        return Err(Failure::continue_expired(Page { rv: -1, start: page.start.clone() }.write()));
    }
    let at = |key: &Key| if ns.is_some() { key.name.clone() } else { format!("{}/{}", key.ns, key.name) };
    let after = |key: &Key| page.as_ref().is_none_or(|page| at(key) > page.start);
    let mut items = Vec::new();
    let (mut last, mut left) = (None, 0u64);
    for (key, object) in world.list(kind, ns).filter(|(key, _)| after(key)) {
        if !selector.matches(&as_kind(kind, object)) {
            continue;
        }
        if items.len() < limit {
            items.push(&**object);
            last = Some(at(key));
        } else {
            left += 1;
        }
    }
    let mut metadata = json!({"resourceVersion": world.rv().to_string()});
    if let (Some(start), true) = (last, left > 0) {
        metadata["continue"] = json!(Page { rv: world.rv() as i64, start }.write());
        metadata["remainingItemCount"] = json!(left);
    }
    Ok(shape.list(kind, metadata, &items))
}

/// Where the next part of a list begins, in the real server's form.
struct Page {
    /// -1: whatever is there now.
    rv: i64,
    /// The last object of the part before.
    start: String,
}

impl Page {
    fn read(token: &str) -> Outcome<Self> {
        let bytes = STANDARD_NO_PAD.decode(token.trim_end_matches('=')).ok();
        let value: Option<Value> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let parsed = value.as_ref().and_then(|v| Some((v["rv"].as_i64()?, v["start"].as_str()?)));
        let (rv, start) = parsed.ok_or_else(|| Failure::bad_request("continue key is not valid"))?;
        Ok(Self { rv, start: start.trim_start_matches('/').trim_end_matches('\0').to_owned() })
    }

    fn write(&self) -> String {
        let token = json!({"v": "meta.k8s.io/v1", "rv": self.rv, "start": format!("/{}\0", self.start)});
        STANDARD_NO_PAD.encode(token.to_string())
    }
}
