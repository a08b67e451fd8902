//! The command that Spillway serves alone: what it is told of where Spillway is, and what we take over from what it was
//! told before.

use super::shell::{VARIABLES, variables};
use crate::config::{BaseUrl, Config, TlsConfig, UpstreamConfig, known_url};
use crate::runtime::child::{CommandLine, Running};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// By it commands of `spillway` find the admin address of the one that serves them.
pub(crate) const ADMIN_VARIABLE: &str = "SPILLWAY_ADMIN";

/// The configuration for one command: on any ports that are free, and this machine's alone. Nothing is kept: whom a
/// promise was made to is gone when the command is, and the next one must not pay for it.
///
/// Where the environment sends an SDK to a place of its own, Spillway calls there, unless the file says where, or gives
/// keys for there: they go to nobody else. A Spillway by this configuration is no such place; what `spillway env` says of
/// it stands in many a shell, whether it runs or not.
///
/// # Errors
/// When such a variable is no URL, with its name.
pub(crate) fn adapt(config: &mut Config, variable: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let usual = config.server.local_address();
    (config.server.listen, config.admin.listen) = (any, any);
    // No certificate speaks for such a port, and nobody is in between.
    config.server.tls = TlsConfig::default();
    config.server.behind_tls_proxy = false;
    config.spool.enabled = false;
    if config.file.is_none() {
        // What is compiled would lie in whatever folder the command is called from.
        config.policies.cache_dir = None;
    }
    let is_usual = |url: &BaseUrl| {
        let is_here = url.host() == "localhost" || url.host().parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        is_here && url.port() == usual.port()
    };
    for (dialect, name, _) in VARIABLES {
        let upstream = config.upstreams.get_mut(dialect.as_str());
        let may_be_elsewhere = |upstream: &&mut UpstreamConfig| {
            known_url(dialect.as_str()).as_ref() == Some(&upstream.url) && !upstream.has_keys()
        };
        let said = variable(name).filter(|said| !said.is_empty());
        if let (Some(upstream), Some(said)) = (upstream.filter(may_be_elsewhere), said) {
            let url = BaseUrl::parse(&said).map_err(|why| format!("{name} is set, and {why}"))?;
            if !is_usual(&url) {
                upstream.url = url;
            }
        }
    }
    Ok(())
}

/// Starts the command, and has it find Spillway.
pub(super) fn start(
    command: &CommandLine,
    config: &Config,
    listen: SocketAddr,
    admin: SocketAddr,
) -> io::Result<Running> {
    let variable = |name: &str| std::env::var(name).ok();
    let told = variables(config, listen, variable).map(|(name, value)| (name.to_owned(), value));
    command.start(told.chain([(ADMIN_VARIABLE.to_owned(), admin.to_string())]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::path::Path;

    fn adapted(text: &str, said: &str) -> Result<Config, String> {
        let mut config = parse(text, Path::new("")).expect("a configuration");
        adapt(&mut config, |name| (name == "OPENAI_BASE_URL").then(|| said.to_owned())).map(|()| config)
    }

    #[test]
    fn where_the_environment_sends_an_sdk_there_spillway_calls() {
        let config = adapted("", "https://gateway.example/api/v1").expect("a URL");
        assert_eq!(config.upstreams["openai"].url.to_string(), "https://gateway.example/api/v1");
        assert_eq!(config.upstreams["anthropic"].url, known_url("anthropic").expect("it is known"));
        assert!(config.server.listen.ip().is_loopback() && config.server.listen.port() == 0);
        assert!(config.spool().is_none());
        let config = adapted("[upstreams.openai]\nurl = \"https://mine.example\"", "https://gateway.example/api/v1");
        assert_eq!(config.expect("valid").upstreams["openai"].url.to_string(), "https://mine.example");
        assert_eq!(adapted("", "").expect("as if unset").upstreams["openai"].url, known_url("openai").expect("known"));
        for usual in ["http://127.0.0.1:4141/openai/v1", "http://localhost:4141/openai/v1"] {
            let config = adapted("", usual).expect("a URL");
            assert_eq!(config.upstreams["openai"].url, known_url("openai").expect("known"), "{usual}");
        }
        let told = adapted("", "gateway.example").expect_err("no URL");
        assert!(told.starts_with("OPENAI_BASE_URL is set, and \"gateway.example\""), "{told}");
    }

    #[test]
    fn keys_of_spillways_own_go_where_the_file_sends_them() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key"), "sk-0123456789abcdef").expect("written");
        let text = "[server]\naccess_key_file = \"key\"\n[upstreams.openai]\napi_key_file = \"key\"";
        let mut config = parse(text, folder.path()).expect("a configuration");
        adapt(&mut config, |_| Some("http://elsewhere.example/v1".to_owned())).expect("URLs");
        assert_eq!(config.upstreams["openai"].url, known_url("openai").expect("known"));
        assert_eq!(config.upstreams["gemini"].url.host(), "elsewhere.example");
    }
}
