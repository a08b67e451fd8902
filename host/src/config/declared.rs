//! What the configuration declares of one key, for whoever writes files of them.

use super::Config;
use super::section::{Description, Table, Tables};
use std::sync::OnceLock;

/// A key, as its section declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    /// What it says, in a sentence or two.
    pub(crate) doc: String,
    /// Its default as it is written in a file; `None` for what is said by leaving the key out, or where the default is
    /// not the same everywhere.
    pub(crate) default: Option<String>,
}

/// What is declared of the key at a path such as `server.listen`. A table that the operator names has any name in it:
/// `upstreams.openai.policy` and `upstreams.NAME.policy` are the same key. `None` where there is no such key.
pub(crate) fn declared(path: &str) -> Option<Declared> {
    // It never changes, and takes some time to make.
    static ALL: OnceLock<Description> = OnceLock::new();
    let (tables, key) = path.rsplit_once('.')?;
    let table = tables.split('.').try_fold(ALL.get_or_init(Config::describe), within)?;
    let key = table.keys.iter().find(|declared| declared.name == key)?;
    let default = key.default.as_ref().filter(|_| key.default_words.is_none());
    Some(Declared { doc: key.doc.clone(), default: default.map(ToString::to_string) })
}

fn within<'a>(table: &'a Description, name: &str) -> Option<&'a Description> {
    match &table.tables {
        Tables::These(tables) => tables.iter().find_map(|(known, table)| (*known == name).then_some(table)),
        Tables::Named(table) => Some(table),
        Tables::Anything => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_path_whatever_its_table_is_called() {
        let listen = declared("server.listen").expect("a key");
        assert_eq!(listen.default.as_deref(), Some("\"127.0.0.1:4141\""));
        assert!(listen.doc.starts_with("Where callers reach Spillway"), "{}", listen.doc);
        let patience = declared("upstreams.mine.limits.patience").expect("a key");
        assert_eq!(
            (patience.default.as_deref(), declared("upstreams.NAME.limits.patience")),
            (Some("\"10s\""), { Some(patience.clone()) })
        );
        assert_eq!(declared("server.workers").and_then(|workers| workers.default), None, "not the same everywhere");
        for unknown in ["server", "server.nothing", "nothing.listen", "policies.settings.mine.slow_ms"] {
            assert_eq!(declared(unknown), None, "{unknown}");
        }
    }
}
