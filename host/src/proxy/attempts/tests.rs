use super::*;
use crate::config;
use crate::dialect::{Dialect, Operation};
use crate::policy::Registry;
use crate::proxy::app::{App, Means, Stores};
use crate::proxy::request::{InboundBody, InboundRequest};
use crate::proxy::route::RequestLine;
use crate::runtime::clock::Clock;
use crate::runtime::fingerprint::FingerprintKey;
use crate::tenants::callers::Rights;
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use prometheus_client::metrics::counter::Counter;
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::Instant;

const ANSWER: &str = r#"{"id":"1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}"#;
const ERROR: &str = r#"{"error":{"message":"broken","type":"server_error","code":"first"}}"#;
const ELSEWHERE: &str = "x-should-retry: false\r\n";

/// A provider that says the same to everybody, and counts how often it was asked.
struct Provider {
    url: String,
    calls: Rc<Cell<u32>>,
}

impl Provider {
    async fn saying(status: &'static str, headers: &'static str, body: &'static str) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}/v1", listener.local_addr().expect("it is bound"));
        let calls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&calls);
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counted = Rc::clone(&counted);
                tokio::task::spawn_local(async move {
                    let mut seen = Vec::new();
                    while !seen.ends_with(b"}") {
                        if stream.read_buf(&mut seen).await.is_ok_and(|bytes| bytes > 0) {
                            continue;
                        }
                        return;
                    }
                    counted.set(counted.get() + 1);
                    let length = body.len();
                    let reply = format!(
                        "HTTP/1.1 {status}\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\
                         connection: close\r\n\r\n{body}"
                    );
                    // Whoever has left is not there to be told.
                    let _ = stream.write_all(reply.as_bytes()).await;
                });
            }
        });
        Provider { url, calls }
    }
}

/// Sends one request through the loop, with these two in its way; answers status, body, and who has served.
async fn served_by(first: &Provider, second: &Provider) -> (u16, String, String) {
    let text = format!(
        "[upstreams.first]\nurl = \"{}\"\n[upstreams.second]\nurl = \"{}\"\n\
         [routes.all]\ntargets = [\"first/m\", \"second/m\"]\n",
        first.url, second.url
    );
    let config = config::parse(&text, Path::new("")).expect("it is a configuration");
    let clock = Clock::start();
    let means = Means {
        log_lines_lost: Counter::default(),
        connections_max: 16,
        listen: ([127, 0, 0, 1], 4141).into(),
        tls: None,
    };
    let registry = Arc::new(Registry::new(clock));
    let app = Arc::new(App::new(config, clock, registry, Stores::default(), FingerprintKey::generate(), means));
    let worker = Worker::new(Arc::clone(&app), Arc::default());
    let line = RequestLine {
        dialect: Dialect::OpenAi,
        operation: Operation::Generate,
        path_and_query: "/v1/chat/completions".into(),
    };
    let body = InboundBody::Whole(Bytes::from_static(br#"{"model":"m","messages":[]}"#));
    let caller = app.callers.identify(&HeaderMap::new(), "", Rights::default());
    let deadline = Instant::now() + Duration::from_secs(60);
    let head = (Method::POST, HeaderMap::new());
    let request = InboundRequest::new(line, head, body, "id".into(), caller, deadline, app.take_on());
    let targets = Targets::find(&app, request, Arc::clone(&app.upstreams["openai"])).await.expect("both can be asked");
    let mut trace = RequestTrace::begin("id");
    trace.goes_to(targets.first());
    let response = match attempts(&worker, &targets, Patience::none(), trace).await {
        Ok(response) => response,
        Err(unserved) => unserved.into_response(&worker),
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("it is whole").to_bytes();
    let who = head.headers["x-spillway-upstream"].to_str().expect("it is a name").to_owned();
    (head.status.as_u16(), String::from_utf8_lossy(&body).into_owned(), who)
}

#[tokio::test]
async fn a_request_goes_on_to_the_next_target_where_the_verdict_says_so() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let first = Provider::saying("500 Internal Server Error", ELSEWHERE, ERROR).await;
            let second = Provider::saying("200 OK", "", ANSWER).await;
            let (status, body, who) = served_by(&first, &second).await;
            assert_eq!((status, &*body, &*who), (200, ANSWER, "second"));
            assert_eq!((first.calls.get(), second.calls.get()), (1, 1));
        })
        .await;
}

#[tokio::test]
async fn where_nobody_serves_the_first_targets_word_counts() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let first = Provider::saying("500 Internal Server Error", ELSEWHERE, ERROR).await;
            let second = Provider::saying("503 Service Unavailable", ELSEWHERE, "{}").await;
            let (status, body, who) = served_by(&first, &second).await;
            assert_eq!((status, &*body, &*who), (500, ERROR, "first"));
            assert_eq!((first.calls.get(), second.calls.get()), (1, 1));
        })
        .await;
}

#[tokio::test]
async fn a_failure_where_nobody_was_served_yet_goes_on_at_once() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let first = Provider::saying("500 Internal Server Error", "", ERROR).await;
            let second = Provider::saying("200 OK", "", ANSWER).await;
            let (status, body, who) = served_by(&first, &second).await;
            assert_eq!((status, &*body, &*who), (200, ANSWER, "second"));
            assert_eq!((first.calls.get(), second.calls.get()), (1, 1));
        })
        .await;
}
