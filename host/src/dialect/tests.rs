use super::*;

const CHAT: &str = "/v1/chat/completions";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value"))).collect()
}

#[test]
fn requests_are_recognised_by_path_and_headers() {
    let cases = [
        ("/v1/chat/completions", &[][..], Some(Dialect::OpenAi)),
        ("/chat/completions", &[], Some(Dialect::OpenAi)),
        ("/v1/models", &[], Some(Dialect::OpenAi)),
        ("/v1/models", &[("anthropic-version", "2023-06-01")], Some(Dialect::Anthropic)),
        ("/v1/models", &[("x-goog-api-key", "k")], Some(Dialect::Gemini)),
        ("/v1/messages", &[], Some(Dialect::Anthropic)),
        ("/messages", &[], Some(Dialect::Anthropic)),
        ("/v1/v1/messages", &[], Some(Dialect::Anthropic)),
        ("/v1/threads/t1/messages", &[], Some(Dialect::OpenAi)),
        ("/v1/chat/completions/c1/messages", &[], Some(Dialect::OpenAi)),
        ("/v1/models/ft:gpt-4o-mini:acme::x", &[], Some(Dialect::OpenAi)),
        ("/v1beta/models/gemini-3-pro:generateContent", &[], Some(Dialect::Gemini)),
        ("/v1/models/gemini-3-pro:streamGenerateContent", &[], Some(Dialect::Gemini)),
        ("/favicon.ico", &[], None),
    ];
    for (path, pairs, expected) in cases {
        assert_eq!(Dialect::recognise(path, &headers(pairs)), expected, "{path} {pairs:?}");
    }
}

#[test]
fn paths_with_too_few_or_too_many_v1_are_mended() {
    for path in ["/messages", "/v1/messages", "/v1/v1/messages"] {
        assert_eq!(Dialect::Anthropic.canonical_path(path, true), "/v1/messages");
    }
    assert_eq!(Dialect::OpenAi.canonical_path("/chat/completions", true), "/v1/chat/completions");
    assert_eq!(Dialect::OpenAi.canonical_path("/chat/completions", false), "/chat/completions");
    assert_eq!(Dialect::OpenAi.canonical_path("/health", true), "/health");
    assert_eq!(Dialect::Gemini.canonical_path("/v1beta/models", true), "/v1beta/models");
}

#[test]
fn the_bound_on_output_tokens_is_found_in_every_api() {
    let chat =
        Dialect::OpenAi.read_request("/v1/chat/completions", br#"{"model":"m","max_completion_tokens":7,"n":3}"#);
    assert_eq!((chat.model.as_deref(), chat.output_tokens_max), (Some("m"), Some(21)));
    let responses = Dialect::OpenAi.read_request("/v1/responses", br#"{"model":"m","max_output_tokens":9}"#);
    assert_eq!(responses.output_tokens_max, Some(9));
    let embeddings = Dialect::OpenAi.read_request("/v1/embeddings", br#"{"model":"m","input":"x"}"#);
    assert_eq!(embeddings.output_tokens_max, Some(0));
    let message = Dialect::Anthropic.read_request("/v1/messages", br#"{"model":"m","max_tokens":5,"stream":true}"#);
    assert_eq!((message.streaming, message.output_tokens_max), (true, Some(5)));
    let gemini = Dialect::Gemini
        .read_request("/v1/models/g:streamGenerateContent", br#"{"generationConfig":{"maxOutputTokens":4}}"#);
    assert_eq!((gemini.model.as_deref(), gemini.streaming, gemini.output_tokens_max), (Some("g"), true, Some(4)));
    assert_eq!(Dialect::OpenAi.read_request("/v1/chat/completions", b"not json"), Parameters::default());
}

#[test]
fn each_field_is_read_for_itself() {
    let chat = |body: &str| Dialect::OpenAi.read_request("/v1/chat/completions", body.as_bytes());
    for (odd, bound) in
        [("-1", None), ("100.0", Some(100)), ("\"many\"", None), ("1.5", None), ("null", None), ("1e99", None)]
    {
        let asked = chat(&format!(r#"{{"max_tokens":{odd},"model":"m","stream":true,"n":"x","stream_options":7}}"#));
        assert_eq!(
            (asked.model.as_deref(), asked.streaming, asked.output_tokens_max),
            (Some("m"), true, bound),
            "{odd}"
        );
    }
    let asked = chat(r#"{"max_tokens":5,"model":7,"stream":"yes"}"#);
    assert_eq!((asked.model, asked.streaming, asked.output_tokens_max), (None, false, Some(5)));
    let message = Dialect::Anthropic.read_request("/v1/messages", br#"{"model":"m","max_tokens":-1,"stream":true}"#);
    assert_eq!((message.model.as_deref(), message.streaming, message.output_tokens_max), (Some("m"), true, None));
    let odd = br#"{"generationConfig":{"maxOutputTokens":64.0,"candidateCount":-2}}"#;
    let asked = Dialect::Gemini.read_request("/v1/models/g:generateContent", odd);
    assert_eq!((asked.alternatives, asked.output_tokens_max), (1, Some(64)));
    let asked = Dialect::Gemini.read_request("/v1/models/g:generateContent", br#"{"generationConfig":[]}"#);
    assert_eq!((asked.model.as_deref(), asked.output_tokens_max), (Some("g"), None));
}

#[test]
fn what_no_reader_understands_says_nothing_about_the_rest() {
    let read = |dialect: Dialect, path: &str, body: &[u8]| {
        let asked = dialect.read_request(path, body);
        (asked.model, asked.streaming, asked.output_tokens_max)
    };
    let expected = (Some("m".to_owned()), true, Some(7));
    let odd: [&[u8]; 6] = [
        br#""model":"other","stream":false,"max_tokens":3"#,
        br#""n":1e999"#,
        br#""max_tokens":1e999"#,
        br#""\ud83d":"\ud83d""#,
        br#""model":"\ud83d""#,
        b"\"text\":\"\xe9\"",
    ];
    for odd in odd {
        let body = [b"{", odd, br#","model":"m","stream":true,"max_tokens":7}"#].concat();
        for (dialect, path) in [(Dialect::OpenAi, CHAT), (Dialect::Anthropic, "/v1/messages")] {
            assert_eq!(read(dialect, path, &body), expected, "{dialect:?}: {}", String::from_utf8_lossy(&body));
        }
    }
    let google = "/v1beta/models/m:streamGenerateContent";
    let config = br#"{"x":1e999,"generationConfig":{"maxOutputTokens":3},"generationConfig":{"maxOutputTokens":7,"maxOutputTokens":7}}"#;
    assert_eq!(read(Dialect::Gemini, google, config), expected);
    assert_eq!(
        Dialect::OpenAi.in_body("/v1/models/m:rawPredict", br#"{"a":1e999,"anthropic_version":"v"}"#),
        Dialect::Anthropic
    );
    assert_eq!(
        Dialect::Anthropic.read_request("/v1/messages", br#"{"model":"m","stream":true"#),
        Parameters::default()
    );
}

#[test]
fn as_many_answers_are_expected_as_were_asked_for() {
    let alternatives = |path: &str, body: &str| Dialect::OpenAi.read_request(path, body.as_bytes()).alternatives;
    assert_eq!(alternatives("/v1/completions", r#"{"prompt":["a","b"],"n":3}"#), 6);
    assert_eq!(alternatives("/v1/completions", r#"{"prompt":[[1,2],[3]]}"#), 2);
    assert_eq!(alternatives("/v1/completions", r#"{"prompt":[1,2,3]}"#), 1);
    assert_eq!(alternatives("/v1/completions", r#"{"prompt":"a"}"#), 1);
}

#[test]
fn events_are_told_apart() {
    let kind = |dialect: Dialect, text: &str| dialect.read_event(text.as_bytes());
    assert_eq!(kind(Dialect::OpenAi, "data: [DONE]\n\n"), EventKind::End);
    let delta = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
    assert_eq!(kind(Dialect::OpenAi, delta), EventKind::Content);
    let last = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    assert_eq!(kind(Dialect::OpenAi, last), EventKind::Finished(1));
    let filters = "data: {\"choices\" : [ ],\"prompt_filter_results\":[{}]}\n\n";
    assert_eq!(kind(Dialect::OpenAi, filters), EventKind::Preamble);
    assert_eq!(kind(Dialect::OpenAi, ": keep-alive\n\n"), EventKind::Preamble);
    let last = "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n";
    assert_eq!(kind(Dialect::Gemini, last), EventKind::Finished(1));
    assert_eq!(kind(Dialect::Gemini, "data: {\"usageMetadata\":{}}\n\n"), EventKind::Preamble);
    assert!(matches!(
        kind(Dialect::Gemini, "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n"),
        EventKind::Finished(_)
    ));
}

#[test]
fn an_events_type_stands_in_its_line_or_in_its_json_or_in_both() {
    let written = |kind: &str| {
        let json = format!("{{\"response\":{{\"error\":null,\"content\":[{{\"type\":\"x\"}}]}},\"type\":\"{kind}\"}}");
        [
            format!("event: {kind}\ndata: {{}}\n\n"),
            format!("event: {kind}\ndata: {json}\n\n"),
            format!("data: {json}\n\n"),
            format!("event: message\ndata: {json}\n\n"),
        ]
    };
    let failed = ProviderError { kind: Some("response.failed".into()), ..ProviderError::default() };
    for (dialect, kind, expected) in [
        (Dialect::OpenAi, "response.created", EventKind::Preamble),
        (Dialect::OpenAi, "response.output_text.delta", EventKind::Content),
        (Dialect::OpenAi, "response.completed", EventKind::Complete),
        (Dialect::OpenAi, "response.incomplete", EventKind::Complete),
        (Dialect::OpenAi, "response.failed", EventKind::Error(failed)),
        (Dialect::Anthropic, "message_start", EventKind::Preamble),
        (Dialect::Anthropic, "ping", EventKind::Preamble),
        (Dialect::Anthropic, "content_block_delta", EventKind::Content),
        (Dialect::Anthropic, "message_stop", EventKind::End),
    ] {
        for event in written(kind) {
            assert_eq!(dialect.read_event(event.as_bytes()), expected, "{event}");
        }
    }
}

#[test]
fn an_error_is_one_with_and_without_its_line_in_every_api() {
    for (dialect, data, word) in [
        (
            Dialect::Anthropic,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
            "overloaded_error",
        ),
        (Dialect::OpenAi, r#"{"type":"error","code":"server_error","message":"m"}"#, "server_error"),
        (Dialect::OpenAi, r#"{"error":{"type":"server_error","message":"m"}}"#, "server_error"),
        (Dialect::OpenAi, r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#, "server_error"),
        (Dialect::Gemini, r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"m"}}"#, "UNAVAILABLE"),
    ] {
        for event in [format!("data: {data}\n\n"), format!("event: error\ndata: {data}\n\n")] {
            let EventKind::Error(error) = dialect.read_event(event.as_bytes()) else { panic!("{event}") };
            assert!(error.is_any(&[word]), "{event}: {error:?}");
        }
    }
}

#[test]
fn what_holds_no_answer_is_told_from_an_empty_one() {
    const EMBED: &str = "/v1/embeddings";
    const GENERATE: &str = "/v1beta/models/g:generateContent";
    let nothing = [
        (Dialect::OpenAi, CHAT, "{}"),
        (Dialect::OpenAi, CHAT, r#"{"id":"x","choices":[],"usage":{}}"#),
        (Dialect::OpenAi, CHAT, r#"{"id":"x","choices":null}"#),
        (Dialect::OpenAi, "/v1/completions", r#"{"choices": [ ]}"#),
        (Dialect::OpenAi, "/v1/responses", "{}"),
        (Dialect::OpenAi, EMBED, "{}"),
        (Dialect::Anthropic, "/v1/messages", "{}"),
        (Dialect::Anthropic, "/v1/messages", r#"{"content":[],"stop_reason":null}"#),
        (Dialect::Gemini, GENERATE, "{}"),
        (Dialect::Gemini, GENERATE, r#"{"usageMetadata":{"promptTokenCount":3}}"#),
        (Dialect::Gemini, "/v1beta/models/g:streamGenerateContent", "[]"),
    ];
    for (dialect, path, body) in nothing {
        assert!(dialect.is_nothing(path, body.as_bytes(), true), "{path}: {body}");
        assert!(!dialect.is_nothing(path, body.as_bytes(), false), "more is to come: {body}");
    }
    for body in ["", " \n\r\n", "null"] {
        for (dialect, path) in
            [(Dialect::OpenAi, EMBED), (Dialect::Anthropic, "/v1/messages"), (Dialect::Gemini, GENERATE)]
        {
            assert!(dialect.is_nothing(path, body.as_bytes(), true), "{path}: {body:?}");
        }
    }
    assert!(Dialect::OpenAi.is_nothing(CHAT, b"\n<!doctype html><title>Log in", false), "a web page");
    let legal = [
        (Dialect::OpenAi, CHAT, r#"{"choices":[{"message":{"content":null}}]}"#),
        (Dialect::OpenAi, CHAT, "{\n  \"choices\": [\n    {\"message\": {}}]}"),
        (Dialect::OpenAi, CHAT, r#"{"request_id":"deferred"}"#),
        (Dialect::OpenAi, CHAT, r#"{"error":{"message":"m"}}"#),
        (Dialect::OpenAi, "/v1/responses", r#"{"id":"r","status":"queued","output":[]}"#),
        (Dialect::OpenAi, EMBED, r#"{"data":[]}"#),
        (Dialect::Anthropic, "/v1/messages", r#"{"content":[],"stop_reason":"end_turn"}"#),
        (Dialect::Anthropic, "/v1/messages", r#"{"content":[{"type":"text","text":""}]}"#),
        (Dialect::Gemini, GENERATE, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#),
        (Dialect::Gemini, GENERATE, r#"{"candidates":[{"finishReason":"MAX_TOKENS"}]}"#),
        (Dialect::Gemini, "/v1beta/models/g:embedContent", "{}"),
        (Dialect::Gemini, "/v1beta/models/g:countTokens", "{}"),
        (Dialect::OpenAi, CHAT, "data: {}"),
    ];
    for (dialect, path, body) in legal {
        assert!(!dialect.is_nothing(path, body.as_bytes(), true), "{path}: {body}");
    }
}

#[test]
fn usage_is_demanded_without_touching_the_rest() {
    let cases = [
        (r#"{"model":"m", "seed":1e3}"#, Some(r#"{"stream_options":{"include_usage":true},"model":"m", "seed":1e3}"#)),
        (r#"{"stream_options": null}"#, Some(r#"{"stream_options": {"include_usage":true}}"#)),
        (r#"{"stream_options": { }}"#, Some(r#"{"stream_options": {"include_usage":true }}"#)),
        (
            r#"{"a":1.0,"stream_options":{"include_obfuscation":false},"a":2}"#,
            Some(r#"{"a":1.0,"stream_options":{"include_usage":true,"include_obfuscation":false},"a":2}"#),
        ),
        (
            r#"{"stream_options":{"x":[1e400], "include_usage" : false}}"#,
            Some(r#"{"stream_options":{"x":[1e400], "include_usage" : true}}"#),
        ),
        (
            r#"{"stream_options":{"include_usage":0},"stream_options":{}}"#,
            Some(r#"{"stream_options":{"include_usage":true},"stream_options":{"include_usage":true}}"#),
        ),
        (r#"{"stream_options":{"include_usage":true}}"#, Some(r#"{"stream_options":{"include_usage":true}}"#)),
        (r#"{"stream_options":"all"}"#, None),
        ("{", None),
    ];
    for (body, expected) in cases {
        let changed = Dialect::OpenAi.demand_usage(body.as_bytes());
        assert_eq!(changed.as_deref(), expected.map(str::as_bytes), "{body}");
    }
}

#[test]
fn another_model_is_named_where_the_request_names_one() {
    let google = "/v1beta/models/old:generateContent";
    let renamed = "/v1beta/models/new:generateContent";
    let cases = [
        (CHAT, r#"{"model":"old"}"#, CHAT, r#"{"model":"new"}"#),
        (CHAT, "{}", CHAT, r#"{"model":"new"}"#),
        (google, r#"{"contents":[{"model":"old"}]}"#, renamed, r#"{"contents":[{"model":"old"}]}"#),
        (google, r#"{"model":"models/old", "n":1.0}"#, renamed, r#"{"model":"models/new", "n":1.0}"#),
        (google, "no JSON", renamed, "no JSON"),
        (
            "/v1beta/models/old:batchEmbedContents",
            r#"{"requests":[{"model":"models/old","content":{}},{ },{"model":"old"}]}"#,
            "/v1beta/models/new:batchEmbedContents",
            r#"{"requests":[{"model":"models/new","content":{}},{ },{"model":"new"}]}"#,
        ),
        (
            "/v1beta/models/old:countTokens",
            r#"{"generateContentRequest":{"model":"models/old"}}"#,
            "/v1beta/models/new:countTokens",
            r#"{"generateContentRequest":{"model":"models/new"}}"#,
        ),
        (
            "/v1/projects/p/publishers/mistralai/models/old:rawPredict",
            r#"{"model":"old","messages":[]}"#,
            "/v1/projects/p/publishers/mistralai/models/new:rawPredict",
            r#"{"model":"new","messages":[]}"#,
        ),
    ];
    for (path, body, path_expected, body_expected) in cases {
        let changed = with_model(path, &Bytes::from(body), "new").expect("a request");
        assert_eq!(changed, (path_expected.to_owned(), Bytes::from(body_expected)), "{path} {body}");
    }
    assert_eq!(with_model(CHAT, &Bytes::from("no JSON"), "new"), None);
}

#[test]
fn only_the_event_that_was_demanded_is_taken_for_it() {
    assert!(Dialect::OpenAi.is_usage_event(br#"{"choices":[],"usage":{"prompt_tokens":1}}"#));
    assert!(!Dialect::OpenAi.is_usage_event(br#"{"choices":[{"delta":{}}],"usage":null}"#));
    assert!(!Dialect::OpenAi.is_usage_event(br#"{"choices":[],"prompt_filter_results":[]}"#));
}

#[test]
fn a_field_of_the_wrong_kind_is_passed_over_however_large_it_is() {
    let long = format!("[{}]", vec!["1"; 10_000].join(","));
    let body = format!(r#"{{"model":{long},"max_tokens":{{"a":{long}}},"stream_options":{long},"stream":true,"n":2}}"#);
    let asked = Dialect::OpenAi.read_request("/v1/chat/completions", body.as_bytes());
    assert_eq!(asked, Parameters { streaming: true, alternatives: 2, usage_withheld: true, ..Parameters::default() });
}
