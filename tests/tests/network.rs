//! The way to a provider: through proxies, with certificates, over connections that have died, and what is said when there
//! is none.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use spillway_tests::asks::{chat, chat_stream};
use spillway_tests::between::{Between, Seen};
use spillway_tests::certificates::{Authority, Identity, self_signed};
use spillway_tests::http::Response;
use spillway_tests::provider::{Provider, respond, stall};
use spillway_tests::spillway::{Setup, Spillway};
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// A Spillway whose only provider in use is there.
fn setup(url: &str) -> Setup {
    let setup = Setup::bare().set("upstreams.openai", &format!("url = \"{url}\""));
    // One worker has one connection for call after call.
    setup.set("server", "workers = 1")
}

/// One behind TLS on this machine.
fn behind(front: &Between) -> Setup {
    setup(&format!("https://localhost:{}", front.port()))
}

/// Puts a file into the folder of the configuration.
fn with_file(setup: Setup, name: &str, text: &str) -> Setup {
    fs::write(setup.folder().join(name), text).expect("a file");
    setup
}

/// A refusal's message, that must be known to the log as well, and must keep SDKs from trying again.
fn told_once(spillway: &Spillway, front: &Between, words: &str) -> Response {
    let answer = spillway.send(&chat());
    let text = answer.text();
    assert_eq!((answer.status(), &*answer.at("/error/code")), (502, "spillway_upstream_unreachable"), "{text}");
    assert!(text.contains(words), "{text}");
    assert_eq!(answer.header("x-should-retry"), Some("false"), "{text}");
    spillway.log().wait_for(&[words, "\"message\":\"request\"", "\"attempts\":1"]);
    assert_eq!(front.seen().len(), 1, "it was not tried again");
    answer
}

#[test]
fn whatever_the_environment_or_the_configuration_trusts_is_trusted() {
    let provider = Provider::start();
    let authority = Authority::new();
    let self_signed = self_signed("localhost");
    let signed = authority.certify("localhost");
    let cases: [(&str, &Identity, &str); 2] =
        [("an authority", &signed, &authority.pem), ("what openssl req -x509 makes", &self_signed, &self_signed.pem)];
    for (name, identity, trusted) in cases {
        let front = Between::tls(provider.address(), identity);
        let ways: [fn(Setup) -> Setup; 3] = [
            |setup| {
                let file = setup.folder().join("trusted.pem").display().to_string();
                setup.environment("SSL_CERT_FILE", &file)
            },
            |setup| {
                let folder = setup.folder().display().to_string();
                setup.environment("SSL_CERT_DIR", &folder)
            },
            |setup| setup.set("upstreams.openai", "ca_file = \"trusted.pem\""),
        ];
        for (number, way) in ways.into_iter().enumerate() {
            let spillway = way(with_file(behind(&front), "trusted.pem", trusted)).start();
            let answer = spillway.send(&chat());
            assert_eq!(answer.status(), 200, "{name}, way {number}: {}", answer.text());
        }
    }
}

#[test]
fn each_mistake_with_a_certificate_is_named_and_not_tried_again() {
    let provider = Provider::start();
    let authority = Authority::new();
    let cases = [
        (authority.certify_until("localhost", 2025), "certificate expired on 2025-11-30"),
        (authority.certify("elsewhere.example"), "certificate is for another name (DnsName(\\\"elsewhere.example\\\")"),
        (Authority::new().certify("localhost"), "certificate signed by an unknown authority"),
        (self_signed("localhost"), "certificate signed by an unknown authority"),
    ];
    for (identity, words) in cases {
        let front = Between::tls(provider.address(), &identity);
        let setup = with_file(behind(&front), "ca.pem", &authority.pem);
        let spillway = setup.set("upstreams.openai", "ca_file = \"ca.pem\"").start();
        told_once(&spillway, &front, words);
    }
    assert_eq!(provider.stats().started, 0);
}

#[test]
fn plain_http_where_tls_is_expected_is_named() {
    let provider = Provider::start();
    let spillway = setup(&provider.url().replace("http://", "https://")).start();
    let answer = spillway.send(&chat());
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("it does not speak TLS"), "{}", answer.text());
}

#[test]
fn a_file_of_authorities_that_holds_none_is_a_mistake_with_its_line() {
    let setup = with_file(setup("https://api.example"), "empty.pem", "nothing");
    let ended = setup.set("upstreams.openai", "ca_file = \"empty.pem\"").run_to_end(&["check"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("upstreams.openai.ca_file") && ended.stderr.contains("no certificate"),
        "{}",
        ended.stderr
    );
}

/// How a proxy is named.
type Naming = fn(Setup, &str) -> Setup;

#[test]
fn calls_go_through_the_proxy_that_the_environment_or_the_configuration_names() {
    let provider = Provider::start();
    let identity = self_signed("api.example");
    let front = Between::tls(provider.address(), &identity);
    let front_address = std::net::SocketAddr::from(([127, 0, 0, 1], front.port()));
    let trusting = |url: &str| {
        let setup = with_file(setup(url), "ca.pem", &identity.pem);
        setup.set("upstreams.openai", "ca_file = \"ca.pem\"")
    };
    let namings: [(Naming, bool); 6] = [
        (|setup, url| setup.environment("HTTPS_PROXY", url), true),
        (|setup, url| setup.environment("https_proxy", url), true),
        (|setup, url| setup.environment("ALL_PROXY", url), true),
        (|setup, url| setup.set("upstreams.openai", &format!("proxy = \"{url}\"")), true),
        (|setup, url| setup.environment("HTTP_PROXY", url), false),
        (|setup, url| setup.set("upstreams.openai", &format!("proxy = \"{url}\"")), false),
    ];
    for (number, (naming, encrypted)) in namings.into_iter().enumerate() {
        let target = if encrypted { front_address } else { provider.address() };
        let proxy = Between::proxy(target, Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        let base = if encrypted { "https://api.example" } else { "http://api.example" };
        let url = format!("http://Aladdin:open%20sesame@localhost:{}", proxy.port());
        let spillway = naming(trusting(base), &url).start();
        let answer = spillway.send(&chat());
        assert_eq!(answer.status(), 200, "{number}: {}", answer.text());
        assert_eq!(spillway.send(&chat_stream()).status(), 200, "{number}");
        let line = match encrypted {
            true => "CONNECT api.example:443 HTTP/1.1",
            false => "POST http://api.example/v1/chat/completions HTTP/1.1",
        };
        let authorization = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned());
        assert_eq!(proxy.seen(), [Seen::Asked { line: line.to_owned(), authorization }], "{number}");
        assert!(!spillway.log().text().contains("sesame"), "{number}");
    }
}

#[test]
fn a_kept_job_and_socks_take_the_same_way() {
    let provider = Provider::start();
    let proxy = Between::socks(provider.address());
    let url = format!("socks5h://localhost:{}", proxy.port());
    let spillway = setup("http://api.example:8080").environment("ALL_PROXY", &url).start();
    assert_eq!(spillway.send(&chat()).status(), 200);
    provider.always(respond(503));
    assert_eq!(spillway.send(&chat()).status(), 503);
    let kept = spillway.send(&chat().header("prefer", "respond-async"));
    assert_eq!(kept.status(), 202, "{}", kept.text());
    provider.heal();
    let job = spillway.wait_for_job(kept.header("location").expect("a place"));
    assert_eq!(job["status"], "done", "{job}");
    let asked = Seen::Asked { line: "SOCKS api.example:8080".to_owned(), authorization: None };
    assert_eq!(proxy.seen(), [asked.clone(), asked], "the worker's connection, and that of whoever serves jobs");
}

#[test]
fn this_machine_and_what_is_excepted_are_reached_without_a_proxy() {
    let provider = Provider::start();
    let proxy = Between::proxy(provider.address(), None);
    let url = format!("http://localhost:{}", proxy.port());
    let spillway = Setup::with(&provider).environment("ALL_PROXY", &url).environment("HTTP_PROXY", &url).start();
    assert_eq!(spillway.send(&chat()).status(), 200);
    let spillway =
        setup("http://api.invalid").environment("HTTP_PROXY", &url).environment("NO_PROXY", "invalid").start();
    assert_eq!(&*spillway.send(&chat()).at("/error/code"), "spillway_upstream_unreachable");
    let direct = setup("http://api.invalid").environment("HTTP_PROXY", &url).set("upstreams.openai", "proxy = \"\"");
    assert_eq!(&*direct.start().send(&chat()).at("/error/code"), "spillway_upstream_unreachable");
    assert_eq!(proxy.seen(), []);
}

#[test]
fn a_proxy_that_refuses_is_named_with_its_reason_and_asked_once() {
    let provider = Provider::start();
    // By CONNECT, and by whole URLs.
    for (base, variable) in [("https://api.example", "HTTPS_PROXY"), ("http://api.example", "HTTP_PROXY")] {
        let proxy = Between::proxy(provider.address(), Some("Basic somebody"));
        let url = format!("http://Aladdin:sesame@localhost:{}", proxy.port());
        let spillway = setup(base).environment(variable, &url).start();
        let answer = spillway.send(&chat());
        let text = answer.text();
        assert_eq!(answer.status(), 502, "{text}");
        assert!(text.contains(&format!("the proxy http://localhost:{} refuses", proxy.port())), "{text}");
        assert!(text.contains("407") && text.contains("password") && !text.contains("sesame"), "{text}");
        // An account is locked by whoever shows a wrong password again and again.
        assert_eq!(proxy.seen().len(), 1, "{base}");
    }
}

#[test]
fn a_server_that_closes_instead_of_speaking_tls_is_tried_again_and_then_named() {
    // Whoever closes what he has read ends the connection; whoever has not read what came resets it.
    for reads in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (accepted, count) = channel();
        thread::spawn(move || {
            let mut greeting = [0; 16 << 10];
            while let Ok((mut connection, _)) = listener.accept() {
                let arrived = if reads { connection.read(&mut greeting) } else { connection.peek(&mut greeting) };
                if accepted.send(arrived.is_ok()).is_err() {
                    break;
                }
            }
        });
        let spillway = setup(&format!("https://localhost:{port}")).start();
        let answer = spillway.send(&chat());
        let text = answer.text();
        assert_eq!((answer.status(), answer.header("x-should-retry")), (502, None), "{text}");
        assert!(text.contains("it closed the connection instead of speaking TLS"), "{text}");
        assert!(count.try_iter().count() > 1);
    }
}

#[test]
fn a_proxy_that_is_none_is_a_mistake_with_its_line_and_without_its_password() {
    let setup = setup("https://api.example").set("upstreams.openai", "proxy = \"gopher://me:sesame@proxy.example\"");
    let ended = setup.run_to_end(&["check"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("upstreams.openai.proxy") && !ended.stderr.contains("sesame"), "{}", ended.stderr);
}

#[test]
fn an_unused_connection_that_has_died_costs_a_moment_and_not_five_minutes() {
    for hedging in ["enabled = false", "enabled = true"] {
        let provider = Provider::start();
        let setup = Setup::with(&provider).set("upstreams.openai.hedge", hedging);
        survives_a_dead_connection(&provider, &setup.start());
    }
}

fn survives_a_dead_connection(provider: &Provider, spillway: &Spillway) {
    // So many that it is known what is usual.
    for _ in 0..25 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    // It takes a second for a connection to be of doubtful life.
    thread::sleep(Duration::from_millis(1_100));
    provider.next(stall());
    let began = Instant::now();
    let answer = spillway.send(&chat());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    spillway.log().wait_for(&["a second connection after", "\"status\":200"]);
    assert_eq!(provider.stats().started, 27);
}

#[test]
fn a_machine_that_has_slept_uses_no_connection_from_before() {
    let provider = Provider::start();
    let identity = self_signed("localhost");
    let front = Between::tls(provider.address(), &identity);
    let setup = with_file(behind(&front), "ca.pem", &identity.pem);
    let mut spillway = setup.set("upstreams.openai", "ca_file = \"ca.pem\"").with_clocks_to_move().start();
    assert!((0..2).all(|_| spillway.send(&chat()).status() == 200));
    assert_eq!(front.seen(), [Seen::Connection]);
    spillway.clocks().sleep(Duration::from_secs(60));
    assert_eq!(spillway.send(&chat()).status(), 200);
    assert_eq!(front.seen(), [Seen::Connection, Seen::Connection]);
}

#[test]
fn a_connection_that_was_just_used_is_not_doubted() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("upstreams.openai", "first_content_timeout = \"2500ms\"");
    let spillway = setup.set("upstreams.openai.retry", "max_attempts = 1").start();
    for _ in 0..25 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    provider.next(stall());
    assert_eq!(spillway.send(&chat()).status(), 504);
    assert_eq!(provider.stats().started, 26, "it was slow, and is not called twice for that");
}

#[test]
fn a_name_that_does_not_resolve_and_a_port_that_refuses_are_told_apart() {
    let unresolved = setup("http://no-such-host.invalid").start();
    let text = unresolved.send(&chat()).text();
    assert!(text.contains("name did not resolve: no-such-host.invalid"), "{text}");
    let provider = Provider::start();
    let refusing = Setup::with(&provider).start();
    provider.stop();
    let text = refusing.send(&chat()).text();
    assert!(text.contains("connection refused by 127.0.0.1"), "{text}");
}

#[test]
fn a_variable_that_should_name_a_proxy_and_does_not_is_told_at_the_start() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).environment("HTTPS_PROXY", "gopher://me:sesame@proxy.example").start();
    spillway.log().wait_for(&["HTTPS_PROXY", "WARN"]);
    assert!(!spillway.log().text().contains("sesame"));
}
