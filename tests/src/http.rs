//! A small HTTP/1.1 client on a plain socket. It sees what other clients hide: each event when it arrives, and whether
//! an answer ended or broke off. It also sends what other clients refuse to send.

use crate::socket::Socket;
use crate::wait::DEADLINE;
use bytes::Bytes;
use http_body_util::Full;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Largest answer read. No test's answer comes near it.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Most of a body that is shown when something went wrong with its request.
const BODY_BYTES_SHOWN: usize = 1_000;

/// A request.
#[derive(Clone)]
pub struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { method, path, headers, body } = self;
        let shown = String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_SHOWN)]);
        write!(f, "{method} {path} {headers:?}, {} bytes: {shown}", body.len())
    }
}

/// A request without a body.
pub fn request(method: &'static str, path: &str) -> Request {
    Request { method, path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
}

/// A GET.
pub fn get(path: &str) -> Request {
    request("GET", path)
}

/// A DELETE.
pub fn delete(path: &str) -> Request {
    request("DELETE", path)
}

/// A POST of JSON.
pub fn post(path: &str, body: &Value) -> Request {
    request("POST", path).header("content-type", "application/json").body(body.to_string())
}

impl Request {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces every header of this name.
    #[must_use]
    pub fn replace_header(self, name: &str, value: &str) -> Self {
        self.without_header(name).header(name, value)
    }

    /// Removes every header of this name.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    /// Goes to another path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// For a client that writes its own `Host` and length.
    ///
    /// # Errors
    /// When path or headers are none.
    pub(crate) fn to_hyper(&self, address: SocketAddr) -> Result<hyper::Request<Full<Bytes>>, hyper::http::Error> {
        self.to_hyper_at("http", address)
    }

    /// The same in a URL of this scheme.
    pub(crate) fn to_hyper_at(
        &self,
        scheme: &str,
        address: SocketAddr,
    ) -> Result<hyper::Request<Full<Bytes>>, hyper::http::Error> {
        let mut request =
            hyper::Request::builder().method(self.method).uri(format!("{scheme}://{address}{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::from(self.body.clone()))
    }

    /// What goes over the wire, with a `Host` and a length unless the request has its own.
    fn to_bytes(&self, address: SocketAddr) -> Vec<u8> {
        let has = |name: &str| self.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !has("host") {
            head.push_str(&format!("host: {address}\r\n"));
        }
        let has_body = self.method == "POST" || !self.body.is_empty();
        if has_body && !has("content-length") && !has("transfer-encoding") {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

/// Status and headers of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// The headers in order of arrival, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status and headers.
    pub head: Head,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Which refusal of Spillway's own this is; `None` for what the provider said.
    pub fn refusal(&self) -> Option<&str> {
        self.header("x-spillway-refusal")
    }

    /// In how many seconds to come again, if the answer says so.
    pub fn retry_after_s(&self) -> Option<u64> {
        self.header("retry-after").and_then(|wait| wait.parse().ok())
    }

    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON value at this pointer, as text; empty if there is none.
    pub fn at(&self, pointer: &str) -> String {
        let json = self.json();
        json.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// What is still to come of an answer's body.
#[derive(Debug)]
enum Rest {
    Nothing,
    Bytes(u64),
    /// This many bytes of the chunk under way, and then more chunks.
    Chunks(u64),
    UntilClosed,
}

/// A connection, and the answer under way on it. Dropping it hangs up.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<Socket>,
    address: SocketAddr,
    rest: Rest,
    /// What was read of an event that is not whole.
    partial: Vec<u8>,
}

impl Connection {
    /// Connects. No read on the connection takes longer than [`DEADLINE`].
    ///
    /// # Errors
    /// The system's own.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Self::over(Socket::Tcp(stream), address)
    }

    /// Connects to a Unix socket. Requests have a `Host` that is nobody's, unless they have their own.
    ///
    /// # Errors
    /// The system's own.
    pub fn open_unix(path: &Path) -> io::Result<Self> {
        Self::over(Socket::Unix(UnixStream::connect(path)?), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// Connects, and agrees on TLS: by these settings, with whoever has this name.
    ///
    /// # Errors
    /// The system's own, and those of a handshake that fails.
    pub fn open_tls(address: SocketAddr, tls: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Self::over(Socket::Tls(Box::new(StreamOwned::new(tls, stream))), address)
    }

    fn over(stream: Socket, address: SocketAddr) -> io::Result<Self> {
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { stream: BufReader::new(stream), address, rest: Rest::Nothing, partial: Vec::new() })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The system's own.
    pub fn send(&mut self, request: &Request) -> io::Result<()> {
        let bytes = request.to_bytes(self.address);
        self.send_raw(&bytes)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The system's own.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let socket = self.stream.get_mut();
        socket.write_all(bytes)?;
        socket.flush()
    }

    /// What goes over the wire for a request.
    pub fn bytes_of(&self, request: &Request) -> Vec<u8> {
        request.to_bytes(self.address)
    }

    /// Lets no read take longer, from here on.
    pub fn read_timeout(&self, timeout: Duration) {
        // This fails only for no time at all.
        let _ = self.stream.get_ref().set_read_timeout(Some(timeout));
    }

    /// Lets no write take longer, from here on.
    pub fn write_timeout(&self, timeout: Duration) {
        // As above.
        let _ = self.stream.get_ref().set_write_timeout(Some(timeout));
    }

    /// Closes the half in which it sends, as a caller may that has sent all.
    ///
    /// # Errors
    /// The system's own.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.get_mut().shutdown(Shutdown::Write)
    }

    /// Reads the head of the next answer.
    ///
    /// # Errors
    /// The system's own, and `InvalidData` for what is no HTTP.
    pub fn head(&mut self) -> io::Result<Head> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or_else(|| no_http(&first))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| no_http(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let head = Head { status, headers };
        self.rest = match (head.header("transfer-encoding"), head.header("content-length")) {
            _ if status < 200 || status == 204 || status == 304 => Rest::Nothing,
            (Some(_), _) => Rest::Chunks(0),
            (None, Some(length)) => Rest::Bytes(length.parse().map_err(|_| no_http(length))?),
            (None, None) => Rest::UntilClosed,
        };
        Ok(head)
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// The system's own, and `UnexpectedEof` for an answer that breaks off before its end.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let most = match self.rest {
            Rest::Nothing | Rest::Bytes(0) => return Ok(None),
            Rest::Bytes(left) => left,
            Rest::UntilClosed => u64::MAX,
            Rest::Chunks(0) => {
                let line = self.line()?;
                let size = u64::from_str_radix(&line, 16).map_err(|_| no_http(&line))?;
                if size == 0 {
                    self.line()?;
                    self.rest = Rest::Nothing;
                    return Ok(None);
                }
                size
            }
            Rest::Chunks(left) => left,
        };
        let available = self.stream.fill_buf()?;
        let count = usize::try_from(most).map_or(available.len(), |most| most.min(available.len()));
        let piece = available[..count].to_vec();
        self.stream.consume(count);
        let left = most - count as u64;
        self.rest = match self.rest {
            Rest::UntilClosed if count == 0 => return Ok(None),
            Rest::Bytes(_) | Rest::Chunks(_) if count == 0 => return Err(broken_off()),
            Rest::Bytes(_) => Rest::Bytes(left),
            Rest::Chunks(_) => {
                if left == 0 {
                    self.line()?;
                }
                Rest::Chunks(left)
            }
            Rest::UntilClosed => Rest::UntilClosed,
            Rest::Nothing => Rest::Nothing,
        };
        Ok(Some(piece))
    }

    /// The next server-sent event, its closing blank line included; `None` at a clean end of the stream.
    ///
    /// # Errors
    /// As [`Connection::piece`].
    pub fn event(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.partial.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.partial.drain(..end + 2).collect();
                return Ok(Some(String::from_utf8_lossy(&event).into_owned()));
            }
            match self.piece()? {
                Some(piece) => self.partial.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }

    /// Every event that is still to come, and how the stream ended.
    pub fn events(&mut self) -> (Vec<String>, io::Result<()>) {
        let mut events = Vec::new();
        loop {
            match self.event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return (events, Ok(())),
                Err(error) => return (events, Err(error)),
            }
        }
    }

    /// Reads the rest of the body.
    ///
    /// # Errors
    /// As [`Connection::piece`].
    pub fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = std::mem::take(&mut self.partial);
        while let Some(piece) = self.piece()? {
            body.extend_from_slice(&piece);
            if body.len() as u64 > BODY_BYTES_MAX {
                return Err(io::Error::other("the answer is too large"));
            }
        }
        Ok(body)
    }

    /// Sends a request and reads its whole answer. The connection can then be used again.
    ///
    /// # Errors
    /// The system's own, and those of reading.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        self.send(request)?;
        self.response()
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    /// As [`Connection::head`] and [`Connection::piece`].
    pub fn response(&mut self) -> io::Result<Response> {
        let head = self.head()?;
        Ok(Response { body: self.body()?, head })
    }

    /// Reads until the other side closes, whatever comes.
    ///
    /// # Errors
    /// The system's own.
    pub fn everything(&mut self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.rest()?).into_owned())
    }

    /// The same, byte by byte.
    ///
    /// # Errors
    /// The system's own.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.stream).take(BODY_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(broken_off());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed in the middle of an answer")
}

fn no_http(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is no HTTP: {what:?}"))
}
