//! The clocks under a Spillway, which a test moves while it runs: as when its machine sleeps, and when somebody sets it right
//! or wrong.
#![expect(clippy::panic, reason = "clocks that do not move fail the test, and panics are how tests fail")]

use crate::setup::product;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

/// Clocks of one machine. They stay as they are while Spillway is started again.
#[derive(Debug)]
pub struct Clocks {
    path: PathBuf,
    file: File,
    wall_ns: i64,
    counter_ns: i64,
}

impl Clocks {
    /// The machine's own, so far.
    pub(crate) fn still(path: PathBuf) -> Self {
        let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let clocks = Self { path, file, wall_ns: 0, counter_ns: 0 };
        clocks.write();
        clocks
    }

    /// What makes a process go by them.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let library = product("SPILLWAY_MOVED_CLOCK_LIBRARY", "libspillway_moved_clock.so");
        if !library.is_file() {
            panic!("no {}; `cargo xtask test` builds it before the tests", library.display());
        }
        let text = |path: &PathBuf| path.display().to_string();
        [("LD_PRELOAD", text(&library)), ("SPILLWAY_MOVED_CLOCK", text(&self.path))]
    }

    /// The machine sleeps for so long: its timers stand still meanwhile, and everything else goes on.
    pub fn sleep(&mut self, duration: Duration) {
        let slept = nanoseconds(duration);
        (self.wall_ns, self.counter_ns) = (self.wall_ns + slept, self.counter_ns + slept);
        self.write();
    }

    /// Somebody sets the wall clock so far ahead.
    pub fn set_ahead(&mut self, by: Duration) {
        self.wall_ns += nanoseconds(by);
        self.write();
    }

    /// Somebody sets the wall clock so far back.
    pub fn set_back(&mut self, by: Duration) {
        self.wall_ns -= nanoseconds(by);
        self.write();
    }

    fn write(&self) {
        let bytes = [self.wall_ns.to_le_bytes(), self.counter_ns.to_le_bytes()].concat();
        let written = self.file.write_all_at(&bytes, 0);
        written.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or_else(|_| panic!("{duration:?} is too long"))
}
