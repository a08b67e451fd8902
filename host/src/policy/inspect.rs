//! What a policy file says of itself before it is compiled, for people who want to know.

use super::artifact::CONTRACT;
use wasmparser::{Encoding, Parser, Payload};

/// Bytes of a page of Wasm memory.
const PAGE_BYTES: u64 = 64 << 10;

/// A policy file from outside. Nothing here says that it may serve: of a broken file it holds what comes before the
/// break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// A ready component, rather than the core module that `cargo build` leaves.
    pub is_component: bool,
    /// The version of the contract that it was built for.
    pub contract_version: Option<String>,
    /// What it asks the host for, sorted: the contract's functions as they are named there, other imports whole. Of a
    /// component only the interfaces are known.
    pub imports: Vec<String>,
    /// Memory that an instance starts with.
    pub initial_memory_bytes: u64,
}

/// Reads the outermost level of a file, and the memories of the modules in it.
pub(crate) fn inspect(bytes: &[u8]) -> Inspection {
    let mut found = Inspection::default();
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else { break };
        match payload {
            Payload::Version { encoding, .. } if depth == 0 => found.is_component = encoding == Encoding::Component,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ImportSection(section) if depth == 0 => {
                for import in section.into_imports().flatten() {
                    found.note_import(import.module, Some(import.name));
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.into_iter().flatten() {
                    found.note_import(import.name.name, None);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.into_iter().flatten() {
                    found.initial_memory_bytes += memory.initial.saturating_mul(PAGE_BYTES);
                }
            }
            _ => {}
        }
    }
    found.imports.sort();
    found.imports.dedup();
    found
}

impl Inspection {
    fn note_import(&mut self, module: &str, name: Option<&str>) {
        let interface = module.strip_prefix("[export]").unwrap_or(module);
        let Some(contract) = interface.strip_prefix(CONTRACT) else {
            self.imports.push(name.map_or_else(|| module.to_owned(), |name| format!("{module} {name}")));
            return;
        };
        if let Some((_, version)) = contract.split_once('@') {
            self.contract_version = Some(version.to_owned());
        }
        // What a module must call to give its handles back is no fact that it asks for.
        if name.is_none_or(|name| !name.starts_with("[resource-")) {
            let plain = name.unwrap_or(interface).trim_start_matches("[method]");
            self.imports.push(plain.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_no_policy_nothing_is_known() {
        assert_eq!(inspect(b"hello"), Inspection::default());
        assert_eq!(inspect(b"\0asm\x01\0\0\0"), Inspection::default());
        assert!(inspect(b"\0asm\x0d\0\x01\0").is_component);
    }

    #[test]
    fn imports_of_the_contract_are_named_as_in_the_contract() {
        let mut found = Inspection::default();
        found.note_import("spillway:policy/host@0.1.0", Some("[method]attempt.status"));
        found.note_import("spillway:policy/host@0.1.0", Some("[resource-drop]attempt"));
        found.note_import("wasi_snapshot_preview1", Some("fd_write"));
        assert_eq!(found.imports, ["attempt.status", "wasi_snapshot_preview1 fd_write"]);
        assert_eq!(found.contract_version.as_deref(), Some("0.1.0"));
    }
}
