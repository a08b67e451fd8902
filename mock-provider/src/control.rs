//! The mock as a process of its own is told over HTTP what to do: `POST /_control/fail`, `POST /_control/script`, `GET
//! /_control/stats`, `GET /_control/requests`.
//!
//! These requests are neither counted nor recorded, so that looking at the counts does not change them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::{Value, json};

use super::failures::Failure;
use super::lock;
use super::observe::RecordedRequest;
use super::reply::{Reply, error_in_200, fail, healthy, insufficient_quota, overloaded, rate_limited, respond};
use super::script::Script;
use super::scripted;
use super::server::Shared;

const PREFIX: &str = "/_control/";
/// How many answers may be asked for at once (`times=N`). Each is kept until its request comes; to be told of more is
/// refused, with this number.
pub(super) const TIMES_MAX: u64 = 10_000;

/// A way to answer, as it is asked for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Behaviour {
    /// What stands behind `POST /_control/`, with what may be said of it.
    pub example: &'static str,
    /// What it does then.
    pub meaning: &'static str,
}

/// Every way that can be asked for. `times=N` may stand with each: after so many answers it is well again.
pub const BEHAVIOURS: [Behaviour; 8] = [
    Behaviour { example: "heal", meaning: "all is well" },
    Behaviour { example: "fail?status=503", meaning: "an error of its own" },
    Behaviour { example: "rate-limit?retry_after_s=2", meaning: "429, and when to come again" },
    Behaviour { example: "spent-quota", meaning: "429 that waiting does not cure" },
    Behaviour { example: "overload", meaning: "no capacity: 503, or Anthropic's 529" },
    Behaviour { example: "error-in-200", meaning: "an error under status 200" },
    Behaviour { example: "cut-stream", meaning: "streams break off" },
    Behaviour { example: "slow?ms=500", meaning: "answers come later" },
];

/// Does what a request to a control path says; `None` for all others.
pub(super) fn answer(request: &RecordedRequest, shared: &Shared) -> Option<Reply> {
    let command = request.path.strip_prefix(PREFIX)?;
    if is_of_a_web_page(request) {
        return Some(refuse(
            403,
            "web pages do not say how this provider answers; ask from a terminal, with curl".into(),
        ));
    }
    Some(match (request.method.as_str(), command) {
        ("GET", "stats") => respond(200).json(stats(shared)),
        ("GET", "requests") => respond(200).json(requests(shared)),
        ("POST", "script") => follow(request.json(), shared),
        ("POST", _) => behave(command, request.query.as_deref().unwrap_or_default(), shared),
        _ => refuse(405, "there are GET /_control/stats, GET /_control/requests, POST /_control/script and POST /_control/{behaviour}".into()),
    })
}

/// Whether a browser sends it for a page: any page may send requests to this machine. Only what is typed into the
/// address bar says that it comes from nowhere.
fn is_of_a_web_page(request: &RecordedRequest) -> bool {
    request.header("origin").is_some() || request.header("sec-fetch-site").is_some_and(|site| site != "none")
}

fn refuse(status: u16, why: String) -> Reply {
    respond(status).json(json!({"error": why}))
}

/// Answers from here on as it is told.
fn behave(command: &str, query: &str, shared: &Shared) -> Reply {
    let Some(reply) = behaviour(command, query) else {
        let known = BEHAVIOURS.map(|behaviour| behaviour.example).join(", ");
        let what = "each with times=N, after which it is well again";
        return refuse(404, format!("no such behaviour; there are: {known}; {what}"));
    };
    let mut script = Script::healthy();
    match given(query, "times").map(str::parse) {
        None => script.always(reply),
        Some(Ok(times)) if times <= TIMES_MAX => (0..times).for_each(|_| script.next(reply.clone())),
        Some(_) => {
            let instead = "without it, it is so until told otherwise";
            return refuse(400, format!("times is a number of at most {TIMES_MAX}; {instead}"));
        }
    }
    *lock(&shared.script) = script;
    respond(200).json(json!({"behaviour": command}))
}

/// Answers from here on as a script of its own says.
fn follow(script: &Value, shared: &Shared) -> Reply {
    match scripted::read(script) {
        Ok(script) => {
            *lock(&shared.script) = script;
            respond(200).json(json!({"script": "in force"}))
        }
        Err(mistake) => refuse(400, mistake),
    }
}

/// What stands in a query behind this name.
fn given<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// How to answer; `None` if nothing is called so.
pub(super) fn behaviour(name: &str, query: &str) -> Option<Reply> {
    let number = |key: &str, default: u64| given(query, key).and_then(|text| text.parse().ok()).unwrap_or(default);
    Some(match name {
        "heal" => healthy(),
        "fail" => {
            let status = number("status", 503);
            // What is no status is taken for none given.
            let status = u16::try_from(status).ok().filter(|status| (100..=999).contains(status)).unwrap_or(503);
            fail(Failure::ServerError).status(status)
        }
        "rate-limit" => rate_limited().retry_after_s(number("retry_after_s", 2)),
        "spent-quota" => insufficient_quota(),
        "overload" => overloaded(),
        "error-in-200" => error_in_200(),
        "cut-stream" => healthy().after_events(2).cut(),
        "slow" => healthy().delay(Duration::from_millis(number("ms", 500))),
        _ => return None,
    })
}

fn stats(shared: &Shared) -> Value {
    let stats = shared.observer.stats();
    json!({
        "started": stats.started, "completed": stats.completed, "aborted": stats.aborted, "broken": stats.broken,
        "connections": stats.connections,
    })
}

/// The requests that are remembered, oldest first, each with its time since the first of them. Keys are told apart by
/// a fingerprint, and shown to nobody.
fn requests(shared: &Shared) -> Value {
    let requests = shared.observer.requests();
    let first = requests.first().map(|request| request.at);
    let shown = requests.iter().map(|request| {
        let since = first.map(|first| request.at.saturating_duration_since(first)).unwrap_or_default();
        json!({
            "number": request.number, "connection": request.connection, "method": request.method,
            "path": request.path, "query": request.query, "at_ms": u64::try_from(since.as_millis()).ok(),
            "bytes": request.body.len(), "model": request.model(), "key": key(request),
        })
    });
    shown.collect()
}

/// A fingerprint of the credential, wherever an API looks for it.
fn key(request: &RecordedRequest) -> Option<String> {
    let places = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];
    let credential = places.into_iter().find_map(|name| request.header(name))?;
    let mut hasher = DefaultHasher::new();
    credential.hash(&mut hasher);
    Some(format!("{:016x}", hasher.finish()))
}
