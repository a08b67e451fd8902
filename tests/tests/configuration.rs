//! `spillway config`: what can be configured, and what is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::Value;
use spillway_tests::spillway::Setup;

#[test]
fn what_is_in_force_is_a_configuration_that_means_the_same() {
    let setup = Setup::bare()
        .set("upstreams.openai", "proxy = \"http://Aladdin:sesame@proxy.example:3128\"")
        .set("upstreams.openai.breaker", "kind = \"plain\"");
    let shown = setup.run_to_end(&["config", "show", "--effective"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.contains("\nkind = \"plain\"\n"), "{}", shown.stdout);
    assert!(shown.stdout.contains("# default") && !shown.stdout.contains("sesame"), "{}", shown.stdout);
    std::fs::write(setup.folder().join("spillway.toml"), &shown.stdout).unwrap();
    let checked = setup.run_to_end(&["check"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let again = setup.run_to_end(&["config", "show", "--effective"]).stdout;
    let without_marks = |text: &str| {
        text.lines().map(|line| line.trim_end_matches("# default").trim_end().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(without_marks(&again), without_marks(&shown.stdout));
}

#[test]
fn a_wrong_configuration_is_not_shown_but_its_mistakes_are() {
    let setup = Setup::bare().set("server", "max_bodi = \"1MiB\"");
    let ended = setup.run_to_end(&["config", "show"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("server.max_bodi: unknown key; did you mean `max_body`?"), "{}", ended.stderr);
}

#[test]
fn the_schema_is_one_and_the_reference_is_the_one_in_the_documentation() {
    let setup = Setup::bare();
    let schema: Value = serde_json::from_str(&setup.run_to_end(&["config", "schema"]).stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["server"]["properties"]["workers"]["maximum"], 256);
    let reference = setup.run_to_end(&["config", "reference"]).stdout;
    assert!(reference == include_str!("../../docs/configuration.md"), "it was written by another version");
}
