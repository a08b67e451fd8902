//! The guards against runaway agents on a request's way: asked once when it has come, told once what it has used.

use crate::dialect::Operation;
use crate::observe::guards::found;
use crate::proxy::app::App;
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::proxy::request::InboundRequest;
use crate::proxy::target::Target;
use crate::tenants::runaway::Asked;
use spillway_resilience::{GuardKind, Settlement, Tripped};
use std::borrow::Cow;

/// Asks the guards about a request that has just come, and tells of what they find. However often it is sent, and
/// whoever serves it later, it is asked about once.
///
/// # Errors
/// When one refuses it.
pub(crate) fn guard(app: &App, target: &Target) -> Result<(), Refusal> {
    let request = &*target.request;
    let Some((trail, findings)) = asked(app, target, |asked| app.runaway.ask(asked, app.clock.now())) else {
        return Ok(());
    };
    let mut refused = None;
    for (tripped, wait) in findings {
        let is_refused = app.runaway.settings(&request.caller).refuses(tripped.guard);
        note(app, request, &tripped, is_refused);
        if is_refused && refused.is_none() {
            refused = Some(Refusal::after(RefusalKind::Runaway { tripped }, wait));
        }
    }
    // Nobody else has given it one.
    let _ = request.trail.set(trail);
    refused.map_or(Ok(()), Err)
}

/// What a kept request uses counts as if it had been served when it came.
pub(crate) fn follow(app: &App, target: &Target) {
    if let Some(trail) = asked(app, target, |asked| app.runaway.follow(asked, app.clock.now())) {
        // As above.
        let _ = target.request.trail.set(trail);
    }
}

/// Tells the guards of an answer that has ended.
pub(crate) fn answered(app: &App, target: &Target, settlement: Settlement) {
    let request = &*target.request;
    let Some(trail) = request.trail.get() else { return };
    let tokens = match settlement {
        Settlement::Used(tokens) => tokens,
        Settlement::AsEstimated => target.estimate.total,
        Settlement::Refund => 0,
    };
    if let Some(alarm) = app.runaway.answered(*trail, tokens, app.clock.now()) {
        note(app, request, &alarm, false);
    }
}

/// Tells the guards what was used while an answer goes on.
pub(crate) fn uses(app: &App, target: &Target, tokens: u64) {
    if let Some(trail) = target.request.trail.get() {
        app.runaway.uses(*trail, tokens, app.clock.now());
    }
}

/// Asks something of the guards about a request, if they are on and it is one that costs tokens.
fn asked<T>(app: &App, target: &Target, ask: impl FnOnce(&Asked<'_>) -> T) -> Option<T> {
    let request = &*target.request;
    if !app.runaway.settings(&request.caller).is_on() {
        return None;
    }
    if request.operation != Operation::Generate && request.upgrade.is_none() {
        return None;
    }
    let body: Option<Cow<'_, [u8]>> = request.readable();
    Some(ask(&Asked {
        caller: &request.caller,
        dialect: request.dialect,
        path: request.path(),
        headers: &request.headers,
        body: body.as_deref(),
        tokens: target.estimate.total,
    }))
}

/// Tells of what a guard has found: counted each time, and in the log as far as it is news. A refusal has a line of its
/// own there.
fn note(app: &App, request: &InboundRequest, tripped: &Tripped, is_refused: bool) {
    let caller = request.caller.title_of_key();
    let times = app.runaway.findings.note(tripped, is_refused, &caller, app.clock.unix_ms());
    // A request that is too large belongs to no row of which it could be the first, so that it is told of more and more
    // rarely.
    let is_news = tripped.is_news && (tripped.guard != GuardKind::TokensPerRequest || times.is_power_of_two());
    if !is_news {
        return;
    }
    let (request_id, guard, model) = (&*request.id, tripped.guard.as_str(), request.parameters.model.as_deref());
    let why = found(tripped);
    let (figure, limit) = (tripped.figure, tripped.limit);
    match (is_refused, tripped.guard) {
        (true, _) => tracing::warn!(request_id, guard, caller, model, figure, limit, why, "a guard refuses"),
        (false, GuardKind::Growth) => {
            tracing::warn!(request_id, guard, caller, model, figure, limit, why, "requests have grown");
        }
        (false, _) => {
            tracing::warn!(request_id, guard, caller, model, figure, limit, why, "a guard would have refused");
        }
    }
}
