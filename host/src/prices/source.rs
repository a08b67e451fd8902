//! Where a price comes from.

use super::date::Date;
use std::fmt;
use std::path::Path;

/// Where a price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'p> {
    /// The configuration says that nothing costs anything there.
    Free,
    /// The operator's own file, in this line.
    Own {
        /// The file.
        file: &'p Path,
        /// The line, from 1.
        line: usize,
        /// Since when, if it says so.
        valid_from: Option<Date>,
    },
    /// A file of LiteLLM's form.
    LiteLlm {
        /// The file.
        file: &'p Path,
    },
    /// What came along.
    BuiltIn {
        /// When it was taken.
        as_of: Date,
        /// Since when it is the price, where a change was announced.
        valid_from: Option<Date>,
    },
}

impl Source<'_> {
    /// A word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Source::Free => "free",
            Source::Own { .. } => "own",
            Source::LiteLlm { .. } => "litellm",
            Source::BuiltIn { .. } => "built-in",
        }
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since =
            |valid_from: &Option<Date>| valid_from.map(|day| format!(", valid since {day}")).unwrap_or_default();
        match self {
            Source::Free => f.write_str("free, as the configuration says"),
            Source::Own { file, line, valid_from } => {
                write!(f, "{}, line {line}{}", file.display(), since(valid_from))
            }
            Source::LiteLlm { file } => write!(f, "{}", file.display()),
            Source::BuiltIn { as_of, valid_from } => write!(f, "built in, of {as_of}{}", since(valid_from)),
        }
    }
}
