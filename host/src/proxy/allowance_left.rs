//! What is left of a caller's own limits, told in the headers of every answer and refusal that it gets.

use crate::dialect::rate_headers::{Counted, Left, insert};
use crate::ledger::{Ledger, Standing};
use crate::proxy::target::Target;
use http::HeaderMap;
use spillway_resilience::{Dimension, Force, LimitStanding, Measure, Period};
use std::time::{Duration, SystemTime};

/// Tenants' limits count minutes.
const MINUTE: Duration = Duration::from_secs(60);
const PICODOLLARS_PER_MICRODOLLAR: u128 = 1_000_000;

/// Tells what is left, in the API's own style and in the IETF's: of the tenant's own limits, and of whatever its key
/// and its groups may spend. A limit of the upstream is shared with everybody, so nobody is told of it.
pub(super) fn tell_what_is_left(headers: &mut HeaderMap, target: &Target, ledger: Option<&Ledger>) {
    let caller = &target.request.caller;
    let mut left = Vec::new();
    if let Some(gate) = &caller.gate {
        let [requests, tokens] = gate.look(|queue, now| {
            [Dimension::Requests, Dimension::Tokens].map(|dimension| queue.limiter().standing(dimension, now))
        });
        left.extend(requests.map(|standing| of_tenant(Counted::Requests, "requests per minute", standing)));
        left.extend(tokens.map(|standing| of_tenant(Counted::Tokens, "tokens per minute", standing)));
    }
    if let (Some(ledger), Some(payer)) = (ledger, &caller.payer) {
        left.extend(ledger.accounts.standings_of(payer).iter().filter_map(of_ledger));
    }
    if !left.is_empty() {
        insert(headers, target.request.dialect, &left, SystemTime::now());
    }
}

fn of_tenant(counted: Counted, name: &'static str, standing: LimitStanding) -> Left {
    let LimitStanding { limit, remaining, reset_in } = standing;
    Left { name: name.into(), counted, limit, remaining, reset: reset_in, window: Some(MINUTE) }
}

/// One of the ledger's allowances; none that only warns or watches, since it keeps nobody from anything.
fn of_ledger(standing: &Standing) -> Option<Left> {
    let allowance = &standing.exhausted.allowance;
    if allowance.force != Force::Refuses {
        return None;
    }
    let (measure, period) = (allowance.measure, allowance.period);
    let (counted, unit) = match measure {
        Measure::Requests => (Counted::Requests, 1),
        Measure::InputTokens => (Counted::InputTokens, 1),
        Measure::OutputTokens => (Counted::OutputTokens, 1),
        Measure::Tokens => (Counted::Tokens, 1),
        Measure::Cost => (Counted::Microdollars, PICODOLLARS_PER_MICRODOLLAR),
        Measure::InFlight => (Counted::InFlight, 1),
    };
    let sized = |amount: u128| u64::try_from(amount / unit).unwrap_or(u64::MAX);
    let (window, within) = match (measure, window(period)) {
        (Measure::InFlight, _) => (None, String::new()),
        (_, None) => (None, " in total".to_owned()),
        (_, Some(window)) => (Some(window), format!(" per {}", period.as_str())),
    };
    Some(Left {
        name: format!("{}: {}{within}", standing.whose, measure.as_str()).into(),
        counted,
        limit: sized(allowance.amount),
        remaining: sized(standing.exhausted.left()),
        reset: Duration::from_millis(standing.refills_in_ms.unwrap_or(0)),
        window,
    })
}

/// How long a period is, a month as long as most are.
const fn window(period: Period) -> Option<Duration> {
    const DAY_S: u64 = 24 * 3_600;
    match period {
        Period::Minute => Some(MINUTE),
        Period::Hour => Some(Duration::from_secs(3_600)),
        Period::Day => Some(Duration::from_secs(DAY_S)),
        Period::Month => Some(Duration::from_secs(30 * DAY_S)),
        Period::Total => None,
    }
}
