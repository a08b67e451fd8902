//! A key as its file has it: who it is, until when it counts, and what it may do. Never the key itself.

use crate::config::{Limit, Pattern};
use crate::keys::digest::{KeyDigest, ends_of, is_id};
use serde::{Deserialize, Serialize};
use spillway_resilience::{Priority, RunawaySettings};

/// Longest name of a key, of its group, of its tenant and of a route, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 128;
/// Most models, routes or limits of one key.
pub(crate) const ENTRIES_MAX: usize = 256;
/// Longest entry of these, in bytes.
const ENTRY_BYTES_MAX: usize = 256;
/// Most secrets that a key had before, and by which it is still known. The oldest is forgotten beyond that.
pub(crate) const FORMER_MAX: usize = 8;

/// A key. Times are milliseconds since 1970 by the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRecord {
    /// Its public name, which stays when its secret is changed: `k_7f3a9c2e`.
    pub(crate) id: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What is kept of the secret.
    pub(crate) sha256: KeyDigest,
    /// The secret's last characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) ends: String,
    /// When it was made, or taken over.
    pub(crate) created_unix_ms: u64,
    /// From when on it counts for nothing; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_unix_ms: Option<u64>,
    /// When it was revoked, if it was: that is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_unix_ms: Option<u64>,
    /// The group whose limits hold as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// The tenant that its requests are of; without one its group, or else itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// The highest priority of its requests, which is also what they have if they ask for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<String>,
    /// The models that it may ask for, as patterns; all if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) models: Vec<String>,
    /// The routes and upstreams that may serve it; all if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<String>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) limits: Vec<KeyLimit>,
    /// The route along which its calls go on that one of its limits has refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) when_exhausted: Option<String>,
    /// Most tokens that one of its requests may cost; 0 for any number, whatever is said of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens_per_request: Option<u64>,
    /// Tokens from which on it gets no further request within the hour, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens_per_hour: Option<u64>,
    /// Secrets that it had before, the last one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) former: Vec<FormerSecret>,
}

/// A limit, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "LimitText", into = "LimitText")]
pub(crate) struct KeyLimit {
    /// Such as `"$5 per day"`.
    pub(crate) limit: String,
    /// Whether it only warns.
    pub(crate) soft: bool,
}

/// How a limit is written: as a sentence alone, if it is no soft one.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum LimitText {
    Alone(String),
    Marked(MarkedLimit),
}

/// A limit with more than its sentence.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct MarkedLimit {
    limit: String,
    #[serde(default)]
    soft: bool,
}

impl From<LimitText> for KeyLimit {
    fn from(text: LimitText) -> KeyLimit {
        match text {
            LimitText::Alone(limit) => KeyLimit { limit, soft: false },
            LimitText::Marked(MarkedLimit { limit, soft }) => KeyLimit { limit, soft },
        }
    }
}

impl From<KeyLimit> for LimitText {
    fn from(KeyLimit { limit, soft }: KeyLimit) -> LimitText {
        if soft { LimitText::Marked(MarkedLimit { limit, soft }) } else { LimitText::Alone(limit) }
    }
}

/// A secret that a key had before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FormerSecret {
    /// What is kept of it.
    pub(crate) sha256: KeyDigest,
    /// Its last characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) ends: String,
    /// Until when it counts beside the new one.
    pub(crate) until_unix_ms: u64,
}

/// What a key counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    /// It counts.
    Valid,
    /// Its time is over.
    Expired,
    /// Somebody has revoked it.
    Revoked,
}

impl KeyState {
    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            KeyState::Valid => "valid",
            KeyState::Expired => "expired",
            KeyState::Revoked => "revoked",
        }
    }
}

impl KeyRecord {
    /// A key with this secret, which may do everything.
    pub(crate) fn new(id: String, secret: &str, created_unix_ms: u64) -> KeyRecord {
        KeyRecord {
            id,
            name: None,
            sha256: KeyDigest::of(secret.as_bytes()),
            ends: ends_of(secret),
            created_unix_ms,
            expires_unix_ms: None,
            revoked_unix_ms: None,
            group: None,
            tenant: None,
            priority: None,
            models: Vec::new(),
            routes: Vec::new(),
            limits: Vec::new(),
            when_exhausted: None,
            max_tokens_per_request: None,
            max_tokens_per_hour: None,
            former: Vec::new(),
        }
    }

    /// What it counts for at this moment.
    pub(crate) fn state(&self, now_unix_ms: u64) -> KeyState {
        match (self.revoked_unix_ms, self.expires_unix_ms) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(expires)) if now_unix_ms >= expires => KeyState::Expired,
            (None, _) => KeyState::Valid,
        }
    }

    /// What people call it: its name, or else its public one.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// The priority that it names.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(crate) fn priority(&self) -> Result<Option<Priority>, String> {
        self.priority.as_deref().map(priority_of).transpose()
    }

    /// The models that it may ask for.
    ///
    /// # Errors
    /// When one is no pattern.
    pub(crate) fn patterns(&self) -> Result<Vec<Pattern>, String> {
        self.models.iter().map(|model| Pattern::parse(model)).collect()
    }

    /// What it may use: limits that refuse, and those that only warn.
    ///
    /// # Errors
    /// When one is no limit.
    pub(crate) fn limits(&self) -> Result<(Vec<Limit>, Vec<Limit>), String> {
        let (mut limits, mut soft) = (Vec::new(), Vec::new());
        for limit in &self.limits {
            let read = Limit::parse(&limit.limit).map_err(|why| format!("its limit \"{}\" {why}", limit.limit))?;
            if limit.soft { soft.push(read) } else { limits.push(read) }
        }
        Ok((limits, soft))
    }

    /// What stops it where it runs away: its own bounds, and the rest of what stops others of its kind.
    pub(crate) fn guards(&self, of_others: RunawaySettings) -> RunawaySettings {
        let own = |own: Option<u64>, of_others| own.map_or(of_others, |most| (most > 0).then_some(most));
        RunawaySettings {
            max_tokens_per_request: own(self.max_tokens_per_request, of_others.max_tokens_per_request),
            max_tokens_per_hour: own(self.max_tokens_per_hour, of_others.max_tokens_per_hour),
            ..of_others
        }
    }

    /// Whether all that it says can be meant.
    ///
    /// # Errors
    /// What cannot, in words for the operator.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !is_id(&self.id) {
            return Err("its id is not of the form k_7f3a9c2e".to_owned());
        }
        let when_exhausted = ("route when_exhausted", &self.when_exhausted);
        let names = [("name", &self.name), ("group", &self.group), ("tenant", &self.tenant), when_exhausted];
        for (what, name) in names.into_iter().filter_map(|(what, name)| Some((what, name.as_deref()?))) {
            check_name(what, name)?;
        }
        self.priority()?;
        self.patterns()?;
        let limits = || self.limits.iter().map(|limit| &limit.limit);
        let lists = [("models", self.models.len()), ("routes", self.routes.len()), ("limits", self.limits.len())];
        if let Some((what, count)) = lists.into_iter().find(|(_, count)| *count > ENTRIES_MAX) {
            return Err(format!("it has {count} {what}, and may have {ENTRIES_MAX}"));
        }
        let entries = self.models.iter().chain(&self.routes).chain(limits());
        if let Some(entry) = entries.into_iter().find(|entry| entry.is_empty() || entry.len() > ENTRY_BYTES_MAX) {
            return Err(format!(
                "an entry of its lists has 1 to {ENTRY_BYTES_MAX} characters, and one has {}",
                entry.len()
            ));
        }
        if self.former.len() > FORMER_MAX {
            return Err(format!("it has {} former secrets, and may have {FORMER_MAX}", self.former.len()));
        }
        self.limits().map(drop)
    }
}

/// Whether a name stands on one line, and is short.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let is_plain = name.chars().all(|character| !character.is_control()) && name.trim() == name && !name.is_empty();
    match is_plain && name.len() <= NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(format!("its {what} must have 1 to {NAME_BYTES_MAX} characters on one line")),
    }
}

/// The priority of this name.
///
/// # Errors
/// When there is none.
pub(crate) fn priority_of(word: &str) -> Result<Priority, String> {
    Priority::ALL.into_iter().find(|priority| priority.as_str() == word).ok_or_else(|| {
        let words = Priority::ALL.map(Priority::as_str).join(", ");
        format!("there is no priority \"{word}\"; there are {words}")
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key with this secret and nothing else.
    pub(crate) fn record(id: &str, secret: &str) -> KeyRecord {
        KeyRecord::new(id.to_owned(), secret, 1)
    }

    #[test]
    fn a_key_counts_until_it_expires_or_is_revoked() {
        let key = KeyRecord { expires_unix_ms: Some(10), ..record("k_1", "secret") };
        let states = [9, 10, 11].map(|now| key.state(now));
        assert_eq!(states, [KeyState::Valid, KeyState::Expired, KeyState::Expired]);
        let revoked = KeyRecord { revoked_unix_ms: Some(5), ..key };
        assert_eq!([0, 9, 11].map(|now| revoked.state(now)), [KeyState::Revoked; 3]);
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let good = record("k_1", "secret");
        let text = |text: &str| Some(text.to_owned());
        let many = |count| vec!["gpt*".to_owned(); count];
        let cases = [
            (KeyRecord { id: "shop".into(), ..good.clone() }, "its id"),
            (KeyRecord { name: text(""), ..good.clone() }, "its name"),
            (KeyRecord { group: text("two\nlines"), ..good.clone() }, "its group"),
            (KeyRecord { priority: text("urgent"), ..good.clone() }, "there is no priority \"urgent\""),
            (KeyRecord { models: vec![String::new()], ..good.clone() }, "an empty pattern"),
            (KeyRecord { models: many(ENTRIES_MAX + 1), ..good.clone() }, "257 models"),
            (KeyRecord { routes: vec![String::new()], ..good.clone() }, "an entry of its lists"),
            (
                KeyRecord { limits: vec![KeyLimit { limit: " ".into(), soft: false }], ..good.clone() },
                "write a limit as",
            ),
        ];
        for (key, said) in cases {
            let told = key.check().expect_err(said);
            assert!(told.contains(said), "{told}");
        }
        assert_eq!(KeyRecord { models: many(ENTRIES_MAX), priority: text("high"), ..good }.check(), Ok(()));
    }
}
