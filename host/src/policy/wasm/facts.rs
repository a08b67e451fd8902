//! What crosses the border: facts lent to a policy, and verdicts in both directions.

use super::contract::exports::spillway::policy::classifier;
use super::contract::spillway::policy::host;
use super::{AttemptHandle, Context, LOG_BYTES_MAX, TEXT_BYTES_MAX, WindowHandle, clipped};
use crate::runtime::clock::milliseconds;
use spillway_sdk::{Advice, CircuitState, Class, Dimension, Fault, Phase, Scope, Verdict};
use std::borrow::Cow;
use std::time::Duration;
use wasmtime::component::Resource;

pub(super) fn verdict_from(verdict: classifier::VerdictResult) -> Verdict {
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
        reason: Cow::Owned(clipped(verdict.reason, TEXT_BYTES_MAX)),
    }
}

pub(super) fn verdict_into(verdict: &Verdict) -> classifier::VerdictParam<'_> {
    classifier::VerdictParam {
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
        reason: &verdict.reason,
    }
}

impl host::Host for Context {
    fn log(&mut self, level: host::Level, message: String) -> Lent<()> {
        if !self.log.allows() {
            return Ok(());
        }
        let (policy, message) = (&*self.policy, clipped(message, LOG_BYTES_MAX));
        match level {
            host::Level::Debug => tracing::debug!(policy, "policy says: {message}"),
            host::Level::Info => tracing::info!(policy, "policy says: {message}"),
            host::Level::Warn => tracing::warn!(policy, "policy says: {message}"),
            host::Level::Error => tracing::error!(policy, "policy says: {message}"),
        }
        Ok(())
    }
}

type Lent<T> = Result<T, wasmtime::Error>;

impl host::HostAttempt for Context {
    fn upstream(&mut self, _: Resource<AttemptHandle>) -> Lent<String> {
        Ok(self.attempt()?.upstream().into_owned())
    }
    fn dialect(&mut self, _: Resource<AttemptHandle>) -> Lent<String> {
        Ok(self.attempt()?.dialect().into_owned())
    }
    fn model(&mut self, _: Resource<AttemptHandle>) -> Lent<Option<String>> {
        Ok(self.attempt()?.model().map(Cow::into_owned))
    }
    fn streaming(&mut self, _: Resource<AttemptHandle>) -> Lent<bool> {
        Ok(self.attempt()?.streaming())
    }
    fn number(&mut self, _: Resource<AttemptHandle>) -> Lent<u32> {
        Ok(self.attempt()?.number())
    }
    fn phase(&mut self, _: Resource<AttemptHandle>) -> Lent<host::Phase> {
        Ok(match self.attempt()?.phase() {
            Phase::Connecting => host::Phase::Connecting,
            Phase::Waiting => host::Phase::Waiting,
            Phase::BeforeContent => host::Phase::BeforeContent,
            Phase::Committed => host::Phase::Committed,
        })
    }
    fn fault(&mut self, _: Resource<AttemptHandle>) -> Lent<Option<host::Fault>> {
        Ok(self.attempt()?.fault().map(|fault| match fault {
            Fault::Dns => host::Fault::Dns,
            Fault::ConnectRefused => host::Fault::ConnectRefused,
            Fault::ConnectTimeout => host::Fault::ConnectTimeout,
            Fault::Tls => host::Fault::Tls,
            Fault::Reset => host::Fault::Reset,
            Fault::Protocol => host::Fault::Protocol,
            Fault::FirstContentTimeout => host::Fault::FirstContentTimeout,
            Fault::IdleTimeout => host::Fault::IdleTimeout,
            Fault::AttemptTimeout => host::Fault::AttemptTimeout,
            Fault::Truncated => host::Fault::Truncated,
        }))
    }
    fn status(&mut self, _: Resource<AttemptHandle>) -> Lent<Option<u16>> {
        Ok(self.attempt()?.status())
    }
    fn header(&mut self, _: Resource<AttemptHandle>, name: String) -> Lent<Option<Vec<u8>>> {
        Ok(self.attempt()?.header(&name).map(Cow::into_owned))
    }
    fn header_names(&mut self, _: Resource<AttemptHandle>) -> Lent<Vec<String>> {
        Ok(self.attempt()?.header_names())
    }
    fn body_prefix(&mut self, _: Resource<AttemptHandle>, limit: u32) -> Lent<Vec<u8>> {
        Ok(self.attempt()?.body_prefix(limit).into_owned())
    }
    fn body_json(&mut self, _: Resource<AttemptHandle>, pointer: String) -> Lent<Option<String>> {
        Ok(self.attempt()?.body_json(&pointer))
    }
    fn provider_error(&mut self, _: Resource<AttemptHandle>) -> Lent<Option<host::ProviderError>> {
        let error = self.attempt()?.provider_error();
        Ok(error.map(|error| host::ProviderError { code: error.code, kind: error.kind, message: error.message }))
    }
    fn retry_after_ms(&mut self, _: Resource<AttemptHandle>) -> Lent<Option<u64>> {
        Ok(self.attempt()?.retry_after().map(milliseconds))
    }
    fn rate_limit(&mut self, _: Resource<AttemptHandle>, dimension: host::Dimension) -> Lent<Option<host::RateLimit>> {
        let dimension = match dimension {
            host::Dimension::Requests => Dimension::Requests,
            host::Dimension::Tokens => Dimension::Tokens,
        };
        Ok(self.attempt()?.rate_limit(dimension).map(|reported| host::RateLimit {
            limit: reported.limit,
            remaining: reported.remaining,
            reset_ms: reported.reset.map(milliseconds),
        }))
    }
    fn elapsed_ms(&mut self, _: Resource<AttemptHandle>) -> Lent<u64> {
        Ok(milliseconds(self.attempt()?.elapsed()))
    }
    fn first_content_ms(&mut self, _: Resource<AttemptHandle>) -> Lent<Option<u64>> {
        Ok(self.attempt()?.first_content().map(milliseconds))
    }
    fn remaining_ms(&mut self, _: Resource<AttemptHandle>) -> Lent<Option<u64>> {
        Ok(self.attempt()?.remaining().map(milliseconds))
    }
    fn unix_ms(&mut self, _: Resource<AttemptHandle>) -> Lent<u64> {
        Ok(milliseconds(self.attempt()?.unix_time()))
    }
    fn random(&mut self, _: Resource<AttemptHandle>) -> Lent<u64> {
        Ok(self.attempt()?.random())
    }
    fn drop(&mut self, _: Resource<AttemptHandle>) -> Lent<()> {
        Ok(())
    }
}

impl host::HostWindow for Context {
    fn upstream(&mut self, _: Resource<WindowHandle>) -> Lent<String> {
        Ok(self.window()?.upstream().into_owned())
    }
    fn state(&mut self, _: Resource<WindowHandle>) -> Lent<host::CircuitState> {
        Ok(match self.window()?.state() {
            CircuitState::Closed => host::CircuitState::Closed,
            CircuitState::Open => host::CircuitState::Open,
            CircuitState::HalfOpen => host::CircuitState::HalfOpen,
        })
    }
    fn length_ms(&mut self, _: Resource<WindowHandle>) -> Lent<u64> {
        Ok(milliseconds(self.window()?.length()))
    }
    fn requests(&mut self, _: Resource<WindowHandle>) -> Lent<u32> {
        Ok(self.window()?.requests())
    }
    fn failures(&mut self, _: Resource<WindowHandle>) -> Lent<u32> {
        Ok(self.window()?.failures())
    }
    fn overloads(&mut self, _: Resource<WindowHandle>) -> Lent<u32> {
        Ok(self.window()?.overloads())
    }
    fn throttles(&mut self, _: Resource<WindowHandle>) -> Lent<u32> {
        Ok(self.window()?.throttles())
    }
    fn slow_calls(&mut self, _: Resource<WindowHandle>) -> Lent<u32> {
        Ok(self.window()?.slow_calls())
    }
    fn consecutive_failures(&mut self, _: Resource<WindowHandle>) -> Lent<u32> {
        Ok(self.window()?.consecutive_failures())
    }
    fn in_flight(&mut self, _: Resource<WindowHandle>) -> Lent<u32> {
        Ok(self.window()?.in_flight())
    }
    fn oldest_in_flight_ms(&mut self, _: Resource<WindowHandle>) -> Lent<u64> {
        Ok(milliseconds(self.window()?.oldest_in_flight()))
    }
    fn latency_ms(&mut self, _: Resource<WindowHandle>, quantile: f32) -> Lent<Option<u64>> {
        Ok(self.window()?.latency(quantile).map(milliseconds))
    }
    fn consecutive_openings(&mut self, _: Resource<WindowHandle>) -> Lent<u32> {
        Ok(self.window()?.consecutive_openings())
    }
    fn thresholds_crossed(&mut self, _: Resource<WindowHandle>) -> Lent<bool> {
        Ok(self.window()?.thresholds_crossed())
    }
    fn random(&mut self, _: Resource<WindowHandle>) -> Lent<u64> {
        Ok(self.window()?.random())
    }
    fn drop(&mut self, _: Resource<WindowHandle>) -> Lent<()> {
        Ok(())
    }
}
