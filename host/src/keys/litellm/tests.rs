//! LiteLLM's answers, and what becomes of each key in them.

use super::*;

const HASH: &str = "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b";

fn one(text: &str) -> Result<ForeignKey, LeftOut> {
    read(text, &[]).expect("an answer").remove(0)
}

fn limits(fields: &str) -> Vec<String> {
    let key = one(&format!(r#"{{"keys": [{{"token": "{HASH}", {fields}}}]}}"#)).expect("a key");
    key.limits.into_iter().map(|limit| limit.limit).collect()
}

#[test]
fn a_key_of_the_list_is_taken_over_with_what_it_may_use() {
    let text = format!(
        r#"{{"keys": [{{"token": "{HASH}", "key_name": "sk-...1234", "key_alias": "checkout", "spend": 0.5,
            "expires": "2026-12-24T18:00:00.123000+00:00", "models": ["gpt-4o", "claude-*"], "max_budget": 12.5,
            "budget_duration": "30d", "tpm_limit": 1000, "rpm_limit": 10, "max_parallel_requests": 3,
            "metadata": {{"a": 1}}, "team_id": "t1", "blocked": null, "model_max_budget": {{}}}}],
            "total_count": 1, "current_page": 1, "total_pages": 1}}"#
    );
    let key = one(&text).expect("a key");
    assert_eq!((key.name.as_deref(), key.ends.as_str(), key.is_blocked), (Some("checkout"), "1234", false));
    assert!(key.sha256 == KeyDigest::of(b"sk-1234"));
    assert_eq!(key.expires_unix_ms, Some(1_798_135_200_123));
    assert_eq!(key.models, ["gpt-4o", "claude-*"]);
    let limits: Vec<_> = key.limits.into_iter().map(|limit| limit.limit).collect();
    assert_eq!(limits, ["10 requests per minute", "1000 tokens per minute", "3 calls in flight", "$12.5 per month"]);
    assert!(key.notes.len() == 1 && key.notes[0].contains("team t1"), "{:?}", key.notes);
}

#[test]
fn budgets_become_sentences_of_the_periods_that_there_are() {
    for (fields, sentence) in [
        (r#""max_budget": 5"#, "$5 in total"),
        (r#""max_budget": 5, "spend": 1.25"#, "$3.75 in total"),
        (r#""max_budget": 5, "budget_duration": "1d""#, "$5 per day"),
        (r#""max_budget": 5, "budget_duration": "24h""#, "$5 per day"),
        (r#""max_budget": 7, "budget_duration": "7d""#, "$1 per day"),
        (r#""max_budget": 1, "budget_duration": "7d""#, "$0.142857 per day"),
        (r#""max_budget": 5, "budget_duration": "1mo""#, "$5 per month"),
        (r#""max_budget": 0.000001, "budget_duration": "60s""#, "$0.000001 per minute"),
    ] {
        assert_eq!(limits(fields), [sentence], "{fields}");
    }
    for fields in
        [r#""max_budget": 5, "budget_duration": "soon""#, r#""max_budget": 0"#, r#""max_budget": 5, "spend": 7"#]
    {
        one(&format!(r#"{{"keys": [{{"token": "{HASH}", {fields}}}]}}"#)).expect_err(fields);
    }
}

#[test]
fn the_answer_about_one_key_is_read_as_well_and_so_are_several() {
    let info = format!(r#"{{"key": "{HASH}", "info": {{"key_alias": "a", "models": []}}}}"#);
    assert_eq!(one(&info).expect("a key").name.as_deref(), Some("a"));
    let several = format!("[{info}, {info}]");
    assert_eq!(read(&several, &[]).expect("an answer").len(), 2);
    let plain = one(r#"{"key": "sk-0123456789abcdef", "info": {"expires": null}}"#).expect("a key");
    assert!(plain.sha256 == KeyDigest::of(b"sk-0123456789abcdef") && plain.ends == "cdef");
    for wrong in ["", "12", "{}", r#"{"keys": 1}"#] {
        assert!(read(wrong, &[]).is_err(), "{wrong}");
    }
}

#[test]
fn what_would_grant_more_than_before_is_left_out() {
    let with = |fields: &str| format!(r#"{{"keys": [{{"token": "{HASH}", {fields}}}]}}"#);
    let team = with(r#""models": ["all-team-models"]"#);
    assert!(one(&team).expect_err("unknown models").why.contains("--models"));
    let named = read(&team, &["gpt-4o".to_owned()]).expect("an answer").remove(0).expect("a key");
    assert_eq!(named.models, ["gpt-4o"]);
    assert!(one(&with(r#""expires": "tomorrow""#)).expect_err("unknown time").why.contains("tomorrow"));
    assert!(
        one(&format!(r#"{{"keys": ["{HASH}"]}}"#)).expect_err("nothing is told").why.contains("return_full_object")
    );
    let all =
        one(&with(r#""models": ["all-proxy-models"], "model_rpm_limit": {"a": 1}, "blocked": true"#)).expect("a key");
    assert!(all.models.is_empty() && all.is_blocked && all.notes[0].contains("limits per model"), "{all:?}");
}
