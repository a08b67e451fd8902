//! What the end of a relayed connection means, as a table.

use crate::observe::metrics::SocketEnd;
use spillway_sdk::{Fault, ProviderError};

/// Codes with which a server closes because of itself: an internal error, a restart, "try again later", and a bad
/// gateway before it (RFC 6455, section 7.4.1, and IANA's registry).
const SERVERS_FAULT: [u16; 4] = [1011, 1012, 1013, 1014];

/// An end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Caller,
    Provider,
}

/// What has ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// This side sent its last byte first.
    Ended(Side),
    /// This side was lost.
    Lost(Side),
    /// Nothing has moved for too long.
    Silence,
    /// The process is about to end.
    Drain,
    /// The caller's key was revoked.
    Revoked,
}

/// A connection that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) cause: Cause,
    /// Who has said goodbye first, with which code, where the protocol has one: `None` where nobody has.
    pub(super) goodbye: Option<(Side, Option<u16>)>,
    /// Whether the protocol has a goodbye that must come first.
    pub(super) has_goodbyes: bool,
    /// Whether the provider has sent something, of which this is all that is known where there are no messages.
    pub(super) has_spoken: bool,
    /// Whether it is known that the provider serves.
    pub(super) is_proven: bool,
    /// The error that it has told instead.
    pub(super) error: Option<ProviderError>,
}

/// What it means that a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is over, as it should be; the provider has served.
    Over,
    /// It is over, as it should be, by the caller, and nothing is known of the provider.
    OverUnproven,
    /// The provider has failed.
    Broken(Fault),
    /// The provider has said that it failed.
    Failed(ProviderError),
    /// The caller has gone.
    Left,
    /// It was ended here, for this reason.
    Cut(&'static str),
}

impl Meaning {
    /// The word under which it is counted.
    pub(super) const fn word(&self) -> SocketEnd {
        match self {
            Meaning::Over | Meaning::OverUnproven => SocketEnd::Closed,
            Meaning::Broken(_) | Meaning::Failed(_) => SocketEnd::Broken,
            Meaning::Left => SocketEnd::Left,
            Meaning::Cut(_) => SocketEnd::Cut,
        }
    }

    /// Of a connection with this past.
    ///
    /// | Ended by | before the provider has served | afterwards |
    /// |---|---|---|
    /// | an error that the provider told, and then anything but the caller | failed | – |
    /// | the provider, by a goodbye for its own fault | broken | broken |
    /// | the provider, by another goodbye, or where there are none by its last byte | over | over |
    /// | the provider, without the goodbye or without a byte, or lost | broken | broken |
    /// | the caller, by a goodbye, or where there are none by its last byte | over, and nothing is known | over |
    /// | the caller, without the goodbye, or lost | left | left |
    /// | silence, the end of the process, or its key's | cut | cut |
    pub(super) fn of(past: &Past) -> Meaning {
        let is_callers = match (past.goodbye, past.cause) {
            (Some((side, _)), _) => side == Side::Caller,
            (None, Cause::Ended(side) | Cause::Lost(side)) => side == Side::Caller,
            (None, Cause::Silence | Cause::Drain | Cause::Revoked) => false,
        };
        if let (Some(error), false, false) = (&past.error, past.is_proven, is_callers) {
            return Meaning::Failed(error.clone());
        }
        match (past.goodbye, past.cause) {
            (Some((Side::Provider, Some(code))), _) if SERVERS_FAULT.contains(&code) => {
                Meaning::Broken(Fault::Truncated)
            }
            (Some((Side::Provider, _)), _) => Meaning::Over,
            (Some((Side::Caller, _)), _) => Meaning::of_callers_goodbye(past),
            (None, Cause::Silence) => Meaning::Cut("nothing came from either side for server.socket_idle_timeout"),
            (None, Cause::Drain) => Meaning::Cut("Spillway ends"),
            (None, Cause::Revoked) => Meaning::Cut("its key was revoked"),
            (None, Cause::Lost(Side::Caller)) => Meaning::Left,
            (None, Cause::Lost(Side::Provider)) => Meaning::Broken(Fault::Reset),
            (None, Cause::Ended(Side::Caller)) if past.has_goodbyes => Meaning::Left,
            (None, Cause::Ended(Side::Caller)) => Meaning::of_callers_goodbye(past),
            (None, Cause::Ended(Side::Provider)) if past.has_goodbyes || !past.has_spoken => {
                Meaning::Broken(Fault::Truncated)
            }
            (None, Cause::Ended(Side::Provider)) => Meaning::Over,
        }
    }

    fn of_callers_goodbye(past: &Past) -> Meaning {
        if past.is_proven { Meaning::Over } else { Meaning::OverUnproven }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Cause::{Drain, Ended, Lost, Revoked, Silence};
    use Side::{Caller, Provider};

    fn websocket(cause: Cause, goodbye: Option<(Side, Option<u16>)>) -> Past {
        Past { cause, goodbye, has_goodbyes: true, has_spoken: true, is_proven: false, error: None }
    }

    #[test]
    fn an_end_means_what_its_side_has_said_of_it() {
        let broken = Meaning::Broken(Fault::Truncated);
        let cases = [
            (Ended(Provider), Some((Provider, Some(1000))), Meaning::Over, Meaning::Over),
            (Ended(Provider), Some((Provider, None)), Meaning::Over, Meaning::Over),
            (Ended(Provider), Some((Provider, Some(1008))), Meaning::Over, Meaning::Over),
            (Ended(Provider), Some((Provider, Some(1011))), broken.clone(), broken.clone()),
            (Ended(Provider), Some((Provider, Some(1013))), broken.clone(), broken.clone()),
            (Ended(Provider), None, broken.clone(), broken),
            (Lost(Provider), None, Meaning::Broken(Fault::Reset), Meaning::Broken(Fault::Reset)),
            // A goodbye counts, however the connection ends behind it.
            (Lost(Provider), Some((Caller, Some(1000))), Meaning::OverUnproven, Meaning::Over),
            (Lost(Caller), Some((Provider, Some(1000))), Meaning::Over, Meaning::Over),
            (Ended(Provider), Some((Caller, Some(1000))), Meaning::OverUnproven, Meaning::Over),
            (Ended(Caller), None, Meaning::Left, Meaning::Left),
            (Lost(Caller), None, Meaning::Left, Meaning::Left),
        ];
        for (cause, goodbye, before, after) in cases {
            let past = websocket(cause, goodbye);
            assert_eq!(Meaning::of(&past), before, "{past:?}");
            let past = Past { is_proven: true, ..past };
            assert_eq!(Meaning::of(&past), after, "{past:?}");
        }
        for cause in [Silence, Drain, Revoked] {
            assert!(matches!(Meaning::of(&websocket(cause, None)), Meaning::Cut(_)), "{cause:?}");
        }
    }

    #[test]
    fn where_there_are_no_goodbyes_a_last_byte_is_one_and_no_byte_at_all_is_none() {
        let other = |cause| Past { has_goodbyes: false, ..websocket(cause, None) };
        assert_eq!(Meaning::of(&other(Ended(Provider))), Meaning::Over);
        assert_eq!(Meaning::of(&other(Ended(Caller))), Meaning::OverUnproven);
        let silent = Past { has_spoken: false, ..other(Ended(Provider)) };
        assert_eq!(Meaning::of(&silent), Meaning::Broken(Fault::Truncated));
    }

    #[test]
    fn an_error_that_was_told_before_anything_else_says_why_unless_the_caller_ends_it() {
        let error = ProviderError { kind: Some("server_error".into()), ..ProviderError::default() };
        let told = |cause, goodbye| Past { error: Some(error.clone()), ..websocket(cause, goodbye) };
        for (cause, goodbye) in
            [(Ended(Provider), None), (Ended(Provider), Some((Provider, Some(1000)))), (Silence, None)]
        {
            assert_eq!(Meaning::of(&told(cause, goodbye)), Meaning::Failed(error.clone()));
        }
        assert_eq!(Meaning::of(&told(Ended(Caller), Some((Caller, Some(1000))))), Meaning::OverUnproven);
        let served = Past { is_proven: true, ..told(Ended(Provider), Some((Provider, Some(1000)))) };
        assert_eq!(Meaning::of(&served), Meaning::Over);
    }
}
