use super::*;
use serde_json::{Value, json};

/// Dashboards and scripts read it, so its keys, their order and what is null where nothing is known stay as they
/// are.
#[test]
fn it_is_read_and_written_with_the_keys_that_others_rely_on() {
    let limits =
        json!({"requests_available": -3, "tokens_available": null, "in_flight": 2, "max_in_flight": 8, "waiting": 1});
    let window = json!({
        "length_ms": 30_000, "requests": 20, "failures": 9, "overloads": 1, "throttles": 2, "slow_calls": 3,
        "consecutive_failures": 4, "in_flight": 5, "first_content_p50_ms": 310, "first_content_p95_ms": null,
    });
    let rejected = json!({"sha256": null, "reason": "the file is empty", "at_unix_ms": 7});
    let example = json!({
        "at_unix_ms": 8, "kind": "classify: failure -> throttled", "upstream": "openai", "model": "gpt-5", "status": 429,
        "fault": null, "error_code": "rate_limit_exceeded", "active": "failure of model", "shadow": "throttled of model",
    });
    let shadow = json!({
        "sha256": "ab", "version": "0.2.0", "state": "comparing", "quarantined_after": null, "calls": 9, "faults": 0,
        "last_fault": null,
        "comparison": {
            "agreed": 8, "disagreed": 1, "unanswered": 0, "by_kind": {"classify: failure -> throttled": 1},
            "examples": [example],
        },
        "rejected": null,
    });
    let status = json!({
        "version": "0.1.0", "uptime_ms": 1_200, "draining": false, "in_flight": 3, "held_bytes": 4_096,
        "upstreams": [{
            "name": "openai", "url": "https://api.openai.com", "proxy": null, "dialect": "openai", "policy": "default",
            "limits": limits, "reserved": [{"group": "search", "places": 4, "in_flight": 1}],
            "pacing": [{"scope": "model gpt-5", "calls_per_second": 1.25, "paused_for_ms": 900, "waiting": 6}],
            "breakers": [{
                "scope": "upstream", "state": "open", "mode": "normal", "cause": "ten failures in a row",
                "probe_possible_in_ms": 450, "consecutive_openings": 1, "window": window, "open_for_ms": 12_000,
                "opened_because": "10 calls in a row failed", "said": {"status": 503, "message": "overloaded"},
            }],
        }],
        "routes": [{"name": "chat", "targets": [{
            "target": "openai/gpt-5", "rank": 0, "weight": 1, "key": "OPENAI_API_KEY", "degraded": false,
            "tokens_in_flight": 1_024, "conversations": 12, "served_share": 0.97,
        }]}],
        "tenants": [{"name": "batch", "limits": limits}],
        "ledger": {
            "limits": [{
                "of": "group team", "limit": "$500 per month", "force": "refuse", "amount": 500.0, "spent": 1.5,
                "open": 0.25, "left": "$498.25", "refills_in_ms": 14,
            }],
            "would_have_refused": 0, "trouble": null, "lost": 0,
        },
        "keys": {
            "required": true, "valid": 2, "expired": 1, "revoked": 1, "expire_soon": ["shop"], "next_expiry_unix_ms": 13,
        },
        "policies": [{
            "name": "default", "source": "module", "state": "serving", "quarantined_after": null, "sha256": "cd",
            "version": "0.1.0", "summary": "judges", "hooks": ["classify", "trip"], "swaps": 1, "calls": 10, "faults": 1,
            "last_fault": "it trapped", "rejected": rejected, "shadow": shadow,
        }],
        "queue": {
            "troubles": [], "queued": 1, "running": 2, "done": 3, "dead": 4, "cancelled": 5, "expired": 6,
            "stored_bytes": 7, "oldest_queued_age_ms": null,
        },
        "listen": "127.0.0.1:4141", "certificate": {"names": ["spillway.example"], "left_s": 60},
        "configuration": "spillway.toml", "now_unix_ms": 12,
        "refusals": [{
            "times": 3, "first_at_unix_ms": 9, "last_at_unix_ms": 11, "code": "spillway_circuit_open", "status": 503,
            "upstream": "openai", "model": null, "message": "Spillway did not call openai",
        }],
        "guards": [{
            "guard": "max_repeats", "refused": 3, "would_have_refused": 0, "last_at_unix_ms": 10, "caller": "shop",
            "message": "the same request has come 6 times in a row, and may come 3 times",
        }],
    });
    let mut uncounted = status.clone();
    uncounted["queue"] = json!({"error": "its disk does not answer", "troubles": ["nothing can be kept"]});
    let mut without = status.clone();
    (without["queue"], without["keys"]) = (Value::Null, Value::Null);
    for status in [status, uncounted, without] {
        let text = serde_json::to_string_pretty(&status).expect("JSON");
        let read: Status = serde_json::from_str(&text).expect("a status");
        assert_eq!(serde_json::to_string_pretty(&read).expect("JSON"), text);
    }
}

#[test]
fn what_another_version_does_not_say_is_left_empty_but_without_policies_it_is_no_spillways() {
    let sparse = json!({"policies": [{"name": "default", "state": "asleep", "mood": "fine"}], "queue": {"queued": 1}});
    let status: Status = serde_json::from_value(sparse).expect("a status");
    assert_eq!((&*status.policies[0].name, &*status.policies[0].state), ("default", "asleep"));
    assert!(serde_json::from_value::<Status>(json!({"version": "0.1.0"})).is_err());
}
