//! Reads TOML into checked values and keeps every mistake, each with its line and path.
//!
//! serde stops at the first mistake; an operator wants all of them at once.

use super::Purpose;
use spillway_sdk::wait;
use std::cell::RefCell;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest duration that makes sense to write down, and short enough to be added to any instant.
const DURATION_MAX: Duration = Duration::from_secs(2 * 365 * 24 * 3600);

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line in the file, from 1.
    pub line: usize,
    /// Dotted path of the key.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "line {}: {}", self.line, self.message)
        } else {
            write!(f, "line {}: {}: {}", self.line, self.path, self.message)
        }
    }
}

/// A document being read, and the mistakes found in it so far.
pub(super) struct Document<'a> {
    text: &'a str,
    /// Where it lies: relative paths in it are relative to this.
    folder: &'a Path,
    purpose: Purpose,
    mistakes: RefCell<Vec<Mistake>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str, folder: &'a Path, purpose: Purpose) -> Self {
        Document { text, folder, purpose, mistakes: RefCell::default() }
    }

    /// Parses the text. Syntax errors are mistakes too; whatever could be read is returned.
    pub(super) fn parse(&self) -> Spanned<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let span = error.span().unwrap_or_default();
            let mut message = error.message().to_owned();
            // Where a key stands twice the parser points at it, and does not name it.
            if let Some(key) = self.text.get(span.clone()).filter(|_| message == "duplicate key") {
                message = format!("duplicate key `{}`: it stands here for the second time", key.trim());
            }
            self.note(&span, String::new(), message);
        }
        table
    }

    pub(super) fn note(&self, span: &Range<usize>, path: String, message: String) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = 1 + before.bytes().filter(|&byte| byte == b'\n').count();
        self.mistakes.borrow_mut().push(Mistake { line, path, message });
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|mistake| mistake.line);
        mistakes
    }
}

/// One table of the document, empty where the document has none. Each getter names a key it knows; [`Section::finish`]
/// reports all others.
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
    path: String,
    known: RefCell<Vec<&'static str>>,
    taken: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub(super) fn root(document: &'a Document<'a>, table: &'a Spanned<DeTable<'a>>) -> Self {
        Section::new(document, Some(table.get_ref()), 0..0, String::new())
    }

    fn new(document: &'a Document<'a>, table: Option<&'a DeTable<'a>>, span: Range<usize>, path: String) -> Self {
        Section { document, table, span, path, known: RefCell::default(), taken: RefCell::default() }
    }

    /// The folder in which the file lies.
    pub(super) fn folder(&self) -> &'a Path {
        self.document.folder
    }

    /// Whatever stands under a key that is known from elsewhere.
    /// What it is read for.
    pub(super) fn purpose(&self) -> Purpose {
        self.document.purpose
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    fn path_of(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            (path, "") => path.to_owned(),
            ("", key) => key.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    /// Whatever stands under a key.
    pub(super) fn find(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        self.get(key)
    }

    /// A mistake about what stands at this place, where something else is expected.
    pub(super) fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let message = format!("expected {expected}, found {}", kind(value.get_ref()));
        self.document.note(&value.span(), self.path_of(key), message);
    }

    /// A mistake about this section as a whole, or about one of its keys.
    pub(super) fn mistake(&self, key: &str, message: impl Into<String>) {
        let span = self.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.document.note(&span, self.path_of(key), message.into());
    }

    /// A mistake about one entry of the list that stands under a key.
    pub(super) fn mistake_about(&self, key: &str, entry: &str, message: String) {
        let list = self.get(key).and_then(|value| value.get_ref().as_array());
        let place = list.and_then(|list| list.iter().find(|value| value.get_ref().as_str() == Some(entry)));
        match place {
            Some(place) => self.document.note(&place.span(), self.path_of(key), message),
            None => self.mistake(key, message),
        }
    }

    /// A mistake about what stands at this place under a key.
    pub(super) fn mistake_at(&self, place: &Spanned<DeValue<'_>>, key: &str, message: impl Into<String>) {
        self.document.note(&place.span(), self.path_of(key), message.into());
    }

    /// Where the section begins in the document.
    pub(super) fn position(&self) -> usize {
        self.span.start
    }

    /// A table that stands at this place under a key, in a list for instance.
    pub(super) fn within_list(&self, place: &'a Spanned<DeValue<'a>>, key: &str) -> Option<Section<'a>> {
        let DeValue::Table(table) = place.get_ref() else { return None };
        Some(Section::new(self.document, Some(table), place.span(), self.path_of(key)))
    }

    /// Whether the document has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Notes that what is said under this key has been taken.
    pub(super) fn taken(&self, key: &'static str) {
        self.taken.borrow_mut().push(key);
    }

    /// Whether what is said under this key has been taken: it is there, and there is nothing wrong with it.
    pub(super) fn has_taken(&self, key: &str) -> bool {
        self.taken.borrow().contains(&key)
    }

    /// The sub-table `key`, empty if there is none.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        let Some(value) = self.find(key) else { return self.empty(key) };
        match value.get_ref() {
            DeValue::Table(table) => Section::new(self.document, Some(table), value.span(), self.path_of(key)),
            _ => {
                self.wrong(key, value, "a table");
                self.empty(key)
            }
        }
    }

    /// A sub-table of which nothing is said.
    pub(super) fn empty(&self, key: &str) -> Section<'a> {
        Section::new(self.document, None, self.span.clone(), self.path_of(key))
    }

    /// Every sub-table of this section, by name; for tables whose keys the operator chooses.
    pub(super) fn named_sections(&self) -> Vec<(String, Section<'a>)> {
        let mut sections = Vec::new();
        for (name, value) in self.table.into_iter().flatten() {
            match value.get_ref() {
                DeValue::Table(table) => {
                    let path = self.path_of(name.get_ref());
                    let section = Section::new(self.document, Some(table), value.span(), path);
                    sections.push((name.get_ref().to_string(), section));
                }
                _ => self.wrong(name.get_ref(), value, "a table"),
            }
        }
        sections
    }

    /// Every entry of this section as JSON, for tables that only a policy understands.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let entries =
            self.table.into_iter().flatten().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())));
        serde_json::Value::Object(entries.collect())
    }

    pub(super) fn string(&self, key: &'static str) -> Option<String> {
        let value = self.find(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.wrong(key, value, "a string");
                None
            }
        }
    }

    /// A list of strings, each taken if `read` takes it; else what it answers is a mistake about that entry.
    pub(super) fn strings<T>(&self, key: &'static str, read: fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let value = self.find(key)?;
        match value.get_ref() {
            DeValue::Array(list) => Some(self.each(key, list, read)),
            _ => {
                self.wrong(key, value, "a list of strings");
                None
            }
        }
    }

    /// A string, or a list of strings, each taken as [`Section::strings`] does.
    pub(super) fn one_or_more<T>(
        &self,
        key: &'static str,
        read: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.find(key)?;
        match value.get_ref() {
            DeValue::Array(list) => Some(self.each(key, list, read)),
            DeValue::String(_) => Some(self.each(key, [value], read)),
            _ => {
                self.wrong(key, value, "a string or a list of strings");
                None
            }
        }
    }

    fn each<'v, T>(
        &self,
        key: &'static str,
        entries: impl IntoIterator<Item = &'v Spanned<DeValue<'v>>>,
        mut read: impl FnMut(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut taken = Vec::new();
        for entry in entries {
            match entry.get_ref() {
                DeValue::String(text) => match read(text) {
                    Ok(one) => taken.push(one),
                    Err(message) => self.document.note(&entry.span(), self.path_of(key), message),
                },
                _ => self.wrong(key, entry, "a string"),
            }
        }
        taken
    }

    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.find(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => {
                self.wrong(key, value, "true or false");
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn integer(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.find(key)?;
        let parsed = match value.get_ref() {
            DeValue::Integer(integer) => integer.to_string().parse::<u64>().ok(),
            _ => {
                self.wrong(key, value, "a whole number");
                return None;
            }
        };
        match parsed {
            Some(number) if range.contains(&number) => Some(number),
            Some(_) | None => {
                self.mistake(key, format!("must be from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    /// A number, whole or not.
    pub(super) fn number(&self, key: &'static str) -> Option<f64> {
        let value = self.find(key)?;
        match value.get_ref() {
            DeValue::Float(float) => float.to_string().parse::<f64>().ok(),
            DeValue::Integer(integer) => integer.to_string().parse::<f64>().ok(),
            _ => {
                self.wrong(key, value, "a number");
                None
            }
        }
    }

    /// A duration with its unit: `"500ms"`, `"30s"`, `"1h30m"`.
    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        let value = self.find(key)?;
        let expected = "a duration with its unit, such as \"500ms\", \"30s\" or \"1h30m\"";
        match value.get_ref() {
            DeValue::String(text) => {
                let duration = wait::duration(text);
                match duration {
                    None => self.mistake(key, format!("expected {expected}, found \"{text}\"")),
                    Some(long) if long > DURATION_MAX => self.mistake(key, "must not be longer than two years"),
                    Some(_) => {}
                }
                duration.filter(|duration| *duration <= DURATION_MAX)
            }
            _ => {
                self.wrong(key, value, expected);
                None
            }
        }
    }

    /// Holds a duration within what ends it in any case: `longest`, the setting `outer`. What is longer by the document
    /// is a mistake, and a default that is longer is shortened: whoever has set the other has said nothing of this one.
    pub(super) fn within(&self, key: &'static str, place: &mut Duration, (outer, longest): (&str, Duration)) {
        if *place > longest {
            if self.has_taken(key) {
                self.mistake(key, format!("must not be longer than {outer} ({longest:?}), which ends first"));
            }
            *place = longest;
        }
    }

    /// Lets a bound hold what it is the bound of: a default that is shorter is lengthened, since whoever has set the other
    /// has said nothing of this one. What the document sets is left as it is, and may be a mistake.
    pub(super) fn no_shorter(&self, key: &'static str, place: &mut Duration, than: Duration) {
        if *place < than && !self.has_taken(key) {
            *place = than;
        }
    }

    /// A duration with its unit, or else a whole number.
    pub(super) fn duration_or_count(&self, key: &'static str) -> Option<Result<Duration, u32>> {
        match self.get(key).map(Spanned::get_ref) {
            Some(DeValue::Integer(_)) => {
                self.integer(key, 1..=u32::MAX.into()).and_then(|count| u32::try_from(count).ok()).map(Err)
            }
            _ => self.duration(key).map(Ok),
        }
    }

    /// What the core finds wrong with settings whose fields are keys of this section.
    pub(super) fn mistakes(&self, mistakes: impl IntoIterator<Item = spillway_resilience::Mistake>) {
        for mistake in mistakes {
            self.mistake(mistake.field, mistake.message);
        }
    }

    /// A size with its unit: `"64KiB"`, `"32MiB"`, `"1GiB"`; not below `min` bytes.
    pub(super) fn size(&self, key: &'static str, min: u64) -> Option<u64> {
        let value = self.find(key)?;
        let expected = "a size with its unit, such as \"64KiB\", \"32MiB\" or \"1GiB\"";
        match value.get_ref() {
            DeValue::String(text) => {
                let size = size_bytes(text);
                match size {
                    None => self.mistake(key, format!("expected {expected}, found \"{text}\"")),
                    Some(small) if small < min => self.mistake(key, format!("must be {} or more", in_units(min))),
                    Some(_) => {}
                }
                size.filter(|size| *size >= min)
            }
            _ => {
                self.wrong(key, value, expected);
                None
            }
        }
    }

    /// Reports every key that no getter asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let message = match nearest(name, &known) {
                Some(meant) => format!("unknown key; did you mean `{meant}`?"),
                None => format!("unknown key; known here are: {}", known.join(", ")),
            };
            self.document.note(&key.span(), self.path_of(name), message);
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => serde_json::Value::String(text.to_string()),
        DeValue::Integer(integer) => {
            let text = integer.to_string();
            text.parse::<i64>().map_or(serde_json::Value::String(text), serde_json::Value::from)
        }
        DeValue::Float(float) => {
            let text = float.to_string();
            text.parse::<f64>().map_or(serde_json::Value::String(text), serde_json::Value::from)
        }
        DeValue::Boolean(boolean) => serde_json::Value::Bool(*boolean),
        DeValue::Datetime(date) => serde_json::Value::String(date.to_string()),
        DeValue::Array(list) => list.iter().map(|entry| json(entry.get_ref())).collect(),
        DeValue::Table(table) => serde_json::Value::Object(
            table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref()))).collect(),
        ),
    }
}

fn size_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// A size as it is written.
pub(super) fn in_units(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits = units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit) && bytes > 0);
    fits.map_or_else(|| format!("{bytes}B"), |(unit, word)| format!("{}{word}", bytes / unit))
}

/// The known key that differs from `name` by the fewest edits, if it differs by few.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let best = known.iter().map(|candidate| (strsim::levenshtein(name, candidate), *candidate)).min()?;
    (best.0 <= 1 + name.len() / 4).then_some(best.1)
}
