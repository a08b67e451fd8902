//! Files that are not what was once written.

use super::*;

fn harm(dir: &Path, sql: &str) {
    let connection = outside(dir);
    connection.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF").unwrap();
    assert!(connection.execute(sql, []).unwrap() > 0);
}

#[tokio::test]
async fn a_damaged_request_dies_with_a_reason_and_those_behind_it_are_served() {
    for sql in [
        "UPDATE payloads SET sealed = zeroblob(length(sealed)) WHERE seq = 1",
        "UPDATE payloads SET sealed = x'' WHERE seq = 1",
        "UPDATE payloads SET sealed = (SELECT sealed FROM payloads WHERE seq = 2) WHERE seq = 1",
        "DELETE FROM payloads WHERE seq = 1",
        "UPDATE jobs SET request_id = CAST(x'ff' AS TEXT) WHERE seq = 1",
        "UPDATE jobs SET priority = 999 WHERE seq = 1",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        spool.enqueue(job("bad")).await.unwrap();
        let good = spool.enqueue(job("good")).await.unwrap();
        harm(dir.path(), sql);
        let claimed = claim(&spool, NOW).await.unwrap();
        assert_eq!(claimed.lease.id(), good, "{sql}");
        assert_eq!(claim(&spool, NOW).await, None);
        let counts = spool.counts().await.unwrap();
        assert_eq!((counts.dead, counts.queued), (1, 0), "{sql}");
        let troubles = spool.troubles();
        assert!(troubles.iter().any(|trouble| trouble.contains("its database is damaged")), "{sql}: {troubles:?}");
        let reason: String =
            outside(dir.path()).query_row("SELECT reason FROM jobs WHERE seq = 1", [], |row| row.get(0)).unwrap();
        assert!(reason.starts_with("damaged: "), "{reason}");
    }
}

#[tokio::test]
async fn a_job_in_no_known_state_is_dead_after_opening() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let bad = spool.enqueue(job("bad")).await.unwrap();
    spool.enqueue(job("good")).await.unwrap();
    harm(dir.path(), "UPDATE jobs SET state = 77 WHERE seq = 1");
    assert!(matches!(spool.get(bad).await, Err(StoreError::Damaged(_))));
    drop(spool);
    let spool = open(dir.path());
    let found = view(&spool, bad).await;
    assert_eq!(found.state, JobState::Dead);
    assert_eq!(found.last_reason.as_deref(), Some("damaged: 77 is no state of a job"));
    assert_eq!(claim_all(&spool, NOW).await, ["good"]);
}

#[tokio::test]
async fn a_damaged_answer_is_an_error_and_not_a_wrong_answer() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let lease = spool.adopt(job("first")).await.unwrap();
    spool.complete(&lease, response("answer"), NOW).await.unwrap();
    harm(dir.path(), "UPDATE responses SET sealed = zeroblob(100)");
    let found = spool.response(lease.id()).await;
    assert!(matches!(found, Err(StoreError::Damaged(_))), "{found:?}");
    assert!(spool.troubles().concat().contains("its database is damaged"), "{:?}", spool.troubles());
}

#[tokio::test]
async fn a_flipped_bit_in_any_page_never_yields_a_wrong_request() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let body = |n: usize| format!("{n:06}").repeat(1500).into_bytes();
    for n in 0..12 {
        let name = n.to_string();
        let body = body(n);
        spool.enqueue(NewJob { body, ..job(&name) }).await.unwrap();
    }
    drop(spool);
    let database = dir.path().join("spool/spool.db");
    let whole = std::fs::read(&database).unwrap();
    let pages = whole.len() / 4096;
    assert!(pages > 30);
    let (mut served, mut refused) = (0, 0);
    for page in 0..pages {
        for offset in [1, 40, 2500, 4095] {
            let mut harmed = whole.clone();
            harmed[page * 4096 + offset] ^= 0x10;
            std::fs::write(&database, harmed).unwrap();
            let Ok(spool) = try_open(settings(dir.path()), NOW) else {
                refused += 1;
                continue;
            };
            for _ in 0..12 {
                let Ok(Some(claimed)) = spool.claim("openai", NOW).await else {
                    break;
                };
                assert!((0..12).any(|n| claimed.job.body == body(n)));
                assert_eq!(claimed.job.headers, job("").headers);
                served += 1;
            }
        }
    }
    // Pages of requests are most of the file: harm to one costs one job, not the service.
    assert!(served > pages * 4 * 9, "{served} served of {pages} pages");
    assert!(refused < pages, "{refused} refused of {pages} pages");
}

#[test]
fn a_file_that_is_no_database_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    std::fs::write(dir.path().join("spool/spool.db"), vec![b'x'; 8192]).unwrap();
    let refused = try_open(settings(dir.path()), NOW).unwrap_err();
    assert!(refused.to_string().contains("move the folder away"), "{refused}");
}
