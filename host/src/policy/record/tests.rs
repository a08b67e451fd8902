use super::*;
use http::{HeaderName, HeaderValue};

fn with_body(body: impl Into<Bytes>) -> Record {
    Record { status: Some(429), prefix: body.into(), ..Record::for_tests() }
}

fn with_headers(headers: &[(&'static str, &'static str)]) -> Record {
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Record { headers: Rc::new(headers.collect()), ..Record::for_tests() }
}

#[test]
fn a_policy_reads_single_values_of_the_bodys_json() {
    let record = with_body(r#"{"error":{"code":"spent","details":[{"quota":7}]}}"#);
    assert_eq!(record.body_json("/error/code").as_deref(), Some("spent"));
    assert_eq!(record.body_json("/error/details/0").as_deref(), Some(r#"{"quota":7}"#));
    assert_eq!(record.body_json("/error/message"), None);
    assert_eq!(record.provider_error().and_then(|error| error.code).as_deref(), Some("spent"));
}

#[test]
fn a_body_that_was_cut_off_has_no_json() {
    let mut record = with_body(r#"{"error":{"code":"spent""#);
    assert_eq!(record.body_json(""), None);
    record = with_body("<html>");
    assert_eq!(record.body_json(""), None);
}

#[test]
fn what_has_reached_the_caller_is_not_shown_any_more() {
    let record = with_body(r#"{"a":1}"#);
    assert_eq!(record.body_json("/a").as_deref(), Some("1"));
    let committed = Record { phase: Phase::Committed, ..record };
    assert_eq!(committed.body_json("/a"), None, "although it was read before");
}

#[test]
fn cookies_are_not_shown_in_capitals_either() {
    let record = with_headers(&[("set-cookie", "secret"), ("server", "s")]);
    assert_eq!(record.header("set-cookie"), None);
    assert_eq!(record.header("Set-Cookie"), None);
    assert_eq!(record.header_names(), ["server"]);
}

#[test]
fn each_reported_limit_is_shown_by_its_dimension() {
    let record = with_headers(&[
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "6m0s"),
    ]);
    let requests = RateLimit { limit: 500, remaining: 0, reset: Some(Duration::from_secs(360)) };
    assert_eq!(record.rate_limit(Dimension::Requests), Some(requests));
    assert_eq!(record.rate_limit(Dimension::Tokens), None);
}
