//! A provider that is nothing but a socket: it keeps what arrives, byte for byte, and answers with the bytes that it was
//! given.
#![expect(clippy::panic, reason = "what cannot be set up fails its test, and panics are how tests fail")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Largest body that is read.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Method, target and version.
    pub line: String,
    /// The headers in order of arrival, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Taken {
    /// Every header of this name, given in lower case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// What is sent in answer: pieces of raw HTTP, each flushed by itself.
pub type Pieces = Vec<Vec<u8>>;

#[derive(Debug, Default)]
struct Shared {
    taken: Mutex<Vec<Taken>>,
    answer: Mutex<Pieces>,
}

/// A socket that answers. Its threads end with its connections.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Wire {
    /// Begins to listen.
    ///
    /// # Panics
    /// When the system has no port for it.
    pub fn start() -> Wire {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (address, listener) = bound.unwrap_or_else(|error| panic!("no port for the test: {error}"));
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_thread);
                // A connection that breaks is its caller's doing.
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Wire { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers every request so from here on.
    pub fn answers(&self, pieces: Pieces) {
        *lock(&self.shared.answer) = pieces;
    }

    /// What has arrived since this was asked last.
    pub fn take(&self) -> Vec<Taken> {
        std::mem::take(&mut lock(&self.shared.taken))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one connection: for as long as its answers say where they end.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(taken) = request(&mut reader)? {
        lock(&shared.taken).push(taken);
        let pieces = lock(&shared.answer).clone();
        for piece in &pieces {
            (&mut &*stream).write_all(piece)?;
        }
        let head = pieces.first().map(|piece| String::from_utf8_lossy(piece).to_ascii_lowercase()).unwrap_or_default();
        if !["content-length:", "transfer-encoding:", " 204 ", " 304 "].iter().any(|end| head.contains(end)) {
            return stream.shutdown(Shutdown::Write);
        }
    }
    Ok(())
}

/// Reads a request; `None` where none follows.
fn request(reader: &mut impl BufRead) -> io::Result<Option<Taken>> {
    let line = line(reader)?;
    if line.is_empty() {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let header = self::line(reader)?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut taken = Taken { line, headers, body: Vec::new() };
    if !taken.all("transfer-encoding").is_empty() {
        loop {
            let size = self::line(reader)?;
            let size = u64::from_str_radix(&size, 16).map_err(io::Error::other)?;
            reader.take(size.min(BODY_BYTES_MAX)).read_to_end(&mut taken.body)?;
            self::line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = taken.all("content-length").first().and_then(|length| length.parse().ok()) {
        let length: u64 = length;
        reader.take(length.min(BODY_BYTES_MAX)).read_to_end(&mut taken.body)?;
    }
    Ok(Some(taken))
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
