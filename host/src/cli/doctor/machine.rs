//! What this machine gives: open files, and what policies are built with.

use super::finding::Finding;
use crate::cli::policy::{TARGET, has_target};
use crate::runtime::descriptors;
use crate::start::connections_of;
use std::process::Command;

/// Fewer connections at once are doubtful: a server's application has as many on a busy day.
const CONNECTIONS_FEW: u64 = 256;
/// With fewer descriptors Spillway cannot even begin: it has that many open before the first caller comes.
const DESCRIPTORS_MIN: u64 = 64;

/// How many files may be open, as far as the system lets a process raise that itself.
pub(super) fn descriptors() -> Finding {
    of_descriptors(descriptors::raise())
}

fn of_descriptors(descriptors: u64) -> Finding {
    const AREA: &str = "open files";
    let connections = connections_of(descriptors);
    let said = match descriptors {
        u64::MAX => "as many as there is memory for".to_owned(),
        _ => format!("{descriptors} may be open, which bears {connections} callers at once"),
    };
    let next = "Raise the hard limit: ulimit -Hn, LimitNOFILE in a systemd unit, --ulimit nofile of a container.";
    match descriptors {
        ..DESCRIPTORS_MIN => {
            Finding::broken(AREA, format!("{descriptors} may be open, which is not enough to begin with"), next)
        }
        _ if connections < CONNECTIONS_FEW => Finding::doubtful(AREA, said, next),
        _ => Finding::well(AREA, said),
    }
}

/// Whether policies can be built here. Whoever writes none needs nothing of it.
pub(super) fn building() -> Finding {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut rustc = Command::new(program);
    // Nothing is installed by looking.
    rustc.env("RUSTUP_AUTO_INSTALL", "0").stdin(std::process::Stdio::null());
    of_building(has_target(&mut rustc).ok())
}

fn of_building(has_target: Option<bool>) -> Finding {
    const AREA: &str = "own policies";
    let hint = |said: &str, next: String| Finding { next: Some(next), ..Finding::well(AREA, said) };
    match has_target {
        Some(true) => Finding::well(AREA, format!("can be built here: Rust has {TARGET}")),
        Some(false) => hint(
            "cannot be built here yet, which only matters to who writes some",
            format!("rustup target add {TARGET}"),
        ),
        None => hint(
            "cannot be built here, for want of Rust, which only matters to who writes some",
            format!("Rust comes from https://rustup.rs; then rustup target add {TARGET}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn descriptors_are_worth_the_connections_that_they_bear() {
        for (descriptors, verdict, words) in [
            (16, Verdict::Broken, "not enough"),
            (256, Verdict::Doubtful, "80 callers"),
            (1_024, Verdict::Well, "464 callers"),
            (u64::MAX, Verdict::Well, "memory"),
        ] {
            let finding = of_descriptors(descriptors);
            assert!(finding.verdict == verdict && finding.said.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn to_build_policies_is_a_hint_only() {
        for has_target in [Some(true), Some(false), None] {
            let finding = of_building(has_target);
            assert_eq!((finding.verdict, finding.next.is_some()), (Verdict::Well, has_target != Some(true)));
        }
    }
}
