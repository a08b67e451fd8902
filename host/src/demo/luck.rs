//! Which calls fail where half of them do.
//!
//! The same call of the same request has the same luck in every lane. Of 32 requests in a row exactly half of the first
//! calls fail, half of the second ones, and so on: what a lane makes of it is then its own doing, and not that it had
//! more luck than another.

use spillway_mock_provider::chance::Chance;

/// So many first calls of a request are shared out evenly; later ones are left to chance.
const EVEN_CALLS: usize = 5;
/// Requests in a row that share evenly: all ways in which their first calls may go.
const EVEN_REQUESTS: usize = 1 << EVEN_CALLS;

/// Whether this call, counted from 0, of the request of this number fails.
pub(super) fn fails(seed: u64, request: usize, call: usize) -> bool {
    if call >= EVEN_CALLS {
        // Odd numbers apart, so that neighbours have nothing in common.
        let mixed =
            seed ^ (request as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (call as u64).wrapping_mul(0xbf58_476d);
        return Chance::seeded(mixed).happens(0.5);
    }
    let (block, place) = (request / EVEN_REQUESTS, request % EVEN_REQUESTS);
    let mut ways: [usize; EVEN_REQUESTS] = std::array::from_fn(|way| way);
    let mut chance = Chance::seeded(seed.wrapping_add(block as u64));
    for last in (1..EVEN_REQUESTS).rev() {
        ways.swap(last, chance.below(last + 1));
    }
    ways[place] >> call & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_first_calls_fail_and_half_of_those_that_follow_them() {
        for seed in 0..5 {
            for calls in 1..=EVEN_CALLS {
                let all_fail = |request: &usize| (0..calls).all(|call| fails(seed, *request, call));
                assert_eq!((0..EVEN_REQUESTS * 4).filter(all_fail).count(), (EVEN_REQUESTS * 4) >> calls, "{calls}");
            }
            let late = (0..4_000).filter(|request| fails(seed, *request, EVEN_CALLS)).count();
            assert!((1_800..2_200).contains(&late), "{late}");
        }
    }

    #[test]
    fn luck_is_the_same_each_time_and_another_for_another_seed() {
        let row = |seed| (0..64).map(|request| fails(seed, request, 0)).collect::<Vec<_>>();
        assert_eq!(row(1), row(1));
        assert_ne!(row(1), row(2));
    }

    #[test]
    fn whoever_fails_is_not_to_be_told_by_who_came_before() {
        let row: Vec<_> = (0..640).map(|request| fails(7, request, 0)).collect();
        let same = row.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((250..390).contains(&same), "{same}");
    }
}
