//! However a recorded stream arrives, and whatever becomes of its connection behind it: the same bytes, the same usage, the
//! same verdict, in one call.
#![allow(clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use spillway_tests::asks::{APIS, Api};
use spillway_tests::chance::Chance;
use spillway_tests::http::{Connection, Request, post};
use spillway_tests::provider::{Provider, Reply, healthy, in_pieces};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::io::Write;
use std::thread;

/// Streams of each API, in this many ways each.
const WAYS: usize = 60;
/// Most pieces that a stream comes in.
const PIECES_MAX: usize = 8;
/// What may follow a whole answer, or be left unsaid for long.
const ENDINGS: [fn(Reply) -> Reply; 6] = [
    |whole| whole,
    Reply::cut,
    Reply::reset,
    |whole| whole.chunk("\n: bye\n\n"),
    |whole| whole.chunk("data: {\"choi").cut(),
    |whole| whole.chunk("data: [DONE]\n\n").reset(),
];

/// Chat, messages, Gemini's, and Responses, which OpenAI serves too.
fn streams() -> [(Api, Request); 4] {
    let [openai, anthropic, gemini] = APIS;
    let responses = post("/v1/responses", &json!({"model": "mock-small", "input": "Say hello.", "stream": true}));
    let chat = post(
        "/v1/chat/completions",
        &json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "messages": []}),
    );
    [(openai, chat), (anthropic, (anthropic.stream)()), (gemini, (gemini.stream)()), (openai, responses)]
}

/// A stream as it was recorded, and how its head describes it.
struct Recorded {
    api: Api,
    request: Request,
    head: Reply,
    stream: Vec<u8>,
}

/// Those of all APIs, in plain and compressed, and Ollama's, which any upstream may speak.
fn all_recorded(provider: &Provider) -> Vec<Recorded> {
    let events = || in_pieces("text/event-stream");
    let plain: Vec<(Api, Request, Vec<u8>)> =
        streams().into_iter().map(|(api, request)| (api, request.clone(), recorded(provider, &request))).collect();
    let compressed = plain.iter().map(|(api, request, stream)| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Flushed here and there, as servers do that stream.
        for part in stream.chunks(150) {
            encoder.write_all(part).and_then(|()| encoder.flush()).expect("memory");
        }
        let request = request.clone().header("accept-encoding", "gzip");
        let stream = encoder.finish().expect("memory");
        Recorded { api: *api, request, head: events().header("content-encoding", "gzip"), stream }
    });
    let line = |text: &str| json!({"model": "m", "message": {"content": text}, "done": false}).to_string() + "\n";
    let last = json!({"model": "m", "done": true, "prompt_eval_count": 123, "eval_count": 45}).to_string() + "\n";
    let ollamas = Recorded {
        api: APIS[0],
        request: post("/openai/api/chat", &json!({"model": "m", "messages": []})),
        head: in_pieces("application/x-ndjson"),
        stream: [line("Hello"), line(" \u{e9}\n"), last].concat().into_bytes(),
    };
    let plain = plain.iter().map(|(api, request, stream)| Recorded {
        api: *api,
        request: request.clone(),
        head: events(),
        stream: stream.clone(),
    });
    plain.chain(compressed).chain([ollamas]).collect()
}

/// What the provider answers, as it comes directly.
fn recorded(provider: &Provider, request: &Request) -> Vec<u8> {
    provider.next(healthy().usage(123, 45));
    let mut connection = Connection::open(provider.address()).expect("a connection");
    connection.send(request).expect("sent");
    assert_eq!(connection.head().expect("a head").status, 200);
    connection.body().expect("whole")
}

/// The stream behind its head, in pieces as chance will have it.
fn split(head: Reply, stream: &[u8], chance: &mut Chance) -> Reply {
    let mut cuts: Vec<usize> = (0..chance.below(PIECES_MAX)).map(|_| chance.below(stream.len())).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    let pieces = cuts.windows(2).map(|pair| stream[pair[0]..pair[1]].to_vec());
    pieces.fold(head, Reply::chunk)
}

/// Tokens counted so far, and failures.
fn counted(spillway: &Spillway, api: Api) -> (f64, f64, serde_json::Value) {
    let tokens = |direction: &str| {
        spillway.metric(&format!("spillway_tokens_total{{upstream=\"{}\",direction=\"{direction}\"}}", api.name))
    };
    (tokens("input"), tokens("output"), spillway.upstream(api.name)["breakers"][0]["window"]["failures"].clone())
}

#[test]
fn a_stream_is_the_same_however_it_is_cut_and_whatever_follows_it() {
    let source = Provider::start();
    thread::scope(|scope| {
        for (seed, Recorded { api, request, head, stream }) in (1..).zip(all_recorded(&source)) {
            scope.spawn(move || {
                let provider = Provider::start();
                let spillway = Setup::with(&provider).start();
                let mut chance = Chance::seeded(seed);
                for way in 0..WAYS {
                    let (input, output, failures) = counted(&spillway, api);
                    let started = provider.stats().started;
                    let reply = split(head.clone(), &stream, &mut chance);
                    provider.next(ENDINGS[way % ENDINGS.len()](reply));
                    let answer = spillway.open(&request).1.body().expect("a clean end");
                    assert!(answer.starts_with(&stream), "{}, {way}: {}", api.name, String::from_utf8_lossy(&answer));
                    assert!(!String::from_utf8_lossy(&answer).contains("spillway"), "{}, {way}", api.name);
                    eventually("its tokens are counted", || {
                        (counted(&spillway, api) == (input + 123.0, output + 45.0, failures.clone())).then_some(())
                    });
                    assert_eq!(provider.stats().started, started + 1, "{}, {way}", api.name);
                }
                assert_eq!(counted(&spillway, api).2, json!(0), "{}", api.name);
            });
        }
    });
}

#[test]
fn a_stream_that_breaks_before_its_end_is_passed_on_as_far_as_it_came_and_fails_once() {
    thread::scope(|scope| {
        for (seed, (api, request)) in (9..).zip(streams()) {
            scope.spawn(move || {
                let provider = Provider::start();
                let breaker = format!("upstreams.{}.breaker", api.name);
                let spillway = Setup::with(&provider).set(&breaker, "watch_only = true").start();
                let stream = recorded(&provider, &request);
                let text = String::from_utf8(stream).expect("text");
                // From the first word of the answer on it is committed, up to the event that ends it.
                let words = ["text_delta", "output_text.delta", "\"content\":\"", "\"text\":\""];
                let begins = words.iter().find_map(|word| text.find(word)).expect("a word");
                let ends = ["\"finish_reason\":\"", "message_delta", "\"finishReason\"", "response.completed"];
                let ends = ends.iter().filter_map(|end| text.find(end)).min().expect("an end");
                let event = |at: usize| text[at..].find("\n\n").map_or(text.len(), |length| at + length + 2);
                let (first, last) = (event(begins), text[..ends].rfind("\n\n").expect("an event") + 2);
                let mut chance = Chance::seeded(seed);
                for way in 0..WAYS {
                    let before = counted(&spillway, api).2.as_u64().expect("a count");
                    let started = provider.stats().started;
                    let part = &text[..first + chance.below(last - first)];
                    provider.next(split(in_pieces("text/event-stream"), part.as_bytes(), &mut chance).cut());
                    let mut answer = spillway.open(&request).1;
                    let mut arrived = Vec::new();
                    let broken = loop {
                        match answer.piece() {
                            Ok(Some(piece)) => arrived.extend(piece),
                            end => break end,
                        }
                    };
                    let arrived = String::from_utf8(arrived).expect("text");
                    let (passed_on, said) = arrived.split_at(arrived.rfind("data:").expect("an event of ours"));
                    assert!(broken.is_err() && said.contains("spillway_stream_cut"), "{}, {way}: {said}", api.name);
                    let passed_on = passed_on.trim_end_matches("event: error\n");
                    assert!(passed_on.starts_with(&text[..first]), "{}, {way}: {passed_on}", api.name);
                    assert!(part.starts_with(passed_on.trim_end()), "{}, {way}: {passed_on}", api.name);
                    eventually("its failure is counted", || {
                        (counted(&spillway, api).2 == json!(before + 1)).then_some(())
                    });
                    assert_eq!(provider.stats().started, started + 1, "{}, {way}", api.name);
                }
            });
        }
    });
}
