//! The key file, beside others who change it.

use super::*;
use crate::keys::record::tests::record;
use crate::keys::record::{FormerSecret, KeyLimit};
use proptest::prelude::*;
use std::thread;

/// As it is called in the data folder.
const FILE_NAME: &str = "keys.json";

fn file() -> (tempfile::TempDir, KeyFile) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = KeyFile::at(folder.path().join("data").join(FILE_NAME));
    (folder, file)
}

fn add(file: &KeyFile, key: KeyRecord) -> Result<(), KeyFileError> {
    file.change(|keys| {
        keys.push(key);
        Ok(())
    })
}

#[test]
fn what_is_written_is_read_again_and_is_for_this_user_alone() {
    let (_folder, file) = file();
    assert_eq!(file.read(), Ok(Vec::new()), "there is none yet");
    let key = KeyRecord {
        name: Some("checkout".into()),
        expires_unix_ms: Some(5),
        limits: vec![
            KeyLimit { limit: "$5 per day".into(), soft: false },
            KeyLimit { limit: "10 requests per minute".into(), soft: true },
        ],
        former: vec![FormerSecret { sha256: KeyDigest::of(b"before"), ends: "fore".into(), until_unix_ms: 7 }],
        ..record("k_1", "secret")
    };
    add(&file, key.clone()).expect("added");
    assert_eq!(file.read(), Ok(vec![key]));
    assert!(!private::is_open(file.path()).expect("it is there"));
    let text = fs::read_to_string(file.path()).expect("a file");
    assert!(text.contains("\"$5 per day\"") && text.contains("\"soft\": true"), "{text}");
    assert!(!text.contains("\"secret\"") && !text.contains("\"before\""), "{text}");
}

#[test]
fn commands_that_change_it_at_the_same_time_come_one_after_the_other() {
    const COMMANDS: usize = 8;
    const KEYS_EACH: usize = 5;
    let (_folder, file) = file();
    let commands: Vec<_> = (0..COMMANDS)
        .map(|command| {
            let file = file.clone();
            thread::spawn(move || {
                for key in 0..KEYS_EACH {
                    let id = format!("k_{command}{key}");
                    add(&file, record(&id, &id)).expect("added");
                }
            })
        })
        .collect();
    commands.into_iter().for_each(|command| command.join().expect("it ended"));
    assert_eq!(file.read().expect("whole").len(), COMMANDS * KEYS_EACH);
}

#[test]
fn what_is_wrong_is_told_and_stays_as_it_is() {
    let (_folder, file) = file();
    add(&file, record("k_1", "secret")).expect("added");
    let good = fs::read_to_string(file.path()).expect("a file");
    let cases = [
        ("{", "it is no file of keys"),
        ("[]", "it is no file of keys"),
        (r#"{"version": 2, "keys": [], "more": 1}"#, "its layout is 2"),
        (r#"{"version": 1, "keys": [], "more": 1}"#, "unknown field `more`"),
        (r#"{"version": 1, "keys": [{"id": "k_1", "mystery": true}]}"#, "unknown field `mystery`"),
        (r#"{"version": 1, "keys": [{"id": "k_1", "sha256": "12", "created_unix_ms": 1}]}"#, "64 hexadecimal digits"),
    ];
    for (text, said) in cases {
        fs::write(file.path(), text).expect("written");
        let told = file.read().expect_err(text).to_string();
        assert!(told.contains(said) && told.contains(FILE_NAME), "{text}: {told}");
        add(&file, record("k_2", "other")).expect_err("nothing is added to it");
        assert_eq!(fs::read_to_string(file.path()).expect("a file"), text);
    }
    fs::write(file.path(), &good).expect("written");
    for (key, said) in
        [(record("k_1", "other"), "two keys have the id k_1"), (record("k_2", "secret"), "k_2 has a secret")]
    {
        let told = add(&file, key).expect_err(said).to_string();
        assert!(told.contains(said), "{told}");
        assert_eq!(fs::read_to_string(file.path()).expect("a file"), good);
    }
}

#[test]
fn what_can_be_guessed_is_no_key() {
    assert_eq!(check_secret("sk-0123456789abcdef"), Ok(()));
    for wrong in ["", "short", "sk-with a space in it", "sk-ümlaut-0123456789", &"x".repeat(KEY_BYTES_MAX + 1)] {
        let told = check_secret(wrong).expect_err("no key");
        assert!(wrong.is_empty() || !told.contains(wrong), "{told}");
    }
}

fn keys() -> impl Strategy<Value = Vec<KeyRecord>> {
    let texts = || proptest::collection::vec("[a-z*]{1,20}", 0..3);
    let limits =
        proptest::collection::vec("[1-9][0-9]{0,5} (requests|tokens) per (minute|day)|\\$[1-9] in total", 0..3);
    let key =
        (proptest::option::of("[a-zA-Z][a-z A-Z]{0,20}[a-z]"), any::<Option<u64>>(), texts(), limits, any::<bool>());
    proptest::collection::vec(key, 0..20).prop_map(|keys| {
        let made = keys.into_iter().enumerate().map(|(index, (name, expires, models, limits, soft))| KeyRecord {
            name,
            expires_unix_ms: expires,
            models,
            limits: limits.into_iter().map(|limit| KeyLimit { limit, soft }).collect(),
            ..record(&format!("k_{index:x}"), &format!("secret {index}"))
        });
        made.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_keys_there_are_they_are_read_as_they_were_written(keys in keys()) {
        let (_folder, file) = file();
        let written: Result<(), KeyFileError> = file.change(|all| {
            all.clone_from(&keys);
            Ok(())
        });
        prop_assert_eq!(written, Ok(()));
        prop_assert_eq!(file.read(), Ok(keys));
    }

    #[test]
    fn whatever_stands_in_the_file_nothing_panics_and_no_piece_of_it_passes_for_all(cut in any::<proptest::sample::Index>(), keys in keys()) {
        let (_folder, file) = file();
        let whole = serde_json::to_vec(&Stored { version: LAYOUT, keys }).expect("JSON");
        prop_assert!(file.parse(&whole).is_ok());
        let piece = &whole[..cut.index(whole.len())];
        prop_assert!(file.parse(piece).is_err());
    }
}

#[test]
fn where_its_folder_is_none_there_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("data");
    fs::write(&other, "something else").unwrap();
    assert!(KeyFile::at(other.join("keys.json")).bytes().unwrap().is_none());
}
