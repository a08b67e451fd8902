//! Small files of JSON that only this user's Spillway reads.

use crate::runtime::durable_file::{self, Access};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// Reads a file; `None` if it is not there.
///
/// # Errors
/// When it cannot be read, is larger than `bytes_max`, or holds something else.
pub(super) fn read<T: DeserializeOwned>(path: &Path, bytes_max: u64) -> io::Result<Option<T>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(metadata) if metadata.len() > bytes_max => Err(io::Error::other("the file is too large")),
        Ok(_) => Ok(Some(serde_json::from_slice(&fs::read(path)?)?)),
    }
}

/// What is read of a file of whatever layout.
#[derive(Deserialize)]
struct Layout {
    version: u32,
}

/// Reads a file whose layout has this number; `None` if it is not there.
///
/// # Errors
/// As [`read`], and when its layout is another.
pub(super) fn read_layout<T: DeserializeOwned>(path: &Path, bytes_max: u64, wanted: u32) -> io::Result<Option<T>> {
    match read(path, bytes_max)? {
        Some(Layout { version }) if version != wanted => {
            Err(io::Error::other(format!("the file's layout is {version}, and {wanted} is wanted")))
        }
        Some(Layout { .. }) => read(path, bytes_max),
        None => Ok(None),
    }
}

/// Writes a file for its owner's eyes only.
///
/// # Errors
/// See [`durable_file::replace`].
pub(super) fn write(path: &Path, stored: &impl Serialize) -> io::Result<()> {
    durable_file::replace(path, Access::Owner, &serde_json::to_vec_pretty(stored)?[..])
}
