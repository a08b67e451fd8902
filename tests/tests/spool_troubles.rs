//! The spool fails without taking traffic along, promises nothing that it cannot keep, says what is wrong, and recovers.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::{chat, chat_of, chat_with, message};
use spillway_tests::http::{Request, Response, get};
use spillway_tests::provider::{Failure, Provider, body, fail, healthy};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A model that the provider does not serve at present, so that whoever asks for it is promised an answer instead. It has
/// an upstream of its own, whose circuit opens at the first failure and soon probes.
const LATER: &str = "served-later";

/// A job that nobody has ever been promised.
const UNKNOWN: &str = "/spillway/jobs/job_00000000000000000000000000000000";

fn setup(provider: &Provider) -> Setup {
    let breaker = "consecutive_failures = 1\ncooldown = \"100ms\"\ncooldown_max = \"100ms\"";
    Setup::with(provider)
        .set("upstreams.later", &format!("url = \"{}\"\ndialect = \"openai\"", provider.url()))
        .set("upstreams.later.retry", "max_attempts = 1")
        .set("upstreams.later.breaker", breaker)
}

fn refuse_later(provider: &Provider) {
    provider.when(body(|seen: &Value| seen["model"] == LATER), fail(Failure::ServerError));
}

fn later() -> Request {
    chat_of(LATER).path("/later/v1/chat/completions").header("prefer", "respond-async")
}

/// The place of a job that is promised, as soon as one is.
#[track_caller]
fn promised(spillway: &Spillway) -> String {
    eventually("something is promised", || place(&spillway.send(&later())))
}

fn place(answer: &Response) -> Option<String> {
    (answer.status() == 202).then(|| answer.header("location").expect("a place").to_owned())
}

/// What `/readyz` says besides that it is ready, and besides what kind of file system the tests' folder lies on.
#[track_caller]
fn troubles(spillway: &Spillway) -> Vec<String> {
    let ready = spillway.admin(&get("/readyz"));
    let text = ready.text();
    let mut lines = text.lines();
    assert_eq!((ready.status(), lines.next()), (200, Some("ready")), "{text}");
    lines.filter(|line| !line.contains(" lies on ")).map(str::to_owned).collect()
}

#[track_caller]
fn wait_for_trouble(spillway: &Spillway, word: &str) -> String {
    eventually(&format!("/readyz says {word:?}"), || {
        troubles(spillway).into_iter().find(|trouble| trouble.starts_with("spool: ") && trouble.contains(word))
    })
}

/// Live traffic is served, also for a caller that would take a promise; nothing is promised, with this reason.
#[track_caller]
fn serves_and_promises_nothing(spillway: &Spillway, reason: &str) {
    for live in
        [chat(), message(), chat().header("prefer", "respond-async"), chat().header("prefer", "respond-async, wait=5")]
    {
        assert_eq!(spillway.send(&live).status(), 200, "{reason}");
    }
    let refused = spillway.send(&later());
    assert_eq!((refused.status(), refused.refusal()), (503, Some("spillway_spool_unavailable")), "{}", refused.text());
    assert!(refused.text().contains(reason), "{reason}: {}", refused.text());
    assert!(refused.header("retry-after").is_some() && refused.header("location").is_none());
    wait_for_trouble(spillway, reason);
}

/// The data folder, which need not be there yet.
fn data(setup: &Setup) -> PathBuf {
    setup.folder().join("spillway-data")
}

fn make_data(setup: &Setup) -> PathBuf {
    let data = data(setup);
    fs::create_dir(&data).expect("a folder");
    fs::set_permissions(&data, Permissions::from_mode(0o700)).expect("a mode");
    data
}

#[test]
fn a_spool_that_cannot_be_opened_keeps_nobody_from_being_served_and_opens_by_itself_when_it_can_be() {
    type Deed = fn(&Path);
    let cases: [(&str, Deed, Deed); 5] = [
        (
            "spillway-data: ",
            |data| {
                fs::remove_dir(data).expect("gone");
                fs::write(data, "a file in its place").expect("a file");
            },
            |data| fs::remove_file(data).expect("gone"),
        ),
        (
            "chmod 700",
            |data| {
                fs::write(data.join("mine.txt"), "").expect("a file");
                fs::set_permissions(data, Permissions::from_mode(0o755)).expect("a mode");
            },
            |data| fs::set_permissions(data, Permissions::from_mode(0o700)).expect("a mode"),
        ),
        (
            "file is not a database",
            |data| {
                fs::write(data.join("spool.key"), [7; 32]).expect("a key");
                fs::write(data.join("spool.db"), vec![b'x'; 8_192]).expect("a file");
            },
            |data| fs::remove_file(data.join("spool.db")).expect("gone"),
        ),
        (
            "a key has 32 bytes and this file has 5",
            |data| fs::write(data.join("spool.key"), "short").expect("a key"),
            |data| fs::remove_file(data.join("spool.key")).expect("gone"),
        ),
        (
            "spool.lock",
            |data| fs::create_dir(data.join("spool.lock")).expect("a folder"),
            |data| fs::remove_dir(data.join("spool.lock")).expect("gone"),
        ),
    ];
    for (reason, spoil, mend) in cases {
        let provider = Provider::start();
        refuse_later(&provider);
        let setup = setup(&provider);
        let data = make_data(&setup);
        spoil(&data);
        let spillway = setup.start();
        serves_and_promises_nothing(&spillway, reason);
        spillway.log().wait_for(&["the spool cannot be opened", reason]);
        assert!(spillway.status()["queue"]["error"].as_str().is_some_and(|error| error.contains(reason)), "{reason}");
        for asked in [UNKNOWN.to_owned(), format!("{UNKNOWN}/result")] {
            let answer = spillway.send(&get(&asked));
            assert_eq!((answer.status(), answer.refusal()), (503, Some("spillway_spool_unavailable")), "{reason}");
        }
        assert!(spillway.metric("spillway_spool_troubles") >= 1.0, "{reason}");
        mend(&data);
        let job = promised(&spillway);
        assert!(!troubles(&spillway).iter().any(|trouble| trouble.contains("can be kept")), "{reason}");
        provider.heal();
        assert_eq!(spillway.wait_for_job(&job)["status"], "done", "{reason}");
        assert_eq!(spillway.send(&get(UNKNOWN)).status(), 404, "{reason}");
    }
}

#[test]
fn a_second_spillway_on_the_same_folder_serves_and_takes_the_jobs_over_when_the_first_has_ended() {
    let provider = Provider::start();
    refuse_later(&provider);
    let mut first = setup(&provider).start();
    let job = promised(&first);
    let data = first.folder().join("spillway-data");
    let mut second = setup(&provider).set("spool", &format!("dir = \"{}\"", data.display())).start();
    serves_and_promises_nothing(&second, "already uses the spool folder");
    assert_eq!(second.send(&get(&job)).status(), 503, "it may well be there");
    assert_eq!(first.send(&get(&job)).status(), 200);

    // What the second learns of its providers is not written over what the first knows, not even at the end.
    provider.when(body(|seen: &Value| seen["model"] == "down"), fail(Failure::ServerError));
    eventually("the second has opened a circuit", || {
        second.send(&chat_of("down"));
        let breakers = second.upstream("openai")["breakers"].clone();
        breakers.as_array().is_some_and(|all| all.iter().any(|one| one["state"] == "open")).then_some(())
    });
    second.terminate();
    second.start_again();
    let circuits = fs::read_to_string(data.join("circuits.json")).unwrap_or_default();
    assert!(!circuits.contains("\"down\""), "{circuits}");

    first.kill();
    provider.heal();
    eventually("the second has the job", || (second.send(&get(&job)).status() == 200).then_some(()));
    assert_eq!(second.wait_for_job(&job)["status"], "done");
}

/// A file system of its own, in memory, so that a test can fill it. `None` where that is not permitted.
struct Disk(TempDir);

impl Disk {
    fn of_mebibytes(size: u64) -> Option<Disk> {
        let folder = TempDir::new().expect("a folder");
        let options = format!("size={size}m,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(folder.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Disk(folder));
        }
        println!("skipped: no file system can be mounted here");
        None
    }

    fn dir(&self) -> String {
        format!("dir = \"{}\"", self.0.path().join("data").display())
    }

    /// Leaves so many bytes free.
    fn fill_up_to(&self, bytes: u64) {
        let free = free_bytes(self.0.path());
        let mut file = File::options().create(true).append(true).open(self.filling()).expect("a file");
        let chunk = vec![1; usize::try_from(free.saturating_sub(bytes)).expect("a size")];
        // It may be a page less.
        let _ = file.write_all(&chunk);
    }

    fn empty(&self) {
        fs::remove_file(self.filling()).expect("gone");
    }

    fn filling(&self) -> PathBuf {
        self.0.path().join("filling")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still uses it keeps it for as long.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn free_bytes(dir: &Path) -> u64 {
    let found = rustix::fs::statvfs(dir).expect("a file system");
    found.f_bavail * found.f_frsize
}

#[test]
fn a_full_disk_at_the_start_is_told_with_its_figures_and_over_when_there_is_room() {
    for (left, figures) in [(0, "needs 32.0 MiB free, 0 bytes are"), (30 << 20, "needs 32.0 MiB free, 29.")] {
        let Some(disk) = Disk::of_mebibytes(80) else { return };
        disk.fill_up_to(left);
        let provider = Provider::start();
        refuse_later(&provider);
        let spillway = setup(&provider).set("spool", &disk.dir()).start();
        serves_and_promises_nothing(&spillway, figures);
        disk.empty();
        let job = promised(&spillway);
        assert_eq!(troubles(&spillway), [""; 0], "{figures}");
        provider.heal();
        assert_eq!(spillway.wait_for_job(&job)["status"], "done");
    }
}

#[test]
fn a_disk_that_fills_up_while_it_is_in_use_is_told_with_its_figures_and_over_when_there_is_room() {
    // With a ballast, and with a spool too small to keep one.
    for (size, figures) in [("1GiB", "needs 32.0 MiB free"), ("16MiB", "needs 1.0 MiB free")] {
        let Some(disk) = Disk::of_mebibytes(80) else { return };
        let provider = Provider::start();
        refuse_later(&provider);
        let mut spillway = setup(&provider).set("spool", &format!("{}\nmax_size = \"{size}\"", disk.dir())).start();
        let job = promised(&spillway);
        disk.fill_up_to(0);
        let mut kept = vec![job];
        let refused = eventually("it is refused", || {
            let answer = spillway.send(&later());
            kept.extend(place(&answer));
            (answer.status() != 202).then_some(answer)
        });
        assert_eq!(refused.refusal(), Some("spillway_spool_unavailable"), "{}", refused.text());
        serves_and_promises_nothing(&spillway, figures);
        disk.empty();
        kept.push(promised(&spillway));
        assert_eq!(troubles(&spillway), [""; 0], "{size}");
        spillway.restart();
        provider.heal();
        for job in &kept {
            assert_eq!(spillway.wait_for_job(job)["status"], "done", "{size}");
        }
    }
}

#[test]
fn a_caller_that_would_take_a_promise_is_served_as_patiently_as_others_while_none_is_made() {
    let provider = Provider::start();
    let limits = "patience = \"10s\"\ntokens_per_minute = 6000";
    let setup = setup(&provider).set("upstreams.openai.limits", limits);
    fs::write(data(&setup), "a file in its place").expect("a file");
    let spillway = setup.start();
    // Half a second's worth of debt.
    provider.next(healthy().usage(6_000, 50));
    let small = chat_with(json!({"max_tokens": 10}));
    assert_eq!(spillway.send(&small).status(), 200);
    let answer = spillway.send(&small.header("prefer", "respond-async"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

#[test]
fn a_data_folder_that_ends_with_its_container_is_named() {
    let Some(disk) = Disk::of_mebibytes(80) else { return };
    let provider = Provider::start();
    let spillway = setup(&provider).set("spool", &disk.dir()).start();
    let line = spillway.log().wait_for(&["tmpfs", "volume"]);
    assert_eq!(line["level"], "WARN", "{line}");
    let ready = spillway.admin(&get("/readyz")).text();
    assert!(ready.starts_with("ready\nspool: ") && ready.contains("lies on tmpfs"), "{ready}");
}

/// What may happen to the data folder while it is in use.
struct Deed {
    name: &'static str,
    does: fn(&Path),
    /// Whether what was kept is gone with it.
    loses: bool,
}

fn remove(data: &Path, file: &str) {
    fs::remove_file(data.join(file)).expect("gone");
}

const DEEDS: [Deed; 8] = [
    Deed { name: "the folder is deleted", does: |data| fs::remove_dir_all(data).expect("gone"), loses: true },
    Deed {
        name: "the folder is moved away",
        does: |data| fs::rename(data, data.with_extension("moved")).expect("moved"),
        loses: true,
    },
    Deed { name: "the database is deleted", does: |data| remove(data, "spool.db"), loses: true },
    Deed {
        name: "the database is replaced",
        does: |data| {
            fs::write(data.join("another"), "").expect("a file");
            fs::rename(data.join("another"), data.join("spool.db")).expect("replaced");
        },
        loses: true,
    },
    Deed { name: "the log is deleted", does: |data| remove(data, "spool.db-wal"), loses: false },
    Deed { name: "the log's index is deleted", does: |data| remove(data, "spool.db-shm"), loses: false },
    Deed { name: "the lock is deleted", does: |data| remove(data, "spool.lock"), loses: false },
    Deed { name: "the key is deleted", does: |data| remove(data, "spool.key"), loses: false },
];

#[test]
fn nothing_is_promised_on_files_that_have_gone_and_everything_goes_on_by_itself() {
    for Deed { name, does, loses } in DEEDS {
        let provider = Provider::start();
        refuse_later(&provider);
        let mut spillway = setup(&provider).start();
        let data = spillway.folder().join("spillway-data");
        let before = promised(&spillway);
        does(&data);
        // From the very next one on, what is promised is on disk.
        let first = spillway.send(&later());
        let mut kept: Vec<String> = place(&first).into_iter().collect();
        if kept.is_empty() {
            assert_eq!(first.refusal(), Some("spillway_spool_unavailable"), "{name}: {}", first.text());
            assert!(
                first.text().contains("while it was in use") || first.text().contains("not as it was"),
                "{}",
                first.text()
            );
            let asked = spillway.send(&get(&before)).status();
            assert!(
                asked == 503 || asked == 200,
                "{name}: it is not known that there is no such job, yet it says {asked}"
            );
        }
        for live in [chat(), message()] {
            assert_eq!(spillway.send(&live).status(), 200, "{name}");
        }
        kept.push(promised(&spillway));
        let known = spillway.send(&get(&before));
        if loses {
            assert!(wait_for_trouble(&spillway, "lost").contains("1 requests that were to be served"), "{name}");
            spillway.log().wait_for(&["are lost with the old one"]);
            assert_eq!((known.status(), known.text().contains("may have been lost")), (404, true), "{name}");
        } else {
            assert_eq!(troubles(&spillway), [""; 0], "{name}");
            assert_eq!(known.status(), 200, "{name}");
            kept.push(before);
        }
        // The dispatcher has survived it as well.
        provider.heal();
        assert_eq!(spillway.wait_for_job(&kept[0])["status"], "done", "{name}");
        spillway.restart();
        for job in &kept {
            assert_eq!(spillway.wait_for_job(job)["status"], "done", "{name}: what was promised is lost");
        }
    }
}

#[test]
fn a_job_that_is_being_served_while_its_store_is_opened_anew_is_served_once() {
    let provider = Provider::start();
    let spillway = setup(&provider).start();
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    let kept = spillway.send(&chat().header("prefer", "respond-async, wait=0"));
    let job = place(&kept).expect("a promise");
    fs::remove_file(spillway.folder().join("spillway-data/spool.lock")).expect("gone");
    eventually("it is open anew", || (spillway.log().text().matches("the spool is open").count() >= 2).then_some(()));
    assert_eq!(spillway.send(&get(&job)).at("/status"), "running");
    gate.open();
    assert_eq!(spillway.wait_for_job(&job)["status"], "done");
    assert_eq!(provider.stats().started, 1, "it was paid for twice");
}

#[test]
fn a_key_that_was_replaced_is_missed_until_the_right_one_is_back() {
    let provider = Provider::start();
    refuse_later(&provider);
    let spillway = setup(&provider).start();
    let job = promised(&spillway);
    let key = spillway.folder().join("spillway-data/spool.key");
    let right = fs::read(&key).expect("a key");
    fs::write(&key, [1; 32]).expect("a key");
    wait_for_trouble(&spillway, "the key does not open the jobs");
    serves_and_promises_nothing(&spillway, "the key does not open the jobs");
    fs::write(&key, right).expect("a key");
    promised(&spillway);
    provider.heal();
    assert_eq!(spillway.wait_for_job(&job)["status"], "done");
}

#[test]
fn a_database_that_vanished_between_two_runs_is_not_replaced_in_silence() {
    let provider = Provider::start();
    refuse_later(&provider);
    let mut spillway = setup(&provider).start();
    let job = promised(&spillway);
    let data = spillway.folder().join("spillway-data");
    spillway.kill();
    remove(&data, "spool.db");
    spillway.restart();
    spillway.log().wait_for(&["no database", "get no answer"]);
    wait_for_trouble(&spillway, "no database");
    let answer = spillway.send(&get(&job));
    assert_eq!((answer.status(), answer.text().contains("may have been lost")), (404, true), "{}", answer.text());
    assert!(data.join("spool.db-wal.orphaned").exists(), "it holds what was kept last");
    promised(&spillway);
}

#[test]
fn a_first_start_on_a_full_disk_is_not_taken_for_a_loss() {
    let Some(disk) = Disk::of_mebibytes(80) else { return };
    // Enough for a key and not for a database.
    disk.fill_up_to(12 << 10);
    let provider = Provider::start();
    refuse_later(&provider);
    let spillway = setup(&provider).set("spool", &disk.dir()).start();
    wait_for_trouble(&spillway, "MiB free");
    disk.empty();
    promised(&spillway);
    assert_eq!(troubles(&spillway), [""; 0]);
}

#[test]
fn damaged_pages_are_told_and_take_no_traffic_along() {
    // With the tables themselves it cannot be opened; with what is in them it is noticed when that is wanted.
    for first_page in [3, 40] {
        let provider = Provider::start();
        refuse_later(&provider);
        let mut spillway = setup(&provider).start();
        let data = spillway.folder().join("spillway-data");
        let long = "x".repeat(600_000);
        // So much that the log has been copied into the database.
        for _ in 0..12 {
            let kept = spillway.send(&chat_with_content(&long));
            assert_eq!(kept.status(), 202, "{}", kept.text());
        }
        spillway.kill();
        let database = File::options().write(true).open(data.join("spool.db")).expect("a database");
        let pages = database.metadata().expect("a length").len() / 4_096;
        assert!(pages > 500, "only {pages} pages");
        for page in first_page - 1..pages {
            database.write_all_at(&[0xa5; 64], page * 4_096).expect("harm");
        }
        let log = File::options().write(true).open(data.join("spool.db-wal")).expect("a log");
        log.set_len(0).expect("shorter");
        spillway.restart();
        wait_for_trouble(&spillway, if first_page == 3 { "malformed" } else { "its database is damaged" });
        for live in [chat(), message()] {
            assert_eq!(spillway.send(&live).status(), 200);
        }
        // As it is advised, as far as they are there.
        for file in ["spool.db", "spool.db-wal", "spool.db-shm"] {
            let moved = fs::rename(data.join(file), data.join(format!("old-{file}")));
            assert!(moved.is_ok() || file != "spool.db", "{moved:?}");
        }
        let begun = wait_for_trouble(&spillway, "an empty one was begun");
        eventually("no more is wrong", || (troubles(&spillway).len() == 1).then_some(()));
        promised(&spillway);
        assert!(first_page == 3 || begun.contains("is not the one it was"), "{begun}");
    }
}

fn chat_with_content(content: &str) -> Request {
    let fields = json!({"model": LATER, "messages": [{"role": "user", "content": content}]});
    chat_with(fields).path("/later/v1/chat/completions").header("prefer", "respond-async")
}

#[test]
fn a_data_folder_whose_disk_hangs_holds_up_neither_the_start_nor_any_answer() {
    let provider = Provider::start();
    refuse_later(&provider);
    let setup = setup(&provider);
    let key = make_data(&setup).join("spool.key");
    // To read a pipe that nobody writes to hangs as a disk does.
    let made = Command::new("mkfifo").arg(&key).status().expect("mkfifo");
    assert!(made.success());
    let spillway = setup.start();
    spillway.log().wait_for(&["does not answer"]);
    serves_and_promises_nothing(&spillway, "its disk has not answered for");
    assert_eq!(spillway.send(&get(UNKNOWN)).status(), 503);
    assert!(spillway.status()["queue"]["error"].is_string());
    // The disk answers again: with nothing, and then as it should.
    let pipe = File::options().write(true).open(&key).expect("somebody reads it");
    fs::remove_file(&key).expect("gone");
    drop(pipe);
    promised(&spillway);
    assert_eq!(troubles(&spillway), [""; 0]);
}

#[test]
fn how_circuits_stand_is_written_anew_when_the_data_folder_was_deleted() {
    let provider = Provider::start();
    let breaker = "consecutive_failures = 1\ncooldown = \"60s\"\ncooldown_max = \"60s\"";
    let mut spillway = setup(&provider).set("upstreams.openai.breaker", breaker).start();
    provider.always(fail(Failure::ServerError));
    assert_eq!(spillway.send(&chat()).status(), 500);
    let data = spillway.folder().join("spillway-data");
    eventually("it is written", || data.join("circuits.json").exists().then_some(()));
    fs::remove_dir_all(&data).expect("gone");
    eventually("it is written anew", || data.join("circuits.json").exists().then_some(()));
    spillway.restart();
    assert_eq!(spillway.circuit("openai"), "open");
}
