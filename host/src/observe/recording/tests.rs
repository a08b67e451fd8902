use super::*;
use http::HeaderValue;
use spillway_sdk::{Advice, Class, Dimension};
use std::cell::OnceCell;
use std::fs;
use std::rc::Rc;

fn judged(verdict: Verdict) -> Judged {
    Judged { verdict, by: Arc::new(By { label: "built-in".to_owned(), sha256: None }) }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).expect("a file").lines().map(str::to_owned).collect()
}

#[test]
fn a_line_is_enough_to_see_what_a_policy_saw() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("requests.jsonl");
    let (recorder, writer) = start(&path).expect("started");
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", HeaderValue::from_static("2"));
    headers.insert("x-ratelimit-limit-tokens", HeaderValue::from_static("100"));
    headers.insert("x-ratelimit-remaining-tokens", HeaderValue::from_static("7"));
    headers.insert("x-odd", HeaderValue::from_bytes(b"\xff").expect("a value"));
    headers.insert("set-cookie", HeaderValue::from_static("session=secret"));
    let body = br#"{"error":{"code":"rate_limit_exceeded","message":"slow down"}}"#;
    let record = Record {
        model: Some("gpt".into()),
        number: 2,
        status: Some(429),
        fault: Some(Fault::Truncated),
        headers: Rc::new(headers),
        prefix: Bytes::from_static(body),
        elapsed: Duration::from_millis(120),
        ..Record::for_tests()
    };
    let verdict = Verdict::throttled("429").cool_off(Duration::from_secs(2));
    let mut note = recorder.note_of("req_1", Redaction::default(), &record, &judged(verdict.clone()));
    note.backed_off(Some(RetryDecision::After(Duration::from_secs(3))));
    drop(note);
    drop(writer);

    let lines = lines(&path);
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].contains("secret"), "{}", lines[0]);
    let Recorded { request_id, verdict: said, backoff, facts, .. } = Entry::parse(lines[0].as_bytes()).expect("a line");
    assert_eq!((request_id.as_str(), said), ("req_1", verdict));
    assert_eq!(backoff, Some(Some(RetryDecision::After(Duration::from_secs(3)))));
    assert_eq!((facts.status(), facts.fault(), facts.number()), (Some(429), Some(Fault::Truncated), 2));
    assert_eq!((facts.phase(), facts.elapsed()), (record.phase, record.elapsed));
    assert_eq!(
        (facts.upstream(), facts.dialect(), facts.model()),
        ("test".into(), "openai".into(), Some("gpt".into()))
    );
    assert_eq!(facts.header("x-odd").as_deref(), Some(&b"\xff"[..]));
    assert_eq!(facts.header("X-Odd"), facts.header("x-odd"), "as in a live answer");
    assert_eq!(facts.header("set-cookie"), None);
    assert_eq!(facts.header_names(), record.header_names());
    assert_eq!(facts.body_prefix(10), record.body_prefix(10));
    assert_eq!(facts.provider_error(), record.provider_error());
    assert_eq!(facts.retry_after(), Some(Duration::from_secs(2)));
    assert_eq!(facts.body_json("/error/message").as_deref(), Some("slow down"));
    assert_eq!(facts.rate_limit(Dimension::Tokens), record.rate_limit(Dimension::Tokens));
    assert!(facts.rate_limit(Dimension::Tokens).is_some_and(|limit| limit.remaining == 7));
    assert!(record.unix_time().abs_diff(facts.unix_time()) < Duration::from_secs(60));
    assert_eq!(recorder.counts().written.get(), 1);
}

#[test]
fn a_streams_error_is_kept_although_its_beginning_is_no_json() {
    let error = ProviderError { code: Some("overloaded".into()), kind: None, message: "later".into() };
    let record = Record {
        streaming: true,
        prefix: Bytes::from_static(b"event: error\ndata: {}\n\n"),
        error: OnceCell::from(Some(error.clone())),
        json: OnceCell::from(body_json::parse(br#"{"error":{"code":"overloaded"}}"#)),
        ..Record::for_tests()
    };
    let (queue, messages) = sync_channel(1);
    let recorder = Recorder { queue, counts: Recordings::default() };
    drop(recorder.note_of("req_1", Redaction::default(), &record, &judged(Verdict::overloaded("x"))));
    let Ok(Message::Attempt(attempt)) = messages.try_recv() else { panic!("nothing was handed over") };
    let line = serde_json::to_vec(&attempt.into_entry()).expect("a line");
    let facts = Entry::parse(&line).expect("a line").facts;
    assert_eq!(facts.provider_error(), Some(error));
    assert_eq!(facts.body_json("/error/code").as_deref(), Some("overloaded"));
}

#[test]
fn a_full_queue_drops_and_counts_and_never_waits() {
    let (queue, _messages) = sync_channel(1);
    let recorder = Recorder { queue, counts: Recordings::default() };
    for _ in 0..3 {
        drop(recorder.note_of("req_1", Redaction::default(), &Record::for_tests(), &judged(Verdict::success())));
    }
    assert_eq!(recorder.counts().dropped.get(), 2);
}

#[test]
fn what_is_no_line_of_ours_is_told_why() {
    let good = {
        let (queue, messages) = sync_channel(1);
        let recorder = Recorder { queue, counts: Recordings::default() };
        drop(recorder.note_of(
            "req_1",
            Redaction::default(),
            &Record::for_tests(),
            &judged(Verdict::failure("x").advice(Advice::GiveUp)),
        ));
        let Ok(Message::Attempt(attempt)) = messages.try_recv() else { panic!("nothing was handed over") };
        serde_json::to_string(&attempt.into_entry()).expect("a line")
    };
    assert_eq!(Entry::parse(good.as_bytes()).map(|line| line.verdict.class), Ok(Class::Failure));
    for (from, to, complaint) in [
        ("\"form\":1", "\"form\":2", "this Spillway reads form 1"),
        ("\"class\":\"failure\"", "\"class\":\"fine\"", "\"fine\" is no class"),
        ("\"phase\":\"before content\"", "\"phase\":\"late\"", "\"late\" is no phase"),
        ("\"body\":\"\"", "\"body\":{\"hex\":\"0g\"}", "no hexadecimal digits"),
        ("{", "", "expected"),
    ] {
        let wrong = good.replacen(from, to, 1);
        assert_ne!(wrong, good, "{from}");
        let error = Entry::parse(wrong.as_bytes()).expect_err("a wrong line");
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn a_request_without_an_attempt_has_a_line_of_its_own_and_is_no_attempt() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("requests.jsonl");
    let (recorder, writer) = start(&path).expect("started");
    let arrival = Arrival {
        came_unix_ms: 1_700_000_000_000,
        tenant: "batch".to_owned(),
        tokens_max: 70,
        has_come_back: true,
        allowed_ms: 60_000,
    };
    let unserved = Unserved {
        form: FORM,
        request_id: "req_2".to_owned(),
        upstream: "openai".to_owned(),
        model: Some("gpt".to_owned()),
        arrival: arrival.clone(),
        outcome: "circuit_open".to_owned(),
        ended_after_ms: 1_000,
    };
    recorder.unserved(unserved.clone());
    let sent = (&HeaderMap::new(), "/v1/models");
    drop(recorder.note("req_3", sent, &Record::for_tests(), &judged(Verdict::success()), Some(arrival.clone())));
    drop(recorder.note("job", sent, &Record::for_tests(), &judged(Verdict::success()), None));
    drop(writer);
    let mut found = Vec::new();
    read(&path, |_, line| found.push(line.expect("a line"))).expect("it is read");
    let [Line::Unserved(first), Line::Attempt(second), Line::Attempt(third)] = &found[..] else {
        unreachable!("{found:?}")
    };
    assert_eq!((first, &second.arrival, &third.arrival), (&unserved, &Some(arrival), &None));
}
