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
//! What a program reads there is how much more it may send. Of several limits on the same that is what the tightest
//! leaves, and of no other is told. It is the smaller of what we and the provider let it as well, so where ours is
//! smaller it takes the provider's place, and the provider's own figure is kept under `x-spillway-upstream-…`;
//! everywhere else the provider's headers stay as they are.

use super::Dialect;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;
use std::time::{Duration, SystemTime};

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

/// One limit, in the words of headers: what of it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    counted: Counted,
    limit: u64,
    /// Whether time refills it.
    is_refilled: bool,
    /// Its name as a string of a structured field.
    name: Box<str>,
    /// Its item of `RateLimit-Policy`.
    policy: Box<str>,
}

impl Told {
    /// A limit that is called so, such as "requests per minute", and allows so much in its window; `None` for one that
    /// time does not refill.
    pub(crate) fn new(name: &str, counted: Counted, limit: u64, window: Option<Duration>) -> Told {
        let name = quoted(name);
        let mut policy = format!("{name};q={}", sized(limit));
        // Writing into a string cannot fail.
        if let Some(unit) = counted.unit() {
            let _ = write!(policy, ";qu=\"{unit}\"");
        }
        if let Some(window) = window {
            let _ = write!(policy, ";w={}", window.as_secs().max(1));
        }
        Told { counted, limit, is_refilled: window.is_some(), name: name.into(), policy: policy.into() }
    }
}

/// How one limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left<'a> {
    /// Which.
    pub(crate) told: Cow<'a, Told>,
    /// How much of it is left, this request taken off; nothing where more was used.
    pub(crate) remaining: u64,
    /// When all of it is there again.
    pub(crate) reset: Duration,
}

/// Of the limits on each thing the one that leaves least.
#[derive(Debug, Default)]
pub(crate) struct Tightest<'a>([Option<Left<'a>>; Counted::ALL.len()]);

/// Names of headers, made once.
macro_rules! names {
    ($($name:literal),*) => {{
        static NAMES: [HeaderName; 3] = [$(HeaderName::from_static($name)),*];
        Some(&NAMES)
    }};
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
    fn names(self, dialect: Dialect) -> Option<&'static [HeaderName; 3]> {
        match (dialect, self) {
            (Dialect::OpenAi, Counted::Requests) => {
                names!("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
            }
            (Dialect::OpenAi, Counted::Tokens) => {
                names!("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")
            }
            (Dialect::Anthropic, Counted::Requests) => names!(
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset"
            ),
            (Dialect::Anthropic, Counted::Tokens) => names!(
                "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-remaining",
                "anthropic-ratelimit-tokens-reset"
            ),
            (Dialect::Anthropic, Counted::InputTokens) => names!(
                "anthropic-ratelimit-input-tokens-limit",
                "anthropic-ratelimit-input-tokens-remaining",
                "anthropic-ratelimit-input-tokens-reset"
            ),
            (Dialect::Anthropic, Counted::OutputTokens) => names!(
                "anthropic-ratelimit-output-tokens-limit",
                "anthropic-ratelimit-output-tokens-remaining",
                "anthropic-ratelimit-output-tokens-reset"
            ),
            _ => None,
        }
    }
}

impl<'a> Tightest<'a> {
    /// Takes one more limit into account.
    pub(crate) fn take(&mut self, left: Left<'a>) {
        let known = &mut self.0[left.told.counted as usize];
        if known.as_ref().is_none_or(|known| left.remaining < known.remaining) {
            *known = Some(left);
        }
    }

    /// Whether nothing is limited.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    fn iter(&self) -> impl Iterator<Item = &Left<'a>> + Clone {
        self.0.iter().flatten()
    }

    /// Tells of them in the headers of an answer, or of a refusal. `now` is asked where a moment has to be told.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, dialect: Dialect, now: impl Fn() -> SystemTime) {
        let mut values = Values::with_room_for(self.iter());
        for left in self.iter() {
            if let Some(names) = left.told.counted.names(dialect)
                && !is_less_left(headers, names, left)
            {
                values.in_style(dialect, names, left, &now);
            }
        }
        let in_style = values.places.len();
        values.write(&POLICIES, |text| self.write_policies(text));
        values.write(&LIMITS, |text| self.write_limits(text));
        headers.reserve(values.places.len());
        let text = Bytes::from(values.text);
        for (index, (name, place)) in values.places.into_iter().enumerate() {
            let Ok(value) = HeaderValue::from_maybe_shared(text.slice(place)) else { continue };
            if index < in_style {
                replace(headers, name, value);
            } else {
                // A list, to which a provider's own items may belong as well.
                headers.append(name, value);
            }
        }
    }

    fn write_policies(&self, list: &mut String) {
        for (index, left) in self.iter().enumerate() {
            separate(list, index);
            list.push_str(&left.told.policy);
        }
    }

    fn write_limits(&self, list: &mut String) {
        for (index, Left { told, remaining, reset }) in self.iter().enumerate() {
            separate(list, index);
            list.push_str(&told.name);
            list.push_str(";r=");
            push(list, sized(*remaining));
            if told.is_refilled {
                list.push_str(";t=");
                push(list, whole_seconds(*reset));
            }
        }
    }
}

static POLICIES: HeaderName = HeaderName::from_static("ratelimit-policy");
static LIMITS: HeaderName = HeaderName::from_static("ratelimit");

/// What headers say, one text behind the other, so that all of it is one piece of memory.
struct Values {
    text: String,
    places: Vec<(&'static HeaderName, Range<usize>)>,
}

/// Most digits of a number.
const DIGITS_MAX: usize = 20;

impl Values {
    fn with_room_for<'a>(told: impl Iterator<Item = &'a Left<'a>> + Clone) -> Values {
        // Two items of lists, with what parts them, and three values: two of them are numbers, and one is a time.
        let bytes = |left: &Left<'_>| left.told.policy.len() + left.told.name.len() + 6 * DIGITS_MAX;
        let (bytes, count) = (told.clone().map(bytes).sum(), told.count());
        Values { text: String::with_capacity(bytes), places: Vec::with_capacity(3 * count + 2) }
    }

    fn write(&mut self, name: &'static HeaderName, write: impl FnOnce(&mut String)) {
        let begins = self.text.len();
        write(&mut self.text);
        self.places.push((name, begins..self.text.len()));
    }

    fn in_style(
        &mut self,
        dialect: Dialect,
        names: &'static [HeaderName; 3],
        left: &Left<'_>,
        now: &impl Fn() -> SystemTime,
    ) {
        let [limit, remaining, reset] = names;
        self.write(limit, |text| push(text, left.told.limit));
        self.write(remaining, |text| push(text, left.remaining));
        self.write(reset, |text| match dialect {
            Dialect::Anthropic => {
                let moment = humantime::format_rfc3339_seconds(now() + left.reset + ALMOST_A_SECOND);
                // Writing into a string cannot fail.
                let _ = write!(text, "{moment}");
            }
            _ => push_as_go_writes_it(text, left.reset),
        });
    }
}

/// Whether the provider lets its caller send less than we do.
fn is_less_left(headers: &HeaderMap, [_, remaining, _]: &[HeaderName; 3], left: &Left<'_>) -> bool {
    let theirs = headers.get(remaining).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    theirs.is_some_and(|theirs| theirs <= left.remaining)
}

/// Puts our value in the place of the provider's, which is kept beside.
fn replace(headers: &mut HeaderMap, name: &'static HeaderName, value: HeaderValue) {
    if let Some(theirs) = headers.insert(name, value)
        && let Ok(kept) = HeaderName::try_from(format!("{UPSTREAMS}{}", short(name.as_str())))
    {
        headers.insert(kept, theirs);
    }
}

fn push(text: &mut String, number: u64) {
    text.push_str(itoa::Buffer::new().format(number));
}

fn separate(list: &mut String, index: usize) {
    if index > 0 {
        list.push_str(", ");
    }
}

/// A moment is told to the second, and never too early.
const ALMOST_A_SECOND: Duration = Duration::from_millis(999);

/// A header's name without what says that it is not registered.
fn short(name: &str) -> &str {
    name.strip_prefix("x-").unwrap_or(name)
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
fn push_as_go_writes_it(text: &mut String, duration: Duration) {
    let ms = duration.as_micros().div_ceil(1_000);
    let seconds = whole_seconds(duration);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let parts = [(hours, "h", hours > 0), (minutes, "m", seconds >= 60), (seconds % 60, "s", true)];
    match u64::try_from(ms) {
        Ok(ms @ 0..1_000) => {
            push(text, ms);
            text.push_str("ms");
        }
        _ => {
            for (number, unit, _) in parts.into_iter().filter(|(_, _, is_said)| *is_said) {
                push(text, number);
                text.push_str(unit);
            }
        }
    }
}

#[cfg(test)]
mod tests;
