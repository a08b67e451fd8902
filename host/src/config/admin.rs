//! `[admin]`: where operators reach Spillway.

use super::kind::Loopback;
use super::reader::Section;
use super::section::section;
use std::net::{Ipv4Addr, SocketAddr};

/// What is said of an address that other machines reach.
const OTHERS_REACH_IT: &str = "must be a loopback address, such as \"127.0.0.1:4142\": what it shows is for this \
                               machine alone, and it asks nobody for a key. In a container, ask from within \
                               (`spillway status`)";

section! {
    /// Where operators reach Spillway: `/status`, `/metrics`, `/livez` and `/readyz`.
    pub struct Admin {
        /// Another address than callers have: this machine's own, whatever `server.listen` is.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 4142)), Loopback(OTHERS_REACH_IT);
    }
}

impl Admin {
    pub(super) fn read(section: Section<'_>) -> Admin {
        let mut admin = Admin::fresh(section.folder());
        admin.take(&section);
        section.finish();
        admin
    }
}
