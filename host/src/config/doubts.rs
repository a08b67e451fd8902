//! What a configuration says that can be meant, and mostly is not.

use super::{Config, RouteConfig, TargetConfig, UpstreamConfig};
use std::net::IpAddr;

impl Config {
    /// A sentence for each.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        self.doubt_reach(&mut doubts);
        for (name, upstream) in &self.upstreams {
            let is_open = |route: &RouteConfig| {
                route.open_to_local && route.targets.targets().any(|target| target.upstream == *name)
            };
            if upstream.has_keys() && !self.has_access() && !self.routes.iter().any(|(_, route)| is_open(route)) {
                doubts.push(format!(
                    "upstreams.{name} has keys that nobody may spend: make a virtual key (`spillway key new`), set \
                     server.access_key_env, access_key_file or unix_socket, or say open_to_local = true in a route to it"
                ));
            }
        }
        let of_groups = self.groups.iter().map(|(name, group)| (format!("groups.{name}"), &group.when_exhausted));
        let named = of_groups.chain([("ledger".to_owned(), &self.ledger.when_exhausted)]);
        for (of, named) in named.filter_map(|(of, named)| Some((of, named.as_deref()?))) {
            if self.routes.iter().any(|(name, route)| name == named && route.takes_everything()) {
                doubts.push(format!(
                    "{of}.when_exhausted: routes.{named} takes everything else as well; say in it which requests it \
                     takes otherwise, such as model = \"{named}\""
                ));
            }
        }
        for (index, (name, route)) in self.routes.iter().enumerate() {
            self.doubt_route(name, route, &mut doubts);
            let speaks = self.dialect_of(route);
            let before = self.routes.iter().take(index);
            let shadows =
                |(_, earlier): &(&str, &RouteConfig)| self.dialect_of(earlier) == speaks && earlier.takes_everything();
            if let Some((earlier, _)) = before.into_iter().find(shadows) {
                doubts.push(format!(
                    "routes.{name} takes nothing: routes.{earlier} stands before it and takes everything"
                ));
            }
        }
        doubts
    }

    /// Who can call from elsewhere, and what lies open on the way.
    fn doubt_reach(&self, doubts: &mut Vec<String>) {
        let server = &self.server;
        doubts.extend(server.tls.doubts());
        if server.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
            doubts.push(
                "server.trusted_proxies: everybody is believed in whose name he asks; name the proxies' own addresses"
                    .to_owned(),
            );
        }
        if self.admin.plaintext && !self.admin.is_beyond_this_machine() {
            doubts.push(format!(
                "admin.plaintext means nothing: this machine's own processes alone reach {}",
                self.admin.listen
            ));
        }
        if !server.is_beyond_this_machine() {
            if server.plaintext {
                doubts.push(format!(
                    "server.plaintext means nothing: this machine's own processes alone reach {}",
                    server.listen
                ));
            }
            return;
        }
        if is_of_the_internet(server.listen.ip()) && !server.tls.is_on() {
            doubts.push(format!(
                "server.listen: {} is an address of the internet, and nothing on the way to it is encrypted, neither \
                 prompts nor credentials; name a certificate in [server.tls]",
                server.listen
            ));
        }
        if !server.allowed_origins.is_empty() {
            doubts.push(
                "server.allowed_origins: a page that calls from another machine must hold the access key, which \
                 whoever opens the page can read"
                    .to_owned(),
            );
        }
        for (name, _) in self.routes.iter().filter(|(_, route)| route.open_to_local) {
            doubts.push(format!(
                "routes.{name}.open_to_local means nothing: other machines reach server.listen, so every caller shows \
                 the access key"
            ));
        }
    }

    fn doubt_route(&self, name: &str, route: &RouteConfig, doubts: &mut Vec<String>) {
        let upstream = |target: &TargetConfig| self.upstreams.get(&target.upstream);
        let is_remote = |upstream: &UpstreamConfig| {
            let host = upstream.url.host();
            host != "localhost" && !host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        };
        let lacks_key = |target: &&TargetConfig| {
            upstream(target).is_some_and(|upstream| !upstream.has_keys() && is_remote(upstream))
        };
        let mut ranks = route.targets.0.iter();
        let first = ranks.next();
        for target in ranks.flatten().filter(lacks_key) {
            doubts.push(format!(
                "routes.{name}: {target} is asked without any credential, since upstreams.{} has no api_key_env or \
                 api_key_file; the caller's own goes to the first target alone",
                target.upstream
            ));
        }
        let spends = route.targets.targets().any(|target| upstream(target).is_some_and(UpstreamConfig::has_keys));
        for target in first.into_iter().flatten().filter(lacks_key).filter(|_| spends && !route.open_to_local) {
            doubts.push(format!(
                "routes.{name}: {target} is asked without any credential for whoever shows nothing but the access key, \
                 since upstreams.{} has no api_key_env or api_key_file",
                target.upstream
            ));
        }
    }

    fn dialect_of(&self, route: &RouteConfig) -> Option<crate::dialect::Dialect> {
        let first = route.targets.targets().next()?;
        Some(self.upstreams.get(&first.upstream)?.dialect)
    }
}

/// Whether an address is one that everybody could reach, and not of a machine, a house or a provider's network.
fn is_of_the_internet(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            // RFC 6598: between a provider and its customers.
            let is_shared = first == 100 && second & 0b1100_0000 == 64;
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || is_shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn what_is_mostly_not_meant_is_doubted() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key"), "sk-0123456789abcdef\n").expect("written");
        let doubts = |text: &str| {
            let config = parse(text, folder.path()).expect("it is valid");
            config.doubts()
        };
        let key = "api_key_file = \"key\"\n";
        let azure = "[upstreams.azure]\nurl = \"https://me.openai.azure.com\"\n";
        let local = "[upstreams.local]\nurl = \"http://127.0.0.1:11434\"\n";
        let beyond = |ip: &str, more: &str| {
            format!("[server]\nlisten = \"{ip}:4141\"\nplaintext = true\naccess_key_file = \"key\"\n{more}")
        };
        let cases = [
            (format!("[upstreams.openai]\n{key}"), "upstreams.openai has keys that nobody may spend"),
            (format!("{azure}[routes.a]\ntargets = [\"openai\", \"azure\"]"), "azure is asked without any credential"),
            (
                format!(
                    "[server]\naccess_key_file = \"key\"\n{azure}{key}[routes.a]\ntargets = [\"openai\", \"azure\"]"
                ),
                "openai is asked without any credential for whoever shows nothing but the access key",
            ),
            (
                "[routes.a]\ntargets = [\"openai\"]\n[routes.b]\ntargets = [\"openai\"]\nmodel = \"m\"".to_owned(),
                "routes.b takes nothing: routes.a",
            ),
            ("[server]\nplaintext = true".to_owned(), "server.plaintext means nothing"),
            (beyond("203.0.113.5", ""), "is an address of the internet"),
            (beyond("[2001:db8::5]", ""), "is an address of the internet"),
            (
                beyond("0.0.0.0", "allowed_origins = [\"https://app.example\"]\n"),
                "a page that calls from another machine must hold the access key",
            ),
            (
                beyond("0.0.0.0", "[routes.a]\ntargets = [\"openai\"]\nopen_to_local = true"),
                "routes.a.open_to_local means nothing",
            ),
        ];
        for (text, doubted) in cases {
            let doubts = doubts(&text);
            assert!(doubts.len() == 1 && doubts[0].contains(doubted), "{doubts:#?} is not: {doubted}");
        }
        let sound = format!(
            "{local}[routes.b]\ntargets = [\"openai\"]\nmodel = \"m\"\n[routes.a]\ntargets = [\"openai\", \"local\"]"
        );
        assert_eq!(doubts(&sound), Vec::<String>::new());
        for ip in ["0.0.0.0", "[::]", "10.1.2.3", "172.17.0.2", "192.168.1.2", "100.64.0.1", "[fd00::1]", "[fe80::1]"] {
            assert_eq!(doubts(&beyond(ip, "")), Vec::<String>::new(), "{ip}");
        }
    }
}
