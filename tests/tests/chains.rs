//! Chains: where one target cannot serve, the next one does, and exactly the calls are made that should be.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::{APIS, Api, KEY, chat, chat_stream};
use spillway_tests::http::{Response, post};
use spillway_tests::provider::{
    Failure, Provider, Reply, fail, healthy, insufficient_quota, overloaded, rate_limited, stall, stream,
};
use spillway_tests::row::{Call, KEYS, Row};
use std::thread;
use std::time::Duration;

const ALL: &str = r#"["first", "second", "third"]"#;

/// What the mock says on a good day.
const TEXT: &str = "Hello from the mock provider.";

/// A way of failing: what the provider does, and how many calls it gets for that.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    /// What it answers; `None`: nobody listens.
    reply: Option<fn(Api) -> Reply>,
    calls: usize,
    /// Whether only a stream can fail so.
    in_stream: bool,
}

const WAYS: [Way; 11] = [
    Way { name: "refuses connections", reply: None, calls: 0, in_stream: false },
    Way { name: "429 without a wait", reply: Some(|_| rate_limited()), calls: 1, in_stream: false },
    Way { name: "429 with one", reply: Some(|_| rate_limited().retry_after_s(30)), calls: 1, in_stream: false },
    Way { name: "overloaded", reply: Some(|_| overloaded()), calls: 1, in_stream: false },
    Way { name: "quota spent", reply: Some(|_| insufficient_quota()), calls: 1, in_stream: false },
    Way { name: "key refused", reply: Some(|_| fail(Failure::Unauthorized)), calls: 1, in_stream: false },
    Way { name: "fails", reply: Some(|_| fail(Failure::ServerError)), calls: 1, in_stream: false },
    Way { name: "hangs", reply: Some(|_| stall()), calls: 1, in_stream: false },
    Way { name: "overloaded in the stream", reply: Some(overloaded_in_stream), calls: 1, in_stream: true },
    Way { name: "quota spent in the stream", reply: Some(spent_in_stream), calls: 1, in_stream: true },
    Way { name: "hangs in the stream", reply: Some(|api| preamble(api).stall()), calls: 1, in_stream: true },
];

/// The first event of a stream, which says nothing yet. Gemini has no such event.
fn preamble(api: Api) -> Reply {
    match api.name {
        "anthropic" => stream().named_event(
            "message_start",
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                   "content": [], "model": "m", "usage": {"input_tokens": 9, "output_tokens": 1}}}),
        ),
        "openai" => stream().event(json!({"choices": [], "prompt_filter_results": [{}]})),
        _ => stream(),
    }
}

fn overloaded_in_stream(api: Api) -> Reply {
    preamble(api).error_event()
}

fn spent_in_stream(api: Api) -> Reply {
    let message = "your quota is spent";
    match api.name {
        "anthropic" => preamble(api).named_event(
            "error",
            json!({"type": "error", "error": {"type": "rate_limit_error", "message": message,
                   "details": {"error_code": "enforced_spend_limit_reached"}}}),
        ),
        "gemini" => preamble(api).event(json!({"error": {"code": 429, "message": message, "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure",
             "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}],
            "status": "RESOURCE_EXHAUSTED"}})),
        _ => preamble(api).event(json!({"error": {"message": message, "code": "insufficient_quota"}})),
    }
}

/// Makes a provider fail so.
fn fails(provider: &Provider, way: Way, api: Api) {
    match way.reply {
        Some(reply) => provider.always(reply(api)),
        None => provider.stop(),
    }
}

/// The text of a stream's events, put together.
fn told(events: &[String]) -> String {
    let data = events.iter().flat_map(|event| event.lines()).filter_map(|line| line.strip_prefix("data: "));
    let places = ["/choices/0/delta/content", "/delta/text", "/candidates/0/content/parts/0/text", "/delta"];
    let piece = |data: &str| {
        let event: Value = serde_json::from_str(data).ok()?;
        places.iter().find_map(|place| event.pointer(place)?.as_str().map(str::to_owned))
    };
    data.filter_map(piece).collect()
}

fn fallback_of(answer: &Response) -> (u16, Option<&str>, Option<&str>) {
    (answer.status(), answer.header("x-spillway-target"), answer.header("x-spillway-fallback-from"))
}

#[test]
fn each_way_of_failing_moves_a_request_on_with_exactly_the_calls_that_it_should() {
    let one = |api: Api, ways: [Way; 2]| {
        let what = format!("{}: {}, then {}", api.name, ways[0].name, ways[1].name);
        let row = Row::new();
        let setup = ["first", "second"].iter().fold(row.setup(api.name, ALL), |setup, name| {
            setup.set(&format!("upstreams.{name}"), "first_content_timeout = \"300ms\"")
        });
        let spillway = setup.start();
        fails(row.first(), ways[0], api);
        fails(row.second(), ways[1], api);
        let expected: Vec<_> = [vec!["first"; ways[0].calls], vec!["second"; ways[1].calls], vec!["third"]].concat();

        let (head, mut connection) = spillway.open(&(api.stream)());
        let (events, end) = connection.events();
        assert_eq!(row.asked(), expected, "{what}: {events:?}");
        assert_eq!((head.status, head.header("x-spillway-target")), (200, Some("third")), "{what}");
        assert!(end.is_ok(), "{what}: {end:?}");
        assert_eq!(told(&events), TEXT, "{what}: {events:?}");
        let beginnings =
            events.iter().filter(|event| event.contains("message_start") || event.contains("\"role\":\"assistant\""));
        assert!(beginnings.count() <= 1 && !events.concat().contains("error"), "{what}: {events:?}");
    };
    thread::scope(|scope| {
        for api in APIS {
            scope.spawn(move || {
                for (number, way) in WAYS.into_iter().enumerate() {
                    one(api, [way, WAYS[(number + 3) % WAYS.len()]]);
                }
            });
        }
    });
}

#[test]
fn an_answer_that_is_not_streamed_moves_on_in_the_same_ways() {
    thread::scope(|scope| {
        for api in APIS {
            scope.spawn(move || {
                for way in WAYS.into_iter().filter(|way| !way.in_stream) {
                    let row = Row::new();
                    let setup = row.setup(api.name, ALL);
                    let spillway = setup.set("upstreams.first", "first_content_timeout = \"300ms\"").start();
                    fails(row.first(), way, api);
                    let answer = spillway.send(&(api.whole)());
                    let expected = [vec!["first"; way.calls], vec!["second"]].concat();
                    assert_eq!(row.asked(), expected, "{}: {}", api.name, way.name);
                    let what = format!("{}: {}: {}", api.name, way.name, answer.text());
                    assert_eq!(fallback_of(&answer), (200, Some("second"), Some("first")), "{what}");
                }
            });
        }
    });
}

#[test]
fn an_error_behind_the_beginning_of_a_response_moves_on_and_its_caller_sees_one_stream_with_one_beginning() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    let request = post("/v1/responses", &json!({"model": "m", "input": "hi", "stream": true}));
    let begun = json!({"type": "response.created", "sequence_number": 0, "response": {"id": "resp_lost"}});
    let error = json!({"type": "error", "code": "insufficient_quota", "message": "spent", "sequence_number": 1});
    row.first().next(stream().named_event("response.created", begun.clone()).named_event("error", error));
    let failed = json!({"type": "response.failed", "sequence_number": 1, "response": {"id": "resp_lost",
                        "status": "failed", "error": {"code": "server_is_overloaded", "message": "busy"}}});
    row.second().next(stream().named_event("response.created", begun).named_event("response.failed", failed));

    let (events, end) = spillway.open(&request).1.events();
    assert_eq!(row.asked(), ["first", "second", "third"]);
    assert!(end.is_ok() && told(&events) == TEXT, "{events:?}");
    let beginnings: Vec<_> = events.iter().filter(|event| event.starts_with("event: response.created")).collect();
    assert!(beginnings.len() == 1 && !events.concat().contains("resp_lost"), "{events:?}");
}

#[test]
fn what_its_caller_has_begun_to_read_is_continued_by_nobody() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    row.first().next(healthy().after_events(3).error_event());
    let (events, end) = spillway.open(&chat_stream()).1.events();
    assert_eq!(row.asked(), ["first"]);
    assert!(events.concat().contains("error"), "{events:?} {end:?}");
}

#[test]
fn a_target_is_sent_the_callers_bytes_but_for_the_model_and_a_credential_of_its_own() {
    let row = Row::new();
    let spillway = row.setup("openai", r#"["first", "second/vendor/other", "third"]"#).start();
    row.first().always(rate_limited());
    row.second().always(rate_limited());
    // Numbers, escapes, order, a key that stands twice: nothing of it survives being parsed and written again.
    let body = |model: &str| {
        format!(
            "{{ \"messages\" :[{{\"role\":\"user\",\"content\":\"h\\u0069\", \"model\":\"inner\"}}],\n\t\"seed\":\
             1e3,\"top_p\":1.0, \"x\":12345678901234567890123,\"mod\\u0065l\" : \"{model}\",\"x\":null,\"z\":[ ] }}"
        )
    };
    let request = chat().path("/v1/chat/completions?trace=1").body(body("mock-small"));
    let answer = spillway.send(&request.header("openai-organization", "org-of-caller"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let call = |upstream, credential: &str, model: &str| Call {
        upstream,
        path: "/v1/chat/completions?trace=1".to_owned(),
        credentials: vec![credential.to_owned()],
        body: body(model),
    };
    let expected = [
        call("first", KEY, "mock-small"),
        call("second", KEYS[0], "vendor/other"),
        call("third", KEYS[1], "mock-small"),
    ];
    assert_eq!(row.ledger(), expected);
    for (provider, organisation) in [(row.first(), Some("org-of-caller")), (row.second(), None), (row.third(), None)] {
        assert_eq!(provider.requests()[0].header("openai-organization"), organisation);
    }
    assert_eq!(answer.at("/model"), "mock-small", "the answer's model is its provider's own word");
}

#[test]
fn a_model_in_the_path_is_replaced_there() {
    let row = Row::new();
    let spillway = row.setup("gemini", r#"["first", "second/other-model"]"#).start();
    row.first().always(rate_limited());
    let request = APIS[2].stream;
    assert_eq!(spillway.open(&request()).0.status, 200);
    let calls: Vec<_> = row.ledger().into_iter().map(|call| (call.upstream, call.path, call.credentials)).collect();
    let path = |model: &str| format!("/v1beta/models/{model}:streamGenerateContent?alt=sse");
    let expected = [
        ("first", path("mock-gemini"), vec![KEY.to_owned()]),
        ("second", path("other-model"), vec![KEYS[0].to_owned()]),
    ];
    assert_eq!(calls, expected);
}

#[test]
fn where_nobody_serves_the_caller_hears_what_the_first_said_and_who_was_tried() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    row.first().always(insufficient_quota());
    row.second().always(fail(Failure::Unauthorized));
    row.third().always(insufficient_quota());
    let answer = spillway.send(&chat());
    assert_eq!(row.asked(), ["first", "second", "third"]);
    assert_eq!((answer.status(), &*answer.at("/error/code")), (429, "credit_balance_exhausted"), "{}", answer.text());
    assert_eq!(answer.header("x-spillway-target"), Some("first"));
    assert_eq!(answer.header("x-spillway-attempts"), Some("3"));
    assert_eq!(answer.header("x-spillway-tried"), Some("first (429), second (401), third (429)"));
    // Neither money nor keys come back by themselves.
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let line = spillway.log().wait_for(&["\"message\":\"request\"", "\"status\":429"]);
    let why = line["why"].as_str().unwrap_or_default();
    assert!(why.contains("on to second") && why.contains("on to third"), "{line}");
    assert!(line["fallback_from"].is_null(), "nobody stood in: {line}");
}

#[test]
fn where_nobody_is_there_spillway_says_so_and_names_all() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    for provider in [row.first(), row.second(), row.third()] {
        provider.stop();
    }
    let answer = spillway.send(&chat());
    assert_eq!((answer.status(), answer.refusal()), (502, Some("spillway_upstream_unreachable")), "{}", answer.text());
    for name in ["first", "second", "third"] {
        assert!(answer.at("/error/message").contains(name), "{}", answer.text());
    }
}

#[test]
fn it_hears_of_the_wait_after_which_the_first_of_them_may_serve() {
    let row = Row::new();
    let setup = row.setup("openai", ALL);
    let setup = ["first", "second", "third"]
        .iter()
        .fold(setup, |setup, name| setup.set(&format!("upstreams.{name}.limits"), "patience = \"100ms\""));
    let spillway = setup.start();
    for (provider, wait) in [(row.first(), 50), (row.second(), 20), (row.third(), 40)] {
        provider.always(rate_limited().retry_after_s(wait));
    }
    let answer = spillway.send(&chat());
    assert_eq!(row.asked(), ["first", "second", "third"]);
    assert_eq!(answer.status(), 429, "{}", answer.text());
    assert!(answer.retry_after_s().is_some_and(|wait| (19..=21).contains(&wait)), "{:?}", answer.head);
}

#[test]
fn a_limit_that_one_request_has_met_moves_the_next_one_on_without_a_call() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    row.first().always(rate_limited().retry_after_s(30));
    for _ in 0..3 {
        assert_eq!(fallback_of(&spillway.send(&chat())), (200, Some("second"), Some("first")));
    }
    assert_eq!(row.asked(), ["first", "second", "second", "second"]);
}

#[test]
fn a_fallback_is_told_by_headers_the_log_and_a_metric_and_nothing_is_told_of_none() {
    let row = Row::new();
    let spillway = row.setup("openai", r#"["first", "second/other"]"#).start();
    let metric = "spillway_fallbacks_total{route=\"chain\",from=\"first\",to=\"second/other\"}";
    let answer = spillway.send(&chat());
    assert_eq!(fallback_of(&answer), (200, Some("first"), None));
    assert_eq!(
        (answer.header("x-spillway-route"), answer.header("x-spillway-upstream")),
        (Some("chain"), Some("first"))
    );
    assert_eq!(spillway.metric(metric), 0.0);

    row.first().next(insufficient_quota());
    let answer = spillway.send(&chat());
    assert_eq!(fallback_of(&answer), (200, Some("second/other"), Some("first")));
    let (upstream, attempts) = (answer.header("x-spillway-upstream"), answer.header("x-spillway-attempts"));
    assert_eq!((upstream, attempts), (Some("second"), Some("2")));
    assert_eq!(answer.at("/model"), "other");
    assert_eq!(spillway.metric(metric), 1.0);
    let line = spillway.log().wait_for(&["\"message\":\"request\"", "fallback_from"]);
    assert_eq!(
        (&line["route"], &line["target"], &line["fallback_from"]),
        (&json!("chain"), &json!("second/other"), &json!("first"))
    );
    assert!(line["why"].as_str().is_some_and(|why| why.contains("on to second/other")), "{line}");
}

#[test]
fn a_hiccup_of_a_target_that_serves_is_repeated_there_once() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    for _ in 0..50 {
        assert_eq!(spillway.send(&chat()).header("x-spillway-target"), Some("first"));
    }
    row.first().next(fail(Failure::ServerError));
    let answer = spillway.send(&chat());
    assert_eq!(fallback_of(&answer), (200, Some("first"), None), "its cache knows the prompt");
    assert_eq!(answer.header("x-spillway-attempts"), Some("2"));

    row.first().next(fail(Failure::ServerError));
    row.first().next(fail(Failure::ServerError));
    let answer = spillway.send(&chat());
    assert_eq!((fallback_of(&answer), row.first().stats().started), ((200, Some("second"), Some("first")), 54));
    assert_eq!(row.second().stats().started, 1);
}

#[test]
fn a_policy_may_say_that_the_next_target_does_better() {
    let row = Row::new();
    let setup = row.setup("openai", ALL).policy("hostile-hooks");
    let setup = setup.set("upstreams.first", "policy = \"hostile-hooks\"");
    let spillway = setup.set("upstreams.second", "policy = \"hostile-hooks\"").start();
    // By its verdict (a failure of the model, with the advice), and by what it answers when asked for a wait.
    row.first().next(fail(Failure::ServerError).header("x-verdict", "1 1 2"));
    row.second().next(fail(Failure::ServerError).header("x-hostile", "backoff: next upstream"));
    let answer = spillway.send(&chat());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(row.asked(), ["first", "second", "third"]);
}

#[test]
fn no_more_targets_are_asked_than_may_be() {
    for (hops, asked) in [(0, vec!["first"]), (1, vec!["first", "second"]), (2, vec!["first", "second", "third"])] {
        let row = Row::new();
        let spillway = row.setup("openai", ALL).set("routes.chain", &format!("max_hops = {hops}")).start();
        for provider in [row.first(), row.second(), row.third()] {
            provider.always(insufficient_quota());
        }
        assert_eq!(spillway.send(&chat()).status(), 429);
        assert_eq!(row.asked(), asked, "{hops} hops");
    }
}

#[test]
fn a_slow_failure_is_not_followed_where_the_route_wants_quick_ones_only() {
    for bound in ["quick_failure_max = \"200ms\"", "timeout = \"200ms\""] {
        let row = Row::new();
        let spillway = row.setup("openai", ALL).set("routes.chain", bound).start();
        row.first().next(insufficient_quota().delay(Duration::from_millis(400)));
        assert_eq!(spillway.send(&chat()).status(), 429, "{bound}");
        assert_eq!(row.asked(), ["first"], "{bound}");
    }
    let row = Row::new();
    let spillway = row.setup("openai", ALL).set("routes.chain", "quick_failure_max = \"10s\"").start();
    row.first().next(insufficient_quota());
    assert_eq!(spillway.send(&chat()).status(), 200, "a quick one is");
}
