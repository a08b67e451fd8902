//! Shares of an upstream's places, each reserved for a group of callers.

use std::iter;

/// A group that has a share, by its number among those of its [`Shares`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub(crate) u8);

impl GroupId {
    /// Its number, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Of this number. There are no more than [`Shares::GROUPS_MAX`].
    pub(crate) fn at(index: usize) -> Self {
        Self(u8::try_from(index).unwrap_or(u8::MAX))
    }
}

/// Why a share cannot be reserved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NotReserved {
    /// As many groups have one as may.
    TooMany,
    /// No more than this is left of what may be reserved, or of the share of the group above.
    Left(f64),
}

/// How a share stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareStanding {
    /// Whose it is.
    pub group: GroupId,
    /// The places that are reserved for it at this limit.
    pub places: u32,
    /// Calls of the group and of those below it that are in flight.
    pub in_flight: u32,
}

/// How many calls there may be at once, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) limit: u32,
    pub(crate) taken: u32,
}

/// The places of an upstream at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// For calls that work.
    pub(crate) working: Places,
    /// For all, those included that [last](crate::AdaptiveLimit::lasts).
    pub(crate) all: Places,
}

/// By what right a call takes a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Nobody has reserved it.
    Everybodys,
    /// It is reserved for this group.
    Groups(GroupId),
}

/// Who may take a place at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims {
    /// Whether there is a place that is reserved for nobody.
    is_open: bool,
    /// For which groups there is one that is reserved for them, and for none below them.
    granted: OfEach<bool>,
    /// The places for calls that work which are kept for groups that do not use them.
    kept: u32,
}

/// Something of each group, by its number.
type OfEach<T> = [T; Shares::GROUPS_MAX];

impl Claims {
    /// Whether there is a place that is reserved for this group, and for none below it.
    pub(crate) const fn is_granted(&self, group: GroupId) -> bool {
        self.granted[group.index()]
    }

    /// The places for calls that work which are kept for groups that do not use them.
    pub(crate) const fn kept(&self) -> u32 {
        self.kept
    }
}

/// Shares of an upstream's places, each reserved for a group, and how many places each group has taken.
///
/// A share is one of all places that there are at a moment, and is rounded down: a half of three places is one, and a
/// single place is never reserved. The share of a group below another is part of the other's. As long as a group, those
/// below it included, has fewer calls in flight than its share has places, it may take any place that is free, and
/// everybody else only those that are free beyond what all groups have left of their shares. Nobody is stopped for a
/// group that needs more than its share, and a limit that shrinks takes no place back.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    /// Each behind the one that it lies below.
    groups: Vec<Group>,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    parent: Option<GroupId>,
    millionths: u32,
    /// What is not yet given to groups below it.
    millionths_left: u32,
    /// Calls of its own and of those below it.
    in_flight: u32,
    /// Those of them that last.
    lasting: u32,
}

impl Shares {
    /// Most groups with a share: all of them are looked at for each call.
    pub const GROUPS_MAX: usize = 64;
    /// Most that can be reserved of an upstream, all groups together: the rest is for whoever is in none of them, and
    /// for whoever needs more than its share.
    pub const RESERVED_MAX: f64 = 0.9;

    /// Reserves a share of all places for a group, which lies below another or below none.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn reserve(&mut self, parent: Option<GroupId>, share: f64) -> Result<GroupId, NotReserved> {
        if self.groups.len() >= Self::GROUPS_MAX {
            return Err(NotReserved::TooMany);
        }
        let millionths = millionths(share);
        let at_top = || {
            let reserved: u32 =
                self.groups.iter().filter(|group| group.parent.is_none()).map(|group| group.millionths).sum();
            self::millionths(Self::RESERVED_MAX).saturating_sub(reserved)
        };
        let left = parent.map_or_else(at_top, |parent| self.groups[parent.index()].millionths_left);
        if millionths > left {
            return Err(NotReserved::Left(f64::from(left) / f64::from(MILLION)));
        }
        if let Some(parent) = parent {
            self.groups[parent.index()].millionths_left -= millionths;
        }
        self.groups.push(Group { parent, millionths, millionths_left: millionths, in_flight: 0, lasting: 0 });
        Ok(GroupId::at(self.groups.len() - 1))
    }

    /// Whether nothing is reserved.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How all shares stand at this limit.
    pub fn standing(&self, limit: u32) -> impl Iterator<Item = ShareStanding> {
        let standing = move |(index, group): (usize, &Group)| ShareStanding {
            group: GroupId::at(index),
            places: group.places(limit),
            in_flight: group.in_flight,
        };
        self.groups.iter().enumerate().map(standing)
    }

    /// Who may take a place at this moment. It is one among those that work, and one among all.
    pub(crate) fn claims(&self, room: &Room) -> Claims {
        let mut bounds = [
            self.claims_of(room.working, |group| group.in_flight - group.lasting),
            self.claims_of(room.all, |group| group.in_flight),
        ];
        let (is_open, kept) = (bounds.iter().all(|bound| bound.is_open), bounds[0].kept);
        let mut granted = [false; Self::GROUPS_MAX];
        for (index, group) in self.groups.iter().enumerate() {
            let is_of_its_own = bounds.iter().any(|bound| !bound.is_open && bound.granted[index]);
            for bound in &mut bounds {
                // What a group above it has left is for this one, too.
                let is_from_above = group.parent.is_some_and(|parent| bound.granted[parent.index()]);
                bound.granted[index] |= bound.is_open || is_from_above;
            }
            granted[index] = is_of_its_own && bounds.iter().all(|bound| bound.granted[index]);
        }
        Claims { is_open, granted, kept }
    }

    /// The same within one bound.
    fn claims_of(&self, places: Places, taken: impl Fn(&Group) -> u32) -> Claims {
        let free = places.limit.saturating_sub(places.taken);
        // What is kept for the groups below each, and for all.
        let (mut kept_below, mut kept): (OfEach<u32>, u32) = ([0; Self::GROUPS_MAX], 0);
        let mut granted = [false; Self::GROUPS_MAX];
        for (index, group) in self.groups.iter().enumerate().rev() {
            let left = group.places(places.limit).saturating_sub(taken(group));
            granted[index] = free > 0 && left > kept_below[index];
            // What a group below it has left of its share is part of what this one has to keep.
            let kept_for_it = left.max(kept_below[index]);
            match group.parent {
                Some(parent) => kept_below[parent.index()] += kept_for_it,
                None => kept += kept_for_it,
            }
        }
        Claims { is_open: free > kept, granted, kept }
    }

    /// By what right a call takes a place now that is made for this group, or for none that has a share; `None` where
    /// it has to wait.
    pub(crate) fn right(&self, group: Option<GroupId>, claims: &Claims) -> Option<Right> {
        if claims.is_open {
            return Some(Right::Everybodys);
        }
        self.chain(group).find(|group| claims.is_granted(*group)).map(Right::Groups)
    }

    /// A call of a group has taken a place.
    pub(crate) fn taken(&mut self, group: Option<GroupId>) {
        self.each(group, |group| group.in_flight += 1);
    }

    /// A call that has a place has become something that lasts.
    pub(crate) fn lasts(&mut self, group: Option<GroupId>) {
        self.each(group, |group| group.lasting += 1);
    }

    /// A call of a group has given its place back.
    pub(crate) fn left(&mut self, group: Option<GroupId>, lasted: bool) {
        self.each(group, |group| {
            group.in_flight -= 1;
            group.lasting -= u32::from(lasted);
        });
    }

    /// The group, and those above it.
    pub(crate) fn chain(&self, group: Option<GroupId>) -> impl Iterator<Item = GroupId> {
        iter::successors(group, |group| self.groups[group.index()].parent)
    }

    /// How many groups have a share.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    fn each(&mut self, group: Option<GroupId>, mut change: impl FnMut(&mut Group)) {
        let mut next = group;
        while let Some(group) = next {
            let group = &mut self.groups[group.index()];
            change(group);
            next = group.parent;
        }
    }
}

impl Group {
    /// The whole places of its share, of so many.
    fn places(&self, limit: u32) -> u32 {
        let places = u64::from(limit) * u64::from(self.millionths) / u64::from(MILLION);
        u32::try_from(places).unwrap_or(limit)
    }
}

/// Shares are kept in whole millionths, so that their sums are exact.
const MILLION: u32 = 1_000_000;

fn millionths(share: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 0 and a million")]
    let millionths = (share.clamp(0.0, 1.0) * f64::from(MILLION)).round() as u32;
    millionths
}

#[cfg(test)]
mod tests;
