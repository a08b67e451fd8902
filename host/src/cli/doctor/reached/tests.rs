use super::super::finding::Verdict;
use super::*;

fn reached(outcome: Result<Answer, Failure>) -> Reached {
    Reached {
        name: "mine".to_owned(),
        url: "https://api.example".to_owned(),
        host: "api.example".to_owned(),
        is_encrypted: true,
        is_here: false,
        dialect: Dialect::OpenAi,
        proxy: None,
        is_meant: true,
        outcome,
        took: Took { connection: Some(Duration::from_millis(41)), ..Took::default() },
        keys: Vec::new(),
    }
}

fn answering(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    Answer { status, is_page: false, location: None, clock_ahead_ms: None }
}

fn failing(cause: Cause) -> Reached {
    reached(Err(Failure { cause, sentence: "it did not go well".to_owned() }))
}

#[test]
fn an_answer_of_an_api_is_well_whatever_it_says_of_the_missing_key() {
    for status in [200, 400, 401, 404, 405, 429] {
        let finding = reached(Ok(answering(status))).findings().remove(0);
        assert_eq!(finding.verdict, Verdict::Well, "{status}: {finding:?}");
        assert!(finding.said.contains("connection with TLS 41 ms"), "{finding:?}");
    }
    let gemini = Reached { dialect: Dialect::Gemini, ..reached(Ok(answering(403))) };
    assert_eq!(gemini.findings()[0].verdict, Verdict::Well);
}

#[test]
fn an_answer_that_no_api_gives_is_doubted() {
    let page = Answer { is_page: true, ..answering(200) };
    let elsewhere = Answer { location: Some("https://login.example".to_owned()), ..answering(302) };
    for (answer, words) in [
        (answering(403), "by country"),
        (answering(503), "trouble of its own"),
        (page, "sign-in page"),
        (elsewhere, "upstreams.mine.url"),
    ] {
        let finding = reached(Ok(answer)).findings().remove(0);
        assert!(finding.verdict == Verdict::Doubtful, "{finding:?}");
        assert!(finding.next.as_ref().is_some_and(|next| next.contains(words)), "{finding:?}");
    }
    assert_eq!(reached(Ok(answering(407))).findings()[0].verdict, Verdict::Broken);
}

#[test]
fn every_cause_has_advice_and_a_proxy_changes_it() {
    use Cause::*;
    let causes = [
        (Shortage, "ulimit"),
        (Name, "online"),
        (Refused, "firewall"),
        (Silent, "firewall"),
        (ProxyRefused, "NAME:PASSWORD"),
        (UnknownAuthority, "ca_file"),
        (Expired, "renew"),
        (NotYetValid, "clock is behind"),
        (OtherName, "/etc/hosts"),
        (NoTls, "http://"),
        (Tls, "another network"),
        (BrokenOff, "another network"),
        (NoAnswer, "Ask again"),
        (OutOfTime, "connect_timeout"),
    ];
    for (cause, words) in causes {
        let finding = failing(cause).findings().remove(0);
        assert_eq!(finding.verdict, Verdict::Broken, "{cause:?}");
        assert!(finding.next.as_ref().is_some_and(|next| next.contains(words)), "{cause:?}: {finding:?}");
    }
    for cause in [Name, Refused, Silent] {
        let proxied = Reached { proxy: Some("http://proxy.example:3128".to_owned()), ..failing(cause) };
        let finding = proxied.findings().remove(0);
        assert!(finding.said.contains("through the proxy http://proxy.example:3128"), "{finding:?}");
        assert!(finding.next.as_ref().is_some_and(|next| next.contains("proxy")), "{finding:?}");
    }
}

#[test]
fn what_nobody_wants_is_only_doubted() {
    let unwanted = Reached { is_meant: false, ..failing(Cause::Name) };
    let finding = unwanted.findings().remove(0);
    assert!(finding.verdict == Verdict::Doubtful && finding.said.contains("nothing here asks for it"), "{finding:?}");
}

#[test]
fn a_key_is_judged_by_what_it_changes() {
    let tried = |without: u16, dialect: Dialect, asked: Asked| {
        let keys = vec![KeyTried { source: "MY_KEY".to_owned(), asked }];
        let finding = Reached { keys, dialect, ..reached(Ok(answering(without))) }.findings().remove(1);
        (finding.verdict, finding.said)
    };
    let answered = |status| Asked::Answered(StatusCode::from_u16(status).unwrap_or_default());
    let cases = [
        (401, Dialect::OpenAi, answered(200), Verdict::Well, "MY_KEY is taken"),
        (200, Dialect::OpenAi, answered(200), Verdict::Well, "the same without a key"),
        (401, Dialect::OpenAi, answered(401), Verdict::Broken, "MY_KEY is refused"),
        (403, Dialect::Gemini, answered(400), Verdict::Broken, "MY_KEY is refused"),
        (401, Dialect::OpenAi, answered(400), Verdict::Doubtful, "nothing is known of MY_KEY"),
        (401, Dialect::OpenAi, answered(429), Verdict::Well, "rate limit"),
        (401, Dialect::OpenAi, answered(402), Verdict::Doubtful, "balance"),
        (401, Dialect::OpenAi, Asked::Unreadable("MY_KEY is empty".to_owned()), Verdict::Broken, "MY_KEY is empty"),
        (401, Dialect::OpenAi, Asked::Withheld("far".to_owned()), Verdict::Doubtful, "MY_KEY was not shown"),
        (401, Dialect::OpenAi, Asked::Unanswered("late".to_owned()), Verdict::Doubtful, "late"),
    ];
    for (without, dialect, asked, verdict, words) in cases {
        let (found, said) = tried(without, dialect, asked.clone());
        assert!(found == verdict && said.contains(words), "{asked:?}: {said}");
    }
}
