//! The table that comes along: those rows and keys of LiteLLM's that are of use here, and corrections to it.
//! `host/examples/price_table.rs` makes it anew.

use super::date::Date;
use super::litellm::Table;
use super::own::Own;
use std::sync::LazyLock;

/// What comes along. It is read when a price is first asked for.
pub(super) static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| {
    let table = Table::read(include_str!("table.json")).unwrap_or_default();
    let as_of = table.as_of.as_deref().and_then(|day| day.parse().ok()).unwrap_or_default();
    // A test holds that both are read without a mistake.
    BuiltIn { corrections: Own::read(include_str!("corrections.toml")).unwrap_or_default(), table, as_of }
});

/// What comes along.
#[derive(Debug)]
pub(super) struct BuiltIn {
    /// What the table does not know: announced changes, and models that are sold by some alone.
    pub(super) corrections: Own,
    pub(super) table: Table,
    /// When the table was taken.
    pub(super) as_of: Date,
}
