//! This crate's own sources, for programs that hand them on: `spillway policy new` unpacks them beside a policy, so
//! that it is built by the very SDK that the program was built with.

/// Its version.
///
/// ```
/// let parts = spillway_sdk::sources::VERSION.split('.');
/// assert_eq!(parts.count(), 3);
/// ```
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The files with their texts.
macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("../", $path)))),*] };
}

/// Every file that the crate is built from, its licences, and the lock file of a policy's dependencies: the path below
/// the crate's folder, with `/` between its parts, and the text.
///
/// ```
/// use spillway_sdk::sources::FILES;
///
/// let manifest = FILES.iter().find(|(path, _)| *path == "Cargo.toml");
/// assert!(manifest.is_some_and(|(_, text)| text.contains("spillway-sdk")));
/// ```
pub const FILES: &[(&str, &str)] = files![
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "policy.lock",
    "src/body_json.rs",
    "src/builtin.rs",
    "src/exchange.rs",
    "src/guest.rs",
    "src/lib.rs",
    "src/policy.rs",
    "src/provider_error.rs",
    "src/rate_limits.rs",
    "src/settings.rs",
    "src/sources.rs",
    "src/testing.rs",
    "src/verdict.rs",
    "src/wait.rs",
    "src/window.rs",
    "wit/v0.1/policy.wit",
];
