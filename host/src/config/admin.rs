//! `[admin]`: where operators reach Spillway.

use super::kind::Loopback;
use super::reader::Section;
use super::section::section;
use std::net::{Ipv4Addr, SocketAddr};

section! {
    /// Where operators reach Spillway: `/status`, `/metrics`, `/livez` and `/readyz`.
    pub struct Admin {
        /// Another address than callers have.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 4142)), Loopback;
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
