//! What the spool keeps: jobs, their answers, and the leases under which they run.
//!
//! Every time is in unix milliseconds and comes from the caller; nothing in the spool reads the wall clock.

use std::fmt;
use std::str::FromStr;

use hex::FromHex;
use ring::rand::{SecureRandom, SystemRandom};

/// Random bytes in a [`JobId`].
pub(super) const ID_BYTES: usize = 16;

const ID_PREFIX: &str = "job_";

/// The name of a job: 128 random bits, shown as `job_` and 32 lower-case hexadecimal digits.
///
/// Whoever holds an id may read the answer, so ids are drawn from the system's generator and cannot
/// be guessed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId([u8; ID_BYTES]);

impl JobId {
    /// Draws a new id; `None` when the system's random generator fails.
    pub(super) fn random(generator: &SystemRandom) -> Option<Self> {
        random_bytes(generator).map(Self)
    }

    pub(super) fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ID_PREFIX}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a [`JobId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job id is `job_` followed by 32 lower-case hexadecimal digits")]
pub(crate) struct ParseJobIdError;

impl FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(ID_PREFIX).ok_or(ParseJobIdError)?;
        let bytes = FromHex::from_hex(digits).map_err(|_| ParseJobIdError)?;
        // One job, one name.
        if digits.bytes().any(|digit| digit.is_ascii_uppercase()) { Err(ParseJobIdError) } else { Ok(Self(bytes)) }
    }
}

/// `N` random bytes; `None` when the system's random generator fails.
pub(super) fn random_bytes<const N: usize>(generator: &SystemRandom) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    generator.fill(&mut bytes).ok()?;
    Some(bytes)
}

/// A request to be kept until its upstream answers it.
///
/// The method, path, headers and body are sealed on disk, since a path may carry a key in its query;
/// the other fields are stored in clear, so that a queue can be inspected, and must hold no secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NewJob {
    /// The upstream that shall answer; jobs are claimed by it.
    pub upstream: String,
    /// The API the request speaks, in the host's own naming.
    pub dialect: String,
    /// The model asked for, where the request names one.
    pub model: Option<String>,
    pub method: String,
    /// The path and query, as its API has them.
    pub path_and_query: String,
    /// The headers to send upstream, credentials included.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body to send upstream.
    pub body: Vec<u8>,
    /// Higher runs first.
    pub priority: u8,
    /// When the request arrived.
    pub created_ms: u64,
    /// From when on an answer is useless: a job still queued then expires. `u64::MAX` is never.
    pub expires_at_ms: u64,
    /// The id under which the request stands in the log.
    pub request_id: String,
}

impl fmt::Debug for NewJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        f.debug_struct("NewJob")
            .field("upstream", &self.upstream)
            .field("dialect", &self.dialect)
            .field("model", &self.model)
            .field("method", &self.method)
            .field("path", &path)
            .field("headers", &HeaderNames(&self.headers))
            .field("body_bytes", &self.body.len())
            .field("priority", &self.priority)
            .field("created_ms", &self.created_ms)
            .field("expires_at_ms", &self.expires_at_ms)
            .field("request_id", &self.request_id)
            .finish()
    }
}

/// An upstream's answer, kept verbatim.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredResponse {
    pub status: u16,
    /// The headers as they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse")
            .field("status", &self.status)
            .field("headers", &HeaderNames(&self.headers))
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// Prints the names only: values may be credentials.
struct HeaderNames<'a>(&'a [(String, Vec<u8>)]);

impl fmt::Debug for HeaderNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Where a job stands. All but the first two states are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum JobState {
    /// Waits to be claimed, now or at its `not_before_ms`.
    Queued,
    /// Runs in this process.
    Leased,
    /// Answered; the answer is kept until retention ends.
    Done,
    /// Given up, with a reason and the last answer if there was one.
    Dead,
    /// Withdrawn before it ran.
    Cancelled,
    /// Still queued when its answer stopped being of use.
    Expired,
}

impl JobState {
    /// Every state, in the order of their codes on disk.
    pub(crate) const ALL: [Self; 6] =
        [Self::Queued, Self::Leased, Self::Done, Self::Dead, Self::Cancelled, Self::Expired];

    /// Whether the job has ended for good.
    #[must_use]
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::Leased => false,
            Self::Done | Self::Dead | Self::Cancelled | Self::Expired => true,
        }
    }

    /// The state as one lower-case word.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The right to settle a job, granted by a claim.
///
/// It holds for one claim of one process: once the job was settled, claimed again or recovered by a
/// restart, every use of the lease is refused as stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(super) id: JobId,
    pub(super) attempt: u32,
    pub(super) incarnation: [u8; 16],
}

impl Lease {
    /// The job that is leased.
    #[must_use]
    pub(crate) fn id(&self) -> JobId {
        self.id
    }

    /// The fencing number: grows by one with each claim of the job, also with those that were
    /// released without counting.
    #[must_use]
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// A job taken from the queue, to be run and then settled with its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimedJob {
    /// What settles it.
    pub lease: Lease,
    /// The request as it was enqueued.
    pub job: NewJob,
    /// Attempts that count, this one included.
    pub attempts: u32,
}

/// What may be told of a job to whoever holds its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobView {
    pub id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// The upstream that shall answer.
    pub upstream: String,
    /// The API the request speaks.
    pub dialect: String,
    pub model: Option<String>,
    /// The id under which the request stands in the log.
    pub request_id: String,
    /// Its priority; higher runs first.
    pub priority: u8,
    /// When the request arrived.
    pub created_ms: u64,
    /// When its state last changed.
    pub updated_ms: u64,
    /// The earliest moment of its next attempt; 0 is at once.
    pub not_before_ms: u64,
    /// When it expires if it is still queued; `u64::MAX` is never.
    pub expires_at_ms: u64,
    /// Attempts that counted.
    pub attempts: u32,
    /// How often a process ended while running it.
    pub crash_count: u32,
    /// Why it was last released or given up.
    pub last_reason: Option<String>,
    /// Whether an answer is kept.
    pub has_response: bool,
}

/// What a cancellation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancelOutcome {
    /// The job was queued and will not run.
    Cancelled,
    /// The job is running: its upstream call is under way and may already cost.
    Running,
    /// The job had ended before, in this state.
    Finished(JobState),
    /// No job has this id, or its retention is over.
    NotFound,
}

/// How many jobs stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Waiting jobs.
    pub queued: u64,
    /// Running jobs.
    pub leased: u64,
    /// Answered jobs still kept.
    pub done: u64,
    /// Dead letters.
    pub dead: u64,
    /// Withdrawn jobs still kept.
    pub cancelled: u64,
    /// Expired jobs still kept.
    pub expired: u64,
    /// Bytes kept for all of them, as counted against `max_size`.
    pub stored_bytes: u64,
    /// Arrival of the oldest queued job.
    pub oldest_queued_created_ms: Option<u64>,
}

impl Counts {
    /// How long the oldest queued job has waited, in milliseconds; `None` when none waits.
    #[must_use]
    pub(crate) fn oldest_queued_age_ms(&self, now_ms: u64) -> Option<u64> {
        self.oldest_queued_created_ms.map(|created_ms| now_ms.saturating_sub(created_ms))
    }
}
