//! For a provider that slows down long before it fails: opens the circuit when its answers become slow.

use serde::Deserialize;
use spillway_sdk::{Hooks, Policy, Settings, TripDecision, Window};
use std::time::Duration;

/// Opens the circuit when too large a share of recent answers was slow.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatencyTrip {
    /// An answer whose first content took longer than this is slow.
    slow_ms: u64,
    /// The quantile looked at, from 0 to 1: 0.5 trips when every second answer is slow.
    quantile: f32,
    /// Fewer calls than this in the window say nothing.
    minimum_requests: u32,
}

impl Default for LatencyTrip {
    fn default() -> Self {
        LatencyTrip { slow_ms: 10_000, quantile: 0.5, minimum_requests: 5 }
    }
}

impl Policy for LatencyTrip {
    const SUMMARY: &'static str = "Opens the circuit when the provider becomes slow";
    const HOOKS: Hooks = Hooks { trip: true, ..Hooks::NONE };

    fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
        *self = settings.parse()?;
        if (0.0..=1.0).contains(&self.quantile) { Ok(()) } else { Err("quantile must be between 0 and 1".into()) }
    }

    fn trip(&self, window: &Window<'_>) -> Option<TripDecision> {
        let slow = window.requests() >= self.minimum_requests
            && window.latency(self.quantile)? > Duration::from_millis(self.slow_ms);
        slow.then_some(TripDecision::Open)
    }
}

spillway_sdk::export!(LatencyTrip);

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::testing::window;

    fn seconds(values: &[u64]) -> Vec<Duration> {
        values.iter().copied().map(Duration::from_secs).collect()
    }

    #[test]
    fn a_slow_majority_opens_the_circuit() {
        let facts = window().calls(5, 0).latencies(seconds(&[1, 11, 12, 13, 14]));
        assert_eq!(LatencyTrip::default().trip(&facts.window()), Some(TripDecision::Open));
    }

    #[test]
    fn a_slow_minority_does_not() {
        let facts = window().calls(5, 0).latencies(seconds(&[1, 1, 1, 1, 30]));
        assert_eq!(LatencyTrip::default().trip(&facts.window()), None);
    }

    #[test]
    fn too_few_calls_say_nothing() {
        let facts = window().calls(4, 0).latencies(seconds(&[30, 30, 30, 30]));
        assert_eq!(LatencyTrip::default().trip(&facts.window()), None);
    }

    #[test]
    fn a_quantile_out_of_range_is_refused() {
        let refused = LatencyTrip::default().configure(Settings::from_json(r#"{"quantile":1.5}"#));
        assert!(refused.is_err_and(|message| message.contains("between 0 and 1")));
    }
}
