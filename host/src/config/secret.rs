//! Secrets that the configuration names and never holds: variables of the environment, and files.

use super::Purpose;
use super::kind::Kind;
use super::reader::Section;
use serde_json::json;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Value;

/// Largest secret that is read, and far more than any provider's key has. A longer one is a mistake.
const SECRET_BYTES_MAX: u64 = 8 << 10;

/// A secret: nothing but [`Secret::expose`] tells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes what was read as a secret, without the white space around it.
    ///
    /// # Errors
    /// When nothing is left, or what no provider would take for a key: more than one word, or what is not ASCII. What
    /// was read is not in the message.
    pub fn parse(text: &str) -> Result<Secret, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty");
        }
        if text.lines().nth(1).is_some() {
            return Err("has more than one line: a key stands there alone");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("holds no key: one has neither spaces nor other characters than ASCII's visible ones");
        }
        Ok(Secret(Arc::from(text)))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Nothing of it is printed.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In this variable of the environment, as it was when the process began.
    Variable(String),
    /// In this file, which is read again when it changes.
    File(PathBuf),
}

impl SecretSource {
    /// Reads it.
    ///
    /// # Errors
    /// Why there is none, in words for the operator that hold nothing of it.
    pub fn read(&self) -> Result<Secret, String> {
        match self {
            SecretSource::Variable(name) => {
                // Whoever puts the secret where its name belongs must not read it in a log. Names have no small letters.
                let is_shown = !name.contains(|c: char| c.is_ascii_lowercase());
                let what = if is_shown { &**name } else { "this variable" };
                match std::env::var(name) {
                    Ok(text) => Secret::parse(&text).map_err(|why| format!("{what} of the environment {why}")),
                    Err(std::env::VarError::NotPresent) => Err(format!("{what} is not set in the environment")),
                    Err(std::env::VarError::NotUnicode(_)) => Err(format!("{what} of the environment is no text")),
                }
            }
            SecretSource::File(path) => {
                let text = text_of(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                Secret::parse(&text).map_err(|why| format!("{} {why}", path.display()))
            }
        }
    }
}

/// The name under which people know it.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Variable(name) => f.write_str(name),
            SecretSource::File(path) => path.display().fmt(f),
        }
    }
}

/// A file's text, of which no more is read than a secret may have. What is no file, such as a pipe, could be waited for
/// without end, and could not be read again.
fn text_of(path: &Path) -> Result<String, String> {
    let is_file = path.metadata().map_err(|error| error.to_string())?.is_file();
    if !is_file {
        return Err("it is no regular file".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("it has more than {SECRET_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// A secret, and where it was read when the configuration was.
#[derive(Clone, Debug)]
pub struct NamedSecret {
    /// Where it stands.
    pub source: SecretSource,
    /// As it was read first; `None` where the configuration was not read to serve by it.
    pub secret: Option<Secret>,
}

impl NamedSecret {
    fn read(source: SecretSource, purpose: Purpose) -> Result<NamedSecret, String> {
        let secret = match purpose {
            Purpose::Serve => Some(source.read()?),
            Purpose::Look => None,
        };
        Ok(NamedSecret { secret, source })
    }
}

/// What names a secret in the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    /// The name of a variable of the environment.
    Variable,
    /// The path of a file.
    File,
}

impl Named {
    fn source(self, section: &Section<'_>, name: &str) -> Result<SecretSource, String> {
        match self {
            Named::Variable => Ok(SecretSource::Variable(variable(name)?)),
            Named::File if name.is_empty() => Err("must name a file".to_owned()),
            Named::File => Ok(SecretSource::File(section.folder().join(name))),
        }
    }
}

/// One secret.
pub(super) struct OneSecret(pub(super) Named);

impl Kind<NamedSecret> for OneSecret {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<NamedSecret> {
        let source = self.0.source(section, &section.string(key)?);
        let read = source.and_then(|source| NamedSecret::read(source, section.purpose()));
        read.map_err(|message| section.mistake(key, message)).ok()
    }

    fn write(&self, value: &NamedSecret) -> Option<Value> {
        Some(value.source.to_string().into())
    }

    fn words(&self) -> String {
        match self.0 {
            Named::Variable => "name of a variable".to_owned(),
            Named::File => "path".to_owned(),
        }
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string"})
    }
}

/// One secret, or a list of some. One that is named twice is no second one.
pub(super) struct Secrets(pub(super) Named);

impl Kind<Vec<NamedSecret>> for Secrets {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Vec<NamedSecret>> {
        let mut seen = Vec::new();
        section.one_or_more(key, |name| {
            let source = self.0.source(section, name)?;
            if seen.contains(&source) {
                return Err("is named twice".to_owned());
            }
            seen.push(source.clone());
            NamedSecret::read(source, section.purpose())
        })
    }

    fn write(&self, value: &Vec<NamedSecret>) -> Option<Value> {
        Some(Value::Array(value.iter().map(|named| named.source.to_string().into()).collect()))
    }

    fn words(&self) -> String {
        match self.0 {
            Named::Variable => "name of a variable, or list of names".to_owned(),
            Named::File => "path, or list of paths".to_owned(),
        }
    }

    fn schema(&self) -> serde_json::Value {
        json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }
}

/// The name of a variable. What is none may be a secret that stands in the wrong place, and is not repeated.
fn variable(name: &str) -> Result<String, String> {
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match is_name {
        true => Ok(name.to_owned()),
        false => {
            Err("must be the name of a variable of the environment, such as \"OPENAI_API_KEY\"; the secret itself \
                      never stands in this file"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_secret_is_one_word_and_is_not_printed() {
        assert_eq!(Secret::parse(" sk-1\n").map(|secret| secret.expose().to_owned()), Ok("sk-1".to_owned()));
        for wrong in ["", " \n", "sk-1\nsk-2", "Bearer sk-1", "sk-\u{e4}", "sk\0"] {
            assert!(Secret::parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(format!("{:?}", Secret::parse("sk-1")), "Ok(Secret(..))");
    }

    #[test]
    fn what_is_no_file_of_a_key_is_told_without_what_is_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |name: &str| SecretSource::File(folder.path().join(name)).read();
        fs::write(folder.path().join("long"), "canary".repeat(2_000)).expect("written");
        fs::write(folder.path().join("two"), "canary\ncanary").expect("written");
        fs::write(folder.path().join("binary"), [0xff, 0xfe]).expect("written");
        fs::write(folder.path().join("right"), "canary\r\n").expect("written");
        for (name, why) in [("none", "os error 2"), ("long", "8192"), ("two", "line"), ("binary", "UTF-8")] {
            let message = read(name).expect_err("a mistake");
            assert!(message.contains(why) && message.contains(name) && !message.contains("canary"), "{message}");
        }
        assert!(SecretSource::File(folder.path().to_owned()).read().is_err_and(|why| why.contains("no regular file")));
        assert_eq!(read("right").map(|secret| secret.expose().to_owned()), Ok("canary".to_owned()));
    }
}
