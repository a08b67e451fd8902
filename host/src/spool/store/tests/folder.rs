//! Who may open the folder, and what they would find in it.

use super::*;
use crate::runtime::private;

#[tokio::test]
async fn neither_the_files_nor_debug_output_show_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    spool.enqueue(job("first")).await.unwrap();
    let claimed = claim(&spool, NOW).await.unwrap();
    let shown = format!("{claimed:?} {:?} {spool:?}", response("the answer"));
    spool.complete(&claimed.lease, response("the answer"), NOW).await.unwrap();
    spool.enqueue(job("second")).await.unwrap();

    let secrets = ["credential", "the prompt", "the answer"];
    let found = |text: &[u8], secret: &str| text.windows(secret.len()).any(|window| window == secret.as_bytes());
    let mut logs = 0;
    for entry in std::fs::read_dir(dir.path().join("spool")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        logs += usize::from(path.ends_with("spool.db-wal") && found(&bytes, "gpt-5"));
        for secret in secrets {
            assert!(!found(&bytes, secret), "{secret} in {}", path.display());
        }
        assert!(!private::is_open(&path).unwrap(), "{}", path.display());
    }
    assert_eq!(logs, 1, "the log holds the job, and was searched");
    assert!(!private::is_open(&dir.path().join("spool")).unwrap());
    for secret in secrets {
        assert!(!found(shown.as_bytes(), secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn a_folder_serves_one_process_at_a_time_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let refused = try_open(settings(dir.path()), NOW).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, OpenError::Locked { .. }), "{text}");
    // Windows lets nobody read a file that is locked, so that only its being locked can be told.
    let process = if cfg!(windows) { "another Spillway".to_owned() } else { format!("process {}", std::process::id()) };
    assert!(text.contains(&process) && text.contains("spool folder"), "{text}");
    drop(spool);
    open(dir.path());
}

#[test]
fn a_database_of_a_newer_spillway_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    outside(dir.path()).execute_batch("PRAGMA user_version = 2").unwrap();
    let refused = try_open(settings(dir.path()), NOW).unwrap_err();
    assert!(matches!(refused, OpenError::NewerSchema { found: 2, known: 1, .. }), "{refused}");
}

#[tokio::test]
async fn a_wrong_or_lost_key_is_refused_before_any_job_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    spool.enqueue(job("first")).await.unwrap();
    drop(spool);
    let key = dir.path().join("spool/spool.key");
    let right = std::fs::read(&key).unwrap();

    for wrong in [Some(vec![1; 32]), Some(vec![1; 31]), None] {
        match wrong {
            Some(bytes) => std::fs::write(&key, bytes).unwrap(),
            None => std::fs::remove_file(&key).unwrap(),
        }
        let refused = try_open(settings(dir.path()), NOW).unwrap_err();
        assert!(refused.to_string().contains("bring back the"), "{refused}");
    }
    assert!(!key.exists());
    std::fs::write(&key, right).unwrap();
    assert_eq!(claim_all(&open(dir.path()), NOW).await, ["first"]);
}

#[tokio::test]
async fn a_key_that_the_caller_keeps_is_not_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let supplied = || SpoolSettings { sealer: Some(Sealer::from_key(&[9; 32])), ..settings(dir.path()) };
    let spool = try_open(supplied(), NOW).unwrap();
    spool.enqueue(job("first")).await.unwrap();
    drop(spool);
    assert!(!dir.path().join("spool/spool.key").exists());
    let spool = try_open(supplied(), NOW).unwrap();
    assert_eq!(claim_all(&spool, NOW).await, ["first"]);
}

#[cfg(unix)]
#[test]
fn a_folder_that_others_read_is_made_private_only_while_it_is_empty() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("spool");
    let widen = || std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    let mode = || std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
    std::fs::create_dir(&folder).unwrap();
    widen();
    std::fs::write(folder.join("mine.txt"), "").unwrap();
    let refused = try_open(settings(dir.path()), NOW).unwrap_err();
    assert!(refused.to_string().contains("chmod 700"), "{refused}");
    assert_eq!(mode(), 0o755);

    std::fs::remove_file(folder.join("mine.txt")).unwrap();
    drop(open(dir.path()));
    assert_eq!(mode(), 0o700);
    widen();
    drop(open(dir.path()));
    assert_eq!(mode(), 0o700);
}

#[test]
fn ids_are_read_back_from_their_text_and_nothing_else_is() {
    let id = JobId::random(&SystemRandom::new()).unwrap();
    let text = id.to_string();
    assert_eq!(text.len(), 36);
    assert_eq!(text.parse(), Ok(id));
    for wrong in [
        "".to_owned(),
        "job_".to_owned(),
        text[4..].to_owned(),
        text[..35].to_owned(),
        format!("{text}0"),
        text.to_uppercase(),
        format!("job_{}", "g".repeat(32)),
        format!("job_{}", "ü".repeat(16)),
    ] {
        assert!(wrong.parse::<JobId>().is_err(), "{wrong}");
    }
}
