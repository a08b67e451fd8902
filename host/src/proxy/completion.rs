//! What is settled when an answer has ended, exactly once, whatever ended it.

use crate::dialect::Usage;
use crate::observe::metrics::{CallFault, RequestOutcome};
use crate::policy::Record;
use crate::proxy::attempt::Attempted;
use crate::proxy::permits::Charges;
use crate::proxy::runaway;
use crate::proxy::settle::{Ending, conclude};
use crate::proxy::spending::Ended;
use crate::proxy::target::Target;
use crate::proxy::trace::RequestTrace;
use crate::proxy::worker::Worker;
use crate::runtime::causes::ErrorChain;
use crate::upstream::circuit::CircuitPermits;
use bytes::Bytes;
use http::StatusCode;
use spillway_resilience::Consequence;
use spillway_sdk::{AttemptFacts, Class, Fault, Phase, ProviderError, Verdict};
use std::cell::OnceCell;
use std::rc::Rc;

/// How an answer ended.
#[derive(Debug)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// With an error event of the provider's.
    Failed(ProviderError),
    /// Before its time.
    Broken(Fault, Option<ErrorChain>),
    /// Its caller went away, or was given up for this reason.
    Abandoned(Option<&'static str>),
}

/// What is to be settled when the answer has ended.
#[derive(Debug)]
pub(crate) struct Completion {
    /// Where policies and circuits are at hand.
    pub worker: Rc<Worker>,
    pub target: Rc<Target>,
    /// What policies may see.
    pub record: Rc<Record>,
    /// The verdict so far.
    pub verdict: Verdict,
    /// The circuits' permits, unless they are settled already.
    pub circuits: Option<CircuitPermits>,
    /// What was taken of limits.
    pub charges: Charges,
    pub trace: RequestTrace,
    /// How the request ended, should the answer arrive whole.
    pub outcome: RequestOutcome,
    /// Whether a failure of its request is counted already.
    pub has_failed: bool,
}

impl Completion {
    /// Of an attempt that is passed on. Nothing is left to settle, unless permits and charges are filled in.
    pub(crate) fn of(
        worker: &Rc<Worker>,
        target: &Rc<Target>,
        attempted: Attempted,
        outcome: RequestOutcome,
        trace: RequestTrace,
    ) -> Completion {
        Completion {
            worker: Rc::clone(worker),
            target: Rc::clone(target),
            record: attempted.record,
            verdict: attempted.judged.verdict,
            circuits: None,
            charges: Charges::default(),
            trace,
            outcome,
            has_failed: false,
        }
    }

    /// The first content is on its way to the caller.
    pub(super) fn content_began(&mut self) {
        if !self.is_counted_as_served() {
            return;
        }
        let upstream = &self.target.upstream;
        let duration = self.record.first_content.get().unwrap_or_else(|| self.record.began.elapsed());
        self.record.first_content.set(Some(duration));
        upstream.metrics.first_content(self.target.model.as_deref(), duration);
        self.trace.content_began();
        let is_first = self.target.request.is_first(self.record.number);
        let first_sent = is_first.then(|| self.worker.app.clock.at(self.record.began));
        upstream.served(self.target.subject(), duration, first_sent);
        if let Some(circuits) = &mut self.circuits {
            circuits.answered();
        }
        // A probe has shown what it was sent for: nobody should wait for the end of its stream.
        if let Some(probe) = self.circuits.take_if(|circuits| circuits.is_probe()) {
            conclude(&self.worker, &self.target, probe, &self.record, self.consequence(None, None));
        }
    }

    /// Whether it is an answer that was asked for, and not an error on its way to the caller.
    fn is_counted_as_served(&self) -> bool {
        self.outcome == RequestOutcome::Answered && self.verdict.class == Class::Success
    }

    /// The connection that was asked for serves: its circuits need not wait for its end, which may be an hour away.
    pub(super) fn serves(&mut self) {
        self.content_began();
        self.conclude_now();
    }

    /// The connection that was asked for was there, and what came over it says that the provider has failed.
    pub(super) fn fails(&mut self, error: ProviderError) {
        self.trace.tell(&format!("the provider told an error: {}", error.message));
        self.judge_again(None, Some(error));
        self.conclude_now();
    }

    fn conclude_now(&mut self) {
        if let Some(circuits) = self.circuits.take() {
            conclude(&self.worker, &self.target, circuits, &self.record, self.consequence(None, None));
        }
    }

    /// So many tokens were used while the answer goes on. What is booked so is not told again at its end.
    pub(super) fn uses(&mut self, usage: Usage) {
        self.tell_usage(&usage);
        self.charges.book(usage);
        runaway::uses(&self.worker.app, &self.target, usage.total());
    }

    /// Tells the figures what was used, and what that costs where somebody keeps a ledger.
    fn tell_usage(&self, usage: &Usage) {
        let (metrics, about) = (&self.target.upstream.metrics, self.target.about());
        metrics.uses(about, usage);
        if let Some(expense) = &self.charges.expense {
            match expense.price_of(usage) {
                Some(pico_dollars) => metrics.cost(about, pico_dollars),
                None => metrics.unpriced(about, usage),
            }
        }
    }

    /// What the verdict so far means, where the attempt has ended with this fault and has cost so many tokens.
    fn consequence(&self, fault: Option<Fault>, used_tokens: Option<u64>) -> Consequence {
        let (target, record, verdict, has_failed) = (&*self.target, &*self.record, &self.verdict, self.has_failed);
        Ending { target, record, verdict, fault, used_tokens, has_failed }.consequence(self.worker.app.clock)
    }

    /// Settles everything, once.
    pub(super) fn settle(mut self, end: End, usage: Option<Usage>) {
        let metrics = &self.target.upstream.metrics;
        if let Some(usage) = usage {
            self.tell_usage(&usage);
            if matches!(end, End::Whole) {
                let target = &self.target;
                target.upstream.estimates.learn(target.model.as_deref(), &target.request.input, usage.input);
            }
        }
        let model = self.target.model.as_deref();
        match &end {
            End::Whole if self.is_counted_as_served() => metrics.answered(model, self.record.began.elapsed()),
            End::Failed(_) => metrics.broke(model, CallFault::ErrorInAnswer),
            End::Broken(fault, _) => metrics.broke(model, CallFault::of(*fault, Phase::Committed)),
            End::Whole | End::Abandoned(_) => {}
        }
        let fault = match end {
            End::Broken(fault, _) => Some(fault),
            End::Whole | End::Failed(_) | End::Abandoned(_) => None,
        };
        // What was first said of the attempt is what it says of the upstream's room: an end much later says nothing.
        let consequence = self.consequence(fault, usage.map(Usage::total));
        let is_whole = matches!(end, End::Whole | End::Failed(_));
        let ended = Ended { settlement: consequence.settlement, usage, is_whole };
        std::mem::take(&mut self.charges).settle(&ended, consequence.feedback);
        // What failed is rightly sent again.
        if self.verdict.class == Class::Success {
            runaway::answered(&self.worker.app, &self.target, consequence.settlement);
        }
        let outcome = match end {
            End::Whole => self.outcome,
            End::Failed(error) => {
                self.trace.tell(&format!("the provider failed inside of its answer: {}", error.message));
                self.judge_again(None, Some(error));
                RequestOutcome::Broken
            }
            End::Broken(fault, cause) => {
                self.trace.tell(&match &cause {
                    None => format!("the answer broke off: {}", fault.as_str()),
                    Some(cause) => format!("the answer broke off: {} ({cause})", fault.as_str()),
                });
                self.judge_again(Some((fault, cause)), None);
                RequestOutcome::Broken
            }
            End::Abandoned(given_up) => {
                self.trace.tell(given_up.unwrap_or("the caller went away"));
                // The permits are dropped with this, which counts nowhere.
                self.circuits = None;
                RequestOutcome::Abandoned
            }
        };
        if let Some(circuits) = self.circuits.take() {
            conclude(&self.worker, &self.target, circuits, &self.record, self.consequence(fault, None));
        }
        self.trace.end(outcome, self.record.status.unwrap_or(0));
    }

    /// What is said about an attempt that broke after its first content.
    fn judge_again(&mut self, broken: Option<(Fault, Option<ErrorChain>)>, error: Option<ProviderError>) {
        let mut record = Record::clone(&self.record);
        record.phase = Phase::Committed;
        record.elapsed = record.began.elapsed();
        record.prefix = Bytes::new();
        (record.fault, record.cause) = broken.map_or((None, None), |(fault, cause)| (Some(fault), cause));
        record.error = OnceCell::from(error);
        if record.status == Some(StatusCode::SWITCHING_PROTOCOLS.as_u16()) {
            // Policies know no success but 2xx, and what comes over a connection they know as a stream.
            (record.status, record.streaming) = (Some(StatusCode::OK.as_u16()), true);
        }
        let upstream = &self.target.upstream;
        let record = Rc::new(record);
        let facts = Rc::clone(&record) as Rc<dyn AttemptFacts>;
        let judged = self.worker.judge.borrow_mut().classify(&upstream.policy, facts);
        if let Some(recorder) = &self.worker.app.recorder {
            let arrival = self.target.arrival();
            drop(recorder.note(&self.target.request.id, self.target.sent(), &record, &judged, arrival));
        }
        self.verdict = judged.verdict;
    }
}
