//! JSON as it is written: the members of an object and the elements of a list, each as the piece of the text that it
//! is. One pass, and nothing of it is copied.

use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Shows each member of an object, its key as it is meant and its value as it is written. `None` where the text is no
/// JSON object, or not only one; some members may have been shown by then.
pub(super) fn members<'j>(json: &'j [u8], see: impl FnMut(&str, &'j str)) -> Option<()> {
    whole(json, Members(see))
}

/// What stands behind a key of an object. A key that stands twice is read as most readers do: the last one counts.
pub(super) fn member<'j>(object: &'j str, key: &str) -> Option<&'j str> {
    let mut found = None;
    members(object.as_bytes(), |each, value| {
        if each == key {
            found = Some(value);
        }
    })?;
    found
}

/// Shows each element of a list as it is written. `None` as with [`members`].
pub(super) fn elements<'j>(json: &'j [u8], mut see: impl FnMut(&'j str)) -> Option<()> {
    let see = |element| {
        see(element);
        true
    };
    whole(json, Elements(see))
}

/// What `find` makes of the first element of a list of which it makes something. What stands behind that is not read.
pub(super) fn find_element<'j, T>(json: &'j [u8], mut find: impl FnMut(&'j str) -> Option<T>) -> Option<T> {
    let mut found = None;
    let until_found = |element| {
        found = find(element);
        found.is_none()
    };
    let _ends_early = whole(json, Elements(until_found));
    found
}

/// Text that is written as a JSON string. `None` where it is another value, or no Unicode: half a pair of surrogates.
pub(super) fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

/// Where in a text a piece of it stands.
pub(super) fn place(text: &[u8], piece: &str) -> Range<usize> {
    let start = piece.as_ptr().addr() - text.as_ptr().addr();
    start..start + piece.len()
}

fn whole<'j>(json: &'j [u8], visitor: impl Visitor<'j, Value = ()>) -> Option<()> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.deserialize_any(visitor).and_then(|()| reader.end()).ok()
}

struct Members<F>(F);

impl<'j, F: FnMut(&str, &'j str)> Visitor<'j> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'j>>(mut self, mut object: A) -> Result<(), A::Error> {
        while let Some((key, value)) = object.next_entry::<&RawValue, &RawValue>()? {
            let key = key.get();
            (self.0)(&text(key).unwrap_or(Cow::Borrowed(key)), value.get());
        }
        Ok(())
    }
}

/// Shows elements as long as they are to be seen. A list that goes on behind the last one is an error.
struct Elements<F>(F);

impl<'j, F: FnMut(&'j str) -> bool> Visitor<'j> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'j>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element::<&RawValue>()? {
            if !(self.0)(element.get()) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(json: &str) -> (Option<()>, Vec<String>) {
        let mut seen = Vec::new();
        let outcome = members(json.as_bytes(), |key, value| {
            assert_eq!(&json[place(json.as_bytes(), value)], value);
            seen.push(format!("{key}={value}"));
        });
        (outcome, seen)
    }

    #[test]
    fn each_member_is_shown_as_it_is_written() {
        let json = r#" { "mod\u0065l" : "\u0061\ud800", "n":1.0e+3 ,"a":[ 1, {"a":2}],"a":-0, "":9e999 } "#;
        let expected = ["model=\"\\u0061\\ud800\"", "n=1.0e+3", "a=[ 1, {\"a\":2}]", "a=-0", "=9e999"];
        assert_eq!(seen(json), (Some(()), expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn what_is_no_object_or_not_only_one_is_none() {
        for json in ["", "[]", "1", "{", "{}{}", "{} x", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "{\"a\":01}", "\u{feff}{}"]
        {
            assert_eq!(seen(json).0, None, "{json}");
        }
        assert_eq!(members(b"{\"a\":\"\xff\"}", |_, _| ()), None);
        assert_eq!(elements(b"{}", |_| ()), None);
        assert_eq!(elements(b"[1,]", |_| ()), None);
    }

    #[test]
    fn a_list_is_read_until_something_is_found() {
        let find =
            |json: &str| find_element(json.as_bytes(), |element| (element.len() == 2).then(|| element.to_owned()));
        assert_eq!(find(r#"[1, 22 ,333]"#).as_deref(), Some("22"));
        assert_eq!(find(r#"[1,{},"#).as_deref(), Some("{}"));
        assert_eq!((find("[]"), find("{}"), find("[1]")), (None, None, None));
    }

    #[test]
    fn depth_is_no_matter() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(members(deep.as_bytes(), |_, _| ()), Some(()));
    }
}
