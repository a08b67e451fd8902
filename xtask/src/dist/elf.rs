//! Whether a binary stands alone: a look at its head, which works for machines of any kind.

use super::target::Target;

/// Length of the head of a 64-bit file.
const HEAD_BYTES: usize = 64;
/// The entry of the program table that names the loader of shared libraries, `PT_INTERP`.
const LOADER: u32 = 3;

/// Whether the file is a binary for `target` that asks for no loader, and so for no shared library.
///
/// # Errors
/// It is not; the message says why.
pub(crate) fn require_static(file: &[u8], target: Target) -> Result<(), String> {
    let head = file.get(..HEAD_BYTES).filter(|head| head.starts_with(b"\x7fELF\x02\x01"));
    let head = head.ok_or("it is no 64-bit ELF file")?;
    let machine = u16::from_le_bytes([head[18], head[19]]);
    if machine != target.elf_machine() {
        return Err(format!("it is for a machine of number {machine}, and not for {}", target.triple()));
    }
    let table = number(head, 32, 8);
    let (size, count) = (number(head, 54, 2), number(head, 56, 2));
    for entry in 0..count {
        let start = usize::try_from(table + entry * size).unwrap_or(usize::MAX);
        let kind = start.checked_add(4).and_then(|end| file.get(start..end)).ok_or("it is cut off")?;
        if number(kind, 0, 4) == u64::from(LOADER) {
            return Err("it asks for a loader of shared libraries, so it needs a system to run on".to_owned());
        }
    }
    Ok(())
}

/// A number of so many bytes, the least significant first.
fn number(bytes: &[u8], start: usize, length: usize) -> u64 {
    bytes[start..start + length].iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a program table of these entries.
    fn file(machine: u16, kinds: &[u32]) -> Vec<u8> {
        let mut file = vec![0; HEAD_BYTES];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&u16::try_from(kinds.len()).unwrap_or_default().to_le_bytes());
        for kind in kinds {
            file.extend(kind.to_le_bytes());
            file.extend([0; 52]);
        }
        file
    }

    #[test]
    fn a_binary_stands_alone_if_it_asks_for_no_loader() {
        assert_eq!(require_static(&file(62, &[1, 1, 2]), Target::X86_64), Ok(()));
        assert!(require_static(&file(62, &[6, 3, 1]), Target::X86_64).is_err_and(|why| why.contains("loader")));
    }

    #[test]
    fn a_binary_for_another_machine_and_what_is_none_are_told() {
        assert!(require_static(&file(183, &[]), Target::X86_64).is_err_and(|why| why.contains("183")));
        assert!(require_static(b"#!/bin/sh\n", Target::X86_64).is_err());
        let cut = &file(62, &[1, 1])[..100];
        assert!(require_static(cut, Target::X86_64).is_err_and(|why| why.contains("cut off")));
    }
}
