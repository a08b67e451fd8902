//! The Wasm side: generated bindings, and the shim between them and [`Policy`].
//!
//! Nothing here is for policy authors; [`export!`](crate::export) is what they use.

use crate::{
    Advice, AttemptFacts, CircuitState, Class, Dimension, Exchange, Fault, Hooks, Phase, Policy, ProviderError,
    RateLimit, RetryDecision, Scope, Settings, TripDecision, Verdict, Window, WindowFacts,
};
use std::borrow::Cow;
use std::time::Duration;

/// What `wit-bindgen` makes of the contract.
#[allow(unsafe_code, missing_docs, unreachable_pub, rust_2018_idioms, clippy::all, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, clippy::cast_possible_truncation, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        world: "policy",
        path: "wit/v0.1",
        pub_export_macro: true,
        export_macro_name: "export_bindings",
        default_bindings_module: "spillway_sdk::guest::bindings",
    });
}

use bindings::exports::spillway::policy::{classifier, description, retrying, tripping};
use bindings::spillway::policy::host;

/// A quarter as large as the standard library's allocator, which would be a sixth of a small policy.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// Writes to the proxy's log under the policy's name. Outside Wasm, in native tests, it writes to standard error.
///
/// The host cuts a line after 1,024 bytes, and drops more than ten lines within a second.
///
/// ```
/// use spillway_sdk::{LogLevel, log};
///
/// log(LogLevel::Warn, "the provider answers in a shape that this policy does not know");
/// ```
pub fn log(level: LogLevel, message: &str) {
    if cfg!(target_arch = "wasm32") {
        host::log(
            match level {
                LogLevel::Debug => host::Level::Debug,
                LogLevel::Info => host::Level::Info,
                LogLevel::Warn => host::Level::Warn,
                LogLevel::Error => host::Level::Error,
            },
            message,
        );
    } else {
        eprintln!("{level:?}: {message}");
    }
}

/// How much a line of the log matters.
///
/// ```
/// use spillway_sdk::{LogLevel, log, testing::exchange};
///
/// let facts = exchange().status(218);
/// let level = if facts.exchange().is_success_status() { LogLevel::Debug } else { LogLevel::Warn };
/// log(level, "a status that this policy has not met before");
/// assert_eq!(level, LogLevel::Debug);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// For the policy's author.
    Debug,
    /// Worth knowing.
    Info,
    /// Worth looking at.
    Warn,
    /// Wrong.
    Error,
}

/// Makes a panic's text reach the proxy's log; without this it is lost with the instance.
fn report_panics() {
    if cfg!(target_arch = "wasm32") {
        std::panic::set_hook(Box::new(|panic| log(LogLevel::Error, &panic.to_string())));
    }
}

#[doc(hidden)]
pub fn fresh<P: Policy>() -> P {
    P::default()
}

#[doc(hidden)]
pub fn describe<P: Policy>(name: &str, version: &str) -> description::Description {
    report_panics();
    let Hooks { classify, backoff, trip } = P::HOOKS;
    let mut hooks = description::Hooks::empty();
    hooks.set(description::Hooks::CLASSIFY, classify);
    hooks.set(description::Hooks::BACKOFF, backoff);
    hooks.set(description::Hooks::TRIP, trip);
    description::Description { name: name.into(), version: version.into(), summary: P::SUMMARY.into(), hooks }
}

#[doc(hidden)]
pub fn configure<P: Policy>(policy: &mut P, settings: &str) -> Result<(), String> {
    report_panics();
    policy.configure(Settings::from_json(settings))
}

#[doc(hidden)]
pub fn classify<P: Policy>(policy: &P, attempt: &host::Attempt) -> Option<classifier::Verdict> {
    policy.classify(&Exchange::new(&Lent(attempt))).map(Into::into)
}

#[doc(hidden)]
pub fn backoff<P: Policy>(
    policy: &P,
    attempt: &host::Attempt,
    verdict: classifier::Verdict,
) -> Option<retrying::Decision> {
    let decision = policy.backoff(&Exchange::new(&Lent(attempt)), &verdict.into())?;
    Some(match decision {
        RetryDecision::After(wait) => retrying::Decision::RetryAfter(milliseconds(wait)),
        RetryDecision::NextUpstream => retrying::Decision::NextUpstream,
        RetryDecision::GiveUp => retrying::Decision::GiveUp,
        RetryDecision::SpoolFor(wait) => retrying::Decision::SpoolFor(milliseconds(wait)),
    })
}

#[doc(hidden)]
pub fn trip<P: Policy>(policy: &P, window: &host::Window) -> Option<tripping::Decision> {
    let decision = policy.trip(&Window::new(&Lent(window)))?;
    Some(match decision {
        TripDecision::Stay => tripping::Decision::Stay,
        TripDecision::Open => tripping::Decision::Open,
        TripDecision::OpenFor(duration) => tripping::Decision::OpenFor(milliseconds(duration)),
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<Verdict> for classifier::Verdict {
    fn from(verdict: Verdict) -> Self {
        classifier::Verdict {
            class: match verdict.class {
                Class::Success => classifier::Class::Success,
                Class::Ignored => classifier::Class::Ignored,
                Class::Failure => classifier::Class::Failure,
                Class::Overloaded => classifier::Class::Overloaded,
                Class::Throttled => classifier::Class::Throttled,
                Class::Exhausted => classifier::Class::Exhausted,
                Class::Rejected => classifier::Class::Rejected,
                Class::Unauthorized => classifier::Class::Unauthorized,
            },
            scope: match verdict.scope {
                Scope::Upstream => classifier::Scope::Upstream,
                Scope::Model => classifier::Scope::Model,
                Scope::Credential => classifier::Scope::Credential,
            },
            advice: match verdict.advice {
                Advice::Retry => classifier::Advice::Retry,
                Advice::NextUpstream => classifier::Advice::NextUpstream,
                Advice::GiveUp => classifier::Advice::GiveUp,
            },
            cool_off_ms: verdict.cool_off.map(milliseconds),
            reason: verdict.reason.into_owned(),
        }
    }
}

impl From<classifier::Verdict> for Verdict {
    fn from(verdict: classifier::Verdict) -> Self {
        Verdict {
            class: match verdict.class {
                classifier::Class::Success => Class::Success,
                classifier::Class::Ignored => Class::Ignored,
                classifier::Class::Failure => Class::Failure,
                classifier::Class::Overloaded => Class::Overloaded,
                classifier::Class::Throttled => Class::Throttled,
                classifier::Class::Exhausted => Class::Exhausted,
                classifier::Class::Rejected => Class::Rejected,
                classifier::Class::Unauthorized => Class::Unauthorized,
            },
            scope: match verdict.scope {
                classifier::Scope::Upstream => Scope::Upstream,
                classifier::Scope::Model => Scope::Model,
                classifier::Scope::Credential => Scope::Credential,
            },
            advice: match verdict.advice {
                classifier::Advice::Retry => Advice::Retry,
                classifier::Advice::NextUpstream => Advice::NextUpstream,
                classifier::Advice::GiveUp => Advice::GiveUp,
            },
            cool_off: verdict.cool_off_ms.map(Duration::from_millis),
            reason: Cow::Owned(verdict.reason),
        }
    }
}

/// What the host has lent for one call. It has no methods of its own, so that its facts are found by the traits.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Lent<'a, T>(&'a T);

impl AttemptFacts for Lent<'_, host::Attempt> {
    fn upstream(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.upstream())
    }
    fn dialect(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.dialect())
    }
    fn model(&self) -> Option<Cow<'_, str>> {
        self.0.model().map(Cow::Owned)
    }
    fn streaming(&self) -> bool {
        self.0.streaming()
    }
    fn number(&self) -> u32 {
        self.0.number()
    }
    fn phase(&self) -> Phase {
        match self.0.phase() {
            host::Phase::Connecting => Phase::Connecting,
            host::Phase::Waiting => Phase::Waiting,
            host::Phase::BeforeContent => Phase::BeforeContent,
            host::Phase::Committed => Phase::Committed,
        }
    }
    fn fault(&self) -> Option<Fault> {
        Some(match self.0.fault()? {
            host::Fault::Dns => Fault::Dns,
            host::Fault::ConnectRefused => Fault::ConnectRefused,
            host::Fault::ConnectTimeout => Fault::ConnectTimeout,
            host::Fault::Tls => Fault::Tls,
            host::Fault::Reset => Fault::Reset,
            host::Fault::Protocol => Fault::Protocol,
            host::Fault::FirstContentTimeout => Fault::FirstContentTimeout,
            host::Fault::IdleTimeout => Fault::IdleTimeout,
            host::Fault::AttemptTimeout => Fault::AttemptTimeout,
            host::Fault::Truncated => Fault::Truncated,
        })
    }
    fn status(&self) -> Option<u16> {
        self.0.status()
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.0.header(name).map(Cow::Owned)
    }
    fn header_names(&self) -> Vec<String> {
        self.0.header_names()
    }
    fn body_prefix(&self, limit: u32) -> Cow<'_, [u8]> {
        Cow::Owned(self.0.body_prefix(limit))
    }
    fn body_json(&self, pointer: &str) -> Option<String> {
        self.0.body_json(pointer)
    }
    fn provider_error(&self) -> Option<ProviderError> {
        let error = self.0.provider_error()?;
        Some(ProviderError { code: error.code, kind: error.kind, message: error.message })
    }
    fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after_ms().map(Duration::from_millis)
    }
    fn rate_limit(&self, dimension: Dimension) -> Option<RateLimit> {
        let reported = self.0.rate_limit(match dimension {
            Dimension::Requests => host::Dimension::Requests,
            Dimension::Tokens => host::Dimension::Tokens,
        })?;
        let host::RateLimit { limit, remaining, reset_ms } = reported;
        Some(RateLimit { limit, remaining, reset: reset_ms.map(Duration::from_millis) })
    }
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.elapsed_ms())
    }
    fn first_content(&self) -> Option<Duration> {
        self.0.first_content_ms().map(Duration::from_millis)
    }
    fn remaining(&self) -> Option<Duration> {
        self.0.remaining_ms().map(Duration::from_millis)
    }
    fn unix_time(&self) -> Duration {
        Duration::from_millis(self.0.unix_ms())
    }
    fn random(&self) -> u64 {
        self.0.random()
    }
}

impl WindowFacts for Lent<'_, host::Window> {
    fn upstream(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.upstream())
    }
    fn state(&self) -> CircuitState {
        match self.0.state() {
            host::CircuitState::Closed => CircuitState::Closed,
            host::CircuitState::Open => CircuitState::Open,
            host::CircuitState::HalfOpen => CircuitState::HalfOpen,
        }
    }
    fn length(&self) -> Duration {
        Duration::from_millis(self.0.length_ms())
    }
    fn requests(&self) -> u32 {
        self.0.requests()
    }
    fn failures(&self) -> u32 {
        self.0.failures()
    }
    fn overloads(&self) -> u32 {
        self.0.overloads()
    }
    fn throttles(&self) -> u32 {
        self.0.throttles()
    }
    fn slow_calls(&self) -> u32 {
        self.0.slow_calls()
    }
    fn consecutive_failures(&self) -> u32 {
        self.0.consecutive_failures()
    }
    fn in_flight(&self) -> u32 {
        self.0.in_flight()
    }
    fn oldest_in_flight(&self) -> Duration {
        Duration::from_millis(self.0.oldest_in_flight_ms())
    }
    fn latency(&self, quantile: f32) -> Option<Duration> {
        self.0.latency_ms(quantile).map(Duration::from_millis)
    }
    fn consecutive_openings(&self) -> u32 {
        self.0.consecutive_openings()
    }
    fn thresholds_crossed(&self) -> bool {
        self.0.thresholds_crossed()
    }
    fn random(&self) -> u64 {
        self.0.random()
    }
}
