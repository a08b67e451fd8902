//! What is left of a caller's own limits, told in the headers of every answer and refusal that it gets.

use crate::dialect::rate_headers::{Counted, Left, Tightest, Told};
use crate::ledger::Ledger;
use crate::proxy::target::Target;
use http::HeaderMap;
use spillway_resilience::{Dimension, LimitStanding};
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// Tenants' limits count minutes.
const MINUTE: Duration = Duration::from_secs(60);

/// Tells what is left, in the API's own style and in the IETF's: of the tenant's own limits, and of whatever its key
/// and its groups may spend. A limit of the upstream is shared with everybody, so nobody is told of it.
pub(super) fn tell_what_is_left(headers: &mut HeaderMap, target: &Target, ledger: Option<&Ledger>) {
    let caller = &target.request.caller;
    let mut left = Tightest::default();
    if let Some(gate) = &caller.gate {
        let [requests, tokens] = gate.look(|queue, now| {
            [Dimension::Requests, Dimension::Tokens].map(|dimension| queue.limiter().standing(dimension, now))
        });
        let requests = requests.map(|standing| of_tenant("requests per minute", Counted::Requests, standing));
        let tokens = tokens.map(|standing| of_tenant("tokens per minute", Counted::Tokens, standing));
        requests.into_iter().chain(tokens).for_each(|of_tenant| left.take(of_tenant));
    }
    if let (Some(ledger), Some(payer)) = (ledger, &caller.payer) {
        ledger.accounts.left_of(payer, &mut left);
    }
    if !left.is_empty() {
        left.tell(headers, target.request.dialect, SystemTime::now);
    }
}

fn of_tenant(name: &str, counted: Counted, standing: LimitStanding) -> Left<'static> {
    let LimitStanding { limit, remaining, reset_in } = standing;
    Left { told: Cow::Owned(Told::new(name, counted, limit, Some(MINUTE))), remaining, reset: reset_in }
}
