//! What Spillway's log and status say, in words for who has never heard of it.

use serde_json::Value;
use std::time::Duration;

/// What a line of the log tells, if it is about a circuit that opens or closes, or about a policy that takes over.
/// Circuits that open again after a probe are no news.
pub(super) fn of_log(line: &Value) -> Option<String> {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    match (text("message"), text("from"), text("to")) {
        ("circuit changed", "closed", _) => Some(format!(
            "{} opens: {}. Its calls no longer go out, but for a probe now and then",
            circuit(text("upstream"), text("scope")),
            text("cause")
        )),
        ("circuit changed", _, "closed") => Some(format!(
            "a probe was served: {} is closed, and its calls go out again",
            circuit(text("upstream"), text("scope"))
        )),
        ("policy takes over", ..) => Some(format!("the policy {} judges from here on", text("policy"))),
        _ => None,
    }
}

/// A circuit of an upstream in words, by the scope that the log names. Several may open at once: that of a model, and that
/// of a key.
fn circuit(upstream: &str, scope: &str) -> String {
    let part = match scope {
        "upstream" => String::new(),
        // Whoever sees the demo has not chosen a key, and would make nothing of its fingerprint.
        key if key.starts_with("credential ") => " for the key in use".to_owned(),
        part => match part.split_once(" of credential ") {
            Some((model, _)) => format!(" for {model} with the key in use"),
            None => format!(" for {part}"),
        },
    };
    format!("the circuit of {upstream}{part}")
}

/// The policy that takes over, by a line of the log.
pub(super) fn policy_taking_over(line: &Value) -> Option<&str> {
    (line["message"] == "policy takes over").then(|| line["policy"].as_str())?
}

/// How circuits, pacing and queue stand, as the status has them, in a few words.
pub(super) fn of_status(status: &Value) -> Option<String> {
    let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut words = Vec::new();
    for upstream in all(&status["upstreams"]) {
        let name = upstream["name"].as_str().unwrap_or_default();
        let open = all(&upstream["breakers"]).into_iter().find(|breaker| breaker["state"] != "closed");
        let paced = all(&upstream["pacing"]).into_iter().next();
        if let Some(breaker) = open {
            let probe = breaker["probe_possible_in_ms"].as_u64().map(Duration::from_millis);
            let when = probe.map_or(String::new(), |wait| format!(", next probe in {:.1} s", wait.as_secs_f64()));
            words.push(format!("circuit of {name} {}{when}", breaker["state"].as_str().unwrap_or_default()));
        } else if let Some(lane) = paced {
            let rate =
                lane["calls_per_second"].as_f64().map_or(String::new(), |rate| format!(" at {rate:.1} a second"));
            words.push(format!("calls to {name} paced{rate}, {} waiting", lane["waiting"]));
        }
    }
    if words.is_empty() && !status["upstreams"].is_null() {
        words.push("circuits closed".to_owned());
    }
    let queued = status["queue"]["queued"].as_u64().unwrap_or_default()
        + status["queue"]["running"].as_u64().unwrap_or_default();
    if queued > 0 {
        words.push(format!("{queued} kept"));
    }
    (!words.is_empty()).then(|| words.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_changes_for_callers_is_told() {
        let circuit = |from: &str, to: &str| json!({"message": "circuit changed", "upstream": "openai", "scope": "upstream", "from": from, "to": to, "cause": "ten failures in a row"});
        for (line, told) in [
            (circuit("closed", "open"), Some("the circuit of openai opens: ten failures in a row")),
            (circuit("open", "half-open"), None),
            (circuit("half-open", "open"), None),
            (circuit("half-open", "closed"), Some("a probe was served")),
            (circuit("open", "closed"), Some("a probe was served")),
            (json!({"message": "policy takes over", "policy": "p"}), Some("the policy p judges from here on")),
            (json!({"message": "circuit would have changed; it only watches", "from": "closed", "to": "open"}), None),
            (json!(null), None),
        ] {
            let words = of_log(&line);
            assert_eq!(words.is_some(), told.is_some(), "{line}");
            assert!(words.unwrap_or_default().starts_with(told.unwrap_or_default()), "{line}");
        }
    }

    #[test]
    fn circuits_that_open_together_are_told_apart_by_what_they_are_for() {
        for (scope, told) in [
            ("upstream", "the circuit of openai opens: "),
            ("model m", "the circuit of openai for model m opens: "),
            ("requests without a model", "the circuit of openai for requests without a model opens: "),
            ("credential 1a2b", "the circuit of openai for the key in use opens: "),
            ("model m of credential 1a2b", "the circuit of openai for model m with the key in use opens: "),
        ] {
            let line = json!({"message": "circuit changed", "upstream": "openai", "scope": scope, "from": "closed",
                "to": "open", "cause": "ten failures in a row"});
            let words = of_log(&line).unwrap_or_default();
            assert!(words.starts_with(told), "{scope}: {words}");
        }
    }

    #[test]
    fn the_status_is_told_by_what_stands_out() {
        let upstream = |state: &str, pacing| {
            json!({"name": "openai", "pacing": pacing, "breakers": [
                {"state": "closed"}, {"state": state, "probe_possible_in_ms": 650},
            ]})
        };
        let pacing = || json!([{"scope": "model", "calls_per_second": 17.96, "paused_for_ms": null, "waiting": 4}]);
        for (status, told) in [
            (
                json!({"upstreams": [upstream("closed", json!([]))], "queue": {"queued": 0, "running": 0}}),
                Some("circuits closed"),
            ),
            (
                json!({"upstreams": [upstream("open", json!([]))], "queue": {"queued": 3, "running": 1}}),
                Some("circuit of openai open, next probe in 0.7 s; 4 kept"),
            ),
            (
                json!({"upstreams": [upstream("closed", pacing())]}),
                Some("calls to openai paced at 18.0 a second, 4 waiting"),
            ),
            (json!(null), None),
        ] {
            assert_eq!(of_status(&status).as_deref(), told, "{status}");
        }
    }
}
