//! Every resilience decision of Spillway as a pure value.
//!
//! Nothing here reads a clock, draws a random number, takes a lock, logs or performs input or
//! output. Each method is handed `now` (a [`Timestamp`]) and, where it needs chance, `random` (a
//! `u64` uniform over all 64 bits), and returns what it decided. The caller performs the effects:
//! it maps a returned [`Transition`] to metrics and logs, and it makes sure that every [`Permit`]
//! and every [`Reservation`] is settled, cancelled calls included.
//!
//! | Question | Type |
//! |---|---|
//! | May this call go to this upstream now? | [`Breaker`] |
//! | Does it fit the quota of requests and tokens? | [`Limiter`], made of [`TokenBucket`]s |
//! | May a key and its groups spend it? | [`Purse`] |
//! | What does an outcome mean for all of them? | [`Consequence::of`] |
//! | Is another attempt sensible, and when? | [`next_step`], with [`Backoff`], and [`may_retry`] |
//! | Is there room for it at all? | [`ShedSettings::decide`] |
//! | Whose turn is it while tokens or slots are short? | [`AdmissionQueue`], with a [`FairQueue`] |
//! | How many calls may be in flight? | [`Bulkhead`], [`AdaptiveLimit`] |
//! | Who may take the last places? | [`Shares`] |
//! | Should a late call get a second one beside it? | [`when_to_hedge`] |
//! | May anything be retried at all? | [`RetryBudget`] |
//! | Who is asked first, of several that may serve it? | [`order`], with an [`Affinity`] |
//! | Is the next one asked after a failure? | [`onward`], and [`rules_out`] |
//! | Does a caller behave like an agent that has run away? | [`RunawaySettings`], with what is [`Recent`] |

#![forbid(unsafe_code)]

mod admission;
mod affinity;
mod backoff;
mod balance;
mod breaker;
mod bucket;
mod budget;
mod chain;
mod concurrency;
mod consequence;
mod decide;
mod fair_queue;
mod hedge;
mod histogram;
mod in_flight;
mod limiter;
mod load_trial;
mod pacer;
mod promptness;
mod purse;
mod runaway;
mod shares;
mod shed;
mod time;
mod window;

pub use admission::{AdmissionQueue, Concurrency, Demand, Entry, Leaving, Obstacle, Pass, TurnedAway};
pub use affinity::{Affinity, AffinitySettings};
pub use backoff::{Backoff, Jitter};
pub use balance::{Candidate, Standing, order};
pub use breaker::{
    Admitted, Breaker, BreakerKind, BreakerSettings, Cause, CircuitState, Mode, Pending, Permit, ProbeSpacing,
    Recorded, Rejected, Snapshot, Transition, TripDecision, WindowStatistics,
};
pub use bucket::{TokenBucket, Wait};
pub use budget::{RetryBudget, RetryBudgetSettings, Spend};
pub use chain::{ChainSettings, Hop, NoHop, Onward, Place, onward, rules_out};
pub use concurrency::{AdaptiveLimit, AdaptiveLimitSettings, Bulkhead, Feedback, Saturated, Slot};
pub use consequence::{
    Circumstances, Class, Consequence, FirstContent, Hears, Pacing, Progress, Reach, Scope, Teaches, Verdict,
};
pub use decide::{
    Advice, FailedAttempt, NoRetry, Reason, Retry, RetryDecision, RetrySettings, Step, may_retry, next_step,
};
pub use fair_queue::{FairQueue, FairQueueSettings, Full, Granted, Tenant, Ticket, Turn};
pub use hedge::{Hedge, HedgeSettings, NoHedge, Race, when_to_hedge};
pub use histogram::Histogram;
pub use limiter::{
    Ceiling, Dimension, Exceeded, LimitStanding, Limiter, Refused, Reported, Reservation, Settlement, reserve_all,
};
pub use load_trial::LoadTrial;
pub use pacer::{Pacer, PacerSettings, Pause, ServedLog};
pub use promptness::Promptness;
pub use purse::{
    AccountId, Allowance, Amounts, Asked, Beyond, Calendar, Exhausted, Force, Held, Measure, Period, Purse, Reserved,
    Span, Used,
};
pub use runaway::{
    Conversation, Growth, GuardKind, GuardSet, Hour, OfConversation, OfRow, Recent, Repetition, RunawaySettings,
    Tripped,
};
pub use shares::{GroupId, NotReserved, ShareStanding, Shares};
pub use shed::{Load, Priority, ShedDecision, ShedSettings};
pub use time::Timestamp;
pub use window::{Outcome, Tally, Window, WindowKind};

/// One thing wrong with a settings value: which field, and what it should be instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The field's name, as it is spelled in the settings struct; for one that is part of another, the name under which
    /// that is configured.
    pub field: &'static str,
    /// What is wrong, and which values are allowed.
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Mistake {
    /// Notes a mistake in `field` unless `holds`.
    fn unless(list: &mut Vec<Self>, holds: bool, field: &'static str, message: String) {
        if !holds {
            list.push(Self { field, message });
        }
    }
}
