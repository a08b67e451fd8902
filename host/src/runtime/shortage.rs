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

    fn of_code(code: i32) -> Option<Shortage> {
        use rustix::io::Errno;
        match Errno::from_raw_os_error(code) {
            Errno::MFILE | Errno::NFILE => Some(Shortage::Descriptors),
            Errno::ADDRNOTAVAIL => Some(Shortage::Ports),
            Errno::NOMEM | Errno::NOBUFS => Some(Shortage::Memory),
            _ => None,
        }
    }
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
        let missing = || io::Error::from_raw_os_error(24);
        assert_eq!(Shortage::of(&missing()), Some(Shortage::Descriptors));
        assert_eq!(Shortage::of(&io::Error::other(missing())), Some(Shortage::Descriptors));
        assert_eq!(Shortage::of(&io::Error::other(io::Error::other(missing()))), Some(Shortage::Descriptors));
        assert_eq!(Shortage::of(&io::Error::from_raw_os_error(99)), Some(Shortage::Ports));
        assert_eq!(Shortage::of(&io::Error::from_raw_os_error(111)), None, "refused by somebody else");
    }
}
