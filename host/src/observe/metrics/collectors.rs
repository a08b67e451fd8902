//! Figures that others keep, read when they are asked for.

use crate::observe::guards::GuardFindings;
use crate::observe::labels::{LabelTroubles, Labels};
use crate::policy::{self, PolicyStatus};
use crate::runtime::tls::served::Served;
use crate::spool::Spool;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::sync::Arc;
use std::time::SystemTime;

/// Reads the policies when they are asked for: which module serves changes while the process lives.
#[derive(Debug)]
pub(super) struct Policies(pub(super) Arc<policy::Registry>);

impl Collector for Policies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        type Figure = fn(&PolicyStatus) -> u64;
        let counters: [(&str, &str, Figure); 3] = [
            ("policy_calls", "Calls of a policy's hooks since it serves", |status| status.calls),
            ("policy_faults", "Calls of a policy that gave no answer", |status| status.faults),
            ("policy_swaps", "How often something else took over under a policy's name", |status| status.swaps),
        ];
        let policies = self.0.status();
        for (name, help, figure) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for status in &policies {
                let labels =
                    [("policy", status.name.as_str()), ("sha256", status.sha256.as_deref().unwrap_or(&status.source))];
                let counter = ConstCounter::new(figure(status));
                counter.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Reads how the spool stands when it is asked for.
#[derive(Debug)]
pub(super) struct SpoolTroubles(pub(super) Spool);

impl Collector for SpoolTroubles {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "What is wrong with the spool, as /readyz tells it: so many lines";
        let encoder = encoder.encode_descriptor("spool_troubles", help, None, MetricType::Gauge)?;
        let count = i64::try_from(self.0.troubles().len()).unwrap_or(i64::MAX);
        ConstGauge::new(count).encode(encoder)
    }
}

/// Reads how long the certificate is still valid when it is asked for.
#[derive(Debug)]
pub(super) struct Certificate(pub(super) Arc<Served>);

impl Collector for Certificate {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "How long the certificate that callers are shown is still valid; 0 once it has expired";
        let unit = Some(&Unit::Seconds);
        let encoder = encoder.encode_descriptor("tls_certificate_left", help, unit, MetricType::Gauge)?;
        let left = self.0.pair().left(SystemTime::now());
        ConstGauge::new(i64::try_from(left.as_secs()).unwrap_or(i64::MAX)).encode(encoder)
    }
}

/// Reads what the guards have found when it is asked for, of those that have found nothing too.
#[derive(Debug)]
pub(super) struct Guards(pub(super) Arc<GuardFindings>);

impl Collector for Guards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "What guards against runaway agents have found, by guard and by whether it was refused";
        let mut family = encoder.encode_descriptor("guard_findings", help, None, MetricType::Counter)?;
        for finding in self.0.all() {
            for (outcome, count) in [("refused", finding.refused), ("would_have_refused", finding.would_have_refused)] {
                let labels = [("guard", &*finding.guard), ("outcome", outcome)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Reads what was wrong with labels when it is asked for.
#[derive(Debug)]
pub(super) struct LabelsLeftOut(pub(super) Arc<Labels>);

impl Collector for LabelsLeftOut {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let LabelTroubles { malformed, keys_left_out } = self.0.troubles();
        let help = "Parts of x-spillway-label that count for nothing, by why";
        let mut family = encoder.encode_descriptor("labels_left_out", help, None, MetricType::Counter)?;
        for (why, count) in [("malformed", malformed), ("key_beyond_bound", keys_left_out)] {
            ConstCounter::new(count).encode(family.encode_family(&[("why", why)])?)?;
        }
        Ok(())
    }
}
