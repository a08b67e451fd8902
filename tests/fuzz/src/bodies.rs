//! JSON bodies: where one ends is found however it arrives, and whoever changes something in one changes nothing else.

use crate::dialect::json_end::JsonEnd;
use crate::dialect::{Dialect, in_place, kept};
use crate::splits::splits;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fmt;

/// A path of each form in which an answer can be nothing.
const PATHS: [&str; 5] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/g:generateContent",
    "/v1beta/models/g:streamGenerateContent",
];

/// What must hold of any bytes that come as a body.
pub fn check(bytes: &[u8]) {
    let json = serde_json::from_slice::<Value>(bytes).ok();
    check_end(bytes, json.as_ref());
    check_changes(bytes, json.as_ref());
    for dialect in Dialect::ALL {
        for path in PATHS {
            for is_all in [false, true] {
                let is_nothing = dialect.is_nothing(path, bytes, is_all);
                assert!(!is_nothing || is_all || bytes.trim_ascii().starts_with(b"<"), "more may come");
            }
        }
        let _usage = dialect.read_usage(bytes);
        let mut made = 0;
        kept::made(dialect, bytes, |_| made += 1);
        assert!(made <= 64, "{made} things are told of one body");
    }
}

fn check_end(bytes: &[u8], json: Option<&Value>) {
    let is_whole = |pieces: &[&[u8]]| {
        let mut end = JsonEnd::default();
        pieces.iter().for_each(|piece| end.read(piece));
        end.is_whole()
    };
    let whole = is_whole(&[bytes]);
    for pieces in splits(bytes) {
        assert_eq!(is_whole(&pieces), whole, "{pieces:?}");
    }
    if json.is_some_and(|json| json.is_object() || json.is_array()) {
        assert!(whole, "JSON is whole");
        let text = bytes.trim_ascii_end();
        assert!(!is_whole(&[&text[..text.len() - 1]]), "without its last bracket it is not");
    }
}

fn check_changes(bytes: &[u8], json: Option<&Value>) {
    let body = Bytes::copy_from_slice(bytes);
    for model in ["new", "", "a\"b\\c\n\u{1f600}"] {
        let changed = in_place::with_model(&body, model);
        assert!(changed.is_some() || !json.is_some_and(Value::is_object), "an object can be changed");
        let Some(changed) = changed else { continue };
        check_rest(bytes, &changed, "model", &Value::from(model));
        assert_eq!(in_place::with_model(&changed, model), Some(changed.clone()), "once is enough");
        if let Some(Value::Object(object)) = json {
            let mut expected = object.clone();
            expected.insert("model".to_owned(), Value::from(model));
            assert_eq!(parsed(&changed), Value::Object(expected));
        }
    }
    if let (Some(changed), Some(json)) = (Dialect::OpenAi.demand_usage(&body), json) {
        let mut expected = json.clone();
        if expected["stream_options"].is_null() {
            expected["stream_options"] = json!({});
        }
        expected["stream_options"]["include_usage"] = true.into();
        assert_eq!(parsed(&changed), expected);
    }
}

fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("what was JSON is JSON")
}

/// Nothing but the values of `key` in the outermost object is written otherwise; where it was missing, it is put first.
fn check_rest(before: &[u8], after: &[u8], key: &str, value: &Value) {
    let (was, is) = (Object::read(before, key), Object::read(after, key));
    assert!(is.values.iter().all(|written| serde_json::from_str::<Value>(written).is_ok_and(|there| there == *value)));
    if was.values.is_empty() {
        let brace = before.iter().position(|byte| *byte == b'{').expect("an object");
        let comma = if was.is_empty { "" } else { "," };
        let added = format!("{}:{value}{comma}", Value::from(key));
        assert_eq!(after, [&before[..=brace], added.as_bytes(), &before[brace + 1..]].concat());
    } else {
        assert_eq!(was.rest, is.rest);
        assert_eq!(was.values.len(), is.values.len());
    }
}

/// An object as it is written.
struct Object<'j> {
    /// What stands behind the key that is looked for.
    values: Vec<&'j str>,
    /// All bytes but those.
    rest: Vec<u8>,
    is_empty: bool,
}

impl<'j> Object<'j> {
    fn read(json: &'j [u8], key: &str) -> Object<'j> {
        let members = serde_json::from_slice::<Members<'j>>(json).expect("an object").0;
        let (mut values, mut rest, mut copied) = (Vec::new(), Vec::new(), 0);
        for (name, value) in &members {
            if serde_json::from_str::<String>(name).is_ok_and(|name| name == key) {
                let at = value.as_ptr().addr() - json.as_ptr().addr();
                rest.extend_from_slice(&json[copied..at]);
                copied = at + value.len();
                values.push(*value);
            }
        }
        rest.extend_from_slice(&json[copied..]);
        Object { values, rest, is_empty: members.is_empty() }
    }
}

/// The members of an object, keys and values as they are written, in their order.
struct Members<'j>(Vec<(&'j str, &'j str)>);

impl<'j> Deserialize<'j> for Members<'j> {
    fn deserialize<D: Deserializer<'j>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(Members(Vec::new()))
    }
}

impl<'j> Visitor<'j> for Members<'j> {
    type Value = Members<'j>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'j>>(mut self, mut object: A) -> Result<Self, A::Error> {
        while let Some((key, value)) = object.next_entry::<&RawValue, &RawValue>()? {
            self.0.push((key.get(), value.get()));
        }
        Ok(self)
    }
}
