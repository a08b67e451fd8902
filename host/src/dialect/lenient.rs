//! Fields that are read for themselves: whatever stands where something else was expected is passed over, without being
//! kept, and says nothing about the rest.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// So much is kept of a text: those that are read are names and words.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// What can be made of any JSON.
trait Lenient<'j>: Sized {
    fn of_scalar(scalar: Scalar) -> Self;

    fn of_list<A: SeqAccess<'j>>(list: A) -> Result<Self, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| Self::of_scalar(Scalar::Other))
    }

    fn of_object<A: MapAccess<'j>>(object: A) -> Result<Self, A::Error> {
        IgnoredAny.visit_map(object).map(|_| Self::of_scalar(Scalar::Other))
    }
}

struct LenientVisitor<T>(PhantomData<T>);

impl<'j, T: Lenient<'j>> Visitor<'j> for LenientVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::of_scalar(Scalar::Text(text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        Ok(T::of_scalar(Scalar::Whole(number)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Ok(T::of_scalar(Scalar::Number(number as f64)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        Ok(T::of_scalar(Scalar::Number(number)))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        Ok(T::of_scalar(Scalar::Bool(value)))
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::of_scalar(Scalar::Null))
    }

    fn visit_seq<A: SeqAccess<'j>>(self, list: A) -> Result<T, A::Error> {
        T::of_list(list)
    }

    fn visit_map<A: MapAccess<'j>>(self, object: A) -> Result<T, A::Error> {
        T::of_object(object)
    }
}

/// A single value. Lists and objects are [`Scalar::Other`], however large they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Scalar {
    /// Its beginning.
    Text(String),
    Whole(u64),
    Number(f64),
    Bool(bool),
    Other,
    /// Null, or not there.
    #[default]
    Null,
}

impl Scalar {
    pub(super) fn text(self) -> Option<String> {
        match self {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is(&self, value: bool) -> bool {
        *self == Scalar::Bool(value)
    }

    /// A count, however it is written: some clients send `100.0`. Those that mean "no bound" by a negative one set
    /// none.
    pub(super) fn whole_number(&self) -> Option<u64> {
        match self {
            Scalar::Whole(number) => Some(*number),
            Scalar::Number(number) if number.fract() == 0.0 => format!("{number:.0}").parse().ok(),
            _ => None,
        }
    }
}

impl<'j> Lenient<'j> for Scalar {
    fn of_scalar(scalar: Scalar) -> Self {
        scalar
    }
}

impl<'j> Deserialize<'j> for Scalar {
    fn deserialize<D: Deserializer<'j>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientVisitor(PhantomData))
    }
}

/// An object of which some fields are read; anything else is as good as an empty one.
#[derive(Debug, Default)]
pub(super) struct Section<T>(pub(super) T);

impl<'j, T: Default + Deserialize<'j>> Lenient<'j> for Section<T> {
    fn of_scalar(_: Scalar) -> Self {
        Section::default()
    }

    fn of_object<A: MapAccess<'j>>(object: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(Section)
    }
}

impl<'j, T: Default + Deserialize<'j>> Deserialize<'j> for Section<T> {
    fn deserialize<D: Deserializer<'j>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientVisitor(PhantomData))
    }
}

/// How many prompts there are: a list of texts, or of lists of tokens, holds as many, and a list of tokens is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prompts(pub(super) u64);

impl Default for Prompts {
    fn default() -> Self {
        Prompts(1)
    }
}

impl<'j> Lenient<'j> for Prompts {
    fn of_scalar(_: Scalar) -> Self {
        Prompts(1)
    }

    fn of_list<A: SeqAccess<'j>>(mut list: A) -> Result<Self, A::Error> {
        let (mut prompts, mut are_tokens) = (0, false);
        while let Some(prompt) = list.next_element::<Scalar>()? {
            prompts += 1;
            are_tokens |= matches!(prompt, Scalar::Whole(_) | Scalar::Number(_));
        }
        Ok(Prompts(if are_tokens { 1 } else { prompts.max(1) }))
    }
}

impl<'j> Deserialize<'j> for Prompts {
    fn deserialize<D: Deserializer<'j>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientVisitor(PhantomData))
    }
}

/// A body in which all characters that are written as surrogates are written as a single other one; `None` where there
/// are none.
pub(super) fn without_surrogates(body: &[u8]) -> Option<Vec<u8>> {
    let is_surrogate =
        |at: &usize| matches!(body.get(at + 2..at + 4), Some([b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F']));
    let mut places = memchr::memmem::find_iter(body, b"\\u").filter(is_surrogate).peekable();
    places.peek()?;
    let mut without = body.to_vec();
    for at in places {
        if let Some(escape) = without.get_mut(at..at + 6) {
            escape.copy_from_slice(b"\\ufffd");
        }
    }
    Some(without)
}
