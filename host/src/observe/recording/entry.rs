//! One line of the recorded requests, in both directions: what a policy could see of an attempt, and what it answered.

use super::arrival::Arrival;
use crate::runtime::clock::milliseconds;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spillway_sdk::{
    Advice, AttemptFacts, Class, Dimension, Fault, Phase, ProviderError, RateLimit, RetryDecision, Scope, Verdict,
    body_json, rate_limits,
};
use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

/// The form of the lines that this Spillway writes. Fields may be added to it; a change that older readers would
/// misunderstand is another form.
pub(crate) const FORM: u32 = 1;

/// One attempt as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// [`FORM`].
    pub form: u32,
    /// When the attempt ended.
    pub unix_ms: u64,
    /// Under which the log knows its request.
    pub request_id: String,
    /// See [`AttemptFacts`], for this and the following.
    pub upstream: String,
    pub(super) dialect: String,
    pub(super) model: Option<String>,
    pub(super) streaming: bool,
    /// 1 for the first attempt of its request.
    pub number: u32,
    pub(super) phase: String,
    pub(super) fault: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) headers: Vec<(String, Octets)>,
    pub(super) body: Octets,
    /// The error event of a stream, where that is not the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<Value>,
    pub(super) provider_error: Option<SaidError>,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) elapsed_ms: u64,
    pub(super) first_content_ms: Option<u64>,
    pub(super) remaining_ms: Option<u64>,
    pub(super) random: u64,
    /// What it was judged to be.
    pub(super) verdict: SaidVerdict,
    /// Who said so: `name@` and the first digits of a hash, or `built-in`.
    pub judged_by: String,
    /// The whole hash of the policy that judged.
    pub sha256: Option<String>,
    /// What was answered when a retry was due; absent when nobody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backoff: Option<SaidBackoff>,
    /// How its request came; absent for a job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) arrival: Option<Arrival>,
}

/// Bytes that are text, nearly always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Octets {
    Text(String),
    Hex { hex: String },
}

impl Octets {
    pub(super) fn of(bytes: &[u8]) -> Octets {
        match std::str::from_utf8(bytes) {
            Ok(text) => Octets::Text(text.to_owned()),
            Err(_) => Octets::Hex { hex: hex::encode(bytes) },
        }
    }

    fn into_bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Octets::Text(text) => Ok(text.into_bytes()),
            Octets::Hex { hex } => {
                hex::decode(hex).map_err(|error| format!("bytes that are no hexadecimal digits: {error}"))
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SaidError {
    code: Option<String>,
    kind: Option<String>,
    message: String,
}

impl From<ProviderError> for SaidError {
    fn from(ProviderError { code, kind, message }: ProviderError) -> Self {
        SaidError { code, kind, message }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SaidVerdict {
    class: String,
    scope: String,
    advice: String,
    cool_off_ms: Option<u64>,
    reason: String,
}

impl From<&Verdict> for SaidVerdict {
    fn from(verdict: &Verdict) -> Self {
        SaidVerdict {
            class: verdict.class.as_str().to_owned(),
            scope: verdict.scope.as_str().to_owned(),
            advice: verdict.advice.as_str().to_owned(),
            cool_off_ms: verdict.cool_off.map(milliseconds),
            reason: verdict.reason.clone().into_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SaidBackoff {
    /// To the configured backoff.
    LeftOpen,
    RetryAfterMs(u64),
    NextUpstream,
    GiveUp,
    SpoolForMs(u64),
}

impl From<Option<RetryDecision>> for SaidBackoff {
    fn from(decision: Option<RetryDecision>) -> Self {
        match decision {
            None => SaidBackoff::LeftOpen,
            Some(RetryDecision::After(wait)) => SaidBackoff::RetryAfterMs(milliseconds(wait)),
            Some(RetryDecision::NextUpstream) => SaidBackoff::NextUpstream,
            Some(RetryDecision::GiveUp) => SaidBackoff::GiveUp,
            Some(RetryDecision::SpoolFor(wait)) => SaidBackoff::SpoolForMs(milliseconds(wait)),
        }
    }
}

impl From<SaidBackoff> for Option<RetryDecision> {
    fn from(said: SaidBackoff) -> Self {
        match said {
            SaidBackoff::LeftOpen => None,
            SaidBackoff::RetryAfterMs(ms) => Some(RetryDecision::After(Duration::from_millis(ms))),
            SaidBackoff::NextUpstream => Some(RetryDecision::NextUpstream),
            SaidBackoff::GiveUp => Some(RetryDecision::GiveUp),
            SaidBackoff::SpoolForMs(ms) => Some(RetryDecision::SpoolFor(Duration::from_millis(ms))),
        }
    }
}

/// A recorded attempt, fit to be judged again.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// Under which the log knew its request.
    pub request_id: String,
    /// What it was judged to be.
    pub verdict: Verdict,
    /// What was answered when a retry was due; `None` when nobody was asked.
    pub backoff: Option<Option<RetryDecision>>,
    /// How its request came; `None` for a job's, and where an older Spillway has recorded.
    pub arrival: Option<Arrival>,
    /// What a policy can see of it.
    pub facts: RecordedFacts,
}

/// What a policy could see of a recorded attempt.
#[derive(Clone, Debug)]
pub(crate) struct RecordedFacts {
    upstream: String,
    dialect: String,
    model: Option<String>,
    streaming: bool,
    number: u32,
    phase: Phase,
    fault: Option<Fault>,
    status: Option<u16>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    json: Option<Value>,
    provider_error: Option<ProviderError>,
    retry_after: Option<Duration>,
    elapsed: Duration,
    first_content: Option<Duration>,
    remaining: Option<Duration>,
    unix_time: Duration,
    random: u64,
}

impl Entry {
    /// Reads a line back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(line: &[u8]) -> Result<Recorded, String> {
        let entry: Entry = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        entry.into_recorded()
    }

    fn into_recorded(self) -> Result<Recorded, String> {
        if self.form != FORM {
            return Err(format!("it has form {}, and this Spillway reads form {FORM}", self.form));
        }
        let fault = self.fault.map(|said| find(&Fault::ALL, Fault::as_str, &said, "fault")).transpose()?;
        let headers = self.headers.into_iter().map(|(name, value)| Ok::<_, String>((name, value.into_bytes()?)));
        let body = self.body.into_bytes()?;
        Ok(Recorded {
            verdict: Verdict {
                class: find(&Class::ALL, Class::as_str, &self.verdict.class, "class")?,
                scope: find(&SCOPES, Scope::as_str, &self.verdict.scope, "scope")?,
                advice: find(&ADVICE, Advice::as_str, &self.verdict.advice, "advice")?,
                cool_off: self.verdict.cool_off_ms.map(Duration::from_millis),
                reason: Cow::Owned(self.verdict.reason),
            },
            backoff: self.backoff.map(Into::into),
            request_id: self.request_id,
            arrival: self.arrival,
            facts: RecordedFacts {
                upstream: self.upstream,
                dialect: self.dialect,
                model: self.model,
                streaming: self.streaming,
                number: self.number,
                phase: find(&PHASES, phase_as_str, &self.phase, "phase")?,
                fault,
                status: self.status,
                headers: headers.collect::<Result<_, _>>()?,
                json: self.event.or_else(|| body_json::parse(&body)),
                body,
                provider_error: self.provider_error.map(|SaidError { code, kind, message }| ProviderError {
                    code,
                    kind,
                    message,
                }),
                retry_after: self.retry_after_ms.map(Duration::from_millis),
                elapsed: Duration::from_millis(self.elapsed_ms),
                first_content: self.first_content_ms.map(Duration::from_millis),
                remaining: self.remaining_ms.map(Duration::from_millis),
                unix_time: Duration::from_millis(self.unix_ms),
                random: self.random,
            },
        })
    }
}

const SCOPES: [Scope; 3] = [Scope::Upstream, Scope::Model, Scope::Credential];
const ADVICE: [Advice; 3] = [Advice::Retry, Advice::NextUpstream, Advice::GiveUp];
const PHASES: [Phase; 4] = [Phase::Connecting, Phase::Waiting, Phase::BeforeContent, Phase::Committed];

/// The word for a phase.
pub(crate) const fn phase_as_str(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connecting",
        Phase::Waiting => "waiting",
        Phase::BeforeContent => "before content",
        Phase::Committed => "committed",
    }
}

fn find<T: Copy>(all: &[T], word: impl Fn(T) -> &'static str, said: &str, what: &str) -> Result<T, String> {
    let found = all.iter().copied().find(|one| word(*one) == said);
    found.ok_or_else(|| format!("\"{said}\" is no {what}"))
}

impl RecordedFacts {
    /// A name in capitals is found too, as in a live answer.
    fn value_of(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_slice())
    }
}

impl AttemptFacts for RecordedFacts {
    fn upstream(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.upstream)
    }
    fn dialect(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.dialect)
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
        self.value_of(name).map(Cow::Borrowed)
    }
    fn header_names(&self) -> Vec<String> {
        self.headers.iter().map(|(name, _)| name.clone()).collect()
    }
    fn body_prefix(&self, limit: u32) -> Cow<'_, [u8]> {
        let end = self.body.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        Cow::Borrowed(&self.body[..end])
    }
    fn body_json(&self, pointer: &str) -> Option<String> {
        if self.phase == Phase::Committed { None } else { body_json::at(self.json.as_ref()?, pointer) }
    }
    fn provider_error(&self) -> Option<ProviderError> {
        self.provider_error.clone()
    }
    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
    fn rate_limit(&self, dimension: Dimension) -> Option<RateLimit> {
        rate_limits::from_headers(|name| self.value_of(name), UNIX_EPOCH + self.unix_time).get(dimension)
    }
    fn elapsed(&self) -> Duration {
        self.elapsed
    }
    fn first_content(&self) -> Option<Duration> {
        self.first_content
    }
    fn remaining(&self) -> Option<Duration> {
        self.remaining
    }
    fn unix_time(&self) -> Duration {
        self.unix_time
    }
    fn random(&self) -> u64 {
        self.random
    }
}
