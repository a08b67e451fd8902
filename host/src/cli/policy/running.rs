//! The Spillway that runs, asked at its admin address.

use super::Failure;
use crate::admin::status::Status;
use crate::config::Config;
use crate::policy::PolicyStatus;
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the admin address may take to answer; it is this machine's, and does nothing slow.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer read: 256 policies with all their examples are far smaller.
const ANSWER_BYTES_MAX: usize = 32 << 20;

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

/// The policies of the Spillway that runs; `None` when nobody answers there.
///
/// # Errors
/// When somebody answers who is no Spillway.
pub(super) fn policies(admin: SocketAddr) -> Result<Option<Vec<PolicyStatus>>, Failure> {
    let stranger = |why: String| {
        let hint = "name the right address with --admin";
        Failure::Usage(format!("whoever listens at {admin} does not answer as a Spillway ({why}); {hint}"))
    };
    let Some(body) = get(admin, "/status").map_err(stranger)? else { return Ok(None) };
    let status: Status = serde_json::from_slice(&body).map_err(|error| stranger(error.to_string()))?;
    Ok(Some(status.policies))
}

/// One policy of the Spillway that runs; the outer `None` when none runs.
pub(super) fn policy(admin: SocketAddr, name: &str) -> Result<Option<Option<PolicyStatus>>, Failure> {
    Ok(policies(admin)?.map(|policies| policies.into_iter().find(|policy| policy.name == name)))
}

/// What lies there; `None` when nobody accepts a connection. Goes through no proxy, whatever the environment names.
fn get(admin: SocketAddr, path: &str) -> Result<Option<Bytes>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let exchange = async {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
        let uri: Uri = format!("http://{admin}{path}").parse().map_err(root_cause)?;
        let response = match client.get(uri).await {
            Err(error) if error.is_connect() => return Ok(None),
            answered => answered.map_err(root_cause)?,
        };
        if !response.status().is_success() {
            return Err(format!("its status is {}", response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        body.map(|body| Some(body.to_bytes())).map_err(|error| root_cause(&*error))
    };
    let late = |_| format!("it takes longer than {} s", TIMEOUT.as_secs());
    // By then a connection that nobody accepts has ended, which is another thing to say.
    runtime.map_err(root_cause)?.block_on(async { tokio::time::timeout(2 * TIMEOUT, exchange).await.map_err(late)? })
}

/// What an error comes from: those in front of it say which step failed, which nobody here asks about.
fn root_cause(error: impl Error) -> String {
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
