//! Guards against runaway agents: what a program does that no longer knows what it is doing, and what is remembered to
//! notice it.
//!
//! Each figure is a value of its own; [`Recent`] remembers one for each of those who are about. What is refused is
//! decided against [`RunawaySettings`], so that callers may have settings of their own.

mod conversation;
mod growth;
mod hour;
mod recent;
mod repetition;
mod settings;

#[cfg(test)]
mod tests;

pub use conversation::{Conversation, OfConversation};
pub use growth::Growth;
pub use hour::Hour;
pub use recent::Recent;
pub use repetition::{OfRow, Repetition};
pub use settings::{GuardSet, RunawaySettings};

/// One of the guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GuardKind {
    /// A single request that may cost too many tokens.
    TokensPerRequest,
    /// A conversation that goes on and on.
    TurnsPerConversation,
    /// A conversation that has cost too many tokens.
    TokensPerConversation,
    /// A caller that has used too many tokens within an hour.
    TokensPerHour,
    /// The same request, again and again.
    Repeats,
    /// Requests that cost far more tokens than the same caller's used to.
    Growth,
}

impl GuardKind {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 6] = [
        Self::TokensPerRequest,
        Self::TurnsPerConversation,
        Self::TokensPerConversation,
        Self::TokensPerHour,
        Self::Repeats,
        Self::Growth,
    ];

    /// The key under which it is configured, by which it is known everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokensPerRequest => "max_tokens_per_request",
            Self::TurnsPerConversation => "max_turns_per_conversation",
            Self::TokensPerConversation => "max_tokens_per_conversation",
            Self::TokensPerHour => "max_tokens_per_hour",
            Self::Repeats => "max_repeats",
            Self::Growth => "growth_alarm",
        }
    }
}

impl std::fmt::Display for GuardKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A guard that has something against a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// Which.
    pub guard: GuardKind,
    /// What it has seen, in what the guard counts: tokens, turns or repetitions.
    pub figure: u64,
    /// The most that there may be of it.
    pub limit: u64,
    /// Whether this is the first of a row: what follows is no news.
    pub is_news: bool,
}
