//! What stands between a caller and a provider: TLS before it, and the proxies of companies.
#![expect(clippy::panic, reason = "what cannot be set up fails its test, and panics are how tests fail")]

use crate::certificates::Identity;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// Something that listens, and passes on to a provider what comes.
#[derive(Debug)]
pub struct Between {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: Runtime,
}

/// One connection, as far as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Something came.
    Connection,
    /// A request's first line, and what it showed to be let through.
    Asked {
        /// As in `CONNECT api.example:443 HTTP/1.1`.
        line: String,
        /// `Proxy-Authorization`.
        authorization: Option<String>,
    },
}

impl Between {
    /// Ends TLS with this identity before the provider.
    pub fn tls(provider: SocketAddr, identity: &Identity) -> Between {
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_no_client_auth());
        let config = config
            .and_then(|config| config.with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key()));
        let config = config.unwrap_or_else(|error| panic!("no TLS: {error}"));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Between::start(move |stream, seen| {
            let acceptor = acceptor.clone();
            async move {
                note(&seen, Seen::Connection);
                let mut stream = acceptor.accept(stream).await?;
                pass_on(&mut stream, provider).await
            }
        })
    }

    /// An HTTP proxy: whoever asks for something elsewhere gets to the provider, if it shows these credentials.
    pub fn proxy(provider: SocketAddr, authorization: Option<&'static str>) -> Between {
        Between::start(move |stream, seen| async move {
            let mut stream = BufReader::new(stream);
            let head = head(&mut stream).await?;
            let line = head.lines().next().unwrap_or_default().to_owned();
            let shown = head.lines().find_map(|line| line.strip_prefix("proxy-authorization: ")).map(str::to_owned);
            let is_let_through = authorization.is_none_or(|wanted| shown.as_deref() == Some(wanted));
            note(&seen, Seen::Asked { line: line.clone(), authorization: shown });
            if !is_let_through {
                let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
                return stream.write_all(refusal.as_bytes()).await;
            }
            let mut provider = TcpStream::connect(provider).await?;
            if line.starts_with("CONNECT ") {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            } else {
                provider.write_all(head.as_bytes()).await?;
            }
            copy_bidirectional(&mut stream, &mut provider).await.map(|_| ())
        })
    }

    /// A SOCKS 5 proxy without credentials.
    pub fn socks(provider: SocketAddr) -> Between {
        Between::start(move |mut stream, seen| async move {
            let mut greeting = [0; 2];
            stream.read_exact(&mut greeting).await?;
            stream.read_exact(&mut vec![0; greeting[1].into()]).await?;
            stream.write_all(&[5, 0]).await?;
            let mut asked = [0; 5];
            stream.read_exact(&mut asked).await?;
            let mut target = vec![0; usize::from(asked[4]) + 2];
            stream.read_exact(&mut target).await?;
            let (name, port) = target.split_at(usize::from(asked[4]));
            let port = u16::from_be_bytes([port[0], port[1]]);
            let line = format!("SOCKS {}:{port}", String::from_utf8_lossy(name));
            note(&seen, Seen::Asked { line, authorization: None });
            stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await?;
            pass_on(&mut stream, provider).await
        })
    }

    fn start<F, T>(serve: F) -> Between
    where
        F: Fn(TcpStream, Arc<Mutex<Vec<Seen>>>) -> T + Send + 'static,
        T: Future<Output = io::Result<()>> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.unwrap_or_else(|error| panic!("no port: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let shared = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // How a connection ends is for its caller to see.
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Between { address, seen, _runtime: runtime }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What has come so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn note(seen: &Mutex<Vec<Seen>>, what: Seen) {
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}

async fn pass_on(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), provider: SocketAddr) -> io::Result<()> {
    let mut provider = TcpStream::connect(provider).await?;
    copy_bidirectional(stream, &mut provider).await.map(|_| ())
}

/// A request's head, its blank line included.
async fn head(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}
