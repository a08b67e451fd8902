//! Who reaches Spillway from elsewhere, and what must be said before anybody does.

use super::reader::Section;
use super::server::Server;

/// What lacks where each caller must show a key.
const KEY: &str = "an access key (access_key_env or access_key_file), or [keys] required = true, so that each caller \
                   shows one";
/// What lacks where nothing says how what callers send is encrypted.
const WAY: &str = "how it is encrypted: a certificate in [server.tls]; or behind_tls_proxy = true and trusted_proxies, \
                   where a proxy speaks TLS to callers; or plaintext = true, in a container's or another trusted network";

impl Server {
    /// Notes what must be said before callers on other machines are let in. `has_key` says that each must show one.
    pub(super) fn check_reach(&self, section: &Section<'_>, has_key: bool) {
        let says_way = self.tls.certificate.is_some() || self.tls.key.is_some();
        if self.plaintext && says_way {
            section
                .mistake("plaintext", "says that nothing is encrypted, and [server.tls] that all is: keep one of them");
        }
        if self.plaintext && self.behind_tls_proxy {
            section.mistake(
                "plaintext",
                "says that nobody encrypts, and behind_tls_proxy that a proxy does: keep one of them",
            );
        }
        if self.behind_tls_proxy && self.trusted_proxies.is_empty() && !section.has("trusted_proxies") {
            section.mistake(
                "behind_tls_proxy",
                "takes trusted_proxies: from which addresses the proxy calls, such as [\"10.0.0.0/8\"]; what comes from \
                 elsewhere is refused",
            );
        }
        if !self.is_beyond_this_machine() {
            return;
        }
        let says_way = says_way || self.plaintext || self.behind_tls_proxy;
        let lacks: Vec<&str> = [(!has_key).then_some(KEY), (!says_way).then_some(WAY)].into_iter().flatten().collect();
        if lacks.is_empty() {
            return;
        }
        let (listen, port) = (self.listen, self.listen.port());
        let key = if self.listen.ip().is_loopback() { "behind_tls_proxy" } else { "listen" };
        section.mistake(
            key,
            format!(
                "{listen} is reached by other machines. For this machine alone, listen on \"127.0.0.1:{port}\"{}. For \
                 others, say in [server] {}",
                if self.behind_tls_proxy { " without behind_tls_proxy" } else { "" },
                lacks.join(", and ")
            ),
        );
    }

    /// Whether callers on other machines reach Spillway, by themselves or through a proxy.
    pub fn is_beyond_this_machine(&self) -> bool {
        !self.listen.ip().is_loopback() || self.behind_tls_proxy
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use std::fs;
    use std::path::Path;

    fn mistakes(text: &str, folder: &Path) -> Vec<String> {
        let found = parse(&format!("[server]\n{text}"), folder).err().unwrap_or_default();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn whoever_lets_other_machines_in_demands_a_key_and_says_how_it_is_encrypted() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("key"), "canary-0123456789\n").expect("written");
        let key = "access_key_file = \"key\"\n";
        let behind = "behind_tls_proxy = true\ntrusted_proxies = [\"10.0.0.0/8\"]\n";
        for address in ["0.0.0.0:4141", "[::]:4141", "10.1.2.3:4141", "[fd00::1]:4141"] {
            let listen = format!("listen = \"{address}\"\n");
            for (rest, lacks_key, lacks_way) in [
                (String::new(), true, true),
                ("plaintext = true\n".to_owned(), true, false),
                (behind.to_owned(), true, false),
                (key.to_owned(), false, true),
            ] {
                let found = mistakes(&format!("{listen}{rest}"), folder.path());
                assert_eq!(found.len(), 1, "{found:#?}");
                let said = &found[0];
                assert!(said.starts_with("line 2: server.listen: ") && said.contains("\"127.0.0.1:4141\""), "{said}");
                assert_eq!((said.contains(KEY), said.contains(WAY)), (lacks_key, lacks_way), "{said}");
            }
            for rest in [format!("plaintext = true\n{key}"), format!("{behind}{key}")] {
                assert_eq!(mistakes(&format!("{listen}{rest}"), folder.path()), Vec::<String>::new());
            }
        }
        // What is wrong with the key is said of the key alone.
        let text = "listen = \"0.0.0.0:4141\"\nplaintext = true\naccess_key_env = \"SPILLWAY_UNSET\"";
        let found = mistakes(text, folder.path());
        assert!(found.len() == 1 && found[0].starts_with("line 4: server.access_key_env"), "{found:#?}");
    }

    #[test]
    fn what_contradicts_itself_or_lacks_a_part_is_a_mistake_of_that_part() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("key"), "canary-0123456789\n").expect("written");
        for (text, said) in [
            ("behind_tls_proxy = true\naccess_key_file = \"key\"", "server.behind_tls_proxy: takes trusted_proxies"),
            (
                "plaintext = true\nbehind_tls_proxy = true\ntrusted_proxies = [\"10.0.0.1\"]\naccess_key_file = \"key\"",
                "server.plaintext: says that nobody encrypts",
            ),
            ("trusted_proxies = [\"10.0.0\"]", "neither an address nor a network"),
            ("tls.key = \"key\"", "server.tls.key: takes its certificate too"),
            ("tls.certificate = \"none\"\ntls.key = \"key\"", "server.tls.certificate: cannot read"),
        ] {
            let found = mistakes(text, folder.path());
            assert!(found.len() == 1 && found[0].contains(said), "{text}: {found:#?}");
        }
        // A proxy on this machine lets others in.
        let found = mistakes("behind_tls_proxy = true\ntrusted_proxies = [\"127.0.0.1\"]", folder.path());
        assert!(
            found.len() == 1 && found[0].contains("server.behind_tls_proxy") && found[0].contains(KEY),
            "{found:?}"
        );
    }
}
