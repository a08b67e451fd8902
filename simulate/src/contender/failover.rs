//! On to the next upstream, and nothing else.

use std::collections::HashMap;

use crate::protection::{Answer, Call, Order, Orders, Protection, RequestId};

/// nginx's `proxy_next_upstream error timeout http_500 http_429`, with the later servers as `backup` and `max_fails=0`
/// (ngx_http_proxy_module, ngx_http_upstream_module): each request is sent to the first target, and to the next one
/// after each failure, whatever became of others.
#[derive(Clone, Debug, Default)]
pub struct Failover {
    targets: usize,
    /// Where each request is that was sent.
    at: HashMap<RequestId, usize>,
}

impl Failover {
    /// One for so many targets.
    #[must_use]
    pub fn new(targets: usize) -> Self {
        Self { targets, at: HashMap::new() }
    }
}

impl Protection for Failover {
    fn asked(&mut self, call: &Call, orders: &mut Orders) {
        self.at.insert(call.request, 0);
        orders.send(call);
    }

    fn again(&mut self, call: &Call, orders: &mut Orders) {
        self.asked(call, orders);
    }

    fn answered(&mut self, call: &Call, answer: &Answer, orders: &mut Orders) {
        let next = self.at.get(&call.request).map_or(self.targets, |at| at + 1);
        if super::is_good(answer) || next >= self.targets {
            self.at.remove(&call.request);
            orders.deliver(call, answer);
        } else {
            self.at.insert(call.request, next);
            orders.push(Order::SendTo(call.request, next));
        }
    }

    fn has_circuit(&self) -> bool {
        false
    }

    fn held(&self, _now: spillway_resilience::Timestamp) -> usize {
        self.at.len()
    }
}
