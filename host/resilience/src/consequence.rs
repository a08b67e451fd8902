//! What an outcome means, in one table: for the circuits, the limits, the budget, the retry and the caller.

use std::time::Duration;

use crate::breaker::BreakerKind;
use crate::concurrency::Feedback;
use crate::decide::Advice;
use crate::limiter::Settlement;
use crate::pacer::Pause;
use crate::window::Outcome;

/// What an attempt was judged to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The upstream served the request.
    Success,
    /// It says nothing about the upstream's health.
    Ignored,
    /// The upstream failed.
    Failure,
    /// The upstream is alive and asks for less load.
    Overloaded,
    /// A rate limit that refills within minutes.
    Throttled,
    /// A quota or a balance that will not refill soon.
    Exhausted,
    /// The caller's request is at fault.
    Rejected,
    /// The credential is refused.
    Unauthorized,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::Ignored,
        Self::Failure,
        Self::Overloaded,
        Self::Throttled,
        Self::Exhausted,
        Self::Rejected,
        Self::Unauthorized,
    ];
}

/// Of what a verdict speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Of the whole upstream.
    Upstream,
    /// Of the model that was asked for.
    Model,
    /// Of the credential.
    Credential,
}

/// The judgement of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it was.
    pub class: Class,
    /// Of what that speaks.
    pub scope: Scope,
    /// Where the request may be tried again.
    pub advice: Advice,
    /// For how long what it speaks of should be left alone.
    pub cool_off: Option<Duration>,
}

/// How far an attempt came before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// The request was not sent, or not all of it: nobody can have done anything.
    Unsent,
    /// It was sent, and no head of a response has come.
    Unanswered,
    /// A response has come, at least its head.
    Answered,
}

/// Whether an attempt's first content came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstContent {
    /// So long after the attempt began.
    After(Duration),
    /// Not yet, or not at all.
    Missing,
    /// Not in time. `hangs_alone` where others were answered meanwhile and far sooner: see
    /// [`Promptness::hangs_alone`](crate::Promptness::hangs_alone).
    Late {
        /// Whether this attempt alone hangs.
        hangs_alone: bool,
    },
}

/// What matters beside the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// The kind of breaker that guards the upstream.
    pub breaker: BreakerKind,
    /// The wait that the provider itself named.
    pub named: Option<Duration>,
    /// Longest wait by a provider's word.
    pub named_pause_max: Duration,
    /// How far the attempt came.
    pub progress: Progress,
    /// How long it took.
    pub took: Duration,
    /// An attempt that took longer is no quick failure: [`RetrySettings::quick_attempt_max`](crate::RetrySettings).
    pub quick_attempt_max: Duration,
    /// Whether its first content came.
    pub first_content: FirstContent,
    /// Tokens of the request, by which the time to the first content is normalised.
    pub input_tokens: u64,
    /// Tokens that it cost, by the provider's report.
    pub used_tokens: Option<u64>,
    /// Whether a failure of the same request is counted already.
    pub has_failed_before: bool,
    /// Whether its caller has sent the request before, so that it has failed before.
    pub has_come_back: bool,
    /// Whether it was cut off by the sleep of the machine, which is no fault of who was called.
    pub was_slept_through: bool,
    /// Whether plain errors of this model are taken for an overload: see
    /// [`LoadTrial::suspects_overload`](crate::LoadTrial::suspects_overload).
    pub suspects_overload: bool,
}

/// How far a consequence reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// To the upstream as a whole.
    Upstream,
    /// To one of its models.
    Model,
    /// To one credential at it.
    Credential,
    /// To one of its models, as far as one credential is concerned.
    ModelOfCredential,
}

/// How the next attempt waits in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pacing {
    /// For its turn, as long as there is patience and others are served: the upstream has said "too much", or is taken
    /// to have said so.
    Turn,
    /// For a pause that a failure has named. It is a retry like any other.
    Pause,
}

/// What a caller hears of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hears {
    /// The provider's own answer, whatever it is: it was served, or it is its own affair.
    Answer,
    /// That the upstream has failed.
    Failure,
    /// That the upstream has too much to do.
    Overload,
    /// That a limit is reached, or a quota spent.
    Limit,
}

/// What an attempt teaches about the upstream, beside what it counts in circuits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Teaches {
    /// That it serves, and how soon: that earns the budgets of retries and hedges, and lets lanes grow. If it was the
    /// first attempt of all at its request, the trial of retries notes it.
    Served,
    /// That it fails. If it was the first attempt of all at its request, the trial of retries notes it.
    Failed,
    /// Nothing.
    Nothing,
}

/// What an outcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// What it reaches.
    pub reach: Reach,
    /// As what it counts in the circuit of that. A [`Outcome::Success`] counts in every circuit that the call has
    /// passed.
    pub counts: Outcome,
    /// A part of that in whose circuit it counts as the same: a caller whose every request fails must not be taken for
    /// a model that serves nobody, nor be repeated for ever because the model serves others.
    pub part: Option<Reach>,
    /// As what it counts in the upstream's own circuit, where that is not the one which it reaches.
    pub counts_for_upstream: Outcome,
    /// For how long the circuit of what it reaches opens at once.
    pub opens_for: Option<Duration>,
    /// Callers of what it reaches wait in a lane from here on, and for so long nobody goes out.
    pub pause: Option<Pause>,
    /// How the next attempt of the request waits there.
    pub pacing: Option<Pacing>,
    /// What the attempt did cost of the limits.
    pub settlement: Settlement,
    /// What it says about the upstream's room for calls in flight.
    pub feedback: Feedback,
    /// Whether failures of the same request after it are no evidence of their own.
    pub request_has_failed: bool,
    /// Whether the upstream has certainly not done what was asked, so that even what makes something that stays may be
    /// sent again.
    pub is_untouched: bool,
    /// What the caller hears if this remains the last attempt.
    pub hears: Hears,
    /// Whether the caller should not try again by itself: that does not fill a purse.
    pub is_final: bool,
    /// Whether the request itself may be at fault, if the upstream is otherwise well.
    pub is_suspect: bool,
    /// Whether the upstream asks for less load.
    pub asks_for_less: bool,
}

impl Consequence {
    /// What a verdict leads to.
    ///
    /// [`Class::heard`] and [`Class::teaches`] are part of the table; they can be asked before it. What an attempt
    /// teaches should be learned before, since it may begin or end the suspicion of an overload.
    ///
    /// | Class | its circuit | upstream's own | opens it for | its lane | limits | room in flight | the caller hears |
    /// |---|---|---|---|---|---|---|---|
    /// | success | success, everywhere | success | – | – | as reported, else estimated | answered, or late | its answer |
    /// | ignored | – | – | – | if a cool-off is given | estimated | – | its answer where nobody should try again, else a failure |
    /// | failure, slept through | – | – | – | – | estimated | – | a failure |
    /// | failure, suspected overload | throttled | throttled | – | suspected | estimated | late | a failure |
    /// | failure | failed, and in a part's | elsewhere | an ordered cool-off | a named cool-off | estimated | late | a failure |
    /// | overloaded | throttled | throttled; plain: overloaded | – | always | nothing | – | an overload |
    /// | throttled | throttled | throttled | – | always | nothing | – | a limit |
    /// | exhausted | throttled | throttled | a cool-off | – | nothing | – | a limit, finally |
    /// | rejected | – | – | a cool-off | – | nothing | – | its answer |
    /// | unauthorized | – | – | a cool-off | – | nothing | – | its answer |
    ///
    /// Whatever was not sent costs nothing. A provider that refuses does not count the call; one that fails may have.
    /// What asks for less load is paced, and so is no reason to have fewer calls in flight.
    #[must_use]
    pub fn of(verdict: Verdict, circumstances: &Circumstances) -> Self {
        let Verdict { class, scope, advice, cool_off } = verdict;
        let by_provider = cool_off.is_some() && cool_off == circumstances.named;
        let pause = match cool_off {
            None => Pause::Unnamed,
            Some(wait) if by_provider => Pause::Named(wait),
            Some(wait) => Pause::Ordered(wait),
        };
        let opens_for = match cool_off {
            Some(wait) if by_provider => Some(wait.min(circumstances.named_pause_max)),
            own => own,
        };
        let is_untouched = circumstances.progress == Progress::Unsent;
        let is_answered = circumstances.progress == Progress::Answered;
        let billed = if is_untouched { Settlement::Refund } else { Settlement::AsEstimated };
        let reach = reach(class, scope, circumstances.breaker);
        let nothing = Self {
            reach,
            counts: Outcome::Ignored,
            part: None,
            counts_for_upstream: Outcome::Ignored,
            opens_for: None,
            pause: None,
            pacing: None,
            settlement: billed,
            feedback: Feedback::Neutral,
            request_has_failed: false,
            is_untouched,
            hears: class.heard(advice),
            is_final: false,
            is_suspect: false,
            asks_for_less: false,
        };
        let refused = Self { settlement: Settlement::Refund, ..nothing };
        let too_much = Self {
            counts: Outcome::Throttled,
            counts_for_upstream: Outcome::Throttled,
            pause: Some(pause),
            pacing: Some(Pacing::Turn),
            is_untouched: true,
            asks_for_less: true,
            ..refused
        };
        match class {
            Class::Success => Self {
                counts: Outcome::Success,
                counts_for_upstream: Outcome::Success,
                settlement: circumstances.used_tokens.map_or(billed, Settlement::Used),
                feedback: circumstances.answered(),
                ..nothing
            },
            // Not a word about health, but perhaps one about when to come again.
            Class::Ignored => Self {
                pause: cool_off.map(|_| pause),
                pacing: cool_off.map(|_| Pacing::Turn),
                is_suspect: is_answered,
                ..nothing
            },
            Class::Failure if circumstances.was_slept_through => nothing,
            Class::Failure => {
                let failed = Self {
                    feedback: circumstances.late(),
                    request_has_failed: true,
                    is_suspect: is_answered,
                    ..nothing
                };
                let counted = Self {
                    counts: circumstances.failure(),
                    part: (circumstances.breaker == BreakerKind::Adaptive && reach == Reach::Model)
                        .then_some(Reach::ModelOfCredential),
                    counts_for_upstream: Outcome::FailedElsewhere,
                    ..failed
                };
                match pause {
                    Pause::Named(_) => Self { pause: Some(pause), pacing: Some(Pacing::Pause), ..counted },
                    Pause::Ordered(_) => Self { opens_for, ..counted },
                    Pause::Unnamed | Pause::Suspected if circumstances.suspects(is_answered) => Self {
                        counts: Outcome::Throttled,
                        counts_for_upstream: Outcome::Throttled,
                        pause: Some(Pause::Suspected),
                        pacing: Some(Pacing::Turn),
                        ..failed
                    },
                    Pause::Unnamed | Pause::Suspected => counted,
                }
            }
            Class::Overloaded => match circumstances.breaker {
                BreakerKind::Adaptive => too_much,
                // A plain breaker counts an overload, unless the lane deals with it.
                BreakerKind::Plain => Self {
                    counts: if reach == Reach::Upstream { Outcome::Overloaded } else { Outcome::Throttled },
                    counts_for_upstream: Outcome::Overloaded,
                    ..too_much
                },
            },
            Class::Throttled => too_much,
            Class::Exhausted => Self {
                counts: Outcome::Throttled,
                counts_for_upstream: Outcome::Throttled,
                opens_for,
                is_final: true,
                ..refused
            },
            Class::Rejected | Class::Unauthorized => Self { opens_for, ..refused },
        }
    }

    /// What it means that the caller has left before an answer began: nothing, unless it has waited far longer than
    /// others do ([`WindowStatistics::overdue_after`](crate::WindowStatistics::overdue_after)). The provider may bill
    /// what nobody waits for any more.
    #[must_use]
    pub const fn of_leaving(is_overdue: bool) -> Self {
        Self {
            reach: Reach::Upstream,
            counts: if is_overdue { Outcome::Overdue } else { Outcome::Ignored },
            part: None,
            counts_for_upstream: Outcome::Ignored,
            opens_for: None,
            pause: None,
            pacing: None,
            settlement: Settlement::AsEstimated,
            feedback: Feedback::Neutral,
            request_has_failed: false,
            is_untouched: false,
            hears: Hears::Failure,
            is_final: false,
            is_suspect: false,
            asks_for_less: false,
        }
    }

    /// Whether a circuit is made for it that does not exist yet: one that would count nothing need not exist.
    #[must_use]
    pub const fn makes_circuit(&self) -> bool {
        let counts = matches!(
            self.counts,
            Outcome::Failure | Outcome::FailedAgain | Outcome::FailedOnReturn | Outcome::Overloaded
        );
        counts || self.opens_for.is_some()
    }

    /// The same after the lane has heard of it. `is_fruitless` says whether nobody has been served there for a while
    /// ([`Pacer::is_fruitless`](crate::Pacer::is_fruitless)); `None` that there is no room for a lane. What a lane
    /// deals with does not count against a circuit.
    #[must_use]
    pub fn heard_by_lane(self, is_fruitless: Option<bool>) -> Self {
        let relieved = |outcome| match (outcome, is_fruitless) {
            (Outcome::Overloaded, Some(false)) => Outcome::Throttled,
            (outcome, _) => outcome,
        };
        Self {
            counts: relieved(self.counts),
            counts_for_upstream: relieved(self.counts_for_upstream),
            pacing: is_fruitless.and(self.pacing),
            ..self
        }
    }
}

impl Class {
    /// What it teaches about the upstream.
    #[must_use]
    pub const fn teaches(self, was_slept_through: bool) -> Teaches {
        match self {
            Self::Success => Teaches::Served,
            Self::Failure if !was_slept_through => Teaches::Failed,
            Self::Failure
            | Self::Ignored
            | Self::Overloaded
            | Self::Throttled
            | Self::Exhausted
            | Self::Rejected
            | Self::Unauthorized => Teaches::Nothing,
        }
    }

    /// What the caller hears of it, where this is the advice.
    #[must_use]
    pub const fn heard(self, advice: Advice) -> Hears {
        match (self, advice) {
            (Self::Success | Self::Rejected | Self::Unauthorized, _) | (Self::Ignored, Advice::GiveUp) => Hears::Answer,
            (Self::Ignored, Advice::Retry | Advice::NextUpstream) | (Self::Failure, _) => Hears::Failure,
            (Self::Overloaded, _) => Hears::Overload,
            (Self::Throttled | Self::Exhausted, _) => Hears::Limit,
        }
    }
}

impl Circumstances {
    /// What a success says about room: how soon it came, or that its content was late behind what came before it.
    const fn answered(&self) -> Feedback {
        match self.first_content {
            FirstContent::After(first_token) => Feedback::Answered { first_token, input_tokens: self.input_tokens },
            // Of what was not answered at all, whatever it was judged, nothing is known.
            _ if !matches!(self.progress, Progress::Answered) => Feedback::Neutral,
            FirstContent::Missing | FirstContent::Late { .. } => self.late(),
        }
    }

    /// What a failure says about room: nothing, unless it is that nothing came in time.
    const fn late(&self) -> Feedback {
        match self.first_content {
            FirstContent::Late { hangs_alone: false } if !self.was_slept_through => Feedback::TimedOut,
            FirstContent::Late { .. } | FirstContent::After(_) | FirstContent::Missing => Feedback::Neutral,
        }
    }

    /// As what a failure counts: a request counts one at most, since its repetitions are no independent evidence.
    const fn failure(&self) -> Outcome {
        match (self.has_failed_before, self.has_come_back) {
            (true, _) => Outcome::FailedAgain,
            (false, true) => Outcome::FailedOnReturn,
            (false, false) => Outcome::Failure,
        }
    }

    /// Whether a plain error is taken for an overload: one that was said, and soon.
    fn suspects(&self, is_answered: bool) -> bool {
        self.suspects_overload && is_answered && self.took <= self.quick_attempt_max
    }
}

/// What a verdict of this class and scope reaches. A limit and a spent quota are always some credential's, and a plain
/// breaker counts failures for nothing narrower than its upstream.
const fn reach(class: Class, scope: Scope, breaker: BreakerKind) -> Reach {
    match (scope, class, breaker) {
        (Scope::Upstream, _, _) | (Scope::Model, Class::Failure, BreakerKind::Plain) => Reach::Upstream,
        (Scope::Credential, _, _) => Reach::Credential,
        (Scope::Model, Class::Throttled | Class::Exhausted, _) => Reach::ModelOfCredential,
        (Scope::Model, _, _) => Reach::Model,
    }
}

#[cfg(test)]
mod tests;
