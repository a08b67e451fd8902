//! The workspace that a new crate becomes a member of, if there is one around it.

use std::fs;
use std::path::{Path, PathBuf};

/// The workspace around a folder that counts it among its members; a workspace of its own would then be one too many.
pub(super) fn workspace_of(dir: &Path) -> Option<PathBuf> {
    let around = dir.ancestors().skip(1).find_map(|folder| {
        let text = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        let table: toml::Table = toml::from_str(&text).ok()?;
        Some((folder, table.get("workspace")?.clone()))
    });
    let (root, workspace) = around?;
    let below = dir.strip_prefix(root).ok()?;
    let listed = |key: &str| {
        let patterns = workspace.get(key).and_then(toml::Value::as_array).into_iter().flatten();
        patterns.filter_map(toml::Value::as_str).any(|pattern| matches_pattern(below, pattern))
    };
    (listed("members") && !listed("exclude")).then(|| root.to_owned())
}

/// As Cargo's patterns are used in practice: each component is a name or `*`.
fn matches_pattern(path: &Path, pattern: &str) -> bool {
    let (path, pattern): (Vec<_>, Vec<_>) = (path.components().collect(), Path::new(pattern).components().collect());
    path.len() == pattern.len()
        && path.iter().zip(&pattern).all(|(name, wanted)| wanted.as_os_str() == "*" || name == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_workspace_that_lists_a_folder_has_it_as_a_member() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = "[workspace]\nmembers = [\"host\", \"policies/*\"]\nexclude = [\"policies/old\"]\n";
        fs::write(folder.path().join("Cargo.toml"), manifest).expect("written");
        let is_member = |below: &str| workspace_of(&folder.path().join(below)).is_some();
        assert!(is_member("policies/mine") && is_member("host"));
        assert!(!is_member("mine") && !is_member("policies/old") && !is_member("policies/mine/deeper"));
    }
}
