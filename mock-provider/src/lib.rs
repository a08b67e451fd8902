//! A scriptable mock of an LLM provider.
//!
//! It speaks OpenAI (chat, Responses, embeddings, models), Anthropic Messages and Gemini on one loopback port, answers
//! well by default, fails in every way that providers and networks fail when told to, and remembers what it was asked.
//! Everything else is echoed, so that tests see what was forwarded. Whoever asks for a WebSocket gets one: Realtime,
//! Responses, Gemini's Live API, or else an echo.
//!
//! ```no_run
//! # use spillway_mock_provider::*;
//! let provider = Provider::start();
//! provider.next(rate_limited().retry_after_s(2));
//! provider.always(overloaded());
//! provider.when(path_contains("/messages").and(model("claude")), healthy().after_events(3).cut());
//! // ... drive a client against provider.url() ...
//! provider.wait_for_requests(2);
//! provider.heal();
//! ```
//!
//! It runs on a thread of its own, so tests may block. Waits panic with what was seen when their time is up.
#![expect(clippy::panic, reason = "a wrong script or a wait in vain is a failed test, and panics are how tests fail")]

pub mod chance;
mod circumstances;
mod control;
mod dialects;
mod embeddings;
mod failures;
mod healthy;
mod observe;
mod plan;
mod reply;
mod script;
mod scripted;
mod server;
mod sockets;
#[cfg(test)]
mod tests;
mod tools;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;

pub use circumstances::{between, by_chance, every_other, fading, faster_than, more_than_it_bears};
pub use control::{BEHAVIOURS, Behaviour};
pub use failures::Failure;
pub use observe::{MAX_RECORDED_BYTES, MAX_RECORDED_REQUESTS, RecordedRequest, Stats, WAIT_DEADLINE};
pub use plan::Gate;
pub use reply::{
    Reply, close_before_head, error_in_200, fail, healthy, in_pieces, insufficient_quota, overloaded, rate_limited,
    reset, respond, stall, stream,
};
pub use script::{Count, Matcher, body, header, model, path_contains, request};

use observe::Observer;
use script::Script;
use server::Shared;

/// The mock provider; it stops when dropped. See the [module](self) for a taste.
pub struct Provider {
    shared: Arc<Shared>,
    port: u16,
    state: Mutex<State>,
}

enum State {
    Running {
        shutdown: oneshot::Sender<()>,
        thread: JoinHandle<()>,
    },
    /// A socket that is bound but does not listen keeps the port from being given to someone else, and a connection to
    /// it is refused. `None` if the port could not be had for that.
    Stopped {
        _reservation: Option<Socket>,
    },
}

impl Provider {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If the machine has no port, thread or descriptor left.
    pub fn start() -> Self {
        Self::start_on(0).unwrap_or_else(|error| panic!("the mock provider cannot start: {error}"))
    }

    /// Starts on this port of 127.0.0.1; 0 means any that is free.
    ///
    /// # Errors
    /// If the port is taken, or the machine has no thread or descriptor left.
    pub fn start_on(port: u16) -> io::Result<Self> {
        let shared = Shared { script: Mutex::new(Script::healthy()), observer: Arc::new(Observer::default()) };
        let shared = Arc::new(shared);
        let (port, state) = run(port, &shared)?;
        Ok(Self { shared, port, state: Mutex::new(state) })
    }

    /// Where it listens, also while it is stopped.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// `http://127.0.0.1:PORT`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Closes the port and every connection on it; from here on connections are refused. Script, counts and records
    /// stay. Harmless if already stopped.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        if let State::Running { shutdown, thread } =
            std::mem::replace(&mut *state, State::Stopped { _reservation: None })
        {
            self.shared.observer.set_stopping(true);
            // Both fail only if the thread has already ended, which is what is wanted.
            let _ = shutdown.send(());
            let _ = thread.join();
            *state = State::Stopped { _reservation: bind(self.port).ok() };
        }
    }

    /// Listens again on the same port. Harmless if running.
    ///
    /// # Panics
    /// If somebody else took the port in between.
    pub fn start_again(&self) {
        let mut state = lock(&self.state);
        if let State::Stopped { .. } = *state {
            *state = State::Stopped { _reservation: None };
            self.shared.observer.set_stopping(false);
            let started = run(self.port, &self.shared);
            *state = started.unwrap_or_else(|error| panic!("the mock provider cannot start again: {error}")).1;
        }
    }

    /// Changes the default behaviour, from the next request on.
    pub fn always(&self, reply: Reply) {
        lock(&self.shared.script).always(reply);
    }

    /// Queues one answer, for the next request that no rule takes; several are used in order.
    pub fn next(&self, reply: Reply) {
        lock(&self.shared.script).next(reply);
    }

    /// Adds a rule: requests that match get this reply, before the queue and the default. The youngest rule wins.
    pub fn when(&self, matcher: Matcher, reply: Reply) {
        lock(&self.shared.script).when(matcher, reply);
    }

    /// Answers everything well again: the default, the queue and all rules are forgotten. Answers already under way go
    /// on as they were.
    pub fn heal(&self) {
        *lock(&self.shared.script) = Script::healthy();
    }

    /// A new gate, closed.
    pub fn gate(&self) -> Gate {
        Gate::new()
    }

    /// The counts as they are now.
    pub fn stats(&self) -> Stats {
        self.shared.observer.stats()
    }

    /// The requests received, oldest first; at most [`MAX_RECORDED_REQUESTS`] and [`MAX_RECORDED_BYTES`].
    pub fn requests(&self) -> Vec<Arc<RecordedRequest>> {
        self.shared.observer.requests()
    }

    /// Blocks until this many requests have been received since the start.
    ///
    /// # Panics
    /// After [`WAIT_DEADLINE`], as do all waits here.
    #[track_caller]
    pub fn wait_for_requests(&self, count: u64) {
        self.wait(&format!("{count} requests"), |stats| stats.started >= count);
    }

    /// Blocks until a client has gone away before the end of its answer (`aborted` is at least one).
    ///
    /// # Panics
    /// After [`WAIT_DEADLINE`].
    #[track_caller]
    pub fn wait_for_disconnect(&self) {
        self.wait("a client to go away", |stats| stats.aborted >= 1);
    }

    /// Blocks until the counts are as wanted. They are locked meanwhile, so the condition must not ask the provider.
    ///
    /// # Panics
    /// After [`WAIT_DEADLINE`].
    #[track_caller]
    pub fn wait_until(&self, condition: impl FnMut(&Stats) -> bool) {
        self.wait("counts as wanted", condition);
    }

    /// Like [`wait_until`](Self::wait_until), for tests on a runtime whose thread must not be blocked.
    ///
    /// # Panics
    /// After [`WAIT_DEADLINE`].
    #[track_caller]
    pub fn wait_until_async(&self, condition: impl FnMut(&Stats) -> bool) -> impl Future<Output = ()> {
        let (caller, observer) = (Location::caller(), &self.shared.observer);
        observer.wait_async("counts as wanted", caller, WAIT_DEADLINE, condition)
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl FnMut(&Stats) -> bool) {
        self.shared.observer.wait(what, Location::caller(), WAIT_DEADLINE, condition);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bind(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Old connections of the port linger in TIME_WAIT and must not stand in the way of starting again.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket)
}

/// Listens, and serves on a new thread. The port is open when this returns.
fn run(port: u16, shared: &Arc<Shared>) -> io::Result<(u16, State)> {
    let socket = bind(port)?;
    // As many as common servers allow to wait; the kernel lowers it to its own limit.
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (shutdown, stopped) = oneshot::channel();
    let serving = server::serve(listener, shared.clone());
    let thread = std::thread::Builder::new().name("mock-provider".to_owned()).spawn(move || {
        runtime.block_on(async {
            // The sender is only dropped after use, so an error means the same as a message.
            tokio::select! { _ = stopped => {} _ = serving => {} }
        });
    })?;
    Ok((port, State::Running { shutdown, thread }))
}

/// A test that panicked elsewhere leaves these values whole, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
