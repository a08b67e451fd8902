//! `spillway policy`: from nothing but the program to a policy that judges.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::chat;
use spillway_tests::commands::{ended, ends, json, policy, policy_by, well};
use spillway_tests::provider::{Provider, respond};
use spillway_tests::spillway::{Setup, Spillway, binary, policy_file};
use spillway_tests::wait::eventually;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Everything that somebody has who has unpacked an archive, and nothing of this repository: the program alone.
#[test]
fn with_nothing_but_the_binary_a_policy_is_made_tested_built_installed_and_judges_and_a_fickle_one_is_found_out() {
    let elsewhere = tempfile::TempDir::new().unwrap();
    let program = elsewhere.path().join("spillway");
    fs::copy(binary(), &program).unwrap();
    let policy = |folder: &Path, arguments: &[&str]| policy_by(&program, folder, arguments);
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("upstreams.openai", "policy = \"my-provider\"").with_clocks_to_move();
    let mut spillway = setup.start();
    let folder = spillway.folder().to_owned();
    let made = policy(&folder, &["new", "my-provider"]);
    if made.stderr.contains("rustup target add") {
        // Where the policies are compiled by another toolchain than that of the tests, this is all there is to see.
        ends(&made, 1, &["cannot compile to wasm32-unknown-unknown yet", "rustup target add wasm32-unknown-unknown"]);
        println!("skipped: this toolchain has no wasm32-unknown-unknown");
        return;
    }
    well(&made, &["Made my-provider", "spillway policy test my-provider", "as it came with this program"]);
    assert!(!made.stdout.contains("downloads"), "all that it needs is here already: {made:?}");
    let manifest = fs::read_to_string(folder.join("my-provider/Cargo.toml")).unwrap();
    assert!(manifest.contains("spillway-sdk = { version = \""), "{manifest}");
    assert!(!manifest.contains(env!("CARGO_MANIFEST_DIR")), "{manifest}");
    well(&policy(&folder, &["sdk", "my-provider"]), &["That is the one of this program"]);

    // Not a crate's version is left to chance.
    let locked = fs::read_to_string(folder.join("my-provider/Cargo.lock")).unwrap();
    let tested = policy(&folder, &["test", "my-provider", "--", "--locked"]);
    well(&tested, &["2 passed", "differ from the built-in policy's", "the same answers twice"]);
    assert_eq!(fs::read_to_string(folder.join("my-provider/Cargo.lock")).unwrap(), locked);

    let built = policy(&folder, &["build", "my-provider"]);
    let says = ["would be served", "This puts it to work:\n  cp ", " policies/my-provider.wasm", "It judges openai."];
    well(&built, &says);
    let file = built.stdout.lines().next().unwrap().to_owned();
    assert!(!spillway.policy_path("my-provider").exists());
    let checked = policy(&folder, &["check", &file, "--json"]);
    well(&checked, &[]);
    let checked = json(&checked);
    assert_eq!((&checked["would_be_served"], &checked["name"]), (&json!(true), &json!("my_provider")));
    let bytes = fs::metadata(&file).unwrap().len();
    assert!(checked["size_bytes"] == bytes && bytes < 200_000, "{checked}");

    well(&policy(&folder, &["build", "my-provider", "--install"]), &["installed as", "policies/my-provider.wasm"]);
    eventually("the new policy serves", || (spillway.policy("my-provider")["source"] == "module").then_some(()));
    let label = format!("my-provider@{}", &checked["sha256"].as_str().unwrap()[..8]);
    it_rests_for_a_quarter_of_an_hour_by_one_code_and_by_no_other(&mut spillway, &provider, &label);

    // One that remembers what it was asked, and panics now and then, passes its own tests but not the trial.
    let library = folder.join("my-provider/src/lib.rs");
    fs::write(&library, FICKLE).unwrap();
    let tested = policy(&folder, &["test", "my-provider"]);
    ends(&tested, 1, &["another answer when nothing was asked before", "classify of a bare 418", "I am a teapot"]);
    fs::write(&library, "#[test]\nfn fails() {\n    panic!(\"as it should\");\n}\n").unwrap();
    ends(&policy(&folder, &["test", "my-provider"]), 1, &["as it should", "the tests of my-provider fail"]);
    fs::write(&library, "nonsense").unwrap();
    ends(&policy(&folder, &["build", "my-provider"]), 1, &["my-provider does not compile"]);
    fs::write(&library, "").unwrap();
    let built = policy(&folder, &["build", "my-provider"]);
    ends(&built, 1, &["would not be served: the file is a WebAssembly module, but no policy"]);
}

/// What the README says of its first policy, over sockets.
fn it_rests_for_a_quarter_of_an_hour_by_one_code_and_by_no_other(
    spillway: &mut Spillway,
    provider: &Provider,
    label: &str,
) {
    const MINUTE: Duration = Duration::from_secs(60);
    let says = |status: u16, code: &str| respond(status).json(json!({"error": {"code": code, "message": "no"}}));
    // Its caller leaves rather than waits, and what it sends is never the same as before.
    let ask = |spillway: &Spillway| spillway.send(&chat().header("x-stainless-read-timeout", "1"));
    for (status, code) in [(503, "region_drained"), (429, "insufficient_quota")] {
        for (other, other_code) in [(429, "too_many_images"), (500, "server_error"), (503, "unavailable")] {
            provider.next(says(other, other_code));
            ask(spillway);
            let asked = provider.stats().started;
            eventually("the next call goes out and is served", || (ask(spillway).status() == 200).then_some(()));
            assert!(provider.stats().started > asked, "a {other} {other_code} does not rest anything");
        }
        provider.next(says(status, code));
        // By pacing after the other 429 it may take a moment until it goes out.
        let answer = eventually("the policy judges", || {
            Some(ask(spillway)).filter(|answer| answer.header("x-spillway-policy") == Some(label))
        });
        assert_eq!(answer.status(), status);
        let asked = provider.stats().started;
        for minutes in [0, 10, 4] {
            spillway.clocks().sleep(minutes * MINUTE);
            let answer = ask(spillway);
            assert_eq!((answer.status(), provider.stats().started), (status, asked), "after {minutes} minutes more");
        }
        // The fifteenth minute, and what is added so that not everybody comes back at once.
        spillway.clocks().sleep(2 * MINUTE);
        eventually("a quarter of an hour later it serves", || (ask(spillway).status() == 200).then_some(()));
    }
}

#[test]
fn what_a_machine_lacks_is_told_before_anything_is_written() {
    let folder = tempfile::TempDir::new().unwrap();
    let programs = folder.path().join("programs");
    fs::create_dir(&programs).unwrap();
    let program = |name: &str, text: &str| {
        let file = programs.join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    };
    // A compiler that knows the target and has no library for it says as much.
    let without_target = program("rustc", "[ \"$1\" = --version ] && echo rustc 1.999.0 || echo /nowhere/lib");
    let old = program("old-rustc", "echo rustc 1.70.0");
    for (variable, value, complaint) in [
        ("RUSTC", without_target.as_path(), "this adds what it needs:\n    rustup target add wasm32-unknown-unknown"),
        ("RUSTC", old.as_path(), "Rust is 1.70.0 here, and "),
        ("CARGO", Path::new("/nowhere/cargo"), "a Rust toolchain is needed here, from https://rustup.rs"),
    ] {
        let mut command = Command::new(binary());
        command.args(["policy", "new", "mine", "--path", "below"]).current_dir(folder.path()).env(variable, value);
        ends(&ended(&mut command), 1, &[complaint, "nothing was written"]);
    }
    assert!(!folder.path().join("below").exists());

    // It can be had all the same, and what was lacking is still told when it is built.
    let mut command = Command::new(binary());
    command.args(["policy", "new", "mine", "--anyway"]).current_dir(folder.path()).env("RUSTC", &without_target);
    well(&ended(&mut command), &["Made mine", "Mind that this Rust toolchain cannot compile"]);
    for (variable, value, complaint) in [
        ("RUSTC", without_target.as_path(), "this adds what it needs:\n  rustup target add wasm32-unknown-unknown\n"),
        ("RUSTC", Path::new("/nowhere/rustc"), "a Rust toolchain is needed here, from https://rustup.rs"),
    ] {
        let mut command = Command::new(binary());
        command.args(["policy", "build", "mine"]).current_dir(folder.path()).env(variable, value);
        ends(&ended(&mut command), 1, &[complaint]);
    }
    assert!(!folder.path().join("mine/target").exists(), "nothing was built or installed");
}

/// As on a machine that has never built anything, while its network is away.
#[test]
fn without_a_network_and_without_the_crates_both_are_told() {
    let folder = tempfile::TempDir::new().unwrap();
    let empty = folder.path().join("cargo-home");
    let policy = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("policy").args(arguments).current_dir(folder.path()).stdin(Stdio::null());
        command.env("CARGO_NET_OFFLINE", "true").env("CARGO_HOME", &empty).env("CARGO_TARGET_DIR", "target");
        // rustup finds its toolchains by its own variable, or beside where Cargo's things usually are.
        ended(&mut command)
    };
    let made = policy(&["new", "mine", "--anyway"]);
    well(&made, &["The first build downloads the crates", "cargo fetch --manifest-path mine/Cargo.toml"]);
    let tested = policy(&["test", "mine"]);
    ends(&tested, 1, &["crates that mine depends on are not on this machine", "cargo fetch --manifest-path mine"]);
    assert!(!tested.stderr.contains("the tests of mine fail"), "{tested:?}");
}

#[test]
fn an_sdk_of_another_program_is_told_wherever_it_is_built_from_and_can_be_renewed() {
    let folder = tempfile::TempDir::new().unwrap();
    let folder = folder.path();
    well(&policy(folder, &["new", "mine", "--anyway"]), &["Made mine"]);
    // As if a program of before had unpacked it.
    let note = folder.join("mine/spillway-sdk/unpacked.toml");
    let text = fs::read_to_string(&note).unwrap();
    let version = text.lines().find_map(|line| line.strip_prefix("version = ")).unwrap();
    fs::write(&note, text.replacen(version, "\"0.0.1\"", 1)).unwrap();
    let told = policy(folder, &["sdk", "mine"]);
    ends(&told, 1, &["spillway-sdk 0.0.1@", "older than this program's", "spillway policy sdk mine --update"]);
    let file = folder.join("mine/target/mine.wasm");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::copy(policy_file("default"), &file).unwrap();
    well(&policy(folder, &["check", "mine/target/mine.wasm"]), &["would be served", "Its SDK is 0.0.1, older"]);
    well(&policy(folder, &["sdk", "mine", "--update"]), &["That is the one of this program"]);
    let told = json(&policy(folder, &["sdk", "mine", "--json"]));
    assert_eq!((&told["standing"], &told["sha256"]), (&json!("current"), &told["own_sha256"]));
}

/// A policy that remembers.
const FICKLE: &str = r#"
use spillway_sdk::{Exchange, Policy, Verdict};
use std::cell::Cell;

#[derive(Default)]
struct Fickle(Cell<u32>);

impl Policy for Fickle {
    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        assert_ne!(exchange.status(), Some(418), "I am a teapot");
        self.0.set(self.0.get() + 1);
        (self.0.get() % 3 == 0).then(|| Verdict::failure("the third"))
    }
}

spillway_sdk::export!(Fickle);
"#;

#[test]
fn a_new_crate_is_refused_where_it_cannot_be() {
    let folder = tempfile::TempDir::new().unwrap();
    let folder = folder.path();
    fs::create_dir_all(folder.join("taken")).unwrap();
    fs::write(folder.join("taken/notes"), "mine").unwrap();
    for (arguments, complaint) in [
        (&["new", "Mine"][..], "\"Mine\" cannot be a policy's name: it begins with a letter from a to z"),
        (&["new", "../mine"], "cannot be a policy's name"),
        (&["new", "serde"], "use it for something else"),
        (&["new", "taken"], "taken exists already and is not empty; nothing was changed"),
        (
            &["new", "mine", "--sdk", "nowhere"],
            "--sdk nowhere is neither a folder with spillway-sdk in it nor a version",
        ),
        (&["new"], "NAME"),
    ] {
        ends(&policy(folder, arguments), 2, &[complaint]);
    }
    assert!(!folder.join("mine").exists());
    assert_eq!(fs::read_to_string(folder.join("taken/notes")).unwrap(), "mine");
    let anyway = |arguments: &[&'static str]| policy(folder, &[arguments, &["--anyway"]].concat());
    well(&anyway(&["new", "mine", "--sdk", "0.1.0"]), &["spillway-sdk 0.1.0 from the registry"]);
    let manifest = fs::read_to_string(folder.join("mine/Cargo.toml")).unwrap();
    assert!(manifest.contains("spillway-sdk = \"0.1.0\"") && manifest.contains("\n[workspace]\n"), "{manifest}");

    // Among a workspace's members it is one, and no workspace of its own.
    fs::write(folder.join("Cargo.toml"), "[workspace]\nmembers = [\"policies/*\"]\n").unwrap();
    for name in ["theirs", "others"] {
        well(&anyway(&["new", name, "--path", "policies"]), &["It is a member of the workspace around it"]);
        let manifest = fs::read_to_string(folder.join("policies").join(name).join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("[workspace]") && manifest.contains("path = \"../../spillway-sdk\""), "{manifest}");
    }
    // They share one SDK, so that Cargo finds one package of that name.
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--offline", "--no-deps", "--format-version=1"]).current_dir(folder);
    well(&ended(&mut cargo), &["\"theirs\"", "\"others\"", "\"spillway-sdk\""]);
    ends(&policy(folder, &["build", "nowhere"]), 2, &["cannot read nowhere/Cargo.toml", "spillway policy new NAME"]);
    ends(&policy(folder, &["build", "."]), 2, &["it has no [package] with a name"]);
}
