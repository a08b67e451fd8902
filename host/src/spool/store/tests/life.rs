//! A job's life: claims, leases, restarts and the ways to end.

use super::*;

#[tokio::test]
async fn an_enqueued_job_is_whole_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let id = spool.enqueue(job("first")).await.unwrap();
    drop(spool);

    let spool = open(dir.path());
    let claimed = claim(&spool, NOW).await.unwrap();
    assert_eq!(claimed.lease.id(), id);
    assert_eq!(claimed.job, job("first"));
    assert_eq!((claimed.attempts, claimed.lease.attempt()), (1, 1));
}

#[tokio::test]
async fn a_job_is_in_the_files_as_soon_as_its_id_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let id = spool.enqueue(job("first")).await.unwrap();

    // The files as they are at this moment are what a killed process would leave.
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("spool")).unwrap();
    for name in ["spool.db", "spool.db-wal", "spool.key"] {
        let from = dir.path().join("spool").join(name);
        std::fs::copy(from, copy.path().join("spool").join(name)).unwrap();
    }
    std::fs::write(copy.path().join("spool/spool.lock"), "").unwrap();
    assert_eq!(view(&open(copy.path()), id).await.state, JobState::Queued);
}

#[tokio::test]
async fn a_completed_job_shows_its_answer_verbatim_and_forgets_its_request() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let id = spool.enqueue(job("first")).await.unwrap();
    assert_eq!(spool.response(id).await, Ok(None));
    let lease = claim(&spool, NOW).await.unwrap().lease;
    assert_eq!(view(&spool, id).await.state, JobState::Leased);
    let before = spool.counts().await.unwrap().stored_bytes;
    spool.complete(&lease, response("answer"), NOW + 5).await.unwrap();

    assert_eq!(spool.response(id).await, Ok(Some(response("answer"))));
    let view = view(&spool, id).await;
    assert_eq!(view.state, JobState::Done);
    assert_eq!((view.updated_ms, view.has_response), (NOW + 5, true));
    let requests: i64 = outside(dir.path()).query_row("SELECT COUNT(*) FROM payloads", [], |row| row.get(0)).unwrap();
    assert_eq!(requests, 0);
    assert!(spool.counts().await.unwrap().stored_bytes < before);
}

#[tokio::test]
async fn a_restart_queues_what_was_running_and_makes_its_leases_stale() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let id = spool.enqueue(job("first")).await.unwrap();
    let old = claim(&spool, NOW).await.unwrap().lease;
    drop(spool);

    let spool = open(dir.path());
    let found = view(&spool, id).await;
    assert_eq!(found.state, JobState::Queued);
    assert_eq!((found.attempts, found.crash_count), (1, 1));
    let late = spool.complete(&old, response("late"), NOW).await;
    assert_eq!(late, Err(StoreError::StaleLease));

    let again = claim(&spool, NOW).await.unwrap();
    assert_eq!((again.attempts, again.lease.attempt()), (2, 2));
    let late = spool.complete(&old, response("late"), NOW).await;
    assert_eq!(late, Err(StoreError::StaleLease));
    assert_eq!(view(&spool, id).await.state, JobState::Leased);
}

#[tokio::test]
async fn a_lease_settles_its_job_only_once_and_never_after_another_claim() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let id = spool.enqueue(job("first")).await.unwrap();
    let first = claim(&spool, NOW).await.unwrap().lease;
    // Not counting gives the attempt back, but must not give the old lease a second life.
    spool.release(&first, 0, "breaker open", false, NOW).await.unwrap();
    let second = claim(&spool, NOW).await.unwrap();
    assert_eq!(second.attempts, 1);

    let stale = Err(StoreError::StaleLease);
    assert_eq!(spool.complete(&first, response("late"), NOW).await, stale);
    assert_eq!(spool.release(&first, 0, "late", true, NOW).await, stale);
    assert_eq!(spool.bury(&first, "late", None, NOW).await, stale);
    assert_eq!(view(&spool, id).await.state, JobState::Leased);

    spool.complete(&second.lease, response("answer"), NOW).await.unwrap();
    let again = spool.complete(&second.lease, response("again"), NOW).await;
    assert_eq!(again, stale);
    assert_eq!(spool.response(id).await, Ok(Some(response("answer"))));
}

#[tokio::test]
async fn a_job_that_ends_the_process_too_often_is_poison() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    let id = spool.enqueue(job("poison")).await.unwrap();
    for crashes in 1..=CRASHES_MAX {
        claim(&spool, NOW).await.unwrap();
        drop(spool);
        spool = open(dir.path());
        let found = view(&spool, id).await;
        assert_eq!((found.state, found.crash_count), (JobState::Queued, crashes));
    }
    claim(&spool, NOW).await.unwrap();
    drop(spool);

    let spool = open(dir.path());
    let found = view(&spool, id).await;
    assert_eq!(found.state, JobState::Dead);
    assert_eq!(found.last_reason.as_deref(), Some("poison: the process ended 4 times while running it"));
    assert_eq!(claim(&spool, NOW).await, None);
}

#[tokio::test]
async fn claims_go_by_priority_then_by_arrival_and_only_to_their_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for (name, upstream, priority) in [
        ("low", "openai", 1),
        ("high", "openai", 200),
        ("other", "anthropic", 255),
        ("low too", "openai", 1),
        ("high too", "openai", 200),
    ] {
        let upstream = upstream.to_owned();
        spool.enqueue(NewJob { upstream, priority, ..job(name) }).await.unwrap();
    }
    assert_eq!(spool.runnable_upstreams().await.unwrap(), [("anthropic".to_owned(), 0), ("openai".to_owned(), 0)]);
    assert_eq!(claim_all(&spool, NOW).await, ["high", "high too", "low", "low too"]);
    assert_eq!(spool.runnable_upstreams().await.unwrap(), [("anthropic".to_owned(), 0)]);
}

#[tokio::test]
async fn a_released_job_waits_for_its_time_and_then_has_its_old_place() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let id = spool.enqueue(job("first")).await.unwrap();
    let lease = claim(&spool, NOW).await.unwrap().lease;
    spool.release(&lease, NOW + 100, "429", true, NOW + 1).await.unwrap();
    let found = view(&spool, id).await;
    assert_eq!((found.state, found.attempts), (JobState::Queued, 1));
    assert_eq!(found.not_before_ms, NOW + 100);
    assert_eq!(found.last_reason.as_deref(), Some("429"));
    assert_eq!(claim(&spool, NOW + 99).await, None);
    assert_eq!(spool.runnable_upstreams().await.unwrap(), [("openai".to_owned(), NOW + 100)]);

    spool.enqueue(job("second")).await.unwrap();
    assert_eq!(claim_all(&spool, NOW + 100).await, ["first", "second"]);
    assert_eq!(view(&spool, id).await.attempts, 2);
}

#[tokio::test]
async fn a_buried_job_keeps_its_reason_and_its_last_answer() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let id = spool.enqueue(job("first")).await.unwrap();
    let lease = claim(&spool, NOW).await.unwrap().lease;
    let reason = "ü".repeat(2000);
    spool.bury(&lease, reason, Some(response("400")), NOW).await.unwrap();
    let found = view(&spool, id).await;
    assert_eq!(found.state, JobState::Dead);
    assert_eq!(found.last_reason, Some("ü".repeat(512)));
    assert_eq!(spool.response(id).await, Ok(Some(response("400"))));
}

#[tokio::test]
async fn an_adopted_job_is_leased_from_the_start_and_queued_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let done = spool.adopt(job("done")).await.unwrap();
    let lost = spool.adopt(job("lost")).await.unwrap();
    assert_eq!(claim(&spool, NOW).await, None);
    spool.complete(&done, response("answer"), NOW).await.unwrap();
    drop(spool);

    let spool = open(dir.path());
    assert_eq!(view(&spool, done.id()).await.state, JobState::Done);
    let again = claim(&spool, NOW).await.unwrap();
    assert_eq!((again.lease.id(), again.attempts), (lost.id(), 2));
}

#[tokio::test]
async fn only_a_queued_job_can_be_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let id = spool.enqueue(job("first")).await.unwrap();
    let unknown: JobId = format!("job_{}", "0".repeat(32)).parse().unwrap();
    let cancel = async |id| spool.cancel(id, NOW).await.unwrap();
    assert_eq!(cancel(unknown).await, CancelOutcome::NotFound);
    assert_eq!(cancel(id).await, CancelOutcome::Cancelled);
    let ended = CancelOutcome::Finished(JobState::Cancelled);
    assert_eq!(cancel(id).await, ended);
    assert_eq!(claim(&spool, NOW).await, None);

    let running = spool.adopt(job("second")).await.unwrap();
    assert_eq!(cancel(running.id()).await, CancelOutcome::Running);
}

#[tokio::test]
async fn a_clock_hears_of_the_latest_change_that_is_kept_so_that_it_is_not_behind() {
    let opened = |dir: &Path| {
        let (told, heard) = std::sync::mpsc::channel();
        let (_spool, first) = Spool::start(settings(dir), move |latest_ms| {
            told.send(latest_ms).unwrap();
            NOW.max(latest_ms)
        })
        .unwrap();
        first.wait(Duration::from_secs(60)).unwrap().unwrap();
        heard.recv().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(opened(dir.path()), 0, "nothing is known");
    let spool = open(dir.path());
    spool.enqueue(job("first")).await.unwrap();
    let lease = claim(&spool, NOW + 5).await.unwrap().lease;
    spool.release(&lease, NOW + 3_605, "a pause", false, NOW + 5).await.unwrap();
    drop(spool);
    assert_eq!(opened(dir.path()), NOW + 5);
}

#[tokio::test]
async fn a_queued_job_expires_at_its_time_whether_purged_or_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let brief = |name| NewJob { expires_at_ms: NOW + 10, ..job(name) };
    let purged = spool.enqueue(brief("purged")).await.unwrap();
    assert_eq!(spool.purge_expired(NOW + 9).await, Ok(0));
    assert_eq!(spool.purge_expired(NOW + 10).await, Ok(1));
    assert_eq!(view(&spool, purged).await.state, JobState::Expired);

    let claimed = spool.enqueue(brief("claimed")).await.unwrap();
    spool.enqueue(job("lasting")).await.unwrap();
    assert_eq!(claim_all(&spool, NOW + 10).await, ["lasting"]);
    assert_eq!(view(&spool, claimed).await.state, JobState::Expired);
}

#[tokio::test]
async fn a_lease_of_another_process_with_the_same_number_is_stale() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let lease = spool.adopt(job("first")).await.unwrap();
    let foreign = Lease { incarnation: [0; 16], ..lease.clone() };
    let late = spool.complete(&foreign, response("late"), NOW).await;
    assert_eq!(late, Err(StoreError::StaleLease));
    spool.complete(&lease, response("answer"), NOW).await.unwrap();
}
