//! Guards against runaway agents: what is remembered of callers and their conversations, and who is asked about a
//! request.
//!
//! What is decided, the core decides; here is what it remembers, in parts with a short lock each.

use crate::dialect::Dialect;
use crate::dialect::conversation::{Told, told};
use crate::observe::guards::GuardFindings;
use crate::runtime::sync::{Mutex, MutexGuard, lock};
use crate::tenants::callers::Caller;
use http::HeaderMap;
use spillway_resilience::{
    Conversation, Growth, GuardKind, Hour, OfConversation, OfRow, Recent, Repetition, RunawaySettings, Timestamp,
    Tripped,
};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// Parts of what is remembered, each with a lock of its own, so that cores seldom meet.
const PARTS: usize = 16;
/// Conversations that are remembered; beyond that those are forgotten that had no turn for longest. Ten megabytes at
/// most.
const CONVERSATIONS_MAX: usize = 100_000;
/// How long one is remembered after its last turn: longer than anybody thinks about the next one at a stretch.
const CONVERSATION_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Callers that are remembered, likewise: half a kilobyte each.
const CALLERS_MAX: usize = 10_000;
/// How long one is remembered after its last request: what it usually asks for should outlive a weekend.
const CALLER_TTL: Duration = Duration::from_secs(4 * 24 * 60 * 60);
/// Callers, and sessions of theirs, whose last request is remembered.
const ROWS_MAX: usize = 50_000;

/// What the guards are told of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub caller: &'a Caller,
    pub dialect: Dialect,
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    /// Its body as it reads, where it is one that generates.
    pub body: Option<&'a [u8]>,
    /// What it may cost in tokens, its answer included.
    pub tokens: u64,
}

/// Where it is counted that a request was answered, and what it has used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trail {
    caller: u64,
    /// Whether it matters what its caller uses, and which growth of that is an alarm.
    watches_caller: bool,
    growth_alarm: Option<f64>,
    /// The conversation, and what the request is to it.
    conversation: Option<(u64, OfConversation)>,
    /// The row of requests, and which of it this is.
    row: Option<(u64, OfRow)>,
}

/// The guards, and what they remember.
#[derive(Debug)]
pub(crate) struct RunawayGuards {
    settings: RunawaySettings,
    callers: Parts<Habits>,
    conversations: Parts<Conversation>,
    rows: Parts<Repetition>,
    /// Makes the numbers by which conversations and requests are known, which nobody else can make.
    hash: RandomState,
    /// What they have found so far.
    pub findings: Arc<GuardFindings>,
}

/// What is remembered of a caller.
#[derive(Clone, Debug, Default)]
struct Habits {
    hour: Hour,
    growth: Growth,
}

impl RunawayGuards {
    pub(crate) fn new(settings: RunawaySettings) -> RunawayGuards {
        RunawayGuards {
            settings,
            callers: Parts::new(CALLERS_MAX, CALLER_TTL),
            conversations: Parts::new(CONVERSATIONS_MAX, CONVERSATION_TTL),
            rows: Parts::new(ROWS_MAX, Repetition::GAP_MAX * 2),
            hash: RandomState::new(),
            findings: Arc::default(),
        }
    }

    /// Which guards there are for a caller.
    pub(crate) fn settings<'a>(&'a self, caller: &'a Caller) -> &'a RunawaySettings {
        caller.guards.as_deref().unwrap_or(&self.settings)
    }

    /// Asks all guards about a request: where it is counted what becomes of it, and what they have against it, with how
    /// long until they have it no more, where time alone mends it.
    pub(crate) fn ask(&self, asked: &Asked<'_>, now: Timestamp) -> (Trail, Vec<(Tripped, Option<Duration>)>) {
        let (caller, settings) = (self.caller(asked.caller), self.settings(asked.caller));
        let mut found = Vec::new();
        if let Some(limit) = settings.max_tokens_per_request.filter(|limit| asked.tokens > *limit) {
            let guard = GuardKind::TokensPerRequest;
            found.push((Tripped { guard, figure: asked.tokens, limit, is_news: true }, None));
        }
        if settings.watches_callers() {
            let mut part = self.callers.part(caller);
            let habits = part.of(caller, now);
            if let Some(limit) = settings.max_tokens_per_hour
                && let Some((figure, is_news)) = habits.hour.reaches(limit, now)
            {
                let wait = habits.hour.until_below(limit, now);
                found.push((Tripped { guard: GuardKind::TokensPerHour, figure, limit, is_news }, Some(wait)));
            }
            // Where growth only warns, it has warned when it was seen.
            if let Some(factor) = settings.growth_alarm.filter(|_| settings.refuses(GuardKind::Growth))
                && let Some(limit) = habits.growth.usual_max(factor).filter(|limit| asked.tokens > *limit)
            {
                found.push((Tripped { guard: GuardKind::Growth, figure: asked.tokens, limit, is_news: false }, None));
            }
        }
        let (trail, repeated) = self.trail(caller, asked, now);
        found.extend(repeated.map(|tripped| (tripped, None)));
        if let Some((id, turn)) = trail.conversation {
            let tripped = self.conversations.part(id).of(id, now).ask(turn, settings);
            found.extend(tripped.into_iter().flatten().map(|tripped| (tripped, None)));
        }
        (trail, found)
    }

    /// Where it is counted what becomes of a request that was asked about before, and was kept since.
    pub(crate) fn follow(&self, asked: &Asked<'_>, now: Timestamp) -> Trail {
        self.trail(self.caller(asked.caller), asked, now).0
    }

    fn trail(&self, caller: u64, asked: &Asked<'_>, now: Timestamp) -> (Trail, Option<Tripped>) {
        let settings = self.settings(asked.caller);
        let (told, request) = self.read(asked, settings);
        let (mut row, mut tripped) = (None, None);
        if let (Some(max), Some(request)) = (settings.max_repeats, request) {
            let id = self.number(caller, "row", &told.named);
            let (of_row, one_too_many) = self.rows.part(id).of(id, now).ask(request, max, now);
            (row, tripped) = (Some((id, of_row)), one_too_many);
        }
        let conversation = self.conversation(caller, &told).filter(|_| settings.watches_conversations());
        let (watches_caller, growth_alarm) = (settings.watches_callers(), settings.growth_alarm);
        (Trail { caller, watches_caller, growth_alarm, conversation, row }, tripped)
    }

    /// Notes that a request was answered, and what the answer has used. The answer is an alarm if it is with this one
    /// that requests of its caller have come to cost far more than they used to.
    pub(crate) fn answered(&self, trail: Trail, tokens: u64, now: Timestamp) -> Option<Tripped> {
        if let Some((id, turn)) = trail.conversation {
            self.conversations.part(id).of(id, now).answered(turn, tokens);
        }
        if let Some((id, of_row)) = trail.row {
            self.rows.part(id).of(id, now).answered(of_row, now);
        }
        if tokens == 0 || !trail.watches_caller {
            return None;
        }
        let mut part = self.callers.part(trail.caller);
        let habits = part.of(trail.caller, now);
        habits.hour.add(tokens, now);
        let (figure, limit) = habits.growth.note(tokens, trail.growth_alarm?)?;
        Some(Tripped { guard: GuardKind::Growth, figure, limit, is_news: true })
    }

    /// Notes what was used while an answer goes on.
    pub(crate) fn uses(&self, trail: Trail, tokens: u64, now: Timestamp) {
        if trail.watches_caller {
            self.callers.part(trail.caller).of(trail.caller, now).hour.add(tokens, now);
        }
    }

    /// What tells the request from others of its caller, and a number for what it asks for; as far as any guard needs
    /// either.
    fn read(&self, asked: &Asked<'_>, settings: &RunawaySettings) -> (Told, Option<u64>) {
        let is_read = settings.watches_conversations() || settings.max_repeats.is_some();
        let Some(body) = asked.body.filter(|_| is_read) else { return (Told::default(), None) };
        let mut request = settings.max_repeats.map(|_| self.hash.build_hasher());
        let told =
            told(asked.dialect, asked.path, asked.headers, body, settings.watches_conversations(), request.as_mut());
        (told, request.map(|request| request.finish()))
    }

    fn conversation(&self, caller: u64, told: &Told) -> Option<(u64, OfConversation)> {
        match told {
            Told { named: Some(name), .. } => Some((self.number(caller, "named", name), OfConversation::Named)),
            Told { begun: Some((beginning, said)), .. } => {
                let turn = OfConversation::Begun { said: *said as u64 };
                Some((self.number(caller, "begun", beginning), turn))
            }
            Told { named: None, begun: None } => None,
        }
    }

    /// Whose requests are counted together: a key's, whichever group or tenant it belongs to; without one a tenant's or
    /// a credential's.
    fn caller(&self, caller: &Caller) -> u64 {
        caller.key.as_deref().map_or(caller.tenant.id, |key| self.hash.hash_one(("key", key.id())))
    }

    /// Something of a caller's as a number: what two callers call alike has two.
    fn number(&self, caller: u64, kind: &str, what: &impl Hash) -> u64 {
        self.hash.hash_one((caller, kind, what))
    }
}

/// What is remembered, in parts.
#[derive(Debug)]
struct Parts<V>(Vec<Mutex<Recent<V>>>);

impl<V: Default> Parts<V> {
    fn new(capacity: usize, ttl: Duration) -> Parts<V> {
        Parts((0..PARTS).map(|_| Mutex::new(Recent::new(capacity / PARTS, ttl))).collect())
    }

    /// The part in which this number is.
    fn part(&self, id: u64) -> MutexGuard<'_, Recent<V>> {
        // The lower bits find it within its part.
        lock(&self.0[usize::try_from(id >> 60).unwrap_or(0) % PARTS])
    }
}

#[cfg(test)]
mod tests;
