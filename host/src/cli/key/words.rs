//! Moments and limits, as people write and read them.

use crate::keys::record::{KeyLimit, KeyRecord, KeyState};
use crate::keys::summary::EXPIRES_SOON;
use crate::runtime::clock::milliseconds;
use crate::runtime::screen::{self, ASIDE, BAD, DOUBTFUL, GOOD, styled};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest time from now on that is taken for one that somebody means.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A moment in milliseconds since 1970: so long from now on, or a date, or a date with a time; `None` for never.
///
/// # Errors
/// When it is none of these, or over.
pub(super) fn moment(text: &str, now_unix_ms: u64) -> Result<Option<u64>, String> {
    let text = text.trim();
    if text == "never" {
        return Ok(None);
    }
    if let Ok(span) = humantime::parse_duration(text) {
        return match span {
            Duration::ZERO => Err(format!("{text} from now on is now")),
            span if span > LONGEST => Err(format!("{text} is longer than anybody keeps a key; leave it out for never")),
            span => Ok(Some(now_unix_ms.saturating_add(milliseconds(span)))),
        };
    }
    let time = humantime::parse_rfc3339(text).or_else(|_| humantime::parse_rfc3339(&format!("{text}T00:00:00Z")));
    let moment = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(milliseconds);
    match moment {
        Some(moment) if moment > now_unix_ms => Ok(Some(moment)),
        Some(_) => Err(format!("{text} is over")),
        None => Err(format!("{text} is no time; write 90d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z")),
    }
}

/// A moment as people read it: its date, and its time if it is no beginning of a day.
pub(super) fn date(unix_ms: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    // A year of five digits has no such form.
    let text =
        time.filter(|_| unix_ms < 253_402_300_800_000).map(|time| humantime::format_rfc3339_seconds(time).to_string());
    let text = text.unwrap_or_else(|| "a distant day".to_owned());
    text.strip_suffix("T00:00:00Z").map_or(text.clone(), str::to_owned).replace('T', " ").replace('Z', " UTC")
}

/// A moment as a list shows it: its date.
pub(super) fn day(unix_ms: u64) -> String {
    date(unix_ms).chars().take("2027-01-31".len()).collect()
}

/// A span of time, roughly: a key's last days are counted.
fn span(left: Duration) -> String {
    const DAY_S: u64 = 24 * 60 * 60;
    match left.as_secs() {
        0..DAY_S => screen::span(left),
        seconds => format!("{} d", seconds / DAY_S),
    }
}

/// How a key stands, in a few words and the colour of that.
pub(super) fn state(key: &KeyRecord, now_unix_ms: u64) -> String {
    let left = key.expires_unix_ms.map(|expires| Duration::from_millis(expires.saturating_sub(now_unix_ms)));
    match (key.state(now_unix_ms), left) {
        (KeyState::Valid, Some(left)) if left < EXPIRES_SOON => styled(DOUBTFUL, format!("valid, {} left", span(left))),
        (KeyState::Valid, _) => styled(GOOD, "valid"),
        (KeyState::Expired, _) => styled(BAD, "expired"),
        (KeyState::Revoked, _) => styled(BAD, "revoked"),
    }
}

/// The end of a key, by which its owner knows it again.
pub(super) fn ends(ends: &str) -> String {
    if ends.is_empty() { String::new() } else { format!("…{ends}") }
}

/// A limit as it was written.
pub(super) fn limit(limit: &KeyLimit) -> String {
    if limit.soft { format!("{} {}", limit.limit, styled(ASIDE, "(warns)")) } else { limit.limit.clone() }
}

/// Several of something, or a word for all.
pub(super) fn listed(all: &[String], none: &str) -> String {
    if all.is_empty() { styled(ASIDE, none) } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1_000;

    #[test]
    fn when_a_key_expires_is_said_in_days_or_as_a_date() {
        for (text, expected) in [
            ("90d", Some(91 * DAY)),
            ("12h", Some(DAY + DAY / 2)),
            ("2weeks", Some(15 * DAY)),
            ("1970-01-03", Some(2 * DAY)),
            ("1970-01-03T12:00:00Z", Some(2 * DAY + DAY / 2)),
            ("never", None),
        ] {
            assert_eq!(moment(text, DAY), Ok(expected), "{text}");
        }
        for wrong in ["", "soon", "0s", "1970-01-01", "9999y", "2027-13-01", "90"] {
            assert!(moment(wrong, DAY).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_moment_is_shown_as_short_as_it_can_be() {
        assert_eq!(date(2 * DAY), "1970-01-03");
        assert_eq!(date(2 * DAY + 1_000), "1970-01-03 00:00:01 UTC");
        assert_eq!(date(u64::MAX), "a distant day");
    }
}
