//! A text in which `*` stands for anything.

use std::fmt;

/// A text in which each `*` stands for any number of characters, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Takes any text that is not empty.
    ///
    /// # Errors
    /// When it is empty, which no text would fit.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        match text {
            "" => Err("an empty pattern fits nothing; leave the key out to take everything".to_owned()),
            text => Ok(Pattern(text.to_owned())),
        }
    }

    /// Whether a text is as the pattern says.
    pub fn fits(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|begins| text.strip_prefix(begins)) else { return false };
        let Some(ends) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            // The first place where a piece fits leaves the most for those behind it.
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(ends)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        let fits = |pattern: &str, text: &str| Pattern::parse(pattern).expect("a pattern").fits(text);
        for (pattern, text) in [
            ("gpt-5", "gpt-5"),
            ("gpt-5*", "gpt-5"),
            ("gpt-5*", "gpt-5-mini"),
            ("*", ""),
            ("*mini*", "gpt-5-mini-2"),
            ("a*b*c", "a-b-b-c"),
            ("a*a", "aa"),
            ("**", "x"),
        ] {
            assert!(fits(pattern, text), "{pattern}: {text}");
        }
        for (pattern, text) in [("gpt-5", "gpt-5-mini"), ("gpt-5", "my-gpt-5"), ("a*b*c", "a-c-b"), ("a*a", "a")] {
            assert!(!fits(pattern, text), "{pattern}: {text}");
        }
        assert!(Pattern::parse("").is_err());
    }
}
