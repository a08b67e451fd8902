use super::*;
use crate::dialect::events::{Events, Stage};
use crate::dialect::sse::Splitter;
use crate::dialect::{Operation, Usage};
use proptest::prelude::*;
use serde_json::json;

const TEXT: &str = "We are \"degraded\".\nCome back\u{2028}later: ünïcödé \\ data: {}\n\n";

/// The answer to a request, read as the proxy reads one.
fn answered(path: &str, body: &Value) -> (Dialect, Parameters, Option<StaticAnswer>) {
    let body = body.to_string();
    let bare = path.split('?').next().expect("a path");
    let (dialect, operation) = Dialect::OpenAi.along(bare);
    let dialect = dialect.in_body(bare, body.as_bytes());
    let parameters = match operation {
        Operation::Generate => dialect.read_request(bare, body.as_bytes()),
        Operation::PassThrough => Parameters::default(),
    };
    let answer = static_answer(dialect, path, &parameters, TEXT, "0123abcd", 1_790_000_000);
    (dialect, parameters, answer)
}

fn whole(path: &str, body: Value) -> Value {
    let (dialect, _, answer) = answered(path, &body);
    let answer = answer.unwrap_or_else(|| panic!("an answer along {path}"));
    assert_eq!(answer.content_type, "application/json", "{path}");
    let bare = path.split('?').next().expect("a path");
    assert!(!dialect.is_nothing(bare, &answer.body, true), "{path}: {answer:?}");
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The events of a stream, which must be whole by the proxy's own reading.
fn streamed(path: &str, body: Value) -> Vec<Value> {
    let (dialect, parameters, answer) = answered(path, &body);
    let answer = answer.unwrap_or_else(|| panic!("an answer along {path}"));
    assert_eq!(answer.content_type, "text/event-stream; charset=utf-8", "{path}");
    let mut events = Events::new(Splitter::default(), dialect, parameters.alternatives, false);
    events.push(answer.body);
    let mut read = Vec::new();
    while let Some(event) = events.next_event() {
        let data = crate::dialect::sse::data(&event.bytes.expect("nothing is taken out")).into_owned();
        read.push(serde_json::from_slice(&data).unwrap_or_else(|_| json!(String::from_utf8_lossy(&data))));
    }
    assert!(events.take_rest().is_empty(), "{path}: something follows the last event");
    assert!(events.has_content() && events.error().is_none(), "{path}");
    assert!(events.stage() >= Stage::Finished, "{path}: {:?}", events.stage());
    assert!(events.usage().is_none_or(|usage| usage == Usage::default()), "{path}: {:?}", events.usage());
    read
}

/// The texts at this place in each event that has one there, put together.
fn joined(events: &[Value], pointer: &str) -> String {
    events.iter().filter_map(|event| event.pointer(pointer)?.as_str()).collect()
}

#[test]
fn each_api_has_the_text_where_its_callers_look_for_it() {
    let gemini = json!({"contents": []});
    for (path, body, text, end) in [
        (
            "/v1/chat/completions",
            json!({"model": "m"}),
            "/choices/0/message/content",
            ("/choices/0/finish_reason", "stop"),
        ),
        (
            "/v1/agents/completions",
            json!({"model": "m"}),
            "/choices/0/message/content",
            ("/choices/0/finish_reason", "stop"),
        ),
        ("/v1/completions", json!({"model": "m"}), "/choices/0/text", ("/choices/0/finish_reason", "stop")),
        ("/v1/responses", json!({"model": "m"}), "/output/0/content/0/text", ("/status", "completed")),
        ("/v1/messages", json!({"model": "m"}), "/content/0/text", ("/stop_reason", "end_turn")),
        (
            "/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict",
            json!({"anthropic_version": "vertex-2023-10-16"}),
            "/content/0/text",
            ("/stop_reason", "end_turn"),
        ),
        (
            "/v1beta/models/m:generateContent",
            gemini.clone(),
            "/candidates/0/content/parts/0/text",
            ("/candidates/0/finishReason", "STOP"),
        ),
        (
            "/v1beta/models/m:streamGenerateContent",
            gemini,
            "/0/candidates/0/content/parts/0/text",
            ("/0/candidates/0/finishReason", "STOP"),
        ),
        ("/api/chat", json!({"model": "m", "stream": false}), "/message/content", ("/done_reason", "stop")),
        ("/api/generate", json!({"model": "m", "stream": false}), "/response", ("/done_reason", "stop")),
    ] {
        let answer = whole(path, body);
        assert_eq!(answer.pointer(text), Some(&json!(TEXT)), "{path}: {answer}");
        assert_eq!(answer.pointer(end.0), Some(&json!(end.1)), "{path}: {answer}");
        let model = ["/model", "/modelVersion", "/0/modelVersion"].iter().find_map(|place| answer.pointer(place));
        assert_eq!(model, Some(&json!("m")), "{path}: the model that was asked for");
    }
}

#[test]
fn as_a_stream_it_is_read_as_whole_and_holds_the_text_once() {
    let stream = json!({"model": "m", "stream": true});
    for (path, body, text) in [
        ("/v1/chat/completions", stream.clone(), "/choices/0/delta/content"),
        ("/v1/completions", stream.clone(), "/choices/0/text"),
        ("/v1/responses", stream.clone(), "/delta"),
        ("/v1/messages", stream, "/delta/text"),
        ("/v1beta/models/m:streamGenerateContent?key=k&alt=sse", json!({}), "/candidates/0/content/parts/0/text"),
    ] {
        let events = streamed(path, body);
        assert_eq!(joined(&events, text), TEXT, "{path}: {events:?}");
    }
}

#[test]
fn it_costs_no_tokens_and_says_so() {
    for (path, dialect) in [
        ("/v1/chat/completions", Dialect::OpenAi),
        ("/v1/completions", Dialect::OpenAi),
        ("/v1/responses", Dialect::OpenAi),
        ("/v1/messages", Dialect::Anthropic),
        ("/v1beta/models/m:generateContent", Dialect::Gemini),
    ] {
        let answer = whole(path, json!({"model": "m"})).to_string();
        assert_eq!(dialect.read_usage(answer.as_bytes()), Some(Usage::default()), "{path}: {answer}");
    }
}

#[test]
fn there_are_as_many_alternatives_as_were_asked_for_up_to_a_bound() {
    let chat = json!({"model": "m", "n": 3});
    let choices = whole("/v1/chat/completions", chat)["choices"].clone();
    assert_eq!(choices.as_array().map(Vec::len), Some(3));
    assert_eq!(choices[2]["index"], 2);
    let events = streamed("/v1/chat/completions", json!({"n": 3, "stream": true}));
    assert_eq!(joined(&events, "/choices/0/delta/content"), TEXT.repeat(3));
    let prompts = json!({"prompt": ["a", "b"], "n": 2});
    assert_eq!(whole("/v1/completions", prompts)["choices"].as_array().map(Vec::len), Some(4));
    let gemini = json!({"generationConfig": {"candidateCount": 2}});
    assert_eq!(whole("/v1/models/m:generateContent", gemini)["candidates"].as_array().map(Vec::len), Some(2));
    assert!(answered("/v1/chat/completions", &json!({"n": ALTERNATIVES_MAX})).2.is_some());
    assert!(answered("/v1/chat/completions", &json!({"n": ALTERNATIVES_MAX + 1})).2.is_none());
    assert!(answered("/v1/chat/completions", &json!({"n": 1e18})).2.is_none());
}

#[test]
fn a_chat_stream_reports_usage_only_to_those_who_asked_for_it() {
    let demanded = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = streamed("/v1/chat/completions", demanded);
    let [.., last, end] = &events[..] else { panic!("too few: {events:?}") };
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(0)));
    assert_eq!(end, "[DONE]");
    let events = streamed("/v1/chat/completions", json!({"stream": true}));
    assert!(!json!(events).to_string().contains("usage"), "{events:?}");
}

#[test]
fn the_events_of_responses_are_numbered_and_those_of_messages_named_by_their_types() {
    let events = streamed("/v1/responses", json!({"stream": true}));
    let numbers: Vec<_> = events.iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    assert_eq!(events[0]["response"]["id"], events[8]["response"]["id"]);
    let (_, _, answer) = answered("/v1/messages", &json!({"stream": true}));
    let text = String::from_utf8(answer.expect("an answer").body.to_vec()).expect("text");
    let named: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let typed: Vec<_> = data.map(|data| serde_json::from_str::<Value>(data).expect("JSON")["type"].clone()).collect();
    assert_eq!(json!(named), json!(typed));
    assert_eq!((named.first(), named.last()), (Some(&"message_start"), Some(&"message_stop")));
}

#[test]
fn ollama_streams_line_by_line_and_says_when_it_is_done() {
    for (path, text) in [("/api/chat", "/message/content"), ("/api/generate", "/response")] {
        let (_, _, answer) = answered(path, &json!({"model": "m"}));
        let answer = answer.expect("an answer");
        assert_eq!(answer.content_type, "application/x-ndjson");
        let lines = String::from_utf8(answer.body.to_vec()).expect("text");
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(joined(&lines, text), TEXT);
        let done: Vec<_> = lines.iter().map(|line| line["done"].clone()).collect();
        assert_eq!(done, [json!(false), json!(true)]);
        assert_eq!(lines[0]["created_at"], "2026-09-21T14:13:20Z");
    }
}

#[test]
fn a_text_is_no_answer_to_everything() {
    for (path, body) in [
        ("/v1/embeddings", json!({"input": "x"})),
        ("/api/embed", json!({"input": "x"})),
        ("/v1beta/models/m:countTokens", json!({})),
        ("/v1beta/models/m:embedContent", json!({})),
        ("/v1beta/models/m:batchEmbedContents", json!({})),
        ("/v1beta/models/imagen-4:predict", json!({})),
        ("/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict", json!({})),
        ("/v1/messages/count_tokens", json!({})),
        ("/v1/threads/t1/messages", json!({})),
        ("/v1/responses/r1/cancel", json!({})),
        ("/v1/responses", json!({"background": true})),
        ("/v1/responses", json!({"conversation": "conv_1"})),
        ("/v1/files", json!({})),
    ] {
        assert_eq!(answered(path, &body).2, None, "{path} {body}");
    }
    assert_eq!(static_answer(Dialect::Other, "/v1/messages", &Parameters::default(), TEXT, "1", 0), None);
}

proptest! {
    #[test]
    fn whatever_the_text_and_the_names_are_the_answer_is_valid(
        text in "(?s)[\u{85}\u{2028}\u{2029}\n\r\"]{0,3}.{0,8}",
        model in any::<String>(),
        id in any::<String>(),
        created_unix_s in any::<u64>(),
        streaming in any::<bool>(),
    ) {
        for (dialect, path) in [
            (Dialect::OpenAi, "/v1/chat/completions"),
            (Dialect::OpenAi, "/v1/responses"),
            (Dialect::Ollama, "/api/chat"),
            (Dialect::Anthropic, "/v1/messages"),
            (Dialect::Gemini, "/v1/models/m:streamGenerateContent?alt=sse"),
        ] {
            let parameters = Parameters { model: Some(model.clone()), streaming, ..Parameters::default() };
            let answer = static_answer(dialect, path, &parameters, &text, &id, created_unix_s).expect("an answer");
            let body = str::from_utf8(&answer.body).expect("text");
            // Whatever the form, each line that holds anything is JSON, a name or the last word. In streams that is so
            // by whatever a reader takes for a line's end.
            let ends = if streaming { &['\n', '\u{85}', '\u{2028}', '\u{2029}'][..] } else { &['\n'] };
            for line in body.split(ends).filter(|line| !line.is_empty() && !line.starts_with("event: ")) {
                let data = line.strip_prefix("data: ").unwrap_or(line);
                prop_assert!(data == "[DONE]" || serde_json::from_str::<Value>(data).is_ok(), "{path}: {line}");
            }
        }
    }
}
