//! What this machine can run out of. It is no provider's fault, and nothing that happens for want of it counts against
//! one.

use crate::runtime::causes::causes;
use std::error::Error;
use std::fmt;
use std::io;

/// What there is not enough of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// File descriptors, of this process or of the whole system: every connection takes one.
    Descriptors,
    /// Local ports for connections to one address.
    Ports,
    /// Memory for connections.
    Memory,
}

impl Shortage {
    /// What an error says that is missing, if it or what caused it says so.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Shortage> {
        causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error().and_then(Shortage::of_code))
    }

    /// What the system says when there are no descriptors left.
    #[cfg(test)]
    pub(crate) fn no_descriptors() -> io::Error {
        io::Error::from_raw_os_error(codes::MFILE)
    }

    fn of_code(code: i32) -> Option<Shortage> {
        match code {
            codes::MFILE | codes::NFILE => Some(Shortage::Descriptors),
            codes::ADDRNOTAVAIL => Some(Shortage::Ports),
            codes::NOMEM | codes::NOBUFS => Some(Shortage::Memory),
            _ => None,
        }
    }
}

/// The system's numbers.
#[cfg(unix)]
mod codes {
    use rustix::io::Errno;

    pub(super) const MFILE: i32 = Errno::MFILE.raw_os_error();
    pub(super) const NFILE: i32 = Errno::NFILE.raw_os_error();
    pub(super) const ADDRNOTAVAIL: i32 = Errno::ADDRNOTAVAIL.raw_os_error();
    pub(super) const NOMEM: i32 = Errno::NOMEM.raw_os_error();
    pub(super) const NOBUFS: i32 = Errno::NOBUFS.raw_os_error();
    #[cfg(test)]
    pub(super) const CONNREFUSED: i32 = Errno::CONNREFUSED.raw_os_error();
}

/// The system's numbers, of winerror.h. Those of sockets begin at 10,000.
#[cfg(windows)]
mod codes {
    /// WSAEMFILE.
    pub(super) const MFILE: i32 = 10_024;
    /// ERROR_TOO_MANY_OPEN_FILES.
    pub(super) const NFILE: i32 = 4;
    /// WSAEADDRNOTAVAIL.
    pub(super) const ADDRNOTAVAIL: i32 = 10_049;
    /// ERROR_NOT_ENOUGH_MEMORY.
    pub(super) const NOMEM: i32 = 8;
    /// WSAENOBUFS.
    pub(super) const NOBUFS: i32 = 10_055;
    /// WSAECONNREFUSED.
    #[cfg(test)]
    pub(super) const CONNREFUSED: i32 = 10_061;
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shortage::Descriptors => "no file descriptors are left; raise the limit on open files (ulimit -n)",
            Shortage::Ports => "no local ports are left for more connections; widen net.ipv4.ip_local_port_range",
            Shortage::Memory => {
                "the system has no memory for more connections; free some, or lower server.max_in_flight"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found_in_whatever_it_is_wrapped_in() {
        let missing = Shortage::no_descriptors;
        assert_eq!(Shortage::of(&missing()), Some(Shortage::Descriptors));
        assert_eq!(Shortage::of(&io::Error::other(missing())), Some(Shortage::Descriptors));
        assert_eq!(Shortage::of(&io::Error::other(io::Error::other(missing()))), Some(Shortage::Descriptors));
        assert_eq!(Shortage::of(&io::Error::from_raw_os_error(codes::ADDRNOTAVAIL)), Some(Shortage::Ports));
        assert_eq!(Shortage::of(&io::Error::from_raw_os_error(codes::CONNREFUSED)), None, "refused by somebody else");
    }
}
