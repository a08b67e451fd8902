use super::super::parse;
use super::*;
use crate::runtime::unix_socket;

const UPSTREAMS: &str = "[upstreams.azure]\nurl = \"https://me.openai.azure.com\"\n\
                         [upstreams.claude]\nurl = \"https://c.example\"\ndialect = \"anthropic\"\n";

/// The routes that a text says, beside some upstreams.
fn routes(text: &str) -> Result<Routes, Vec<String>> {
    let config = parse(&format!("{UPSTREAMS}{text}"), Path::new(""));
    config.map(|config| config.routes).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

fn mistake(text: &str) -> String {
    let mistakes = routes(text).expect_err("a wrong configuration");
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    mistakes[0].clone()
}

#[test]
fn targets_are_read_in_order_and_those_in_a_list_are_equals() {
    let routes = routes(
        "[routes.chat]\ntargets = [\"openai/gpt-5\", [\"azure\", { target = \"openai/a/b\", weight = 3 }], \
         { target = \"azure/m\", context_tokens = 8192, degraded = true }]\nmodel = [\"gpt-*\", \"o3\"]\n",
    );
    let (name, route) = &routes.expect("valid").0[0];
    let labels: Vec<Vec<String>> =
        route.targets.0.iter().map(|rank| rank.iter().map(ToString::to_string).collect()).collect();
    assert_eq!((name.as_str(), labels.len()), ("chat", 3));
    assert_eq!(labels, [vec!["openai/gpt-5"], vec!["azure", "openai/a/b"], vec!["azure/m"]]);
    let [first, .., last] = &route.targets.targets().collect::<Vec<_>>()[..] else { panic!("four targets") };
    assert_eq!((first.weight, first.context_tokens, first.degraded), (1, None, false));
    assert_eq!((last.model.as_deref(), last.context_tokens, last.degraded), (Some("m"), Some(8192), true));
    assert!(route.model.iter().any(|pattern| pattern.fits("gpt-5-mini")));
}

#[test]
fn routes_stand_in_the_order_of_the_file() {
    let routes = routes("[routes.zebra]\ntargets = [\"openai\"]\n[routes.ant]\ntargets = [\"azure\"]\n");
    let names: Vec<String> = routes.expect("valid").iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["zebra", "ant"]);
}

#[test]
fn every_mistake_is_told_with_its_line_and_what_would_be_right() {
    let of = |targets: &str| mistake(&format!("[routes.chat]\ntargets = {targets}\n"));
    let cases = [
        (of("\"openai/gpt-5\""), "line 7: routes.chat.targets: expected a list of targets, found a string"),
        (of("[]"), "an empty list serves nobody"),
        (
            of("[\n\"openai\",\n\"azzure/m\"]"),
            "line 9: routes.chat.targets: there is no upstream azzure; did you mean azure?",
        ),
        (of("[\"openai/m\",\n[]]"), "line 8: routes.chat.targets: an empty list serves nobody"),
        (of("[\"ollama/m\"]"), "[upstreams.ollama] must say where it is"),
        (of("[\"openai/\"]"), "expected upstream/model"),
        (
            of("[\"openai/m\",\n{ target = \"openai/m\", weight = 2 }]"),
            "line 8: routes.chat.targets: openai/m stands here for the second time",
        ),
        (
            of("[\"openai/m\",\n\"claude/c\"]"),
            "line 8: routes.chat.targets: claude/c speaks anthropic, and openai/m speaks openai",
        ),
        (of("[{ target = \"openai\", wieght = 2 }]"), "did you mean `weight`?"),
        (of("[{ weight = 2 }]"), "missing; which target is this?"),
        (of("[{ target = \"openai\", weight = 0 }]"), "must be from 1 to 1000"),
        (mistake("[routes.chat]\nmodel = \"gpt-5\"\n"), "missing; who serves this route?"),
        (
            mistake("[routes.chat]\ntargets = [\"openai\"]\nheaders = [\"x-team\"]\n"),
            "expected a name, a colon and a pattern",
        ),
        (mistake("[routes.\"a b\"]\ntargets = [\"openai\"]\n"), "a route's name stands in headers"),
    ];
    for (told, expected) in cases {
        assert!(told.contains(expected), "{told}\n is not: {expected}");
    }
}

#[test]
fn whose_keys_everybody_could_spend_is_asked_who_may() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("key"), "sk-0123456789abcdef\n").expect("written");
    let read = |text: &str| {
        let text = format!("[upstreams.openai]\napi_key_file = \"key\"\n[routes.chat]\ntargets = [\"openai\"]\n{text}");
        parse(&text, folder.path()).map_err(|mistakes| mistakes[0].to_string())
    };
    let told = read("").expect_err("nobody may");
    assert!(told.starts_with("line 4: routes.chat.targets: its targets have keys of their own"), "{told}");
    let socket = unix_socket::EXIST.then_some("[server]\nunix_socket = \"s.sock\"");
    for may in ["open_to_local = true", "[server]\naccess_key_file = \"key\""].into_iter().chain(socket) {
        assert!(read(may).is_ok(), "{may}");
    }
}

#[test]
fn what_is_shown_is_read_as_the_same() {
    let text = "[routes.chat]\ntargets = [\"openai/gpt-5\", [\"azure\", { target = \"openai/b\", weight = 3 }]]\n\
                headers = \"x-team: a*\"\nmax_hops = 2\n";
    let read = routes(text).expect("valid");
    let written = TargetList.write(&read.0[0].1.targets).expect("targets").to_string();
    let again = routes(&format!("[routes.chat]\ntargets = {written}\n")).expect("valid");
    assert_eq!(read.0[0].1.targets, again.0[0].1.targets);
    assert_eq!(read.0[0].1.headers[0].to_string(), "x-team: a*");
}
