//! Tokens of operators: who may see how things stand, and who may change them.

use crate::config::{Admin, Role};
use crate::policy::Sha256Sum;
use http::{HeaderMap, Method, StatusCode, header};
use ring::hmac;

/// How a token begins that `spillway admin token new` makes, so that whoever finds one knows whose it is.
pub(crate) const PREFIX: &str = "spillway-admin-";

/// The scheme in front of a token.
const BEARER: &str = "bearer ";

/// The tokens that are taken; `None` where nobody is asked for one, since this machine alone asks.
///
/// Tokens are random and long, so that a hash without salt gives nothing away. Hashes are compared in constant time.
#[derive(Debug)]
pub(super) struct Tokens(Option<Vec<(Role, hmac::Tag)>>);

/// Why an operator is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// No token is shown, or none that is known.
    Unknown,
    /// The token that is shown may not do that.
    Lesser,
}

impl Denied {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Denied::Unknown => StatusCode::UNAUTHORIZED,
            Denied::Lesser => StatusCode::FORBIDDEN,
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Denied::Unknown => {
                "Whoever asks from another machine shows a token of [admin.tokens], as Authorization: Bearer TOKEN; \
                 `spillway admin token new` makes one."
            }
            Denied::Lesser => {
                "This token sees how things stand, and may not change them: that takes one whose role is operate."
            }
        }
    }
}

/// Hides nothing: it makes what is compared a tag.
fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, b"spillway admin token")
}

impl Tokens {
    pub(super) fn of(admin: &Admin) -> Tokens {
        let key = key();
        let tag = |(_, role, sha256): (&str, Role, crate::policy::Sha256Sum)| (role, hmac::sign(&key, &sha256.bytes()));
        Tokens(admin.is_beyond_this_machine().then(|| admin.tokens.iter().map(tag).collect()))
    }

    /// Whether a request of this method with these headers may be answered.
    pub(super) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Denied> {
        let Some(tokens) = &self.0 else { return Ok(()) };
        let needed = if method == Method::GET || method == Method::HEAD { Role::Read } else { Role::Operate };
        let shown = shown(headers).ok_or(Denied::Unknown)?;
        let (key, shown) = (key(), Sha256Sum::of(shown.as_bytes()).bytes());
        let is_shown = |(_, tag): &&(Role, hmac::Tag)| hmac::verify(&key, &shown, tag.as_ref()).is_ok();
        let role = tokens.iter().filter(is_shown).map(|(role, _)| *role).max().ok_or(Denied::Unknown)?;
        if role >= needed { Ok(()) } else { Err(Denied::Lesser) }
    }
}

/// The token that is shown.
fn shown(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let scheme = value.get(..BEARER.len()).filter(|scheme| scheme.eq_ignore_ascii_case(BEARER))?;
    Some(value[scheme.len()..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use http::HeaderValue;
    use std::path::Path;

    fn tokens(listen: &str) -> Tokens {
        let of = |name: &str| Sha256Sum::of(name.as_bytes()).to_string();
        let text = format!(
            "[admin]\nlisten = \"{listen}:4142\"\nplaintext = true\n[admin.tokens.a]\nsha256 = \"{}\"\n\
             [admin.tokens.b]\nrole = \"operate\"\nsha256 = \"{}\"\n",
            of("reads"),
            of("operates")
        );
        Tokens::of(&parse(&text, Path::new("")).expect("a configuration").admin)
    }

    #[test]
    fn each_role_may_what_it_may_and_nobody_else_anything() {
        let tokens = tokens("0.0.0.0");
        for (shown, get, post) in [
            (None, Err(Denied::Unknown), Err(Denied::Unknown)),
            (Some("Bearer reads"), Ok(()), Err(Denied::Lesser)),
            (Some("bearer  operates"), Ok(()), Ok(())),
            (Some("reads"), Err(Denied::Unknown), Err(Denied::Unknown)),
            (Some("Basic reads"), Err(Denied::Unknown), Err(Denied::Unknown)),
            (Some("Bearer read"), Err(Denied::Unknown), Err(Denied::Unknown)),
            (Some("Bearer "), Err(Denied::Unknown), Err(Denied::Unknown)),
        ] {
            let headers = shown.map(|shown| (header::AUTHORIZATION, HeaderValue::from_static(shown)));
            let headers = headers.into_iter().collect();
            let found = (tokens.check(&Method::GET, &headers), tokens.check(&Method::POST, &headers));
            assert_eq!(found, (get, post), "{shown:?}");
        }
    }

    #[test]
    fn this_machine_is_asked_for_none() {
        assert_eq!(tokens("127.0.0.1").check(&Method::POST, &HeaderMap::new()), Ok(()));
    }
}
