//! Failed authentication, slowed per address: who tries keys waits longer and longer for each answer.
//!
//! Only failures wait. An address may be that of many applications, behind a gateway or on this machine, and one of
//! them that has a wrong key must not slow those whose keys are right; so a right key is never late, and guessing is
//! slow because a wrong one always is. Nothing is slowed that comes through the Unix socket: who reaches it has this
//! user's rights, and could read more than keys.

use crate::runtime::clock::Clock;
use crate::runtime::sync::{Mutex, lock};
use spillway_resilience::Timestamp;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Failures of an address that are answered at once: somebody has pasted a wrong key, and tries another.
const FREE: u32 = 3;
/// How long the first one behind these waits. Each further one waits twice as long.
const DELAY_MIN: Duration = Duration::from_millis(100);
/// The longest wait: applications would rather hear that their key is wrong than time out.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// An address that has not failed for so long has never failed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);
/// Most addresses that are remembered. When there are more, the quarter that has not failed for longest is forgotten.
const ADDRESSES_MAX: usize = 4_096;
/// Most requests of one address that wait. Others hear at once that they have failed, and their connection is closed.
const WAITING_MAX_PER_ADDRESS: u32 = 16;
/// Most requests that wait in all, each of which holds a connection and its head.
const WAITING_MAX: u32 = 512;
/// The first bits of an IPv6 address, which one customer has all addresses behind (RFC 6177).
const IPV6_PREFIX_BITS: u32 = 64;

/// Who fails, and how often.
#[derive(Debug)]
pub(crate) struct FailedAuthentications {
    table: Mutex<Table>,
    clock: Clock,
}

/// What becomes of the answer to one that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slowed {
    /// It can leave.
    Answer,
    /// It can leave, and its connection is closed behind it: so many wait that no more can.
    AnswerAndClose,
}

impl FailedAuthentications {
    pub(crate) fn new(clock: Clock) -> FailedAuthentications {
        FailedAuthentications { table: Mutex::new(Table::default()), clock }
    }

    /// A request from this address has failed: waits for as long as that takes.
    pub(crate) async fn slow(&self, from: IpAddr) -> Slowed {
        let origin = Origin::of(from);
        let (delay, has_room) = {
            let mut table = lock(&self.table);
            let delay = table.failed(origin, self.clock.now());
            (delay, delay.is_zero() || table.begin_waiting(origin))
        };
        if delay.is_zero() {
            return Slowed::Answer;
        }
        if !has_room {
            return Slowed::AnswerAndClose;
        }
        // Whoever leaves in the meantime makes room as well.
        let _place = Place { of: self, origin };
        tokio::time::sleep(delay).await;
        Slowed::Answer
    }
}

/// A place among those that wait, until it is dropped.
struct Place<'a> {
    of: &'a FailedAuthentications,
    origin: Origin,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.of.table).end_waiting(self.origin);
    }
}

/// Whose addresses are taken for one: an address of IPv4, or a network of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin(u128);

impl Origin {
    fn of(address: IpAddr) -> Origin {
        match address.to_canonical() {
            // No network of IPv6 is one of these: its last 64 bits are zeros, and those of no address here are.
            IpAddr::V4(address) => Origin(address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(address) => Origin(address.to_bits() >> IPV6_PREFIX_BITS << IPV6_PREFIX_BITS),
        }
    }
}

/// What is remembered of an address.
#[derive(Debug)]
struct Failures {
    /// In a row, without a pause that is long enough to forget them.
    count: u32,
    last: Timestamp,
    waiting: u32,
}

#[derive(Debug, Default)]
struct Table {
    by_origin: HashMap<Origin, Failures>,
    waiting: u32,
}

impl Table {
    /// Notes a failure, and answers how long it waits.
    fn failed(&mut self, origin: Origin, now: Timestamp) -> Duration {
        if !self.by_origin.contains_key(&origin) && self.by_origin.len() >= ADDRESSES_MAX {
            self.forget(now);
        }
        let failures = self.by_origin.entry(origin).or_insert(Failures { count: 0, last: now, waiting: 0 });
        if now.saturating_since(failures.last) >= FORGOTTEN_AFTER {
            failures.count = 0;
        }
        (failures.count, failures.last) = (failures.count.saturating_add(1), now);
        delay(failures.count)
    }

    /// Makes room: forgets who has not failed for long, or else the quarter that has not for longest.
    fn forget(&mut self, now: Timestamp) {
        self.by_origin
            .retain(|_, failures| now.saturating_since(failures.last) < FORGOTTEN_AFTER || failures.waiting > 0);
        if self.by_origin.len() < ADDRESSES_MAX {
            return;
        }
        let mut lasts: Vec<Timestamp> = self.by_origin.values().map(|failures| failures.last).collect();
        let (_, &mut quarter, _) = lasts.select_nth_unstable(ADDRESSES_MAX / 4);
        self.by_origin.retain(|_, failures| failures.last > quarter || failures.waiting > 0);
    }

    /// Takes a place among those that wait, if there is one.
    fn begin_waiting(&mut self, origin: Origin) -> bool {
        let Some(failures) = self.by_origin.get_mut(&origin) else { return false };
        if failures.waiting >= WAITING_MAX_PER_ADDRESS || self.waiting >= WAITING_MAX {
            return false;
        }
        failures.waiting += 1;
        self.waiting += 1;
        true
    }

    fn end_waiting(&mut self, origin: Origin) {
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(failures) = self.by_origin.get_mut(&origin) {
            failures.waiting = failures.waiting.saturating_sub(1);
        }
    }
}

/// How long the so-many-th failure of an address waits.
fn delay(count: u32) -> Duration {
    match count.checked_sub(FREE + 1) {
        None => Duration::ZERO,
        Some(doublings) => {
            let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
            DELAY_MIN.saturating_mul(factor).min(DELAY_MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().expect("an address"))
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn each_failure_of_an_address_waits_longer_and_another_address_does_not() {
        let (mut table, one) = (Table::default(), origin("10.0.0.1"));
        let delays: Vec<u128> = (0..12).map(|second| table.failed(one, at(second)).as_millis()).collect();
        assert_eq!(delays, [0, 0, 0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert_eq!(table.failed(origin("10.0.0.2"), at(12)), Duration::ZERO);
        assert_eq!(table.failed(one, at(11 + 599)), DELAY_MAX);
        assert_eq!(
            table.failed(one, at(11 + 599 + 600)),
            Duration::ZERO,
            "who has not failed for long has never failed"
        );
        assert_eq!([4, 40, u32::MAX].map(delay), [DELAY_MIN, DELAY_MAX, DELAY_MAX]);
    }

    #[test]
    fn a_network_of_ipv6_is_one_origin_and_an_address_of_ipv4_is_one_however_it_is_written() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8:0:0:ffff::2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("10.0.0.1"), origin("::ffff:10.0.0.1"));
        assert_ne!(origin("10.0.0.1"), origin("10.0.0.2"));
        assert_ne!(origin("0.0.0.1"), origin("::1"));
    }

    #[test]
    fn however_many_addresses_fail_few_are_remembered_and_the_latest_are_among_them() {
        let mut table = Table::default();
        for number in 0..3 * ADDRESSES_MAX as u64 {
            let origin = Origin(u128::from(number) << IPV6_PREFIX_BITS);
            for _ in 0..=FREE {
                table.failed(origin, Timestamp::from_micros(number));
            }
            assert!(table.by_origin.len() <= ADDRESSES_MAX);
            assert_eq!(table.failed(origin, Timestamp::from_micros(number)), DELAY_MIN * 2);
        }
    }

    #[test]
    fn few_wait_of_one_address_and_few_in_all_and_whoever_leaves_makes_room() {
        let mut table = Table::default();
        let waits = |table: &mut Table, number: u128| {
            let origin = Origin(number << IPV6_PREFIX_BITS);
            table.failed(origin, at(0));
            table.begin_waiting(origin)
        };
        let of_one = (0..100).filter(|_| waits(&mut table, 1)).count();
        assert_eq!(of_one, WAITING_MAX_PER_ADDRESS as usize);
        let of_all = (2..1_000).filter(|number| waits(&mut table, *number)).count() + of_one;
        assert_eq!(of_all, WAITING_MAX as usize);
        table.end_waiting(Origin(1 << IPV6_PREFIX_BITS));
        assert!(waits(&mut table, 1) && !waits(&mut table, 1));
    }

    #[tokio::test]
    async fn whoever_has_no_place_to_wait_is_answered_at_once_and_closed() {
        let failures = FailedAuthentications::new(Clock::start());
        let from: IpAddr = "10.0.0.1".parse().expect("an address");
        for _ in 0..FREE {
            assert_eq!(failures.slow(from).await, Slowed::Answer);
        }
        let mut waiting: Vec<_> = (0..WAITING_MAX_PER_ADDRESS).map(|_| Box::pin(failures.slow(from))).collect();
        assert!(waiting.iter_mut().all(|slowed| slowed.now_or_never().is_none()), "each of them waits");
        assert_eq!(failures.slow(from).now_or_never(), Some(Slowed::AnswerAndClose));
        drop(waiting);
        assert_eq!(lock(&failures.table).waiting, 0);
    }
}
