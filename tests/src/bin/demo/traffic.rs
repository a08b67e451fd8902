//! Clients that go on sending at a modest rate whatever happens, and the ledger in which each request ends once.

use spillway_tests::asks::{chat, chat_stream, patient_chat};
use spillway_tests::http::{Connection, Request, Response};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The path at which Spillway serves the upstream that is called gateway here.
pub(crate) const GATEWAY_PATH: &str = "/gateway/v1/chat/completions";

/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(50);

/// Between two requests of the client that takes a 202, which would otherwise fill the spool for nothing.
const PATIENT_PACE: Duration = Duration::from_millis(200);

/// Requests remembered one by one since the last look; more than any step of the demo sends.
const RECENT_MAX: usize = 10_000;

/// How a request ended. There is no other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// With the provider's answer.
    Answered,
    /// With an error that the provider called a success.
    ErrorIn200,
    /// With the provider's failure, passed on or explained.
    Failed,
    /// At once: the circuit is open.
    Refused,
    /// With the promise of a later answer.
    Spooled,
    /// With nothing at all.
    Lost,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) fate: Fate,
    pub(crate) gateway: bool,
    /// From sending to the end of the answer, as the client measures it.
    pub(crate) duration: Duration,
    /// Spillway's own part of that, as it says itself.
    pub(crate) own: Option<Duration>,
    /// Which policy judged it.
    pub(crate) policy: Option<String>,
}

/// Totals since the beginning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) errors_in_200: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    pub(crate) spooled: u64,
    pub(crate) lost: u64,
    /// What the first of the lost ones ran into.
    pub(crate) first_loss: Option<String>,
    /// Where the spooled ones will have their answers.
    pub(crate) jobs: Vec<String>,
}

#[derive(Default)]
struct Ledger {
    totals: Totals,
    recent: Vec<Sample>,
}

struct Shared {
    stop: AtomicBool,
    ledger: Mutex<Ledger>,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Each entry is made under the lock as a whole.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All clients.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts six clients: two of chats, two of streams, one that takes a 202, one that calls the gateway.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn start(address: SocketAddr) -> io::Result<Self> {
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), ledger: Mutex::default() });
        let requests = [
            (chat(), PACE),
            (chat(), PACE),
            (chat_stream(), PACE),
            (chat_stream(), PACE),
            (patient_chat(), PATIENT_PACE),
            (chat().path(GATEWAY_PATH), PACE),
        ];
        let clients = requests.into_iter().enumerate().map(|(number, (request, pace))| {
            let client = Client { address, shared: shared.clone(), gateway: number == 5, request, connection: None };
            std::thread::Builder::new().name(format!("client-{number}")).spawn(move || client.run(pace))
        });
        Ok(Self { clients: clients.collect::<io::Result<_>>()?, shared })
    }

    /// Forgets the samples so far, so that what follows is only of the step that begins.
    pub(crate) fn begin_step(&self) {
        self.shared.ledger().recent.clear();
    }

    /// The samples of this step of which `wanted` says yes.
    pub(crate) fn samples(&self, wanted: impl Fn(&Sample) -> bool) -> Vec<Sample> {
        self.shared.ledger().recent.iter().filter(|sample| wanted(sample)).cloned().collect()
    }

    /// How many of this step's samples are wanted.
    pub(crate) fn count(&self, wanted: impl Fn(&Sample) -> bool) -> usize {
        self.shared.ledger().recent.iter().filter(|sample| wanted(sample)).count()
    }

    /// The totals so far.
    pub(crate) fn totals(&self) -> Totals {
        self.shared.ledger().totals.clone()
    }

    /// Lets every client finish its request, and returns the totals.
    pub(crate) fn stop(mut self) -> Totals {
        self.halt();
        self.totals()
    }

    fn halt(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // A client that panicked has printed why, and its request is missing in the account.
            let _ = client.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.halt();
    }
}

struct Client {
    address: SocketAddr,
    shared: Arc<Shared>,
    gateway: bool,
    request: Request,
    connection: Option<Connection>,
}

impl Client {
    fn run(mut self, pace: Duration) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            self.shared.ledger().totals.sent += 1;
            let answer = self.exchange();
            self.enter(answer, began.elapsed());
            std::thread::sleep(pace.saturating_sub(began.elapsed()));
        }
    }

    /// Connections are kept, as SDKs do.
    fn exchange(&mut self) -> io::Result<Response> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.address)?,
        };
        let response = connection.exchange(&self.request)?;
        self.connection = Some(connection);
        Ok(response)
    }

    fn enter(&self, answer: io::Result<Response>, duration: Duration) {
        let mut ledger = self.shared.ledger();
        let Ledger { totals, recent } = &mut *ledger;
        let fate = answer.as_ref().map_or(Fate::Lost, fate);
        match fate {
            Fate::Answered => totals.answered += 1,
            Fate::ErrorIn200 => totals.errors_in_200 += 1,
            Fate::Failed => totals.failed += 1,
            Fate::Refused => totals.refused += 1,
            Fate::Spooled => totals.spooled += 1,
            Fate::Lost => totals.lost += 1,
        }
        let (own, policy) = match &answer {
            Ok(response) => {
                if fate == Fate::Spooled {
                    totals.jobs.extend(response.header("location").map(str::to_owned));
                }
                (own_part(response), response.header("x-spillway-policy").map(str::to_owned))
            }
            Err(error) => {
                totals.first_loss.get_or_insert_with(|| error.to_string());
                (None, None)
            }
        };
        if recent.len() < RECENT_MAX {
            recent.push(Sample { fate, gateway: self.gateway, duration, own, policy });
        }
    }
}

fn fate(response: &Response) -> Fate {
    let text = response.text();
    match response.status() {
        200 if text.contains("\"error\"") => Fate::ErrorIn200,
        200 => Fate::Answered,
        202 => Fate::Spooled,
        _ if response.refusal() == Some("spillway_circuit_open") => Fate::Refused,
        _ => Fate::Failed,
    }
}

/// From `server-timing: spillway;dur=0.085`, in milliseconds.
fn own_part(response: &Response) -> Option<Duration> {
    let (_, ms) = response.header("server-timing")?.split_once("spillway;dur=")?;
    let ms: f64 = ms.split([',', ';']).next()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(ms / 1e3).ok()
}
