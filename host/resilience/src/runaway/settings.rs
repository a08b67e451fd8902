//! Which guards there are, and what becomes of what they find.

use super::GuardKind;

/// Some of the guards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardSet(u8);

impl GuardSet {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// These.
    #[must_use]
    pub const fn of(guards: &[GuardKind]) -> Self {
        let (mut set, mut index) = (0, 0);
        while index < guards.len() {
            set |= 1 << guards[index] as u8;
            index += 1;
        }
        Self(set)
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, guard: GuardKind) -> bool {
        self.0 & (1 << guard as u8) != 0
    }
}

/// The bounds of the guards, each of which is off where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunawaySettings {
    /// Most tokens that one request may cost, its input and the most that may be answered together, as they are
    /// estimated.
    pub max_tokens_per_request: Option<u64>,
    /// Most turns of one conversation.
    pub max_turns_per_conversation: Option<u64>,
    /// Tokens from which on a conversation gets no further turn.
    pub max_tokens_per_conversation: Option<u64>,
    /// Tokens from which on a caller gets no further request within the hour.
    pub max_tokens_per_hour: Option<u64>,
    /// How often the same request may come in a row.
    pub max_repeats: Option<u64>,
    /// How many times as many tokens as they used to requests may cost. Above 1.
    pub growth_alarm: Option<f64>,
    /// Guards that refuse nothing.
    pub warn_only: GuardSet,
    /// Whether none refuses anything.
    pub watch_only: bool,
}

impl RunawaySettings {
    /// Those that only warn unless something else is said: what has grown is mostly meant to.
    pub const DEFAULT_WARN_ONLY: GuardSet = GuardSet::of(&[GuardKind::Growth]);

    /// Whether any guard is on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.watches_conversations()
            || self.watches_callers()
            || self.max_tokens_per_request.is_some()
            || self.max_repeats.is_some()
    }

    /// Whether conversations have to be told apart.
    #[must_use]
    pub const fn watches_conversations(&self) -> bool {
        self.max_turns_per_conversation.is_some() || self.max_tokens_per_conversation.is_some()
    }

    /// Whether it matters what each caller uses.
    #[must_use]
    pub const fn watches_callers(&self) -> bool {
        self.max_tokens_per_hour.is_some() || self.growth_alarm.is_some()
    }

    /// Whether what this guard finds is refused.
    #[must_use]
    pub const fn refuses(&self, guard: GuardKind) -> bool {
        !self.watch_only && !self.warn_only.has(guard)
    }
}
