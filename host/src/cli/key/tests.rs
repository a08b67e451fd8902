//! The commands, one after the other, on a file of their own.

use super::*;
use crate::keys::digest::KeyDigest;
use crate::keys::record::KeyState;
use crate::runtime::clock::wall_unix_ms;
use clap::{CommandFactory, FromArgMatches, Parser};
use std::fs;
use std::path::Path;

/// As the program has them.
#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: KeyCommand,
}

struct Desk {
    folder: tempfile::TempDir,
    config: Config,
}

impl Desk {
    fn new() -> Desk {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "[routes.chat]\ntargets = [\"openai\"]\n[groups.web]\n";
        let config = crate::config::parse(text, folder.path()).expect("a configuration");
        Desk { folder, config }
    }

    fn file(&self) -> KeyFile {
        KeyFile::at(self.folder.path().join("keys.json"))
    }

    fn try_do(&self, words: &[&str]) -> Result<Answer, Failure> {
        let words = ["key"].iter().chain(words);
        let matches = Line::command().try_get_matches_from(words).expect("a command");
        Line::from_arg_matches(&matches).expect("a command").command.run(&self.config, &self.file())
    }

    #[track_caller]
    fn done(&self, words: &[&str]) -> Answer {
        self.try_do(words).unwrap_or_else(|failure| panic!("{words:?}: {failure}"))
    }

    #[track_caller]
    fn fails(&self, words: &[&str]) -> String {
        self.try_do(words).err().unwrap_or_else(|| panic!("{words:?}")).to_string()
    }

    fn keys(&self) -> Vec<KeyRecord> {
        self.file().read().expect("keys")
    }

    fn text(&self, name: &str, text: &str) -> String {
        let path: &Path = &self.folder.path().join(name);
        fs::write(path, text).expect("written");
        path.display().to_string()
    }
}

#[test]
fn a_key_is_made_with_what_it_may_do_and_printed_once() {
    let desk = Desk::new();
    let words = [
        "new",
        "--name",
        "shop",
        "--group",
        "web",
        "--tenant",
        "t",
        "--models",
        "gpt-5*,o4",
        "--routes",
        "chat,openai",
        "--priority",
        "low",
        "--expires",
        "90d",
        "--limit",
        "$5 per day",
        "--soft-limit",
        "9 requests per minute",
        "--when-exhausted",
        "chat",
        "--max-tokens-per-request",
        "5000",
        "--max-tokens-per-hour",
        "0",
    ];
    let answer = desk.done(&words);
    let secret = answer.out.trim();
    let [key] = &desk.keys()[..] else { panic!("one key") };
    assert!(secret.starts_with("sk-spillway-") && answer.aside.contains(&key.id), "{}", answer.aside);
    assert!(key.sha256 == KeyDigest::of(secret.as_bytes()) && secret.ends_with(&key.ends));
    let texts = (key.name.as_deref(), key.group.as_deref(), key.tenant.as_deref(), key.priority.as_deref());
    assert_eq!(texts, (Some("shop"), Some("web"), Some("t"), Some("low")));
    assert_eq!(
        (&key.models[..], &key.routes[..]),
        (&["gpt-5*".into(), "o4".into()][..], &["chat".into(), "openai".into()][..])
    );
    let limits: Vec<_> = key.limits.iter().map(|limit| (&*limit.limit, limit.soft)).collect();
    assert_eq!(limits, [("$5 per day", false), ("9 requests per minute", true)]);
    assert_eq!(key.when_exhausted.as_deref(), Some("chat"));
    assert_eq!((key.max_tokens_per_request, key.max_tokens_per_hour), (Some(5_000), Some(0)));
    let shown = desk.done(&["show", "shop"]).out;
    assert!(shown.contains("5000 tokens per request") && shown.contains("any number of tokens per hour"), "{shown}");
    assert!(shown.contains("goes on along the route chat"), "{shown}");
    let days = (key.expires_unix_ms.expect("an end") - key.created_unix_ms) / (24 * 60 * 60 * 1_000);
    assert_eq!(days, 90);
    for shown in [desk.done(&["ls"]).out, desk.done(&["show", "shop"]).out, desk.done(&["ls", "--json"]).out] {
        assert!(shown.contains(&key.id) && shown.contains("$5 per day") && !shown.contains(secret), "{shown}");
    }
}

#[test]
fn what_cannot_be_meant_makes_no_key() {
    let desk = Desk::new();
    for (words, said) in [
        (&["new", "--routes", "caht"][..], "no route or upstream caht; it has chat, "),
        (&["new", "--priority", "urgent"], "no priority \"urgent\""),
        (&["new", "--expires", "soon"], "soon is no time"),
        (&["new", "--models", ""], "an empty pattern"),
        (&["new", "--limit", ""], "an entry of its lists"),
        (&["new", "--limit", "5 apples"], "its limit \"5 apples\" says no time"),
        (&["new", "--group", "wbe"], "no [groups.wbe]"),
        (&["new", "--when-exhausted", "caht"], "no [routes.caht]"),
        (&["show", "nobody"], "no key nobody"),
        (&["revoke", "nobody"], "no key nobody"),
    ] {
        let told = desk.fails(words);
        assert!(told.contains(said), "{words:?}: {told}");
    }
    assert!(desk.keys().is_empty());
    desk.done(&["new", "--name", "shop"]);
    assert!(desk.fails(&["new", "--name", "shop"]).contains("is called shop already"));
}

#[test]
fn a_key_that_is_rotated_stays_itself_and_its_old_secrets_count_for_a_while() {
    let desk = Desk::new();
    let secrets: Vec<String> =
        [&["new", "--name", "shop"][..], &["rotate", "shop"], &["rotate", "shop", "--grace", "1h"]]
            .iter()
            .map(|words| desk.done(words).out.trim().to_owned())
            .collect();
    let [key] = &desk.keys()[..] else { panic!("one key") };
    assert!(key.sha256 == KeyDigest::of(secrets[2].as_bytes()));
    let now = wall_unix_ms();
    let left: Vec<u64> =
        key.former.iter().map(|former| (former.until_unix_ms.saturating_sub(now)).div_ceil(60_000)).collect();
    assert_eq!(left, [60, 60], "the shorter one holds for both, in minutes");
    assert!(key.former[0].sha256 == KeyDigest::of(secrets[1].as_bytes()));
    desk.done(&["rotate", "shop", "--grace", "0s"]);
    assert!(desk.keys()[0].former.iter().all(|former| former.until_unix_ms <= wall_unix_ms()));
    desk.done(&["revoke", "shop"]);
    assert!(desk.fails(&["rotate", "shop"]).contains("is revoked, for ever"));
}

#[test]
fn what_is_said_of_a_key_later_takes_the_place_of_what_was_and_all_else_stays() {
    let desk = Desk::new();
    let limits = ["--limit", "$5 per day", "--limit", "3 calls in flight", "--soft-limit", "9 requests per minute"];
    desk.done(
        &[&["new", "--name", "shop", "--group", "web", "--models", "gpt-5*", "--expires", "90d"], &limits[..]].concat(),
    );
    desk.done(&["new", "--name", "ci"]);
    let before = desk.keys();
    let said =
        desk.done(&["set", "shop", "--limit", "$9 per day", "--clear", "expires,group", "--priority", "low"]).out;
    let now = |limit: &str, soft| KeyLimit { limit: limit.to_owned(), soft };
    let expected = KeyRecord {
        limits: vec![now("9 requests per minute", true), now("$9 per day", false)],
        priority: Some("low".to_owned()),
        expires_unix_ms: None,
        group: None,
        ..before[0].clone()
    };
    assert_eq!(desk.keys(), [expected, before[1].clone()]);
    assert!(said.contains("$9 per day") && !said.contains("$5 per day") && said.contains("never"), "{said}");
    desk.done(&["set", "shop", "--name", "kiosk", "--clear", "limits,soft-limits,models"]);
    let key = &desk.keys()[0];
    assert!(key.limits.is_empty() && key.models.is_empty() && key.name.as_deref() == Some("kiosk"), "{key:?}");
    desk.done(&["set", "kiosk", "--name", "kiosk"]);
    for (words, said) in [
        (&["set", "kiosk", "--name", "ci"][..], "is called ci already"),
        (&["set", "shop", "--priority", "low"], "no key shop"),
        (&["set", "ci", "--limit", "5 apples"], "its limit \"5 apples\" says no time"),
        (&["set", "ci", "--group", "wbe"], "no [groups.wbe]"),
    ] {
        let told = desk.fails(words);
        assert!(told.contains(said), "{words:?}: {told}");
    }
    desk.done(&["revoke", "ci"]);
    assert!(desk.fails(&["set", "ci", "--priority", "low"]).contains("is revoked, for ever"));
}

#[test]
fn all_keys_that_are_named_are_revoked_or_none() {
    let desk = Desk::new();
    desk.done(&["new", "--name", "one"]);
    desk.done(&["new", "--name", "two"]);
    assert!(desk.fails(&["revoke", "one", "three"]).contains("no key three"));
    let states = || desk.keys().iter().map(|key| key.state(0)).collect::<Vec<_>>();
    assert_eq!(states(), [KeyState::Valid; 2]);
    let id = desk.keys()[1].id.clone();
    assert!(desk.done(&["revoke", "one", &id]).out.contains("(two) is revoked"));
    assert_eq!(states(), [KeyState::Revoked; 2]);
    assert!(desk.done(&["revoke", "one"]).out.contains("was revoked before"));
    assert!(desk.done(&["ls", "--valid"]).out.starts_with("There is no key that counts in "));
}

#[test]
fn plain_keys_are_taken_over_with_what_is_granted_to_all() {
    let desk = Desk::new();
    let file = desk.text("plain", "# ours\nsk-0123456789abcdef shop of things\n\nsk-fedcba9876543210\nshort\n");
    let dry = desk.done(&["import", &file, "--dry-run"]).out;
    assert!(dry.contains("2 keys would be taken over, 1 left out") && desk.keys().is_empty(), "{dry}");
    let said = desk.done(&["import", &file, "--group", "web", "--limit", "$1 per day"]).out;
    assert!(said.contains("line 5: it has 5 characters") && !said.contains("short"), "{said}");
    let keys = desk.keys();
    assert_eq!((keys.len(), keys[0].name.as_deref(), &*keys[0].ends), (2, Some("shop of things"), "cdef"));
    assert!(keys.iter().all(|key| key.group.as_deref() == Some("web") && key.limits[0].limit == "$1 per day"));
    let again = desk.done(&["import", &file]).out;
    assert!(again.contains("it is there already") && again.contains("0 keys taken over, 3 left out"), "{again}");
}

#[test]
fn keys_of_litellms_are_taken_over_by_their_hashes() {
    let desk = Desk::new();
    let hash = String::from(KeyDigest::of(b"sk-litellm-0123456789"));
    let list = format!(
        r#"{{"keys": [{{"token": "{hash}", "key_name": "sk-...6789", "key_alias": "shop", "max_budget": 5,
            "budget_duration": "1d", "models": ["gpt-4o"], "blocked": true}}, "bare"]}}"#
    );
    let file = desk.text("list.json", &list);
    let said = desk.done(&["import", &file, "--expires", "30d"]).out;
    assert!(said.contains("$5 per day") && said.contains("return_full_object"), "{said}");
    let [key] = &desk.keys()[..] else { panic!("one key") };
    assert!(key.sha256 == KeyDigest::of(b"sk-litellm-0123456789") && key.expires_unix_ms.is_some());
    assert_eq!((key.state(0), &key.models[..]), (KeyState::Revoked, &["gpt-4o".to_owned()][..]));
    assert!(desk.fails(&["import", &desk.text("wrong.json", "{\"a\": 1}")]).contains("no list of keys"));
}
