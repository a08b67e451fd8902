//! All keys as they are in force, found by what somebody shows.

use crate::config::{Limit, Pattern};
use crate::keys::digest::{KEY_PREFIX, KeyDigest};
use crate::keys::record::{KeyRecord, KeyState};
use arc_swap::ArcSwap;
use spillway_resilience::Priority;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// A key in force, or one that no longer is.
#[derive(Debug)]
pub(crate) struct Key {
    /// As the file has it.
    pub(crate) record: KeyRecord,
    /// What people call it: its name, or else its id.
    pub(crate) label: Arc<str>,
    /// The highest priority of its requests, which is also what they have if they ask for none.
    pub(crate) priority: Option<Priority>,
    /// The models that it may ask for; all if there is none.
    models: Vec<Pattern>,
    /// What it may use: limits that refuse, and those that only warn.
    limits: (Vec<Limit>, Vec<Limit>),
    /// Whether it was revoked. What is under way hears of it here, whichever state of the key it began with.
    revoked: Arc<watch::Sender<bool>>,
}

impl Key {
    /// As it is in a file that was checked.
    fn new(record: KeyRecord, revoked: Arc<watch::Sender<bool>>) -> Key {
        Key {
            label: Arc::from(record.label()),
            // What was checked can be read.
            priority: record.priority().ok().flatten(),
            models: record.patterns().unwrap_or_default(),
            limits: record.limits().unwrap_or_default(),
            record,
            revoked,
        }
    }

    /// Its public name.
    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    /// Whether it may ask for this model.
    pub(crate) fn allows_model(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern.fits(model))
    }

    /// Whether it may ask for any model.
    pub(crate) fn allows_any_model(&self) -> bool {
        self.models.is_empty()
    }

    /// What it may use: limits that refuse, and those that only warn.
    pub(crate) fn limits(&self) -> (&[Limit], &[Limit]) {
        (&self.limits.0, &self.limits.1)
    }

    /// Whether it has any.
    pub(crate) fn has_limits(&self) -> bool {
        !self.record.limits.is_empty()
    }

    /// Whether this route may serve it, or this upstream, where no route does.
    pub(crate) fn allows_route(&self, name: &str) -> bool {
        self.record.routes.is_empty() || self.record.routes.iter().any(|route| route == name)
    }

    /// Whether it was revoked.
    pub(crate) fn is_revoked(&self) -> bool {
        *self.revoked.borrow()
    }

    /// Waits until it is revoked. Does not depend on this state of it living on.
    pub(crate) fn revoked(&self) -> impl Future<Output = ()> + use<> {
        let mut revoked = self.revoked.subscribe();
        async move {
            if revoked.wait_for(|revoked| *revoked).await.is_err() {
                // Whoever could tell is gone with the process.
                std::future::pending().await
            }
        }
    }
}

/// Why what is shown counts for nothing. Callers are not told which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Void {
    /// Its time is over.
    Expired,
    /// Somebody has revoked it.
    Revoked,
    /// It was replaced, and the time is over in which both count.
    Replaced,
    /// There is none like it.
    Unknown,
}

impl Void {
    /// The word for the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Void::Expired => "expired",
            Void::Revoked => "revoked",
            Void::Replaced => "replaced",
            Void::Unknown => "unknown",
        }
    }
}

/// What a text is, that somebody shows as a key.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// None of ours.
    Nothing,
    /// One that counts.
    Key(Arc<Key>),
    /// One that does not, or something that only looks like one, and why.
    Void(Option<Arc<Key>>, Void),
}

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    state: ArcSwap<State>,
}

#[derive(Debug, Default)]
struct State {
    by_id: HashMap<String, Arc<Key>>,
    /// By [`KeyDigest::place`].
    by_secret: HashMap<u64, Vec<Secret>>,
    /// In the order of the file.
    all: Vec<Arc<Key>>,
    /// Whether there may be others that nobody has read yet.
    is_unread: bool,
}

#[derive(Debug)]
struct Secret {
    digest: KeyDigest,
    key: Arc<Key>,
    /// Until when it counts, if it is one that the key had before.
    until_unix_ms: Option<u64>,
}

impl KeyTable {
    /// These keys are in force from here on, and what has begun with one that is revoked, or gone, hears of it. Answers
    /// how many those are.
    pub(crate) fn replace(&self, records: Vec<KeyRecord>) -> usize {
        let before = self.state.load_full();
        let mut state = State::default();
        for record in records {
            let known = before.by_id.get(&record.id);
            let key = match known {
                Some(key) if key.record == record => Arc::clone(key),
                // A signal that was given is not taken back: what had begun has ended.
                Some(key) if !key.is_revoked() => Arc::new(Key::new(record, Arc::clone(&key.revoked))),
                Some(_) | None => {
                    let is_revoked = record.revoked_unix_ms.is_some();
                    Arc::new(Key::new(record, Arc::new(watch::Sender::new(is_revoked))))
                }
            };
            let former = key.record.former.iter().map(|former| (former.sha256, Some(former.until_unix_ms)));
            for (digest, until_unix_ms) in [(key.record.sha256, None)].into_iter().chain(former) {
                let secret = Secret { digest, key: Arc::clone(&key), until_unix_ms };
                state.by_secret.entry(digest.place()).or_default().push(secret);
            }
            state.by_id.insert(key.record.id.clone(), Arc::clone(&key));
            state.all.push(key);
        }
        let state = Arc::new(state);
        // First nobody begins with it any more, and then what has begun ends.
        self.state.store(Arc::clone(&state));
        let is_out = |id: &String| state.by_id.get(id).is_none_or(|key| key.record.revoked_unix_ms.is_some());
        let out: Vec<_> = before.by_id.iter().filter(|(id, key)| !key.is_revoked() && is_out(id)).collect();
        for (_, key) in &out {
            key.revoked.send_replace(true);
        }
        out.len()
    }

    /// Nobody has read yet which there are: none counts, and none that begins as ours do is taken for another's.
    pub(crate) fn are_unread(&self) {
        self.state.store(Arc::new(State { is_unread: true, ..State::default() }));
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state.load();
        state.all.is_empty() && !state.is_unread
    }

    /// What a text is that somebody shows. Where there are keys, one that begins as ours do is nobody else's.
    pub(crate) fn find(&self, shown: &str, digest: &KeyDigest, now_unix_ms: u64) -> Found {
        let state = self.state.load();
        let secrets = state.by_secret.get(&digest.place()).map(Vec::as_slice).unwrap_or_default();
        let Some(secret) = secrets.iter().find(|secret| secret.digest == *digest) else {
            let may_be = !state.all.is_empty() || state.is_unread;
            let is_ours = may_be && shown.starts_with(KEY_PREFIX);
            return if is_ours { Found::Void(None, Void::Unknown) } else { Found::Nothing };
        };
        let is_over = secret.until_unix_ms.is_some_and(|until| now_unix_ms >= until);
        let void = match secret.key.record.state(now_unix_ms) {
            KeyState::Revoked => Void::Revoked,
            KeyState::Expired => Void::Expired,
            KeyState::Valid if is_over => Void::Replaced,
            KeyState::Valid => return Found::Key(Arc::clone(&secret.key)),
        };
        Found::Void(Some(Arc::clone(&secret.key)), void)
    }

    /// The key of this id, if it counts.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn of_id(&self, id: &str, now_unix_ms: u64) -> Result<Arc<Key>, Void> {
        let key = self.state.load().by_id.get(id).cloned().ok_or(Void::Unknown)?;
        match key.record.state(now_unix_ms) {
            KeyState::Valid => Ok(key),
            KeyState::Expired => Err(Void::Expired),
            KeyState::Revoked => Err(Void::Revoked),
        }
    }

    /// All of them, in the order of the file.
    pub(crate) fn all(&self) -> Vec<Arc<Key>> {
        self.state.load().all.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::record::FormerSecret;
    use crate::keys::record::tests::record;
    use futures_util::FutureExt;

    fn table(records: Vec<KeyRecord>) -> KeyTable {
        let table = KeyTable::default();
        table.replace(records);
        table
    }

    fn find(table: &KeyTable, shown: &str, now: u64) -> (Option<String>, &'static str) {
        match table.find(shown, &KeyDigest::of(shown.as_bytes()), now) {
            Found::Nothing => (None, "nothing"),
            Found::Key(key) => (Some(key.id().to_owned()), "valid"),
            Found::Void(key, void) => (key.map(|key| key.id().to_owned()), void.as_str()),
        }
    }

    #[test]
    fn a_key_is_found_by_its_secret_and_counts_while_it_may() {
        let id = |id: &str| Some(id.to_owned());
        let former = FormerSecret { sha256: KeyDigest::of(b"old"), ends: String::new(), until_unix_ms: 10 };
        let table = table(vec![
            KeyRecord { former: vec![former], ..record("k_1", "new") },
            KeyRecord { expires_unix_ms: Some(10), ..record("k_2", "short") },
            KeyRecord { revoked_unix_ms: Some(1), ..record("k_3", "gone") },
        ]);
        for (shown, now, expected) in [
            ("new", 5, (id("k_1"), "valid")),
            ("old", 5, (id("k_1"), "valid")),
            ("old", 10, (id("k_1"), "replaced")),
            ("new", 10, (id("k_1"), "valid")),
            ("short", 9, (id("k_2"), "valid")),
            ("short", 10, (id("k_2"), "expired")),
            ("gone", 0, (id("k_3"), "revoked")),
            ("", 0, (None, "nothing")),
            ("somebody's own", 0, (None, "nothing")),
            ("sk-spillway-of-another", 0, (None, "unknown")),
        ] {
            assert_eq!(find(&table, shown, now), expected, "{shown} at {now}");
        }
        let unread = KeyTable::default();
        unread.are_unread();
        assert!(find(&unread, "sk-spillway-one", 0) == (None, "unknown") && !unread.is_empty());
        unread.replace(Vec::new());
        // Where nobody has made keys, nothing is known of what begins like one.
        assert_eq!(find(&unread, "sk-spillway-of-another", 0), (None, "nothing"));
    }

    #[test]
    fn what_has_begun_with_a_key_hears_that_it_is_revoked_whatever_else_has_changed_since() {
        let table = table(vec![record("k_1", "one"), record("k_2", "two"), record("k_3", "three")]);
        let now = |id: &str| table.of_id(id, 0).expect("it counts");
        let (one, two, three) = (now("k_1"), now("k_2"), now("k_3"));
        let (mut ended, mut gone, mut goes_on) =
            (Box::pin(one.revoked()), Box::pin(two.revoked()), Box::pin(three.revoked()));
        let renamed =
            |revoked_unix_ms| KeyRecord { name: Some("shop".into()), revoked_unix_ms, ..record("k_1", "one") };
        assert_eq!(table.replace(vec![renamed(None), record("k_2", "two"), record("k_3", "three")]), 0);
        assert!((&mut ended).now_or_never().is_none() && &*now("k_1").label == "shop");
        assert_eq!(table.replace(vec![renamed(Some(1)), record("k_3", "three")]), 2, "one is revoked, and one is gone");
        assert!((&mut ended).now_or_never().is_some() && (&mut gone).now_or_never().is_some());
        assert!((&mut goes_on).now_or_never().is_none() && one.is_revoked() && !three.is_revoked());
        assert_eq!(table.of_id("k_1", 0).err(), Some(Void::Revoked));
        assert_eq!(table.of_id("k_2", 0).err(), Some(Void::Unknown));
        assert_eq!(table.replace(vec![renamed(Some(1)), record("k_3", "three")]), 0, "it is told once");
    }

    #[test]
    fn a_key_allows_what_it_names_and_all_where_it_names_nothing() {
        let narrow = KeyRecord { models: vec!["gpt-5*".into()], routes: vec!["chat".into()], ..record("k_1", "one") };
        let table = table(vec![narrow, record("k_2", "two")]);
        let (narrow, wide) = (table.of_id("k_1", 0).expect("a key"), table.of_id("k_2", 0).expect("a key"));
        assert!(narrow.allows_model("gpt-5-mini") && !narrow.allows_model("gpt-4o") && !narrow.allows_any_model());
        assert!(narrow.allows_route("chat") && !narrow.allows_route("openai"));
        assert!(wide.allows_model("gpt-4o") && wide.allows_any_model() && wide.allows_route("openai"));
    }
}
