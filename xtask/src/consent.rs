//! Whether what is missing may be installed.

/// The user's word about software outside of the repository and its target folder. Rust's own target for Wasm is no such
/// thing: rustup follows `rust-toolchain.toml` in this anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// `--install` was said.
    Given,
    /// It was not: what is missing is named, with the command that installs it.
    Withheld,
}
