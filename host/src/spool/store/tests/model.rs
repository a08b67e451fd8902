//! Random operations on the store and on the simplest queue that could be right.

use proptest::prelude::*;

use super::*;

const UPSTREAMS: [&str; 2] = ["anthropic", "openai"];
const MAX_JOBS: u64 = 6;
const RETENTION_MS: u64 = 40;

#[derive(Debug, Clone)]
enum Step {
    Enqueue { upstream: usize, priority: u8, lives_ms: u64, adopt: bool },
    Claim { upstream: usize },
    Settle { lease: prop::sample::Index, how: How },
    Cancel { job: prop::sample::Index },
    Purge,
    Wait { ms: u64 },
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Complete,
    Release { delay_ms: u64, counts: bool },
    Bury { answered: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let enqueue = (0..2_usize, 0..3_u8, 1..60_u64, prop::bool::weighted(0.2))
        .prop_map(|(upstream, priority, lives_ms, adopt)| Step::Enqueue { upstream, priority, lives_ms, adopt });
    let how = prop_oneof![
        Just(How::Complete),
        (0..30_u64, any::<bool>()).prop_map(|(delay_ms, counts)| How::Release { delay_ms, counts }),
        any::<bool>().prop_map(|answered| How::Bury { answered }),
    ];
    let step = prop_oneof![
        4 => enqueue,
        4 => (0..2_usize).prop_map(|upstream| Step::Claim { upstream }),
        3 => (index(), how).prop_map(|(lease, how)| Step::Settle { lease, how }),
        1 => index().prop_map(|job| Step::Cancel { job }),
        1 => Just(Step::Purge),
        2 => (1..20_u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Debug, Clone)]
struct Entry {
    id: JobId,
    upstream: usize,
    priority: u8,
    created_ms: u64,
    updated_ms: u64,
    expires_at_ms: u64,
    not_before_ms: u64,
    state: JobState,
    attempts: u32,
    crash_count: u32,
    answered: bool,
    /// Which of the granted leases holds now.
    lease: Option<usize>,
}

struct Pair {
    dir: tempfile::TempDir,
    spool: Option<Spool>,
    now_ms: u64,
    /// In order of arrival.
    entries: Vec<Entry>,
    /// All that were ever granted.
    leases: Vec<Lease>,
    /// All ids that were ever given out.
    ids: Vec<JobId>,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            dir: tempfile::tempdir().unwrap(),
            spool: None,
            now_ms: NOW,
            entries: Vec::new(),
            leases: Vec::new(),
            ids: Vec::new(),
        };
        pair.reopen();
        pair
    }

    fn spool(&self) -> Spool {
        self.spool.clone().unwrap()
    }

    fn reopen(&mut self) {
        self.spool = None;
        let settings = SpoolSettings {
            max_jobs: MAX_JOBS,
            retention: Duration::from_millis(RETENTION_MS),
            ..settings(self.dir.path())
        };
        self.spool = Some(try_open(settings, self.now_ms).unwrap());
        for entry in &mut self.entries {
            if entry.state == JobState::Leased {
                entry.crash_count += 1;
                entry.state = if entry.crash_count > CRASHES_MAX { JobState::Dead } else { JobState::Queued };
                entry.lease = None;
                entry.not_before_ms = 0;
                entry.updated_ms = self.now_ms;
            }
        }
    }

    fn active(&self) -> u64 {
        let active = self.entries.iter().filter(|entry| !entry.state.is_terminal());
        active.count() as u64
    }

    async fn apply(&mut self, step: Step) {
        match step {
            Step::Enqueue { upstream, priority, lives_ms, adopt } => {
                self.enqueue(upstream, priority, lives_ms, adopt).await;
            }
            Step::Claim { upstream } => self.claim(upstream).await,
            Step::Settle { lease, how } => {
                if !self.leases.is_empty() {
                    self.settle(lease.index(self.leases.len()), how).await;
                }
            }
            Step::Cancel { job } => {
                if !self.ids.is_empty() {
                    let id = *job.get(&self.ids);
                    self.cancel(id).await;
                }
            }
            Step::Purge => self.purge().await,
            Step::Wait { ms } => self.now_ms += ms,
            Step::Reopen => self.reopen(),
        }
    }

    async fn enqueue(&mut self, upstream: usize, priority: u8, lives_ms: u64, adopt: bool) {
        let new = NewJob {
            upstream: UPSTREAMS[upstream].to_owned(),
            priority,
            created_ms: self.now_ms,
            expires_at_ms: self.now_ms + lives_ms,
            ..job(&self.ids.len().to_string())
        };
        let spool = self.spool();
        let result = if adopt {
            let lease = spool.adopt(new.clone()).await;
            lease.map(|lease| (lease.id(), Some(lease)))
        } else {
            spool.enqueue(new.clone()).await.map(|id| (id, None))
        };
        if self.active() == MAX_JOBS {
            let full = EnqueueError::Full { bound: Bound::Jobs, depth: MAX_JOBS, limit: MAX_JOBS };
            assert_eq!(result, Err(full));
            return;
        }
        let (id, lease) = result.unwrap();
        self.ids.push(id);
        self.entries.push(Entry {
            id,
            upstream,
            priority,
            created_ms: self.now_ms,
            updated_ms: self.now_ms,
            expires_at_ms: new.expires_at_ms,
            not_before_ms: 0,
            state: if adopt { JobState::Leased } else { JobState::Queued },
            attempts: u32::from(adopt),
            crash_count: 0,
            answered: false,
            lease: lease.map(|lease| {
                self.leases.push(lease);
                self.leases.len() - 1
            }),
        });
    }

    async fn claim(&mut self, upstream: usize) {
        let claimed = self.spool().claim(UPSTREAMS[upstream], self.now_ms).await;
        let now_ms = self.now_ms;
        let expected = loop {
            for entry in &mut self.entries {
                let waits = entry.state == JobState::Queued && entry.upstream == upstream;
                if waits && entry.not_before_ms <= now_ms {
                    entry.not_before_ms = 0;
                }
            }
            // The last of the highest, seen from the back, is the first of them.
            let next = self
                .entries
                .iter_mut()
                .rev()
                .filter(|entry| entry.state == JobState::Queued && entry.upstream == upstream)
                .filter(|entry| entry.not_before_ms == 0)
                .max_by_key(|entry| entry.priority);
            match next {
                Some(entry) if entry.expires_at_ms <= now_ms => {
                    entry.state = JobState::Expired;
                    entry.updated_ms = now_ms;
                }
                next => break next,
            }
        };
        match (claimed.unwrap(), expected) {
            (None, None) => {}
            (Some(claimed), Some(entry)) => {
                entry.state = JobState::Leased;
                entry.attempts += 1;
                entry.updated_ms = now_ms;
                entry.lease = Some(self.leases.len());
                assert_eq!(claimed.lease.id(), entry.id);
                assert_eq!(claimed.attempts, entry.attempts);
                self.leases.push(claimed.lease);
            }
            (claimed, expected) => panic!("{claimed:?} instead of {expected:?}"),
        }
    }

    async fn settle(&mut self, lease: usize, how: How) {
        let (spool, now_ms) = (self.spool(), self.now_ms);
        let token = &self.leases[lease];
        let result = match how {
            How::Complete => spool.complete(token, response("done"), now_ms).await,
            How::Release { delay_ms, counts } => {
                let not_before_ms = now_ms + delay_ms;
                spool.release(token, not_before_ms, "later", counts, now_ms).await
            }
            How::Bury { answered } => {
                let last = answered.then(|| response("bad"));
                spool.bury(token, "no", last, now_ms).await
            }
        };
        let held = self.entries.iter_mut().find(|entry| entry.lease == Some(lease));
        let Some(entry) = held else {
            assert_eq!(result, Err(StoreError::StaleLease));
            return;
        };
        assert_eq!(result, Ok(()));
        entry.lease = None;
        entry.updated_ms = now_ms;
        match how {
            How::Complete => {
                entry.state = JobState::Done;
                entry.answered = true;
            }
            How::Release { delay_ms, counts } => {
                entry.state = JobState::Queued;
                entry.not_before_ms = now_ms + delay_ms;
                entry.attempts -= u32::from(!counts);
            }
            How::Bury { answered } => {
                entry.state = JobState::Dead;
                entry.answered = answered;
            }
        }
    }

    async fn cancel(&mut self, id: JobId) {
        let outcome = self.spool().cancel(id, self.now_ms).await.unwrap();
        let found = self.entries.iter_mut().find(|entry| entry.id == id);
        let expected = match found {
            None => CancelOutcome::NotFound,
            Some(entry) => match entry.state {
                JobState::Queued => {
                    entry.state = JobState::Cancelled;
                    entry.updated_ms = self.now_ms;
                    CancelOutcome::Cancelled
                }
                JobState::Leased => CancelOutcome::Running,
                ended @ (JobState::Done | JobState::Dead | JobState::Cancelled | JobState::Expired) => {
                    CancelOutcome::Finished(ended)
                }
            },
        };
        assert_eq!(outcome, expected);
    }

    async fn purge(&mut self) {
        let now_ms = self.now_ms;
        let purged = self.spool().purge_expired(now_ms).await.unwrap();
        let before = self.entries.len();
        self.entries.retain(|entry| !entry.state.is_terminal() || entry.updated_ms + RETENTION_MS > now_ms);
        let mut touched = before - self.entries.len();
        for entry in &mut self.entries {
            if entry.state == JobState::Queued && entry.expires_at_ms <= now_ms {
                entry.state = JobState::Expired;
                entry.updated_ms = now_ms;
                touched += 1;
            }
        }
        assert_eq!(purged, touched as u64);
    }

    async fn compare(&self) {
        let spool = self.spool();
        for id in &self.ids {
            let found = spool.get(*id).await.unwrap().map(|view| {
                let times = (view.created_ms, view.updated_ms, view.not_before_ms);
                let tries = (view.attempts, view.crash_count, view.has_response);
                (view.state, times, tries)
            });
            let entry = self.entries.iter().find(|entry| entry.id == *id);
            let expected = entry.map(|entry| {
                let times = (entry.created_ms, entry.updated_ms, entry.not_before_ms);
                let tries = (entry.attempts, entry.crash_count, entry.answered);
                (entry.state, times, tries)
            });
            assert_eq!(found, expected);
        }
        let counts = spool.counts().await.unwrap();
        let in_state = |state| {
            let entries = self.entries.iter().filter(|entry| entry.state == state);
            entries.count() as u64
        };
        assert_eq!(
            [counts.queued, counts.leased, counts.done, counts.dead, counts.cancelled, counts.expired],
            JobState::ALL.map(in_state)
        );
        let queued = || self.entries.iter().filter(|entry| entry.state == JobState::Queued);
        let oldest = queued().map(|entry| entry.created_ms).min();
        assert_eq!(counts.oldest_queued_created_ms, oldest);
        let runnable = (0..2).filter_map(|upstream| {
            let theirs = queued().filter(|entry| entry.upstream == upstream);
            let first = theirs.map(|entry| entry.not_before_ms).min()?;
            Some((UPSTREAMS[upstream].to_owned(), first))
        });
        let found = spool.runnable_upstreams().await.unwrap();
        assert_eq!(found, runnable.collect::<Vec<_>>());

        let recount: i64 = outside(self.dir.path())
            .query_row("SELECT COALESCE(SUM(bytes), 0) FROM jobs", [], |row| row.get(0))
            .unwrap();
        assert_eq!(counts.stored_bytes, recount.unsigned_abs());
        let orphans: i64 = outside(self.dir.path())
            .query_row(
                "SELECT (SELECT COUNT(*) FROM payloads WHERE seq NOT IN (SELECT seq FROM jobs))
                      + (SELECT COUNT(*) FROM responses WHERE seq NOT IN (SELECT seq FROM jobs))",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(orphans, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_behaves_like_a_list(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for step in steps {
                pair.apply(step).await;
                pair.compare().await;
            }
        });
    }
}
