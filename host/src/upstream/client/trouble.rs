//! What can go wrong between here and an upstream, in a word for policies and in a sentence for people.

use super::issuer::UnknownAuthority;
use crate::runtime::causes::{ErrorChain, find};
use crate::runtime::shortage::Shortage;
use rustls::CertificateError;
use spillway_sdk::Fault;
use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;

/// What makes an authority known.
const NAME_IT: &str = "name its file as ca_file, or in SSL_CERT_FILE";

/// Why there is no connection. It reads as a sentence without a capital and a full stop.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    /// In a policy's words.
    pub(crate) fault: Fault,
    /// In a sentence's words.
    pub(crate) sentence: Rc<str>,
    /// What this machine lacked for it: then nobody else has had a part in it.
    pub(crate) shortage: Option<Shortage>,
    /// What it was told by, if that is more than the sentence.
    pub(crate) source: Option<ErrorChain>,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Error for Trouble {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().and_then(Error::source)
    }
}

impl Trouble {
    /// This fault, with this sentence.
    pub(crate) fn new(fault: Fault, sentence: impl Into<Rc<str>>) -> Trouble {
        Trouble { fault, sentence: sentence.into(), shortage: None, source: None }
    }

    /// The same, as this error told it.
    pub(crate) fn told_by(fault: Fault, sentence: impl Into<Rc<str>>, error: impl Error + 'static) -> Trouble {
        Trouble { shortage: Shortage::of(&error), source: Some(ErrorChain::of(error)), ..Trouble::new(fault, sentence) }
    }

    /// A name that did not resolve.
    pub(crate) fn name(host: &str, error: io::Error) -> Trouble {
        Trouble::told_by(Fault::Dns, format!("the name did not resolve: {host} ({error})"), error)
    }

    /// No address let itself be connected to.
    pub(crate) fn connecting(to: &str, error: io::Error) -> Trouble {
        let (fault, sentence) = match error.kind() {
            io::ErrorKind::ConnectionRefused => (Fault::ConnectRefused, format!("connection refused by {to}")),
            io::ErrorKind::TimedOut => (Fault::ConnectTimeout, format!("connect timeout: {to} did not answer")),
            io::ErrorKind::HostUnreachable => (Fault::ConnectRefused, format!("no route to host {to}")),
            io::ErrorKind::NetworkUnreachable => (Fault::ConnectRefused, format!("network unreachable for {to}")),
            _ => (Fault::ConnectRefused, format!("no connection to {to}: {error}")),
        };
        Trouble::told_by(fault, sentence, error)
    }

    /// A handshake of TLS that failed.
    pub(crate) fn tls(to: &str, error: io::Error) -> Trouble {
        let (fault, sentence) = match find::<rustls::Error>(&error) {
            Some(tls) => (fault_of_tls(tls), format!("TLS failed with {to}: {}", of_tls(tls))),
            // A server that has just begun or is about to end does that too, so it may go better next time. One that has
            // not read what it was greeted with closes with a reset.
            None if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
            {
                (Fault::Reset, format!("TLS failed with {to}: it closed the connection instead of speaking TLS"))
            }
            None => (Fault::Reset, format!("the connection to {to} was lost before TLS was agreed upon: {error}")),
        };
        Trouble::told_by(fault, sentence, error)
    }
}

/// What is wrong with a certificate, or with there being TLS at all, will be wrong again. Anything else may pass.
fn fault_of_tls(error: &rustls::Error) -> Fault {
    match error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::NoCertificatesPresented
        | rustls::Error::InvalidMessage(_)
        | rustls::Error::PeerIncompatible(_) => Fault::Tls,
        _ => Fault::Reset,
    }
}

/// What was wrong with TLS, and where that helps, what to do about it.
fn of_tls(error: &rustls::Error) -> String {
    let certificate = match error {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::InvalidMessage(_) => {
            return "it does not speak TLS; if plain HTTP is meant, url begins with http://".to_owned();
        }
        rustls::Error::NoCertificatesPresented => return "it showed no certificate".to_owned(),
        _ => return error.to_string(),
    };
    if let Some(unknown) = UnknownAuthority::in_error(certificate) {
        return format!("{unknown}; {NAME_IT}");
    }
    match certificate {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("certificate expired on {}", day(not_after.as_secs()))
        }
        CertificateError::Expired => "certificate expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            let day = day(not_before.as_secs());
            format!("certificate not valid before {day}; is the clock of this machine right?")
        }
        CertificateError::NotValidYet => "certificate not valid yet; is the clock of this machine right?".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented = if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") };
            format!("certificate is for another name ({presented})")
        }
        CertificateError::NotValidForName => "certificate is for another name".to_owned(),
        CertificateError::UnknownIssuer => format!("certificate signed by an unknown authority; {NAME_IT}"),
        CertificateError::Revoked => "certificate revoked".to_owned(),
        _ => format!("certificate not accepted ({error})"),
    }
}

/// The day of a moment in seconds since 1970, as in 2026-11-20.
fn day(unix_seconds: u64) -> String {
    let moment = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(unix_seconds));
    let text = moment.map(|moment| humantime::format_rfc3339_seconds(moment).to_string()).unwrap_or_default();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Why a connection was lost that had been there.
pub(crate) fn fault_of(error: &(dyn Error + 'static)) -> Fault {
    if find::<rustls::Error>(error).is_some() {
        return Fault::Tls;
    }
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        return Fault::Protocol;
    }
    Fault::Reset
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use std::time::Duration;

    fn seconds(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn handshake(error: CertificateError) -> Trouble {
        let tls = rustls::Error::InvalidCertificate(error);
        Trouble::tls("api.example", io::Error::new(io::ErrorKind::InvalidData, tls))
    }

    #[test]
    fn each_mistake_with_a_certificate_has_a_sentence_of_its_own() {
        let cases = [
            (
                CertificateError::ExpiredContext { time: seconds(1_800_000_000), not_after: seconds(1_795_132_800) },
                "certificate expired on 2026-11-20",
            ),
            (
                CertificateError::NotValidYetContext { time: seconds(0), not_before: seconds(1_795_132_800) },
                "not valid before 2026-11-20; is the clock of this machine right?",
            ),
            (CertificateError::UnknownIssuer, "unknown authority; name its file as ca_file"),
            (CertificateError::NotValidForName, "certificate is for another name"),
        ];
        for (error, words) in cases {
            let trouble = handshake(error);
            assert_eq!(trouble.fault, Fault::Tls);
            assert!(trouble.sentence.contains(words), "{trouble}");
        }
    }

    #[test]
    fn what_is_wrapped_is_found() {
        let tls = || rustls::Error::NoCertificatesPresented;
        assert_eq!(fault_of(&io::Error::other(tls())), Fault::Tls);
        assert_eq!(fault_of(&io::Error::other(io::Error::other(tls()))), Fault::Tls);
        assert_eq!(fault_of(&io::Error::from(io::ErrorKind::ConnectionReset)), Fault::Reset);
    }

    #[test]
    fn no_way_to_a_host_is_told_from_a_refusal() {
        let of = |error| Trouble::connecting("10.0.0.1:443", error);
        let of_kind = |kind: io::ErrorKind| of(kind.into());
        assert_eq!(&*of_kind(io::ErrorKind::HostUnreachable).sentence, "no route to host 10.0.0.1:443");
        assert_eq!(&*of_kind(io::ErrorKind::NetworkUnreachable).sentence, "network unreachable for 10.0.0.1:443");
        assert_eq!(&*of_kind(io::ErrorKind::ConnectionRefused).sentence, "connection refused by 10.0.0.1:443");
        assert_eq!(of(Shortage::no_descriptors()).shortage, Some(Shortage::Descriptors));
    }

    #[test]
    fn what_was_in_the_way_is_kept_as_it_arose() {
        let trouble = Trouble::connecting("10.0.0.1:443", io::ErrorKind::ConnectionRefused.into());
        let kept = ErrorChain::of(trouble);
        assert_eq!(kept.to_string(), "connection refused by 10.0.0.1:443");
        assert_eq!(find::<Trouble>(&kept).map(|trouble| trouble.fault), Some(Fault::ConnectRefused));
        let told = find::<io::Error>(&kept).map(io::Error::kind);
        assert_eq!(told, Some(io::ErrorKind::ConnectionRefused));
    }
}
