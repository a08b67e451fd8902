//! The store on real files: what it promises, bounds and keeps secret.

mod bounds;
mod damage;
mod folder;
mod group;
#[cfg(unix)] // Windows lets nobody move or delete a file that is open.
mod home;
mod life;
mod model;

use std::path::Path;

use super::upkeep::CRASHES_MAX;
use super::*;
use crate::spool::error::Bound;
use crate::spool::job::JobState;

/// A moment far from zero, where sums and differences of times show their mistakes.
const NOW: u64 = 1_700_000_000_000;

fn settings(dir: &Path) -> SpoolSettings {
    SpoolSettings {
        dir: dir.join("spool"),
        max_jobs: 1000,
        max_size: 8 << 20,
        retention: Duration::from_secs(7 * 24 * 60 * 60),
        sealer: None,
    }
}

/// A spool that could be opened at once.
fn try_open(settings: SpoolSettings, now_ms: u64) -> Result<Spool, OpenError> {
    let (spool, first) = Spool::start(settings, move |latest_ms| now_ms.max(latest_ms))?;
    first.wait(Duration::from_secs(60)).unwrap().map(|()| spool)
}

fn open(dir: &Path) -> Spool {
    try_open(settings(dir), NOW).unwrap()
}

fn job(name: &str) -> NewJob {
    NewJob {
        upstream: "openai".to_owned(),
        dialect: "openai-chat".to_owned(),
        model: Some("gpt-5".to_owned()),
        method: "POST".to_owned(),
        path_and_query: "/v1/chat/completions?key=query-credential".to_owned(),
        headers: vec![("authorization".to_owned(), b"Bearer header-credential".to_vec())],
        body: format!("the prompt of {name}").into_bytes(),
        priority: 0,
        created_ms: NOW,
        expires_at_ms: u64::MAX,
        request_id: name.to_owned(),
    }
}

fn response(text: &str) -> StoredResponse {
    StoredResponse {
        status: 200,
        headers: vec![("set-cookie".to_owned(), b"answer-credential".to_vec())],
        body: text.as_bytes().to_vec(),
    }
}

async fn claim(spool: &Spool, now_ms: u64) -> Option<ClaimedJob> {
    spool.claim("openai", now_ms).await.unwrap()
}

async fn view(spool: &Spool, id: JobId) -> JobView {
    spool.get(id).await.unwrap().unwrap()
}

/// The names of all that can be claimed now, in order.
async fn claim_all(spool: &Spool, now_ms: u64) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(claimed) = claim(spool, now_ms).await {
        names.push(claimed.job.request_id);
    }
    names
}

/// A connection beside the store's, as an operator's tool or a fault would have.
fn outside(dir: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.join("spool/spool.db")).unwrap()
}
