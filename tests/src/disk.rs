//! A disk under a Spillway that a test lets hang.
#![expect(clippy::panic, reason = "a disk that does not hang fails the test, and panics are how tests fail")]

use crate::setup::product;
use std::fs;
use std::path::{Path, PathBuf};

/// The disk of one Spillway's data.
#[derive(Clone, Debug)]
pub struct Disk {
    folder: PathBuf,
    hangs: PathBuf,
}

impl Disk {
    /// The disk of this data folder. The file that lets it hang lies beside.
    pub(crate) fn of(data: &Path, beside: &Path) -> Self {
        Self { folder: data.to_owned(), hangs: beside.join("the-disk-hangs") }
    }

    /// What makes a process use it.
    pub(crate) fn environment(&self) -> [(&'static str, String); 3] {
        let library = product("SPILLWAY_HANGING_DISK_LIBRARY", "libspillway_hanging_disk.so");
        if !library.is_file() {
            panic!("no {}; `cargo xtask test` builds it before the tests", library.display());
        }
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&library)),
            ("SPILLWAY_HANGING_DISK", text(&self.folder)),
            ("SPILLWAY_HANGING_DISK_WHILE", text(&self.hangs)),
        ]
    }

    /// From here on, whoever writes to it does not come back.
    pub fn hang(&self) {
        fs::write(&self.hangs, "").unwrap_or_else(|error| panic!("{}: {error}", self.hangs.display()));
    }

    /// It answers again.
    pub fn answer(&self) {
        fs::remove_file(&self.hangs).unwrap_or_else(|error| panic!("{}: {error}", self.hangs.display()));
    }
}
