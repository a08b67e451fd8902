//! A script in JSON, as `POST /_control/script` takes it.
//!
//! ```json
//! {"replies": [{"behave": "rate-limit?retry_after_s=1"}, {"status": 502, "body": "<html>"}],
//!  "then": {"healthy": {"tools": true, "after_events": 2, "end": "cut"}},
//!  "only": {"path": "/messages", "model": "mock-small"}}
//! ```
//!
//! `replies` are used up in order, each by one request; `then` answers all that come after (well, if it is not said).
//! `only` says whose they are: requests whose path contains this, and that ask for this model; all others are answered
//! well. A reply is one of these:
//!
//! - `{"behave": "fail?status=503"}`: as the control path of that name.
//! - `{"healthy": {"text", "usage": [input, output], "tools": true | [{"name", "arguments"}], "n", "gzip"}}`.
//! - `{"status", "headers": {…}, "body" | "body_base64" | "events": ["…", …]}`: exactly these bytes. `events` are the
//!   pieces of a stream without a length, which is one of server-sent events unless a header says otherwise.
//!
//! With each but the first (in `healthy`, within it) may stand `delay_ms` (before the head), `pause_ms` (before each
//! event), `before_head` (`close`, `reset` or `hang`, instead of a head), and `end` with `after_events`: what happens
//! after so many events, or else in the middle: `cut` (closed without an end), `reset`, `stall` (nothing more comes),
//! `close` (a stream's orderly end, too early), `error` (the dialect's error event), `ok`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::control::{TIMES_MAX, behaviour};
use super::reply::{Reply, close_before_head, healthy, in_pieces, reset, respond, stall, stream};
use super::script::{Matcher, Script, request};

/// The most events of one reply. A script as a whole is bounded by the size of a request.
const EVENTS_MAX: usize = 100_000;

/// The script that this says, or what is wrong with it.
pub(super) fn read(script: &Value) -> Result<Script, String> {
    let fields = object(script, "a script")?;
    known(fields, &["replies", "then", "only"])?;
    let mut read = Script::healthy();
    if let Some(replies) = fields.get("replies") {
        let replies = replies.as_array().ok_or("`replies` is a list")?;
        if replies.len() as u64 > TIMES_MAX {
            return Err(format!("`replies` are at most {TIMES_MAX}"));
        }
        for one in replies {
            read.next(reply(one)?);
        }
    }
    if let Some(then) = fields.get("then") {
        read.always(reply(then)?);
    }
    if let Some(only) = fields.get("only") {
        read.only(matcher(only)?);
    }
    Ok(read)
}

fn matcher(only: &Value) -> Result<Matcher, String> {
    let fields = object(only, "`only`")?;
    known(fields, &["path", "model"])?;
    let (path, model) = (text(fields, "path")?.map(str::to_owned), text(fields, "model")?.map(str::to_owned));
    Ok(request(move |request| {
        path.as_ref().is_none_or(|part| request.path.contains(part.as_str()))
            && model.as_ref().is_none_or(|name| request.model() == Some(name))
    }))
}

/// One reply.
fn reply(value: &Value) -> Result<Reply, String> {
    let fields = object(value, "a reply")?;
    if let Some(behave) = text(fields, "behave")? {
        known(fields, &["behave"])?;
        let (name, query) = behave.split_once('?').unwrap_or((behave, ""));
        return behaviour(name, query).ok_or_else(|| format!("no behaviour is called {name}"));
    }
    if let Some(well) = fields.get("healthy") {
        known(fields, &["healthy"])?;
        return well_answered(object(well, "`healthy`")?);
    }
    known(
        fields,
        &[
            "status",
            "headers",
            "body",
            "body_base64",
            "events",
            "delay_ms",
            "pause_ms",
            "before_head",
            "end",
            "after_events",
        ],
    )?;
    exactly(fields)
}

/// A healthy answer with what is wished of it.
fn well_answered(fields: &Map<String, Value>) -> Result<Reply, String> {
    known(
        fields,
        &["text", "usage", "tools", "n", "gzip", "delay_ms", "pause_ms", "before_head", "end", "after_events"],
    )?;
    let mut reply = healthy();
    if let Some(words) = text(fields, "text")? {
        reply = reply.saying(words);
    }
    if let Some(usage) = fields.get("usage") {
        let (Some(input), Some(output)) = (usage[0].as_u64(), usage[1].as_u64()) else {
            return Err("`usage` is two numbers: the tokens of input and output".to_owned());
        };
        reply = reply.usage(input, output);
    }
    match fields.get("tools") {
        None | Some(Value::Bool(false)) => {}
        Some(Value::Bool(true)) => reply = reply.calling_a_tool(),
        Some(Value::Array(calls)) => {
            for call in calls {
                let name = call["name"].as_str().ok_or("each of `tools` has a `name`")?;
                reply = reply.calling(name, call["arguments"].clone());
            }
        }
        Some(_) => return Err("`tools` is true, or a list of names with arguments".to_owned()),
    }
    if let Some(count) = number(fields, "n")? {
        reply = reply.choices(count);
    }
    if fields.get("gzip") == Some(&Value::Bool(true)) {
        reply = reply.gzipped();
    }
    if let Some(pause) = number(fields, "pause_ms")? {
        reply = reply.paced(Duration::from_millis(pause));
    }
    if let Some(count) = events_before_the_end(fields)? {
        reply = reply.after_events(count);
    }
    with_head(with_end(reply, fields)?, fields)
}

/// An answer of exactly these bytes.
fn exactly(fields: &Map<String, Value>) -> Result<Reply, String> {
    let status = number(fields, "status")?.unwrap_or(200);
    let status = u16::try_from(status).ok().filter(|status| StatusCode::from_u16(*status).is_ok());
    let status = status.ok_or("`status` is a number from 100 to 999")?;
    let mut reply = match fields.get("events") {
        Some(events) => in_events(fields, events)?.status(status),
        None => with_end(respond(status).body(body(fields)?), fields)?,
    };
    if let Some(headers) = fields.get("headers") {
        for (name, value) in object(headers, "`headers`")? {
            let value = value.as_str().ok_or_else(|| format!("the header {name} is no text"))?;
            let (valid_name, valid_value) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
            if valid_name.is_err() || valid_value.is_err() {
                return Err(format!("`{name}: {value}` is no HTTP header"));
            }
            if !(name.eq_ignore_ascii_case("content-type") && fields.contains_key("events")) {
                reply = reply.header(name, value);
            }
        }
    }
    with_head(reply, fields)
}

/// A stream in these pieces.
fn in_events(fields: &Map<String, Value>, events: &Value) -> Result<Reply, String> {
    let events = events.as_array().ok_or("`events` is a list")?;
    if events.len() > EVENTS_MAX {
        return Err(format!("`events` are at most {EVENTS_MAX}"));
    }
    let headers = fields.get("headers").and_then(Value::as_object);
    let content_type = headers.and_then(|headers| {
        let mut found = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        found.next().and_then(|(_, value)| value.as_str())
    });
    let mut reply = match content_type.map(|value| (value, HeaderValue::from_str(value))) {
        Some((value, Ok(_))) => in_pieces(value),
        Some((value, Err(_))) => return Err(format!("`content-type: {value}` is no HTTP header")),
        None => stream(),
    };
    let pause = number(fields, "pause_ms")?.map(Duration::from_millis);
    let sent = events_before_the_end(fields)?.unwrap_or(events.len());
    for event in events.iter().take(sent) {
        if let Some(pause) = pause {
            reply = reply.pause(pause);
        }
        reply = reply.chunk(event.as_str().ok_or("each of `events` is a text")?.to_owned());
    }
    with_end(reply, fields)
}

fn body(fields: &Map<String, Value>) -> Result<Vec<u8>, String> {
    match (text(fields, "body")?, text(fields, "body_base64")?) {
        (Some(_), Some(_)) => Err("a reply has `body` or `body_base64`".to_owned()),
        (Some(body), None) => Ok(body.as_bytes().to_vec()),
        (None, Some(encoded)) => STANDARD.decode(encoded).map_err(|error| format!("`body_base64`: {error}")),
        (None, None) => Ok(Vec::new()),
    }
}

/// What happens in the course of the body.
fn with_end(reply: Reply, fields: &Map<String, Value>) -> Result<Reply, String> {
    Ok(match text(fields, "end")? {
        None | Some("ok") => reply,
        Some("cut") => reply.cut(),
        Some("reset") => reply.reset(),
        Some("stall") => reply.stall(),
        Some("close") => reply.end_early(),
        Some("error") => reply.error_event(),
        Some(other) => return Err(format!("`end` is ok, cut, reset, stall, close or error, not {other}")),
    })
}

/// What happens before the head, or instead of it.
fn with_head(reply: Reply, fields: &Map<String, Value>) -> Result<Reply, String> {
    let reply = match text(fields, "before_head")? {
        None => reply,
        Some("close") => close_before_head(),
        Some("reset") => reset(),
        Some("hang") => stall(),
        Some(other) => return Err(format!("`before_head` is close, reset or hang, not {other}")),
    };
    Ok(match number(fields, "delay_ms")? {
        Some(delay) => reply.delay(Duration::from_millis(delay)),
        None => reply,
    })
}

fn events_before_the_end(fields: &Map<String, Value>) -> Result<Option<usize>, String> {
    let count = number(fields, "after_events")?;
    Ok(count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)))
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{what} is a JSON object"))
}

/// A word that is not known is a mistake: it would change nothing, and nobody would know why.
fn known(fields: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    match fields.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(format!("`{name}` is not known here; there are: {}", names.join(", "))),
        None => Ok(()),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    value.as_str().map(Some).ok_or_else(|| format!("`{name}` is a text"))
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    value.as_u64().map(Some).ok_or_else(|| format!("`{name}` is a whole number, and not negative"))
}
