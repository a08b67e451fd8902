//! What a policy may be called, in Cargo's eyes, in Rust's and in the configuration's.

use super::Failure;

/// Longest name of a policy: far below what a file's name may have.
const NAME_BYTES_MAX: usize = 64;
/// Names that Rust or Cargo keep for themselves, that the new crate depends on, or that Spillway means otherwise.
const RESERVED: [&str; 65] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "built-in",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "spillway-sdk",
    "spillway_sdk",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Whether a crate, a file and a table of the configuration can have this name.
///
/// # Errors
/// Why not, and what would do.
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    let wrong = |what: &str| Err(Failure::Usage(format!("\"{name}\" cannot be a policy's name: {what}")));
    if name.len() > NAME_BYTES_MAX {
        return wrong(&format!("it has more than {NAME_BYTES_MAX} bytes"));
    }
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    if !plain || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return wrong("it begins with a letter from a to z, and has only these, digits, - and _ (as in my-provider)");
    }
    if RESERVED.contains(&name) {
        return wrong("Rust, Cargo or Spillway use it for something else");
    }
    Ok(())
}

/// `my-provider` as Rust names a type: `MyProvider`.
pub(super) fn type_name(name: &str) -> String {
    let words = name.split(['-', '_']).filter(|word| !word.is_empty());
    // The letters are ASCII.
    words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_are_refused_with_what_would_do() {
        for good in ["default", "my-provider", "p2_x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "letter"),
            ("My", "letter"),
            ("a.b", "only these"),
            ("../x", "only these"),
            ("2x", "letter"),
            ("fn", "Rust"),
        ] {
            let error = check_name(bad).expect_err("a bad name").to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(check_name(&"x".repeat(65)).is_err());
        assert!(RESERVED.is_sorted(), "so that a reader finds what is in it");
    }

    #[test]
    fn types_are_named_as_rust_names_them() {
        assert_eq!(type_name("my-provider_2"), "MyProvider2");
    }
}
