use super::super::confined::FILE_BYTES_MAX;
use super::*;

fn version(text: &str) -> Version {
    Version::parse(text).expect("a version")
}

fn unpacked(folder: &Path) -> Unpacked {
    Unpacked::at(folder).expect("a note").expect("an SDK")
}

#[test]
fn what_is_unpacked_is_whole_and_known_again() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(Unpacked::at(folder.path()).expect("nothing to read").is_none());
    unpack(folder.path()).expect("unpacked");
    let (found, ours) = (unpacked(folder.path()), Note::ours().expect("our own"));
    assert_eq!((&found.note, found.standing, found.changed.len()), (&ours, Standing::Current, 0));
    assert_eq!(found.remark(Path::new("mine")), None);

    fs::write(folder.path().join("src/lib.rs"), "mine").expect("written");
    fs::remove_file(folder.path().join("LICENSE-MIT")).expect("removed");
    assert_eq!(unpacked(folder.path()).changed, ["LICENSE-MIT", "src/lib.rs"]);
    unpack(folder.path()).expect("unpacked over it");
    assert!(unpacked(folder.path()).changed.is_empty());
}

#[test]
fn an_older_sdk_a_newer_and_another_are_told_apart() {
    let ours = Note::of(version("0.3.0"), &[("a", "1")]);
    for (note, standing) in [
        (Note::of(version("0.3.0"), &[("a", "1")]), Standing::Current),
        (Note::of(version("0.3.0"), &[("a", "2")]), Standing::Different),
        (Note::of(version("0.3.0"), &[("b", "1")]), Standing::Different),
        (Note::of(version("0.2.9"), &[("a", "1")]), Standing::Older),
        (Note::of(version("0.10.0"), &[("a", "1")]), Standing::Newer),
    ] {
        assert_eq!(note.standing(&ours), standing, "{note:?}");
    }
}

#[test]
fn an_sdk_that_is_not_this_programs_is_remarked_on_with_what_can_be_done() {
    let folder = tempfile::tempdir().expect("a folder");
    unpack(folder.path()).expect("unpacked");
    let remark = |standing| Unpacked { standing, ..unpacked(folder.path()) }.remark(Path::new("mine"));
    assert_eq!(remark(Standing::Current), None);
    for (standing, says) in [(Standing::Older, "older than"), (Standing::Different, "another")] {
        let remark = remark(standing).expect("a remark");
        assert!(remark.contains(says) && remark.ends_with("spillway policy sdk mine --update"), "{remark}");
    }
    let newer = remark(Standing::Newer).expect("a remark");
    assert!(newer.contains("may need a newer Spillway") && !newer.contains("--update"), "{newer}");
}

#[test]
fn what_an_older_sdk_had_is_removed_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    unpack(folder.path()).expect("unpacked");
    for name in ["old.rs", "notes"] {
        fs::write(folder.path().join(name), "text").expect("written");
    }
    let mut older = unpacked(folder.path());
    older.note.files.insert("old.rs".into(), String::new());
    older.note.files.insert("gone before.rs".into(), String::new());
    remove_what_is_gone(&older).expect("removed");
    assert!(!folder.path().join("old.rs").exists() && folder.path().join("notes").exists());
}

#[test]
fn the_version_is_replaced_where_it_stands_as_it_was_written() {
    let (old, new) = (version("0.1.0"), version("0.2.0"));
    let written = format!("[dependencies]\nspillway-sdk = {}\n", dependency(&old, Path::new("../spillway-sdk")));
    let renewed = with_version(&written, &old, &new).expect("it stands as written");
    assert_eq!(renewed, written.replace("0.1.0", "0.2.0"));
    let loose = "[dependencies]\nspillway-sdk = { path = \"spillway-sdk\" }\n";
    assert_eq!(with_version(loose, &old, &new).as_deref(), Ok(loose));
    let strict = "[dependencies]\nspillway-sdk = { path = \"spillway-sdk\", version = \"0.1\" }\n";
    assert!(with_version(strict, &old, &new).is_err_and(|advice| advice.contains("version = \"0.2.0\"")));
}

#[test]
fn a_lock_file_names_the_policy_where_cargo_would() {
    let entry = |name: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"0.1.0\"\n");
    let text = ["# head\nversion = 4\n".to_owned(), entry("memchr"), entry("policy"), entry("serde")].join("\n");
    let names = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("name = ")).map(str::to_owned).collect()
    };
    assert_eq!(locked(&text, "policy"), text);
    assert_eq!(names(&locked(&text, "a")), ["\"a\"", "\"memchr\"", "\"serde\""]);
    assert_eq!(names(&locked(&text, "my-provider")), ["\"memchr\"", "\"my-provider\"", "\"serde\""]);
    assert_eq!(names(&locked(&text, "z")), ["\"memchr\"", "\"serde\"", "\"z\""]);
}

/// Writes a note with this text in place of the first file's name.
fn rename_first(folder: &Path, name: &str) {
    let note = folder.join(NOTE);
    let text = fs::read_to_string(&note).expect("a note").replacen("\"Cargo.toml\"", &format!("{name:?}"), 1);
    fs::write(note, text).expect("written");
}

#[test]
fn a_note_that_names_files_elsewhere_is_none_of_ours() {
    for name in ["..", "../victim", "src/../../victim", "/etc/hostname", ""] {
        let folder = tempfile::tempdir().expect("a folder");
        unpack(folder.path()).expect("unpacked");
        rename_first(folder.path(), name);
        let refused = Unpacked::at(folder.path()).expect_err(name).to_string();
        assert!(refused.contains("no note of ours") && refused.contains(name), "{refused}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    unpack(folder.path()).expect("unpacked");
    rename_first(folder.path(), "below/it");
    assert_eq!(unpacked(folder.path()).changed, ["below/it"]);
}

#[test]
fn a_note_with_more_than_any_of_ours_is_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut note = Note::ours().expect("our own");
    note.files = (0..=FILES_MAX).map(|number| (number.to_string(), String::new())).collect();
    fs::write(folder.path().join(NOTE), toml::to_string(&note).expect("a text")).expect("written");
    assert!(Unpacked::at(folder.path()).is_err_and(|failure| failure.to_string().contains("no note of ours")));
    let file = fs::File::create(folder.path().join(NOTE)).expect("a file");
    file.set_len(FILE_BYTES_MAX + 1).expect("too long");
    assert!(Unpacked::at(folder.path()).is_err_and(|failure| failure.to_string().contains("too much")));
}

#[test]
fn nothing_is_removed_outside_of_the_folder() {
    let around = tempfile::tempdir().expect("a folder");
    let folder = around.path().join("sdk");
    unpack(&folder).expect("unpacked");
    let victim = around.path().join("victim");
    fs::write(&victim, "theirs").expect("written");
    for path in ["../victim".to_owned(), victim.to_string_lossy().into_owned()] {
        let mut older = unpacked(&folder);
        older.note.files.insert(path.clone(), String::new());
        assert!(remove_what_is_gone(&older).is_err() && renew(&older).is_err(), "{path}");
        assert!(victim.exists(), "{path}");
    }
}

#[cfg(unix)]
#[test]
fn a_note_that_is_no_file_is_refused_and_a_file_that_is_none_counts_as_changed() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().expect("a folder");
    let (note, file) = (folder.path().join(NOTE), folder.path().join("LICENSE-MIT"));
    let pipe = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
    };
    let device = |path: &Path| symlink("/dev/zero", path).expect("a link");
    for make in [&pipe as &dyn Fn(&Path), &device] {
        unpack(folder.path()).expect("unpacked");
        fs::remove_file(&file).expect("removed");
        make(&file);
        assert_eq!(unpacked(folder.path()).changed, ["LICENSE-MIT"]);
        assert!(unpack(folder.path()).is_err());
        fs::remove_file(&file).expect("removed");
        fs::remove_file(&note).expect("removed");
        make(&note);
        assert!(Unpacked::at(folder.path()).is_err_and(|failure| failure.to_string().contains("no regular file")));
        fs::remove_file(&note).expect("removed");
    }
}

#[cfg(unix)]
#[test]
fn nothing_is_written_or_removed_through_a_link() {
    let around = tempfile::tempdir().expect("a folder");
    let (folder, elsewhere) = (around.path().join("sdk"), around.path().join("elsewhere"));
    unpack(&folder).expect("unpacked");
    fs::rename(folder.join("src"), &elsewhere).expect("moved");
    std::os::unix::fs::symlink("../elsewhere", folder.join("src")).expect("a link");
    for name in ["lib.rs", "old.rs"] {
        fs::write(elsewhere.join(name), "theirs").expect("written");
    }
    let mut older = unpacked(&folder);
    older.note.files.insert("src/old.rs".into(), String::new());
    for refused in [unpack(&folder), remove_what_is_gone(&older), renew(&older)] {
        let refused = refused.expect_err("a link").to_string();
        assert!(refused.contains("src is a link"), "{refused}");
    }
    for name in ["lib.rs", "old.rs"] {
        assert_eq!(fs::read_to_string(elsewhere.join(name)).expect("a file"), "theirs");
    }
}
