//! Where a JSON body ends, found out piece by piece: an answer that is whole stays so, whatever becomes of its
//! connection.

use super::compression::Coding;
use http::{HeaderMap, header};

/// How far a JSON object or list has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JsonEnd {
    depth: u32,
    in_string: bool,
    escaped: bool,
    has_begun: bool,
    is_broken: bool,
}

impl JsonEnd {
    /// For a body with this head, if its own last bracket is what tells its end: not for one whose length is announced,
    /// nor for one that may hold several objects, line by line. Of one that is compressed it is what it decodes to.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(header::CONTENT_TYPE)?.as_bytes();
        let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is_json = media_type.eq_ignore_ascii_case(b"application/json");
        let is_readable = || Coding::of(headers).is_read_as_it_comes();
        (is_json && is_readable() && !headers.contains_key(header::CONTENT_LENGTH)).then(Self::default)
    }

    /// Takes in what comes next.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                // Behind the end nothing may follow, and what does not begin so is no object.
                b'{' | b'[' if self.depth > 0 || !self.has_begun => {
                    self.has_begun = true;
                    self.depth = self.depth.saturating_add(1);
                }
                b'}' | b']' if self.depth > 0 => self.depth -= 1,
                b'"' if self.depth > 0 => self.in_string = true,
                _ if self.depth > 0 => {}
                _ => self.is_broken = true,
            }
        }
    }

    /// Whether the object or list that began is there as a whole, and nothing else.
    pub(crate) fn is_whole(&self) -> bool {
        self.has_begun && self.depth == 0 && !self.is_broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(pieces: &[&str]) -> JsonEnd {
        let mut end = JsonEnd::default();
        pieces.iter().for_each(|piece| end.read(piece.as_bytes()));
        end
    }

    #[test]
    fn a_body_is_whole_with_its_last_bracket_and_not_before() {
        let body = r#"{"a":[1,{"b":"}]\"{"}],"c":null}"#;
        for cut in 0..body.len() {
            assert!(!after(&[&body[..cut]]).is_whole(), "{}", &body[..cut]);
        }
        assert!(after(&[body]).is_whole());
        assert!(after(&["\n \r\n", body, "\n"]).is_whole());
    }

    #[test]
    fn blank_space_is_no_beginning_and_what_is_no_object_is_never_whole() {
        assert!(!after(&["", "\n\n ", "\t"]).is_whole());
        for body in ["null", "<html>", "{}{}", "}", "data: {}\n\n", "\"a\""] {
            let end = after(&[body]);
            assert!(!end.is_whole(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn what_is_whole_does_not_depend_on_how_it_arrives(text in r#"[\[\]{}",:\\ a1\n]{0,30}"#, cut in 0usize..30) {
            let cut = cut.min(text.len());
            let (once, twice) = (after(&[&text]), after(&[&text[..cut], &text[cut..]]));
            prop_assert_eq!(once.is_whole(), twice.is_whole());
            // Whatever is JSON is whole.
            let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|value| value.is_object() || value.is_array());
            prop_assert!(!is_json || once.is_whole());
        }
    }
}
