//! Accepting callers' connections.

use crate::downstream::connection;
use crate::downstream::connection::crowd::Crowd;
use crate::downstream::connection::handshake::Handshakes;
use crate::downstream::connection::stream::Stream;
use crate::proxy::worker::Worker;
use crate::runtime::complaint::Complaint;
use crate::runtime::{port, unix_socket};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// How long to leave it when a connection cannot be accepted.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    /// The next connection, through whichever of them it comes, and the address at its other end, if it has one.
    async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        let of_port = |(stream, peer): (TcpStream, SocketAddr)| (Stream::Tcp(stream), Some(peer.ip().to_canonical()));
        let Some(unix_socket) = &self.unix_socket else {
            return self.port.accept().await.map(of_port);
        };
        tokio::select! {
            accepted = self.port.accept() => accepted.map(of_port),
            accepted = unix_socket.accept() => accepted.map(|(stream, _)| (Stream::Unix(stream), None)),
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
    let (crowd, handshakes) = (Rc::new(Crowd::default()), Rc::new(Handshakes::default()));
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
            Ok((stream, peer)) => {
                let (worker, crowd, handshakes) = (Rc::clone(&worker), Rc::clone(&crowd), Rc::clone(&handshakes));
                tokio::task::spawn_local(connection::serve(worker, crowd, handshakes, stream, peer));
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
