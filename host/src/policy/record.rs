//! An attempt as policies see it.

use crate::dialect::Dialect;
use crate::runtime::causes::ErrorChain;
use crate::runtime::clock::{random, wall_unix_ms};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::Value;
use spillway_sdk::{AttemptFacts, Dimension, Fault, Phase, ProviderError, RateLimit, body_json, rate_limits, wait};
use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What a policy may see of an attempt: nothing that the caller sent but its model, and no cookies.
#[derive(Clone, Debug)]
pub struct Record {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The API spoken.
    pub dialect: Dialect,
    /// The model asked for.
    pub model: Option<Arc<str>>,
    /// Whether a stream was asked for.
    pub streaming: bool,
    /// 1 for the first attempt.
    pub number: u32,
    /// How far it came.
    pub phase: Phase,
    /// Why a whole response is missing.
    pub fault: Option<Fault>,
    /// What was in the way of a connection, or has ended it, as it was told.
    pub cause: Option<ErrorChain>,
    /// The response's status.
    pub status: Option<u16>,
    /// The response's headers.
    pub headers: Rc<HeaderMap>,
    /// The beginning of its body.
    pub prefix: Bytes,
    /// The body's or the error event's JSON, read when it is first asked for.
    pub json: OnceCell<Option<Value>>,
    /// The provider's own error, read when it is first asked for.
    pub error: OnceCell<Option<ProviderError>>,
    /// How long the attempt took so far.
    pub elapsed: Duration,
    /// How long its first content took; still unknown when a long preamble was passed on without it.
    pub first_content: Cell<Option<Duration>>,
    /// When it began.
    pub began: Instant,
    /// When the request must be answered.
    pub deadline: Instant,
}

#[cfg(test)]
impl Record {
    /// An attempt that was answered at once, for tests that care for one of its facts only.
    pub fn for_tests() -> Record {
        let now = Instant::now();
        Record {
            upstream: Arc::from("test"),
            dialect: Dialect::OpenAi,
            model: None,
            streaming: false,
            number: 1,
            phase: Phase::BeforeContent,
            fault: None,
            cause: None,
            status: Some(200),
            headers: Rc::default(),
            prefix: Bytes::new(),
            json: OnceCell::new(),
            error: OnceCell::new(),
            elapsed: Duration::ZERO,
            first_content: Cell::new(None),
            began: now,
            deadline: now,
        }
    }
}

impl Record {
    fn json(&self) -> Option<&Value> {
        self.json.get_or_init(|| body_json::parse(&self.prefix)).as_ref()
    }
}

impl AttemptFacts for Record {
    fn upstream(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.upstream)
    }
    fn dialect(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.dialect.as_str())
    }
    fn model(&self) -> Option<Cow<'_, str>> {
        self.model.as_deref().map(Cow::Borrowed)
    }
    fn streaming(&self) -> bool {
        self.streaming
    }
    fn number(&self) -> u32 {
        self.number
    }
    fn phase(&self) -> Phase {
        self.phase
    }
    fn fault(&self) -> Option<Fault> {
        self.fault
    }
    fn status(&self) -> Option<u16> {
        self.status
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        // The map finds names in capitals too.
        let value = self.headers.get(name).filter(|_| !name.eq_ignore_ascii_case("set-cookie"))?;
        Some(Cow::Borrowed(value.as_bytes()))
    }
    fn header_names(&self) -> Vec<String> {
        self.headers.keys().filter(|name| *name != header::SET_COOKIE).map(|name| name.as_str().to_owned()).collect()
    }
    fn body_prefix(&self, limit: u32) -> Cow<'_, [u8]> {
        let end = self.prefix.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        Cow::Borrowed(&self.prefix[..end])
    }
    fn body_json(&self, pointer: &str) -> Option<String> {
        if self.phase == Phase::Committed { None } else { body_json::at(self.json()?, pointer) }
    }
    fn provider_error(&self) -> Option<ProviderError> {
        self.error.get_or_init(|| ProviderError::from_value(self.json()?)).clone()
    }
    fn retry_after(&self) -> Option<Duration> {
        let header = |name: &str| self.headers.get(name).map(|value| value.as_bytes());
        wait::from_headers(header, SystemTime::now()).or_else(|| wait::from_body(&self.prefix))
    }
    fn rate_limit(&self, dimension: Dimension) -> Option<RateLimit> {
        let header = |name: &str| self.headers.get(name).map(|value| value.as_bytes());
        rate_limits::from_headers(header, SystemTime::now()).get(dimension)
    }
    fn elapsed(&self) -> Duration {
        self.elapsed
    }
    fn first_content(&self) -> Option<Duration> {
        self.first_content.get()
    }
    fn remaining(&self) -> Option<Duration> {
        Some(self.deadline.saturating_duration_since(Instant::now()))
    }
    fn unix_time(&self) -> Duration {
        let since_the_end = self.began.elapsed().saturating_sub(self.elapsed);
        Duration::from_millis(wall_unix_ms()).saturating_sub(since_the_end)
    }
    fn random(&self) -> u64 {
        random()
    }
}

#[cfg(test)]
mod tests;
