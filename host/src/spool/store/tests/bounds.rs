//! What is refused, and what makes room again.

use super::*;

#[tokio::test]
async fn the_job_bound_refuses_at_the_door_until_a_job_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.max_jobs = 2;
    let spool = try_open(settings, NOW).unwrap();
    spool.enqueue(job("first")).await.unwrap();
    let adopted = spool.adopt(job("second")).await.unwrap();
    let full = EnqueueError::Full { bound: Bound::Jobs, depth: 2, limit: 2 };
    assert_eq!(spool.enqueue(job("third")).await, Err(full.clone()));
    assert_eq!(spool.adopt(job("third")).await, Err(full));
    spool.complete(&adopted, response(""), NOW).await.unwrap();
    spool.enqueue(job("third")).await.unwrap();
}

#[tokio::test]
async fn the_byte_bound_refuses_requests_but_never_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.max_size = 100_000;
    let spool = try_open(settings, NOW).unwrap();
    let sized = |bytes| NewJob { body: vec![b'x'; bytes], ..job("sized") };
    let too_large = spool.enqueue(sized(100_000)).await;
    assert!(matches!(too_large, Err(EnqueueError::TooLarge { bytes, limit_bytes: 100_000 }) if bytes > 100_000));
    spool.enqueue(sized(80_000)).await.unwrap();
    let full = spool.enqueue(sized(30_000)).await;
    assert!(matches!(full, Err(EnqueueError::Full { bound: Bound::Bytes, limit: 100_000, .. })));

    // Far beyond the bound and beyond the page limit derived from it.
    let answer = StoredResponse { body: vec![b'y'; 4 << 20], ..response("") };
    let claimed = claim(&spool, NOW).await.unwrap();
    let id = claimed.lease.id();
    spool.complete(&claimed.lease, answer.clone(), NOW).await.unwrap();
    assert_eq!(spool.response(id).await, Ok(Some(answer)));
    assert!(spool.enqueue(job("small")).await.is_err());
}

#[tokio::test]
async fn the_page_limit_refuses_requests_that_the_accounting_let_through() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.max_size = 2 << 20;
    let spool = try_open(settings, NOW).unwrap();
    outside(dir.path()).execute_batch("CREATE TABLE hog AS SELECT zeroblob(4900000)").unwrap();
    let large = NewJob { body: vec![b'x'; 1 << 20], ..job("large") };
    let refused = spool.enqueue(large).await;
    assert!(matches!(refused, Err(EnqueueError::Unavailable(_))));
    assert_eq!(spool.counts().await.unwrap(), Counts::default());
    spool.enqueue(job("small")).await.unwrap();
}

#[tokio::test]
async fn ended_jobs_are_deleted_when_their_retention_is_over_and_the_file_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.retention = Duration::from_millis(1000);
    settings.max_size = 32 << 20;
    let spool = try_open(settings, NOW).unwrap();
    let waiting = spool.enqueue(job("waiting")).await.unwrap();
    let mut last = None;
    // More than one batch of a purge, and more pages than are kept for reuse.
    for _ in 0..300 {
        let large = NewJob { body: vec![b'x'; 30_000], ..job("large") };
        let lease = spool.adopt(large).await.unwrap();
        spool.bury(&lease, "gone", None, NOW).await.unwrap();
        last = Some(lease.id());
    }
    let pages = || -> u64 {
        outside(dir.path()).query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    let before = pages();
    assert_eq!(spool.purge_expired(NOW + 999).await, Ok(0));
    assert_eq!(spool.purge_expired(NOW + 1000).await, Ok(300));
    assert_eq!(spool.get(last.unwrap()).await, Ok(None));
    assert_eq!(view(&spool, waiting).await.state, JobState::Queued);
    let after = pages();
    assert!(before > 2000 && after < 1200, "from {before} to {after}");
}

#[tokio::test]
async fn the_oldest_queued_job_gives_the_age() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let empty = spool.counts().await.unwrap();
    assert_eq!(empty.oldest_queued_age_ms(NOW), None);
    for created_ms in [NOW - 50, NOW - 80, NOW] {
        spool.enqueue(NewJob { created_ms, ..job("aged") }).await.unwrap();
    }
    let counts = spool.counts().await.unwrap();
    assert_eq!(counts.queued, 3);
    assert_eq!(counts.oldest_queued_age_ms(NOW), Some(80));
}

#[tokio::test]
async fn a_spool_beyond_its_bounds_still_opens_and_takes_its_jobs_back() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for _ in 0..100 {
        // Long names, so that queueing them again needs pages that the file does not have yet.
        let long = NewJob { upstream: "openai".repeat(50), body: vec![b'x'; 12_000], ..job("long") };
        spool.adopt(long).await.unwrap();
    }
    drop(spool);
    let tiny = SpoolSettings { max_jobs: 1, max_size: 1, ..settings(dir.path()) };
    let spool = try_open(tiny, NOW).unwrap();
    assert_eq!(spool.counts().await.unwrap().queued, 100);
}

/// Needs a small file system of its own, so it is run by hand: its folder is named by the variable
/// `SPILLWAY_SMALL_DISK` (a tmpfs of 48 MiB will do).
#[tokio::test]
#[ignore = "needs a small file system"]
async fn a_full_disk_refuses_requests_and_still_drains_every_job() {
    let disk = std::path::PathBuf::from(std::env::var_os("SPILLWAY_SMALL_DISK").unwrap());
    let dir = tempfile::tempdir_in(&disk).unwrap();
    let large = SpoolSettings { max_size: 1 << 30, ..settings(dir.path()) };
    let spool = try_open(large.clone(), NOW).unwrap();
    let ballast = dir.path().join("spool/spool.ballast");
    assert!(ballast.exists());
    let mut ids = Vec::new();
    let refused = loop {
        let body = vec![b'x'; 100_000];
        match spool.enqueue(NewJob { body, ..job("x") }).await {
            Ok(id) => ids.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, EnqueueError::Unavailable(_)), "{refused}");
    assert!(!ballast.exists() && ids.len() > 20);
    drop(spool);
    let spool = try_open(large, NOW).unwrap();
    for id in &ids {
        assert!(spool.enqueue(job("y")).await.is_err());
        let claimed = claim(&spool, NOW).await.unwrap();
        assert_eq!(claimed.lease.id(), *id);
        let answer = response(&"z".repeat(50_000));
        spool.complete(&claimed.lease, answer, NOW).await.unwrap();
    }
    assert_eq!(spool.counts().await.unwrap().done, ids.len() as u64);
    spool.purge_expired(u64::MAX / 4).await.unwrap();
    spool.enqueue(job("after")).await.unwrap();
    assert!(ballast.exists());
}
