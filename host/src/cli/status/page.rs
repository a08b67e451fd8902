//! The page: a pure function of the status and of the width of the terminal.

use super::troubles::{Trouble, is_recent, is_used_up, is_well, of_limit, times_found, troubles};
use crate::admin::status::{
    CircuitStatus, KeysStatus, LimitsStatus, QueueStatus, ReservedStatus, RouteStatus, Status, TargetStatus,
    UpstreamStatus,
};
use crate::observe::refusals::{RecentRefusal, fit_to_show};
use crate::policy::PolicyStatus;
use crate::runtime::screen::{ASIDE, GOOD, HEADING, counted, rows, span, styled};
use anstyle::Style;
use std::time::Duration;

/// Longest text of one entry, in characters. Of a longer one the rest is left out: `--json` has it.
const SAID_CHARS_MAX: usize = 600;
/// Digits of a hash that are shown, as in explanations.
const SHORT_HASH: usize = 8;
/// Refusals that are shown. `--json` has the others.
const REFUSALS_SHOWN: usize = 8;

/// How everything stands: what is not well first, then a line for everything that is, then what was refused.
pub(super) fn page(status: &Status, columns: usize) -> String {
    let mut page = format!("{}\n", styled(HEADING, head(status)));
    let troubles = troubles(status);
    if !troubles.is_empty() {
        let told = |Trouble { of, said, style }: Trouble| (styled(style, shown(&of)), shown(&said));
        section(&mut page, "To be looked at", troubles.into_iter().map(told), columns);
    }
    let well = well(status).into_iter().map(|(of, said)| (styled(GOOD, of), shown(&said)));
    section(&mut page, "As it should be", well, columns);
    let refusals = status.refusals.iter().take(REFUSALS_SHOWN).map(|refusal| told(refusal, status.now_unix_ms));
    if !status.refusals.is_empty() {
        section(&mut page, "Refused of late", refusals, columns);
    }
    page
}

fn section(page: &mut String, name: &str, entries: impl Iterator<Item = (String, String)>, columns: usize) {
    let mut table = rows(columns);
    entries.for_each(|(of, said)| {
        table.add_row([of, said]);
    });
    page.push_str(&format!("\n{}\n", styled(HEADING, name)));
    table.lines().for_each(|line| {
        page.push_str(line.trim_end());
        page.push('\n');
    });
}

/// What others may have named or said, as it may be shown.
fn shown(text: &str) -> String {
    fit_to_show(text, SAID_CHARS_MAX)
}

fn head(status: &Status) -> String {
    let version = shown(&status.version);
    let listen = if status.listen.is_empty() { String::new() } else { format!(" at {}", shown(&status.listen)) };
    let up = span(Duration::from_millis(status.uptime_ms));
    format!("Spillway {version} serves{listen}, for {up}; {} in flight", counted(status.in_flight, "request"))
}

/// A line for everything that is as it should be.
fn well(status: &Status) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let upstreams: Vec<&str> =
        status.upstreams.iter().filter(|upstream| is_well(upstream)).map(|upstream| &*upstream.name).collect();
    if !upstreams.is_empty() {
        lines.push(("upstreams", upstreams.join(", ")));
    }
    let limited = status.upstreams.iter().map(|upstream| (upstream.name.clone(), &upstream.limits));
    let limited =
        limited.chain(status.tenants.iter().map(|tenant| (format!("tenant {}", tenant.name), &tenant.limits)));
    lines.extend(limited.filter_map(|(name, limits)| Some(("limits", format!("{name}: {}", left(limits)?)))));
    let reserved = status.upstreams.iter().filter(|upstream| !upstream.reserved.is_empty());
    lines.extend(reserved.map(|upstream| ("reserved", of_shares(upstream))));
    let of_ledger = status.ledger.iter().flat_map(|ledger| &ledger.limits).filter(|limit| !is_used_up(limit));
    lines.extend(of_ledger.map(|limit| ("ledger", of_limit(limit))));
    lines.extend(status.routes.iter().map(|route| ("route", of_route(route, status))));
    lines.extend(status.keys.as_ref().map(|keys| ("keys", of_keys(keys))));
    lines.extend(queue(status.queue.as_ref()).map(|said| ("queue", said)));
    let policies: Vec<String> =
        status.policies.iter().filter(|policy| policy.quarantined_after.is_none()).map(of_policy).collect();
    if !policies.is_empty() {
        lines.push(("policies", policies.join(", ")));
    }
    let past = status.guards.iter().filter(|finding| !is_recent(finding, status.now_unix_ms));
    lines.extend(past.map(|finding| ("guard", format!("{}: {}, not lately", finding.guard, times_found(finding)))));
    let configuration = status.configuration.clone().unwrap_or_else(|| "none: it runs by the defaults".to_owned());
    lines.push(("configuration", configuration));
    if status.refusals.is_empty() {
        lines.push(("refusals", "none since it runs".to_owned()));
    }
    lines
}

/// How virtual keys stand, and what is to happen to them next.
fn of_keys(keys: &KeysStatus) -> String {
    let demanded = if keys.required { "; every caller shows one" } else { "" };
    let soon = match &keys.summary.expire_soon[..] {
        [] => String::new(),
        soon => format!("; these expire within a week: {}", soon.join(", ")),
    };
    format!("{}{demanded}{soon}", keys.summary.told())
}

/// What is left of limits; `None` where none are configured.
fn left(limits: &LimitsStatus) -> Option<String> {
    let left = |available: Option<i64>, what: &str| available.map(|available| format!("{} {what}", available.max(0)));
    let left = [left(limits.requests_available, "requests"), left(limits.tokens_available, "tokens")];
    let left: Vec<String> = left.into_iter().flatten().collect();
    let (in_flight, most) = (limits.in_flight, limits.max_in_flight);
    (!left.is_empty()).then(|| format!("{} left; {in_flight} calls of {most} in flight", left.join(" and ")))
}

/// How many of its places groups use that are reserved for them.
fn of_shares(UpstreamStatus { name, reserved, .. }: &UpstreamStatus) -> String {
    let of_group = |share: &ReservedStatus| {
        let ReservedStatus { group, places, in_flight } = share;
        format!("{group} has {in_flight} in flight, and {} reserved", counted(u64::from(*places), "place"))
    };
    format!("{name}: {}", reserved.iter().map(of_group).collect::<Vec<_>>().join("; "))
}

/// A route's targets in the order in which they are asked, equals side by side, and how each is.
fn of_route(route: &RouteStatus, status: &Status) -> String {
    let mut ranks: Vec<(u32, Vec<String>)> = Vec::new();
    for target in &route.targets {
        let said = of_target(target, status);
        match ranks.last_mut() {
            Some((rank, equals)) if *rank == target.rank => equals.push(said),
            _ => ranks.push((target.rank, vec![said])),
        }
    }
    let ranks: Vec<String> = ranks.into_iter().map(|(_, equals)| equals.join(" or ")).collect();
    format!("{}: {}", route.name, ranks.join(", then "))
}

fn of_target(target: &TargetStatus, status: &Status) -> String {
    let (upstream, model) = target.target.split_once('/').unwrap_or((&target.target, ""));
    let of_upstream = status.upstreams.iter().find(|known| known.name == upstream);
    let model = format!("model {model}");
    let is_of_target = |circuit: &&CircuitStatus| circuit.scope == "upstream" || circuit.scope == model;
    let mut circuits = of_upstream.iter().flat_map(|known| &known.breakers).filter(is_of_target);
    let is_open = circuits.any(|circuit| circuit.state != "closed");
    let key = target.key.as_ref().map(|key| format!(" with {key}")).unwrap_or_default();
    let health = match is_open {
        true => "circuit open".to_owned(),
        false => format!("{:.0} % served", target.served_share * 100.0),
    };
    format!("{}{key} ({health})", target.target)
}

fn queue(queue: Option<&QueueStatus>) -> Option<String> {
    match queue {
        None => Some("off: what cannot be served is not kept".to_owned()),
        Some(QueueStatus::Uncounted { .. }) => None,
        Some(QueueStatus::Counted(counts)) => {
            let oldest = counts.oldest_queued_age_ms.map(|ms| span(Duration::from_millis(ms)));
            let waiting = match (counts.queued, oldest) {
                (0, _) => "nothing waits".to_owned(),
                (count, None) => format!("{} waiting", counted(count, "job")),
                (count, Some(oldest)) => format!("{} waiting, the oldest for {oldest}", counted(count, "job")),
            };
            let others = [(counts.running, "being served"), (counts.done, "done")];
            let others = others.into_iter().filter(|(count, _)| *count > 0);
            Some(others.fold(waiting, |said, (count, what)| format!("{said}, {count} {what}")))
        }
    }
}

fn of_policy(policy: &PolicyStatus) -> String {
    let file = match &policy.sha256 {
        Some(hash) => hash.get(..SHORT_HASH).unwrap_or(hash).to_owned(),
        None => policy.source.to_string(),
    };
    let candidate = policy.shadow.as_ref().and_then(|shadow| {
        let (hash, comparison) = (shadow.sha256.as_ref()?, shadow.comparison.as_ref()?);
        let (asked, agreed) = (comparison.agreed + comparison.disagreed, comparison.agreed);
        Some(format!("; candidate {} agreed {agreed} of {asked} times", hash.get(..SHORT_HASH).unwrap_or(hash)))
    });
    format!("{} ({file}{})", policy.name, candidate.unwrap_or_default())
}

/// When it was refused, and below each other what and why.
fn told(refusal: &RecentRefusal, now_unix_ms: u64) -> (String, String) {
    let ago = span(Duration::from_millis(now_unix_ms.saturating_sub(refusal.last_at_unix_ms)));
    let times = if refusal.times == 1 { "once".to_owned() } else { format!("{} times", refusal.times) };
    let status = if refusal.status == 0 { "connection closed".to_owned() } else { refusal.status.to_string() };
    let model = refusal.model.as_ref().map(|model| format!(", model {model}")).unwrap_or_default();
    let about = match &*refusal.upstream {
        "" => String::new(),
        upstream => format!(" {upstream}{model}:"),
    };
    let code = &refusal.code;
    let head = shown(&format!("{status} {code},{about} {times}"));
    let style: Style = ASIDE;
    (styled(style, format!("{ago} ago")), format!("{head}\n{}", shown(&refusal.message)))
}
