//! A client of one lane: sends a request, and sends it again as its SDK does.

use super::board::End;
use super::mode::{Kind, Lane};
use super::provider::SEED;
use super::retry::{self, Said};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Value, json};
use spillway_mock_provider::chance::Chance;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Larger answers are none of the mock's, and count as failures.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How often whoever has been promised an answer asks for it.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The model that is asked for.
pub(super) const MODEL: &str = "demo-model";

/// A client; clones share its connections.
#[derive(Clone)]
pub(super) struct Caller {
    lane: Lane,
    to: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    /// What the first request that was not served was told.
    first_refusal: Arc<OnceLock<String>>,
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has ended.
    Ended(End),
    /// Its answer will be there, by this path.
    Promised(String),
}

/// An answer as it came.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Caller {
    /// Of this lane, to this address.
    pub(super) fn new(lane: Lane, to: SocketAddr) -> Caller {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Caller { lane, to, client, first_refusal: Arc::default() }
    }

    /// What the first request that was not served was told.
    pub(super) fn first_refusal(&self) -> Option<&str> {
        self.first_refusal.get().map(String::as_str)
    }

    /// Sends the request of this number until there is an answer to be content with.
    pub(super) async fn ask(&self, number: usize) -> Outcome {
        // Apart from the provider's chance; the same in each lane.
        let mut chance = Chance::seeded(SEED.wrapping_add(1 << 32).wrapping_add(number as u64));
        for retries in 0.. {
            let answer = self.exchange(self.completion(number, retries)).await;
            let outcome = outcome(answer.as_ref());
            if outcome != Outcome::Ended(End::Failed) {
                return outcome;
            }
            let wait = match self.lane {
                Lane::Direct => None,
                Lane::Retries | Lane::Spillway => retry::wait(said(answer.as_ref()), retries, chance.fraction()),
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => {
                    if let Some(words) = answer.as_ref().and_then(Answer::message) {
                        let _ = self.first_refusal.set(words);
                    }
                    break;
                }
            }
        }
        Outcome::Ended(End::Failed)
    }

    /// Asks for what was promised until it is there.
    pub(super) async fn fetch(&self, path: &str) -> End {
        loop {
            tokio::time::sleep(ASK_AGAIN).await;
            let request = self.request(Method::GET, &format!("{path}/result"));
            // 409 says that it is not there yet. Whoever is not answered asks again as well: the promise stands.
            let answer = self.exchange(request.body(Full::default())).await;
            let answer = answer.filter(|answer| answer.status != 409);
            if let Outcome::Ended(end) =
                answer.as_ref().map_or(Outcome::Promised(String::new()), |answer| outcome(Some(answer)))
            {
                return end;
            }
        }
    }

    fn completion(&self, number: usize, retries: u32) -> Result<Request<Full<Bytes>>, http::Error> {
        let question = json!({
            "model": MODEL, "user": number.to_string(),
            "messages": [{"role": "user", "content": format!("Question {number}: why does water flow downhill?")}],
        });
        let mut request = self.request(Method::POST, "/v1/chat/completions");
        request = request.header(header::CONTENT_TYPE, "application/json");
        if self.lane != Lane::Direct {
            // By which the official SDKs introduce themselves.
            request = request.header("x-stainless-lang", "python").header("x-stainless-retry-count", retries);
        }
        if self.lane == Lane::Spillway && Kind::of(number) == Kind::Background {
            request = request.header("prefer", "respond-async");
        }
        request.body(Full::from(question.to_string()))
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.to));
        request.header(header::AUTHORIZATION, "Bearer no-key-is-needed-here")
    }

    /// `None` where no whole answer comes.
    async fn exchange(&self, request: Result<Request<Full<Bytes>>, http::Error>) -> Option<Answer> {
        let (head, body) = self.client.request(request.ok()?).await.ok()?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// The status of the Spillway whose admin address this caller has; `null` where there is none.
    pub(super) async fn look(&self, path: &str) -> Value {
        let answer = self.exchange(self.request(Method::GET, path).body(Full::default())).await;
        answer.and_then(|answer| serde_json::from_slice(&answer.body).ok()).unwrap_or_default()
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn number(&self, header: &str) -> Option<f64> {
        self.header(header)?.parse().ok()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What its error says.
    fn message(&self) -> Option<String> {
        self.json()["error"]["message"].as_str().map(str::to_owned)
    }
}

fn outcome(answer: Option<&Answer>) -> Outcome {
    let Some(answer) = answer else { return Outcome::Ended(End::Failed) };
    let location = || answer.header("location").map(str::to_owned);
    match answer.status {
        200 if answer.json()["choices"][0]["message"]["content"].is_string() => Outcome::Ended(End::Answered),
        200 => Outcome::Ended(End::ErrorUnder200),
        202 => location().map_or(Outcome::Ended(End::Failed), Outcome::Promised),
        _ => Outcome::Ended(End::Failed),
    }
}

fn said(answer: Option<&Answer>) -> Said {
    Said {
        status: answer.map(|answer| answer.status),
        should_retry: answer.and_then(|answer| answer.header("x-should-retry")?.parse().ok()),
        retry_after_s: answer.and_then(|answer| {
            answer.number("retry-after-ms").map(|ms| ms / 1e3).or_else(|| answer.number("retry-after"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_a_completion_is_an_answer() {
        let completion = r#"{"choices":[{"message":{"content":"Down."}}]}"#;
        let error = r#"{"error":{"message":"worker died"}}"#;
        for (status, location, body, expected) in [
            (200, None, completion, Outcome::Ended(End::Answered)),
            (200, None, error, Outcome::Ended(End::ErrorUnder200)),
            (200, None, "", Outcome::Ended(End::ErrorUnder200)),
            (503, None, error, Outcome::Ended(End::Failed)),
            (503, None, completion, Outcome::Ended(End::Failed)),
            (202, Some("/spillway/jobs/job_1"), "{}", Outcome::Promised("/spillway/jobs/job_1".to_owned())),
            (202, None, "{}", Outcome::Ended(End::Failed)),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(location) = location {
                headers.insert("location", location.parse().expect("a value"));
            }
            let answer = Answer { status, headers, body: Bytes::from(body) };
            assert_eq!(outcome(Some(&answer)), expected, "{status} {body}");
        }
        assert_eq!(outcome(None), Outcome::Ended(End::Failed));
    }

    #[test]
    fn what_an_sdk_reads_is_read_and_what_it_does_not_understand_is_not_there() {
        for (name, value, should_retry, retry_after_s) in [
            ("retry-after", "2", None, Some(2.0)),
            ("retry-after-ms", "1500", None, Some(1.5)),
            ("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT", None, None),
            ("x-should-retry", "false", Some(false), None),
            ("x-should-retry", "perhaps", None, None),
        ] {
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))]);
            let answer = Answer { status: 429, headers, body: Bytes::new() };
            assert_eq!(said(Some(&answer)), Said { status: Some(429), should_retry, retry_after_s }, "{name}");
        }
    }
}
