//! One pass through JSON that takes out what the fields of a table hold, and keeps nothing else of it.

use super::table::{Field, Holds, NO_SIGNATURES, OWN, Of, any};
use super::{Direction, REFERENCES_MAX, resource};
use crate::dialect::{lenient, values_behind};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

/// The walk through one body.
pub(super) struct Walk<'t, 'j> {
    direction: Direction,
    fields: &'t [&'t [Field]],
    found: VecDeque<Cow<'j, str>>,
}

impl<'t, 'j> Walk<'t, 'j> {
    /// What these fields hold in a request, in their order; the last [`REFERENCES_MAX`], each of them once.
    pub(super) fn of_request(fields: &[&[Field]], json: &'j [u8]) -> Vec<Cow<'j, str>> {
        Walk::of(Direction::Request, fields, json).1
    }

    /// The same of an answer, which may be but a piece of one: the beginning, the end, or what stands between.
    pub(super) fn of_answer(fields: &[&[Field]], json: &'j [u8]) -> Vec<Cow<'j, str>> {
        match Walk::of(Direction::Answer, fields, json) {
            (true, found) => found,
            (false, found) => {
                let mut walk = Walk { direction: Direction::Answer, fields, found: found.into() };
                walk.through_piece(json);
                walk.found.into()
            }
        }
    }

    /// What the fields hold, and whether that is all that is known, since this is JSON as a whole.
    fn of(direction: Direction, fields: &[&[Field]], json: &'j [u8]) -> (bool, Vec<Cow<'j, str>>) {
        let mut walk = Walk { direction, fields, found: VecDeque::new() };
        let mut is_whole = walk.through(json).is_ok();
        if !is_whole && let Some(json) = lenient::without_surrogates(json) {
            // Half a pair of surrogates, where a text was cut inside of an emoji, is no Unicode, and no reason to know
            // nothing. No reference has any.
            let mut walk = Walk { direction, fields, found: VecDeque::new() };
            is_whole = walk.through(&json).is_ok();
            return (is_whole, walk.found.into_iter().map(|text| Cow::Owned(text.into_owned())).collect());
        }
        (is_whole, walk.found.into())
    }

    fn through(&mut self, json: &'j [u8]) -> Result<(), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(json);
        json.deserialize_any(Part { walk: self, wanted: Wanted::Deeper })?;
        json.end()
    }

    /// Takes what stands behind the fields' keys, whatever it stands in: that may have begun in another piece. What is
    /// found too much is named by nobody.
    fn through_piece(&mut self, piece: &'j [u8]) {
        for field in self.fields.iter().flat_map(|fields| fields.iter()) {
            let key = format!("\"{}\"", field.key);
            for value in values_behind(piece, key.as_bytes()).filter(|value| value.starts_with(b"\"")) {
                // A text that ends in another piece is none.
                let text = serde_json::Deserializer::from_slice(value).into_iter::<String>().next();
                if let Some(Ok(text)) = text {
                    self.find(Cow::Owned(text), field.holds);
                }
            }
        }
    }

    fn find(&mut self, text: Cow<'j, str>, holds: Holds) {
        let named = match (holds, text) {
            (Holds::Resource | Holds::Resources, Cow::Borrowed(text)) => resource(text).map(Cow::Borrowed),
            (Holds::Resource | Holds::Resources, Cow::Owned(text)) => {
                resource(&text).map(str::to_owned).map(Cow::Owned)
            }
            (_, text) => Some(text),
        };
        let Some(named) = named else { return };
        if named.is_empty() || NO_SIGNATURES.contains(&named.as_ref()) || self.found.contains(&named) {
            return;
        }
        if self.found.len() == REFERENCES_MAX {
            self.found.pop_front();
        }
        self.found.push_back(named);
    }

    fn key(&self, key: &str, inside: Option<&'static str>) -> Key {
        match key {
            "type" => return Key::Type,
            "object" => return Key::Object,
            // The input of a tool is the caller's own, and an object. That of a request is a text or a list.
            "input" => return Key::Input,
            // The result of a function is the caller's own. That of an operation is an answer's.
            "response" if self.direction == Direction::Request => return Key::Own,
            _ if OWN.contains(&key) => return Key::Own,
            _ => {}
        }
        if let Some(inside) = inside.filter(|inside| *inside == key) {
            return Key::Field(any(inside, Holds::Text));
        }
        let known = self.fields.iter().flat_map(|fields| fields.iter()).find(|field| field.key == key);
        known.map_or(Key::Other, |field| Key::Field(*field))
    }
}

/// What stands behind a key.
enum Key {
    /// What the table names.
    Field(Field),
    /// The kind of the object that it stands in.
    Type,
    /// What the object calls itself, where it has no kind.
    Object,
    /// What may be the caller's own.
    Input,
    /// JSON of the caller's own.
    Own,
    Other,
}

struct KeyOf<'w, 't, 'j> {
    walk: &'w Walk<'t, 'j>,
    inside: Option<&'static str>,
}

impl<'j> DeserializeSeed<'j> for KeyOf<'_, '_, 'j> {
    type Value = Key;

    fn deserialize<D: Deserializer<'j>>(self, json: D) -> Result<Key, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'j> Visitor<'j> for KeyOf<'_, '_, 'j> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        Ok(self.walk.key(key, self.inside))
    }
}

/// What is looked for in a value.
#[derive(Clone, Copy)]
enum Wanted {
    /// Fields, wherever they are in it.
    Deeper,
    /// The same, but not if it is an object itself.
    DeeperInLists,
    /// What a field holds.
    Held(Holds),
}

/// A value. What it comes to is the text that it is, if one is wanted.
struct Part<'w, 't, 'j> {
    walk: &'w mut Walk<'t, 'j>,
    wanted: Wanted,
}

impl<'j> DeserializeSeed<'j> for Part<'_, '_, 'j> {
    type Value = Option<Cow<'j, str>>;

    fn deserialize<D: Deserializer<'j>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl Part<'_, '_, '_> {
    fn wants_text(&self) -> bool {
        matches!(self.wanted, Wanted::Held(Holds::Text | Holds::TextOrInside(_) | Holds::Resource))
    }
}

impl<'j> Visitor<'j> for Part<'_, '_, 'j> {
    type Value = Option<Cow<'j, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'j str) -> Result<Self::Value, E> {
        Ok(self.wants_text().then_some(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.wants_text().then(|| Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let held = match self.wanted {
            Wanted::Held(Holds::Texts) => Some(Holds::Text),
            Wanted::Held(Holds::Resources) => Some(Holds::Resource),
            _ => None,
        };
        let wanted = held.map_or(Wanted::Deeper, Wanted::Held);
        while let Some(text) = list.next_element_seed(Part { walk: &mut *self.walk, wanted })? {
            if let (Some(text), Some(held)) = (text, held) {
                self.walk.find(text, held);
            }
        }
        Ok(None)
    }

    fn visit_map<A: MapAccess<'j>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let Part { walk, wanted } = self;
        let inside = match wanted {
            Wanted::DeeperInLists => return IgnoredAny.visit_map(object).map(|_| None),
            Wanted::Held(Holds::Inside(key) | Holds::TextOrInside(key)) => Some(key),
            Wanted::Held(_) | Wanted::Deeper => None,
        };
        let (mut kind, mut called, mut members) = (None, None, 0);
        // What counts in some kinds of objects only: the kind may stand behind it.
        let mut held = Vec::new();
        while let Some(key) = object.next_key_seed(KeyOf { walk: &*walk, inside })? {
            members += 1;
            let wanted = match key {
                Key::Own => {
                    object.next_value::<IgnoredAny>()?;
                    continue;
                }
                Key::Field(field) => Wanted::Held(field.holds),
                Key::Type | Key::Object => Wanted::Held(Holds::Text),
                Key::Input => Wanted::DeeperInLists,
                Key::Other => Wanted::Deeper,
            };
            let text = object.next_value_seed(Part { walk: &mut *walk, wanted })?;
            match (key, text) {
                (Key::Type, text) => kind = text,
                (Key::Object, text) => called = text,
                (Key::Field(Field { of: Of::Any, holds, .. }), Some(text)) => walk.find(text, holds),
                (Key::Field(field), Some(text)) => held.push((field, text)),
                _ => {}
            }
        }
        let kind = kind.or(called);
        for (field, text) in held {
            if field.of.has(kind.as_deref(), members == 1) {
                walk.find(text, field.holds);
            }
        }
        Ok(None)
    }
}
