//! A page of a list, taken apart object by object: of a page of megabytes one object at a time stands in memory as a tree.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// What a page says beside its objects.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Asks for the next page.
    pub(super) next: Option<String>,
    /// Objects of this page that were passed over.
    pub(super) left: usize,
}

/// Hands up to `room` objects of the list in `bytes` to `take`; an error if this is no list. What was handed over before
/// an error is of no use: it may lie anywhere in the page.
pub(super) fn each(bytes: &[u8], room: usize, take: &mut impl FnMut(Value)) -> Result<Page, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let page = json.deserialize_map(List { room, take })?;
    json.end()?;
    Ok(page)
}

struct List<'a, F> {
    room: usize,
    take: &'a mut F,
}

impl<'de, F: FnMut(Value)> Visitor<'de> for List<'_, F> {
    type Value = Page;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a list with items")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Page, M::Error> {
        let (mut next, mut left) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metadata" => {
                    let metadata: Value = map.next_value()?;
                    let token = metadata.get("continue").and_then(Value::as_str).filter(|token| !token.is_empty());
                    next = token.map(str::to_owned);
                }
                "items" => left = Some(map.next_value_seed(Items { room: self.room, take: &mut *self.take })?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let left = left.ok_or_else(|| M::Error::missing_field("items"))?;
        Ok(Page { next, left })
    }
}

struct Items<'a, F> {
    room: usize,
    take: &'a mut F,
}

impl<'de, F: FnMut(Value)> DeserializeSeed<'de> for Items<'_, F> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<usize, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Value)> Visitor<'de> for Items<'_, F> {
    /// How many there were beyond the room.
    type Value = usize;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("items")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<usize, S::Error> {
        for _ in 0..self.room {
            match items.next_element()? {
                Some(item) => (self.take)(item),
                None => return Ok(0),
            }
        }
        let mut left = 0;
        while items.next_element::<IgnoredAny>()?.is_some() {
            left += 1;
        }
        Ok(left)
    }

    // Go writes an empty list as null where nobody made one.
    fn visit_unit<E: Error>(self) -> Result<usize, E> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Page, each};

    fn taken(text: &str, room: usize) -> Result<(Page, Vec<serde_json::Value>), String> {
        let mut items = Vec::new();
        let page = each(text.as_bytes(), room, &mut |item| items.push(item)).map_err(|error| error.to_string())?;
        Ok((page, items))
    }

    #[test]
    fn objects_come_one_by_one_wherever_the_metadata_stands() {
        let (page, items) =
            taken(r#"{"items":[{"a":1},{"a":2}],"kind":"List","metadata":{"continue":"x"}}"#, 5).expect("a list");
        assert_eq!((page, items), (Page { next: Some("x".into()), left: 0 }, vec![json!({"a": 1}), json!({"a": 2})]));
        let (page, items) = taken(r#"{"metadata":{"continue":""},"items":null}"#, 5).expect("a list");
        assert_eq!((page, items), (Page::default(), vec![]));
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (page, items) = taken(r#"{"metadata":{},"items":[1,2,3]}"#, 1).expect("a list");
        assert_eq!((page, items), (Page { next: None, left: 2 }, vec![json!(1)]));
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for text in ["", "[]", "{}", r#"{"items":7}"#, r#"{"items":[1,"#, r#"{"items":[]} x"#] {
            assert!(taken(text, 5).is_err(), "{text}");
        }
    }
}
