//! `[log]`: how Spillway says what it does, and what it records.

use super::kind::{FileOrNone, Word};
use super::reader::Section;
use super::section::section;
use std::path::PathBuf;

section! {
    /// How Spillway says what it does, and what it records.
    pub struct LogConfig {
        /// How log lines are written: for people, or one JSON object a line.
        format: LogFormat = LogFormat::Text, Word(&[LogFormat::Text, LogFormat::Json], LogFormat::as_str);
        /// Where judged attempts are recorded, for `spillway policy replay` and `spillway simulate`; no credentials and no
        /// prompts are in it, but the beginnings of answers.
        requests: Option<PathBuf> = None, FileOrNone;
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The word used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

impl LogConfig {
    pub(super) fn read(section: Section<'_>) -> LogConfig {
        let mut log = LogConfig::fresh(section.folder());
        log.take(&section);
        section.finish();
        log
    }
}
