//! Group commit, in the writer's own thread so that what is in one group is certain.

use std::collections::HashSet;
use std::sync::mpsc as blocking;

use super::*;

type Answer<T> = oneshot::Receiver<Result<T, Failure>>;

fn writer(dir: &Path) -> Writer {
    let settings = settings(dir);
    let limits = Limits { max_jobs: settings.max_jobs, max_size: settings.max_size, retention_ms: 0 };
    let standing = Arc::new(Standing::new(ENQUEUE_DEADLINE, settings.retention));
    let mut writer = Writer::new(Home::new(settings, limits, [1; 16], Box::new(|_| NOW), standing, Box::new(|| ())));
    writer.open().unwrap();
    writer
}

fn enqueue(name: &str) -> (Operation, Answer<JobId>) {
    let job = job(name);
    Operation::undoable(Kind::Admission, 0, move |store| operations::enqueue(store, &job), operations::withdraw)
}

fn sql(sql: &'static str) -> (Operation, Answer<()>) {
    Operation::new(Kind::Settlement, 0, move |store| Ok(store.connection.execute_batch(sql)?))
}

async fn names(dir: &Path) -> Vec<String> {
    claim_all(&open(dir), NOW).await
}

#[tokio::test]
async fn what_waits_is_committed_together_and_each_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, waiting) = tokio::sync::mpsc::channel(1000);
    let mut answers = Vec::new();
    for n in 0..GROUP_MAX + 10 {
        let (operation, answer) = enqueue(&n.to_string());
        queue.try_send(operation).unwrap();
        answers.push(answer);
    }
    drop(queue);
    let writer = writer(dir.path());
    let commits = std::thread::spawn(move || writer.serve(waiting)).join();
    assert_eq!(commits.unwrap(), 2);
    let ids: HashSet<JobId> = answers.into_iter().map(|mut answer| answer.try_recv().unwrap().unwrap()).collect();
    assert_eq!(ids.len(), GROUP_MAX + 10);
    assert_eq!(names(dir.path()).await.len(), GROUP_MAX + 10);
}

#[tokio::test]
async fn many_producers_at_once_each_get_their_own_job() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let producers: Vec<_> = (0..64)
        .map(|_| {
            let spool = spool.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for _ in 0..10 {
                    ids.push(spool.enqueue(job("x")).await.unwrap());
                }
                ids
            })
        })
        .collect();
    let mut ids = HashSet::new();
    for producer in producers {
        ids.extend(producer.await.unwrap());
    }
    assert_eq!(ids.len(), 640);
    drop(spool);
    assert_eq!(open(dir.path()).counts().await.unwrap().queued, 640);
}

#[tokio::test]
async fn an_operation_that_fails_leaves_its_neighbours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (first, mut first_answer) = enqueue("first");
    let (bad, mut bad_answer) = sql("DELETE FROM jobs; INSERT INTO payloads (seq, sealed) VALUES (99, x'00')");
    let (last, mut last_answer) = enqueue("last");
    writer.serve_group(vec![first, bad, last]);
    assert!(first_answer.try_recv().unwrap().is_ok());
    assert!(bad_answer.try_recv().unwrap().is_err());
    assert!(last_answer.try_recv().unwrap().is_ok());
    drop(writer);
    assert_eq!(names(dir.path()).await, ["first", "last"]);
}

#[tokio::test]
async fn an_operation_without_space_takes_nobody_down_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (first, mut first_answer) = enqueue("first");
    let (bad, mut bad_answer) = Operation::new(Kind::Admission, 0, |store| {
        let sql = "CREATE TABLE hog AS SELECT zeroblob(100000000)";
        Ok(store.connection.execute_batch(sql)?)
    });
    let (last, mut last_answer) = enqueue("last");
    writer.serve_group(vec![first, bad, last]);
    assert!(first_answer.try_recv().unwrap().is_ok());
    assert!(bad_answer.try_recv().unwrap().unwrap_err().is_no_space());
    assert!(last_answer.try_recv().unwrap().is_ok());
    drop(writer);
    assert_eq!(names(dir.path()).await, ["first", "last"]);
}

#[tokio::test]
async fn a_failed_commit_acknowledges_nobody_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (first, mut first_answer) = enqueue("first");
    // Succeeds by itself; what it violates is only checked by the commit.
    let (bad, mut bad_answer) =
        sql("PRAGMA defer_foreign_keys = ON; INSERT INTO payloads (seq, sealed) VALUES (99, x'00')");
    writer.serve_group(vec![first, bad]);
    assert!(first_answer.try_recv().unwrap().is_err());
    assert!(bad_answer.try_recv().unwrap().is_err());

    let (next, mut next_answer) = enqueue("next");
    writer.serve_group(vec![next]);
    assert!(next_answer.try_recv().unwrap().is_ok());
    drop(writer);
    assert_eq!(names(dir.path()).await, ["next"]);
}

#[tokio::test]
async fn a_transaction_that_was_ended_early_acknowledges_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (first, mut first_answer) = enqueue("first");
    let (bad, mut bad_answer) = sql("ROLLBACK");
    writer.serve_group(vec![first, bad]);
    assert!(first_answer.try_recv().unwrap().is_err());
    assert!(bad_answer.try_recv().unwrap().is_err());
    drop(writer);
    assert_eq!(names(dir.path()).await, [""; 0]);
}

#[tokio::test]
async fn a_request_whose_caller_has_gone_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (left_before, answer) = Operation::undoable(
        Kind::Admission,
        0,
        |_| -> Result<(), Failure> { panic!("nobody waits for this") },
        |_, ()| Ok(()),
    );
    drop(answer);
    // Leaves while the transaction is under way, when the job is already in it.
    let gone = job("left during");
    let (hang_up, hung_up) = blocking::channel::<Answer<JobId>>();
    let (left_during, answer) = Operation::undoable(
        Kind::Admission,
        0,
        move |store| {
            drop(hung_up.try_recv());
            operations::enqueue(store, &gone)
        },
        operations::withdraw,
    );
    hang_up.send(answer).unwrap();
    let (stays, mut stays_answer) = enqueue("stays");
    writer.serve_group(vec![left_before, left_during, stays]);
    assert!(stays_answer.try_recv().unwrap().is_ok());
    drop(writer);
    assert_eq!(names(dir.path()).await, ["stays"]);
}

#[tokio::test]
async fn a_claim_that_nobody_heard_of_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (operation, mut answer) = enqueue("first");
    writer.serve_group(vec![operation]);
    answer.try_recv().unwrap().unwrap();

    let (hang_up, hung_up) = blocking::channel::<Answer<Option<ClaimedJob>>>();
    let (operation, answer) = Operation::undoable(
        Kind::Settlement,
        0,
        move |store| {
            drop(hung_up.try_recv());
            claims::claim(store, "openai", NOW)
        },
        |store, claimed: Option<ClaimedJob>| claims::unclaim(store, &claimed.unwrap().lease, NOW),
    );
    hang_up.send(answer).unwrap();
    writer.serve_group(vec![operation]);
    drop(writer);
    let claimed = claim(&open(dir.path()), NOW).await.unwrap();
    assert_eq!((claimed.attempts, claimed.lease.attempt()), (1, 2));
}

#[tokio::test]
async fn a_settlement_stands_even_if_its_caller_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (operation, mut answer) = Operation::new(Kind::Admission, 0, |store| operations::adopt(store, &job("first")));
    writer.serve_group(vec![operation]);
    let lease = answer.try_recv().unwrap().unwrap();
    let id = lease.id();
    let (operation, answer) =
        Operation::new(Kind::Settlement, 0, move |store| operations::complete(store, &lease, &response("answer"), NOW));
    drop(answer);
    writer.serve_group(vec![operation]);
    drop(writer);
    let spool = open(dir.path());
    assert_eq!(spool.response(id).await, Ok(Some(response("answer"))));
}

#[tokio::test]
async fn a_request_that_misses_the_deadline_is_refused_and_never_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.enqueue_deadline = Duration::from_millis(20);
    // The disk hangs until it is told to go on.
    let (go_on, hang) = blocking::channel::<()>();
    let (operation, hung) = Operation::new(Kind::Settlement, 0, move |_| {
        let _ = hang.recv();
        Ok(())
    });
    spool.threads.writer.send(operation).await.unwrap();
    let refused = spool.enqueue(job("late")).await;
    assert!(matches!(refused, Err(EnqueueError::Unavailable(_))));
    drop(go_on);
    hung.await.unwrap().unwrap();

    spool.enqueue_deadline = ENQUEUE_DEADLINE;
    spool.enqueue(job("next")).await.unwrap();
    assert_eq!(claim_all(&spool, NOW).await, ["next"]);
}

#[tokio::test]
async fn reads_are_answered_while_a_write_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let id = spool.enqueue(job("first")).await.unwrap();
    let (go_on, hang) = blocking::channel::<()>();
    let (operation, hung) = Operation::new(Kind::Settlement, 0, move |store| {
        store.connection.execute_batch("DELETE FROM jobs")?;
        let _ = hang.recv();
        Ok(())
    });
    spool.threads.writer.send(operation).await.unwrap();
    assert_eq!(view(&spool, id).await.state, JobState::Queued);
    drop(go_on);
    hung.await.unwrap().unwrap();
    assert_eq!(spool.get(id).await, Ok(None));
}
