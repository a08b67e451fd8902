//! Tells of circuits that change: to the log, and to whoever counts.

use crate::observe::metrics::UpstreamMetrics;
use crate::runtime::clock::milliseconds;
use crate::upstream::circuit::Observer;
use crate::upstream::scope::Protects;
use spillway_resilience::Transition;
use std::sync::Arc;

/// Tells of the circuits of one upstream.
#[derive(Debug)]
pub(crate) struct Announcer {
    pub upstream: Arc<str>,
    /// Where transitions are counted.
    pub metrics: Arc<UpstreamMetrics>,
}

impl Observer for Announcer {
    fn transition(&self, protects: &Protects, transition: &Transition) {
        let upstream = &*self.upstream;
        if transition.would {
            tracing::warn!(
                upstream,
                scope = %protects,
                from = %transition.from,
                to = %transition.to,
                cause = %transition.cause,
                "circuit would have changed; it only watches (watch_only = true)"
            );
            return;
        }
        self.metrics.transition(transition.to, *protects == Protects::Upstream);
        let cooldown_ms = transition.until.map(|until| milliseconds(until.saturating_since(transition.at)));
        tracing::warn!(
            upstream,
            scope = %protects,
            from = %transition.from,
            to = %transition.to,
            cause = %transition.cause,
            cooldown_ms,
            "circuit changed"
        );
    }
}
