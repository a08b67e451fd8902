//! The command that Spillway serves alone: what it is told of where Spillway is, and what we take over from what it was
//! told before.

use super::shell::{VARIABLES, variables};
use crate::config::{BaseUrl, Config, known_url};
use crate::runtime::child::{CommandLine, Running};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// By it commands of `spillway` find the admin address of the one that serves them.
pub(crate) const ADMIN_VARIABLE: &str = "SPILLWAY_ADMIN";

/// The configuration for one command: on any ports that are free, and this machine's alone. Where the environment sends
/// an SDK to a place of its own, Spillway calls there, unless the file says where. Without a file nothing is kept: whom a
/// promise was made to is gone when the command is, and its folder would lie in somebody's project.
///
/// # Errors
/// When such a variable is no URL, with its name.
pub(crate) fn adapt(config: &mut Config, variable: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    (config.server.listen, config.admin.listen) = (any, any);
    config.spool.enabled &= config.file.is_some();
    for (dialect, name, _) in VARIABLES {
        let upstream = config.upstreams.get_mut(dialect.as_str());
        let upstream = upstream.filter(|upstream| known_url(dialect.as_str()).as_ref() == Some(&upstream.url));
        let said = variable(name).filter(|said| !said.is_empty());
        if let (Some(upstream), Some(said)) = (upstream, said) {
            upstream.url = BaseUrl::parse(&said).map_err(|why| format!("{name} is set, and {why}"))?;
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
        assert!(config.spool().is_none(), "no file, and so no folder");
        let config = adapted("[upstreams.openai]\nurl = \"https://mine.example\"", "https://gateway.example/api/v1");
        assert_eq!(config.expect("valid").upstreams["openai"].url.to_string(), "https://mine.example");
        assert_eq!(adapted("", "").expect("as if unset").upstreams["openai"].url, known_url("openai").expect("known"));
        let told = adapted("", "gateway.example").expect_err("no URL");
        assert!(told.starts_with("OPENAI_BASE_URL is set, and \"gateway.example\""), "{told}");
    }
}
