use super::*;
use http::{HeaderName, HeaderValue};
use std::collections::HashSet;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GENERATE: &str = "/v1beta/models/g:generateContent";

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn of(dialect: Dialect, path: &str, body: &str) -> Option<[u8; 32]> {
    conversation(dialect, path, &HeaderMap::new(), body.as_bytes())
}

#[test]
fn what_says_most_about_a_conversation_tells_it() {
    let session = headers(&[("session-id", "s")]);
    let key = r#""prompt_cache_key":"k","#;
    let user = r#""metadata":{"user_id":"u"},"#;
    let id = r#""conversation":{"id":"conv_1"},"#;
    let body = |parts: &[&str], first: &str| format!(r#"{{{}"instructions":"i","input":"{first}"}}"#, parts.concat());
    let of = |headers: &HeaderMap, body: &str| conversation(Dialect::OpenAi, RESPONSES, headers, body.as_bytes());
    let none = HeaderMap::new();

    let told = [
        of(&none, &body(&[key, user, id], "a")),
        of(&session, &body(&[user, id], "a")),
        of(&none, &body(&[user, id], "a")),
        of(&none, &body(&[id], "a")),
        of(&none, &body(&[], "a")),
    ];
    assert!(told.iter().all(Option::is_some));
    assert_eq!(HashSet::from(told).len(), told.len());
    // Nothing else is asked where something says more.
    assert_eq!(told[0], of(&session, &body(&[id, key], "b")));
    assert_eq!(told[1], of(&session, "no JSON"));
    assert_eq!(told[2], of(&none, &body(&[user], "b")));
    assert_eq!(told[3], of(&none, &body(&[r#""conversation":"conv_1","#], "b")));
    assert_ne!(told[4], of(&none, &body(&[], "b")));
}

#[test]
fn a_word_of_one_kind_is_not_anothers() {
    let words = [
        of(Dialect::OpenAi, CHAT, r#"{"prompt_cache_key":"w"}"#),
        of(Dialect::OpenAi, CHAT, r#"{"metadata":{"user_id":"w"}}"#),
        of(Dialect::OpenAi, CHAT, r#"{"conversation":"w"}"#),
        conversation(Dialect::OpenAi, CHAT, &headers(&[("x-session-id", "\"w\"")]), b""),
    ];
    assert!(words.iter().all(Option::is_some));
    assert_eq!(HashSet::from(words).len(), words.len());
}

#[test]
fn every_client_that_names_its_session_is_understood() {
    let mut told = HashSet::new();
    for name in SESSION_HEADERS {
        let of = |value| conversation(Dialect::Other, "/", &headers(&[(name, value)]), b"");
        assert!(of("one").is_some() && of("one") != of("two"), "{name}");
        assert_eq!(of(""), None, "{name}");
        told.insert(of("one"));
    }
    // A client that changes the name of its header keeps its conversations.
    assert_eq!(told.len(), 1);
}

#[test]
fn each_turn_of_a_conversation_has_its_hash_and_no_other_conversation_does() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    // The first turn, a later one, and the first turn of others.
    let cases: &[(Dialect, &str, &str, &str, &[&str])] = &[
        (
            OpenAi,
            CHAT,
            r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"a"}],"tools":[{"x":1}]}"#,
            r#"{ "tools": [ { "x": 1 } ], "messages": [{"role":"system","content":"s"}, {"content": "a", "role":"user"},
                {"role":"assistant","content":"b"},{"role":"user","content":"c"}], "temperature": 1 }"#,
            &[
                r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"b"}],"tools":[{"x":1}]}"#,
                r#"{"messages":[{"role":"system","content":"t"},{"role":"user","content":"a"}],"tools":[{"x":1}]}"#,
                r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"}],"tools":[{"x":2}]}"#,
                r#"{"messages":[{"role":"user","content":"s"},{"role":"user","content":"a"}],"tools":[{"x":1}]}"#,
            ],
        ),
        (
            OpenAi,
            RESPONSES,
            r#"{"instructions":"i","input":"a"}"#,
            r#"{"input":[{"type":"message","role":"user","content":"a"},{"role":"assistant","content":"b"}],"instructions":"i"}"#,
            &[r#"{"instructions":"j","input":"a"}"#, r#"{"instructions":"i","input":"b"}"#],
        ),
        (
            Anthropic,
            MESSAGES,
            r#"{"system":"s","messages":[{"role":"user","content":"a"}]}"#,
            r#"{"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],
                "messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":"b"},
                {"role":"user","content":[{"type":"text","text":"c","cache_control":{"type":"ephemeral"}}]}]}"#,
            &[r#"{"system":"s","messages":[{"role":"user","content":"b"}]}"#],
        ),
        (
            Anthropic,
            MESSAGES,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b","cache_control":{"type":"ephemeral"}}]}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":"c"}]}"#,
            &[r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"c"}]}]}"#],
        ),
        (
            Gemini,
            GENERATE,
            r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"parts":[{"text":"a"}]}]}"#,
            r#"{"contents":[{"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[{"text":"b"}]}],"system_instruction":{"parts":[{"text":"s"}]}}"#,
            &[
                r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"parts":[{"text":"b"}]}]}"#,
                r#"{"systemInstruction":{"parts":[{"text":"s"}]},"cachedContent":"c","contents":[{"parts":[{"text":"a"}]}]}"#,
            ],
        ),
    ];
    for (dialect, path, first, later, others) in cases {
        let told = of(*dialect, path, first);
        assert!(told.is_some(), "{first}");
        assert_eq!(told, of(*dialect, path, later), "{first}\n{later}");
        for other in *others {
            assert_ne!(told, of(*dialect, path, other), "{first}\n{other}");
        }
    }
}

#[test]
fn what_has_no_beginning_is_no_conversation() {
    for (dialect, path, body) in [
        (Dialect::OpenAi, CHAT, "no JSON"),
        (Dialect::OpenAi, CHAT, "{}"),
        (Dialect::OpenAi, CHAT, r#"{"prompt_cache_key":"","metadata":{"user_id":null},"conversation":null}"#),
        (Dialect::OpenAi, CHAT, r#"{"messages":[{"role":"system","content":"s"}]}"#),
        (Dialect::OpenAi, "/v1/embeddings", r#"{"input":"a"}"#),
        (Dialect::OpenAi, "/v1/embeddings", r#"{"input":["a","b"]}"#),
        (Dialect::Anthropic, MESSAGES, r#"{"messages":[]}"#),
        (Dialect::Other, CHAT, r#"{"prompt_cache_key":"k","messages":[{"role":"user","content":"a"}]}"#),
    ] {
        assert_eq!(of(dialect, path, body), None, "{path} {body}");
    }
}

/// What tells a request from others, and a hash of what it asks for.
fn told_of(dialect: Dialect, path: &str, headers: &HeaderMap, body: &str) -> (Told, u64) {
    let mut asked = std::hash::DefaultHasher::new();
    let told = told(dialect, path, headers, body.as_bytes(), true, Some(&mut asked));
    (told, asked.finish())
}

#[test]
fn a_growing_conversation_has_one_beginning_and_says_more_each_time() {
    let turns = |count: usize, of: &dyn Fn(&str, usize) -> String| -> String {
        (0..count).map(|turn| of(if turn % 2 == 0 { "user" } else { "assistant" }, turn)).collect::<Vec<_>>().join(",")
    };
    let message = |role: &str, turn: usize| format!(r#"{{"role":"{role}","content":"turn {turn}"}}"#);
    let content = |role: &str, turn: usize| {
        let role = if role == "user" { role } else { "model" };
        format!(r#"{{"role":"{role}","parts":[{{"text":"turn {turn}"}}]}}"#)
    };
    let none = HeaderMap::new();
    for (dialect, path, key, of) in [
        (Dialect::OpenAi, CHAT, "messages", &message as &dyn Fn(&str, usize) -> String),
        (Dialect::OpenAi, RESPONSES, "input", &message),
        (Dialect::Anthropic, MESSAGES, "messages", &message),
        (Dialect::Gemini, GENERATE, "contents", &content),
    ] {
        let body = |count| format!(r#"{{"model":"m","tools":[],"{key}":[{}]}}"#, turns(count, of));
        let all: Vec<(Told, u64)> = (1..6).map(|count| told_of(dialect, path, &none, &body(count))).collect();
        let begun: Vec<_> = all.iter().filter_map(|(told, _)| told.begun).collect();
        assert_eq!(begun.len(), all.len(), "{path}");
        assert!(begun.windows(2).all(|two| two[0].0 == two[1].0 && two[0].1 < two[1].1), "{path}");
        assert!(all.iter().all(|(told, _)| told.named.is_none()), "{path}");
        let asked: HashSet<u64> = all.iter().map(|(_, asked)| *asked).collect();
        assert_eq!(asked.len(), all.len(), "{path}");
    }
}

#[test]
fn what_only_a_client_names_alone_tells_a_conversation_and_not_what_many_share() {
    let none = HeaderMap::new();
    let of = |headers: &HeaderMap, more: &str| {
        told_of(Dialect::OpenAi, RESPONSES, headers, &format!(r#"{{{more}"input":"Say hello."}}"#)).0
    };
    let is_named = |told: Told| (told.named.is_some(), told.begun.is_some());
    assert_eq!(is_named(of(&headers(&[("x-spillway-conversation", "one")]), "")), (true, false));
    assert_eq!(is_named(of(&headers(&[("x-claude-code-session-id", "one")]), "")), (true, false));
    assert_eq!(is_named(of(&none, r#""conversation":"conv_1","#)), (true, false));
    assert_eq!(is_named(of(&none, r#""metadata":{"user_id":"user_1_account__session_2"},"#)), (true, false));
    // A person, and a prefix, have many conversations.
    assert_eq!(is_named(of(&none, r#""metadata":{"user_id":"jane"},"#)), (false, true));
    assert_eq!(is_named(of(&none, r#""prompt_cache_key":"k","#)), (false, true));
    // What was said before is not in the request.
    assert_eq!(is_named(of(&none, r#""previous_response_id":"resp_1","#)), (false, false));
    assert_eq!(is_named(of(&none, r#""previous_response_id":null,"#)), (false, true));
}

#[test]
fn the_same_is_asked_for_however_the_answer_comes_and_whoever_it_is_for() {
    let none = HeaderMap::new();
    let asked = |path: &str, body: &str| told_of(Dialect::OpenAi, path, &none, body).1;
    let plain = asked(CHAT, r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#);
    for same in [
        r#"{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true,"stream_options":{}}"#,
        r#"{"user":"jane","model":"m","metadata":{"trace":"1"},"messages":[{"role":"user","content":"a"}]}"#,
    ] {
        assert_eq!(asked(CHAT, same), plain, "{same}");
    }
    for other in [
        r#"{"model":"n","messages":[{"role":"user","content":"a"}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"b"}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"a"}],"seed":2}"#,
        "no JSON",
    ] {
        assert_ne!(asked(CHAT, other), plain, "{other}");
    }
    assert_ne!(asked(GENERATE, "{}"), asked("/v1beta/models/h:generateContent", "{}"));
    assert_ne!(asked(CHAT, "no JSON"), asked(CHAT, "nor this"));
}
