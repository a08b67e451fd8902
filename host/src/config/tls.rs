//! `[server.tls]`: the certificate that Spillway shows, and its key.

use super::Purpose;
use super::kind::FileOrNone;
use super::reader::Section;
use super::section::section;
use crate::runtime::tls::pair::{Pair, PairFiles, Part};
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

section! {
    /// TLS for callers, and for operators on other machines: versions 1.2 and 1.3, HTTP/2 and HTTP/1.1. With it callers
    /// say `https://`, on whatever address `listen` names.
    pub struct TlsConfig {
        /// A PEM file with the certificate, and below it those that lead to its authority. Both files are read again
        /// when they change; what cannot serve is refused, and the last pair stays in use.
        certificate: Option<PathBuf> = None, FileOrNone;
        /// A PEM file with the certificate's key, without a password, which this user alone should be able to read.
        key: Option<PathBuf> = None, FileOrNone;
    }
}

/// No TLS.
impl Default for TlsConfig {
    fn default() -> Self {
        TlsConfig { certificate: None, key: None }
    }
}

impl TlsConfig {
    pub(super) fn read(section: Section<'_>) -> TlsConfig {
        let mut tls = TlsConfig::fresh(section.folder());
        tls.take(&section);
        match (&tls.certificate, &tls.key) {
            (Some(_), None) => section.mistake("certificate", "takes its key too: name the file as `key`"),
            (None, Some(_)) => section.mistake("key", "takes its certificate too: name the file as `certificate`"),
            _ => {}
        }
        if let Some(files) = tls.files().filter(|_| section.purpose() == Purpose::Serve)
            && let Err(error) = files.load(SystemTime::now())
        {
            let key = match error.part {
                Part::Certificate => "certificate",
                Part::Key => "key",
            };
            section.mistake(key, error.message);
        }
        section.finish();
        tls
    }

    /// Whether TLS is spoken.
    pub fn is_on(&self) -> bool {
        self.files().is_some()
    }

    /// Where the pair lies, if there is one.
    pub(crate) fn files(&self) -> Option<PairFiles> {
        Some(PairFiles { certificate: self.certificate.clone()?, key: self.key.clone()? })
    }

    /// What can be meant of the pair, and mostly is not: a sentence each.
    pub(super) fn doubts(&self) -> Vec<String> {
        self.files().map(|files| files.doubts(SystemTime::now())).unwrap_or_default()
    }

    /// For whom the certificate speaks, and when it ends; `None` where there is none that can serve.
    pub(crate) fn said(&self) -> Option<String> {
        let now = SystemTime::now();
        let pair = self.files()?.load(now).ok()?;
        Some(format!("the certificate of {} {}", pair.names.join(", "), pair.end(now)))
    }

    /// The URL of `local`, as callers on this machine reach it.
    pub(crate) fn url(&self, local: SocketAddr) -> String {
        match self.is_on() {
            true => format!("https://{}:{}", self.host(local), local.port()),
            false => format!("http://{local}"),
        }
    }

    /// The certificates that callers are shown, as far as they can serve.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let pair = self.files().and_then(|files| files.load(SystemTime::now()).ok());
        pair.map(|pair| pair.certified.cert.clone()).unwrap_or_default()
    }

    /// By which name callers reach `local`, so that the certificate speaks for it: its address or `localhost` where it
    /// names one of those, else its first name, else the address. The file is read for that.
    pub(crate) fn host(&self, local: SocketAddr) -> String {
        let address = match local {
            SocketAddr::V4(local) => local.ip().to_string(),
            SocketAddr::V6(local) => format!("[{}]", local.ip()),
        };
        let pair = self.files().and_then(|files| files.load(SystemTime::now()).ok());
        pair.as_ref().and_then(|pair| host(pair, local)).unwrap_or(address)
    }
}

fn host(pair: &Pair, local: SocketAddr) -> Option<String> {
    if pair.names_address(local.ip()) {
        return None;
    }
    let is_plain = |name: &&String| !name.starts_with('*');
    let here = pair.names.iter().find(|name| *name == "localhost").filter(|_| local.ip().is_loopback());
    here.or_else(|| pair.names.iter().find(is_plain)).cloned()
}
