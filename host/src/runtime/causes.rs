//! What an error was caused by, as far as it says so.

use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;

/// An error as it arose, with everything that has caused it, so that whoever tells of it later tells the same. Two are
/// equal that read the same.
#[derive(Clone, Debug)]
pub struct ErrorChain(Rc<dyn Error>);

impl ErrorChain {
    /// Keeps an error.
    pub(crate) fn of(error: impl Error + 'static) -> ErrorChain {
        ErrorChain(Rc::new(error))
    }
}

impl fmt::Display for ErrorChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for ErrorChain {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

impl PartialEq for ErrorChain {
    fn eq(&self, other: &ErrorChain) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for ErrorChain {}

/// An error and everything that has caused it, one after the other.
pub(crate) fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'e (dyn Error + 'static) = *error;
        // What an error of the system is wrapped around it names as no source of its own, but skips.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The first error of this kind among an error and its causes.
pub(crate) fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    causes(error).find_map(|cause| cause.downcast_ref::<E>())
}
