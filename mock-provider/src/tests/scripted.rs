//! Scripts in JSON, and what healthy answers are made to hold by them.

use super::*;

/// Has the provider follow this script.
fn follow(provider: &Provider, script: Value) {
    let (status, answer) = ask_json(provider, "/_control/script", script);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_script_in_json_is_followed() {
    let provider = Provider::start();
    follow(
        &provider,
        json!({
            "replies": [
                {"behave": "rate-limit?retry_after_s=7"},
                {"status": 502, "headers": {"content-type": "text/html"}, "body": "<html>"},
                {"status": 200, "body_base64": "AAEC"},
            ],
            "then": {"healthy": {"text": "Well.", "usage": [3, 1]}},
            "only": {"path": "/chat", "model": "m"},
        }),
    );
    let m = json!({"model": "m"});
    assert_eq!(ask(&provider, CHAT, m.clone()).0, 429);
    // Others are answered well, and use nothing up.
    assert_eq!(ask(&provider, CHAT, json!({"model": "other"})).0, 200);
    assert_eq!(ask(&provider, "/v1/messages", m.clone()).0, 200);
    assert_eq!(ask(&provider, CHAT, m.clone()), (502, "<html>".to_owned()));
    assert_eq!(ask(&provider, CHAT, m.clone()), (200, "\u{0}\u{1}\u{2}".to_owned()));
    for _ in 0..2 {
        let (_, answer) = ask_json(&provider, CHAT, m.clone());
        assert_eq!(answer["choices"][0]["message"]["content"], "Well.");
        assert_eq!(answer["usage"]["prompt_tokens"], 3);
    }
    let (_, requests) = ask_json_by_get(&provider, "/_control/requests");
    let models: Vec<&str> =
        requests.as_array().unwrap().iter().filter_map(|request| request["model"].as_str()).collect();
    assert_eq!(models, ["m", "other", "m", "m", "m", "m", "m"]);
}

fn ask_json_by_get(provider: &Provider, path: &str) -> (u16, Value) {
    let mut client = Client::connect(provider);
    let head = format!("GET {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n");
    client.stream.write_all(head.as_bytes()).unwrap();
    let (received, ending) = client.read_to_end();
    ending.unwrap();
    let (_, body) = received.split_once("\r\n\r\n").unwrap();
    (received[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[test]
fn a_script_that_is_wrong_is_refused_and_changes_nothing() {
    let provider = Provider::start();
    provider.always(respond(503));
    for (script, named) in [
        (json!(null), "a script is a JSON object"),
        (json!({"reply": []}), "`reply` is not known"),
        (json!({"replies": 3}), "`replies` is a list"),
        (json!({"then": {"behave": "dance"}}), "dance"),
        (json!({"then": {"status": 99}}), "`status`"),
        (json!({"then": {"status": "200"}}), "`status`"),
        (json!({"then": {"headers": {"a b": "c"}}}), "is no HTTP header"),
        (json!({"then": {"body": "a", "body_base64": "YQ=="}}), "`body` or `body_base64`"),
        (json!({"then": {"body_base64": "?"}}), "`body_base64`"),
        (json!({"then": {"end": "explode"}}), "explode"),
        (json!({"then": {"healthy": {"usage": [1]}}}), "`usage`"),
        (json!({"then": {"healthy": {"tools": [{}]}}}), "`name`"),
        (json!({"then": {"healthy": {}, "end": "cut"}}), "`end` is not known here"),
        (json!({"then": {"before_head": "wait"}}), "wait"),
    ] {
        let (status, answer) = ask_json(&provider, "/_control/script", script.clone());
        assert_eq!(status, 400, "{script}");
        assert!(answer["error"].as_str().unwrap().contains(named), "{script}: {answer}");
    }
    assert_eq!(ask(&provider, CHAT, json!({})).0, 503);
}

#[test]
fn tools_are_called_in_every_api_whole_and_streamed() {
    let provider = Provider::start();
    let tool = json!({"name": "look", "arguments": {"where": "here"}});
    follow(&provider, json!({"then": {"healthy": {"tools": [tool]}}}));
    let arguments = r#"{"where":"here"}"#;

    let (_, chat) = ask_json(&provider, CHAT, json!({}));
    assert_eq!(chat["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(chat["choices"][0]["message"]["content"], Value::Null);
    assert_eq!(chat["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], arguments);
    let (_, stream) = ask(&provider, CHAT, json!({"stream": true}));
    let chunks = sse(&stream).into_iter().filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok());
    let deltas: Vec<Value> =
        chunks.map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"].clone()).collect();
    assert!(deltas.iter().any(|delta| delta["name"] == "look"), "{stream}");
    let streamed: String = deltas.iter().filter_map(|delta| delta["arguments"].as_str()).collect();
    assert_eq!(streamed, arguments);

    let (_, response) = ask_json(&provider, "/v1/responses", json!({}));
    assert_eq!(response["output"][0]["type"], "function_call");
    assert_eq!(response["output"][0]["arguments"], arguments);
    let (_, stream) = ask(&provider, "/v1/responses", json!({"stream": true}));
    let done = sse(&stream).into_iter().find(|(name, _)| *name == Some("response.function_call_arguments.done"));
    assert!(done.is_some_and(|(_, data)| data.contains("look")), "{stream}");

    let (_, message) = ask_json(&provider, "/v1/messages", json!({}));
    assert_eq!(
        (&message["stop_reason"], &message["content"][0]["input"]["where"]),
        (&json!("tool_use"), &json!("here"))
    );
    let (_, stream) = ask(&provider, "/v1/messages", json!({"stream": true}));
    let deltas = sse(&stream).into_iter().filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok());
    let partial: String =
        deltas.filter_map(|event| event["delta"]["partial_json"].as_str().map(str::to_owned)).collect();
    assert_eq!(partial, arguments);

    let (_, generated) = ask_json(&provider, "/v1beta/models/gemini-x:generateContent", json!({}));
    assert_eq!(generated["candidates"][0]["content"]["parts"][0]["functionCall"]["args"]["where"], "here");
    let (_, chunks) = ask_json(&provider, GEMINI_STREAM, json!({}));
    assert_eq!(chunks[0]["candidates"][0]["content"]["parts"][0]["functionCall"]["name"], "look");
    assert_eq!(chunks[0]["candidates"][0]["finishReason"], "STOP");
}

#[test]
fn a_tool_that_the_request_offers_is_called() {
    let provider = Provider::start();
    follow(&provider, json!({"then": {"healthy": {"tools": true}}}));
    let offered = json!({"tools": [{"type": "function", "function": {"name": "weather"}}]});
    let (_, chat) = ask_json(&provider, CHAT, offered);
    assert_eq!(chat["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "weather");
    let (_, message) = ask_json(&provider, "/v1/messages", json!({"tools": [{"name": "weather"}]}));
    assert_eq!(message["content"][0]["name"], "weather");
}

#[test]
fn several_answers_are_given_where_they_are_asked_for() {
    let provider = Provider::start();
    let (_, chat) = ask_json(&provider, CHAT, json!({"n": 3}));
    let texts: Vec<&str> =
        chat["choices"].as_array().unwrap().iter().filter_map(|choice| choice["message"]["content"].as_str()).collect();
    assert_eq!(texts.len(), 3);
    assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
    // Streamed, they come in turns and say the same.
    let (_, stream) = ask(&provider, CHAT, json!({"n": 3, "stream": true}));
    let mut streamed = vec![String::new(); 3];
    for chunk in sse(&stream).into_iter().filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok()) {
        let choice = &chunk["choices"][0];
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        streamed[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
    }
    assert_eq!(streamed, texts);
    let wish = json!({"generationConfig": {"candidateCount": 2}});
    let (_, generated) = ask_json(&provider, "/v1beta/models/gemini-x:generateContent", wish);
    assert_eq!(generated["candidates"].as_array().unwrap().len(), 2);
    let (_, many) = ask_json(&provider, CHAT, json!({"n": 1_000_000}));
    assert_eq!(many["choices"].as_array().unwrap().len(), 16);
}

#[test]
fn a_script_ends_answers_in_every_way() {
    let provider = Provider::start();
    for (end, whole, well) in
        [("cut", false, true), ("reset", false, false), ("close", true, true), ("error", true, true)]
    {
        follow(&provider, json!({"then": {"healthy": {"after_events": 2, "end": end}}}));
        let client = Client::post(&provider, CHAT, json!({"stream": true}));
        let (received, ending) = read_to_the_end_of_the_answer(client);
        assert_eq!((received.ends_with("0\r\n\r\n"), ending.is_ok()), (whole, well), "{end}: {received}");
        assert_eq!(received.contains("overloaded"), end == "error", "{received}");
        assert!(received.contains("Hello ") && !received.contains("[DONE]"), "{end}: {received}");
    }
    for (before_head, well) in [("close", true), ("reset", false)] {
        follow(&provider, json!({"then": {"before_head": before_head}}));
        let (received, ending) = Client::post(&provider, CHAT, json!({})).read_to_end();
        assert_eq!((received.as_str(), ending.is_ok()), ("", well));
    }
    for script in
        [json!({"before_head": "hang"}), json!({"events": ["data: 1\n\n"], "after_events": 0, "end": "stall"})]
    {
        follow(&provider, json!({"then": script}));
        let mut client = Client::post(&provider, CHAT, json!({}));
        if script["end"] == "stall" {
            client.read_until("\r\n\r\n");
        }
        assert!(client.nothing_arrives());
    }
}

/// Reads until an answer in chunks has ended, or its connection.
fn read_to_the_end_of_the_answer(mut client: Client) -> (String, std::io::Result<()>) {
    while !client.received.ends_with("0\r\n\r\n") {
        match client.read_some() {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return (client.received, Err(error)),
        }
    }
    (client.received, Ok(()))
}

#[test]
fn an_answer_is_compressed_for_those_who_accept_that() {
    let provider = Provider::start();
    follow(&provider, json!({"then": {"healthy": {"gzip": true}}}));
    for stream in [false, true] {
        for (accepted, compressed) in [("", false), ("accept-encoding: gzip, deflate\r\n", true)] {
            let mut client = Client::connect(&provider);
            client.send_with(&format!("connection: close\r\n{accepted}"), CHAT, &json!({"stream": stream}));
            let mut received = Vec::new();
            client.stream.read_to_end(&mut received).unwrap();
            let end = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            let head = std::str::from_utf8(&received[..end]).unwrap();
            assert_eq!(head.contains("content-encoding: gzip"), compressed, "{head}");
            if compressed && !stream {
                let mut text = String::new();
                flate2::read::GzDecoder::new(&received[end..]).read_to_string(&mut text).unwrap();
                assert!(text.contains("Hello from"), "{text}");
            }
        }
    }
}
