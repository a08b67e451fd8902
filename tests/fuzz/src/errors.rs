//! What providers say of their failures: errors, waits and limits, in answers and in streams, and what the built-in
//! policy makes of them.

use crate::dialect::{Dialect, EventKind};
use crate::message::Message;
use http::HeaderMap;
use spillway_sdk::testing::exchange;
use spillway_sdk::wait::{self, WAIT_MAX};
use spillway_sdk::{Class, Dimension, MESSAGE_BYTES_MAX, ProviderError, body_json, builtin, rate_limits};
use std::time::{Duration, SystemTime};

/// When answers come, in seconds since 1970: a failure must be the same each time.
const NOW_UNIX_S: u64 = 1_795_000_000;

/// What must hold of any bytes that come as an answer: its line with a status, its headers, an empty line, its body.
pub fn check(bytes: &[u8]) {
    let Message { line, headers, body } = Message::read(bytes);
    let status = line.get(1).and_then(|status| status.parse::<u16>().ok()).filter(|status| *status < 1_000);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_UNIX_S);
    let header = |name: &str| headers.get(name).map(|value| value.as_bytes());
    let waits = [wait::from_headers(header, now), wait::from_body(body)];
    assert!(waits.iter().flatten().all(|wait| *wait <= WAIT_MAX), "{waits:?}");
    let limits = rate_limits::from_headers(header, now);
    for dimension in [Dimension::Requests, Dimension::Tokens] {
        let _limit = limits.get(dimension);
    }
    check_error(body);
    for dialect in Dialect::ALL {
        check_verdict(dialect, status, &headers, body);
        if let EventKind::Error(error) = dialect.read_event(body) {
            assert!(error.message.len() <= MESSAGE_BYTES_MAX);
        }
    }
}

/// An error is found where JSON says one, cut to its bound, and the same in an event.
fn check_error(body: &[u8]) {
    let error = ProviderError::parse(body);
    if let Some(error) = &error {
        assert!(error.message.len() <= MESSAGE_BYTES_MAX, "{} bytes are kept", error.message.len());
        let _scope = (builtin::limit_scope(error), builtin::asks_too_much(error));
    }
    let json = body_json::parse(body);
    assert_eq!(json.as_ref().and_then(ProviderError::from_value), error);
    let is_one_line = !body.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    if is_one_line && !body.starts_with(b" ") && body_of_error(json.as_ref()) {
        for dialect in Dialect::ALL {
            // Ollama's events are lines of JSON.
            let event = match dialect {
                Dialect::Ollama => [body, b"\n"].concat(),
                _ => [b"event: error\ndata: ", body, b"\n\n"].concat(),
            };
            let EventKind::Error(told) = dialect.read_event(&event) else { panic!("{dialect:?} reads no error") };
            assert_eq!(Some(told), error);
        }
    }
}

fn body_of_error(json: Option<&serde_json::Value>) -> bool {
    json.is_some_and(|json| ProviderError::from_value(json).is_some())
}

fn check_verdict(dialect: Dialect, status: Option<u16>, headers: &HeaderMap, body: &[u8]) {
    let mut facts = exchange().dialect(dialect.as_str()).body(body);
    if let Some(status) = status {
        facts = facts.status(status);
    }
    for (name, value) in headers {
        facts = facts.header(name.as_str(), value.as_bytes());
    }
    let exchange = facts.exchange();
    let verdict = builtin::classify(&exchange);
    assert_eq!(builtin::classify(&exchange), verdict, "the same is judged alike");
    assert!(verdict.cool_off.is_none_or(|cool_off| cool_off <= WAIT_MAX), "{verdict:?}");
    assert!(verdict.class == Class::Success || !verdict.reason.is_empty(), "{verdict:?}");
}
