//! What Spillway is packed for.

use std::env::consts::{ARCH, OS};

/// A kind of machine. Binaries for it stand alone: musl is linked in, and nothing of a system is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    X86_64,
    Aarch64,
}

impl Target {
    pub(crate) const ALL: [Target; 2] = [Target::X86_64, Target::Aarch64];

    /// Rust's name of it.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Target::X86_64 => "x86_64-unknown-linux-musl",
            Target::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }

    /// The name that Debian and container engines have for it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Target::X86_64 => "amd64",
            Target::Aarch64 => "arm64",
        }
    }

    /// The number of its processor in the head of a binary, `e_machine`.
    pub(crate) fn elf_machine(self) -> u16 {
        match self {
            Target::X86_64 => 62,
            Target::Aarch64 => 183,
        }
    }

    /// Whether its binaries run here as they are.
    pub(crate) fn is_here(self) -> bool {
        let arch = match self {
            Target::X86_64 => "x86_64",
            Target::Aarch64 => "aarch64",
        };
        OS == "linux" && ARCH == arch
    }

    /// The program by which its binaries run elsewhere, of Debian's package `qemu-user-static`.
    pub(crate) fn emulator(self) -> &'static str {
        match self {
            Target::X86_64 => "/usr/bin/qemu-x86_64-static",
            Target::Aarch64 => "/usr/bin/qemu-aarch64-static",
        }
    }

    /// The target of this name.
    ///
    /// # Errors
    /// There is none; the message names all.
    pub(crate) fn named(triple: &str) -> Result<Target, String> {
        let found = Target::ALL.into_iter().find(|target| target.triple() == triple);
        found.ok_or_else(|| {
            let known = Target::ALL.map(Target::triple).join(" and ");
            format!("nothing is packed for {triple}; the targets are {known}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_found_by_its_name() {
        for target in Target::ALL {
            assert_eq!(Target::named(target.triple()), Ok(target));
        }
        let unknown = Target::named("x86_64-pc-windows-gnu");
        assert!(unknown.is_err_and(|mistake| Target::ALL.iter().all(|target| mistake.contains(target.triple()))));
    }
}
