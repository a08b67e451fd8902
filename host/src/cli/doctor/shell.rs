//! Where applications go that are started from this shell: the variables that SDKs read.

use super::finding::Finding;
use crate::cli::providers::leads_to;
use crate::config::{BaseUrl, Config};
use crate::start::shell::VARIABLES;
use crate::upstream::client::{mistakes_of_environment, mistakes_of_system, proxy_of_environment};
use std::net::SocketAddr;

const AREA: &str = "this shell";

/// What its variables come to.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let serves = |upstream: &str| config.upstreams.contains_key(upstream);
    let wanted = VARIABLES.into_iter().filter(|(dialect, ..)| serves(dialect.as_str())).map(|(_, name, _)| name);
    let wanted: Vec<&str> = wanted.collect();
    let mut findings = vec![finding(&wanted, config.server.local_address(), &|name| std::env::var(name).ok())];
    for variable in mistakes_of_environment() {
        findings.push(Finding::broken(
            "proxy",
            format!("{variable} should name a proxy and does not, so that Spillway goes without it"),
            "It begins with http://, https://, socks5:// or socks5h://.",
        ));
    }
    for mistake in mistakes_of_system() {
        findings.push(Finding::doubtful(
            "certificates",
            mistake.clone(),
            "Install the system's certificates (ca-certificates), or name a file of them in SSL_CERT_FILE.",
        ));
    }
    findings
}

fn finding(wanted: &[&str], listen: SocketAddr, variable: &dyn Fn(&str) -> Option<String>) -> Finding {
    let is_set = |name: &&str| variable(name).is_some_and(|value| !value.is_empty());
    let leads_here = |name: &&str| {
        let url = variable(name).and_then(|value| BaseUrl::parse(&value).ok());
        url.is_some_and(|url| leads_to(&url, listen))
    };
    let here: Vec<&str> = wanted.iter().copied().filter(leads_here).collect();
    let elsewhere: Vec<&str> = wanted.iter().copied().filter(is_set).filter(|name| !here.contains(name)).collect();
    let next = "eval \"$(spillway env)\" in the shell that starts your application; SDKs can also be told a base URL.";
    if here.is_empty() && elsewhere.is_empty() {
        return Finding::doubtful(
            AREA,
            "applications that are started here go to their providers, past Spillway",
            next,
        );
    }
    if !elsewhere.is_empty() {
        let said = format!("{} {} past Spillway", elsewhere.join(", "), lead(elsewhere.len()));
        return Finding::doubtful(AREA, said, next);
    }
    let base = BaseUrl::parse(&format!("http://{listen}"));
    if let Some(proxy) = base.ok().and_then(|base| proxy_of_environment(&base, variable)) {
        let host = listen.ip();
        return Finding::broken(
            AREA,
            format!("{} {} here, but SDKs would go by the proxy {proxy}", here.join(", "), lead(here.len())),
            format!(
                "export no_proxy=\"{host},localhost,$no_proxy\" NO_PROXY=\"{host},localhost,$NO_PROXY\", as spillway env does."
            ),
        );
    }
    Finding::well(AREA, format!("{} {} here", here.join(", "), lead(here.len())))
}

fn lead(count: usize) -> &'static str {
    if count == 1 { "leads" } else { "lead" }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn variables_lead_here_or_past_and_a_proxy_takes_them_away() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 4141));
        let wanted = ["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"];
        let here = ("OPENAI_BASE_URL", "http://localhost:4141/openai/v1");
        let past = ("ANTHROPIC_BASE_URL", "https://gateway.example");
        let proxy = ("http_proxy", "http://proxy.example:3128");
        let none: &[(&str, &str)] = &[];
        let cases = [
            (none, Verdict::Doubtful, "go to their providers"),
            (&[here], Verdict::Well, "OPENAI_BASE_URL leads here"),
            (&[here, past], Verdict::Doubtful, "ANTHROPIC_BASE_URL leads past"),
            (&[here, proxy], Verdict::Broken, "proxy.example"),
            (&[here, proxy, ("no_proxy", "127.0.0.1,localhost")], Verdict::Well, "here"),
            (&[("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1")], Verdict::Doubtful, "past"),
        ];
        for (variables, verdict, words) in cases {
            let variable = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, to)| (*to).to_owned());
            let finding = finding(&wanted, listen, &variable);
            assert!(finding.verdict == verdict && finding.said.contains(words), "{variables:?}: {finding:?}");
        }
    }
}
