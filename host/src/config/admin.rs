//! `[admin]`: where operators reach Spillway, and what they show there.

use super::kind::{Address, Flag, Maybe, Parsed, Word};
use super::policies::sha256;
use super::reader::Section;
use super::section::{Description, Table, Tables, section};
use crate::policy::Sha256Sum;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use toml::Value;

section! {
    /// Where operators reach Spillway: `/status`, `/metrics`, `/livez` and `/readyz`.
    pub struct Admin {
        /// Another address than callers have, whatever `server.listen` is. A loopback address asks nobody for a token.
        /// Any other takes tokens, and the certificate of `[server.tls]` or `plaintext = true`; `/livez` and `/readyz`
        /// are answered without a token.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 4142)), Address;
        /// Whether operators on other machines may ask though nothing on the way here is encrypted, neither tokens nor
        /// what is shown: for a network of containers, or another one that is trusted.
        plaintext: bool = false, Flag;
    }
    tables {
        /// Whoever asks from another machine shows one of these.
        tokens: AdminTokens;
    }
}

section! {
    /// A token of an operator's, of which only the hash stands here: `spillway admin token new` makes one.
    pub struct AdminToken {
        /// What it may do: `read` sees how things stand, `operate` changes them as well.
        role: Role = Role::Read, Word(&Role::ALL, Role::as_str);
        /// SHA-256 of the token.
        sha256: Option<Sha256Sum> = None, Maybe(Parsed("SHA-256 sum in hexadecimal", sha256));
    }
}

/// What an operator may do. Each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// See how things stand.
    Read,
    /// Change them.
    Operate,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 2] = [Role::Read, Role::Operate];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
        }
    }
}

/// Tokens by their names.
#[derive(Clone, Debug, Default)]
pub struct AdminTokens(BTreeMap<String, AdminToken>);

impl AdminTokens {
    fn fresh(_folder: &Path) -> AdminTokens {
        AdminTokens::default()
    }

    /// Name, role and hash of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Role, Sha256Sum)> {
        self.0.iter().filter_map(|(name, token)| Some((&**name, token.role, token.sha256?)))
    }
}

impl Table for AdminTokens {
    fn describe() -> Description {
        let doc = "Whoever asks from another machine shows one of these, as `Authorization: Bearer TOKEN`.".to_owned();
        Description { doc, keys: Vec::new(), tables: Tables::Named(Box::new(AdminToken::describe())) }
    }

    fn entries(&self) -> Vec<(Cow<'_, str>, Option<Value>)> {
        Vec::new()
    }

    fn tables(&self) -> Vec<(Cow<'_, str>, &dyn Table)> {
        self.0.tables()
    }
}

impl Admin {
    /// Reads it. `has_certificate` says that `[server.tls]` names one.
    pub(super) fn read(section: Section<'_>, has_certificate: bool) -> Admin {
        let mut admin = Admin::fresh(section.folder());
        admin.take(&section);
        for (name, table) in section.section("tokens").named_sections() {
            admin.tokens.0.insert(name, AdminToken::read(table));
        }
        if admin.is_beyond_this_machine() {
            let lacks_way = !has_certificate && !admin.plaintext;
            let lacks = [
                admin.tokens.0.is_empty().then_some(
                    "a token that whoever asks must show (`spillway admin token new NAME` makes one, and prints the lines \
                     for this file)",
                ),
                lacks_way.then_some(
                    "a certificate in [server.tls], or admin.plaintext = true where the network is trusted, since tokens \
                     and what is shown are not encrypted otherwise",
                ),
            ];
            let lacks: Vec<&str> = lacks.into_iter().flatten().collect();
            if !lacks.is_empty() {
                let (listen, port) = (admin.listen, admin.listen.port());
                section.mistake(
                    "listen",
                    format!(
                        "{listen} is reached by other machines. For this machine alone, listen on \"127.0.0.1:{port}\"; \
                         in a container, ask from within (`spillway status`). For others it takes {}",
                        lacks.join(", and ")
                    ),
                );
            }
        }
        section.finish();
        admin
    }

    /// Whether operators on other machines reach it: then each shows a token.
    pub fn is_beyond_this_machine(&self) -> bool {
        !self.listen.ip().is_loopback()
    }

    /// Whether TLS is spoken there, given that there is a certificate.
    pub fn speaks_tls(&self) -> bool {
        self.is_beyond_this_machine() && !self.plaintext
    }
}

impl AdminToken {
    fn read(section: Section<'_>) -> AdminToken {
        let mut token = AdminToken::fresh(section.folder());
        token.take(&section);
        if token.sha256.is_none() && !section.has("sha256") {
            section.mistake("", "takes `sha256`, the hash of the token: `spillway admin token new` makes both");
        }
        section.finish();
        token
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const TOKEN: &str = "[admin.tokens.prometheus]\n\
                         sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n";

    #[test]
    fn whoever_lets_other_machines_ask_demands_a_token_and_says_how_it_is_encrypted() {
        let mistake = |text: &str| {
            let found = parse(text, Path::new("")).err().unwrap_or_default();
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        for listen in ["0.0.0.0:4142", "10.1.2.3:4142", "[::]:4142"] {
            let bare = format!("[admin]\nlisten = \"{listen}\"\n");
            let said = mistake(&bare);
            assert!(said.starts_with("line 2: admin.listen: ") && said.contains("\"127.0.0.1:4142\""), "{said}");
            assert!(said.contains("admin token new") && said.contains("[server.tls]"), "{said}");
            let said = mistake(&format!("{bare}{TOKEN}"));
            assert!(!said.contains("admin token new") && said.contains("admin.plaintext = true"), "{said}");
            let said = mistake(&format!("{bare}plaintext = true\n"));
            assert!(said.contains("admin token new") && !said.contains("[server.tls]"), "{said}");
            assert_eq!(mistake(&format!("{bare}plaintext = true\n{TOKEN}")), "");
        }
        assert_eq!(mistake("[admin]\nlisten = \"[::1]:4142\"\n"), "");
    }

    #[test]
    fn a_token_is_its_hash_and_reads_unless_more_is_said() {
        let config = parse(TOKEN, Path::new("")).expect("a configuration");
        let tokens: Vec<_> = config.admin.tokens.iter().map(|(name, role, _)| (name.to_owned(), role)).collect();
        assert_eq!(tokens, [("prometheus".to_owned(), Role::Read)]);
        let found = parse("[admin.tokens.mine]\nrole = \"operate\"\n", Path::new("")).expect_err("no hash");
        assert!(found.len() == 1 && found[0].to_string().contains("takes `sha256`"), "{found:?}");
        assert!(parse(&TOKEN.replace("9f86", "sk-"), Path::new("")).is_err(), "no hash");
    }
}
