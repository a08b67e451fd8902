//! The limiter: tokens are reserved before a call, settled with what it used, and never overrun.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use spillway_tests::asks::{APIS, chat, chat_with};
use spillway_tests::http::{Request, post};
use spillway_tests::provider::{Provider, healthy, respond};
use spillway_tests::spillway::Setup;
use spillway_tests::wait::eventually;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

/// Refills so slowly that a test sees next to nothing of it: ten tokens a second.
const TOKENS_PER_MINUTE: u64 = 600;

fn limited(provider: &Provider) -> Setup {
    Setup::with(provider)
        .set("upstreams.openai.limits", &format!("patience = \"0s\"\ntokens_per_minute = {TOKENS_PER_MINUTE}"))
}

/// A request that reserves this many output tokens, and a few for itself.
fn asking_for(output_tokens: u64) -> Request {
    chat_with(json!({"max_tokens": output_tokens}))
}

#[test]
fn an_upstream_that_cannot_be_reached_costs_no_tokens() {
    let provider = Provider::start();
    let setup = limited(&provider).set("upstreams.openai.retry", "max_attempts = 1");
    let spillway = setup.set("upstreams.openai.breaker", "consecutive_failures = 0\nfailure_rate = 0").start();
    provider.stop();
    for _ in 0..4 {
        let answer = spillway.send(&asking_for(TOKENS_PER_MINUTE / 2));
        assert_eq!(answer.status(), 502, "{}", answer.text());
    }
}

#[test]
fn concurrent_requests_never_reserve_more_than_the_limit() {
    const CALLERS: usize = 12;
    // Four of these fit, and a fifth does not.
    const RESERVED: u64 = 130;
    let provider = Provider::start();
    let spillway = limited(&provider).start();
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    let began = Instant::now();
    thread::scope(|scope| {
        let (results, answers) = channel();
        for _ in 0..CALLERS {
            let (results, spillway) = (results.clone(), &spillway);
            scope.spawn(move || results.send(spillway.send(&asking_for(RESERVED - 30)).status()));
        }
        let mut refused = 0;
        let admitted = eventually("every request is admitted or refused", || {
            refused += answers.try_iter().inspect(|status| assert_eq!(*status, 429)).count();
            let admitted = usize::try_from(provider.stats().started).unwrap_or(CALLERS);
            (admitted + refused == CALLERS).then_some(admitted as u64)
        });
        let refilled = TOKENS_PER_MINUTE * (began.elapsed().as_secs() + 1) / 60;
        // The body's own estimate is left out here, so the real sum is even larger than this.
        let reserved = admitted * (RESERVED - 30);
        assert!(reserved <= TOKENS_PER_MINUTE + refilled, "{admitted} requests reserved {reserved} tokens");
        assert!(admitted >= 4, "only {admitted} requests were admitted");
        assert!(spillway.upstream("openai")["limits"]["tokens_available"].as_i64().is_some_and(|tokens| tokens >= 0));
        gate.open();
        assert_eq!(answers.iter().take(CALLERS - refused).filter(|status| *status == 200).count() as u64, admitted);
    });
}

#[test]
fn what_an_answer_did_not_use_is_given_back() {
    let provider = Provider::start();
    let spillway = limited(&provider).start();
    provider.always(healthy().usage(5, 5));
    for (number, request) in [asking_for(500), asking_for(500), asking_for(500)].into_iter().enumerate() {
        assert_eq!(spillway.send(&request).status(), 200, "request {number}");
    }
    let streamed = chat_with(json!({"max_tokens": 500, "stream": true}));
    for number in 0..3 {
        assert_eq!(spillway.send(&streamed).status(), 200, "stream {number}");
    }
    let available = spillway.upstream("openai")["limits"]["tokens_available"].as_i64().expect("a figure");
    assert!(available >= 600 - 6 * 10, "only {available} tokens are left");
}

#[test]
fn an_answer_that_reports_no_usage_costs_what_was_reserved() {
    let provider = Provider::start();
    let spillway = limited(&provider).start();
    provider.next(respond(200).json(json!({"choices": [{}]})));
    assert_eq!(spillway.send(&asking_for(500)).status(), 200);
    let refused = spillway.send(&asking_for(500));
    assert_eq!((refused.status(), &*refused.at("/error/type")), (429, "tokens"));
    assert_eq!(provider.stats().started, 1);
}

#[test]
fn an_answer_that_used_more_than_was_reserved_is_paid_for_later() {
    let provider = Provider::start();
    let spillway = limited(&provider).start();
    provider.next(healthy().usage(400, 900));
    assert_eq!(spillway.send(&asking_for(10)).status(), 200);
    let available = spillway.upstream("openai")["limits"]["tokens_available"].as_i64().expect("a figure");
    assert!(available < 0, "{available} tokens are left");
    assert_eq!(spillway.send(&asking_for(1)).status(), 429);
}

#[test]
fn a_request_larger_than_the_limit_is_served_once_there_is_the_most_there_can_be() {
    let provider = Provider::start();
    let spillway = limited(&provider).start();
    assert_eq!(spillway.send(&asking_for(100_000)).status(), 200);
}

#[test]
fn a_provider_that_refuses_costs_nothing() {
    let provider = Provider::start();
    let spillway = limited(&provider).start();
    for _ in 0..3 {
        provider.next(respond(400).json(json!({"error": {"message": "no", "type": "invalid_request_error"}})));
        assert_eq!(spillway.send(&asking_for(500)).status(), 400);
    }
}

#[test]
fn the_limit_speaks_each_apis_language() {
    let provider = Provider::start();
    let setup = APIS.iter().fold(Setup::with(&provider), |setup, api| {
        setup.set(&format!("upstreams.{}.limits", api.name), "patience = \"0s\"\ntokens_per_minute = 60")
    });
    let spillway = setup.start();
    provider.always(healthy().usage(20, 10));
    for (api, pointer, word) in APIS
        .into_iter()
        .zip([
            ("/error/code", "rate_limit_exceeded"),
            ("/error/type", "rate_limit_error"),
            ("/error/status", "RESOURCE_EXHAUSTED"),
        ])
        .map(|(api, (pointer, word))| (api, pointer, word))
    {
        assert_eq!(spillway.send(&(api.whole)()).status(), 200);
        let refused = spillway.send(&(api.whole)());
        assert_eq!((refused.status(), &*refused.at(pointer)), (429, word), "{}", api.name);
        let wait_s: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a Retry-After");
        assert!((1..=30).contains(&wait_s), "{}: Retry-After: {wait_s}", api.name);
        let exact_ms: u64 = refused.header("retry-after-ms").and_then(|wait| wait.parse().ok()).expect("milliseconds");
        assert_eq!(exact_ms.div_ceil(1_000), wait_s, "{}", api.name);
        assert_eq!(spillway.circuit(api.name), "closed", "a limit is no failure");
    }
    assert_eq!(provider.stats().started, 3);
}

#[test]
fn requests_are_limited_by_their_number_too() {
    let provider = Provider::start();
    let spillway =
        Setup::with(&provider).set("upstreams.openai.limits", "patience = \"0s\"\nrequests_per_minute = 2").start();
    let answers: Vec<_> = (0..3).map(|_| spillway.send(&chat())).collect();
    assert_eq!(answers.iter().map(|answer| answer.status()).collect::<Vec<_>>(), [200, 200, 429]);
    assert_eq!((&*answers[2].at("/error/type"), &*answers[2].at("/error/code")), ("requests", "rate_limit_exceeded"));
    let wait_s: u64 = answers[2].header("retry-after").and_then(|wait| wait.parse().ok()).expect("a Retry-After");
    assert!((20..=30).contains(&wait_s), "Retry-After: {wait_s}");
    assert_eq!(provider.stats().started, 2);
}

#[test]
fn a_live_request_waits_for_tokens_as_long_as_its_patience_reaches() {
    let provider = Provider::start();
    // A hundred tokens a second; the first request leaves nothing.
    let spillway = Setup::with(&provider).set("upstreams.openai.limits", "tokens_per_minute = 6000").start();
    provider.next(healthy().usage(3_000, 3_000));
    assert_eq!(spillway.send(&asking_for(5_900)).status(), 200);
    let answer = spillway.send(&asking_for(20));
    assert_eq!(answer.status(), 200);
    let line = spillway.log().wait_for(&["\"request\"", "waited", "for the limit"]);
    assert!(line["duration_ms"].as_u64().is_some_and(|ms| (100..5_000).contains(&ms)), "{line}");
    // Half a minute's worth cannot be there in time, so nobody is let wait for it.
    let began = Instant::now();
    let refused = spillway.send(&asking_for(4_000));
    assert_eq!(refused.status(), 429);
    assert!(began.elapsed().as_secs() < 5, "it was told after {:?}", began.elapsed());
    let wait_s: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a Retry-After");
    assert!((30..=41).contains(&wait_s), "Retry-After: {wait_s}");
}

#[test]
fn a_provider_that_reports_that_nothing_is_left_is_not_asked_again() {
    let provider = Provider::start();
    let spillway = limited(&provider).start();
    provider.next(
        healthy()
            .usage(5, 5)
            .header("x-ratelimit-limit-tokens", "600")
            .header("x-ratelimit-remaining-tokens", "0")
            .header("x-ratelimit-reset-tokens", "1m0s"),
    );
    assert_eq!(spillway.send(&asking_for(10)).status(), 200);
    let refused = spillway.send(&asking_for(100));
    assert_eq!((refused.status(), &*refused.at("/error/type")), (429, "tokens"));
    assert_eq!(provider.stats().started, 1);
}

/// What a minute of a small account holds.
const ACCOUNT: u64 = 90_000;

const PNG_OF_1024_BY_1024: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x04\0\0\0\x04\0";

/// Both a text that is counted on the worker and one that is not. A word is a token here, which no estimate knows: by
/// its bytes it is more.
#[test]
fn where_a_tokeniser_is_named_texts_count_to_the_token_in_every_api() {
    let provider = Provider::start();
    let words = |count: usize| vec!["hello"; count].join(" ");
    for count in [100, 3_000] {
        // Beside the words: what frames a message and opens the answer, and one token that may be answered.
        let guards = format!("max_tokens_per_request = {}", count + 4 + 3 + 1);
        let mut setup = Setup::with(&provider).set("guards", &guards);
        for upstream in ["openai", "anthropic", "gemini"] {
            setup = setup.set(&format!("upstreams.{upstream}.limits"), "tokenizer = \"o200k\"");
        }
        let spillway = setup.start();
        let ask = |count: usize| {
            let text = words(count);
            [
                chat_with(json!({"max_tokens": 1, "messages": [{"role": "user", "content": text}]})),
                post(
                    "/v1/messages",
                    &json!({"model": "mock-claude", "max_tokens": 1, "messages": [{"role": "user", "content": text}]}),
                )
                .header("x-api-key", "key"),
                post(
                    "/v1beta/models/mock-gemini:generateContent",
                    &json!({"generationConfig": {"maxOutputTokens": 1}, "contents": [{"role": "user", "parts": [{"text": text}]}]}),
                )
                .header("x-goog-api-key", "key"),
            ]
        };
        for (fits, too_long) in ask(count).iter().zip(&ask(count + 1)) {
            let answer = spillway.send(fits);
            assert_eq!(answer.status(), 200, "{count} words: {}", answer.text());
            assert_eq!(
                spillway.send(too_long).refusal(),
                Some("spillway_guard_max_tokens_per_request"),
                "{count} words"
            );
        }
    }
}

/// More than is counted at once, by the bytes of its text.
#[test]
fn a_prompt_that_is_too_much_to_be_counted_goes_by_its_estimate_and_that_is_told() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.openai.limits", "tokenizer = \"o200k\"").start();
    let prompts =
        |size: &str| spillway.metric(&format!("spillway_prompts_total{{upstream=\"openai\",size=\"{size}\"}}"));
    for (bytes, expected) in [(10, (1.0, 0.0)), (10_000, (2.0, 0.0)), (9 << 20, (2.0, 1.0))] {
        let text = "a ".repeat(bytes / 2);
        let answer = spillway.send(&chat_with(json!({"messages": [{"role": "user", "content": text}]})));
        assert_eq!(answer.status(), 200, "{bytes}: {}", answer.text());
        assert_eq!((prompts("counted"), prompts("estimated")), expected, "{bytes}");
    }
}

/// In every API, an image of about 1,100 tokens and a million bytes.
fn images() -> [(&'static str, Request); 3] {
    let data = BASE64_STANDARD.encode([PNG_OF_1024_BY_1024, &vec![7; 1_000_000]].concat());
    let url = json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}});
    let source = json!({"type": "base64", "media_type": "image/png", "data": data});
    let part = json!({"inlineData": {"mimeType": "image/png", "data": data}});
    let user = |content| json!([{"role": "user", "content": [content]}]);
    let image = json!({"type": "image", "source": source});
    let stream = "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse";
    let chat = json!({"model": "gpt-4o", "max_tokens": 100, "stream": true, "messages": user(url)});
    let message = json!({"model": "claude-sonnet-4-6", "max_tokens": 100, "stream": true, "messages": user(image)});
    let contents = json!({"contents": [{"parts": [part]}], "generationConfig": {"maxOutputTokens": 100}});
    [
        ("openai", post("/v1/chat/completions", &chat)),
        ("anthropic", post("/v1/messages", &message).header("anthropic-version", "2023-06-01")),
        ("gemini", post(stream, &contents).header("x-goog-api-key", "k")),
    ]
}

fn accounts(provider: &Provider) -> Setup {
    let limits = format!("patience = \"0s\"\ntokens_per_minute = {ACCOUNT}");
    APIS.iter().fold(Setup::with(provider), |setup, api| setup.set(&format!("upstreams.{}.limits", api.name), &limits))
}

#[test]
fn an_image_takes_from_the_limit_what_it_shows_and_not_what_it_weighs() {
    let provider = Provider::start();
    let spillway = accounts(&provider).start();
    thread::scope(|scope| {
        for (upstream, request) in images() {
            let gate = provider.gate();
            provider.always(healthy().usage(1_200, 50).hold_head(&gate));
            let (asked, spillway) = (provider.stats().started, &spillway);
            let image = scope.spawn(move || spillway.send(&request).status());
            provider.wait_until(|stats| stats.started > asked);
            let left = spillway.upstream(upstream)["limits"]["tokens_available"].as_u64().expect("not in debt");
            assert!((ACCOUNT - 3_000..ACCOUNT - 500).contains(&left), "{upstream}: {left} of {ACCOUNT} are left");
            gate.open();
            assert_eq!(image.join().expect("answered"), 200, "{upstream}");
        }
    });
}

#[test]
fn an_image_whose_caller_leaves_half_way_does_not_take_the_others_limit_along() {
    let provider = Provider::start();
    let spillway = accounts(&provider).start();
    for (api, (upstream, request)) in APIS.into_iter().zip(images()) {
        assert_eq!(api.name, upstream);
        provider.always(healthy().usage(1_200, 50).after_events(2).stall());
        let (head, mut answer) = spillway.open(&request);
        assert_eq!(head.status, 200, "{upstream}");
        answer.event().expect("an event").expect("an event");
        drop(answer);
        provider.wait_for_disconnect();
        eventually("it is settled", || (spillway.status()["in_flight"] == 0).then_some(()));
        let left = spillway.upstream(upstream)["limits"]["tokens_available"].as_u64().expect("not in debt");
        assert!(left > ACCOUNT - 3_000, "{upstream}: {left} of {ACCOUNT} are left");
        provider.always(healthy());
        assert_eq!(spillway.send(&(api.whole)()).status(), 200, "{upstream}: others are served");
    }
}
