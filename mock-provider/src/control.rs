//! The mock as a process of its own is told over HTTP what to do: `POST /_control/fail`, `GET /_control/stats`.
//!
//! These requests are neither counted nor recorded, so that looking at the counts does not change them.

use std::time::Duration;

use serde_json::{Value, json};

use super::failures::Failure;
use super::lock;
use super::observe::RecordedRequest;
use super::reply::{Reply, error_in_200, fail, healthy, insufficient_quota, overloaded, rate_limited, respond};
use super::script::Script;
use super::server::Shared;

const PREFIX: &str = "/_control/";
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
    Some(match (request.method.as_str(), command) {
        ("GET", "stats") => respond(200).json(stats(shared)),
        ("POST", _) => match behaviour(command, request.query.as_deref().unwrap_or_default()) {
            Some((reply, times)) => {
                let mut script = Script::healthy();
                match times {
                    Some(times) => (0..times).for_each(|_| script.next(reply.clone())),
                    None => script.always(reply),
                }
                *lock(&shared.script) = script;
                respond(200).json(json!({"behaviour": command}))
            }
            None => {
                let known = BEHAVIOURS.map(|behaviour| behaviour.example).join(", ");
                let what = "each with times=N, after which it is well again";
                respond(404).json(json!({"error": format!("no such behaviour; there are: {known}; {what}")}))
            }
        },
        _ => respond(405).json(json!({"error": "GET /_control/stats and POST /_control/{behaviour} are all there is"})),
    })
}

/// How to answer, and how often; `None` is until told otherwise.
fn behaviour(name: &str, query: &str) -> Option<(Reply, Option<u64>)> {
    let given = |key: &str| -> Option<u64> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == key).find_map(|(_, value)| value.parse().ok())
    };
    let number = |key: &str, default: u64| given(key).unwrap_or(default);
    let reply = match name {
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
    };
    Some((reply, given("times")))
}

fn stats(shared: &Shared) -> Value {
    let stats = shared.observer.stats();
    json!({
        "started": stats.started, "completed": stats.completed, "aborted": stats.aborted, "broken": stats.broken,
        "connections": stats.connections,
    })
}
