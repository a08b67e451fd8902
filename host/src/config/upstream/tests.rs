use super::super::{Config, Shown, parse};
use super::*;
use std::fs;

/// Variables that cargo sets for every test, with values that could be keys.
const VARIABLE: &str = "CARGO_PKG_NAME";
const ITS_SECRET: &str = env!("CARGO_PKG_NAME");
const OTHER_VARIABLE: &str = "CARGO_PKG_VERSION";

fn config(text: &str, folder: &Path) -> Config {
    parse(text, folder).expect("a configuration")
}

fn mistakes(text: &str, folder: &Path) -> Vec<String> {
    parse(text, folder).expect_err("a wrong configuration").iter().map(ToString::to_string).collect()
}

#[test]
fn keys_are_read_from_variables_and_files_one_or_several_in_their_order() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("one"), "sk-one\n").expect("written");
    fs::write(folder.path().join("two"), "sk-two").expect("written");
    let keys = |text: &str| {
        let upstream = &config(&format!("[upstreams.openai]\n{text}"), folder.path()).upstreams["openai"];
        upstream
            .api_keys()
            .map(|named| named.secret.as_ref().expect("it was read").expose().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(keys("").is_empty());
    assert!(keys("api_key_env = []").is_empty());
    assert_eq!(keys(&format!("api_key_env = \"{VARIABLE}\"")), [ITS_SECRET]);
    assert_eq!(keys("api_key_file = \"one\""), ["sk-one"]);
    let both = format!("api_key_file = [\"two\", \"one\"]\napi_key_env = [\"{VARIABLE}\", \"{OTHER_VARIABLE}\"]");
    assert_eq!(keys(&both), [ITS_SECRET, env!("CARGO_PKG_VERSION"), "sk-two", "sk-one"]);
}

#[test]
fn a_key_that_cannot_be_had_is_a_mistake_with_its_line_and_nothing_of_a_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("two-lines"), "canary\ncanary").expect("written");
    let text = format!(
        "[upstreams.openai]\napi_key_env = [\n  \"{VARIABLE}\",\n  \"SPILLWAY_UNSET\",\n  \"sk-canary\",\n  \
         \"{VARIABLE}\",\n]\napi_key_file = [\"none\", \"two-lines\", \"\"]\n[upstreams.gemini]\napi_key_file = 1\n"
    );
    let found = mistakes(&text, folder.path());
    let expected = [
        "line 4: upstreams.openai.api_key_env: SPILLWAY_UNSET is not set in the environment",
        "line 5: upstreams.openai.api_key_env: must be the name of a variable",
        "line 6: upstreams.openai.api_key_env: is named twice",
        "line 8: upstreams.openai.api_key_file: cannot read",
        "line 8: upstreams.openai.api_key_file: ",
        "line 8: upstreams.openai.api_key_file: must name a file",
        "line 10: upstreams.gemini.api_key_file: expected a string or a list of strings",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected) && !found.contains("canary"), "{found}");
    }
    assert!(found[4].contains("more than one line"), "{}", found[4]);
}

#[test]
fn how_a_key_is_shown_and_the_form_of_paths_follow_from_dialect_and_host() {
    let azure = Some(path_template::AZURE);
    let cases = [
        ("openai", "", Auth::Bearer, None),
        ("anthropic", "", Auth::XApiKey, None),
        ("gemini", "", Auth::XGoogApiKey, None),
        ("gemini", "auth = \"query\"", Auth::Query, None),
        ("x", "url = \"http://localhost:11434\"", Auth::Bearer, None),
        ("x", "url = \"http://localhost\"\ndialect = \"anthropic\"", Auth::XApiKey, None),
        ("azure", "url = \"https://me.openai.azure.com\"", Auth::ApiKey, azure),
        ("azure", "url = \"https://Me.Services.AI.azure.com/\"", Auth::ApiKey, azure),
        ("azure", "url = \"https://me.cognitiveservices.azure.com/openai/v1\"", Auth::ApiKey, None),
        ("azure", "url = \"https://me.openai.azure.com\"\npath = \"\"\nauth = \"bearer\"", Auth::Bearer, None),
        ("azure", "url = \"https://openai.azure.com.example\"", Auth::Bearer, None),
        ("x", "url = \"https://x.example\"\npath = \"/v2/{operation}\"", Auth::Bearer, Some("/v2/{operation}")),
    ];
    for (name, text, auth, path) in cases {
        let config = config(&format!("[upstreams.{name}]\n{text}"), Path::new(""));
        let upstream = &config.upstreams[name];
        let template = upstream.path.as_ref().map(ToString::to_string);
        assert_eq!((upstream.auth, template.as_deref()), (auth, path), "{name} {text}");
    }
}

#[test]
fn a_path_that_is_no_template_or_has_no_use_is_a_mistake() {
    let text = "[upstreams.x]\nurl = \"http://localhost\"\npath = \"/{deployment}\"\n[upstreams.y]\n\
                url = \"http://localhost\"\ndialect = \"other\"\npath = \"/{operation}\"\n";
    let found = mistakes(text, Path::new(""));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("line 3: upstreams.x.path: {deployment} stands for nothing"), "{}", found[0]);
    assert!(found[1].starts_with("line 7: upstreams.y.path: has no use"), "{}", found[1]);
}

#[test]
fn what_is_shown_of_keys_is_where_they_stand() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("key"), "canary").expect("written");
    let text = format!("[upstreams.openai]\napi_key_env = \"{VARIABLE}\"\napi_key_file = \"key\"\n");
    let shown = Shown::parse(text.clone(), folder.path()).expect("a configuration");
    let file = folder.path().join("key");
    let path = toml::Value::from(file.to_str().expect("a path in Unicode"));
    let expected = format!("api_key_env = [\"{VARIABLE}\"]\napi_key_file = [{path}]");
    assert!(shown.as_said().contains(&expected), "{}", shown.as_said());
    let printed = format!("{} {:?}", shown.in_force(), config(&text, folder.path()));
    assert!(!printed.contains("canary"), "{printed}");
    // Whoever asks what it says need not have them.
    fs::remove_file(&file).expect("removed");
    assert!(Shown::parse(text.clone(), folder.path()).is_ok());
    fs::write(&file, "canary").expect("written");
    // What is in force is a configuration, and means the same.
    let again = config(&shown.in_force(), Path::new("/"));
    assert_eq!(again.upstreams["openai"].api_keys().count(), 2);
}
