//! The ways in which the same bytes may arrive.

/// Up to this length every way to cut the bytes once is tried; longer ones are cut where chance chooses.
const CUT_EVERYWHERE_BYTES_MAX: usize = 48;
/// Up to this length bytes arrive one by one; longer ones in so many pieces, which would take long otherwise.
const PIECES_MAX: usize = 512;
/// Ways that chance chooses, of each kind. More of them cost what more bytes to try would bring to light sooner.
const WAYS: usize = 4;
/// Most cuts in such a way.
const CUTS_MAX: usize = 8;

/// Many ways to split `bytes`, always the same for the same bytes: one byte at a time, in two pieces, in several. There
/// may be empty pieces.
pub(crate) fn splits(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let seed = bytes.iter().fold(bytes.len() as u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let mut chance = fastrand::Rng::with_seed(seed);
    let one_by_one = (1..bytes.len()).step_by(bytes.len().div_ceil(PIECES_MAX).max(1)).collect();
    let mut cuts: Vec<Vec<usize>> = vec![one_by_one];
    match bytes.len() <= CUT_EVERYWHERE_BYTES_MAX {
        true => cuts.extend((0..bytes.len()).map(|cut| vec![cut])),
        false => cuts.extend((0..WAYS).map(|_| vec![chance.usize(..bytes.len())])),
    }
    for _ in 0..WAYS {
        let mut some: Vec<usize> = (0..chance.usize(..=CUTS_MAX)).map(|_| chance.usize(..=bytes.len())).collect();
        some.sort_unstable();
        cuts.push(some);
    }
    cuts.into_iter().map(move |mut cuts| {
        cuts.insert(0, 0);
        cuts.push(bytes.len());
        cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    })
}
