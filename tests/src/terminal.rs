//! A terminal in which a process writes, as a person would see it.
#![expect(clippy::panic, reason = "a test without a terminal fails, and panics are how tests fail")]

use crate::log::Log;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

/// The end that a process writes to.
#[derive(Debug)]
pub struct Terminal {
    end: File,
    keyboard: File,
    /// What was written so far, with everything that a terminal would obey.
    pub screen: Log,
}

impl Terminal {
    /// A terminal of so many columns.
    ///
    /// # Panics
    /// When the system has none.
    #[track_caller]
    pub fn of(columns: u16) -> Self {
        Self::open(columns).unwrap_or_else(|error| panic!("no terminal for the test: {error}"))
    }

    fn open(columns: u16) -> io::Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        tcsetwinsize(&ours, Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        let name = ptsname(&ours, Vec::new())?;
        let end = OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.as_bytes()))?;
        let screen = File::from(ours);
        Ok(Self { end, keyboard: screen.try_clone()?, screen: Log::follow(screen)? })
    }

    /// Types this.
    ///
    /// # Panics
    /// When the terminal does not take it.
    #[track_caller]
    pub fn type_in(&self, keys: &str) {
        let typed = (&self.keyboard).write_all(keys.as_bytes());
        typed.unwrap_or_else(|error| panic!("the terminal takes no keys: {error}"));
    }

    /// The end for a process to write to.
    ///
    /// # Panics
    /// When there are no descriptors left.
    #[track_caller]
    pub fn stdio(&self) -> Stdio {
        self.end.try_clone().unwrap_or_else(|error| panic!("no descriptor for the terminal: {error}")).into()
    }
}
