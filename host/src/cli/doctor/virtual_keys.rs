//! Virtual keys, as a Spillway that starts would find them.

use super::finding::Finding;
use crate::config::Config;
use crate::keys::file::{KeyFile, KeyFileError};
use crate::keys::record::KeyRecord;
use crate::keys::summary::KeysSummary;
use crate::runtime::clock::wall_unix_ms;
use crate::runtime::private;
use crate::runtime::screen::span;
use std::time::Duration;

const AREA: &str = "virtual keys";

/// Looks at their file. Where there is none, and none is demanded, nothing is said.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let file = KeyFile::at(config.key_file());
    let path = file.path().display().to_string();
    let open = private::is_open(file.path()).unwrap_or(false);
    let has_access_key = config.server.access_key().is_some();
    let found = finding(file.read(), &path, config.keys.required, has_access_key, wall_unix_ms());
    let readable = open.then(|| {
        Finding::doubtful(
            AREA,
            format!("{path} can be read by others: it has no key, and says who may do what"),
            format!("To keep it for yourself, {}.", private::HOW_TO_SHUT_FILE),
        )
    });
    found.into_iter().chain(readable).collect()
}

fn finding(
    read: Result<Vec<KeyRecord>, KeyFileError>,
    path: &str,
    is_required: bool,
    has_access_key: bool,
    now_unix_ms: u64,
) -> Option<Finding> {
    let keys = match read {
        Ok(keys) => keys,
        Err(error) => {
            let said = format!("{error}; Spillway does not start");
            return Some(Finding::broken(AREA, said, "Put back the last file that was right, or move this one away."));
        }
    };
    let summary = KeysSummary::of(keys.iter(), now_unix_ms);
    if summary.valid == 0 && is_required && !has_access_key {
        let said = format!("keys.required is set, and {path} has no key that counts: nobody is served");
        return Some(Finding::broken(AREA, said, "Make one: spillway key new --name NAME."));
    }
    if keys.is_empty() {
        return None;
    }
    let told = summary.told();
    let next = summary.next_expiry_unix_ms.map(|at| span(Duration::from_millis(at.saturating_sub(now_unix_ms))));
    Some(match (&summary.expire_soon[..], next) {
        ([], None) => Finding::well(AREA, told),
        ([], Some(next)) => Finding::well(AREA, format!("{told}; the next expires in {next}")),
        (soon, next) => Finding::doubtful(
            AREA,
            format!(
                "{told}; these expire within a week, the first in {}: {}",
                next.unwrap_or_default(),
                soon.join(", ")
            ),
            "Make others, and give them to whoever has these: spillway key new.",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::keys::record::tests::record;

    const DAY: u64 = 24 * 60 * 60 * 1_000;

    #[test]
    fn keys_that_are_lacking_wrong_or_about_to_expire_are_told() {
        let until = |expires| vec![KeyRecord { expires_unix_ms: Some(expires), ..record("k_1", "one") }];
        let look = |keys, required, access| finding(Ok(keys), "keys.json", required, access, DAY);
        let verdict = |found: Option<Finding>| found.map(|found| found.verdict);
        for (keys, required, access, expected) in [
            (Vec::new(), false, false, None),
            (Vec::new(), true, false, Some(Verdict::Broken)),
            (Vec::new(), true, true, None),
            (until(DAY), true, false, Some(Verdict::Broken)),
            (until(DAY), false, false, Some(Verdict::Well)),
            (until(3 * DAY), true, false, Some(Verdict::Doubtful)),
            (until(30 * DAY), true, false, Some(Verdict::Well)),
            (vec![record("k_1", "one")], false, false, Some(Verdict::Well)),
        ] {
            let found = look(keys, required, access);
            assert_eq!(verdict(found.clone()), expected, "{found:?}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = KeyFile::at(folder.path().join("keys.json"));
        std::fs::write(file.path(), "{").expect("written");
        let found = finding(file.read(), "keys.json", false, false, DAY).expect("it is told");
        assert!(found.verdict == Verdict::Broken && found.said.contains("does not start"), "{found:?}");
    }
}
