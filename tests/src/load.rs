//! Open-loop load: requests are sent when their time has come, whether or not earlier ones are answered, as the world
//! does it. One task a request, one thread a load.

use crate::callers::{Called, Caller, client};
use crate::chance::Chance;
use crate::http::Request;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many requests a second for so long, evenly spaced.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests a second.
    pub per_second: f64,
    /// From the first request to the last.
    pub lasting: Duration,
    /// Who sends them.
    pub caller: Caller,
}

impl Load {
    /// How many requests that are.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "loads are small, and casts saturate")]
    pub fn count(&self) -> usize {
        (self.per_second * self.lasting.as_secs_f64()).round() as usize
    }

    /// Sends the requests from `begins` on, and blocks until the last of them is answered. The requests are made by
    /// their number, from 0.
    ///
    /// # Errors
    /// When no runtime can be had.
    pub fn send(
        &self,
        to: SocketAddr,
        begins: Instant,
        request: impl Fn(usize) -> Request + Send + Sync + 'static,
    ) -> io::Result<Results> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (load, request, client) = (*self, Arc::new(request), client());
        runtime.block_on(async move {
            let calls: Vec<_> = (0..load.count())
                .map(|number| {
                    let (request, client) = (request.clone(), client.clone());
                    tokio::spawn(async move {
                        let due = Duration::from_secs_f64(number as f64 / load.per_second);
                        tokio::time::sleep_until((begins + due).into()).await;
                        let mut chance = Chance::seeded(number as u64);
                        let called = load.caller.call_with(&client, to, &request(number), &mut chance).await;
                        Answered::new(number, due, &called)
                    })
                })
                .collect();
            let mut answered = Vec::with_capacity(calls.len());
            for call in calls {
                answered.push(call.await.map_err(io::Error::other)?);
            }
            Ok(Results(answered))
        })
    }
}

/// One request of a load.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its number, from 0.
    pub number: usize,
    /// When it was due, from the begin of the load.
    pub due: Duration,
    /// The last answer's status; 0 if there was none.
    pub status: u16,
    /// Which refusal of Spillway's own the last answer is, if it is one.
    pub refusal: Option<String>,
    /// How often its caller asked.
    pub attempts: u32,
    /// How long it took in all.
    pub took: Duration,
}

impl Answered {
    fn new(number: usize, due: Duration, called: &Called) -> Self {
        let refusal = called.answer.as_ref().and_then(|answer| answer.refusal());
        Self {
            number,
            due,
            status: called.status(),
            refusal: refusal.map(str::to_owned),
            attempts: called.attempts,
            took: called.took,
        }
    }

    /// Whether it got what it asked for.
    pub fn served(&self) -> bool {
        self.status == 200
    }
}

/// What became of a load's requests, in the order in which they were due.
#[derive(Clone, Debug)]
pub struct Results(pub Vec<Answered>);

impl Results {
    /// Those of which this says yes.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(&Answered) -> bool) -> Self {
        Self(self.0.iter().filter(|answered| wanted(answered)).cloned().collect())
    }

    /// Those due from this time on.
    #[must_use]
    pub fn due_from(&self, from: Duration) -> Self {
        self.only(|answered| answered.due >= from)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The share that was served; of nothing, all.
    pub fn share_served(&self) -> f64 {
        self.share(Answered::served)
    }

    /// Of those that were served, the share that took longer.
    pub fn share_slower_than(&self, wait: Duration) -> f64 {
        let served = self.only(Answered::served);
        if served.0.is_empty() { 0.0 } else { served.share(|answered| answered.took > wait) }
    }

    fn share(&self, of: impl Fn(&Answered) -> bool) -> f64 {
        let count = self.0.iter().filter(|answered| of(answered)).count();
        if self.0.is_empty() { 1.0 } else { count as f64 / self.0.len() as f64 }
    }

    /// Of 100 that were served, 95 took no longer.
    pub fn p95(&self) -> Duration {
        let mut waits: Vec<_> =
            self.0.iter().filter(|answered| answered.served()).map(|answered| answered.took).collect();
        waits.sort();
        waits.get((waits.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }

    /// How many got which status, and which refusal of Spillway's if it was one.
    pub fn statuses(&self) -> BTreeMap<(u16, Option<String>), usize> {
        let mut statuses = BTreeMap::new();
        for answered in &self.0 {
            *statuses.entry((answered.status, answered.refusal.clone())).or_default() += 1;
        }
        statuses
    }
}
