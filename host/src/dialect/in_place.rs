//! Changes to a JSON body that leave every other byte as the caller wrote it: fields nobody here knows, forms of
//! numbers, the order of keys, keys that stand twice, escapes and blanks.

use super::raw;
use bytes::Bytes;
use serde_json::Value;
use std::ops::Range;

/// The body with another model: whatever stands behind `model` in its outermost object, each time if it stands there
/// several times; where nothing does, it is put first. `None` where the body is no JSON object. One that names this
/// model already is the same bytes.
pub(crate) fn with_model(body: &Bytes, model: &str) -> Option<Bytes> {
    let mut edits = Vec::new();
    plan(body, body, &["model"], &Value::from(model).to_string(), &mut edits)?;
    Some(if edits.is_empty() { body.clone() } else { apply(body, &edits) })
}

/// The body with `value`, which is JSON, at the end of a path of keys. Objects that are missing on the way, or null,
/// are made. `None` where something on the way is no object.
pub(super) fn set(body: &[u8], keys: &[&str], value: &str) -> Option<Bytes> {
    let mut edits = Vec::new();
    plan(body, body, keys, value, &mut edits)?;
    Some(apply(body, &edits))
}

/// The body with each of these pieces of it replaced by what `by` makes of it. They stand in it one behind the other.
pub(super) fn replace(body: &Bytes, pieces: &[&str], by: impl Fn(&str) -> String) -> Bytes {
    let edits: Vec<Edit> = pieces
        .iter()
        .map(|piece| (piece, by(piece)))
        .filter(|(piece, by)| !is_same(piece, by))
        .map(|(piece, by)| Edit { place: raw::place(body, piece), by })
        .collect();
    if edits.is_empty() { body.clone() } else { apply(body, &edits) }
}

/// What stands at `place` is replaced.
struct Edit {
    place: Range<usize>,
    by: String,
}

/// Plans what sets `keys` in `object`, a piece of `body`, from the front to the back.
fn plan(body: &[u8], object: &[u8], keys: &[&str], value: &str, edits: &mut Vec<Edit>) -> Option<()> {
    let Some((first, further)) = keys.split_first() else { return Some(()) };
    // A key that stands twice is read as its first or its last value, depending on who reads it: each is changed.
    let mut found = Vec::new();
    let mut is_empty = true;
    raw::members(object, |key, written| {
        is_empty = false;
        if key == *first {
            found.push(written);
        }
    })?;
    let made = further.iter().rfold(value.to_owned(), |made, key| format!("{{{}:{made}}}", Value::from(*key)));
    if found.is_empty() {
        let brace = memchr::memchr(b'{', object)?;
        let start = object.as_ptr().addr() - body.as_ptr().addr() + brace + 1;
        let comma = if is_empty { "" } else { "," };
        edits.push(Edit { place: start..start, by: format!("{}:{made}{comma}", Value::from(*first)) });
    }
    for written in found {
        if !further.is_empty() && written != "null" {
            plan(body, written.as_bytes(), further, value, edits)?;
        } else if !is_same(written, &made) {
            edits.push(Edit { place: raw::place(body, written), by: made.clone() });
        }
    }
    Some(())
}

/// Whether two values are the same, as text or as the text that is meant.
fn is_same(one: &str, other: &str) -> bool {
    one == other || raw::text(one).is_some_and(|text| raw::text(other) == Some(text))
}

fn apply(body: &[u8], edits: &[Edit]) -> Bytes {
    let added: usize = edits.iter().map(|edit| edit.by.len()).sum();
    let mut changed = Vec::with_capacity(body.len() + added);
    let mut copied = 0;
    for Edit { place, by } in edits {
        changed.extend_from_slice(&body[copied..place.start]);
        changed.extend_from_slice(by.as_bytes());
        copied = place.end;
    }
    changed.extend_from_slice(&body[copied..]);
    Bytes::from(changed)
}

#[cfg(test)]
mod tests;
