//! Accepting callers' connections.

use crate::downstream::connection::stream::Stream;
use crate::downstream::connection::{self, crowd::Crowd};
use crate::proxy::worker::Worker;
use crate::runtime::{port, unix_socket};
use std::io;
use std::mem::take;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// How long to leave it when a connection cannot be accepted.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often to say so, while it goes on.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Something that may go wrong many times a second, and is said now and then.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    said: Option<Instant>,
    unsaid: u64,
}

impl Complaint {
    /// How often it went wrong unsaid, if it is to be said.
    pub(crate) fn is_due(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < COMPLAIN_EVERY) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(take(&mut self.unsaid))
    }
}

/// Where callers come in.
#[derive(Debug)]
pub(crate) struct Entrances {
    /// The port.
    pub port: std::net::TcpListener,
    /// The Unix socket beside it, if there is one. All workers accept from the same.
    pub unix_socket: Option<unix_socket::Listener>,
}

impl Entrances {
    /// The same, for whoever takes another's place: it accepts from the same queues, and loses nobody in them.
    pub(crate) fn try_clone(&self) -> io::Result<Entrances> {
        let unix_socket = self.unix_socket.as_ref().map(unix_socket::Listener::try_clone).transpose()?;
        Ok(Entrances { port: port::share(&self.port)?, unix_socket })
    }

    fn listen(self) -> io::Result<Listeners> {
        let unix_socket = self.unix_socket.map(unix_socket::AsyncListener::from_std).transpose()?;
        Ok(Listeners { port: TcpListener::from_std(self.port)?, unix_socket })
    }
}

/// The same, on a worker's own runtime.
struct Listeners {
    port: TcpListener,
    unix_socket: Option<unix_socket::AsyncListener>,
}

impl Listeners {
    /// The next connection, through whichever of them it comes.
    async fn accept(&self) -> io::Result<Stream> {
        let Some(unix_socket) = &self.unix_socket else {
            return self.port.accept().await.map(|(stream, _)| Stream::Tcp(stream));
        };
        tokio::select! {
            accepted = self.port.accept() => accepted.map(|(stream, _)| Stream::Tcp(stream)),
            accepted = unix_socket.accept() => accepted.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// Accepts connections until the process drains, and then waits for those that are open.
pub(crate) async fn accept(worker: Rc<Worker>, entrances: Entrances) {
    let listeners = match entrances.listen() {
        Ok(listeners) => listeners,
        Err(error) => {
            tracing::error!(%error, "a worker cannot listen");
            return;
        }
    };
    let crowd = Rc::new(Crowd::default());
    let mut complaint = Complaint::default();
    let mut crowded = pin!(worker.app.crowded.notified());
    loop {
        let accepted = tokio::select! {
            accepted = listeners.accept() => accepted,
            () = &mut crowded => {
                crowded.set(worker.app.crowded.notified());
                if worker.app.has_too_many_connections() {
                    crowd.close_longest_unused();
                }
                continue;
            }
            () = connection::drain_begun(&worker.app, &worker.pulse) => break,
        };
        match accepted {
            Ok(stream) => {
                tokio::task::spawn_local(connection::serve(Rc::clone(&worker), Rc::clone(&crowd), stream));
            }
            Err(error) => {
                // Out of file descriptors, most likely: closing connections will help, accepting faster will not.
                if let Some(unsaid) = complaint.is_due(Instant::now()) {
                    tracing::error!(
                        %error,
                        unsaid,
                        "a connection could not be accepted; if too many files are open, raise the limit (ulimit -n)"
                    );
                }
                if !crowd.close_longest_unused() {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listeners);
    if worker.app.is_draining() {
        worker.app.idle().await;
    }
    worker.pulse.at_rest().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_all_the_time_is_said_now_and_then_with_how_often_it_was_not() {
        let (began, mut complaint) = (Instant::now(), Complaint::default());
        let mut is_due = |ms: u64| complaint.is_due(began + Duration::from_millis(ms));
        assert_eq!(is_due(0), Some(0));
        assert_eq!((1..100).filter_map(|tenth| is_due(tenth * 100)).count(), 0);
        assert_eq!(is_due(10_000), Some(99));
        assert_eq!(is_due(20_000), Some(0));
    }
}
