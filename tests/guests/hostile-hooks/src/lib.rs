//! A policy that misbehaves in each hook. `x-hostile` names the deed, and `backoff: DEED` one for the hook `backoff`;
//! `trip` has no headers to look at and takes the upstream's name for one. `x-verdict` names any verdict there is: it is
//! given, and compared with what `backoff` is told of it.

#[path = "../../hostile/src/misbehave.rs"]
mod misbehave;

use misbehave::{misbehave, verdict};
use spillway_sdk::{Advice, Class, Exchange, Policy, RetryDecision, Scope, TripDecision, Verdict, Window};
use std::time::Duration;

/// As long as the contract can say.
const FOR_EVER: Duration = Duration::from_millis(u64::MAX);

/// The verdict of which `x-verdict` has class, scope, advice and cool-off in figures, and the body the reason.
fn dictated(exchange: &Exchange<'_>) -> Option<Verdict> {
    let said = exchange.header_str("x-verdict")?;
    let mut figures = said.split(' ');
    let mut next = || figures.next()?.parse::<usize>().ok();
    let mut verdict = Verdict::success()
        .scope([Scope::Upstream, Scope::Model, Scope::Credential][next()?])
        .advice([Advice::Retry, Advice::NextUpstream, Advice::GiveUp][next()?]);
    verdict.class = *Class::ALL.get(next()?)?;
    verdict.cool_off = figures.next().and_then(|figure| figure.parse().ok()).map(Duration::from_millis);
    verdict.reason = String::from_utf8_lossy(&exchange.body_prefix(u32::MAX)).into_owned().into();
    Some(verdict)
}

/// Harmless until it is told otherwise.
#[derive(Default)]
struct HostileHooks;

impl Policy for HostileHooks {
    const SUMMARY: &'static str = "Misbehaves on demand in every hook";

    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        if let Some(verdict) = dictated(exchange) {
            return Some(verdict);
        }
        let deed = exchange.header_str("x-hostile")?;
        if deed.starts_with("backoff: ") {
            return verdict("retry");
        }
        misbehave(&deed);
        verdict(&deed)
    }

    fn backoff(&self, exchange: &Exchange<'_>, verdict: &Verdict) -> Option<RetryDecision> {
        if let Some(dictated) = dictated(exchange) {
            return (dictated == *verdict).then_some(RetryDecision::GiveUp);
        }
        let said = exchange.header_str("x-hostile")?;
        let deed = said.strip_prefix("backoff: ")?;
        misbehave(deed);
        match deed {
            "retry after" => Some(RetryDecision::After(FOR_EVER)),
            "spool for" => Some(RetryDecision::SpoolFor(FOR_EVER)),
            "next upstream" => Some(RetryDecision::NextUpstream),
            _ => None,
        }
    }

    fn trip(&self, window: &Window<'_>) -> Option<TripDecision> {
        let deed = window.upstream();
        misbehave(&deed);
        (deed == "open-for").then_some(TripDecision::OpenFor(FOR_EVER))
    }
}

spillway_sdk::export!(HostileHooks);
