//! What is left of Spillway's own limits, in the headers in which each API tells of such, and in the IETF's.
//!
//! - OpenAI, and those who speak like it: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`; a reset is a duration
//!   as Go writes it (`350ms`, `6m0s`).
//! - Anthropic: `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`; a reset is
//!   a moment (RFC 3339).
//! - All: `RateLimit-Policy` and `RateLimit` as in draft-ietf-httpapi-ratelimit-headers (11). Their unit is requests
//!   where none is named. There is none registered for tokens and money, so those are named by our words: whoever does
//!   not know a unit must leave the policy alone, while one that is left out would be taken for requests.
//!
//! What a program reads there is how much more it may send. That is the smaller of what we and the provider let it, so
//! where ours is smaller it takes the provider's place, and the provider's own figure is kept under
//! `x-spillway-upstream-…`; everywhere else the provider's headers stay as they are.

use super::Dialect;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// Most limits of which is told at once; of more, those of which the smallest share is left.
const LIMITS_MAX: usize = 12;
/// Under this prefix the provider's headers are kept that ours have replaced.
const UPSTREAMS: &str = "x-spillway-upstream-";

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Requests.
    Requests,
    /// Tokens, input and output together.
    Tokens,
    /// Tokens of prompts.
    InputTokens,
    /// Tokens of answers.
    OutputTokens,
    /// What calls cost, in micro-dollars.
    Microdollars,
    /// Calls that are under way at the same time.
    InFlight,
}

/// How one limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// What it is called, such as "requests per minute".
    pub(crate) name: Cow<'static, str>,
    /// What it counts.
    pub(crate) counted: Counted,
    /// How much it allows in its window.
    pub(crate) limit: u64,
    /// How much of that is left, this request taken off; nothing where more was used.
    pub(crate) remaining: u64,
    /// When all of it is there again.
    pub(crate) reset: Duration,
    /// For how long it counts; `None` for one that time does not refill.
    pub(crate) window: Option<Duration>,
}

impl Left {
    /// The share that is left, in thousandths.
    fn share(&self) -> u128 {
        u128::from(self.remaining) * 1_000 / u128::from(self.limit.max(1))
    }
}

impl Counted {
    const ALL: [Counted; 6] = [
        Counted::Requests,
        Counted::Tokens,
        Counted::InputTokens,
        Counted::OutputTokens,
        Counted::Microdollars,
        Counted::InFlight,
    ];

    /// The unit, where it is another than requests.
    const fn unit(self) -> Option<&'static str> {
        match self {
            Counted::Requests => None,
            Counted::Tokens => Some("tokens"),
            Counted::InputTokens => Some("input-tokens"),
            Counted::OutputTokens => Some("output-tokens"),
            Counted::Microdollars => Some("microdollars"),
            Counted::InFlight => Some("concurrent-requests"),
        }
    }

    /// In which headers an API tells of it, if it does: the limit, what remains, and when it is whole again.
    const fn names(self, dialect: Dialect) -> Option<[&'static str; 3]> {
        match (dialect, self) {
            (Dialect::OpenAi, Counted::Requests) => {
                Some(["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"])
            }
            (Dialect::OpenAi, Counted::Tokens) => {
                Some(["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"])
            }
            (Dialect::Anthropic, Counted::Requests) => Some([
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
            ]),
            (Dialect::Anthropic, Counted::Tokens) => Some([
                "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-remaining",
                "anthropic-ratelimit-tokens-reset",
            ]),
            (Dialect::Anthropic, Counted::InputTokens) => Some([
                "anthropic-ratelimit-input-tokens-limit",
                "anthropic-ratelimit-input-tokens-remaining",
                "anthropic-ratelimit-input-tokens-reset",
            ]),
            (Dialect::Anthropic, Counted::OutputTokens) => Some([
                "anthropic-ratelimit-output-tokens-limit",
                "anthropic-ratelimit-output-tokens-remaining",
                "anthropic-ratelimit-output-tokens-reset",
            ]),
            _ => None,
        }
    }
}

/// Tells in the headers of an answer, or of a refusal, what is left of these limits.
pub(crate) fn insert(headers: &mut HeaderMap, dialect: Dialect, left: &[Left], now: SystemTime) {
    for counted in Counted::ALL {
        let of_this = left.iter().filter(|left| left.counted == counted);
        if let (Some(names), Some(tightest)) = (counted.names(dialect), of_this.min_by_key(|left| left.remaining)) {
            insert_in_style(headers, dialect, names, tightest, now);
        }
    }
    let mut told: Vec<&Left> = left.iter().collect();
    // Stable, so that of equals those come first that were named first.
    told.sort_by_key(|left| left.share());
    told.truncate(LIMITS_MAX);
    let (policies, limits) = fields(&told);
    // Both are lists, to which a provider's own items may belong as well.
    for (name, list) in [("ratelimit-policy", policies), ("ratelimit", limits)] {
        if let Ok(value) = HeaderValue::from_str(&list)
            && !list.is_empty()
        {
            headers.append(HeaderName::from_static(name), value);
        }
    }
}

fn insert_in_style(headers: &mut HeaderMap, dialect: Dialect, names: [&'static str; 3], left: &Left, now: SystemTime) {
    let [_, remaining, _] = names;
    let theirs = headers.get(remaining).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    if theirs.is_some_and(|theirs| theirs <= left.remaining) {
        return;
    }
    let reset = match dialect {
        Dialect::Anthropic => humantime::format_rfc3339_seconds(now + left.reset + ALMOST_A_SECOND).to_string(),
        _ => as_go_writes_it(left.reset),
    };
    for (name, value) in names.into_iter().zip([left.limit.to_string(), left.remaining.to_string(), reset]) {
        let Ok(value) = HeaderValue::from_str(&value) else { continue };
        let theirs = headers.insert(HeaderName::from_static(name), value);
        if let (Some(theirs), Ok(kept)) = (theirs, HeaderName::try_from(format!("{UPSTREAMS}{}", short(name)))) {
            headers.insert(kept, theirs);
        }
    }
}

/// A moment is told to the second, and never too early.
const ALMOST_A_SECOND: Duration = Duration::from_millis(999);

/// A header's name without what says that it is not registered.
fn short(name: &str) -> &str {
    name.strip_prefix("x-").unwrap_or(name)
}

/// `RateLimit-Policy` and `RateLimit`.
fn fields(left: &[&Left]) -> (String, String) {
    let (mut policies, mut limits) = (String::new(), String::new());
    for left in left {
        let Left { name, counted, limit, remaining, reset, window } = left;
        let comma = if policies.is_empty() { "" } else { ", " };
        let name = quoted(name);
        // Writing into a string cannot fail.
        let _ = write!(policies, "{comma}{name};q={}", sized(*limit));
        if let Some(unit) = counted.unit() {
            let _ = write!(policies, ";qu=\"{unit}\"");
        }
        if let Some(window) = window {
            let _ = write!(policies, ";w={}", window.as_secs().max(1));
        }
        let _ = write!(limits, "{comma}{name};r={}", sized(*remaining));
        if window.is_some() {
            let _ = write!(limits, ";t={}", whole_seconds(*reset));
        }
    }
    (policies, limits)
}

/// A string of a structured field (RFC 9651): printable ASCII, in quotes. What cannot stand there is left out.
fn quoted(name: &str) -> String {
    let mut quoted = String::from("\"");
    for char in name.chars().filter(|char| (' '..='~').contains(char)) {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

/// An integer of a structured field has 15 digits at most.
fn sized(number: u64) -> u64 {
    number.min(999_999_999_999_999)
}

/// In whole seconds, rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// As Go writes durations, rounded up: to the millisecond below a second, else to the second.
fn as_go_writes_it(duration: Duration) -> String {
    let ms = duration.as_micros().div_ceil(1_000);
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    let seconds = whole_seconds(duration);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests;
