//! The Spillway that runs, asked at its admin address.

use super::Failure;
use crate::config::Config;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long the admin address may take to answer; it is this machine's, and does nothing slow.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer read: 256 policies with all their examples are far smaller.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// Where a running Spillway is asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AdminArgument {
    /// The running Spillway's admin address; by default the configuration's.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

impl AdminArgument {
    pub(super) fn address(&self, config: &Config) -> SocketAddr {
        self.admin.unwrap_or(config.admin.listen)
    }
}

/// A policy as a running Spillway shows it. What an older or newer one does not say is left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) state: String,
    pub(super) sha256: Option<String>,
    pub(super) version: Option<String>,
    pub(super) hooks: Vec<String>,
    pub(super) swaps: u64,
    pub(super) calls: u64,
    pub(super) faults: u64,
    pub(super) quarantined_after: Option<String>,
    pub(super) last_fault: Option<String>,
    pub(super) rejected: Option<Rejected>,
    pub(super) shadow: Option<Shadow>,
}

/// A file that was not loaded.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rejected {
    pub(super) sha256: Option<String>,
    pub(super) reason: String,
}

/// A candidate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shadow {
    pub(super) sha256: Option<String>,
    pub(super) version: Option<String>,
    pub(super) state: Option<String>,
    pub(super) calls: u64,
    pub(super) faults: u64,
    pub(super) quarantined_after: Option<String>,
    pub(super) last_fault: Option<String>,
    pub(super) comparison: Option<Comparison>,
    pub(super) rejected: Option<Rejected>,
}

/// How a candidate's answers compare.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Comparison {
    pub(super) agreed: u64,
    pub(super) disagreed: u64,
    pub(super) by_kind: BTreeMap<String, u64>,
    pub(super) examples: Vec<Example>,
}

/// An attempt about which they disagreed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Example {
    pub(super) kind: String,
    pub(super) upstream: Option<String>,
    pub(super) model: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) fault: Option<String>,
    pub(super) error_code: Option<String>,
    pub(super) active: String,
    pub(super) shadow: String,
}

/// The policies of the Spillway that runs, as the status shows them; `None` when nobody answers there.
///
/// # Errors
/// When somebody answers who is no Spillway.
pub(super) fn policies(admin: SocketAddr) -> Result<Option<Vec<Value>>, Failure> {
    let Ok(mut stream) = TcpStream::connect_timeout(&admin, TIMEOUT) else { return Ok(None) };
    let stranger = |why: String| {
        let hint = "name the right address with --admin";
        Failure::Usage(format!("whoever listens at {admin} does not answer as a Spillway ({why}); {hint}"))
    };
    let body = get(&mut stream, admin, "/status").map_err(stranger)?;
    let mut status: Value = serde_json::from_slice(&body).map_err(|error| stranger(error.to_string()))?;
    match status.get_mut("policies").map(Value::take) {
        Some(Value::Array(policies)) => Ok(Some(policies)),
        Some(_) | None => Err(stranger("its status has no policies".to_owned())),
    }
}

/// As [`policies`], each read.
pub(super) fn read(policies: &[Value]) -> Vec<Policy> {
    policies.iter().filter_map(|policy| Policy::deserialize(policy).ok()).collect()
}

/// One policy of the Spillway that runs; the outer `None` when none runs.
pub(super) fn policy(admin: SocketAddr, name: &str) -> Result<Option<Option<Policy>>, Failure> {
    let policies = policies(admin)?;
    Ok(policies.map(|policies| read(&policies).into_iter().find(|policy| policy.name == name)))
}

fn get(stream: &mut TcpStream, host: SocketAddr, path: &str) -> Result<Vec<u8>, String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let exchanged = stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .and_then(|()| stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer));
    exchanged.map_err(|error| error.to_string())?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("its answer has no head")?;
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    match line.starts_with(b"HTTP/1.1 200") {
        true => Ok(answer.split_off(end + 4)),
        false => Err(String::from_utf8_lossy(line).into_owned()),
    }
}
