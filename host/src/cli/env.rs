//! `spillway env`: the settings that send the official SDKs through Spillway.

use super::with_config;
use crate::config::{Config, Purpose, UpstreamConfig};
use crate::dialect::Dialect;
use std::path::Path;
use std::process::ExitCode;

/// Prints them for a shell.
pub fn run(file: Option<&Path>) -> ExitCode {
    with_config(file, Purpose::Look, |config| {
        print!("{}", exports(&config));
        ExitCode::SUCCESS
    })
}

/// One variable per SDK, for the upstream that speaks its API, and none of them through a proxy: what is meant for this
/// machine must not leave it.
fn exports(config: &Config) -> String {
    let local = config.server.local_address();
    let base = format!("http://{local}");
    let mut text = String::new();
    for (dialect, variable, suffix) in [
        (Dialect::OpenAi, "OPENAI_BASE_URL", "/v1"),
        (Dialect::Anthropic, "ANTHROPIC_BASE_URL", ""),
        (Dialect::Gemini, "GOOGLE_GEMINI_BASE_URL", ""),
    ] {
        let serves = |upstream: &UpstreamConfig| upstream.dialect == dialect;
        if config.upstreams.get(dialect.as_str()).is_some_and(serves) {
            text.push_str(&format!("export {variable}={base}/{}{suffix}\n", dialect.as_str()));
        }
    }
    // Some read the one in small letters first, some know only the other.
    let host = local.ip();
    text.push_str(&format!("export no_proxy=\"{host},localhost${{no_proxy:+,$no_proxy}}${{NO_PROXY:+,$NO_PROXY}}\"\n"));
    text.push_str("export NO_PROXY=\"$no_proxy\"\n");
    text
}
