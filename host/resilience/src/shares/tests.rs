use super::*;
use proptest::prelude::*;

/// So many places, of which so many are taken by calls that work.
fn room(limit: u32, taken: u32) -> Room {
    let places = Places { limit, taken };
    Room { working: places, all: places }
}

/// Shares of groups, each with what it lies below.
fn shares(of: &[(Option<usize>, f64)]) -> Shares {
    let mut shares = Shares::default();
    for (parent, share) in of {
        shares.reserve(parent.map(GroupId::at), *share).expect("it can be reserved");
    }
    shares
}

fn taken(shares: &mut Shares, group: usize, calls: u32) {
    (0..calls).for_each(|_| shares.taken(Some(GroupId::at(group))));
}

#[test]
fn a_share_is_rounded_down_to_whole_places() {
    for (share, limit, places) in [
        (0.5, 4, 2),
        (0.5, 3, 1),
        (0.5, 1, 0),
        (0.9, 1, 0),
        (0.3, 10, 3),
        // Neither of the two is a whole number of places as a float.
        (0.29, 100, 29),
        (0.07, 100, 7),
        (0.000_001, 1_000_000, 1),
        (0.9, u32::MAX, 3_865_470_565),
    ] {
        let standing = shares(&[(None, share)]).standing(limit).next().expect("a share");
        assert_eq!(standing.places, places, "{share} of {limit}");
    }
}

#[test]
fn no_more_is_reserved_than_there_is_and_a_tenth_stays_for_all() {
    let mut shares = shares(&[(None, 0.5), (None, 0.3)]);
    let [first, second] = [GroupId(0), GroupId(1)];
    assert_eq!(shares.reserve(None, 0.2), Err(NotReserved::Left(0.1)));
    assert_eq!(shares.reserve(Some(first), 0.6), Err(NotReserved::Left(0.5)));
    let below = shares.reserve(Some(first), 0.4).expect("it is part of the first");
    assert_eq!(shares.reserve(Some(first), 0.2), Err(NotReserved::Left(0.1)));
    assert_eq!(shares.reserve(Some(below), 0.4).map(GroupId::index), Ok(3));
    assert_eq!(shares.reserve(Some(second), 0.3).map(GroupId::index), Ok(4));
    let mut many = Shares::default();
    for _ in 0..Shares::GROUPS_MAX {
        many.reserve(None, 0.001).expect("there is room");
    }
    assert_eq!(many.reserve(None, 0.001), Err(NotReserved::TooMany));
}

#[test]
fn others_leave_free_what_a_group_does_not_use_of_its_share() {
    use Right::{Everybodys, Groups};
    let group = GroupId(0);
    // Of four places two are the group's. Calls of the group, calls of others, and by what right each gets in.
    for (own, others, of_group, of_others) in [
        (0, 0, Some(Everybodys), Some(Everybodys)),
        (0, 1, Some(Everybodys), Some(Everybodys)),
        (0, 2, Some(Groups(group)), None),
        (1, 2, Some(Groups(group)), None),
        (1, 1, Some(Everybodys), Some(Everybodys)),
        (2, 1, Some(Everybodys), Some(Everybodys)),
        (3, 0, Some(Everybodys), Some(Everybodys)),
        (2, 2, None, None),
        (4, 0, None, None),
        // There were more places a moment ago.
        (0, 3, Some(Groups(group)), None),
        (0, 5, None, None),
    ] {
        let mut shares = shares(&[(None, 0.5)]);
        taken(&mut shares, 0, own);
        let claims = shares.claims(&room(4, own + others));
        let found = [Some(group), None].map(|group| shares.right(group, &claims));
        assert_eq!(found, [of_group, of_others], "{own} of the group's, {others} of others");
    }
}

#[test]
fn what_is_reserved_for_a_group_below_another_is_kept_from_the_others_of_that_one() {
    let [above, below] = [GroupId(0), GroupId(1)];
    let mut shares = shares(&[(None, 0.5), (Some(0), 0.2)]);
    let rights = |shares: &Shares, taken| {
        let claims = shares.claims(&room(10, taken));
        [Some(below), Some(above), None].map(|group| shares.right(group, &claims))
    };
    // Of ten places five are taken by others: the rest is the upper group's, and two of them the lower one's.
    assert_eq!(rights(&shares, 5), [Some(Right::Groups(below)), Some(Right::Groups(above)), None]);
    taken(&mut shares, 0, 3);
    assert_eq!(rights(&shares, 8), [Some(Right::Groups(below)), None, None]);
    taken(&mut shares, 1, 1);
    assert_eq!(rights(&shares, 9), [Some(Right::Groups(below)), None, None]);
    shares.left(Some(above), false);
    // A place that the upper group has left is for its members, whichever they are.
    assert_eq!(rights(&shares, 8), [Some(Right::Groups(below)), Some(Right::Groups(above)), None]);
}

#[test]
fn what_rests_takes_a_place_of_all_that_there_may_be_and_none_of_those_that_work() {
    let group = GroupId(0);
    let mut shares = shares(&[(None, 0.5)]);
    let rights = |shares: &Shares, working, all| {
        let [working, all] = [(working, 4), (all, 8)].map(|(taken, limit)| Places { limit, taken });
        let claims = shares.claims(&Room { working, all });
        [Some(group), None].map(|group| shares.right(group, &claims).is_some())
    };
    assert_eq!(rights(&shares, 1, 4), [true, false], "others rest on three of all the places that are theirs");
    taken(&mut shares, 0, 2);
    assert_eq!(rights(&shares, 3, 5), [true, true], "the group works on its share of the places for work");
    shares.lasts(Some(group));
    assert_eq!(rights(&shares, 2, 5), [true, true]);
    assert_eq!(rights(&shares, 3, 5), [true, false], "it has one of those left, since one of its calls rests");
    shares.left(Some(group), true);
    shares.left(Some(group), false);
    assert_eq!(shares.standing(4).map(|standing| standing.in_flight).sum::<u32>(), 0);
}

/// The rule as one would say it.
#[derive(Clone, Debug)]
struct Plain {
    /// What each lies below, its share in hundredths, and the calls of its own.
    groups: Vec<(Option<usize>, u32, u32)>,
}

impl Plain {
    fn in_flight(&self, group: usize) -> u32 {
        self.groups[group].2 + self.below(Some(group)).map(|below| self.in_flight(below)).sum::<u32>()
    }

    fn below(&self, above: Option<usize>) -> impl Iterator<Item = usize> {
        (0..self.groups.len()).filter(move |group| self.groups[*group].0 == above)
    }

    /// The places that are to stay free for a group: what is left of its share, or what is to stay free below it.
    fn kept_for(&self, group: usize, limit: u32) -> u32 {
        let left = (limit * self.groups[group].1 / 100).saturating_sub(self.in_flight(group));
        left.max(self.kept_below(Some(group), limit))
    }

    fn kept_below(&self, above: Option<usize>, limit: u32) -> u32 {
        self.below(above).map(|group| self.kept_for(group, limit)).sum()
    }

    /// A call may go where there is a place, and behind it as many are free as are to stay so, or it has been for one
    /// like it that a place was kept.
    fn lets_in(&self, group: Option<usize>, limit: u32, taken: u32) -> bool {
        let mut behind = self.clone();
        if let Some(group) = group {
            behind.groups[group].2 += 1;
        }
        let (kept, kept_behind) = (self.kept_below(None, limit), behind.kept_below(None, limit));
        taken < limit && (taken + 1 + kept_behind <= limit || kept_behind < kept)
    }
}

fn trees() -> impl Strategy<Value = Plain> {
    let group = (any::<prop::sample::Index>(), 1_u32..60, 0_u32..6);
    prop::collection::vec(group, 1..8).prop_map(|groups| {
        let mut plain = Plain { groups: Vec::new() };
        let mut shares = Shares::default();
        for (parent, share, calls) in groups {
            let parent = parent.index(plain.groups.len() + 1).checked_sub(1);
            // Those for which there is no room are left out.
            if shares.reserve(parent.map(GroupId::at), f64::from(share) / 100.0).is_ok() {
                plain.groups.push((parent, share, calls));
            }
        }
        plain
    })
}

proptest! {
    #[test]
    fn whoever_has_a_right_to_a_place_has_it_by_a_plain_reading_too(
        plain in trees(),
        others in 0_u32..12,
        limit in 1_u32..40,
    ) {
        let of: Vec<_> = plain.groups.iter().map(|(parent, share, _)| (*parent, f64::from(*share) / 100.0)).collect();
        let mut shares = shares(&of);
        for (group, (.., calls)) in plain.groups.iter().enumerate() {
            taken(&mut shares, group, *calls);
        }
        let in_flight = others + plain.groups.iter().map(|(.., calls)| calls).sum::<u32>();
        let claims = shares.claims(&room(limit, in_flight));
        for group in std::iter::once(None).chain((0..plain.groups.len()).map(Some)) {
            let right = shares.right(group.map(GroupId::at), &claims);
            prop_assert_eq!(right.is_some(), plain.lets_in(group, limit, in_flight), "{:?} {:?}", group, right);
        }
        prop_assert_eq!(claims.kept(), plain.kept_below(None, limit));
        prop_assert!(claims.kept() < limit, "something is always left for those who are in no group");
    }
}
