//! The policy file that a command is about, loaded as the proxy would load it.

use super::{Failure, progress};
use crate::config::Config;
use crate::policy::{
    self, Limits, LoadError, Module, PREVIOUS_SUFFIX, ReadError, Runtime, SHADOW_SUFFIX, SIGNATURE_BYTES, Sha256Sum,
    Trust,
};
use std::fs;
use std::path::{Path, PathBuf};

/// A policy file and what it would be loaded with.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) file: PathBuf,
    /// The policy that the file would be in the policy folder.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) sha256: Sha256Sum,
    pub(super) settings: String,
    /// How large a policy of its name may be.
    pub(super) limits: Limits,
}

impl Subject {
    /// Reads a file. Its settings are those in `settings`, or else those that the configuration has for its name.
    pub(super) fn read(file: &Path, config: &Config, settings: Option<&Path>) -> Result<Subject, Failure> {
        let metadata = fs::metadata(file).map_err(|error| {
            let hint = "`spillway policy build` makes a policy's file and says where it is";
            Failure::Usage(format!("cannot read {}: {error}; {hint}", file.display()))
        })?;
        if !metadata.is_file() {
            return Err(Failure::Usage(format!("{} is no file; name a policy's .wasm file", file.display())));
        }
        let name = name_of(file).ok_or_else(|| Failure::Usage(format!("{} has no name", file.display())))?;
        let limits = config.policies.limits_of(&name);
        let bytes = policy::read(file, limits.file_bytes).map_err(|error| {
            let reason = match error {
                ReadError::TooLong(bytes) => LoadError::too_large(bytes, &name, limits).to_string(),
                ReadError::Io(_) | ReadError::NotAFile => error.to_string(),
            };
            Failure::Bad(format!("{} would not be served: {reason}", file.display()))
        })?;
        let settings = match settings {
            Some(file) => read_settings(file)?,
            None => settings_of(&name, config),
        };
        Ok(Subject { file: file.to_owned(), name, sha256: Sha256Sum::of(&bytes), bytes, settings, limits })
    }

    /// As the policy of another name, with the settings that the configuration has for that one.
    pub(super) fn named(self, name: &str, config: &Config) -> Subject {
        let limits = config.policies.limits_of(name);
        Subject { name: name.to_owned(), settings: settings_of(name, config), limits, ..self }
    }

    /// Loads it.
    ///
    /// # Errors
    /// The loader's own words.
    pub(super) fn load(&self, runtime: &Runtime) -> Result<Module, String> {
        if self.limits == Limits::INTERPRETED {
            progress(&format!("Compiling {}, which carries an interpreter: this may take up to a minute", self.name));
        }
        let loaded = runtime.load(&self.bytes, self.sha256, &self.name, &self.settings, self.limits);
        loaded.map_err(|error| error.to_string())
    }

    /// Whether the configuration lets it serve.
    ///
    /// # Errors
    /// The loader's own words.
    pub(super) fn check_trust(&self, trust: &Trust) -> Result<(), String> {
        let signature = policy::read(&policy::signature_of(&self.file), SIGNATURE_BYTES as u64).ok();
        let file = self.file.file_name().unwrap_or_default().to_string_lossy();
        trust.check(&file, &self.bytes, signature.as_deref()).map_err(|error| error.to_string())
    }

    /// Why it would not be served, in the loader's words; `None` when it would.
    pub(super) fn refusal(&self, runtime: &Runtime, config: &Config) -> Option<String> {
        self.load(runtime).err().or_else(|| self.check_trust(&config.policies.trust()).err())
    }

    /// `name@` and the first digits of the hash, as explanations name it.
    pub(super) fn label(&self) -> String {
        format!("{}@{}", self.name, self.sha256.short())
    }
}

/// A policy's own table in the configuration, as JSON.
fn settings_of(name: &str, config: &Config) -> String {
    config.policies.settings_of(name).to_owned()
}

/// An engine that leaves nothing behind on disk.
pub(super) fn engine() -> Result<Runtime, Failure> {
    Runtime::start(None).map_err(|error| Failure::Bad(format!("the policy engine does not start: {error}")))
}

/// The policy that a file is, wherever it lies and whatever role it has.
fn name_of(file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_str()?;
    let plain = [SHADOW_SUFFIX, PREVIOUS_SUFFIX].into_iter().find_map(|suffix| stem.strip_suffix(suffix));
    Some(plain.unwrap_or(stem).to_owned())
}

/// Reads settings, as JSON if the file's name says so and else as TOML, and returns them as JSON.
fn read_settings(file: &Path) -> Result<String, Failure> {
    let wrong = |what: String| Failure::Usage(format!("{}: {what}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| wrong(format!("the settings cannot be read: {error}")))?;
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    let settings: serde_json::Value = match is_json {
        true => serde_json::from_str(&text).map_err(|error| wrong(format!("no JSON: {error}")))?,
        false => toml::from_str(&text).map_err(|error| wrong(format!("no TOML: {error}")))?,
    };
    match settings.is_object() {
        true => Ok(settings.to_string()),
        false => Err(wrong("settings are a table, as [policies.settings.NAME] in the configuration".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_without_its_role_is_the_policys() {
        for (file, name) in [("a/mine.wasm", "mine"), ("mine.shadow.wasm", "mine"), ("mine.previous.wasm", "mine")] {
            assert_eq!(name_of(Path::new(file)).as_deref(), Some(name));
        }
    }

    #[test]
    fn settings_are_read_as_json_and_as_toml_and_must_be_a_table() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |name: &str, text: &str| {
            let file = folder.path().join(name);
            fs::write(&file, text).expect("written");
            read_settings(&file).map_err(|failure| failure.to_string())
        };
        assert_eq!(read("a.json", r#"{"slow_ms": 5}"#).as_deref(), Ok(r#"{"slow_ms":5}"#));
        assert_eq!(read("a.toml", "slow_ms = 5").as_deref(), Ok(r#"{"slow_ms":5}"#));
        assert!(read("b.json", "[]").is_err_and(|message| message.contains("settings are a table")));
        assert!(read("b.toml", "=").is_err_and(|message| message.contains("no TOML")));
    }
}
