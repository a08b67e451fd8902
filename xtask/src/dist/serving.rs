//! A Spillway that serves in a jail, from its start to its end: whether it does what it is there for.

use super::http::{self, CONTENT, Provider, QUESTION, ask, has_status};
use super::jail::Jail;
use super::stage::at;
use crate::process::{line, run};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take to be ready, or to end; emulated it takes the longest.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// Lines of its log that are shown when it fails.
const LOG_LINES_SHOWN: usize = 20;
const CHAT: &str = "/v1/chat/completions";

/// The ports of a try, and the provider behind them.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) listen: u16,
    pub(crate) admin: u16,
    provider: Provider,
}

impl Ports {
    pub(crate) fn find() -> Result<Ports, String> {
        let find = || Ok(Ports { listen: http::free_port()?, admin: http::free_port()?, provider: Provider::start()? });
        find().map_err(|error: std::io::Error| format!("this machine has no free port: {error}"))
    }

    /// What a configuration says of the provider and of the admin address, in tables of their own.
    pub(crate) fn tables(&self) -> String {
        format!(
            "\n[admin]\nlisten = \"127.0.0.1:{}\"\n\n[upstreams.openai]\nurl = \"http://{}\"\n",
            self.admin, self.provider.address
        )
    }
}

/// What is asked of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The program with its arguments.
    pub(crate) words: &'a [&'a str],
    /// Headers that each caller sends, each with its end of line.
    pub(crate) headers: &'a str,
    /// What is run beside it while it serves, and must succeed.
    pub(crate) health: &'a [&'a str],
}

/// Starts it, has it serve a request whose answer a policy judges, keep one that cannot be served, and end.
///
/// # Errors
/// The first thing that it does not do, with its log.
pub(crate) fn try_out(jail: &Jail, ports: Ports, asked: Asked<'_>) -> Result<(), String> {
    let log = jail.root.with_extension("log");
    let mut process = Process::start(jail, asked.words, log)?;
    let result = converse(&mut process, jail, ports, asked);
    result.map_err(|message| format!("{message}\nits log:\n{}", process.log()))
}

fn converse(process: &mut Process, jail: &Jail, ports: Ports, asked: Asked<'_>) -> Result<(), String> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ports { listen, admin, provider } = ports;
    process.wait("ready", || {
        let ready = ask(address(admin), "GET", "/readyz", "", "").ok()?;
        // A line behind the first would be a trouble of the spool's.
        (has_status(&ready, 200) && !ready.contains("spool:")).then_some(())
    })?;
    let question = |headers: &str| {
        let headers = format!("{}{headers}", asked.headers);
        ask(address(listen), "POST", CHAT, &headers, QUESTION).map_err(|error| format!("nobody answers: {error}"))
    };
    let answer = process.wait("serving by the policy that lies in its folder", || {
        let answer = question("").ok()?;
        answer.to_ascii_lowercase().contains("x-spillway-policy: default@").then_some(answer)
    })?;
    if !has_status(&answer, 200) || !answer.contains(CONTENT) {
        return Err(format!("a request that the provider answers is answered by\n{answer}"));
    }
    if !asked.health.is_empty() {
        jail.said(asked.health)?;
    }
    drop(provider);
    let kept = question("Prefer: respond-async, wait=1\r\n")?;
    if !has_status(&kept, 202) {
        return Err(format!("a request that cannot be served now is answered by\n{kept}"));
    }
    process.end()
}

/// The process, which ends with the try.
#[derive(Debug)]
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(jail: &Jail, words: &[&str], log: PathBuf) -> Result<Process, String> {
        let file = File::create(&log).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = file.map_err(|error| at(&log, &error))?;
        let mut command = jail.command(words);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().map_err(|error| format!("cannot run `{}`: {error}", line(&command)))?;
        Ok(Process { child, log })
    }

    /// The last of what it has said.
    fn log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Waits until something holds, for as long as it lives and patience lasts.
    fn wait<T>(&mut self, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it has ended before it was {what} ({status})"));
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("after {} s it is not {what}", PATIENCE.as_secs()));
            }
            thread::sleep(LOOK);
        }
    }

    /// Ends it as a service is ended.
    fn end(&mut self) -> Result<(), String> {
        run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("told to end, it fails ({status})")),
                None => thread::sleep(LOOK),
            }
        }
        Err(format!("told to end, it still runs after {} s", PATIENCE.as_secs()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
