//! What is not as it should be: a pure function of the status.

use crate::admin::status::{
    CircuitStatus, LaneStatus, LedgerStatus, LimitStatus, LimitsStatus, QueueStatus, Status, UpstreamStatus,
};
use crate::config::DEFAULT_POLICY;
use crate::observe::guards::GuardFinding;
use crate::policy::PolicyStatus;
use crate::runtime::screen::{BAD, DOUBTFUL, counted, span};
use anstyle::Style;
use std::time::Duration;

/// Failing calls in a row from which on a circuit that is closed is told of: fewer are everyday.
const IN_A_ROW_TOLD: u32 = 3;
/// The share of failing calls from which on a circuit that is closed is told of, in hundredths.
const FAILING_PERCENT_TOLD: u64 = 10;

/// What a guard has found is to be looked at for so long.
const FINDING_TOLD: Duration = Duration::from_secs(3_600);

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Whose it is: an upstream's or a part's of it, a policy's, the queue's.
    pub(super) of: String,
    /// What is the matter, and what becomes of it.
    pub(super) said: String,
    /// How bad it is: [`BAD`] or [`DOUBTFUL`].
    pub(super) style: Style,
}

impl Trouble {
    fn bad(of: impl Into<String>, said: impl Into<String>) -> Trouble {
        Trouble { of: of.into(), said: said.into(), style: BAD }
    }

    fn doubtful(of: impl Into<String>, said: impl Into<String>) -> Trouble {
        Trouble { of: of.into(), said: said.into(), style: DOUBTFUL }
    }
}

/// All of them, the worst first.
pub(super) fn troubles(status: &Status) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    if status.draining {
        let under_way = counted(status.in_flight, "request");
        troubles.push(Trouble::doubtful("Spillway", format!("is ending: it takes nothing new, {under_way} under way")));
    }
    status.upstreams.iter().for_each(|upstream| of_upstream(upstream, &mut troubles));
    let of_limits = |name: &str, limits| waits(limits).map(|said| Trouble::doubtful(name, said));
    troubles.extend(
        status.tenants.iter().filter_map(|tenant| of_limits(&format!("tenant {}", tenant.name), &tenant.limits)),
    );
    status.ledger.iter().for_each(|ledger| of_ledger(ledger, &mut troubles));
    of_queue(status.queue.as_ref(), &mut troubles);
    let recent = status.guards.iter().filter(|finding| is_recent(finding, status.now_unix_ms));
    troubles.extend(recent.map(|finding| of_guard(finding, status.now_unix_ms)));
    status.policies.iter().for_each(|policy| of_policy(policy, &mut troubles));
    // Those of one kind stay in their order.
    troubles.sort_by_key(|trouble| trouble.style != BAD);
    troubles
}

fn of_ledger(ledger: &LedgerStatus, troubles: &mut Vec<Trouble>) {
    if let Some(trouble) = &ledger.trouble {
        troubles.push(Trouble::bad("ledger", trouble.clone()));
    }
    if ledger.lost > 0 {
        let said = format!("has lost {} while nothing could be written", counted_entries(ledger.lost));
        troubles.push(Trouble::bad("ledger", said));
    }
    let used_up = ledger.limits.iter().filter(|limit| is_used_up(limit));
    troubles.extend(used_up.map(|limit| Trouble::doubtful("ledger", of_limit(limit))));
    if ledger.would_have_refused > 0 {
        let calls = counted(ledger.would_have_refused, "call");
        troubles.push(Trouble::doubtful("ledger", format!("limits that only watch would have refused {calls}")));
    }
}

fn counted_entries(entries: u64) -> String {
    if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") }
}

/// Whether nothing is left of a limit.
pub(super) fn is_used_up(limit: &LimitStatus) -> bool {
    limit.spent + limit.open >= limit.amount
}

/// A limit, whose it is, what is left of it, and until when.
pub(super) fn of_limit(limit: &LimitStatus) -> String {
    let LimitStatus { of, limit: written, force, left, refills_in_ms, .. } = limit;
    let whole = refills_in_ms.map(|ms| format!(", whole again in {}", span(Duration::from_millis(ms))));
    let what = match force.as_str() {
        "warns" => " (only warns)",
        "watches" => " (only watches)",
        _ => "",
    };
    format!("{of}: {written}{what}, {left} left{}", whole.unwrap_or_default())
}

/// Whether there is anything to be told of an upstream.
pub(super) fn is_well(upstream: &UpstreamStatus) -> bool {
    let mut troubles = Vec::new();
    of_upstream(upstream, &mut troubles);
    troubles.is_empty()
}

fn of_upstream(upstream: &UpstreamStatus, troubles: &mut Vec<Trouble>) {
    let told: Vec<_> = upstream.breakers.iter().filter_map(|circuit| Some((circuit, of_circuit(circuit)?))).collect();
    for (circuit, (style, said)) in &told {
        let has_more = |(other, (others, _)): &(&CircuitStatus, (Style, String))| {
            let is_open = *others == BAD;
            match () {
                // What fails in a part is counted in the whole as well, and the part says more.
                () if circuit.scope == UPSTREAM => *style != BAD && other.scope != UPSTREAM,
                // What nobody gets, nobody gets with this credential.
                () => {
                    (is_open || *style != BAD) && circuit.scope.starts_with(&format!("{}{OF_CREDENTIAL}", other.scope))
                }
            }
        };
        if !told.iter().any(has_more) {
            troubles.push(Trouble { of: part(&upstream.name, &circuit.scope), said: said.clone(), style: *style });
        }
    }
    for lane in &upstream.pacing {
        troubles.push(Trouble::doubtful(part(&upstream.name, &lane.scope), of_lane(lane)));
    }
    troubles.extend(waits(&upstream.limits).map(|said| Trouble::doubtful(&upstream.name, said)));
}

/// The scope of a circuit that is its upstream's own.
const UPSTREAM: &str = "upstream";
/// What stands behind a model in the scope of a circuit that is one credential's.
const OF_CREDENTIAL: &str = " of credential ";
/// The state of a circuit through which calls go.
const CLOSED: &str = "closed";

/// An upstream, or a part of it, by name.
fn part(upstream: &str, scope: &str) -> String {
    if scope == UPSTREAM { upstream.to_owned() } else { format!("{upstream}, {scope}") }
}

fn of_circuit(circuit: &CircuitStatus) -> Option<(Style, String)> {
    let said = circuit.said.as_ref().map(|said| match &*said.message {
        "" => format!("; last said: {}", said.status),
        message => format!("; last said: {} \"{message}\"", said.status),
    });
    let said = said.unwrap_or_default();
    if circuit.mode == "forced open" {
        return Some((BAD, "circuit held open by an operator: no calls go out".to_owned()));
    }
    let why = circuit.opened_because.as_ref().or(circuit.cause.as_ref());
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let since = circuit.open_for_ms.map(|ms| format!(" for {}", span(Duration::from_millis(ms)))).unwrap_or_default();
    match &*circuit.state {
        CLOSED => failing(circuit).map(|failing| (DOUBTFUL, failing + &said)),
        "half-open" => Some((BAD, format!("circuit open{since}{why}{said}; a call is under way to see"))),
        _ => {
            let next = match circuit.probe_possible_in_ms {
                Some(ms) if ms > 0 => format!("in {}", span(Duration::from_millis(ms))),
                _ => "as soon as a request comes".to_owned(),
            };
            Some((BAD, format!("circuit open{since}{why}{said}; next call {next}")))
        }
    }
}

/// What is told of a circuit through which calls go, if enough of them fail.
fn failing(circuit: &CircuitStatus) -> Option<String> {
    let window = &circuit.window;
    let failed = u64::from(window.failures) + u64::from(window.overloads);
    let share_is_told = failed > 1 && failed * 100 >= u64::from(window.requests) * FAILING_PERCENT_TOLD;
    (share_is_told || window.consecutive_failures >= IN_A_ROW_TOLD).then(|| {
        let within = span(Duration::from_millis(window.length_ms));
        let calls = counted(window.requests.into(), "call");
        let last = match window.consecutive_failures {
            0 => "; the last one was served".to_owned(),
            1 => String::new(),
            count => format!(", the last {count} in a row"),
        };
        format!("calls go out, and {failed} of {calls} failed within {within}{last}")
    })
}

fn of_lane(lane: &LaneStatus) -> String {
    let rate = lane.calls_per_second.map(|rate| format!("; calls go out at {rate} a second")).unwrap_or_default();
    let pause = lane.paused_for_ms.filter(|ms| *ms > 0);
    let pause = pause.map(|ms| format!("; the next in {}", span(Duration::from_millis(ms)))).unwrap_or_default();
    format!("has said that it is too much{rate}{pause}; {}", wait_in_words(lane.waiting))
}

fn wait_in_words(waiting: usize) -> String {
    match waiting {
        0 => "no request waits".to_owned(),
        1 => "1 request waits for its turn".to_owned(),
        many => format!("{many} requests wait for their turn"),
    }
}

fn waits(limits: &LimitsStatus) -> Option<String> {
    (limits.waiting > 0).then(|| format!("its limits are used up: {}", wait_in_words(limits.waiting)))
}

fn of_queue(queue: Option<&QueueStatus>, troubles: &mut Vec<Trouble>) {
    let all = match queue {
        None => return,
        Some(QueueStatus::Uncounted { error, troubles: all }) => {
            troubles.push(Trouble::bad("queue", format!("its jobs cannot be counted: {error}")));
            all
        }
        Some(QueueStatus::Counted(counts)) => {
            if counts.dead > 0 {
                let said = format!("{} failed for good: what each got last is its answer", counted(counts.dead, "job"));
                troubles.push(Trouble::doubtful("queue", said));
            }
            if counts.expired > 0 {
                let said = format!("{} expired before it could be served", counted(counts.expired, "job"));
                troubles.push(Trouble::doubtful("queue", said));
            }
            &counts.troubles
        }
    };
    troubles.extend(all.iter().map(|said| Trouble::bad("queue", said)));
}

/// Whether what a guard has found is to be looked at.
pub(super) fn is_recent(finding: &GuardFinding, now_unix_ms: u64) -> bool {
    Duration::from_millis(now_unix_ms.saturating_sub(finding.last_at_unix_ms)) <= FINDING_TOLD
}

/// How often a guard has found something.
pub(super) fn times_found(finding: &GuardFinding) -> String {
    let refused = (finding.refused > 0).then(|| format!("refused {}", counted(finding.refused, "request")));
    let watched = (finding.would_have_refused > 0)
        .then(|| format!("would have refused {}, and only warns", counted(finding.would_have_refused, "request")));
    refused.into_iter().chain(watched).collect::<Vec<_>>().join("; ")
}

fn of_guard(finding: &GuardFinding, now_unix_ms: u64) -> Trouble {
    let ago = span(Duration::from_millis(now_unix_ms.saturating_sub(finding.last_at_unix_ms)));
    let (times, caller, message) = (times_found(finding), &finding.caller, &finding.message);
    Trouble::doubtful(format!("guard {}", finding.guard), format!("{times}; {ago} ago one of {caller}: {message}"))
}

fn of_policy(policy: &PolicyStatus, troubles: &mut Vec<Trouble>) {
    let of = format!("policy {}", policy.name);
    let fault = policy.last_fault.as_ref().map(|fault| format!("; its last fault: {fault}")).unwrap_or_default();
    if let Some(rule) = &policy.quarantined_after {
        let said = format!("is not asked for now, after {rule}: the built-in policy judges in its place{fault}");
        troubles.push(Trouble::bad(&of, said));
    } else if policy.faults > 0 {
        let said = format!("gave no answer {} of {} times{fault}", policy.faults, policy.calls);
        troubles.push(Trouble::doubtful(&of, said));
    }
    if let Some(rejected) = &policy.rejected {
        let said = format!("its last file does not serve, what served before goes on: {}", rejected.reason);
        troubles.push(Trouble::bad(&of, said));
    }
    if policy.sha256.is_none() && policy.rejected.is_none() && policy.name != DEFAULT_POLICY {
        troubles.push(Trouble::doubtful(&of, "has no file: the built-in policy judges until it appears"));
    }
    let Some(shadow) = &policy.shadow else { return };
    if let Some(rejected) = &shadow.rejected {
        troubles.push(Trouble::doubtful(&of, format!("its candidate was not loaded: {}", rejected.reason)));
    }
    if let Some(rule) = &shadow.quarantined_after {
        troubles.push(Trouble::doubtful(&of, format!("its candidate is not asked for now, after {rule}")));
    }
}
