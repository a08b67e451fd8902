//! `[keys]`: virtual keys, which callers show in the place of a provider's.

use super::kind::{File, Flag, Maybe};
use super::reader::Section;
use super::section::section;
use std::path::PathBuf;

section! {
    /// Virtual keys, which callers show in the place of a provider's ([keys.md](keys.md)). `spillway key` makes and
    /// revokes them; none of them stands here.
    pub struct KeysConfig {
        /// Whether every caller shows a virtual key, or the access key: for whatever goes to a provider, and to ask for
        /// jobs, also through the Unix socket. `x-spillway-tenant` counts for nothing then.
        // Whoever sends its own credential goes on as ever, until somebody wants to know of all who it is.
        required: bool = false, Flag;
        /// Where they are kept, as hashes. It is read again while Spillway serves: what is changed is in force within a
        /// second.
        file: Option<PathBuf> = None, Maybe(File), shown as "`keys.json` in `spool.dir`";
    }
}

impl KeysConfig {
    pub(super) fn read(section: Section<'_>) -> KeysConfig {
        let mut keys = KeysConfig::fresh(section.folder());
        keys.take(&section);
        if keys.file.as_ref().is_some_and(|file| file.as_os_str().is_empty() || file.is_dir()) {
            section.mistake("file", "must name a file");
        }
        section.finish();
        keys
    }
}
