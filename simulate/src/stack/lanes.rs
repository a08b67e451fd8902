//! The ways to those parts of an upstream that have said "too much": queues whose callers go out at the rate that is
//! served.

use std::collections::BTreeMap;
use std::time::Duration;

use spillway_resilience::{
    AdmissionQueue, Entry, FairQueueSettings, Feedback, Leaving, Pacer, PacerSettings, Pass, Pause, ServedLog,
    Settlement, Ticket, Timestamp, TurnedAway,
};

use super::part::Part;
use super::{demand_of_a_turn, patience_end};
use crate::protection::{Answer, Call, RequestId};

/// All lanes of one upstream. Each goes when nobody is paced in it any more.
#[derive(Debug)]
pub(super) struct Lanes {
    pacing: PacerSettings,
    queue: FairQueueSettings,
    lanes: BTreeMap<Part, AdmissionQueue>,
    /// The turns of those who are under way.
    turns: BTreeMap<RequestId, Vec<(Part, Pass)>>,
}

/// Who leaves a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Somebody's turn has come, which is to be [held](Lanes::hold).
    Turn(Ticket, Pass),
    /// Somebody's patience is over; it is told this wait.
    Expired(Ticket, Duration),
}

impl Lanes {
    /// None yet.
    pub(super) const fn new(pacing: PacerSettings, queue: FairQueueSettings) -> Self {
        Self { pacing, queue, lanes: BTreeMap::new(), turns: BTreeMap::new() }
    }

    /// Lets a call through a lane, or lets it wait there: then it has a ticket. With its `former` one it comes before
    /// those of its tenant who came later.
    pub(super) fn enter(
        &mut self,
        part: Part,
        call: &Call,
        former: Option<Ticket>,
        now: Timestamp,
    ) -> Result<Option<Ticket>, TurnedAway> {
        let Some(lane) = self.lanes.get_mut(&part) else { return Ok(None) };
        match lane.enter_again(demand_of_a_turn(call), former, patience_end(call), now)? {
            Entry::Passed(pass) => {
                self.hold(part, call, pass);
                Ok(None)
            }
            Entry::Waiting(ticket) => Ok(Some(ticket)),
        }
    }

    /// Who leaves the lane of a part next.
    pub(super) fn next(&mut self, part: Part, now: Timestamp) -> Option<Left> {
        let lane = self.lanes.get_mut(&part)?;
        Some(match lane.next(now)? {
            Leaving::Passed { ticket, pass, .. } => Left::Turn(ticket, pass),
            Leaving::Expired { ticket, .. } => Left::Expired(ticket, lane.in_vain(0, None, now).retry_after),
        })
    }

    /// A call holds its turn while it is under way.
    pub(super) fn hold(&mut self, part: Part, call: &Call, turn: Pass) {
        self.turns.entry(call.request).or_default().push((part, turn));
    }

    /// A call is not under way any more.
    pub(super) fn release(&mut self, request: RequestId, now: Timestamp) {
        for (part, turn) in self.turns.remove(&request).unwrap_or_default() {
            if let Some(lane) = self.lanes.get_mut(&part) {
                lane.settle(turn, Settlement::Refund, Feedback::Neutral, now);
            }
        }
    }

    /// The parts that have lanes, the widest first.
    pub(super) fn parts(&self) -> Vec<Part> {
        self.lanes.keys().copied().collect()
    }

    /// A call was served.
    pub(super) fn served(&mut self, call: &Call, now: Timestamp) {
        for part in Part::widest_first(call) {
            if let Some(pacer) = self.lanes.get_mut(&part).and_then(AdmissionQueue::pacer_mut) {
                pacer.served(now);
            }
        }
    }

    /// The suspicion that a call's model has too much to do has come to nothing.
    pub(super) fn acquit(&mut self, call: &Call, now: Timestamp) {
        for part in Part::widest_first(call) {
            if let Some(pacer) = self.lanes.get_mut(&part).and_then(AdmissionQueue::pacer_mut) {
                pacer.acquit(now);
            }
        }
    }

    /// A part has said "too much", perhaps about a call beside which no other was under way. `log` tells what was served
    /// of late. Whether it has said so for a while, and served nobody meanwhile.
    pub(super) fn told(
        &mut self,
        part: Part,
        (pause, was_alone): (Pause, bool),
        answer: &Answer,
        log: &ServedLog,
        random: u64,
    ) -> bool {
        let (pacing, queue) = (self.pacing, self.queue);
        let lane = self.lanes.entry(part).or_insert_with(|| {
            let pacer = Pacer::new(pacing, log.of(|key| part.has_key(key)));
            AdmissionQueue::paced(pacer, queue)
        });
        lane.pacer_mut().is_some_and(|pacer| {
            match was_alone {
                true => pacer.told_alone(pause, answer.sent, answer.at, random),
                false => pacer.told(pause, answer.sent, answer.at, random),
            }
            pacer.is_fruitless(answer.at)
        })
    }

    /// How long a call would have to wait if nobody came before it; `None` if it would not.
    pub(super) fn wait(&self, call: &Call, now: Timestamp) -> Option<Duration> {
        let lanes = Part::widest_first(call).into_iter().filter_map(|part| self.lanes.get(&part));
        lanes.map(|lane| lane.pace_of_next(now)).filter(|wait| !wait.is_zero()).max()
    }

    /// Whether another turn in one of a call's lanes may be of use: somebody has been served since then, or others wait as
    /// well.
    pub(super) fn is_of_use(&self, call: &Call, since: Timestamp) -> bool {
        let is_of_use = |lane: &AdmissionQueue| {
            lane.waiting() > 0 || lane.pacer().is_some_and(|pacer| pacer.has_served_since(since))
        };
        Part::widest_first(call).iter().any(|part| self.lanes.get(part).is_some_and(is_of_use))
    }

    /// Ends the lanes in which nobody is paced any more.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        self.lanes.retain(|_, lane| {
            let nobody_waits = lane.waiting() == 0;
            let Some(pacer) = lane.pacer_mut() else { return false };
            if nobody_waits {
                pacer.rest(now);
            }
            let is_paced = pacer.per_second(now).is_some() || pacer.paused_until(now).is_some();
            is_paced || lane.concurrency().in_flight() > 0
        });
    }

    /// When somebody may leave though nothing happens until then.
    pub(super) fn wake_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.lanes.values_mut().filter_map(|lane| lane.wake_at(now)).map(|(_, at)| at).min()
    }

    /// How many wait, or hold a turn that they should have given back.
    pub(super) fn held(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting() + lane.concurrency().in_flight() as usize).sum()
    }
}
