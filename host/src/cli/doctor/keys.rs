//! Which keys a provider is shown.

use crate::cli::providers;
use crate::config::{SecretSource, UpstreamConfig};
use crate::upstream::client::is_of_this_machine;

/// The keys to try: those that Spillway has for an upstream, as the proxy sends them, or else those that the environment
/// has for its applications. Each comes with why it is not shown, if it is not: a key of the environment is meant for a
/// provider and was found by the upstream's name alone, so it goes to that provider itself or stays on this machine.
pub(super) fn of(
    name: &str,
    upstream: &UpstreamConfig,
    has_variable: impl Fn(&str) -> bool,
) -> Vec<(SecretSource, Option<String>)> {
    let configured: Vec<_> = upstream.api_keys().map(|key| (key.source.clone(), None)).collect();
    if !configured.is_empty() {
        return configured;
    }
    let url = &upstream.url;
    let is_safe = is_of_this_machine(url.host()) || providers::is_at_home(name, url);
    let why = match url.is_encrypted() {
        _ if is_safe => None,
        true => Some(format!("{} is not the host of {name} itself", url.host())),
        false => Some(format!("{url} is not encrypted")),
    };
    let names = providers::keys_of(name).iter().filter(|name| has_variable(name));
    names.map(|name| (SecretSource::Variable((*name).to_owned()), why.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_environment_goes_to_its_provider_or_stays_here_and_a_configured_one_goes_where_it_is_meant_for() {
        const CONFIGURED: &str = "api_key_env = \"MINE\"";
        for (name, url, more, key, withheld) in [
            ("openai", "https://api.openai.com", "", "OPENAI_API_KEY", None),
            ("openai", "http://127.0.0.1:8080", "", "OPENAI_API_KEY", None),
            ("openai", "http://[::1]:8080", "", "OPENAI_API_KEY", None),
            ("openai", "http://localhost:8080", "", "OPENAI_API_KEY", None),
            ("openai", "http://api.openai.com", "", "OPENAI_API_KEY", Some("not encrypted")),
            ("openai", "http://10.0.0.1", "", "OPENAI_API_KEY", Some("not encrypted")),
            ("openai", "https://gateway.example", "", "OPENAI_API_KEY", Some("gateway.example is not the host")),
            ("groq", "https://api.openai.com", "", "GROQ_API_KEY", Some("not the host of groq")),
            ("openai", "http://10.0.0.1", CONFIGURED, "MINE", None),
            ("openai", "https://gateway.example", CONFIGURED, "MINE", None),
        ] {
            let text = format!("[upstreams.{name}]\nurl = \"{url}\"\n{more}\n[server]\naccess_key_env = \"ACCESS\"\n");
            let config = crate::config::look(&text, std::path::Path::new("")).expect("valid");
            let keys = of(name, &config.upstreams[name], |_| true);
            let [(source, why)] = &keys[..] else { panic!("{name} at {url}: {keys:?}") };
            assert_eq!(*source, SecretSource::Variable(key.to_owned()), "{name} at {url}");
            match (why, withheld) {
                (None, None) => {}
                (Some(why), Some(words)) => assert!(why.contains(words), "{name} at {url}: {why}"),
                other => panic!("{name} at {url}: {other:?}"),
            }
        }
    }
}
