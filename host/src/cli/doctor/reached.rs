//! What it means how an upstream was reached, or why it was not.

use super::finding::Finding;
use super::reach::in_words;
use crate::dialect::Dialect;
use http::StatusCode;
use std::time::Duration;

/// How it went with one upstream.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) host: String,
    pub(super) is_encrypted: bool,
    /// On this machine, by its very name.
    pub(super) is_here: bool,
    pub(super) dialect: Dialect,
    /// The proxy on the way, without credentials.
    pub(super) proxy: Option<String>,
    /// Somebody here wants it: the file names it, a route leads to it, or the environment has a key of it.
    pub(super) is_meant: bool,
    pub(super) outcome: Result<Answer, Failure>,
    pub(super) took: Took,
    pub(super) keys: Vec<KeyTried>,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// It is a page for people, which no API gives.
    pub(super) is_page: bool,
    /// Where it sends whoever asks.
    pub(super) location: Option<String>,
    /// By how many milliseconds our clock is ahead of theirs, to half a second.
    pub(super) clock_ahead_ms: Option<i64>,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// In a sentence, without a capital and a full stop.
    pub(super) sentence: String,
}

/// What is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// This machine lacks something.
    Shortage,
    /// A name does not resolve.
    Name,
    /// A connection is refused, or there is no way there.
    Refused,
    /// Nobody answers a connection.
    Silent,
    /// The proxy does not let us through.
    ProxyRefused,
    /// The certificate's authority is not known.
    UnknownAuthority,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is for another name.
    OtherName,
    /// It does not speak TLS.
    NoTls,
    /// TLS is not agreed upon for another reason.
    Tls,
    /// A connection is lost.
    BrokenOff,
    /// There is a connection, and no answer.
    NoAnswer,
    /// The time of all checks has passed.
    OutOfTime,
}

/// How long each step took, of those that went well.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Took {
    pub(super) name: Option<Duration>,
    /// Proxy and TLS included.
    pub(super) connection: Option<Duration>,
    pub(super) answer: Option<Duration>,
}

/// A key that was tried.
#[derive(Clone, Debug)]
pub(super) struct KeyTried {
    /// The variable or the file.
    pub(super) source: String,
    pub(super) asked: Asked,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// It was not shown, for this reason.
    Withheld(String),
    /// It could not be read, for this reason.
    Unreadable(String),
    /// No answer came, for this reason.
    Unanswered(String),
    /// This was answered.
    Answered(StatusCode),
}

impl Reached {
    /// What there is to say of it: how it is reached, and each of its keys that was tried.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![match &self.outcome {
            Ok(answer) => self.of_answer(answer),
            Err(failure) => self.of_failure(failure),
        }];
        let open = self.outcome.as_ref().is_ok_and(|answer| answer.status.is_success());
        findings.extend(self.keys.iter().map(|key| self.of_key(key, open)));
        findings
    }

    fn of_answer(&self, answer: &Answer) -> Finding {
        let status = in_words(answer.status);
        let said = format!("{} answers {status}{}{}", self.url, self.by_proxy(), self.times());
        let name = &*self.name;
        if let Some(location) = answer.location.as_ref().filter(|_| answer.status.is_redirection()) {
            let said = format!("{} sends whoever asks to {location}", self.url);
            let next =
                format!("If that is where the API is, say so in upstreams.{name}.url; SDKs follow no redirects.");
            return Finding::doubtful(name, said, next);
        }
        if answer.is_page && answer.status.is_success() {
            let next = format!(
                "No API answers with a page: is upstreams.{name}.url right? A hotel's or a company's sign-in page also \
                 answers in place of others; open it in a browser."
            );
            return Finding::doubtful(name, format!("{} answers with a page for people", self.url), next);
        }
        match answer.status.as_u16() {
            407 => Finding::broken(
                name,
                format!("the proxy{} wants a name and a password ({status})", self.proxy_name()),
                "Its URL can hold both: http://NAME:PASSWORD@HOST:PORT.",
            ),
            // Gemini says so of whoever shows no key.
            403 if self.dialect != Dialect::Gemini => Finding::doubtful(
                name,
                said,
                "It turns this machine away before it asks for a key: providers do that by country, companies by what \
                 may be visited.",
            ),
            500..=599 => Finding::doubtful(
                name,
                said,
                "It has trouble of its own, or who answers in its place. Ask again later.",
            ),
            _ => Finding::well(name, said),
        }
    }

    fn of_failure(&self, failure: &Failure) -> Finding {
        let next = self.advice(failure.cause);
        let said = format!("{}{}", failure.sentence, self.by_proxy_unless_told(&failure.sentence));
        match self.is_meant {
            true => Finding::broken(&*self.name, said, next),
            false => {
                let said = format!("{said}; nothing here asks for it");
                Finding::doubtful(&*self.name, said, next)
            }
        }
    }

    fn advice(&self, cause: Cause) -> String {
        let Reached { name, host, .. } = self;
        let proxied = self.proxy.is_some();
        match cause {
            Cause::Shortage => "Raise the limit on open files (ulimit -n), or end what holds so many.".to_owned(),
            Cause::Name if proxied => format!(
                "Is this machine online, and does the proxy's name exist? HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or \
                 upstreams.{name}.proxy names it."
            ),
            Cause::Name => format!(
                "Is this machine online, and is the host in upstreams.{name}.url right? Where only a proxy knows \
                 names, set HTTPS_PROXY or upstreams.{name}.proxy."
            ),
            Cause::Refused if proxied => {
                format!("Does the proxy run, and may it go to {host}? NO_PROXY={host} goes there without it.")
            }
            Cause::Refused if self.is_here => format!("Start the server, or mend the port in upstreams.{name}.url."),
            Cause::Refused => format!(
                "Is the port in upstreams.{name}.url right? Otherwise a firewall keeps you from there; where a proxy is \
                 the only way out, set HTTPS_PROXY or upstreams.{name}.proxy."
            ),
            Cause::Silent if proxied => {
                format!("Does the proxy run, and may it go to {host}? NO_PROXY={host} goes there without it.")
            }
            Cause::Silent => format!(
                "A firewall drops what is sent there, or the host is down. Where a proxy is the only way out, set \
                 HTTPS_PROXY or upstreams.{name}.proxy."
            ),
            Cause::ProxyRefused => format!(
                "Name and password stand in the proxy's URL: http://NAME:PASSWORD@HOST:PORT. If they are right, ask who \
                 runs it to let you to {host}."
            ),
            Cause::UnknownAuthority => format!(
                "Something on the way shows a certificate of its own, as companies do that read what goes out; or the \
                 server has one of its own. Name the authority's file in upstreams.{name}.ca_file or SSL_CERT_FILE."
            ),
            Cause::Expired => "Its owner must renew it, unless this machine's clock is ahead.".to_owned(),
            Cause::NotYetValid => "This machine's clock is behind: set it (timedatectl).".to_owned(),
            Cause::OtherName => format!(
                "Is the host in upstreams.{name}.url right? If it is, something else answers in its place: a proxy, a \
                 sign-in page, or a wrong entry in /etc/hosts."
            ),
            Cause::NoTls => format!("Write http:// in upstreams.{name}.url if that is meant, or mend the port."),
            Cause::Tls | Cause::BrokenOff => {
                "Something on the way may not let TLS through. Try from another network, or through a proxy.".to_owned()
            }
            Cause::NoAnswer if self.is_here => "Is it the right server, and is it still loading a model?".to_owned(),
            Cause::NoAnswer => "Ask again; if it stays so, something on the way holds answers back.".to_owned(),
            Cause::OutOfTime => format!("Ask again, or shorten upstreams.{name}.connect_timeout to hear why."),
        }
    }

    /// A key is well if it makes a difference.
    fn of_key(&self, key: &KeyTried, is_open: bool) -> Finding {
        let area = format!("{} key", self.name);
        let source = &key.source;
        let put = format!("Put a key of {} there that it knows.", self.name);
        match &key.asked {
            Asked::Withheld(why) => Finding::doubtful(
                area,
                format!("{source} was not shown, so nothing is known of it: {why}"),
                "A real request tells. A key of the environment is shown to its provider's own host, over https, or to \
                 this machine alone.",
            ),
            Asked::Unreadable(why) => Finding::broken(area, why.clone(), put),
            Asked::Unanswered(why) => {
                Finding::doubtful(area, format!("nothing is known of {source}: {why}"), "Ask again.")
            }
            Asked::Answered(status) => match status.as_u16() {
                200..=299 if is_open => {
                    Finding::well(area, format!("{source}: {} answers the same without a key", self.name))
                }
                200..=299 => Finding::well(area, format!("{source} is taken")),
                429 => Finding::well(area, format!("{source} is known, and at its rate limit")),
                402 => Finding::doubtful(area, format!("{source} is known, and its balance is spent"), "Top it up."),
                401 | 403 => Finding::broken(area, format!("{source} is refused ({})", in_words(*status)), put),
                // Gemini's way to refuse one.
                400 if self.dialect == Dialect::Gemini => {
                    Finding::broken(area, format!("{source} is refused ({})", in_words(*status)), put)
                }
                _ => Finding::doubtful(
                    area,
                    format!("nothing is known of {source}: {} answers {}", self.name, in_words(*status)),
                    "A real request tells.",
                ),
            },
        }
    }

    fn by_proxy(&self) -> String {
        self.proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default()
    }

    /// Sentences about the proxy name it themselves.
    fn by_proxy_unless_told(&self, sentence: &str) -> String {
        if sentence.contains("proxy") { String::new() } else { self.by_proxy() }
    }

    fn proxy_name(&self) -> String {
        self.proxy.as_ref().map(|proxy| format!(" {proxy}")).unwrap_or_default()
    }

    fn times(&self) -> String {
        let connection = if self.is_encrypted { "connection with TLS" } else { "connection" };
        let Took { name, connection: connected, answer } = self.took;
        let steps = [("name", name), (connection, connected), ("answer", answer)];
        let told = steps.iter().filter_map(|(step, took)| took.map(|took| format!("{step} {}", milliseconds(took))));
        let told: Vec<String> = told.collect();
        if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
    }
}

fn milliseconds(took: Duration) -> String {
    match took.as_millis() {
        0 => "<1 ms".to_owned(),
        ms => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests;
