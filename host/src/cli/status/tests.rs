use super::page::page;
use super::troubles::troubles;
use crate::admin::status::Status;
use serde_json::{Value, json};

/// A page without its styles.
fn read(status: &Value, columns: usize) -> String {
    let status: Status = serde_json::from_value(status.clone()).expect("a status");
    anstream::adapter::strip_str(&page(&status, columns)).to_string()
}

fn well() -> Value {
    json!({
        "version": "0.1.0", "uptime_ms": 192_400, "in_flight": 2, "listen": "127.0.0.1:4141",
        "upstreams": [
            {"name": "anthropic", "breakers": [{"scope": "upstream", "state": "closed", "mode": "normal"}]},
            {
                "name": "openai", "breakers": [{"scope": "upstream", "state": "closed", "mode": "normal"}],
                "limits": {"requests_available": 480, "tokens_available": -7, "in_flight": 2, "max_in_flight": 8},
                "reserved": [{"group": "search", "places": 4, "in_flight": 1}, {"group": "chat", "places": 1}],
            },
        ],
        "routes": [{"name": "chat", "targets": [
            {"target": "openai/gpt-5", "rank": 0, "served_share": 0.97, "key": "OPENAI_API_KEY"},
            {"target": "anthropic", "rank": 1, "served_share": 1.0},
        ]}],
        "policies": [
            {"name": "default", "source": "built-in", "state": "serving"},
            {"name": "mine", "source": "module", "state": "serving", "sha256": "1a2b3c4d5e6f7a8b"},
        ],
        "queue": {"queued": 3, "oldest_queued_age_ms": 11_000, "running": 1, "done": 40},
    })
}

fn unwell() -> Value {
    let mut status = well();
    status["now_unix_ms"] = json!(100_000);
    status["upstreams"][1]["breakers"] = json!([
        {"scope": "upstream", "state": "closed", "mode": "normal",
         "window": {"length_ms": 30_000, "requests": 20, "failures": 12, "consecutive_failures": 10}},
        {"scope": "model gpt-5", "state": "open", "mode": "normal", "cause": "a probe failed", "probe_possible_in_ms": 640,
         "open_for_ms": 12_300, "opened_because": "none of the last 10 requests was served",
         "said": {"status": 503, "message": "The server is overloaded"}},
    ]);
    status["upstreams"][1]["pacing"] =
        json!([{"scope": "model gpt-5-mini", "calls_per_second": 1.25, "paused_for_ms": 900, "waiting": 6}]);
    status["policies"][1]["quarantined_after"] = json!("5 faults in a row");
    status["policies"][1]["last_fault"] = json!("it trapped: unreachable");
    status["queue"]["troubles"] = json!(["the disk is full: nothing can be promised"]);
    status["refusals"] = json!([
        {"times": 34, "last_at_unix_ms": 99_800, "code": "spillway_circuit_open", "status": 503, "upstream": "openai",
         "model": "gpt-5", "message": "Spillway did not call openai for this model gpt-5: its circuit is open (a probe failed). Try again in 0.6 s."},
        {"times": 1, "last_at_unix_ms": 40_000, "code": "spillway_no_such_route", "status": 404, "upstream": "",
         "message": "No upstream serves /nowhere."},
    ]);
    status
}

#[test]
fn what_is_well_takes_a_line() {
    let expected = "\
Spillway 0.1.0 serves at 127.0.0.1:4141, for 3 min 12 s; 2 requests in flight

As it should be
 upstreams      anthropic, openai
 limits         openai: 480 requests and 0 tokens left; 2 calls of 8 in flight
 reserved       openai: search has 1 in flight, and 4 places reserved; chat has
                0 in flight, and 1 place reserved
 route          chat: openai/gpt-5 with OPENAI_API_KEY (97 % served), then
                anthropic (100 % served)
 queue          3 jobs waiting, the oldest for 11 s, 1 being served, 40 done
 policies       default (built-in), mine (1a2b3c4d)
 configuration  none: it runs by the defaults
 refusals       none since it runs
";
    assert_eq!(read(&well(), 80), expected);
    let wide = read(&well(), 200);
    assert!(
        wide.contains("chat: openai/gpt-5 with OPENAI_API_KEY (97 % served), then anthropic (100 % served)\n"),
        "{wide}"
    );
}

#[test]
fn what_is_not_well_comes_first_with_its_reason_and_what_comes_next() {
    let expected = "\
Spillway 0.1.0 serves at 127.0.0.1:4141, for 3 min 12 s; 2 requests in flight

To be looked at
 openai, model gpt-5       circuit open for 12 s: none of the last 10 requests
                           was served; last said: 503 \"The server is
                           overloaded\"; next call in 0.6 s
 queue                     the disk is full: nothing can be promised
 policy mine               is not asked for now, after 5 faults in a row: the
                           built-in policy judges in its place; its last fault:
                           it trapped: unreachable
 openai, model gpt-5-mini  has said that it is too much; calls go out at 1.25 a
                           second; the next in 0.9 s; 6 requests wait for their
                           turn

As it should be
 upstreams      anthropic
 limits         openai: 480 requests and 0 tokens left; 2 calls of 8 in flight
 reserved       openai: search has 1 in flight, and 4 places reserved; chat has
                0 in flight, and 1 place reserved
 route          chat: openai/gpt-5 with OPENAI_API_KEY (circuit open), then
                anthropic (100 % served)
 queue          3 jobs waiting, the oldest for 11 s, 1 being served, 40 done
 policies       default (built-in)
 configuration  none: it runs by the defaults

Refused of late
 0.2 s ago  503 spillway_circuit_open, openai, model gpt-5: 34 times
            Spillway did not call openai for this model gpt-5: its circuit is
            open (a probe failed). Try again in 0.6 s.
 1 min ago  404 spillway_no_such_route, once
            No upstream serves /nowhere.
";
    assert_eq!(read(&unwell(), 80), expected);
    let wide = read(&unwell(), 200);
    let circuit = " openai, model gpt-5       circuit open for 12 s: none of the last 10 requests was served; last said: 503 \
                   \"The server is overloaded\"; next call in 0.6 s\n";
    assert!(wide.contains(circuit), "{wide}");
}

/// What the status says of one upstream's circuits, by name.
fn circuits(breakers: &Value) -> Vec<(String, String)> {
    let mut status = well();
    status["upstreams"][1]["breakers"] = breakers.clone();
    let status: Status = serde_json::from_value(status).expect("a status");
    troubles(&status).into_iter().map(|trouble| (trouble.of, trouble.said)).collect()
}

#[test]
fn of_circuits_the_one_is_told_that_says_most() {
    let window = |failures: u32, in_a_row: u32| json!({"length_ms": 30_000, "requests": 20, "failures": failures, "consecutive_failures": in_a_row});
    let closed = |scope: &str, failures, in_a_row| json!({"scope": scope, "state": "closed", "mode": "normal", "window": window(failures, in_a_row)});
    let open = |scope: &str| json!({"scope": scope, "state": "open", "mode": "normal", "cause": "a call failed", "probe_possible_in_ms": 0});
    let is = |of: &str, said: &str| (of.to_owned(), said.to_owned());
    let failing = "calls go out, and 12 of 20 calls failed within 30 s, the last 4 in a row";
    let opened = "circuit open: a call failed; next call as soon as a request comes";
    // A single failure among many is everyday.
    assert_eq!(circuits(&json!([closed("upstream", 1, 1)])), []);
    assert_eq!(circuits(&json!([closed("upstream", 12, 4)])), [is("openai", failing)]);
    let parts =
        json!([closed("upstream", 12, 4), closed("model m", 12, 4), closed("model m of credential c70d", 12, 4)]);
    assert_eq!(circuits(&parts), [is("openai, model m", failing)]);
    let parts = json!([closed("upstream", 12, 4), open("model m"), open("model m of credential c70d")]);
    assert_eq!(circuits(&parts), [is("openai, model m", opened)]);
    let parts = json!([open("upstream"), closed("model m", 12, 4), open("model m of credential c70d")]);
    let told = [is("openai", opened), is("openai, model m of credential c70d", opened), is("openai, model m", failing)];
    assert_eq!(circuits(&parts), told);
    let recovered = "calls go out, and 12 of 20 calls failed within 30 s; the last one was served";
    assert_eq!(circuits(&json!([closed("upstream", 12, 0)])), [is("openai", recovered)]);
    let probing = json!([{"scope": "upstream", "state": "half-open", "mode": "normal", "cause": "a call failed"}]);
    assert_eq!(circuits(&probing), [is("openai", "circuit open: a call failed; a call is under way to see")]);
    let held = json!([{"scope": "upstream", "state": "open", "mode": "forced open"}]);
    assert_eq!(circuits(&held), [is("openai", "circuit held open by an operator: no calls go out")]);
}

#[test]
fn policies_that_do_not_judge_as_they_should_are_told_with_what_judges_instead() {
    let told = |policy: Value| {
        let status: Status = serde_json::from_value(json!({"policies": [policy]})).expect("a status");
        troubles(&status).into_iter().map(|trouble| trouble.said).collect::<Vec<_>>()
    };
    let hash = "1a2b3c4d5e6f7a8b";
    let rejected = json!({"reason": "the file is no WebAssembly"});
    let of_file = "its last file does not serve, what served before goes on: the file is no WebAssembly";
    for (policy, said) in [
        (json!({"name": "default"}), vec![]),
        (json!({"name": "mine", "sha256": hash, "calls": 9}), vec![]),
        (json!({"name": "mine"}), vec!["has no file: the built-in policy judges until it appears"]),
        (json!({"name": "mine", "rejected": rejected}), vec![of_file]),
        (
            json!({"name": "mine", "sha256": hash, "calls": 9, "faults": 2, "last_fault": "it trapped"}),
            vec!["gave no answer 2 of 9 times; its last fault: it trapped"],
        ),
        (
            json!({"name": "mine", "sha256": hash, "shadow": {"rejected": rejected}}),
            vec!["its candidate was not loaded: the file is no WebAssembly"],
        ),
        (
            json!({"name": "mine", "sha256": hash, "shadow": {"quarantined_after": "5 faults in a row"}}),
            vec!["its candidate is not asked for now, after 5 faults in a row"],
        ),
    ] {
        assert_eq!(told(policy.clone()), said, "{policy}");
    }
}

#[test]
fn a_queue_that_cannot_be_counted_and_an_end_that_has_begun_are_told() {
    let mut status = well();
    status["draining"] = json!(true);
    status["queue"] = json!({"error": "its disk does not answer", "troubles": ["nothing can be kept"]});
    let page = read(&status, 200);
    for said in [
        " queue     its jobs cannot be counted: its disk does not answer\n queue     nothing can be kept\n",
        " Spillway  is ending: it takes nothing new, 2 requests under way\n",
    ] {
        assert!(page.contains(said), "{page}");
    }
    status["queue"] = Value::Null;
    assert!(read(&status, 200).contains("queue          off: what cannot be served is not kept"));
}

#[test]
fn what_others_have_named_is_obeyed_by_no_terminal() {
    let mut status = unwell();
    status["refusals"][0]["message"] = json!("first\nsecond \u{1b}[2J");
    status["upstreams"][1]["breakers"][1]["scope"] = json!("model \u{1b}]0;title\u{7}");
    let status: Status = serde_json::from_value(status).expect("a status");
    let page = page(&status, 80);
    let escapes = page.match_indices('\u{1b}').filter(|(at, _)| !page[at + 1..].starts_with('['));
    assert_eq!(escapes.count(), 0, "{page:?}");
    assert!(!page.contains("\u{1b}[2J") && !page.contains('\u{7}'), "{page:?}");
}
