//! TLS towards callers: what is refused before anybody can call, and what holds for those who do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{APIS, chat, chat_stream};
use spillway_tests::certificates::{Authority, self_signed};
use spillway_tests::http::{Connection, get, request};
use spillway_tests::provider::{Provider, Reply, healthy, stream};
use spillway_tests::spillway::{Setup, Spillway, write_pair};
use spillway_tests::wait::eventually;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const ACCESS: &str = "access-canary-0123456789";

/// Many times what the kernel buffers of an answer that nobody reads.
const HUGE_BYTES: usize = 48 << 20;

fn huge() -> Reply {
    let event = json!({"choices": [{"delta": {"content": "x".repeat(64 << 10)}, "finish_reason": null}]});
    let last = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    (0..HUGE_BYTES / (64 << 10)).fold(stream(), |reply, _| reply.event(event.clone())).event(last).done()
}

fn encrypted(provider: &Provider) -> (Setup, Authority) {
    let authority = Authority::new();
    (Setup::with(provider).with_certificate(&authority.certify("localhost")), authority)
}

#[test]
fn what_cannot_serve_is_refused_by_check_and_run_with_what_to_do() {
    let authority = Authority::new();
    let (right, other) = (authority.certify("localhost"), authority.certify("localhost"));
    type Spoil = Box<dyn Fn(&Path)>;
    let write = |name: &'static str, text: String| -> Spoil {
        Box::new(move |folder| fs::write(folder.join(name), &text).unwrap())
    };
    let cases: Vec<(Spoil, &str, &str)> = vec![
        (write("certificate.pem", authority.certify_until("localhost", 2020).pem), "certificate", "has expired on"),
        (write("certificate.pem", authority.certify_from("localhost", 2090).pem), "certificate", "is not valid before"),
        (write("certificate.pem", right.key_pem.clone()), "certificate", "swapped"),
        (write("certificate.pem", "letters".to_owned()), "certificate", "openssl x509"),
        (write("certificate.pem", String::new()), "certificate", "is empty"),
        (write("certificate.pem", right.pem.replace("MII", "M!I")), "certificate", "damaged"),
        (Box::new(|folder| fs::remove_file(folder.join("certificate.pem")).unwrap()), "certificate", "cannot read"),
        (write("key.pem", other.key_pem.clone()), "key", "is not the key of the certificate"),
        (write("key.pem", right.pem.clone()), "key", "swapped"),
        (write("key.pem", right.key_pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")), "key", "openssl pkey"),
        (write("key.pem", "letters".to_owned()), "key", "openssl pkey"),
        (write("certificate.pem", format!("{}{}", authority.pem, right.pem)), "key", "put that one first"),
    ];
    for (spoil, key, said) in cases {
        let setup = Setup::bare().with_certificate(&right);
        spoil(setup.folder());
        for command in ["check", "run"] {
            let ended = setup.run_to_end(&[command]);
            assert_eq!(ended.code, Some(2), "{command}: {}", ended.stderr);
            let line = ended.stderr.lines().find(|line| line.contains(&format!("server.tls.{key}:")));
            assert!(line.is_some_and(|line| line.contains(said)), "{said} is not in: {}", ended.stderr);
        }
    }
}

#[test]
fn a_certificate_that_can_serve_is_valid_without_a_doubt() {
    let right = Authority::new().certify("localhost");
    let ended = Setup::bare().with_certificate(&right).run_to_end(&["check"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stdout.contains("Is this meant"), "{}", ended.stdout);
}

#[test]
fn what_can_be_meant_is_doubted() {
    use std::os::unix::fs::PermissionsExt;
    let authority = Authority::new();
    let setup = Setup::bare().with_certificate(&authority.certify_for_days("localhost", 12));
    fs::set_permissions(setup.folder().join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = setup.run_to_end(&["check"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("can be read by every user") && ended.stdout.contains("chmod 600"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("expires on") && ended.stdout.contains("in 1"), "{}", ended.stdout);
}

#[test]
fn other_machines_are_let_in_where_a_key_is_demanded_and_somebody_encrypts() {
    let authority = Authority::new();
    for (lines, lacking) in [
        ("", Some("[server.tls]")),
        ("plaintext = true", None),
        ("behind_tls_proxy = true\ntrusted_proxies = [\"10.0.0.0/8\"]", None),
        ("behind_tls_proxy = true", Some("trusted_proxies")),
    ] {
        let setup =
            Setup::bare().set("server", &format!("listen = \"0.0.0.0:0\"\naccess_key_file = \"access.key\"\n{lines}"));
        fs::write(setup.folder().join("access.key"), ACCESS).unwrap();
        let ended = setup.run_to_end(&["check"]);
        assert_eq!(ended.code, Some(if lacking.is_some() { 2 } else { 0 }), "{lines}: {}", ended.stderr);
        assert!(ended.stderr.contains(lacking.unwrap_or_default()), "{lines}: {}", ended.stderr);
    }
    let setup = Setup::bare().set("server", "listen = \"0.0.0.0:0\"").with_certificate(&authority.certify("localhost"));
    let ended = setup.run_to_end(&["check"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("an access key"), "{}", ended.stderr);
    let setup = Setup::bare().set("server", "listen = \"0.0.0.0:0\"").set("keys", "required = true");
    let ended = setup.with_certificate(&authority.certify("localhost")).run_to_end(&["check"]);
    assert_eq!(ended.code, Some(0), "a virtual key is one as well: {}", ended.stderr);
}

#[test]
fn callers_are_served_over_tls_as_they_are_without() {
    let provider = Provider::start();
    let (setup, authority) = encrypted(&provider);
    let setup = setup.set("server", "listen = \"0.0.0.0:0\"\naccess_key_file = \"access.key\"");
    fs::write(setup.folder().join("access.key"), ACCESS).unwrap();
    let spillway = setup.start();
    let mut connection = spillway.connect_tls(&authority).unwrap();
    for api in APIS {
        for ask in [api.whole, api.stream] {
            let answer = connection.exchange(&ask()).unwrap();
            assert_eq!(answer.status(), 401, "{}", answer.text());
            let answer = connection.exchange(&ask().header("x-spillway-access-key", ACCESS)).unwrap();
            assert_eq!(answer.status(), 200, "{}", answer.text());
        }
    }
    let line = spillway.log().wait_for(&["\"outcome\":\"answered\""]);
    assert_eq!(line["caller"], "127.0.0.1");
    let status = spillway.status();
    assert_eq!(status["certificate"]["names"], json!(["localhost"]));
    assert!(spillway.metric("spillway_tls_certificate_left_seconds") > 1e9);
}

#[test]
fn who_does_not_speak_tls_is_told_and_who_does_not_believe_the_certificate_leaves() {
    let provider = Provider::start();
    let (setup, _) = encrypted(&provider);
    let spillway = setup.start();
    for ask in [chat(), get("/v1/models"), request("OPTIONS", "/")] {
        let answer = spillway.send(&ask);
        assert_eq!((answer.status(), answer.refusal()), (400, Some("spillway_tls")), "{answer:?}");
        assert!(answer.at("/error/message").contains("https://"), "{}", answer.text());
    }
    assert!(spillway.connect_tls(&Authority::new()).is_err());
    spillway.log().wait_for(&["could not agree on TLS"]);
    assert_eq!(provider.stats().started, 0);
}

#[test]
fn a_renewed_certificate_takes_over_for_new_connections_and_one_that_cannot_serve_does_not() {
    let provider = Provider::start();
    let (setup, before) = encrypted(&provider);
    let spillway = setup.start();
    let mut open = spillway.connect_tls(&before).unwrap();
    assert_eq!(open.exchange(&chat()).unwrap().status(), 200);

    // Its key is another one's.
    let after = Authority::new();
    let (renewed, other) = (after.certify("localhost"), after.certify("localhost"));
    fs::write(spillway.folder().join("certificate.pem"), &renewed.pem).unwrap();
    fs::write(spillway.folder().join("key.pem"), &other.key_pem).unwrap();
    spillway.log().wait_for(&["is not taken", "is not the key of the certificate"]);
    assert_eq!(spillway.connect_tls(&before).unwrap().exchange(&chat()).unwrap().status(), 200);

    write_pair(spillway.folder(), &renewed);
    spillway.log().wait_for(&["new connections are shown it"]);
    assert!(spillway.connect_tls(&before).is_err());
    assert_eq!(spillway.connect_tls(&after).unwrap().exchange(&chat()).unwrap().status(), 200);
    assert_eq!(open.exchange(&chat()).unwrap().status(), 200, "what is open stays open");

    // One that has expired comes, and goes again.
    write_pair(spillway.folder(), &after.certify_until("localhost", 2020));
    spillway.log().wait_for(&["is not taken", "has expired"]);
    write_pair(spillway.folder(), &renewed);
    spillway.log().wait_for(&["are those in use again"]);
    assert_eq!(spillway.connect_tls(&after).unwrap().exchange(&chat()).unwrap().status(), 200);
}

#[test]
fn a_certificate_that_ends_soon_is_told_at_the_start_and_by_the_log() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).with_certificate(&Authority::new().certify_for_days("localhost", 3));
    let spillway = setup.start();
    spillway.log().wait_for(&["the certificate ends soon"]);
}

#[test]
fn a_caller_that_stops_reading_or_leaves_ends_its_call_over_tls_too() {
    let provider = Provider::start();
    let (setup, authority) = encrypted(&provider);
    let spillway = setup.set("server", "write_timeout = \"500ms\"").start();
    provider.next(huge());
    let mut stopped = spillway.connect_tls(&authority).unwrap();
    stopped.send(&chat_stream()).unwrap();
    assert_eq!(stopped.head().unwrap().status, 200);
    provider.wait_for_disconnect();
    spillway.log().wait_for(&["stopped reading", "\"outcome\":\"abandoned\""]);

    let left = Provider::start();
    let (setup, authority) = encrypted(&left);
    let spillway = setup.start();
    left.next(stream().event(json!({"choices": [{"delta": {"content": "a"}}]})).stall());
    let mut connection = spillway.connect_tls(&authority).unwrap();
    connection.send(&chat_stream()).unwrap();
    assert_eq!(connection.head().unwrap().status, 200);
    drop(connection);
    left.wait_for_disconnect();
    spillway.log().wait_for(&["\"outcome\":\"abandoned\""]);
}

#[test]
fn a_caller_that_reads_slowly_or_sends_no_more_gets_all_of_its_answer_over_tls_too() {
    let provider = Provider::start();
    let (setup, authority) = encrypted(&provider);
    let spillway = setup.set("server", "write_timeout = \"500ms\"").start();
    provider.next(huge());
    let mut answer = spillway.connect_tls(&authority).unwrap();
    answer.send(&chat_stream()).unwrap();
    assert_eq!(answer.head().unwrap().status, 200);
    let began = Instant::now();
    let mut read = 0;
    // Far less than what would make room in the kernel's buffers within the timeout.
    while began.elapsed() < Duration::from_secs(3) {
        read += answer.piece().unwrap().unwrap().len();
        thread::sleep(Duration::from_millis(50));
    }
    read += answer.body().unwrap().len();
    assert!(read > HUGE_BYTES, "{read}");

    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    let mut connection = spillway.connect_tls(&authority).unwrap();
    connection.send(&chat()).unwrap();
    connection.finish_sending().unwrap();
    provider.wait_until(|stats| stats.in_flight() == 1);
    // It is looked for several times meanwhile.
    thread::sleep(Duration::from_millis(300));
    gate.open();
    assert_eq!((connection.response().unwrap().status(), provider.stats().aborted), (200, 0));
}

#[test]
fn a_websocket_opens_over_tls() {
    let provider = Provider::start();
    let (setup, authority) = encrypted(&provider);
    let spillway = setup.start();
    let upgrade = get("/v1/realtime?model=mock-realtime")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("authorization", "Bearer sk-test");
    let mut connection = spillway.connect_tls(&authority).unwrap();
    connection.send(&upgrade).unwrap();
    assert_eq!(connection.head().unwrap().status, 101);
    // A frame that closes it, masked by nothing, with which the provider's answer ends as well.
    connection.send_raw(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    let rest = connection.everything().unwrap();
    assert!(rest.contains("session.created"), "{rest}");
    spillway.log().wait_for(&["websocket for"]);
}

#[test]
fn an_answer_that_breaks_off_never_ends_as_if_it_were_whole() {
    let provider = Provider::start();
    let (setup, authority) = encrypted(&provider);
    let spillway = setup.start();
    provider.next(stream().event(json!({"choices": [{"delta": {"content": "a"}}]})).cut());
    let mut connection = spillway.connect_tls(&authority).unwrap();
    connection.send(&chat_stream()).unwrap();
    assert_eq!(connection.head().unwrap().status, 200);
    let (events, end) = connection.events();
    assert!(events.iter().any(|event| event.contains("error")), "{events:?}");
    let error = end.expect_err("it breaks off");
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
}

#[test]
fn handshakes_that_never_end_keep_nobody_from_connecting_and_are_closed() {
    let provider = Provider::start();
    let (setup, authority) = encrypted(&provider);
    let spillway = setup.set("server", "head_timeout = \"2s\"\nworkers = 1").start();
    let silent: Vec<TcpStream> = (0..600).map(|_| TcpStream::connect(spillway.address()).unwrap()).collect();
    assert_eq!(spillway.connect_tls(&authority).unwrap().exchange(&chat()).unwrap().status(), 200);
    eventually("the silent ones are closed", || {
        let is_closed = |stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
        };
        silent.iter().all(is_closed).then_some(())
    });
}

#[test]
fn a_self_signed_certificate_serves_and_status_finds_the_way() {
    let provider = Provider::start();
    let identity = self_signed("localhost");
    let spillway: Spillway = Setup::with(&provider).with_certificate(&identity).start();
    assert_eq!(spillway.status()["certificate"]["names"], json!(["localhost"]));
    let ended = spillway_tests::spillway::run_to_end(
        spillway.folder(),
        &["env".into(), "--config".into(), "spillway.toml".into(), "--shell".into(), "sh".into()],
    );
    assert!(ended.stdout.contains("OPENAI_BASE_URL=https://localhost:"), "{}", ended.stdout);
}

/// A Spillway that other machines reach through a proxy at this address.
fn behind(provider: &Provider, proxies: &str) -> Setup {
    let setup = Setup::with(provider);
    fs::write(setup.folder().join("access.key"), ACCESS).unwrap();
    setup.set(
        "server",
        &format!("behind_tls_proxy = true\ntrusted_proxies = [\"{proxies}\"]\naccess_key_file = \"access.key\""),
    )
}

#[test]
fn a_trusted_proxy_says_for_whom_it_asks_and_nobody_else_is_let_in() {
    let provider = Provider::start();
    let ask = chat().header("x-spillway-access-key", ACCESS).header("x-forwarded-for", "198.51.100.7, 127.0.0.9");
    let spillway = behind(&provider, "127.0.0.0/8").start();
    assert_eq!(spillway.send(&chat()).status(), 401);
    assert_eq!(spillway.send(&ask).status(), 200);
    let line = spillway.log().wait_for(&["\"outcome\":\"answered\""]);
    assert_eq!(line["caller"], "198.51.100.7");
    let sent = provider.requests();
    assert!(sent.iter().all(|request| request.header("x-forwarded-for").is_none()), "it is no provider's to see");

    let elsewhere = behind(&provider, "10.0.0.0/8").start();
    let answer = elsewhere.send(&ask);
    assert_eq!(answer.status(), 403);
    assert!(answer.text().contains("127.0.0.1") && answer.text().contains("trusted_proxies"), "{}", answer.text());
}

#[test]
fn operators_on_other_machines_show_a_token_that_may_do_what_they_want() {
    let provider = Provider::start();
    let authority = Authority::new();
    let setup = Setup::with(&provider).with_certificate(&authority.certify("localhost"));
    let made = setup.run_to_end(&["admin", "token", "new", "someone", "--json"]);
    // It knows no --config, and says so.
    assert_eq!(made.code, Some(2), "{}", made.stderr);
    let made = spillway_tests::spillway::run_to_end(
        setup.folder(),
        &["admin", "token", "new", "someone", "--json"].map(Into::into),
    );
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    let (token, sha256) = (made["token"].as_str().unwrap(), made["sha256"].as_str().unwrap());
    let setup = setup
        .set("admin", "listen = \"0.0.0.0:0\"")
        .set("admin.tokens.someone", &format!("role = \"read\"\nsha256 = \"{sha256}\""));
    let spillway = setup.start();
    let ask = |request| {
        let admin = spillway.admin_address();
        let mut connection = Connection::open_tls(admin, &authority.client(&[]), "localhost").unwrap();
        connection.exchange(&request).unwrap()
    };
    let shown = |request: spillway_tests::http::Request| request.header("authorization", &format!("Bearer {token}"));
    for probe in ["/livez", "/readyz"] {
        assert_eq!(ask(get(probe)).status(), 200, "{probe}");
    }
    for path in ["/status", "/metrics", "/"] {
        let refused = ask(get(path));
        assert_eq!((refused.status(), refused.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        assert!(refused.text().contains("spillway admin token new"), "{}", refused.text());
        assert_eq!(ask(shown(get(path))).status(), 200, "{path}");
    }
    assert_eq!(ask(get("/status").header("authorization", "Bearer wrong")).status(), 401);
    let refused = ask(shown(request("POST", "/status")));
    assert_eq!(refused.status(), 403);
    assert!(refused.text().contains("operate"), "{}", refused.text());
}
