use super::advice::Audience;
use super::words::MESSAGE_BYTES_MAX;
use super::{OfSeveral, Owner, Refusal, RefusalKind};
use crate::dialect::library::Library;
use crate::runtime::causes::ErrorChain;
use crate::runtime::shortage::Shortage;
use crate::upstream::said::Said;
use http::StatusCode;
use spillway_resilience::{Dimension, GuardKind, Priority, Tripped};
use spillway_sdk::Fault;
use std::collections::BTreeSet;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

/// How many kinds there are. One more needs a sample below, and gets its line in `advice` from the compiler.
const KINDS: usize = 27;

const LIBRARIES: [Library; 6] = [
    Library::Official { retries: "max_retries" },
    Library::Official { retries: "maxRetries" },
    Library::Vercel,
    Library::Google,
    Library::Other,
    Library::None,
];

fn said(status: u16, message: &str) -> Option<Arc<Said>> {
    let status = StatusCode::from_u16(status).expect("a status");
    Some(Arc::new(Said { status, error: None, message: message.to_owned() }))
}

/// Samples of every kind. What somebody else writes into them ends as it likes.
fn samples() -> Vec<RefusalKind> {
    let upstream = || "openai".to_owned();
    let owners = || [Owner::Upstream(upstream()), Owner::Tenant("batch".to_owned())];
    let cause = Some(ErrorChain::of(std::io::Error::other("connection refused by 127.0.0.1:9.")));
    let faults = [
        Fault::Dns,
        Fault::ConnectRefused,
        Fault::ConnectTimeout,
        Fault::Tls,
        Fault::Reset,
        Fault::Protocol,
        Fault::FirstContentTimeout,
        Fault::IdleTimeout,
        Fault::AttemptTimeout,
        Fault::Truncated,
    ];
    let mut samples = vec![
        RefusalKind::CircuitOpen { upstream: upstream(), cause: "a call failed.".into(), said: None },
        RefusalKind::CircuitOpen { upstream: upstream(), cause: "a call failed".into(), said: said(500, "It broke.") },
        RefusalKind::CircuitOpen { upstream: upstream(), cause: "a call failed".into(), said: said(402, "No money.") },
        RefusalKind::CircuitOpen { upstream: upstream(), cause: "a call failed".into(), said: said(503, "") },
        RefusalKind::Paced { upstream: "openai for this model gpt-5".into(), said: said(429, "Slow\n down!") },
        RefusalKind::Paced { upstream: upstream(), said: None },
        RefusalKind::NoBudget { upstream: upstream() },
        RefusalKind::Overloaded { priority: Priority::Low },
        RefusalKind::Short { shortage: Shortage::Descriptors },
        RefusalKind::Short { shortage: Shortage::Ports },
        RefusalKind::Short { shortage: Shortage::Memory },
        RefusalKind::Impatient { upstream: upstream() },
        RefusalKind::JudgedFailed {
            upstream: upstream(),
            reason: "200 with an error.".into(),
            status: StatusCode::BAD_GATEWAY,
        },
        RefusalKind::StreamCut { upstream: upstream(), fault: Fault::Reset },
        RefusalKind::BodyTooLarge { limit: 1_024, remedy: "Raise server.max_body to allow it." },
        RefusalKind::BodyLate { timeout: Duration::from_secs(60) },
        RefusalKind::BadRequest { reason: "its body broke off".into() },
        RefusalKind::NoSuchRoute { path: "/".repeat(100_000) },
        RefusalKind::NoSuchJob { lost: None },
        RefusalKind::NoSuchJob { lost: Some("the database was replaced.".into()) },
        RefusalKind::SpoolOff,
        RefusalKind::WrongMethod { allowed: "GET, DELETE" },
        RefusalKind::AccessRequired { route: "chat".into() },
        RefusalKind::Stranger,
        RefusalKind::Forbidden { reason: "a web page sent it".into() },
        RefusalKind::Conflict { reason: "The job is done already".into() },
        RefusalKind::SpoolFull { kept: "10000 requests that wait (spool.max_jobs)".into() },
        RefusalKind::SpoolUnavailable { reason: "its disk did not answer within 5s.".into() },
        RefusalKind::Defect,
    ];
    for guard in GuardKind::ALL {
        let tripped = Tripped { guard, figure: 1_200_000, limit: 1_000_000, is_news: true };
        samples.push(RefusalKind::Runaway { tripped });
    }
    for owner in owners() {
        samples.push(RefusalKind::LimitExceeded { owner: owner.clone(), dimension: Dimension::Tokens, limit: 100 });
        samples.push(RefusalKind::Saturated { owner, what: "10 calls are in flight".into() });
    }
    for fault in faults {
        for cause in [None, cause.clone()] {
            samples.push(RefusalKind::Unreachable { upstream: upstream(), fault, cause: cause.clone() });
            samples.push(RefusalKind::TimedOut { upstream: upstream(), fault, cause });
        }
    }
    samples
}

fn audiences() -> Vec<Audience> {
    let callers = LIBRARIES
        .into_iter()
        .flat_map(|library| [true, false].map(|may_be_kept| Audience::Caller { library, may_be_kept }));
    callers.chain([Audience::Records]).collect()
}

/// Every sample, at once and later, alone and of a route, for every audience.
fn every_message(mut look: impl FnMut(&Refusal, Audience, &str)) {
    for kind in samples() {
        for wait in [None, Some(3_200), Some(61_000), Some(0)] {
            for tried in [None, Some(false), Some(true)] {
                let tried = tried.map(|is_final| OfSeveral { list: "openai (503), azure (429)".into(), is_final });
                let refusal = Refusal { kind: kind.clone(), retry_after: wait.map(Duration::from_millis), tried };
                for audience in audiences() {
                    look(&refusal, audience, &refusal.message_to(audience));
                }
            }
        }
    }
}

#[test]
fn there_is_a_sample_of_every_kind() {
    let kinds: BTreeSet<String> = samples().iter().map(|kind| format!("{:?}", discriminant(kind))).collect();
    assert_eq!(kinds.len(), KINDS);
}

#[test]
fn no_sdk_is_told_to_ask_for_a_promise_nor_anybody_whose_request_is_not_kept() {
    let mut told = 0;
    every_message(|refusal, audience, message| {
        let can_take_one = audience == Audience::Caller { library: Library::None, may_be_kept: true };
        let names_it = message.contains("Prefer") || message.contains("respond-async");
        assert!(can_take_one || !names_it, "{audience:?}: {message}");
        told += usize::from(names_it);
        if can_take_one && matches!(refusal.kind, RefusalKind::CircuitOpen { .. } | RefusalKind::Paced { .. }) {
            assert!(names_it && message.contains("202"), "{message}");
        }
    });
    assert!(told > 0);
}

#[test]
fn every_message_is_whole_sentences_and_bounded() {
    every_message(|_, audience, message| {
        for wrong in ["..", ".,", ";.", ",.", ":.", "  ", " .", "!.", "?.", "\n", "\u{201c}\u{201c}"] {
            assert!(!message.contains(wrong) || message.contains("//"), "{audience:?}: {wrong:?} in {message}");
        }
        assert!(message.ends_with(['.', '"']), "{message}");
        assert!(message.starts_with(|first: char| first.is_ascii_uppercase()) || message.starts_with("openai"));
        assert!(message.len() <= MESSAGE_BYTES_MAX, "{} bytes: {message}", message.len());
    });
}

#[test]
fn every_message_says_whose_fault_it_is_and_what_to_do_next() {
    // Somebody is named, or what is his.
    let whose = [
        "openai",
        "Spillway",
        "The request",
        "The time is over",
        "The machine",
        "There ",
        "This path",
        "The job",
        "The limit",
    ];
    // A thing to do, a setting, or a time.
    let next = [
        "Try again",
        "Raise",
        "raise",
        "Check",
        "Send",
        "send",
        "Give",
        "Have ",
        "spool.",
        "server.",
        "Your SDK",
        "The AI SDK",
        "another target",
        "requests wait there",
        "its log",
        "served by other methods",
        "tries again",
        "ca_file",
        "is lower than",
        "/readyz",
        "`spillway env`",
        "ulimit",
        "ip_local_port_range",
    ];
    every_message(|refusal, audience, message| {
        assert!(whose.iter().any(|word| message.contains(word)), "whose fault? {message}");
        // What is refused for something of the caller's or the job's own says all there is to say.
        let says_it_all = matches!(
            refusal.kind,
            RefusalKind::BadRequest { .. } | RefusalKind::Forbidden { .. } | RefusalKind::Conflict { .. }
        ) || matches!(refusal.kind, RefusalKind::NoSuchJob { lost: Some(_) })
            || matches!(refusal.kind, RefusalKind::Unreachable { fault: Fault::Tls, .. });
        let is_told = audience != Audience::Records && refusal.tried.is_none();
        assert!(!is_told || says_it_all || next.iter().any(|word| message.contains(word)), "what next? {message}");
    });
}

#[test]
fn an_sdk_hears_whether_it_comes_again_by_itself_and_how_often() {
    let open = |status, wait_ms| {
        let cause = "none of the last 10 requests was served".into();
        let kind = RefusalKind::CircuitOpen { upstream: "openai".into(), cause, said: said(status, "It broke.") };
        Refusal::after(kind, Duration::from_millis(wait_ms))
    };
    let again = open(500, 3_200);
    let cases = [
        (LIBRARIES[0], &again, "its max_retries"),
        (LIBRARIES[1], &again, "its maxRetries"),
        (Library::Vercel, &again, "its maxRetries"),
        (Library::Google, &again, "retry_options"),
        (Library::Other, &again, "Have your SDK try again"),
        (LIBRARIES[0], &open(402, 3_200), "asked not to try again"),
        (LIBRARIES[0], &open(500, 90_000), "asked not to try again"),
    ];
    for (library, refusal, words) in cases {
        let message = refusal.message_to(Audience::of(library));
        assert!(message.contains(words) && message.contains("[routes]"), "{library:?}: {message}");
        // What is asked of it by a header is what it is told.
        let response = refusal.clone().into_response(crate::dialect::Dialect::OpenAi, "id", Audience::of(library));
        let is_asked = response.headers().get("x-should-retry").is_some_and(|value| value == "false");
        assert_eq!(is_asked, message.contains("asked not to"), "{library:?}: {message}");
    }
    assert_eq!(
        again.message_to(Audience::of(LIBRARIES[0])),
        "Spillway did not call openai: its circuit is open (none of the last 10 requests was served), which keeps \
         calls from it until it is likely to serve again. The provider last said (500): \"It broke.\" Try again in \
         3.2 s. Your SDK tries again as often as its max_retries allows; raise that for more tries. Whoever runs \
         Spillway can have another target stand in: [routes]."
    );
}

#[test]
fn what_others_write_is_quoted_on_one_line_and_cut() {
    let long = format!("first\r\nsecond {}", "ä".repeat(1_000));
    let kind = RefusalKind::Paced { upstream: "openai".into(), said: said(429, &long) };
    let message = Refusal::from(kind).reason();
    assert!(message.contains("\"first second ä") && message.ends_with("ä…\""), "{message}");
    let kind = RefusalKind::JudgedFailed {
        upstream: "openai".into(),
        reason: "odd...".into(),
        status: StatusCode::BAD_GATEWAY,
    };
    assert!(Refusal::from(kind).reason().ends_with("counts as a failure: odd."));
}
