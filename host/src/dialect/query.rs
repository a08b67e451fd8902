//! The parameters of a query, by name, without a change to those that stay.

use std::borrow::Cow;
use std::fmt::Write;

/// The name of a parameter, decoded: whoever reads it at the provider decodes it too.
pub(crate) fn name(pair: &str) -> Cow<'_, str> {
    decoded(pair.split('=').next().unwrap_or_default())
}

/// A name or a value as it is meant. What is wrongly encoded stays as it is.
pub(crate) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        rest = behind;
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits are one byte.
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => decoded.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// Removes those parameters from a path with its query of which `is_unwanted` says so. The others stay as they are.
pub(crate) fn remove(path_and_query: &mut String, mut is_unwanted: impl FnMut(&str) -> bool) {
    let Some((path, query)) = path_and_query.split_once('?') else { return };
    if !query.split('&').any(&mut is_unwanted) {
        return;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_unwanted(pair)).collect();
    let query = kept.join("&");
    *path_and_query = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
}

/// A text as one segment of a path, or one value of a query, can hold it.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        // RFC 3986 allows a colon and an @ in both, and names of models have them.
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_known_by_its_name_however_that_is_written() {
        let cases =
            [("key=1", "key"), ("%6bey=1", "key"), ("k%65%79", "key"), ("%zz=1", "%zz"), ("%6", "%6"), ("", "")];
        for (pair, expected) in cases {
            assert_eq!(name(pair), expected, "{pair}");
        }
    }

    #[test]
    fn those_that_stay_are_not_changed() {
        let without_key = |text: &str| {
            let mut text = text.to_owned();
            remove(&mut text, |pair| name(pair) == "key");
            text
        };
        assert_eq!(without_key("/p?a=%41&key=1&b&&c="), "/p?a=%41&b&&c=");
        assert_eq!(without_key("/p?key=1"), "/p");
        assert_eq!(without_key("/p?&"), "/p?&");
        assert_eq!(without_key("/p"), "/p");
    }

    #[test]
    fn a_name_of_a_model_is_one_segment_of_a_path() {
        assert_eq!(encoded("ft:gpt-4o@1/ü ?"), "ft:gpt-4o@1%2F%C3%BC%20%3F");
    }
}
