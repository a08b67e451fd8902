//! The wall time by which everything is kept that outlives the process, carried across restarts.
//!
//! While the machine has not been started anew, its counter says exactly what has passed, whatever the wall clock
//! shows. After a start of the machine only the wall clock can tell: what it says has passed is believed, but time
//! never goes back.

use crate::runtime::boot::boot_id;
use crate::runtime::clock::{Clock, counter_ms, wall_unix_ms};
use crate::state::json_file;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file's name, in the data folder.
const FILE: &str = "clock.json";
/// The layout of the file. Another one is not read.
const VERSION: u32 = 1;
/// Largest file read: it has five short lines.
const FILE_BYTES_MAX: u64 = 4 << 10;
/// From here on a difference is a clock that was set, and no rounding.
const JUMP_MS: u64 = 1_000;

/// What the machine's clocks say at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reading {
    /// Which start of the machine it is; `None` where that cannot be known.
    boot: Option<String>,
    /// What the counter says.
    counter_ms: u64,
    /// What the wall clock says.
    wall_unix_ms: u64,
}

/// What time it was by our count when the machine's clocks said this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Anchor {
    version: u32,
    unix_ms: u64,
    #[serde(flatten)]
    reading: Reading,
}

impl Anchor {
    /// What time it is when the machine's clocks say `now`.
    fn unix_ms_at(&self, now: &Reading) -> u64 {
        let Anchor { unix_ms, reading: then, .. } = self;
        let passed_ms = if then.is_of_the_same_start(now) {
            now.counter_ms - then.counter_ms
        } else {
            now.wall_unix_ms.saturating_sub(then.wall_unix_ms)
        };
        unix_ms.saturating_add(passed_ms)
    }

    /// Whether `later` tells a restart more than this does: of another start of the machine, of a wall clock that was
    /// set, or of a count that was moved.
    fn is_outdated_by(&self, later: &Anchor) -> bool {
        let differ = |one: u64, other: u64| one.abs_diff(other) >= JUMP_MS;
        let (then, now) = (&self.reading, &later.reading);
        let passed_ms = later.unix_ms.saturating_sub(self.unix_ms);
        // Where starts have no names, a restart goes by the wall clock whatever is written.
        let is_another_start = then.boot.is_some() && !then.is_of_the_same_start(now);
        is_another_start
            || differ(self.unix_ms_at(now), later.unix_ms)
            || differ(then.wall_unix_ms.saturating_add(passed_ms), now.wall_unix_ms)
    }
}

impl Reading {
    fn take(boot: Option<String>) -> Reading {
        Reading { boot, counter_ms: counter_ms(), wall_unix_ms: wall_unix_ms() }
    }

    /// Whether the counter has gone on from here to `later`.
    fn is_of_the_same_start(&self, later: &Reading) -> bool {
        self.boot.is_some() && self.boot == later.boot && self.counter_ms <= later.counter_ms
    }
}

/// The count, and where it is kept.
#[derive(Debug)]
pub(crate) struct SteadyTime {
    path: Option<PathBuf>,
    boot: Option<String>,
    /// What is written.
    anchor: Option<Anchor>,
    is_resumed: bool,
    /// Whether the last write failed.
    failed: bool,
}

impl SteadyTime {
    /// What is kept in `folder`, which is not looked at yet. Without a folder nothing is read or written.
    pub(crate) fn kept_in(folder: Option<&Path>) -> SteadyTime {
        SteadyTime {
            path: folder.map(|folder| folder.join(FILE)),
            boot: boot_id(),
            anchor: None,
            is_resumed: false,
            failed: false,
        }
    }

    /// Lets `clock` go on from where the last process's was: once, however often this is called.
    pub(crate) fn resume(&mut self, clock: &Clock) {
        if std::mem::replace(&mut self.is_resumed, true) {
            return;
        }
        self.anchor = self.path.as_deref().and_then(|path| match json_file::read::<Anchor>(path, FILE_BYTES_MAX) {
            Ok(anchor) => anchor.filter(|anchor| anchor.version == VERSION),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "how time was counted before the restart is not known; it begins with \
                                               the system's clock");
                None
            }
        });
        if let Some(anchor) = &self.anchor {
            clock.go_on_from(anchor.unix_ms_at(&Reading::take(self.boot.clone())));
        }
    }

    /// Writes how `clock` stands beside the machine's clocks, if a restart could not tell from what is written. To be
    /// called about once a second, since a wall clock may be set at any time.
    pub(crate) fn keep(&mut self, clock: &Clock) {
        let Some(path) = &self.path else { return };
        let reading = Reading::take(self.boot.clone());
        let later = Anchor { version: VERSION, unix_ms: clock.unix_ms(), reading };
        // A file that somebody deleted is written anew.
        if self.anchor.as_ref().is_some_and(|anchor| !anchor.is_outdated_by(&later)) && path.exists() {
            return;
        }
        match json_file::write(path, &later) {
            Ok(()) => {
                let ahead_s = i128::from(later.reading.wall_unix_ms) / 1_000 - i128::from(later.unix_ms) / 1_000;
                tracing::debug!(ahead_s, "how far the wall clock is ahead of the time by which things wait");
                (self.anchor, self.failed) = (Some(later), false);
            }
            // Said once, and tried again every time.
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                let path = path.display();
                tracing::error!(%path, %error, "how time is counted could not be stored; after a restart waits would \
                                                go by the system's clock, wherever it was set");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const NOON: u64 = 1_795_953_600_000;
    const HOUR: u64 = 3_600_000;
    const MINUTE: u64 = 60_000;

    fn reading(boot: Option<&str>, counter_ms: u64, wall_unix_ms: u64) -> Reading {
        Reading { boot: boot.map(str::to_owned), counter_ms, wall_unix_ms }
    }

    fn anchor(unix_ms: u64, reading: Reading) -> Anchor {
        Anchor { version: VERSION, unix_ms, reading }
    }

    #[test]
    fn what_has_passed_is_what_the_counter_says_and_after_a_start_of_the_machine_what_the_wall_clock_says() {
        let then = anchor(NOON, reading(Some("first"), HOUR, NOON));
        for (now, passed, why) in [
            (reading(Some("first"), HOUR + MINUTE, NOON + MINUTE), MINUTE, "nothing was set"),
            (reading(Some("first"), HOUR + MINUTE, NOON + 25 * HOUR), MINUTE, "the wall clock was set ahead"),
            (reading(Some("first"), HOUR + MINUTE, NOON - 25 * HOUR), MINUTE, "the wall clock was set back"),
            (reading(Some("first"), 3 * HOUR, NOON + 2 * HOUR), 2 * HOUR, "the machine has slept"),
            (reading(Some("second"), MINUTE, NOON + 25 * HOUR), 25 * HOUR, "the machine was switched off"),
            (reading(Some("second"), MINUTE, NOON - 25 * HOUR), 0, "it was started with a clock that is behind"),
            (reading(Some("second"), 5 * HOUR, NOON + MINUTE), MINUTE, "another start's counter says nothing"),
            (reading(Some("first"), MINUTE, NOON + HOUR), HOUR, "a counter that went back is another one"),
            (reading(None, HOUR + MINUTE, NOON + 2 * HOUR), 2 * HOUR, "where the start has no name"),
        ] {
            assert_eq!(then.unix_ms_at(&now), NOON + passed, "{why}");
        }
        let nameless = anchor(NOON, reading(None, HOUR, NOON));
        assert_eq!(nameless.unix_ms_at(&reading(None, HOUR + MINUTE, NOON - 25 * HOUR)), NOON);
    }

    #[test]
    fn a_wall_clock_that_was_wrong_all_the_time_is_as_good_as_a_right_one() {
        // The count says noon, the wall clock is 25 hours ahead of it, and stays so over a start of the machine.
        let then = anchor(NOON, reading(Some("first"), HOUR, NOON + 25 * HOUR));
        assert_eq!(then.unix_ms_at(&reading(Some("second"), 0, NOON + 25 * HOUR + MINUTE)), NOON + MINUTE);
    }

    #[test]
    fn it_is_written_anew_only_when_a_restart_could_not_tell() {
        let then = anchor(NOON, reading(Some("first"), HOUR, NOON));
        let same = |wall| anchor(NOON + MINUTE, reading(Some("first"), HOUR + MINUTE, wall));
        for (later, outdated) in [
            (same(NOON + MINUTE), false),
            (same(NOON + MINUTE + JUMP_MS - 1), false),
            (same(NOON + 25 * HOUR), true),
            (same(NOON - 25 * HOUR), true),
            (anchor(NOON + HOUR, reading(Some("first"), HOUR + MINUTE, NOON + MINUTE)), true),
            (anchor(NOON + MINUTE, reading(Some("second"), MINUTE, NOON + MINUTE)), true),
        ] {
            assert_eq!(then.is_outdated_by(&later), outdated, "{later:?}");
        }
    }

    #[test]
    fn the_count_goes_on_in_another_process() {
        let folder = tempfile::tempdir().expect("a folder");
        // As if the wall clock had been set since.
        let clock = Clock::start();
        clock.go_on_from(wall_unix_ms() - 25 * HOUR);
        SteadyTime::kept_in(Some(folder.path())).keep(&clock);
        let second = Clock::start();
        let mut time = SteadyTime::kept_in(Some(folder.path()));
        time.resume(&second);
        assert!(second.unix_ms().abs_diff(clock.unix_ms()) < MINUTE, "{} and {}", second.unix_ms(), clock.unix_ms());
        second.go_on_from(NOON);
        time.resume(&second);
        assert!(second.unix_ms() - NOON < MINUTE, "it goes on once");
    }

    #[test]
    fn without_a_file_or_with_a_bad_one_it_begins_with_the_wall_clock() {
        let folder = tempfile::tempdir().expect("a folder");
        for content in [None, Some("{"), Some("{\"version\": 9}")] {
            if let Some(content) = content {
                fs::write(folder.path().join(FILE), content).expect("a file");
            }
            let clock = Clock::start();
            SteadyTime::kept_in(Some(folder.path())).resume(&clock);
            assert!(clock.unix_ms().abs_diff(wall_unix_ms()) < MINUTE, "{content:?}");
        }
    }
}
