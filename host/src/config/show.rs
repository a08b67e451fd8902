//! A configuration as TOML: what its file says as it was understood, or all that is in force.

use super::section::Table;
use super::{Config, ConfigError, DEFAULT_FILE, Mistake, Purpose};
use std::fmt::Write;
use std::path::{Path, PathBuf, absolute};
use toml::de::{DeTable, DeValue};

/// Where what is said of a line begins.
const COMMENT_COLUMN: usize = 48;

/// A configuration, and the file's own text.
#[derive(Debug)]
pub struct Shown {
    config: Config,
    text: String,
}

impl Shown {
    /// Reads `file` as [`Config::load`] does, but with the paths in it made absolute, so that what is shown means the
    /// same wherever it is kept.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(file: Option<&Path>) -> Result<Shown, ConfigError> {
        let (path, text) = match super::text_of(file)? {
            Some((path, text)) => (path, text),
            None => (PathBuf::from(DEFAULT_FILE), String::new()),
        };
        let folder = absolute(path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")));
        let folder = folder.map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
        Shown::parse(text, &folder).map_err(|mistakes| ConfigError::Wrong { path, mistakes })
    }

    /// Parses a text as [`parse`](super::parse) does, but for the secrets that it names.
    pub(super) fn parse(text: String, folder: &Path) -> Result<Shown, Vec<Mistake>> {
        Ok(Shown { config: super::parse_for(Purpose::Look, &text, folder)?, text })
    }

    /// What the file says. No credential is in it.
    pub fn as_said(&self) -> String {
        self.write(false)
    }

    /// All that is in force. `spillway check` takes it, and it means the same, but for credentials: none is in it. What
    /// the file does not say is marked as a default.
    pub fn in_force(&self) -> String {
        let told = "All that is in force. What is marked as a default is not in the file; credentials are asterisks.";
        format!("# {told}\n\n{}", self.write(true))
    }

    fn write(&self, defaults: bool) -> String {
        let (said, _) = DeTable::parse_recoverable(&self.text);
        let mut text = String::new();
        write_table(&mut text, &[], &self.config, Some(said.get_ref()), defaults);
        text.trim_start().to_owned()
    }
}

/// Writes a table and those within it. `said` is the same table in the file.
fn write_table(text: &mut String, path: &[&str], table: &dyn Table, said: Option<&DeTable<'_>>, defaults: bool) {
    let is_said = |key: &str| said.is_some_and(|said| said.contains_key(key));
    // Writing to a string cannot fail.
    if !path.is_empty() && (said.is_some() || defaults) {
        let names: Vec<String> = path.iter().map(|name| quoted(name)).collect();
        let keys: Vec<_> = table.entries().into_iter().filter(|(key, _)| defaults || is_said(key)).collect();
        // A table that holds others alone needs no heading, but one that says nothing has its name to say.
        let is_empty = table.tables().is_empty() || said.is_some_and(|said| said.is_empty());
        if !keys.is_empty() || is_empty {
            let _ = writeln!(text, "\n[{}]", names.join("."));
        }
        for (key, value) in keys {
            let _ = match value {
                None => writeln!(text, "# {key} is not set"),
                Some(value) if is_said(&key) => writeln!(text, "{} = {value}", quoted(&key)),
                Some(value) => {
                    let line = format!("{} = {value}", quoted(&key));
                    writeln!(text, "{line:<COMMENT_COLUMN$} # default")
                }
            };
        }
    }
    for (name, table) in table.tables() {
        let said = said.and_then(|said| match said.get(&*name)?.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => None,
        });
        let path: Vec<&str> = path.iter().copied().chain([&*name]).collect();
        write_table(text, &path, table, said, defaults);
    }
}

/// A key as it is written: bare where it can be.
fn quoted(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match is_bare {
        true => key.to_owned(),
        // A string of JSON is one of TOML, but for this character.
        false => serde_json::Value::from(key).to_string().replace('\u{7f}', "\\u007f"),
    }
}
