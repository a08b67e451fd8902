//! `spillway key revoke`: keys that count no more.

use super::{Answer, Failure, find};
use crate::keys::file::KeyFile;
use crate::keys::record::KeyRecord;
use crate::runtime::clock::wall_unix_ms;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Their ids, or their names.
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, file: &KeyFile) -> Result<Answer, Failure> {
    let now_unix_ms = wall_unix_ms();
    let said = file.change(|keys| {
        // All of them or none: whoever has mistyped one looks again.
        let found: Result<Vec<usize>, Failure> = arguments.keys.iter().map(|key| find(keys, key)).collect();
        Ok::<_, Failure>(found?.into_iter().map(|index| revoke(&mut keys[index], now_unix_ms)).collect::<String>())
    })?;
    let end = "\nA Spillway that runs ends what is under way with them within a second.\n";
    Ok(Answer { out: said, aside: end.to_owned() })
}

fn revoke(key: &mut KeyRecord, now_unix_ms: u64) -> String {
    let name = key.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    match key.revoked_unix_ms {
        Some(_) => format!("{}{name} was revoked before.\n", key.id),
        None => {
            key.revoked_unix_ms = Some(now_unix_ms);
            format!("{}{name} is revoked.\n", key.id)
        }
    }
}
