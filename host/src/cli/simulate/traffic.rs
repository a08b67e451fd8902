//! Recorded traffic: what of a log the simulation takes, and what really became of the requests in it.

use crate::observe::recording::{Arrival, Line, Recorded, Unserved, read};
use spillway_sdk::{AttemptFacts, Class, Fault, Phase};
use spillway_simulate::estimate::{RecordedCall, RecordedRequest, Said};
use spillway_simulate::waits::Waits;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Most that is read of all logs together: as much as a Spillway keeps of them by itself, and half as much again.
pub(super) const LOG_BYTES_MAX: u64 = 192 << 20;

/// What was recorded of one upstream.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Every request, by the name under which it is known and its arrival, since a caller may call all of its own alike.
    requests: BTreeMap<(String, u64), Request>,
    pub(super) calls: Vec<RecordedCall>,
    /// Calls to each upstream.
    pub(super) upstreams: BTreeMap<String, u64>,
    /// Lines that could not be read, and the first of them.
    pub(super) bad_lines: u64,
    pub(super) first_bad_line: Option<String>,
    /// Whether arrivals are recorded, as an older Spillway does not do. Where they are, what has none is a job.
    pub(super) has_arrivals: bool,
    /// Of all files that were added.
    bytes: u64,
}

/// A request, and what became of it so far.
#[derive(Debug)]
struct Request {
    recorded: RecordedRequest,
    has_arrival: bool,
    calls: u32,
    served_after: Option<Duration>,
}

/// What really happened.
#[derive(Debug, Default)]
pub(super) struct Actual {
    pub(super) requests: u64,
    pub(super) served: u64,
    pub(super) calls: u64,
    pub(super) waits: Waits,
}

impl Traffic {
    /// Adds what a file has of this upstream; of all, if none is named.
    ///
    /// # Errors
    /// Why it cannot be read, or that there is too much of it.
    pub(super) fn add(&mut self, path: &Path, upstream: Option<&str>) -> Result<(), String> {
        let shown = path.display();
        let hint = "[log] requests = \"requests.jsonl\" in the configuration makes Spillway record them";
        let unreadable = |error| format!("cannot read {shown}: {error}; {hint}");
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            // It may be read more than once, and need never end.
            return Err(format!("{shown} is no regular file; write what comes from there into one, and name that"));
        }
        self.bytes = self.bytes.saturating_add(metadata.len());
        if self.bytes > LOG_BYTES_MAX {
            let (most, before) = (LOG_BYTES_MAX >> 20, self.bytes - metadata.len());
            let with = if before == 0 { "" } else { ", together with the logs before it" };
            return Err(format!("{shown} has more than {most} MiB{with}; take its last lines: tail -n 200000 {shown}"));
        }
        read(path, |number, line| match line {
            Ok(Line::Attempt(recorded)) => self.attempt(*recorded, upstream),
            Ok(Line::Unserved(unserved)) => self.unserved(unserved, upstream),
            Err(why) => {
                self.bad_lines += 1;
                self.first_bad_line.get_or_insert_with(|| format!("{shown} line {number}: {why}"));
            }
        })
        .map_err(unreadable)
    }

    fn attempt(&mut self, recorded: Recorded, upstream: Option<&str>) {
        let Recorded { request_id, verdict, arrival, facts, .. } = recorded;
        let key = (request_id, arrival.as_ref().map_or(0, |arrival| arrival.came_unix_ms));
        let of = facts.upstream();
        *self.upstreams.entry(of.to_string()).or_default() += 1;
        if upstream.is_some_and(|one| one != of) {
            return;
        }
        if facts.phase() == Phase::Committed {
            // The same call once more: its answer broke after its beginning.
            if let Some(request) = self.requests.get_mut(&key) {
                request.served_after = None;
            }
            return;
        }
        let sent = facts.unix_time().saturating_sub(facts.elapsed());
        let took = facts.first_content().unwrap_or(facts.elapsed());
        let model = facts.model().unwrap_or_default().into_owned();
        let said = said(verdict.class, facts.fault());
        // Without its arrival a request begins with its first attempt.
        let came = arrival.as_ref().map_or(sent, came);
        self.has_arrivals |= arrival.is_some();
        let request = self.requests.entry(key).or_insert_with(|| Request::new(came, &model, arrival.as_ref()));
        request.calls += 1;
        if said == Said::Answer {
            request.served_after = Some((sent + took).saturating_sub(request.recorded.came));
        }
        self.calls.push(RecordedCall { sent, took, model, said, retry_after: facts.retry_after() });
    }

    fn unserved(&mut self, unserved: Unserved, upstream: Option<&str>) {
        let Unserved { request_id, upstream: of, model, arrival, .. } = unserved;
        if upstream.is_some_and(|one| one != of) {
            return;
        }
        self.has_arrivals = true;
        let request = Request::new(came(&arrival), model.as_deref().unwrap_or_default(), Some(&arrival));
        // Its call may have gone on without it, and be recorded by now.
        self.requests.entry((request_id, arrival.came_unix_ms)).or_insert(request);
    }

    /// The upstream of which most was recorded.
    pub(super) fn busiest(&self) -> Option<&str> {
        self.upstreams.iter().max_by_key(|(_, calls)| **calls).map(|(name, _)| name.as_str())
    }

    /// Those that somebody sent: no jobs, which Spillway brings by itself.
    fn that_came(&self) -> impl Iterator<Item = &Request> {
        self.requests.values().filter(|request| request.has_arrival || !self.has_arrivals)
    }

    /// The requests.
    pub(super) fn requests(&self) -> Vec<RecordedRequest> {
        self.that_came().map(|request| request.recorded.clone()).collect()
    }

    /// What became of those that came from this moment on. Each time that a caller sent its request again is counted.
    pub(super) fn actual(&self, begins: Duration) -> Actual {
        let mut actual = Actual::default();
        for request in self.that_came().filter(|request| request.recorded.came >= begins) {
            actual.requests += 1;
            actual.calls += u64::from(request.calls);
            if let Some(wait) = request.served_after {
                actual.served += 1;
                actual.waits.add(wait);
            }
        }
        actual
    }
}

fn came(arrival: &Arrival) -> Duration {
    Duration::from_millis(arrival.came_unix_ms)
}

impl Request {
    fn new(came: Duration, model: &str, arrival: Option<&Arrival>) -> Request {
        let recorded = RecordedRequest {
            came,
            tenant: arrival.map(|arrival| arrival.tenant.clone()).unwrap_or_default(),
            model: model.to_owned(),
            tokens_max: arrival.map_or(0, |arrival| arrival.tokens_max),
            has_come_back: arrival.is_some_and(|arrival| arrival.has_come_back),
            allowed: arrival.map_or(ALLOWED_UNKNOWN, |arrival| Duration::from_millis(arrival.allowed_ms)),
        };
        Request { recorded, has_arrival: arrival.is_some(), calls: 0, served_after: None }
    }
}

/// How long a caller waits of whom nothing is known: as long as official SDKs do.
const ALLOWED_UNKNOWN: Duration = Duration::from_secs(600);

/// What a call was answered, by its judgement.
const fn said(class: Class, fault: Option<Fault>) -> Said {
    match class {
        // What is the caller's own affair is an answer as well.
        Class::Success | Class::Ignored | Class::Rejected | Class::Unauthorized => Said::Answer,
        Class::Overloaded => Said::Overload,
        Class::Throttled | Class::Exhausted => Said::TooMuch,
        Class::Failure => match fault {
            Some(Fault::ConnectTimeout | Fault::FirstContentTimeout | Fault::IdleTimeout | Fault::AttemptTimeout) => {
                Said::Nothing
            }
            Some(
                Fault::Dns | Fault::ConnectRefused | Fault::Tls | Fault::Reset | Fault::Protocol | Fault::Truncated,
            )
            | None => Said::Failure,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn logs_are_bounded_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = |name: &str, bytes: u64| {
            let path = folder.path().join(name);
            File::create(&path).expect("a file").set_len(bytes).expect("as long as that");
            path
        };
        let (short, long) = (log("short.jsonl", 1), log("long.jsonl", LOG_BYTES_MAX));
        let mut traffic = Traffic::default();
        assert_eq!(traffic.add(&short, None), Ok(()));
        let refused = traffic.add(&long, None).expect_err("one byte too many");
        assert!(refused.contains("192 MiB, together with") && refused.contains("tail -n"), "{refused}");
        let alone = Traffic::default().add(&log("too long.jsonl", LOG_BYTES_MAX + 1), None).expect_err("too long");
        assert!(alone.contains("192 MiB; take"), "{alone}");
    }

    #[test]
    fn what_is_no_regular_file_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let is_refused = |path: &Path| {
            let refused = Traffic::default().add(path, None);
            assert!(refused.is_err_and(|why| why.contains("no regular file")), "{}", path.display());
        };
        is_refused(folder.path());
        #[cfg(unix)]
        {
            let pipe = folder.path().join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
            is_refused(&pipe);
            is_refused(Path::new("/dev/zero"));
        }
    }
}
