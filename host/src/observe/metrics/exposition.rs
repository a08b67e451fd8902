//! How what was counted stands in the exposition: names, help and labels.

use super::figures::{ModelFigures, Share, TenantFigures};
use super::histogram::Histogram;
use super::names::Named;
use super::upstream::UpstreamMetrics;
use super::words::{CallFault, Closed, Direction, RequestOutcome, TokenPart, WaitedFor};
use crate::runtime::sync::lock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use spillway_sdk::Class;
use std::fmt;
use std::sync::{Arc, Mutex};

/// All upstreams and tenants, read when they are asked for.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) upstreams: Arc<Mutex<Vec<Arc<UpstreamMetrics>>>>,
    pub(super) tenants: Arc<Named<TenantFigures>>,
    pub(super) overhead: Arc<Histogram>,
}

/// A label and its value.
type Label<'a> = (&'static str, &'a str);

/// One family of metrics on its way into the exposition.
struct Family<'a>(MetricEncoder<'a>);

impl Family<'_> {
    fn counter<const N: usize>(&mut self, labels: [Label<'_>; N], value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_family(&labels)?)
    }

    fn dollars<const N: usize>(&mut self, labels: [Label<'_>; N], value: f64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_family(&labels)?)
    }

    fn gauge<const N: usize>(&mut self, labels: [Label<'_>; N], value: i64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_family(&labels)?)
    }

    fn histogram<const N: usize>(&mut self, labels: [Label<'_>; N], histogram: &Histogram) -> fmt::Result {
        let reading = histogram.read();
        let mut encoder = self.0.encode_family(&labels)?;
        encoder.encode_histogram::<NoLabelSet>(reading.sum, reading.count, &reading.buckets, None)
    }

    /// The family's only histogram, without labels.
    fn alone(&mut self, histogram: &Histogram) -> fmt::Result {
        let reading = histogram.read();
        self.0.encode_histogram::<NoLabelSet>(reading.sum, reading.count, &reading.buckets, None)
    }

    /// A histogram among others that may have seen nothing: such a one is left out, with its many lines.
    fn used<const N: usize>(&mut self, labels: [Label<'_>; N], histogram: &Histogram) -> fmt::Result {
        if histogram.is_empty() { Ok(()) } else { self.histogram(labels, histogram) }
    }
}

fn family<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    kind: MetricType,
    unit: Option<&'s Unit>,
    name: &'s str,
    help: &str,
) -> Result<Family<'s>, fmt::Error> {
    encoder.encode_descriptor(name, help, unit, kind).map(Family)
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let upstreams = lock(&self.upstreams).clone();
        let encoder = &mut encoder;
        requests(encoder, &upstreams)?;
        durations(encoder, &upstreams)?;
        usage(encoder, &upstreams)?;
        connections(encoder, &upstreams)?;
        tenants(encoder, &self.tenants)?;
        let help = "Time a request spent in Spillway rather than upstream, to the head of its answer.";
        family(encoder, MetricType::Histogram, Some(&Unit::Seconds), "overhead", help)?.alone(&self.overhead)
    }
}

/// Tells something of each model at each upstream.
fn of_models(
    upstreams: &[Arc<UpstreamMetrics>],
    mut tell: impl FnMut(&str, &str, &ModelFigures) -> fmt::Result,
) -> fmt::Result {
    let mut told = Ok(());
    for upstream in upstreams {
        upstream.models.each(|model, figures| {
            if told.is_ok() {
                told = tell(&upstream.name, model, figures);
            }
        });
    }
    told
}

fn requests(encoder: &mut DescriptorEncoder<'_>, upstreams: &[Arc<UpstreamMetrics>]) -> fmt::Result {
    let help = "Requests that have ended, by the upstream that was meant, the model that was asked for, and outcome.";
    let mut metric = family(encoder, MetricType::Counter, None, "requests", help)?;
    of_models(upstreams, |upstream, model, figures| {
        RequestOutcome::ALL.iter().try_for_each(|outcome| {
            let labels = [("upstream", upstream), ("model", model), ("outcome", outcome.as_str())];
            metric.counter(labels, figures.requests(*outcome))
        })
    })?;
    let help = "Calls of upstreams, by the class of their verdict.";
    let mut metric = family(encoder, MetricType::Counter, None, "attempts", help)?;
    of_models(upstreams, |upstream, model, figures| {
        Class::ALL.iter().try_for_each(|class| {
            let labels = [("upstream", upstream), ("model", model), ("class", class.as_str())];
            metric.counter(labels, figures.attempts(*class))
        })
    })?;
    let help = "Calls whose answer is missing in whole or in part, by what was wrong; an error by status is none.";
    let mut metric = family(encoder, MetricType::Counter, None, "faults", help)?;
    of_models(upstreams, |upstream, model, figures| {
        CallFault::ALL.iter().try_for_each(|fault| {
            let labels = [("upstream", upstream), ("model", model), ("fault", fault.as_str())];
            metric.counter(labels, figures.faults(*fault))
        })
    })?;
    let help = "Calls beyond the first of a request at the same target.";
    let mut metric = family(encoder, MetricType::Counter, None, "retries", help)?;
    for upstream in upstreams {
        metric.counter([("upstream", &*upstream.name)], upstream.retries_and_hedges().0)?;
    }
    let help = "Second calls beside one that was late.";
    let mut metric = family(encoder, MetricType::Counter, None, "hedges", help)?;
    for upstream in upstreams {
        metric.counter([("upstream", &*upstream.name)], upstream.retries_and_hedges().1)?;
    }
    let help = "How many retries a request has taken.";
    let mut metric = family(encoder, MetricType::Histogram, None, "request_retries", help)?;
    for upstream in upstreams {
        metric.histogram([("upstream", &*upstream.name)], &upstream.retries_per_request)?;
    }
    let help = "How often another target was called for a request.";
    let mut metric = family(encoder, MetricType::Histogram, None, "request_fallbacks", help)?;
    for upstream in upstreams {
        metric.histogram([("upstream", &*upstream.name)], &upstream.fallbacks_per_request)?;
    }
    Ok(())
}

fn durations(encoder: &mut DescriptorEncoder<'_>, upstreams: &[Arc<UpstreamMetrics>]) -> fmt::Result {
    type Of = fn(&ModelFigures) -> &Histogram;
    let of_each_model: [(&str, &str, Of); 4] = [
        (
            "request_duration",
            "From a request's arrival to the end of its answer, with all waits and retries.",
            |figures| &figures.request_duration,
        ),
        (
            "request_first_content",
            "From a request's arrival to the first content of its answer, with all waits and retries.",
            |figures| &figures.request_first_content,
        ),
        ("attempt_duration", "From sending the call that answered to the end of its answer.", |figures| {
            &figures.attempt_duration
        }),
        ("first_content", "From sending the call that answered to its first content.", |figures| {
            &figures.first_content
        }),
    ];
    for (name, help, of) in of_each_model {
        let mut metric = family(encoder, MetricType::Histogram, Some(&Unit::Seconds), name, help)?;
        of_models(upstreams, |upstream, model, figures| {
            metric.used([("upstream", upstream), ("model", model)], of(figures))
        })?;
    }
    let help = "From the arrival of a request that was not served to its end.";
    let mut metric = family(encoder, MetricType::Histogram, Some(&Unit::Seconds), "unanswered_duration", help)?;
    for upstream in upstreams {
        metric.used([("upstream", &*upstream.name)], &upstream.unanswered)?;
    }
    let help = "Each wait of a request for one thing that was in its way; what was not in its way is not counted.";
    let mut metric = family(encoder, MetricType::Histogram, Some(&Unit::Seconds), "wait", help)?;
    for upstream in upstreams {
        for (waited_for, waits) in WaitedFor::ALL.iter().zip(&upstream.waits) {
            metric.used([("upstream", &*upstream.name), ("waited_for", waited_for.as_str())], waits)?;
        }
    }
    Ok(())
}

fn usage(encoder: &mut DescriptorEncoder<'_>, upstreams: &[Arc<UpstreamMetrics>]) -> fmt::Result {
    let of_shares = |tell: &mut dyn FnMut([Label<'_>; 3], &Share) -> fmt::Result| {
        of_models(upstreams, |upstream, model, figures| {
            let mut told = Ok(());
            figures.shares.each(|tenant, share| {
                if told.is_ok() && !share.is_unused() {
                    told = tell([("upstream", upstream), ("model", model), ("tenant", tenant)], share);
                }
            });
            told
        })
    };
    let help = "Tokens as reported by upstreams, by direction.";
    let mut metric = family(encoder, MetricType::Counter, None, "tokens", help)?;
    of_shares(&mut |[upstream, model, tenant], share| {
        Direction::ALL.iter().try_for_each(|direction| {
            let labels = [upstream, model, tenant, ("direction", direction.as_str())];
            metric.counter(labels, share.tokens_of(*direction))
        })
    })?;
    let help = "Tokens that are priced otherwise, such as cached ones; each is part of what spillway_tokens_total has.";
    let mut metric = family(encoder, MetricType::Counter, None, "token_parts", help)?;
    of_shares(&mut |[upstream, model, tenant], share| {
        let parts = TokenPart::ALL.iter().map(|part| (part, share.tokens_of_part(*part)));
        parts
            .filter(|(_, count)| *count > 0)
            .try_for_each(|(part, count)| metric.counter([upstream, model, tenant, ("part", part.as_str())], count))
    })?;
    let help = "What requests have cost, in US dollars, by the price table.";
    let mut metric = family(encoder, MetricType::Counter, None, "cost_dollars", help)?;
    of_shares(&mut |labels, share| match share.dollars() {
        dollars if dollars > 0.0 => metric.dollars(labels, dollars),
        _ => Ok(()),
    })?;
    let help = "Tokens whose price is not known; what they cost is in no sum.";
    let mut metric = family(encoder, MetricType::Counter, None, "unpriced_tokens", help)?;
    of_shares(&mut |labels, share| match share.tokens_unpriced() {
        0 => Ok(()),
        tokens => metric.counter(labels, tokens),
    })?;
    let help = "Prompts at upstreams with a tokeniser, by whether it has counted them.";
    let mut metric = family(encoder, MetricType::Counter, None, "prompts", help)?;
    for upstream in upstreams {
        let (counted, estimated) = upstream.prompts_counted_and_estimated();
        if counted + estimated > 0 {
            metric.counter([("upstream", &*upstream.name), ("size", "counted")], counted)?;
            metric.counter([("upstream", &*upstream.name), ("size", "estimated")], estimated)?;
        }
    }
    Ok(())
}

fn connections(encoder: &mut DescriptorEncoder<'_>, upstreams: &[Arc<UpstreamMetrics>]) -> fmt::Result {
    let help = "Connections to an upstream that are open, by whether they carry a call.";
    let mut metric = family(encoder, MetricType::Gauge, None, "connections", help)?;
    for upstream in upstreams {
        let (busy, idle) = upstream.pool.busy_and_idle();
        metric.gauge([("upstream", &*upstream.name), ("state", "busy")], busy)?;
        metric.gauge([("upstream", &*upstream.name), ("state", "idle")], idle)?;
    }
    let help = "How often a call took a connection, by whether that was new or had been used before.";
    let mut metric = family(encoder, MetricType::Counter, None, "connections_taken", help)?;
    for upstream in upstreams {
        let (new, reused) = upstream.pool.new_and_reused();
        metric.counter([("upstream", &*upstream.name), ("connection", "new")], new)?;
        metric.counter([("upstream", &*upstream.name), ("connection", "reused")], reused)?;
    }
    let help = "Connections that were closed while nobody used them, by why.";
    let mut metric = family(encoder, MetricType::Counter, None, "connections_closed", help)?;
    for upstream in upstreams {
        for why in Closed::ALL {
            let labels = [("upstream", &*upstream.name), ("why", why.as_str())];
            metric.counter(labels, upstream.pool.closed_for(*why))?;
        }
    }
    Ok(())
}

fn tenants(encoder: &mut DescriptorEncoder<'_>, tenants: &Named<TenantFigures>) -> fmt::Result {
    let mut told = Ok(());
    let help = "Requests that have ended, by the tenant that asked, and outcome.";
    let mut metric = family(encoder, MetricType::Counter, None, "tenant_requests", help)?;
    tenants.each(|tenant, figures| {
        for outcome in RequestOutcome::ALL {
            if told.is_ok() {
                let labels = [("tenant", tenant), ("outcome", outcome.as_str())];
                told = metric.counter(labels, figures.requests(*outcome));
            }
        }
    });
    told?;
    type Of = fn(&TenantFigures) -> &Histogram;
    let of_each: [(&str, &str, Of); 2] = [
        ("tenant_request_duration", "From the arrival of a tenant's request to the end of its answer.", |figures| {
            &figures.request_duration
        }),
        ("tenant_wait", "What each request of a tenant's waited for limits, lanes and circuits together.", |figures| {
            &figures.wait
        }),
    ];
    for (name, help, of) in of_each {
        let mut told = Ok(());
        let mut metric = family(encoder, MetricType::Histogram, Some(&Unit::Seconds), name, help)?;
        tenants.each(|tenant, figures| {
            if told.is_ok() {
                told = metric.used([("tenant", tenant)], of(figures));
            }
        });
        told?;
    }
    Ok(())
}
