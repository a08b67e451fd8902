//! What the figures tell apart, and the words for it: values of labels, and of the log.

use spillway_sdk::{Fault, Phase};

/// Declares an enum of plain variants with a word for each.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident {
            $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum $name {
            $( $(#[doc = $doc])+ $variant, )+
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub(crate) const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The label's value, and the log's word.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }
    };
}

words! {
    /// How a request ended, as its caller saw it.
    pub(crate) enum RequestOutcome {
        /// The provider's answer, as it was.
        Answered = "answered",
        /// The provider's or the network's failure.
        Failed = "failed",
        /// Refused at once: the circuit is open.
        CircuitOpen = "circuit_open",
        /// Refused: a limit would not let it through while its patience lasts.
        Limited = "limited",
        /// Refused at once: Spillway itself has too much in hand.
        Shed = "shed",
        /// Put into the spool.
        Spooled = "spooled",
        /// The caller's own fault, found by Spillway.
        Refused = "refused",
        /// A stream that broke after its first content.
        Broken = "broken",
        /// The caller went away.
        Abandoned = "abandoned",
        /// A route's static answer, since no target served.
        Degraded = "degraded",
    }
}

words! {
    /// How a WebSocket, or another connection that was upgraded, has ended.
    pub(crate) enum SocketEnd {
        /// By either side, as it should.
        Closed = "closed",
        /// By the provider, before its time.
        Broken = "broken",
        /// By the caller, before its time.
        Left = "left",
        /// By Spillway: it was silent for too long, or the process has ended.
        Cut = "cut",
    }
}

words! {
    /// What a request waited for.
    pub(crate) enum WaitedFor {
        /// Requests or tokens of its tenant's own limits, or a place in flight of its own.
        TenantLimit = "tenant_limit",
        /// What its key or its group may spend.
        Allowance = "allowance",
        /// Its turn in the lane of something that has said "too much".
        Lane = "lane",
        /// Requests or tokens of the upstream's limits, or a place in flight there.
        UpstreamLimit = "upstream_limit",
        /// An open circuit.
        Circuit = "circuit",
        /// The backoff before a retry.
        Retry = "retry",
    }
}

impl WaitedFor {
    /// As the log says it.
    pub(crate) const fn in_words(self) -> &'static str {
        match self {
            WaitedFor::TenantLimit => "its tenant's limit",
            WaitedFor::Allowance => "its ledger's limit",
            WaitedFor::Lane => "its turn",
            WaitedFor::UpstreamLimit => "the limit",
            WaitedFor::Circuit => "the circuit",
            WaitedFor::Retry => "a retry",
        }
    }
}

words! {
    /// What was wrong with a call whose answer is missing, in whole or in part. An answer that says by its status that
    /// it is none is no such fault: its class is counted.
    pub(crate) enum CallFault {
        /// The upstream's name did not resolve.
        Dns = "dns",
        /// Nothing listens there.
        ConnectRefused = "connect_refused",
        /// No connection in time, with the proxy and TLS on its way.
        ConnectTimeout = "connect_timeout",
        /// The TLS handshake or the certificate failed.
        Tls = "tls",
        /// The connection was closed or reset before the answer was complete.
        Reset = "reset",
        /// The peer does not speak HTTP correctly.
        Protocol = "protocol",
        /// No head of an answer within the first-content timeout.
        FirstByteTimeout = "first_byte_timeout",
        /// A head, and no content within the first-content timeout.
        FirstContentTimeout = "first_content_timeout",
        /// The answer fell silent for longer than the idle timeout.
        IdleTimeout = "idle_timeout",
        /// The call was not finished at its request's deadline.
        RequestTimeout = "request_timeout",
        /// The answer ended before it was one.
        Truncated = "truncated",
        /// The provider told an error inside of its answer.
        ErrorInAnswer = "error_in_answer",
    }
}

impl CallFault {
    /// The fault of a call that had come as far as this.
    pub(crate) const fn of(fault: Fault, phase: Phase) -> CallFault {
        match (fault, phase) {
            (Fault::Dns, _) => CallFault::Dns,
            (Fault::ConnectRefused, _) => CallFault::ConnectRefused,
            (Fault::ConnectTimeout, _) | (Fault::FirstContentTimeout, Phase::Connecting) => CallFault::ConnectTimeout,
            (Fault::Tls, _) => CallFault::Tls,
            (Fault::Reset, _) => CallFault::Reset,
            (Fault::Protocol, _) => CallFault::Protocol,
            (Fault::FirstContentTimeout, Phase::Waiting) => CallFault::FirstByteTimeout,
            (Fault::FirstContentTimeout, Phase::BeforeContent | Phase::Committed) => CallFault::FirstContentTimeout,
            (Fault::IdleTimeout, _) => CallFault::IdleTimeout,
            (Fault::AttemptTimeout, _) => CallFault::RequestTimeout,
            (Fault::Truncated, _) => CallFault::Truncated,
        }
    }
}

words! {
    /// Which way tokens go. All of a call's tokens are in the one or the other.
    pub(crate) enum Direction {
        /// Read by the model: the prompt, with what of it was cached.
        Input = "input",
        /// Written by the model, with what it thought.
        Output = "output",
    }
}

words! {
    /// Tokens that are priced otherwise than the rest. Each is part of what [`Direction`] counts, and not on top of it.
    pub(crate) enum TokenPart {
        /// Input, read from a cache.
        CacheRead = "cache_read",
        /// Input, written into a cache that lasts five minutes.
        CacheWrite5m = "cache_write_5m",
        /// Input, written into a cache that lasts an hour.
        CacheWrite1h = "cache_write_1h",
        /// Output, thought and not said.
        Reasoning = "reasoning",
        /// Input, as sound.
        AudioInput = "audio_input",
        /// Output, as sound.
        AudioOutput = "audio_output",
    }
}

words! {
    /// Why a connection that nobody used was closed.
    pub(crate) enum Closed {
        /// It was unused for long, or it was old, or there were many.
        Unused = "unused",
        /// Its provider had closed it, which was found before it was used again.
        ByUpstream = "by_upstream",
        /// Its provider had closed it, which was found by the call that used it again. The call went over another.
        UnderCall = "under_call",
        /// One like it turned out to be dead.
        Suspect = "suspect",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timeout_has_a_word_of_its_own_by_how_far_the_call_had_come() {
        for (fault, phase, word) in [
            (Fault::ConnectTimeout, Phase::Connecting, "connect_timeout"),
            (Fault::FirstContentTimeout, Phase::Connecting, "connect_timeout"),
            (Fault::FirstContentTimeout, Phase::Waiting, "first_byte_timeout"),
            (Fault::FirstContentTimeout, Phase::BeforeContent, "first_content_timeout"),
            (Fault::IdleTimeout, Phase::Committed, "idle_timeout"),
            (Fault::AttemptTimeout, Phase::Waiting, "request_timeout"),
        ] {
            assert_eq!(CallFault::of(fault, phase).as_str(), word, "{fault:?} {phase:?}");
        }
    }

    #[test]
    fn words_stand_in_the_order_of_their_numbers() {
        assert!(RequestOutcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
        assert!(CallFault::ALL.iter().enumerate().all(|(index, fault)| *fault as usize == index));
    }
}
