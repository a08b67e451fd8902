//! What a call waits for before it goes out: circuits, its tenant's limits, lanes, and the limits of its upstream.

use crate::observe::metrics::{RequestOutcome, WaitedFor};
use crate::proxy::permits::Permits;
use crate::proxy::refusal::{Owner, Refusal, RefusalKind};
use crate::proxy::spending::Expense;
use crate::proxy::target::Target;
use crate::proxy::trace::RequestTrace;
use crate::proxy::unserved::{Blocked, circuit_open, named};
use crate::proxy::worker::Worker;
use crate::runtime::clock::Clock;
use crate::upstream::circuit::Refused;
use crate::upstream::gate::{AdmissionGate, AdmissionPermit};
use crate::upstream::lanes::Lane;
use crate::upstream::patience::{self, Patience};
use crate::upstream::scope::Protects;
use spillway_resilience::{Demand, Exceeded, Full, Obstacle, Saturated, Ticket, TurnedAway};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A wait at a limit that is shorter is no wait: nothing was in the way.
const WAIT_WORTH_TELLING: Duration = Duration::from_millis(1);

/// What keeps a request from an upstream.
#[derive(Debug)]
pub(super) enum Obstruction {
    /// Its own tenant's limits, whoever serves it.
    OfTenant(Blocked),
    /// Something of the upstream's.
    OfUpstream(Blocked),
}

/// What a request's own tenant allows it, whoever serves it.
pub(super) struct Tenants<'a> {
    /// How long it waits for that.
    pub patience: Instant,
    /// What it has taken of it: once, however many attempts it makes.
    pub charge: &'a mut Option<AdmissionPermit>,
    /// Whether the ledger has not counted it yet.
    pub is_first: bool,
}

/// Waits for all that stands between a request and a call, for as long as there is patience. `places` are those that it
/// has had in lanes.
///
/// # Errors
/// What is in the way for longer than there is patience.
pub(super) async fn admit(
    worker: &Worker,
    target: &Target,
    patience: Patience,
    tenant: Tenants<'_>,
    places: &mut Places,
    trace: &mut RequestTrace,
) -> Result<Permits, Obstruction> {
    let (upstream, subject, clock) = (&target.upstream, target.subject(), worker.app.clock);
    let mut expense = None;
    loop {
        // A look at the circuits: behind an open one there is no use in waiting for limits.
        if let Err(refused) = upstream.circuits.peek(subject) {
            wait_for_circuit(target, &refused, patience.circuits, clock, trace)
                .await
                .map_err(Obstruction::OfUpstream)?;
            continue;
        }

        // The tenant's own limits.
        if let (None, Some(gate)) = (&*tenant.charge, &target.request.caller.gate) {
            let permit = wait_at(gate, target, tenant.patience, clock, trace, WaitedFor::TenantLimit).await;
            *tenant.charge = Some(permit.map_err(|away| Obstruction::OfTenant(limited(tenant_of(target), &away)))?);
        }

        // What it may cost, of all that must allow it.
        if expense.is_none() {
            expense = wait_for_allowance(worker, target, &tenant, trace).await.map_err(Obstruction::OfTenant)?;
        }

        // The lanes of what has said "too much": whoever has the patience goes out at the rate that is served.
        let mut turns = Vec::new();
        for lane in upstream.lanes.of(subject) {
            let turn = places.wait_in(&lane, target, patience.limits, clock, trace).await;
            turns.push(turn.map_err(|away| Obstruction::OfUpstream(paced(target, &lane, &away)))?);
        }

        // The limits: a quota that is overrun is refused by the provider anyway, and costs a call.
        let permit = wait_at(&upstream.gate, target, patience.limits, clock, trace, WaitedFor::UpstreamLimit).await;
        let owner = || Owner::Upstream(upstream.name.to_string());
        let permit = permit.map_err(|away| Obstruction::OfUpstream(limited(owner(), &away)))?;

        // The breaker, last, after all waits: what waits must not hold a probe.
        match upstream.circuits.admit(subject) {
            Ok(circuits) => return Ok(Permits { limits: permit, circuits, expense, turns }),
            Err(refused) => {
                drop(permit);
                let waited = wait_for_circuit(target, &refused, patience.circuits, clock, trace).await;
                waited.map_err(Obstruction::OfUpstream)?;
            }
        }
    }
}

/// The places in lanes that a request has had.
#[derive(Default)]
pub(super) struct Places(Vec<(Protects, Ticket)>);

impl Places {
    /// Goes through a lane. Whoever had a turn that was refused comes before those who came later.
    async fn wait_in(
        &mut self,
        lane: &Lane,
        target: &Target,
        patience: Instant,
        clock: Clock,
        trace: &mut RequestTrace,
    ) -> Result<AdmissionPermit, TurnedAway> {
        let began = Instant::now();
        let former = self.0.iter().find(|(protects, _)| *protects == lane.protects).map(|(_, ticket)| *ticket);
        // A lane counts turns: what a call costs is for the limits.
        let demand = Demand { tokens: 0, ..target.demand() };
        let permit = patience::enter_again(&lane.gate, demand, former, patience, clock).await;
        if began.elapsed() >= WAIT_WORTH_TELLING {
            trace.waited(WaitedFor::Lane, began.elapsed(), &target.upstream);
        }
        let permit = permit?;
        if let (None, Some(ticket)) = (former, permit.ticket()) {
            self.0.push((lane.protects.clone(), ticket));
        }
        Ok(permit)
    }
}

/// What a caller hears who has not the patience for a lane.
fn paced(target: &Target, lane: &Lane, away: &TurnedAway) -> Blocked {
    let upstream = named(target, &lane.protects);
    let refusal = Refusal::after(RefusalKind::Paced { upstream, said: lane.said() }, away.retry_after);
    Blocked::before_sending(refusal, RequestOutcome::Limited)
}

/// Goes through a gate, waiting as long as there is patience.
async fn wait_at(
    gate: &Arc<AdmissionGate>,
    target: &Target,
    patience: Instant,
    clock: Clock,
    trace: &mut RequestTrace,
    waited_for: WaitedFor,
) -> Result<AdmissionPermit, TurnedAway> {
    let began = Instant::now();
    let result = patience::enter(gate, target.demand(), patience, clock).await;
    if began.elapsed() >= WAIT_WORTH_TELLING {
        trace.waited(waited_for, began.elapsed(), &target.upstream);
    }
    result
}

/// What a caller hears whom a limit does not let in.
fn limited(owner: Owner, away: &TurnedAway) -> Blocked {
    let kind = match away.obstacle {
        Obstacle::Limit(Exceeded { dimension, limit, .. }) => RefusalKind::LimitExceeded { owner, dimension, limit },
        Obstacle::Saturated(Saturated { limit }) => RefusalKind::Saturated {
            owner,
            what: format!("{limit} calls are in flight, as many as it may have at once"),
        },
        Obstacle::Reserved { limit, in_flight } => RefusalKind::Saturated {
            owner,
            what: format!(
                "{in_flight} calls of {limit} are in flight, and the places that are left are reserved for groups \
                 (reserved_share) that this caller is not of"
            ),
        },
        Obstacle::Paced { .. } | Obstacle::Queue(_) => RefusalKind::Saturated {
            owner,
            what: "others came first, and this request may not wait for as long as its turn takes".into(),
        },
        Obstacle::Full(Full::Queue) => {
            RefusalKind::Saturated { owner, what: "as many requests wait there as may (max_waiting)".into() }
        }
        Obstacle::Full(Full::Tenant) => {
            RefusalKind::Saturated { owner, what: "as many requests of this caller's tenant wait there as may".into() }
        }
    };
    Blocked::before_sending(Refusal::after(kind, away.retry_after), RequestOutcome::Limited)
}

/// Reserves what the call may cost, waiting as long as there is patience for calls that are under way to end, or for
/// the minute to.
///
/// # Errors
/// What the caller hears, without the patience for that.
async fn wait_for_allowance(
    worker: &Worker,
    target: &Target,
    tenant: &Tenants<'_>,
    trace: &mut RequestTrace,
) -> Result<Option<Expense>, Blocked> {
    let mut began: Option<Instant> = None;
    loop {
        let standing = match Expense::reserve(worker, target, tenant.is_first) {
            Ok(expense) => {
                if let Some(began) = began {
                    trace.waited(WaitedFor::Allowance, began.elapsed(), &target.upstream);
                }
                return Ok(expense);
            }
            Err(standing) => standing,
        };
        began.get_or_insert_with(Instant::now);
        let left = tenant.patience.saturating_duration_since(Instant::now());
        let wait = match standing.ends_after() {
            Some(wait) if wait <= left && !left.is_zero() => wait,
            _ => {
                let retry_after = standing.ends_after();
                let refusal = Refusal { retry_after, ..Refusal::from(RefusalKind::Exhausted { standing }) };
                return Err(Blocked::before_sending(refusal, RequestOutcome::Limited));
            }
        };
        let ledger = worker.app.ledger.as_deref();
        tokio::select! {
            () = worker.app.clock.sleep(wait) => {}
            () = async {
                match ledger {
                    Some(ledger) => ledger.accounts.changed().await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

fn tenant_of(target: &Target) -> Owner {
    // Only a configured tenant has a gate, and it has a name.
    Owner::Tenant(target.request.caller.name.as_deref().unwrap_or_default().to_owned())
}

/// Waits for a circuit that refuses, for its cooldown or for somebody else's probe to close it.
///
/// # Errors
/// What the caller hears, without the patience for that.
async fn wait_for_circuit(
    target: &Target,
    refused: &Refused,
    patience: Instant,
    clock: Clock,
    trace: &mut RequestTrace,
) -> Result<(), Blocked> {
    let began = Instant::now();
    let patience = patience.saturating_duration_since(began);
    let Some(wait) = refused.rejected.worth_waiting(refused.is_slow, patience, clock.now()) else {
        let wait = clock.until(refused.rejected.retry_at());
        let refusal = Refusal::after(circuit_open(target, refused), wait);
        return Err(Blocked::before_sending(refusal, RequestOutcome::CircuitOpen));
    };
    tokio::select! {
        () = clock.sleep(wait) => {}
        () = target.upstream.circuits.changed() => {}
    }
    trace.waited(WaitedFor::Circuit, began.elapsed(), &target.upstream);
    Ok(())
}
