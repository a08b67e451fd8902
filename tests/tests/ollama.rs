//! Ollama's own API: lines are passed on as they come, read like the events of any stream, and spoken where Spillway has
//! something to say itself.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::http::{Connection, Request, post};
use spillway_tests::provider::{Provider, Reply, in_pieces, respond};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;

const LINES: [&str; 3] = [
    "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"Hel\"},\"done\":false}\n",
    "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"lo\"},\"done\":false}\n",
    "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\
     \"prompt_eval_count\":26,\"eval_count\":3}\n",
];

/// It streams, since it is not told not to.
fn chat() -> Request {
    post("/api/chat", &json!({"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}))
}

fn started(provider: &Provider) -> Spillway {
    let upstream = format!("url = \"{}\"\ndialect = \"ollama\"", provider.url());
    Setup::bare().set("upstreams.ollama", &upstream).start()
}

fn lines() -> Reply {
    in_pieces("application/x-ndjson")
}

fn line(answer: &mut Connection) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.extend(answer.piece().expect("no break").expect("no end yet"));
    }
    String::from_utf8(line).expect("text")
}

/// All that is still to come, and whether it ended well.
fn rest(answer: &mut Connection) -> (String, bool) {
    let mut arrived = Vec::new();
    loop {
        match answer.piece() {
            Ok(Some(piece)) => arrived.extend(piece),
            end => return (String::from_utf8(arrived).expect("text"), end.is_ok()),
        }
    }
}

fn failures(spillway: &Spillway) -> Value {
    spillway.upstream("ollama")["breakers"][0]["window"]["failures"].clone()
}

#[test]
fn a_line_arrives_while_the_provider_still_holds_the_next_and_the_last_one_counts() {
    let provider = Provider::start();
    let spillway = started(&provider);
    let gates = [provider.gate(), provider.gate()];
    let held = lines().chunk(LINES[0]).wait_for(&gates[0]).chunk(LINES[1]).wait_for(&gates[1]).chunk(LINES[2]);
    provider.next(held);
    let (head, mut answer) = spillway.open(&chat());
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/x-ndjson")));
    for (number, gate) in gates.iter().enumerate() {
        assert_eq!(line(&mut answer), LINES[number]);
        gate.open();
    }
    assert_eq!(rest(&mut answer), (LINES[2].to_owned(), true));
    let tokens = |direction: &str| {
        spillway.metric(&format!("spillway_tokens_total{{upstream=\"ollama\",direction=\"{direction}\"}}"))
    };
    eventually("its tokens are counted", || ((tokens("input"), tokens("output")) == (26.0, 3.0)).then_some(()));
    assert_eq!(failures(&spillway), 0);
}

#[test]
fn an_error_in_the_first_line_is_tried_again_and_one_behind_content_is_passed_on_and_counts() {
    let provider = Provider::start();
    let spillway = started(&provider);
    let error = "{\"error\":\"model runner has unexpectedly stopped\"}\n";
    provider.next(lines().chunk(error));
    provider.next(LINES.iter().fold(lines(), |reply, line| reply.chunk(*line)));
    let (_, mut answer) = spillway.open(&chat());
    assert_eq!((rest(&mut answer), provider.stats().started), ((LINES.concat(), true), 2));

    let before = failures(&spillway).as_u64().expect("a count");
    provider.next(lines().chunk(LINES[0]).chunk(error));
    let (_, mut answer) = spillway.open(&chat());
    assert_eq!(rest(&mut answer), ([LINES[0], error].concat(), true));
    eventually("its failure is counted", || (failures(&spillway) == json!(before + 1)).then_some(()));
}

#[test]
fn a_stream_that_is_never_done_is_told_in_a_line_and_breaks_off() {
    let provider = Provider::start();
    let spillway = started(&provider);
    let endings: [fn(Reply) -> Reply; 3] = [
        Reply::cut,
        |reply| reply,
        // In the middle of a line: what came of it stays out, or the line that tells would be none.
        |reply| reply.chunk("{\"model\":\"m\",\"mess").cut(),
    ];
    for ending in endings {
        provider.next(ending(lines().chunk(LINES[0]).chunk(LINES[1])));
        let (_, mut answer) = spillway.open(&chat());
        let (arrived, is_whole) = rest(&mut answer);
        assert!(!is_whole, "{arrived}");
        let told = arrived.strip_prefix(&LINES[..2].concat()).unwrap_or_else(|| panic!("{arrived}"));
        let told: Value = serde_json::from_str(told.trim_end()).expect("a line");
        assert!(told["error"].as_str().is_some_and(|error| error.contains("ollama")), "{told}");
    }
    // The last line may lack its end.
    provider.next(lines().chunk(LINES[0]).chunk(LINES[2].trim_end()).cut());
    let (_, mut answer) = spillway.open(&chat());
    assert_eq!(rest(&mut answer), ([LINES[0], LINES[2].trim_end()].concat(), true));
}

#[test]
fn refusals_are_said_in_its_words_along_its_paths_at_any_upstream() {
    let provider = Provider::start();
    let url = format!("url = \"{}\"", provider.url());
    let spillway = Setup::bare().set("upstreams.local", &url).set("upstreams.ollama", &url).start();
    provider.always(respond(503).header("content-type", "application/json").json(json!({"error": "server busy"})));
    // What Ollama says is passed on.
    assert_eq!(spillway.send(&chat()).json(), json!({"error": "server busy"}));
    provider.stop();
    for path in ["/api/chat", "/ollama/api/generate", "/local/api/embed"] {
        let answer = spillway.send(&chat().path(path));
        assert_eq!(answer.refusal(), Some("spillway_upstream_unreachable"), "{path}: {}", answer.text());
        assert!(answer.json()["error"].as_str().is_some_and(|error| error.contains("Spillway")), "{}", answer.text());
    }
}
