//! What happens to the files while they are open, and to the handle meanwhile.

use std::os::unix::fs::PermissionsExt;

use super::*;
use spillway_tests::wait::within;

/// Asks for upkeep, as the dispatcher does, until the spool is open (or shut).
async fn until_it_is(open: bool, spool: &Spool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while spool.purge_expired(NOW).await.is_ok() != open {
        assert!(std::time::Instant::now() < deadline, "{:?}", spool.troubles());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_store_that_is_opened_anew_leaves_its_own_leases_alone_and_takes_back_those_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let lease = spool.adopt(job("ours")).await.unwrap();
    let other = spool.adopt(job("another's")).await.unwrap();
    let sql = "UPDATE jobs SET incarnation = zeroblob(16) WHERE request_id = 'another''s'";
    assert_eq!(outside(dir.path()).execute(sql, []), Ok(1));
    std::fs::remove_file(dir.path().join("spool/spool.lock")).unwrap();
    until_it_is(false, &spool).await;
    assert!(matches!(spool.complete(&lease, response(""), NOW).await, Err(StoreError::Shut(_))));
    until_it_is(true, &spool).await;
    assert_eq!(view(&spool, other.id()).await.state, JobState::Queued);
    assert_eq!(view(&spool, lease.id()).await.state, JobState::Leased);
    spool.complete(&lease, response("answer"), NOW).await.unwrap();
    assert_eq!(view(&spool, lease.id()).await.crash_count, 0);
    assert_eq!(spool.loss(), None);
}

#[tokio::test]
async fn a_folder_that_was_away_for_a_while_has_lost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, away) = (dir.path().join("spool"), dir.path().join("away"));
    let spool = open(dir.path());
    let id = spool.enqueue(job("first")).await.unwrap();
    std::fs::rename(&folder, &away).unwrap();
    // So that no other is made meanwhile.
    std::fs::write(&folder, "").unwrap();
    until_it_is(false, &spool).await;
    let asked = spool.get(id).await;
    assert!(matches!(asked, Err(StoreError::Shut(_))), "{asked:?}");
    assert!(!spool.promises() && spool.troubles().len() == 1, "{:?}", spool.troubles());
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    until_it_is(true, &spool).await;
    assert_eq!(claim_all(&spool, NOW).await, ["first"]);
    assert_eq!((spool.loss(), spool.troubles(), spool.promises()), (None, Vec::new(), true));
}

#[tokio::test]
async fn a_database_is_not_mixed_up_with_the_log_of_another_that_took_its_place() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let spool = open(dir.path());
    let folder = dir.path().join("spool");
    // Another with the same key, as a copy of a week ago would be.
    std::fs::create_dir(elsewhere.path().join("spool")).unwrap();
    std::fs::set_permissions(elsewhere.path().join("spool"), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::copy(folder.join("spool.key"), elsewhere.path().join("spool/spool.key")).unwrap();
    let other = open(elsewhere.path());
    let old = other.enqueue(job("of a week ago")).await.unwrap();
    drop(other);
    for n in 0..50 {
        spool.enqueue(job(&n.to_string())).await.unwrap();
        assert_eq!(spool.counts().await.unwrap().queued, n + 1, "the reader is connected as well");
    }
    std::fs::rename(elsewhere.path().join("spool/spool.db"), folder.join("spool.db")).unwrap();
    until_it_is(false, &spool).await;
    until_it_is(true, &spool).await;
    assert_eq!(view(&spool, old).await.state, JobState::Queued);
    assert_eq!(claim_all(&spool, NOW).await, ["of a week ago"]);
    let loss = spool.loss().unwrap();
    assert!(loss.contains("another one is in its place") && loss.contains("50 requests"), "{loss}");
    let sound: String = outside(dir.path()).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn what_is_committed_while_its_files_go_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let folder = dir.path().join("spool");
    let (operation, answer) = Operation::new(Kind::Admission, 0, move |store| {
        std::fs::remove_dir_all(&folder).unwrap();
        operations::enqueue(store, &job("in vain"))
    });
    spool.threads.writer.send(operation).await.unwrap();
    let answer = answer.await.unwrap();
    assert!(matches!(answer, Err(Failure::Shut(_))), "{answer:?}");
    until_it_is(true, &spool).await;
    assert_eq!(spool.counts().await.unwrap(), Counts::default());
    assert!(spool.loss().is_some_and(|loss| loss.contains("was deleted while it was in use")), "{:?}", spool.loss());
}

#[tokio::test]
async fn a_log_that_is_deleted_alone_costs_nothing_that_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for n in 0..20 {
        spool.enqueue(job(&n.to_string())).await.unwrap();
    }
    std::fs::remove_file(dir.path().join("spool/spool.db-wal")).unwrap();
    until_it_is(false, &spool).await;
    until_it_is(true, &spool).await;
    assert_eq!(claim_all(&spool, NOW).await.len(), 20);
}

#[test]
fn a_handle_that_is_dropped_while_it_is_shut_frees_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let held = open(dir.path());
    let refused = try_open(settings(dir.path()), NOW).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(held);
    let (spool, first) = Spool::start(settings(dir.path()), |latest_ms| NOW.max(latest_ms)).unwrap();
    assert!(first.wait(Duration::from_secs(60)).is_some_and(|opened| opened.is_ok()));
    drop(spool);
    assert!(within(Duration::from_secs(20), || try_open(settings(dir.path()), NOW).ok()).is_some());
}
