//! As much HTTP as a try needs: a question to Spillway, and a provider that has one answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a question may take, emulated or not.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// What the provider answers.
pub(crate) const CONTENT: &str = "hello from the provider";
/// What it is asked.
pub(crate) const QUESTION: &str = r#"{"model":"gpt-5","messages":[{"role":"user","content":"hello"}]}"#;

/// Asks, and returns the whole answer with its head.
///
/// # Errors
/// Nobody answers.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\nContent-Type: application/json\r\n{headers}\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether an answer has this status.
pub(crate) fn has_status(answer: &str, status: u16) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
}

/// A port of this machine that nobody listens on; the system gives it to nobody else for a while.
///
/// # Errors
/// The system gives none.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A provider that is well, until it is dropped.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Provider {
    pub(crate) fn start() -> std::io::Result<Provider> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let serve = move || {
            for stream in listener.incoming().take_while(|_| !ended.load(Ordering::SeqCst)).flatten() {
                // A caller that leaves is no failure of the provider's.
                let _ = answer(stream);
            }
        };
        Ok(Provider { address, ends, thread: Some(thread::spawn(serve)) })
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // A last caller wakes the thread up, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads one request and answers it.
fn answer(stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    let choice =
        format!(r#"{{"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":"{CONTENT}"}}}}"#);
    let usage = r#"{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}"#;
    let head = r#""id":"1","object":"chat.completion","created":1,"model":"gpt-5""#;
    let body = format!(r#"{{{head},"choices":[{choice}],"usage":{usage}}}"#);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
    write!(reader.get_mut(), "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_answers_until_it_is_dropped() {
        let provider = Provider::start().expect("a port");
        let address = provider.address;
        for _ in 0..2 {
            let answer = ask(address, "POST", "/v1/chat/completions", "", QUESTION).expect("an answer");
            assert!(has_status(&answer, 200) && answer.contains(CONTENT), "{answer}");
        }
        drop(provider);
        assert!(ask(address, "GET", "/", "", "").is_err());
    }
}
