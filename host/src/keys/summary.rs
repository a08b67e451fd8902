//! How all keys stand together.

use crate::keys::record::{KeyRecord, KeyState};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A key that expires within this is to be looked at.
pub(crate) const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How all keys stand together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeysSummary {
    pub(crate) valid: u64,
    pub(crate) expired: u64,
    pub(crate) revoked: u64,
    /// What people call those that expire soon, the first to expire first.
    pub(crate) expire_soon: Vec<String>,
    /// When the first of the valid ones expires, if any does.
    pub(crate) next_expiry_unix_ms: Option<u64>,
}

impl KeysSummary {
    /// Of these keys at this moment.
    pub(crate) fn of<'a>(keys: impl Iterator<Item = &'a KeyRecord>, now_unix_ms: u64) -> KeysSummary {
        let mut summary = KeysSummary::default();
        let mut ends: Vec<(u64, &str)> = Vec::new();
        for key in keys {
            match key.state(now_unix_ms) {
                KeyState::Valid => {
                    summary.valid += 1;
                    ends.extend(key.expires_unix_ms.map(|expires| (expires, key.label())));
                }
                KeyState::Expired => summary.expired += 1,
                KeyState::Revoked => summary.revoked += 1,
            }
        }
        ends.sort_unstable();
        summary.next_expiry_unix_ms = ends.first().map(|(expires, _)| *expires);
        let is_soon = |expires: u64| u128::from(expires - now_unix_ms) < EXPIRES_SOON.as_millis();
        let soon = ends.into_iter().take_while(|(expires, _)| is_soon(*expires));
        summary.expire_soon = soon.map(|(_, label)| label.to_owned()).collect();
        summary
    }

    /// In words: how many there are of which kind, and none of those of which there are none.
    pub(crate) fn told(&self) -> String {
        let counts = [(self.valid, "valid"), (self.expired, "expired"), (self.revoked, "revoked")];
        let told: Vec<String> =
            counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::record::tests::record;

    const DAY: u64 = 24 * 60 * 60 * 1_000;

    #[test]
    fn keys_are_counted_and_those_that_expire_soon_are_named() {
        let until = |id: &str, expires| KeyRecord { expires_unix_ms: Some(expires), ..record(id, id) };
        let keys = [
            until("k_1", 30 * DAY),
            until("k_2", 6 * DAY),
            KeyRecord { name: Some("shop".into()), ..until("k_3", 2 * DAY) },
            until("k_4", DAY),
            record("k_5", "k_5"),
            KeyRecord { revoked_unix_ms: Some(1), ..until("k_6", 3 * DAY) },
        ];
        let summary = KeysSummary::of(keys.iter(), DAY);
        assert_eq!(summary.told(), "4 valid, 1 expired, 1 revoked");
        assert_eq!(
            (summary.next_expiry_unix_ms, &summary.expire_soon[..]),
            (Some(2 * DAY), &["shop".into(), "k_2".into()][..])
        );
        assert_eq!(KeysSummary::of([].iter(), DAY).told(), "none");
    }
}
