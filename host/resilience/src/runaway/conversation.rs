//! How long a conversation has become.

use super::{GuardKind, RunawaySettings, Tripped};

/// What a request is to its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfConversation {
    /// One more turn: its client names the conversation, so that every request of it is one.
    Named,
    /// A request of a conversation that is known by nothing but its beginning, with so many bytes said so far. It is
    /// one more turn if that is more than ever before. What is no longer is sent again, or belongs to another
    /// conversation that begins alike, such as an example that stands in front of each question.
    Begun {
        /// How many bytes.
        said: u64,
    },
}

/// A conversation: how many turns it has had, and what they have cost. Only what was answered is a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    turns: u64,
    tokens: u64,
    /// Most bytes that were said in it.
    said_max: u64,
    /// Whether a guard has had something against its last turn.
    is_tripped: bool,
}

impl Conversation {
    /// What is to be said against one more turn: that of each guard which has something against it.
    pub fn ask(&mut self, turn: OfConversation, settings: &RunawaySettings) -> [Option<Tripped>; 2] {
        // Of what begins alike and is no longer nobody knows whether it is the same conversation.
        if !self.is_more(turn) {
            return [None, None];
        }
        let is_news = !self.is_tripped;
        let trip = |guard, figure, limit| Some(Tripped { guard, figure, limit, is_news });
        let turns = self.turns.saturating_add(1);
        let of_turns = settings.max_turns_per_conversation.filter(|limit| turns > *limit);
        let of_tokens = settings.max_tokens_per_conversation.filter(|limit| self.tokens >= *limit);
        self.is_tripped = of_turns.is_some() || of_tokens.is_some();
        [
            of_turns.and_then(|limit| trip(GuardKind::TurnsPerConversation, turns, limit)),
            of_tokens.and_then(|limit| trip(GuardKind::TokensPerConversation, self.tokens, limit)),
        ]
    }

    /// Counts a turn that was answered, and what it has cost.
    pub fn answered(&mut self, turn: OfConversation, tokens: u64) {
        if !self.is_more(turn) {
            return;
        }
        self.turns = self.turns.saturating_add(1);
        self.tokens = self.tokens.saturating_add(tokens);
        if let OfConversation::Begun { said } = turn {
            self.said_max = said;
        }
    }

    /// Turns so far.
    #[must_use]
    pub const fn turns(&self) -> u64 {
        self.turns
    }

    /// Tokens so far.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }

    const fn is_more(&self, turn: OfConversation) -> bool {
        match turn {
            OfConversation::Named => true,
            OfConversation::Begun { said } => said > self.said_max,
        }
    }
}
