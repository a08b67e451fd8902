//! Counts that many threads add to, kept apart by thread, so that no core waits for a cache line of another's.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// So many threads add without meeting each other. Where there are more, some share their places, and nothing is lost.
const SHARDS: usize = 8;
/// Counts in one cache line.
const LINE: usize = 8;

/// Each thread takes the next shard, and keeps it.
static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; LINE]);

/// A fixed number of counts. Adding to one is one atomic addition at a place that hardly any other thread uses; reading
/// one adds up all shards. Counts wrap, so that adding the complement of 1 takes 1 away.
#[derive(Debug)]
pub(super) struct Cells {
    lines: Box<[Line]>,
    lines_per_shard: usize,
}

impl Cells {
    /// So many counts, all 0.
    pub(super) fn new(count: usize) -> Cells {
        let lines_per_shard = count.div_ceil(LINE);
        let lines = std::iter::repeat_with(Line::default).take(lines_per_shard * SHARDS);
        Cells { lines: lines.collect(), lines_per_shard }
    }

    /// Adds to one of the counts. One that is not there is left alone.
    pub(super) fn add(&self, index: usize, amount: u64) {
        // A thread that ends may have lost its shard already.
        let shard = SHARD.try_with(|shard| *shard).unwrap_or(0);
        if let Some(cell) = self.cell(shard, index) {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Takes away from one of the counts what was added to it before, by whichever thread.
    pub(super) fn take(&self, index: usize, amount: u64) {
        self.add(index, amount.wrapping_neg());
    }

    /// One of the counts.
    pub(super) fn sum(&self, index: usize) -> u64 {
        let cells = (0..SHARDS).filter_map(|shard| self.cell(shard, index));
        cells.fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }

    fn cell(&self, shard: usize, index: usize) -> Option<&AtomicU64> {
        if index / LINE >= self.lines_per_shard {
            return None;
        }
        let line = self.lines.get(shard * self.lines_per_shard + index / LINE)?;
        line.0.get(index % LINE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn what_many_threads_add_and_take_is_neither_lost_nor_mixed_up() {
        const EACH: u64 = 10_000;
        let cells = Cells::new(11);
        thread::scope(|scope| {
            for _ in 0..SHARDS * 2 + 1 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        cells.add(0, 1);
                        cells.add(10, 3);
                        cells.take(10, 1);
                    }
                });
            }
        });
        let threads = SHARDS as u64 * 2 + 1;
        assert_eq!((cells.sum(0), cells.sum(10)), (threads * EACH, 2 * threads * EACH));
        assert!((1..10).all(|index| cells.sum(index) == 0));
    }

    #[test]
    fn what_was_added_by_one_thread_is_taken_by_another() {
        let cells = Cells::new(1);
        cells.add(0, 1);
        thread::scope(|scope| scope.spawn(|| cells.take(0, 1)).join()).expect("it ends well");
        assert_eq!(cells.sum(0), 0);
    }

    #[test]
    fn a_count_that_is_not_there_is_left_alone() {
        let cells = Cells::new(1);
        cells.add(LINE, 1);
        assert_eq!((cells.sum(0), cells.sum(LINE)), (0, 0));
    }
}
