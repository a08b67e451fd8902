//! The part of the configuration that is followed while serving: what it says about each policy now, its settings and
//! whether it carries an interpreter.

use super::{Config, ConfigError, Policies, Purpose};
use crate::policy::{Followed, Limits, PolicySettings};
use crate::runtime::file_identity::Stamp;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The part of the configuration file that is followed while serving: each policy's own table, and which of them carry
/// an interpreter.
#[derive(Debug)]
pub struct LivePolicies {
    file: Option<PathBuf>,
    /// The file as it was when it was last read.
    read: Option<Stamp>,
    /// The file as it is, and since when, if it has changed since.
    settling: Option<(Stamp, Instant)>,
    /// Why it could not be read at the last try, which the log says once.
    unreadable: Option<String>,
    policies: Policies,
}

impl LivePolicies {
    /// What `config` says, and the file it came from.
    pub fn new(config: &Config) -> Self {
        let file = config.file.clone();
        let read = file.as_deref().and_then(stamp_of);
        LivePolicies { file, read, settling: None, unreadable: None, policies: config.policies.clone() }
    }

    fn taken(&mut self, stamp: Stamp) {
        self.read = Some(stamp);
        self.settling = None;
        self.unreadable = None;
    }
}

impl PolicySettings for LivePolicies {
    fn of(&self, policy: &str) -> &str {
        self.policies.settings_of(policy)
    }

    fn limits_of(&self, policy: &str) -> Limits {
        self.policies.limits_of(policy)
    }

    /// Reads the file again, if it was written since and has stayed as it is for as long as `settle`.
    ///
    /// A file with mistakes changes nothing, and the log lists them. Nor does an empty one: it is what a writer begins
    /// with. One that cannot be read is tried again at the next look.
    fn follow(&mut self, settle: Duration) -> Followed {
        let Some(file) = &self.file else { return Followed::AsBefore };
        let stamp = stamp_of(file);
        let Some(stamp) = stamp.filter(|stamp| self.read != Some(*stamp)) else {
            self.settling = None;
            return Followed::AsBefore;
        };
        match self.settling {
            Some((settling, since)) if settling == stamp => {
                if since.elapsed() < settle {
                    return Followed::Settling;
                }
            }
            Some(_) | None => {
                self.settling = Some((stamp, Instant::now()));
                return Followed::Settling;
            }
        }
        let loaded = Config::load(Some(file), Purpose::Look);
        // What was read while it was being written to may be anything.
        if stamp_of(file) != Some(stamp) {
            return Followed::Settling;
        }
        let policies = match loaded {
            Ok(config) => config.policies,
            Err(ConfigError::Unreadable { path, source }) if source.kind() != io::ErrorKind::InvalidData => {
                let reason = Some(source.to_string());
                if self.unreadable != reason {
                    let path = path.display();
                    tracing::error!(%path, error = %source, "the configuration was changed and cannot be read, which is tried again");
                    self.unreadable = reason;
                }
                return Followed::AsBefore;
            }
            Err(error @ (ConfigError::Unreadable { .. } | ConfigError::Wrong { .. })) => {
                self.taken(stamp);
                tracing::error!(%error, "the configuration was changed and is wrong; policies keep their settings");
                return Followed::AsBefore;
            }
        };
        self.taken(stamp);
        let names: BTreeSet<&String> = self.policies.named().chain(policies.named()).collect();
        let is_as_before = |name: &str| {
            self.policies.settings_of(name) == policies.settings_of(name)
                && self.policies.limits_of(name) == policies.limits_of(name)
        };
        let changed: BTreeSet<String> = names.into_iter().filter(|name| !is_as_before(name)).cloned().collect();
        self.policies = policies;
        if changed.is_empty() { Followed::AsBefore } else { Followed::Changed(changed) }
    }
}

/// How a file with something in it stands.
fn stamp_of(file: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(file).ok()?;
    (metadata.is_file() && metadata.len() > 0).then(|| Stamp::of(&metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const FIRST: &str = "[upstreams.openai]\npolicy = \"mine\"\n[policies.settings.mine]\nlimit = 1\n";
    const SECOND: &str = "[upstreams.openai]\npolicy = \"mine\"\n[policies.settings.mine]\nlimit = 2\n";

    fn followed(text: &str) -> (LivePolicies, PathBuf, TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("spillway.toml");
        fs::write(&file, text).expect("written");
        let settings = LivePolicies::new(&Config::load(Some(&file), Purpose::Look).expect("a configuration"));
        (settings, file, folder)
    }

    fn mine() -> Followed {
        Followed::Changed(BTreeSet::from(["mine".to_owned()]))
    }

    #[test]
    fn a_change_counts_once_two_looks_agree_on_it() {
        let (mut settings, file, _folder) = followed(FIRST);
        assert_eq!(settings.follow(Duration::ZERO), Followed::AsBefore);
        // The first part of a file is often a whole configuration, which only lacks something.
        fs::write(&file, "[policies]\n").expect("written");
        assert_eq!(settings.follow(Duration::ZERO), Followed::Settling);
        fs::write(&file, SECOND).expect("written");
        assert_eq!(settings.follow(Duration::ZERO), Followed::Settling);
        assert_eq!(settings.of("mine"), r#"{"limit":1}"#);
        assert_eq!(settings.follow(Duration::from_secs(3600)), Followed::Settling, "too soon");
        assert_eq!(settings.follow(Duration::ZERO), mine());
        assert_eq!(settings.of("mine"), r#"{"limit":2}"#);
        assert_eq!(settings.follow(Duration::ZERO), Followed::AsBefore);
    }

    #[test]
    fn an_empty_or_missing_file_changes_nothing_for_however_long() {
        let (mut settings, file, _folder) = followed(FIRST);
        fs::write(&file, "").expect("written");
        for _ in 0..3 {
            assert_eq!(settings.follow(Duration::ZERO), Followed::AsBefore);
        }
        fs::remove_file(&file).expect("removed");
        for _ in 0..3 {
            assert_eq!(settings.follow(Duration::ZERO), Followed::AsBefore);
        }
        assert_eq!(settings.of("mine"), r#"{"limit":1}"#);
        fs::write(&file, SECOND).expect("written");
        assert_eq!(settings.follow(Duration::ZERO), Followed::Settling);
        assert_eq!(settings.follow(Duration::ZERO), mine());
    }

    #[test]
    fn a_file_with_mistakes_changes_nothing_and_is_read_once() {
        let (mut settings, file, _folder) = followed(FIRST);
        fs::write(&file, "[policies.settings.mine\n").expect("written");
        assert_eq!(settings.follow(Duration::ZERO), Followed::Settling);
        assert_eq!(settings.follow(Duration::ZERO), Followed::AsBefore);
        assert_eq!((settings.settling, settings.read), (None, stamp_of(&file)));
        assert_eq!(settings.of("mine"), r#"{"limit":1}"#);
    }
}
