//! The configuration: whether it is one, what is doubtful in it, and which upstreams somebody wants.

use super::finding::Finding;
use crate::cli::providers;
use crate::config::{Config, ConfigError, Purpose};
use std::collections::BTreeSet;
use std::path::Path;

const AREA: &str = "configuration";

/// Reads it as `spillway run` would. Where that fails for secrets alone, the rest of it can be looked at all the same.
pub(super) fn load(file: Option<&Path>) -> (Vec<Finding>, Option<Config>) {
    match Config::load(file, Purpose::Serve) {
        Ok(config) => (findings(&config), Some(config)),
        Err(error) => (mistakes(&error), Config::load(file, Purpose::Look).ok()),
    }
}

fn mistakes(error: &ConfigError) -> Vec<Finding> {
    match error {
        ConfigError::Unreadable { .. } => {
            vec![Finding::broken(AREA, error.to_string(), "Name another with --config; `spillway init` writes one.")]
        }
        ConfigError::Wrong { path, mistakes } => {
            let broken = |mistake| Finding::broken(AREA, format!("{mistake}"), format!("Mend {}.", path.display()));
            mistakes.iter().map(broken).collect()
        }
    }
}

fn findings(config: &Config) -> Vec<Finding> {
    let doubts = config.doubts();
    let from = match &config.file {
        Some(file) => format!("{} is valid", file.display()),
        None => "no file: the defaults are in force".to_owned(),
    };
    let upstreams: Vec<&str> = config.upstreams.keys().map(String::as_str).collect();
    let routes = config.routes.0.len();
    let said = format!("{from}; upstreams: {}; routes: {routes}", upstreams.join(", "));
    let doubtful = |doubt| Finding::doubtful(AREA, doubt, "Is this meant?");
    let certificate = config.server.tls.said().map(|said| Finding::well("server.tls", said));
    [Finding::well(AREA, said)].into_iter().chain(certificate).chain(doubts.into_iter().map(doubtful)).collect()
}

/// The upstreams that somebody wants: the file names them, a route leads to them, or the environment has a key of
/// theirs. Where nothing says so of any, all of them.
pub(super) fn meant(config: &Config, has_variable: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let text = config.file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let named = table.get("upstreams").and_then(toml::Value::as_table);
    let mut meant: BTreeSet<String> = named.map(|named| named.keys().cloned().collect()).unwrap_or_default();
    for (_, route) in config.routes.iter() {
        meant.extend(route.targets.targets().map(|target| target.upstream.clone()));
    }
    let has_key = |name: &&String| providers::keys_of(name).iter().any(|variable| has_variable(variable));
    meant.extend(config.upstreams.keys().filter(has_key).cloned());
    if meant.is_empty() {
        meant.extend(config.upstreams.keys().cloned());
    }
    meant
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn load_text(text: &str) -> (Vec<Finding>, Option<Config>) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("spillway.toml");
        std::fs::write(&file, text).expect("written");
        load(Some(&file))
    }

    #[test]
    fn each_mistake_is_a_finding_and_what_lacks_a_secret_alone_is_looked_at() {
        let (found, config) = load_text("[server]\nlisten = \"4141\"\nmax_bodi = 1\n");
        assert!(found.len() == 2 && found.iter().all(|finding| finding.verdict == Verdict::Broken), "{found:?}");
        assert!(config.is_none());
        let (found, config) = load_text("[upstreams.openai]\napi_key_env = \"SPILLWAY_UNSET\"\n");
        assert!(found[0].said.contains("SPILLWAY_UNSET is not set"), "{found:?}");
        assert!(config.is_some());
    }

    #[test]
    fn an_upstream_is_meant_by_the_file_a_route_or_a_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let meant = |text: &str, key: &str| {
            let file = folder.path().join("spillway.toml");
            std::fs::write(&file, text).expect("written");
            let config = Config::load(Some(&file), Purpose::Look).expect("a configuration");
            meant(&config, |variable| variable == key).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(meant("", ""), ["anthropic", "gemini", "openai"]);
        assert_eq!(meant("", "OPENAI_API_KEY"), ["openai"]);
        assert_eq!(meant("[upstreams.gemini.limits]\n", ""), ["gemini"]);
        assert_eq!(meant("[routes.a]\ntargets = [\"openai\"]\n", "ANTHROPIC_API_KEY"), ["anthropic", "openai"]);
    }
}
