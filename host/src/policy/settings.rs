//! Policies' settings, as the configuration has them now.

use crate::config::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The settings of a policy that has none in the configuration.
const NONE: &str = "{}";

/// The part of the configuration file that is followed while serving: each policy's own table.
#[derive(Debug)]
pub struct SettingsFile {
    file: Option<PathBuf>,
    /// When the file was last written, and how long it was.
    stamp: Option<(SystemTime, u64)>,
    by_policy: BTreeMap<String, String>,
}

impl SettingsFile {
    /// The settings that `config` holds, and the file they came from.
    pub fn new(config: &Config) -> Self {
        let file = config.file.clone();
        let stamp = file.as_deref().and_then(stamp_of);
        SettingsFile { file, stamp, by_policy: config.policies.settings.clone() }
    }

    /// A policy's own table, as JSON.
    pub fn of(&self, policy: &str) -> &str {
        self.by_policy.get(policy).map_or(NONE, String::as_str)
    }

    /// The folder in which the file lies.
    pub fn folder(&self) -> Option<PathBuf> {
        let folder = self.file.as_deref()?.parent()?;
        Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
    }

    /// Reads the file again, if it was written since, and returns the policies whose settings have changed.
    ///
    /// A file with mistakes changes nothing, and the log lists them.
    pub fn changed(&mut self) -> BTreeSet<String> {
        let Some(file) = &self.file else { return BTreeSet::new() };
        let stamp = stamp_of(file);
        if stamp == self.stamp || stamp.is_none() {
            return BTreeSet::new();
        }
        self.stamp = stamp;
        let settings = match Config::load(Some(file)) {
            Ok(config) => config.policies.settings,
            Err(error) => {
                tracing::error!(%error, "the configuration was changed and is wrong; policies keep their settings");
                return BTreeSet::new();
            }
        };
        let names: BTreeSet<&String> = self.by_policy.keys().chain(settings.keys()).collect();
        let changed = names.into_iter().filter(|name| self.by_policy.get(*name) != settings.get(*name));
        let changed = changed.cloned().collect();
        self.by_policy = settings;
        changed
    }
}

fn stamp_of(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
