//! Callers that repeat a call as the official SDKs do. What each of them does was taken from its source and seen on
//! the wire; the SDKs themselves are driven by `tests/sdk`.

use crate::chance::Chance;
use crate::http::{Head, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The SDKs' own default, and longer than any test.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Whose way of repeating a call is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Habit {
    /// Takes the first answer, and says nothing of itself: curl, google-genai, most of what is written by hand.
    Once,
    /// `openai` and `anthropic` for Python: waits that are named are obeyed up to a minute, longer ones are not.
    Python,
    /// `openai` and `anthropic` for Node: waits that are named are obeyed, however long.
    Node,
    /// Vercel's `ai`: waits longer, does not hear `x-should-retry`, and names only itself.
    Vercel,
}

/// A program that calls a provider.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    habit: Habit,
    retries: u32,
    timeout: Option<Duration>,
}

impl Caller {
    /// With as many retries as this SDK makes by default.
    pub fn new(habit: Habit) -> Self {
        let retries = if habit == Habit::Once { 0 } else { 2 };
        Self { habit, retries, timeout: None }
    }

    /// With another number of retries.
    #[must_use]
    pub fn retries(self, retries: u32) -> Self {
        Self { retries, ..self }
    }

    /// Gives up on an attempt after this time, and says so beforehand as the SDKs do.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Calls, and calls again, until there is an answer to be content with; blocks until then. The same seed makes
    /// the same jitter.
    ///
    /// # Errors
    /// When no runtime can be had.
    pub fn call(&self, to: SocketAddr, request: &Request, seed: u64) -> io::Result<Called> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(self.call_with(&client(), to, request, &mut Chance::seeded(seed))))
    }

    /// As [`Caller::call`], with connections that others use too.
    pub(crate) async fn call_with(
        &self,
        client: &HttpClient,
        to: SocketAddr,
        request: &Request,
        chance: &mut Chance,
    ) -> Called {
        let began = Instant::now();
        let mut attempts = 0;
        loop {
            let request = self.introduced(request.clone(), attempts);
            let attempt = attempt(client, to, &request);
            let answer = tokio::time::timeout(self.timeout.unwrap_or(TIMEOUT), attempt).await.ok().flatten();
            attempts += 1;
            let wait = if attempts > self.retries { None } else { self.wait(answer.as_ref(), attempts - 1, chance) };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Called { answer, attempts, took: began.elapsed() },
            }
        }
    }

    /// What the SDK tells of itself.
    fn introduced(&self, request: Request, retries_before: u32) -> Request {
        let request = match self.habit {
            Habit::Once => request,
            Habit::Vercel => request.header("user-agent", "ai/6.0.14"),
            Habit::Python | Habit::Node => {
                let language = if self.habit == Habit::Python { "python" } else { "js" };
                request
                    .header("x-stainless-lang", language)
                    .header("x-stainless-retry-count", &retries_before.to_string())
            }
        };
        match self.timeout {
            Some(timeout) => request.header("x-stainless-read-timeout", &timeout.as_secs_f64().to_string()),
            None => request,
        }
    }

    /// How long until the next attempt; `None` is content with what came, or gives up.
    fn wait(&self, answer: Option<&Response>, retries_before: u32, chance: &mut Chance) -> Option<Duration> {
        let official = matches!(self.habit, Habit::Python | Habit::Node);
        let header = |name| answer.and_then(|answer| answer.header(name));
        let told = header("x-should-retry").filter(|_| official);
        let repeatable = answer.is_none_or(|answer| matches!(answer.status(), 408 | 409 | 429 | 500..));
        match told {
            Some("false") => return None,
            Some("true") => {}
            _ if !repeatable => return None,
            _ => {}
        }
        let number =
            |name, unit: f64| header(name).and_then(|text| text.parse::<f64>().ok()).map(|number| number * unit);
        let named = number("retry-after-ms", 1e-3).or_else(|| number("retry-after", 1.0)).filter(|s| s.is_finite());
        let obeyed = named.filter(|seconds| match self.habit {
            Habit::Once => false,
            Habit::Python => *seconds > 0.0 && *seconds <= 60.0,
            Habit::Node => *seconds >= 0.0,
            Habit::Vercel => (0.0..60.0).contains(seconds),
        });
        let doubled = f64::from(1_u32 << retries_before.min(10));
        let backoff =
            if official { (0.5 * doubled).min(8.0) * (1.0 - 0.25 * chance.fraction()) } else { 2.0 * doubled };
        Some(Duration::from_secs_f64(obeyed.unwrap_or(backoff)))
    }
}

/// What a caller got in the end.
#[derive(Clone, Debug)]
pub struct Called {
    /// The last answer; `None` if there was no whole one.
    pub answer: Option<Response>,
    /// How often it asked.
    pub attempts: u32,
    /// How long it took, pauses included.
    pub took: Duration,
}

impl Called {
    /// The last answer's status; 0 if there was no whole answer.
    pub fn status(&self) -> u16 {
        self.answer.as_ref().map_or(0, Response::status)
    }
}

pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// A client that keeps its connections.
pub(crate) fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector)
}

/// `None` when there is no whole answer.
async fn attempt(client: &HttpClient, to: SocketAddr, request: &Request) -> Option<Response> {
    let (head, body) = client.request(request.to_hyper(to).ok()?).await.ok()?.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let body = body.collect().await.ok()?.to_bytes().to_vec();
    Some(Response { head: Head { status: head.status.as_u16(), headers }, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(habit: Habit, status: u16, headers: &[(&str, &str)]) -> Option<Duration> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let answer = Response { head: Head { status, headers }, body: Vec::new() };
        Caller::new(habit).wait(Some(&answer), 0, &mut Chance::seeded(1))
    }

    #[test]
    fn each_waits_as_its_sdk_does() {
        let (hour, no) = (("retry-after", "3600"), ("x-should-retry", "false"));
        for (habit, backoff_ms, hour_is_obeyed) in
            [(Habit::Python, 375..=500, false), (Habit::Node, 375..=500, true), (Habit::Vercel, 2_000..=2_000, false)]
        {
            let ms = |wait: Option<Duration>| wait.map(|wait| wait.as_millis());
            assert!(ms(wait(habit, 500, &[])).is_some_and(|wait| backoff_ms.contains(&wait)), "{habit:?}");
            assert_eq!(ms(wait(habit, 429, &[("retry-after", "2")])), Some(2_000), "{habit:?}");
            assert_eq!(ms(wait(habit, 429, &[("retry-after", "2"), ("retry-after-ms", "1500")])), Some(1_500));
            assert_eq!(wait(habit, 429, &[hour]) == Some(Duration::from_secs(3_600)), hour_is_obeyed, "{habit:?}");
            assert_eq!(wait(habit, 429, &[no]).is_none(), habit != Habit::Vercel, "{habit:?}");
            assert_eq!(wait(habit, 400, &[]), None, "{habit:?}");
        }
    }
}
