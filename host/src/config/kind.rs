//! The kinds of values that a key can hold: how each is read, written, and described to people and to editors.

use super::reader::{Section, in_units};
use serde_json::json;
use spillway_resilience::WindowKind;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Value;

/// Shortest duration that makes sense to write down, where none at all is not meant: no timer here is finer.
const TIME_MIN: Duration = Duration::from_millis(1);
/// What editors take for a duration.
const TIME_PATTERN: &str = r"^([0-9]+(\.[0-9]+)?(h|m|s|ms|us|µs|ns))+$";
/// What editors take for a size.
const SIZE_PATTERN: &str = "^[0-9]+ *(B|KiB|MiB|GiB)$";

/// A kind of value, which is a `T` once it is read.
pub(super) trait Kind<T> {
    /// What is said under this key. `None` when nothing is said, or something wrong, which is then noted.
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<T>;

    /// A value as it is written; `None` for what is said by leaving the key out. No credential is in it.
    fn write(&self, value: &T) -> Option<Value>;

    /// What can be written, in words.
    fn words(&self) -> String;

    /// The same as JSON Schema.
    fn schema(&self) -> serde_json::Value;

    /// What a value means in a file that lies in `folder`: relative paths are relative to it.
    fn placed(&self, value: T, _folder: &Path) -> T {
        value
    }
}

/// True or false.
pub(super) struct Flag;

impl Kind<bool> for Flag {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<bool> {
        section.boolean(key)
    }

    fn write(&self, value: &bool) -> Option<Value> {
        Some(Value::Boolean(*value))
    }

    fn words(&self) -> String {
        "`true` or `false`".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "boolean"})
    }
}

/// A whole number within these bounds.
pub(super) struct Whole(pub(super) RangeInclusive<u64>);

impl<T: Copy + TryFrom<u64>> Kind<T> for Whole
where
    i64: TryFrom<T>,
{
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<T> {
        T::try_from(section.integer(key, self.0.clone())?).ok()
    }

    fn write(&self, value: &T) -> Option<Value> {
        i64::try_from(*value).ok().map(Value::Integer)
    }

    fn words(&self) -> String {
        format!("{} to {}", self.0.start(), self.0.end())
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "integer", "minimum": self.0.start(), "maximum": self.0.end()})
    }
}

/// A number within these bounds, whole or not.
pub(super) struct Number(pub(super) RangeInclusive<f64>);

impl Kind<f64> for Number {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<f64> {
        let number = section.number(key)?;
        if self.0.contains(&number) {
            return Some(number);
        }
        section.mistake(key, format!("{number} must lie between {} and {}", self.0.start(), self.0.end()));
        None
    }

    fn write(&self, value: &f64) -> Option<Value> {
        Some(Value::Float(*value))
    }

    fn words(&self) -> String {
        format!("{} to {}", self.0.start(), self.0.end())
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "number", "minimum": self.0.start(), "maximum": self.0.end()})
    }
}

/// A share from 0 to 1.
pub(super) struct Share;

impl Kind<f64> for Share {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<f64> {
        let share = section.number(key)?;
        if (0.0..=1.0).contains(&share) {
            return Some(share);
        }
        section.mistake(key, "must be from 0 to 1");
        None
    }

    fn write(&self, value: &f64) -> Option<Value> {
        Some(Value::Float(*value))
    }

    fn words(&self) -> String {
        "0 to 1".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "number", "minimum": 0, "maximum": 1})
    }
}

/// A number above this one; 0 switches off what it is about.
pub(super) struct AboveOrOff(pub(super) f64);

impl Kind<Option<f64>> for AboveOrOff {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Option<f64>> {
        let number = section.number(key)?;
        if number == 0.0 {
            return Some(None);
        }
        if number > self.0 && number.is_finite() {
            return Some(Some(number));
        }
        section.mistake(key, format!("{number} must be a number above {}", self.0));
        None
    }

    fn write(&self, value: &Option<f64>) -> Option<Value> {
        Some(Value::Float(value.unwrap_or(0.0)))
    }

    fn words(&self) -> String {
        format!("above {}; 0: off", self.0)
    }

    fn schema(&self) -> serde_json::Value {
        json!({"anyOf": [{"const": 0}, {"type": "number", "exclusiveMinimum": self.0}]})
    }
}

/// A number of which 0 switches off what it is about.
pub(super) struct ZeroIsOff<K>(pub(super) K);

impl<T: Default + PartialEq, K: Kind<T>> Kind<Option<T>> for ZeroIsOff<K> {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Option<T>> {
        let number = self.0.read(section, key)?;
        Some((number != T::default()).then_some(number))
    }

    fn write(&self, value: &Option<T>) -> Option<Value> {
        self.0.write(value.as_ref().unwrap_or(&T::default()))
    }

    fn words(&self) -> String {
        format!("{}; 0: off", self.0.words())
    }

    fn schema(&self) -> serde_json::Value {
        self.0.schema()
    }
}

/// What may be left unsaid, which then means something of its own.
pub(super) struct Maybe<K>(pub(super) K);

impl<T, K: Kind<T>> Kind<Option<T>> for Maybe<K> {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Option<T>> {
        self.0.read(section, key).map(Some)
    }

    fn write(&self, value: &Option<T>) -> Option<Value> {
        self.0.write(value.as_ref()?)
    }

    fn words(&self) -> String {
        self.0.words()
    }

    fn schema(&self) -> serde_json::Value {
        self.0.schema()
    }

    fn placed(&self, value: Option<T>, folder: &Path) -> Option<T> {
        value.map(|value| self.0.placed(value, folder))
    }
}

/// A duration with its unit: `"500ms"`, `"30s"`, `"1h30m"`.
pub(super) struct Time {
    least: Duration,
    /// Whether none at all is a choice.
    or_none: bool,
}

impl Time {
    /// Any, none at all included.
    pub(super) const ANY: Time = Time { least: Duration::ZERO, or_none: true };
    /// What a timer can measure.
    pub(super) const POSITIVE: Time = Time::from(TIME_MIN);
    /// What a timer can measure, or none at all.
    pub(super) const POSITIVE_OR_NONE: Time = Time { least: TIME_MIN, or_none: true };

    /// Not below `least`.
    pub(super) const fn from(least: Duration) -> Time {
        Time { least, or_none: false }
    }
}

impl Kind<Duration> for Time {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Duration> {
        let time = section.duration(key)?;
        if time < self.least && !(self.or_none && time.is_zero()) {
            section.mistake(key, format!("must be {:?} or longer", self.least));
            return None;
        }
        Some(time)
    }

    fn write(&self, value: &Duration) -> Option<Value> {
        Some(Value::String(time_text(*value)))
    }

    fn words(&self) -> String {
        match (self.least, self.or_none) {
            (_, true) => "duration; `\"0s\"`: none".to_owned(),
            (TIME_MIN, false) => "duration".to_owned(),
            (least, false) => format!("duration, {least:?} or longer"),
        }
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string", "pattern": TIME_PATTERN})
    }
}

/// A duration as it is written: in the largest unit of which it is so many.
fn time_text(time: Duration) -> String {
    const UNITS: [(u128, &str); 5] =
        [(3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let nanoseconds = time.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let fits = UNITS.into_iter().find(|(unit, _)| nanoseconds.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{nanoseconds}ns"), |(unit, word)| format!("{}{word}", nanoseconds / unit))
}

/// The results of a time, or the last so many: a duration, or a whole number.
pub(super) struct TimeOrCount;

impl Kind<WindowKind> for TimeOrCount {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<WindowKind> {
        match section.duration_or_count(key)? {
            Ok(time) => Some(WindowKind::Time(time)),
            Err(count) => Some(WindowKind::Count(count)),
        }
    }

    fn write(&self, value: &WindowKind) -> Option<Value> {
        Some(match value {
            WindowKind::Time(time) => Value::String(time_text(*time)),
            WindowKind::Count(count) => Value::Integer((*count).into()),
        })
    }

    fn words(&self) -> String {
        "duration or whole number".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"anyOf": [{"type": "string", "pattern": TIME_PATTERN}, {"type": "integer", "minimum": 1}]})
    }
}

/// A size with its unit, `"64KiB"`, `"32MiB"` or `"1GiB"`, from so many bytes on.
pub(super) struct Size(pub(super) u64);

impl<T: Copy + TryFrom<u64> + TryInto<u64>> Kind<T> for Size {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<T> {
        T::try_from(section.size(key, self.0)?).ok()
    }

    fn write(&self, value: &T) -> Option<Value> {
        (*value).try_into().ok().map(|bytes| Value::String(in_units(bytes)))
    }

    fn words(&self) -> String {
        format!("size, {} or more", in_units(self.0))
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string", "pattern": SIZE_PATTERN})
    }
}

/// One of these words.
pub(super) struct Word<T: 'static>(pub(super) &'static [T], pub(super) fn(T) -> &'static str);

impl<T: Copy> Word<T> {
    fn joined(&self, quote: &str) -> String {
        let words: Vec<String> = self.0.iter().map(|value| format!("{quote}{}{quote}", (self.1)(*value))).collect();
        match words.split_last() {
            Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
            Some((last, _)) => last.clone(),
            None => String::new(),
        }
    }
}

impl<T: Copy> Kind<T> for Word<T> {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<T> {
        let word = section.string(key)?;
        let meant = self.0.iter().copied().find(|value| (self.1)(*value) == word);
        if meant.is_none() {
            section.mistake(key, format!("must be {}, not \"{word}\"", self.joined("")));
        }
        meant
    }

    fn write(&self, value: &T) -> Option<Value> {
        Some((self.1)(*value).into())
    }

    fn words(&self) -> String {
        self.joined("`")
    }

    fn schema(&self) -> serde_json::Value {
        json!({"enum": self.0.iter().map(|value| (self.1)(*value)).collect::<Vec<_>>()})
    }
}

/// Whatever text.
pub(super) struct Text;

impl Kind<String> for Text {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<String> {
        section.string(key)
    }

    fn write(&self, value: &String) -> Option<Value> {
        Some(value.as_str().into())
    }

    fn words(&self) -> String {
        "text".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string"})
    }
}

/// A text that is parsed to what it stands for, and written as that is displayed; what it is called, and what parses it
/// or says what is wrong with it.
pub(super) struct Parsed<T>(pub(super) &'static str, pub(super) fn(&str) -> Result<T, String>);

impl<T: Display> Kind<T> for Parsed<T> {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<T> {
        let text = section.string(key)?;
        (self.1)(&text).map_err(|message| section.mistake(key, message)).ok()
    }

    fn write(&self, value: &T) -> Option<Value> {
        Some(value.to_string().into())
    }

    fn words(&self) -> String {
        self.0.to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string"})
    }
}

/// A list of such texts.
pub(super) struct List<T>(pub(super) &'static str, pub(super) fn(&str) -> Result<T, String>);

impl<T: Display> Kind<Vec<T>> for List<T> {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Vec<T>> {
        section.strings(key, self.1)
    }

    fn write(&self, value: &Vec<T>) -> Option<Value> {
        Some(Value::Array(value.iter().map(|entry| entry.to_string().into()).collect()))
    }

    fn words(&self) -> String {
        format!("list of {}", self.0)
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "array", "items": {"type": "string"}})
    }
}

/// One such text, or a list of them.
pub(super) struct OneOrMore<T>(pub(super) &'static str, pub(super) fn(&str) -> Result<T, String>);

impl<T: Display> Kind<Vec<T>> for OneOrMore<T> {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Vec<T>> {
        section.one_or_more(key, self.1)
    }

    fn write(&self, value: &Vec<T>) -> Option<Value> {
        match &value[..] {
            [] => None,
            [only] => Some(only.to_string().into()),
            several => Some(Value::Array(several.iter().map(|entry| entry.to_string().into()).collect())),
        }
    }

    fn words(&self) -> String {
        format!("{0}, or list of {0}s", self.0)
    }

    fn schema(&self) -> serde_json::Value {
        json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }
}

/// An address and a port.
pub(super) struct Address;

impl Kind<SocketAddr> for Address {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<SocketAddr> {
        let text = section.string(key)?;
        let address = text.parse().ok();
        if address.is_none() {
            let message = format!("expected an address and a port, such as \"127.0.0.1:4141\", found \"{text}\"");
            section.mistake(key, message);
        }
        address
    }

    fn write(&self, value: &SocketAddr) -> Option<Value> {
        Some(value.to_string().into())
    }

    fn words(&self) -> String {
        "address and port".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string"})
    }
}

/// A file or a folder.
pub(super) struct File;

impl Kind<PathBuf> for File {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
        section.string(key).map(PathBuf::from)
    }

    fn write(&self, value: &PathBuf) -> Option<Value> {
        Some(value.to_string_lossy().into_owned().into())
    }

    fn words(&self) -> String {
        "path".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string"})
    }

    fn placed(&self, value: PathBuf, folder: &Path) -> PathBuf {
        folder.join(value)
    }
}

/// A file or a folder; an empty name switches off what it is for.
pub(super) struct FileOrNone;

impl Kind<Option<PathBuf>> for FileOrNone {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Option<PathBuf>> {
        let path = section.string(key)?;
        Some((!path.is_empty()).then(|| PathBuf::from(path)))
    }

    fn write(&self, value: &Option<PathBuf>) -> Option<Value> {
        value.as_ref().map_or_else(|| Some("".into()), |path| File.write(path))
    }

    fn words(&self) -> String {
        "path; `\"\"`: none".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string"})
    }

    fn placed(&self, value: Option<PathBuf>, folder: &Path) -> Option<PathBuf> {
        value.map(|path| folder.join(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_so_that_it_is_read_again() {
        let cases = [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(600), "10m"),
            (Duration::from_secs(90), "90s"),
            (Duration::from_millis(1_500), "1500ms"),
            (Duration::from_nanos(1_001), "1001ns"),
            (Duration::from_secs(365 * 24 * 3600), "8760h"),
        ];
        for (time, text) in cases {
            assert_eq!(time_text(time), text);
            assert_eq!(spillway_sdk::wait::duration(text), Some(time));
        }
    }
}
