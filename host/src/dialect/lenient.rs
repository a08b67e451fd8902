//! Fields that are read for themselves: whatever stands where something else was expected is passed over, without being
//! kept, and says nothing about the rest. What no reader could make sense of says nothing about it either: a number
//! beyond all bounds, half a pair of surrogates, bytes that are no Unicode. A key that stands twice is read as most
//! readers do: the last one counts.

use super::raw;

/// So much is kept of a text: those that are read are names and words.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// Shows each member of an object, its key as it is meant and its value as it is written. `None` where a body is no JSON
/// object, or not only one; some members may have been shown by then, and some are shown twice where bytes are no
/// Unicode, which is then replaced.
pub(super) fn members(body: &[u8], mut see: impl FnMut(&str, &str)) -> Option<()> {
    raw::members(body, &mut see).or_else(|| match str::from_utf8(body) {
        Ok(_) => None,
        Err(_) => raw::members(String::from_utf8_lossy(body).as_bytes(), see),
    })
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
    /// Of a value as it is written.
    pub(super) fn read(written: &str) -> Scalar {
        match written.as_bytes().first() {
            Some(b'"') => raw::text(written).map_or(Scalar::Other, |text| {
                Scalar::Text(text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned())
            }),
            Some(b't') => Scalar::Bool(true),
            Some(b'f') => Scalar::Bool(false),
            Some(b'n') | None => Scalar::Null,
            Some(b'{' | b'[') => Scalar::Other,
            Some(_) => match written.parse() {
                Ok(number) => Scalar::Whole(number),
                Err(_) => written.parse().map_or(Scalar::Other, Scalar::Number),
            },
        }
    }

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

/// How many prompts there are: a list of texts, or of lists of tokens, holds as many, and a list of tokens is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prompts(pub(super) u64);

impl Default for Prompts {
    fn default() -> Self {
        Prompts(1)
    }
}

impl Prompts {
    /// Of a value as it is written.
    pub(super) fn read(written: &str) -> Prompts {
        let (mut prompts, mut are_tokens) = (0, false);
        let read = raw::elements(written.as_bytes(), |prompt| {
            prompts += 1;
            are_tokens |= prompt.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        });
        Prompts(if read.is_none() || are_tokens { 1 } else { prompts.max(1) })
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
