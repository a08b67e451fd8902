//! A client that speaks HTTP/2 over TLS, and sees how each stream ends.
#![expect(clippy::panic, reason = "a connection that cannot be made fails its test, and panics are how tests fail")]

use crate::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a test waits for what should come.
const DEADLINE: Duration = crate::wait::DEADLINE;

/// A connection.
#[derive(Debug)]
pub struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    ended: JoinHandle<hyper::Result<()>>,
    address: SocketAddr,
}

/// An answer whose head has come. Dropping it takes the request back.
#[derive(Debug)]
pub struct Answer {
    handle: Handle,
    response: hyper::Response<Incoming>,
}

impl Http2 {
    /// Connects by these settings to whoever has the name `localhost`. So many bytes of an answer come ahead of its
    /// reading.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn open(address: SocketAddr, tls: &Arc<ClientConfig>, window_bytes: u32) -> Http2 {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
        let opened = runtime.block_on(async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            let tls = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?;
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "they have not agreed on HTTP/2");
            let mut builder = Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(window_bytes);
            let (sender, connection) = builder.handshake(TokioIo::new(tls)).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((sender, tokio::spawn(connection)))
        });
        let (sender, ended) = opened.unwrap_or_else(|error| panic!("no connection: {error}"));
        Http2 { runtime, sender, ended, address }
    }

    /// Sends a request, and reads the head of its answer.
    ///
    /// # Errors
    /// When the stream or the connection ends before.
    pub fn open_answer(&self, request: &Request) -> Result<Answer, hyper::Error> {
        let sent = self.begin(request);
        let response = self.runtime.block_on(async { timeout(DEADLINE, sent).await });
        let response = response.unwrap_or_else(|_| panic!("no answer to {request:?}"));
        let response = response.unwrap_or_else(|error| panic!("{error}"))?;
        Ok(Answer { handle: self.runtime.handle().clone(), response })
    }

    /// Sends a request, whose answer nobody waits for yet. Aborting the task takes it back.
    ///
    /// # Panics
    /// When the request is none.
    pub fn begin(&self, request: &Request) -> JoinHandle<hyper::Result<hyper::Response<Incoming>>> {
        let request = request.to_hyper_at("https", self.address);
        let request = request.unwrap_or_else(|error| panic!("no request: {error}"));
        let mut sender = self.sender.clone();
        self.runtime.spawn(async move {
            sender.ready().await?;
            sender.send_request(request).await
        })
    }

    /// Whether the connection has ended, or ends in time.
    pub fn ends(&mut self) -> bool {
        let ended = &mut self.ended;
        self.runtime.block_on(async { timeout(DEADLINE, ended).await.is_ok() })
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        !self.ended.is_finished()
    }
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header of it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// The next piece of its body; `None` at its end.
    ///
    /// # Errors
    /// When it is broken off, as by a reset.
    pub fn piece(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        let frame = self.handle.block_on(async { timeout(DEADLINE, self.response.body_mut().frame()).await });
        let frame = frame.unwrap_or_else(|_| panic!("nothing comes of an answer, and it does not end"));
        frame.transpose().map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// The rest of its body, and how it has ended.
    pub fn rest(&mut self) -> (Vec<u8>, Result<(), hyper::Error>) {
        let mut rest = Vec::new();
        loop {
            match self.piece() {
                Ok(Some(piece)) => rest.extend_from_slice(&piece),
                Ok(None) => return (rest, Ok(())),
                Err(error) => return (rest, Err(error)),
            }
        }
    }
}
