use super::*;
use crate::random::Random;

/// The layers, what they order, and what a caller is like who is asked nothing else.
struct Desk {
    stack: Stack,
    orders: Orders,
    requests: RequestId,
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::ORIGIN.saturating_add(Duration::from_secs_f64(seconds))
}

const QUICK: f64 = 0.05;

impl Desk {
    /// A quota of a token a second, of which a hundred are saved up.
    fn new() -> Self {
        let provider = crate::scenario::Provider {
            tokens_per_minute: Some(60),
            burst_tokens: 100,
            ..crate::scenario::Provider::default()
        };
        Self { stack: Stack::new(&Settings::knowing(&provider)), orders: Orders::new(Random::new(1)), requests: 0 }
    }

    /// One whose upstream was well until `seconds`.
    fn warm(seconds: f64) -> Self {
        let mut desk = Self::new();
        for number in 0..40 {
            let call = desk.call(seconds - 10.0 + f64::from(number) / 4.0);
            desk.serves(&call);
        }
        desk
    }

    /// A new request, which costs nothing.
    fn call(&mut self, seconds: f64) -> Call {
        self.requests += 1;
        Call {
            patience_end: at(seconds + 10.0),
            deadline: at(seconds + 30.0),
            ..Call::plain(self.requests, at(seconds))
        }
    }

    fn costing(&mut self, tokens: u64, seconds: f64) -> Call {
        Call { tokens_max: tokens, ..self.call(seconds) }
    }

    /// What is ordered when this request comes.
    fn asks(&mut self, call: &Call) -> Vec<Order> {
        self.orders.set_now(call.entered);
        self.stack.asked(call, &mut self.orders);
        self.take()
    }

    fn sends(&mut self, call: &Call) -> bool {
        self.asks(call).contains(&Order::Send(call.request))
    }

    /// What is ordered when this request's call, sent at `sent`, ends like this.
    fn ends(&mut self, call: &Call, outcome: Outcome, sent: f64, seconds: f64) -> Vec<Order> {
        self.ends_as(call, Answer { outcome, ..answer(sent, seconds) })
    }

    fn ends_as(&mut self, call: &Call, answer: Answer) -> Vec<Order> {
        self.orders.set_now(answer.at);
        self.stack.answered(&Call { attempt: call.attempt.max(1), ..*call }, &answer, &mut self.orders);
        self.take()
    }

    /// What is ordered when the time has come for which it wanted to be woken, and when that is.
    fn wakes(&mut self, seconds: f64) -> (Vec<Order>, f64) {
        let Some(next) = self.stack.wake_at(at(seconds)) else { panic!("nobody waits") };
        self.orders.set_now(next);
        self.stack.woken(&mut self.orders);
        (self.take(), next.as_micros() as f64 / 1e6)
    }

    fn take(&mut self) -> Vec<Order> {
        let figures = |order: &Order| matches!(order, Order::GivenBack(..) | Order::Granted(..));
        self.orders.take().into_iter().filter(|order| !figures(order)).collect()
    }

    fn serves(&mut self, call: &Call) {
        let seconds = call.entered.as_micros() as f64 / 1e6;
        assert!(self.sends(call), "{call:?} should be sent at once");
        self.ends(call, Outcome::Success, seconds, seconds + QUICK);
    }

    /// Lets every call of a request fail, until its caller has an answer. How many calls that were, and what the caller
    /// was told.
    fn fails(&mut self, call: &Call) -> (u32, Vec<Order>) {
        let (mut call, mut seconds) = (*call, call.entered.as_micros() as f64 / 1e6);
        let mut orders = self.asks(&call);
        loop {
            match orders.iter().find(|order| matches!(order, Order::Send(_) | Order::AskAgain(..))) {
                Some(Order::Send(_)) => {
                    call.attempt += 1;
                    orders = self.ends(&call, Outcome::Failure, seconds, seconds + QUICK);
                    seconds += QUICK;
                }
                Some(Order::AskAgain(_, again)) => {
                    seconds = again.as_micros() as f64 / 1e6;
                    self.orders.set_now(*again);
                    self.stack.again(&call, &mut self.orders);
                    orders = self.take();
                }
                _ => return (call.attempt, orders),
            }
        }
    }

    /// Lets requests fail until the circuit opens. How many requests that took.
    fn opens(&mut self, seconds: f64) -> u32 {
        (1..=1_000)
            .find(|number| {
                // The last attempt, so that none is repeated.
                let call = Call { attempt: 9, ..self.call(seconds) };
                assert!(self.sends(&call), "the circuit opens at the end of a call");
                self.ends(&call, Outcome::Failure, seconds, seconds + f64::from(*number) / 1e4);
                !self.stack.is_closed()
            })
            .expect("a thousand failures in a row open a circuit")
    }

    fn holds_nothing(&self) {
        assert_eq!(self.stack.held(self.orders.now()), 0);
    }
}

/// A failure that came by itself.
fn answer(sent: f64, seconds: f64) -> Answer {
    let (sent, at) = (at(sent), at(seconds));
    Answer { sent, at, outcome: Outcome::Failure, retry_after: None, timed_out: false, tokens: 0 }
}

/// A limit that names a wait.
fn limited(sent: f64, seconds: f64, wait: u64) -> Answer {
    let retry_after = Some(Duration::from_secs(wait));
    Answer { outcome: Outcome::Throttled, retry_after, ..answer(sent, seconds) }
}

fn refusal(orders: &[Order]) -> Option<Duration> {
    orders.iter().find_map(|order| match order {
        Order::Refuse(_, told) => told.retry_after,
        _ => None,
    })
}

#[test]
fn what_a_circuit_refuses_costs_no_tokens() {
    let mut desk = Desk::warm(20.0);
    desk.opens(20.0);
    // In the open circuit's time nobody gets as far as the limits.
    let refused = desk.costing(100, 20.3);
    let refused = Call { deadline: refused.entered, ..refused };
    assert!(refusal(&desk.asks(&refused)).is_some());
    // While it ramps up, some come that far and must give everything back.
    let probe = desk.costing(100, 21.0);
    desk.serves(&probe);
    let ramped = (0..20).find(|_| {
        let call = desk.call(21.1);
        !desk.sends(&Call { deadline: call.entered, ..call })
    });
    assert!(ramped.is_some(), "a herd does not pass");
    let refused = desk.costing(100, 21.1);
    let refused = Call { deadline: refused.entered, ..refused };
    assert!(refusal(&desk.asks(&refused)).is_some());
    let late = desk.costing(100, 22.0);
    assert!(desk.sends(&late));
}

#[test]
fn nobody_joins_a_queue_before_an_open_circuit() {
    let mut desk = Desk::warm(20.0);
    let all = desk.costing(100, 20.0);
    assert!(desk.sends(&all));
    desk.opens(20.0);
    let late = desk.costing(100, 20.1);
    assert_eq!(desk.asks(&late), [], "it waits for the circuit");
    assert_eq!(desk.stack.limits.waiting(), 0);
    desk.ends(&all, Outcome::Success, 20.0, 20.2);
    let (orders, _) = desk.wakes(20.2);
    assert_eq!(orders, [Order::Send(late.request)], "it is the first probe");
    desk.ends(&late, Outcome::Success, 21.0, 21.0);
    desk.holds_nothing();
}

#[test]
fn a_circuit_that_opens_meanwhile_refuses_those_whose_turn_comes_and_they_hold_nothing() {
    let mut desk = Desk::warm(20.0);
    let failing: Vec<Call> = (0..40).map(|_| Call { attempt: 9, ..desk.call(20.0) }).collect();
    assert!(failing.iter().all(|call| desk.sends(call)));
    let all = desk.costing(100, 20.0);
    assert!(desk.sends(&all));
    let waiters =
        [desk.costing(100, 20.0), desk.costing(100, 20.0)].map(|call| Call { patience_end: at(200.0), ..call });
    for waiter in &waiters {
        assert_eq!(desk.asks(waiter), [Order::Joined(0)]);
    }
    for call in &failing {
        desk.ends(call, Outcome::Failure, 20.0, 21.9);
    }
    assert!(!desk.stack.is_closed());
    // Its tokens come back when the waiters have been there for longer than one waits for a circuit.
    let orders = desk.ends(&all, Outcome::Success, 20.0, 22.0);
    let gone =
        |call: &Call| orders.iter().any(|order| matches!(order, Order::Refuse(request, _) if *request == call.request));
    assert!(waiters.iter().all(gone), "{orders:?}");
    desk.holds_nothing();
}

#[test]
fn a_limit_that_is_said_makes_callers_wait_and_is_not_counted() {
    let mut desk = Desk::warm(20.0);
    let calls: Vec<Call> = (0..200).map(|_| Call { patience_end: at(500.0), ..desk.call(20.0) }).collect();
    assert!(calls.iter().all(|call| desk.sends(call)));
    for call in &calls {
        assert_eq!(desk.ends_as(call, limited(20.0, 20.1, 1)), [], "it waits");
    }
    let late = Call { patience_end: at(500.0), ..desk.call(20.2) };
    assert_eq!(desk.asks(&late), [], "whoever comes waits too");
    let (orders, woken) = desk.wakes(20.2);
    assert!((21.1..21.2).contains(&woken), "{woken}");
    assert_eq!(orders, [Order::Send(calls[0].request)], "one by one, in the order of their coming");
    assert!(desk.stack.is_closed() && desk.stack.circuits.may_repeat(&late, RetrySettings::REPEAT_CHANCE_MIN));
    assert!(!desk.stack.pasts[&calls[0].request].has_failed);
}

#[test]
fn a_limit_of_one_tenant_makes_no_other_wait_and_an_overload_makes_all_of_its_model() {
    for (outcome, other_waits) in [(Outcome::Throttled, false), (Outcome::Overloaded, true)] {
        let mut desk = Desk::warm(20.0);
        let call = desk.call(20.0);
        assert!(desk.sends(&call));
        desk.ends_as(&call, Answer { outcome, ..limited(20.0, 20.1, 1) });
        let tenant = Call { tenant: 1, ..desk.call(20.2) };
        assert_eq!(desk.sends(&tenant), !other_waits, "{outcome:?}");
        let model = Call { model: 1, ..desk.call(20.2) };
        assert!(desk.sends(&model), "{outcome:?}");
    }
}

#[test]
fn a_call_that_is_refused_keeps_its_place() {
    let mut desk = Desk::warm(20.0);
    let calls: Vec<Call> = (0..4).map(|_| desk.call(20.0)).collect();
    for call in &calls {
        if desk.sends(call) {
            desk.ends_as(call, limited(20.0, 20.0, 1));
        }
    }
    let (orders, woken) = desk.wakes(20.0);
    assert_eq!(orders, [Order::Send(calls[0].request)]);
    // It is refused once more, and comes before those who came later.
    assert_eq!(desk.ends_as(&calls[0], limited(woken, woken + QUICK, 1)), []);
    let (orders, woken) = desk.wakes(woken + QUICK);
    assert_eq!(orders, [Order::Send(calls[0].request)]);
    desk.ends(&calls[0], Outcome::Success, woken, woken + QUICK);
    let mut woken = woken + QUICK;
    for call in &calls[1..] {
        let (orders, sent) = desk.wakes(woken);
        assert_eq!(orders, [Order::Send(call.request)]);
        woken = sent + QUICK;
        desk.ends(call, Outcome::Success, sent, woken);
    }
    desk.holds_nothing();
}

#[test]
fn whoever_has_not_the_patience_for_a_named_pause_is_told_it_at_once() {
    let mut desk = Desk::warm(20.0);
    let call = desk.call(20.0);
    assert!(desk.sends(&call));
    let told = refusal(&desk.ends_as(&call, limited(20.0, 20.1, 60)));
    assert!(told.is_some_and(|wait| (60..62).contains(&wait.as_secs())), "{told:?}");
    let late = desk.call(40.0);
    let told = refusal(&desk.asks(&late));
    assert!(told.is_some_and(|wait| (40..42).contains(&wait.as_secs())), "{told:?}");
    desk.holds_nothing();
}

#[test]
fn whose_patience_ends_in_a_lane_is_refused_then() {
    let mut desk = Desk::warm(20.0);
    let first = desk.call(20.0);
    assert!(desk.sends(&first));
    desk.ends_as(&first, limited(20.0, 20.0, 9));
    let late = Call { patience_end: at(29.5), ..desk.call(20.5) };
    assert_eq!(desk.asks(&late), []);
    let (orders, woken) = desk.wakes(21.0);
    assert_eq!(orders, [Order::Send(first.request)]);
    desk.ends_as(&first, limited(woken, woken, 9));
    let (orders, woken) = desk.wakes(woken);
    assert!(refusal(&orders).is_some_and(|wait| wait > Duration::from_secs(8)), "{orders:?} {woken}");
    assert!((29.4..29.6).contains(&woken), "{woken}");
}

#[test]
fn a_request_counts_one_failure_however_often_it_was_repeated() {
    let single = Desk::warm(20.0).opens(20.0);
    let mut desk = Desk::warm(20.0);
    let mut calls = 0;
    let repeated = (1..=100).find(|_| {
        let call = desk.call(20.0);
        calls += desk.fails(&call).0;
        !desk.stack.is_closed()
    });
    assert_eq!(repeated, Some(single));
    assert!(calls > single + 2, "{calls} calls for {single} requests");
    desk.holds_nothing();
}

#[test]
fn a_failure_is_repeated_at_once_and_then_after_waits() {
    let mut desk = Desk::warm(20.0);
    let call = desk.call(20.0);
    assert!(desk.sends(&call));
    assert_eq!(desk.ends(&call, Outcome::Failure, 20.0, 20.1), [Order::Send(call.request)]);
    let second = Call { attempt: 2, ..call };
    let orders = desk.ends(&second, Outcome::Failure, 20.1, 20.2);
    assert!(matches!(*orders, [Order::AskAgain(_, again)] if again > at(20.2)), "{orders:?}");
}

#[test]
fn repetitions_end_sooner_beside_a_callers_own() {
    let calls = |caller_retries| -> u32 {
        let mut desk = Desk::warm(20.0);
        (0..3)
            .map(|number| desk.call(20.0 + f64::from(number)))
            .collect::<Vec<_>>()
            .iter()
            .map(|call| desk.fails(&Call { caller_retries, ..*call }).0)
            .sum()
    };
    assert!(calls(false) > calls(true), "{} {}", calls(false), calls(true));
    assert!(calls(true) > 3, "a single failure is still repeated");
}

#[test]
fn a_tenant_whose_requests_all_fail_is_not_repeated_for_ever_and_does_the_others_no_harm() {
    let mut desk = Desk::warm(20.0);
    let mut calls = Vec::new();
    for number in 0..300 {
        let seconds = 20.0 + f64::from(number) / 10.0;
        let bad = Call { tenant: 1, ..desk.call(seconds) };
        // Whether it waits for an open circuit does not matter.
        let (count, _) = desk.fails(&bad);
        desk.stack.at_circuit.clear();
        calls.push(count);
        let good = desk.call(seconds + 0.09);
        desk.serves(&good);
    }
    let late: u32 = calls[100..].iter().sum();
    assert!(calls[0] > 1 && late <= 40, "probes only: {calls:?}");
}

#[test]
fn those_who_wait_at_a_circuit_go_when_a_probe_closes_it() {
    let mut desk = Desk::warm(20.0);
    desk.opens(20.0);
    let probe = desk.call(21.0);
    assert!(desk.sends(&probe));
    let waiters = [desk.call(21.01), desk.call(21.02)];
    assert!(waiters.iter().all(|waiter| desk.asks(waiter).is_empty()));
    let orders = desk.ends(&probe, Outcome::Success, 21.0, 21.1);
    let sent = |call: &Call| orders.contains(&Order::Send(call.request));
    assert!(waiters.iter().all(sent) && desk.stack.is_closed(), "{orders:?}");
}

#[test]
fn nobody_waits_at_an_open_circuit_for_longer_than_a_second() {
    let mut desk = Desk::warm(20.0);
    desk.opens(20.0);
    let probe = Call { attempt: 9, ..desk.call(21.0) };
    assert!(desk.sends(&probe));
    let waiter = desk.call(21.01);
    assert_eq!(desk.asks(&waiter), []);
    desk.ends(&probe, Outcome::Failure, 21.0, 21.02);
    let (mut orders, mut woken) = desk.wakes(21.02);
    if orders == [Order::Send(waiter.request)] {
        // It was its own turn to probe, and it fails too.
        orders = desk.ends(&Call { attempt: 9, ..waiter }, Outcome::Failure, woken, woken + QUICK);
        woken += QUICK;
    }
    assert!(woken <= 22.02, "{woken}");
    assert!(matches!(*orders, [Order::Refuse(..) | Order::Deliver(..)]), "{orders:?}");
    desk.holds_nothing();
}

#[test]
fn a_circuit_that_stays_open_for_longer_than_anybody_waits_refuses_at_once() {
    let mut desk = Desk::warm(20.0);
    desk.opens(20.0);
    let probe = Call { attempt: 9, ..desk.call(80.0) };
    assert!(desk.sends(&probe));
    desk.ends(&probe, Outcome::Failure, 80.0, 80.1);
    let late = desk.call(80.2);
    let told = refusal(&desk.asks(&late));
    assert!(told.is_some_and(|wait| wait > Settings::CIRCUIT_PATIENCE), "{told:?}");
    desk.holds_nothing();
}

#[test]
fn nobody_waits_at_the_circuit_of_an_upstream_that_fails_slowly() {
    let mut desk = Desk::warm(20.0);
    let calls: Vec<Call> = (0..40).map(|_| Call { attempt: 9, ..desk.call(20.0) }).collect();
    assert!(calls.iter().all(|call| desk.sends(call)));
    for call in &calls {
        desk.ends(call, Outcome::Failure, 20.0, 22.0);
    }
    let late = desk.call(22.1);
    assert!(refusal(&desk.asks(&late)).is_some());
    desk.holds_nothing();
}

/// A caller that hangs up after so many seconds without an answer.
fn hangs_up(desk: &mut Desk, seconds: f64, after: f64) {
    let call = Call { deadline: at(seconds + after), ..desk.call(seconds) };
    if desk.sends(&call) {
        let orders = desk.ends_as(&call, Answer { timed_out: true, ..answer(seconds, seconds + after) });
        assert!(matches!(*orders, [Order::Deliver(..)] | [Order::Opened(_), Order::Deliver(..)]), "{orders:?}");
    }
}

#[test]
fn a_caller_that_hangs_up_says_nothing_unless_it_has_waited_far_longer_than_others() {
    let mut impatient = Desk::warm(20.0);
    (0..300).for_each(|_| hangs_up(&mut impatient, 20.0, 0.5));
    assert!(impatient.stack.is_closed());
    let mut unknown = Desk::new();
    (0..300).for_each(|_| hangs_up(&mut unknown, 20.0, 2.0));
    assert!(unknown.stack.is_closed(), "how long others wait is not known");
    let mut overdue = Desk::warm(20.0);
    (0..300).for_each(|_| hangs_up(&mut overdue, 20.0, 2.0));
    assert!(!overdue.stack.is_closed());
    overdue.holds_nothing();
}

#[test]
fn plain_errors_that_are_taken_for_an_overload_are_paced_and_not_counted() {
    let mut desk = Desk::warm(20.0);
    // First attempts fail far more often while retries go out than while they are held back.
    let mut seconds = 20.0;
    for number in 0..3_000 {
        seconds = 20.0 + f64::from(number) / 50.0;
        let quiet = !desk.stack.trial.retries_wait(0, at(seconds)).is_zero();
        let share = if quiet { 10 } else { 2 };
        desk.stack.trial.observe(0, at(seconds), number * 7 % 10 < share, at(seconds));
        if desk.stack.trial.suspects_overload(0) {
            break;
        }
    }
    assert!(desk.stack.trial.suspects_overload(0));
    let patient = Call { patience_end: at(500.0), ..desk.call(seconds) };
    let calls: Vec<Call> = (100..200).map(|request| Call { request, ..patient }).collect();
    assert!(calls.iter().all(|call| desk.sends(call)));
    for call in &calls {
        // Not first attempts, which would go on informing the suspicion.
        assert_eq!(desk.ends(&Call { attempt: 2, ..*call }, Outcome::Failure, seconds, seconds + QUICK), []);
    }
    assert!(desk.stack.is_closed() && desk.stack.lanes.held() == 100);
}

#[test]
fn a_retry_that_is_not_sent_gives_its_token_back() {
    let mut desk = Desk::warm(20.0);
    let call = desk.call(20.0);
    assert!(desk.sends(&call));
    let orders = desk.ends(&Call { attempt: 2, ..call }, Outcome::Failure, 20.0, 20.01);
    let [Order::AskAgain(_, again)] = *orders else { panic!("{orders:?}") };
    let spent = desk.stack.budget.spent(Spend::Retry);
    desk.opens(20.02);
    desk.orders.set_now(again);
    // By now its patience with the circuit is over.
    desk.stack.again(&Call { attempt: 2, entered: at(15.0), ..call }, &mut desk.orders);
    assert!(refusal(&desk.take()).is_some());
    assert_eq!(desk.stack.budget.spent(Spend::Retry), spent - 1);
    desk.holds_nothing();
}

#[test]
fn a_retry_that_is_sent_is_paid_for() {
    let mut desk = Desk::warm(20.0);
    let call = desk.call(20.0);
    let (calls, _) = desk.fails(&call);
    assert_eq!(desk.stack.budget.spent(Spend::Retry), u64::from(calls) - 1);
    desk.holds_nothing();
}

#[test]
fn retries_end_with_the_budget() {
    let mut desk = Desk::warm(20.0);
    let granted = (0..1_000).filter(|number| {
        let call = Call { deadline: at(1e6), ..desk.call(20.0) };
        let failed = answer(20.0, 20.01);
        let consequence = desk.stack.consequence(&call, &failed);
        let step = desk.stack.step(&call, &failed, &consequence, *number);
        let next = desk.stack.next(&call, &failed, step);
        desk.stack.pasts.clear();
        next != Next::GiveUp(None)
    });
    assert_eq!(granted.count(), spillway_resilience::RetryBudgetSettings::DEFAULT_CAPACITY as usize, "it was full");
}

#[test]
fn a_waiter_is_let_in_by_tokens_that_come_back() {
    let mut desk = Desk::warm(20.0);
    let all = desk.costing(100, 20.0);
    assert!(desk.sends(&all));
    let waiter = Call { patience_end: at(60.0), ..desk.costing(30, 20.0) };
    assert_eq!(desk.asks(&waiter), [Order::Joined(0)]);
    let used = Answer { outcome: Outcome::Success, tokens: 70, ..answer(20.0, 20.1) };
    let orders = desk.ends_as(&all, used);
    assert!(orders.contains(&Order::Send(waiter.request)) && orders.contains(&Order::Left(0)), "{orders:?}");
    // What it leaves unused comes back to its tenant's share.
    desk.orders.set_now(at(20.2));
    let used = Answer { outcome: Outcome::Success, tokens: 10, ..answer(20.1, 20.2) };
    desk.stack.answered(&Call { attempt: 1, ..waiter }, &used, &mut desk.orders);
    assert!(desk.orders.take().contains(&Order::GivenBack(0, 20)));
    desk.holds_nothing();
}

#[test]
fn a_failure_may_have_been_billed_and_a_refusal_was_not() {
    for (outcome, billed) in [(Outcome::Throttled, false), (Outcome::Overloaded, false), (Outcome::Failure, true)] {
        let mut desk = Desk::warm(20.0);
        let call = Call { attempt: 9, ..desk.costing(100, 20.0) };
        assert!(desk.sends(&call));
        desk.ends_as(&call, Answer { outcome, ..limited(20.0, 20.0, 60) });
        let other = Call { tenant: 1, model: 1, deadline: at(20.0), patience_end: at(20.0), ..desk.costing(100, 20.0) };
        assert_eq!(desk.sends(&other), !billed, "{outcome:?}");
    }
}

#[test]
fn time_outs_shrink_the_limit_in_flight_unless_others_are_answered_meanwhile_and_far_sooner() {
    let shrinks = |answers_take: Option<f64>| {
        let mut desk = Desk::warm(20.0);
        let late: Vec<Call> = (0..80).map(|_| Call { attempt: 9, ..desk.call(20.0) }).collect();
        assert!(late.iter().all(|call| desk.sends(call)));
        for _ in 0..40 {
            let Some(take) = answers_take else { continue };
            let call = desk.call(20.0);
            assert!(desk.sends(&call));
            desk.ends(&call, Outcome::Success, 20.0, 20.0 + take);
        }
        let before = desk.stack.limits.concurrency().limit();
        for call in late.iter().take(3) {
            desk.ends_as(call, Answer { timed_out: true, ..answer(20.0, 22.0) });
        }
        desk.stack.limits.concurrency().limit() < before
    };
    assert_eq!([None, Some(1.5), Some(QUICK)].map(shrinks), [true, true, false]);
}

#[test]
fn a_call_that_hung_is_not_made_again() {
    let mut desk = Desk::warm(20.0);
    let call = desk.call(20.0);
    assert!(desk.sends(&call));
    let orders = desk.ends_as(&call, Answer { timed_out: true, ..answer(20.0, 22.0) });
    assert!(matches!(orders[..], [Order::Deliver(..)]), "{orders:?}");
    desk.holds_nothing();
}

#[test]
fn what_a_caller_repeats_is_held_back_in_a_quiet_slot_like_a_retry() {
    let mut desk = Desk::warm(20.0);
    // Everything fails for a while, in a stack that never opens its circuits for it.
    for number in 0..60 {
        desk.stack.trial.observe(0, at(20.0), false, at(20.0 + f64::from(number) / 100.0));
    }
    let quiet =
        (0..8).map(|slot| 21.2 + f64::from(slot)).find(|now| !desk.stack.trial.retries_wait(0, at(*now)).is_zero());
    let quiet = quiet.expect("one slot in four is quiet at first");
    let first = desk.call(quiet);
    assert!(desk.sends(&first));
    let repeated = Call { caller_retry: 1, ..desk.call(quiet) };
    let orders = desk.asks(&repeated);
    assert!(matches!(orders[..], [Order::AskAgain(request, _)] if request == repeated.request), "{orders:?}");
}

#[test]
fn what_a_caller_repeats_is_no_evidence_on_load() {
    // Of what comes again more fails; while it is held back, less seems to fail.
    let begins_a_trial = |caller_retry: u32| {
        let mut desk = Desk::warm(20.0);
        for _ in 0..60 {
            let call = Call { caller_retry, ..desk.call(20.0) };
            desk.sends(&call);
            desk.ends(&call, Outcome::Failure, 20.0, 20.0);
            let other = desk.call(20.0);
            desk.serves(&other);
        }
        (20..28).any(|second| !desk.stack.trial.retries_wait(0, at(f64::from(second))).is_zero())
    };
    assert_eq!((begins_a_trial(0), begins_a_trial(1)), (true, false));
}

#[test]
fn circuits_that_let_a_call_pass_which_another_refuses_get_it_back() {
    let mut desk = Desk::warm(20.0);
    let call = Call { tenant: 1, attempt: 9, ..desk.call(20.0) };
    assert!(desk.sends(&call));
    desk.ends(&call, Outcome::Failure, 20.0, 20.0);
    // The model's circuit opens because of the other tenant; that of this tenant's part is closed.
    desk.opens(20.0);
    assert!(desk.stack.circuits.admit(&call, at(20.1)).is_err());
    assert_eq!(desk.stack.circuits.in_flight(at(20.1)), 0);
}
