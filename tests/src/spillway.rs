//! A real Spillway process in a folder of its own, with its log, its status and its metrics.
#![expect(clippy::panic, reason = "a Spillway that does not start is a failed test, and panics are how tests fail")]

pub use crate::setup::{Setup, binary, policy_file, write_pair};

use crate::certificates::Authority;
use crate::clocks::Clocks;
use crate::http::{Connection, Head, Request, Response, get};
use crate::log::Log;
use crate::wait::{DEADLINE, eventually, within};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

impl Setup {
    /// Starts Spillway and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn start(self) -> Spillway {
        self.try_start().unwrap_or_else(|error| panic!("Spillway does not start: {error}"))
    }

    /// As [`Setup::start`], for who wants to handle the failure.
    ///
    /// # Errors
    /// Why not, with Spillway's log.
    pub fn try_start(self) -> io::Result<Spillway> {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let process = Process::start(&self, free, free)?;
        Ok(Spillway { process, setup: self })
    }

    /// Starts Spillway with a standard error of which nothing is heard, and waits until its admin port answers.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn start_unheard(self, stderr: Stdio) -> Spillway {
        let process = Process::start_unheard(&self, stderr);
        let process = process.unwrap_or_else(|error| panic!("Spillway does not start: {error}"));
        let spillway = Spillway { process, setup: self };
        eventually("it is ready", || {
            let mut admin = Connection::open(spillway.admin_address()).ok()?;
            (admin.exchange(&get("/readyz")).ok()?.status() == 200).then_some(())
        });
        spillway
    }

    /// Runs Spillway where it is expected to end by itself.
    ///
    /// # Panics
    /// When it goes on running.
    #[track_caller]
    pub fn run_to_end(&self, arguments: &[&str]) -> Ended {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let file = self.write(free, free).unwrap_or_else(|error| panic!("no configuration: {error}"));
        let file = file.into_os_string();
        run_to_end(
            self.folder(),
            &[arguments.iter().map(OsString::from).collect(), vec!["--config".into(), file]].concat(),
        )
    }
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs Spillway with these arguments in this folder until it ends.
///
/// # Panics
/// When it cannot be started, or goes on running.
#[track_caller]
pub fn run_to_end(folder: &Path, arguments: &[OsString]) -> Ended {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).env_remove("SPILLWAY_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", binary().display()));
    let mut child = Owned(child);
    let logs = (child.0.stdout.take().map(Log::follow), child.0.stderr.take().map(Log::follow));
    let (Some(Ok(stdout)), Some(Ok(stderr))) = logs else { panic!("its output cannot be read") };
    let status = eventually("Spillway ends by itself", || child.0.try_wait().ok().flatten());
    // The logs end with the process, so this waits for their last line and finds nothing.
    let whole = |log: &Log| {
        let _ = log.find(&["\0"], DEADLINE);
        log.text()
    };
    Ended { code: status.code(), stdout: whole(&stdout), stderr: whole(&stderr) }
}

/// A child that does not outlive us.
#[derive(Debug)]
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only for a child that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the environment of a test must not say to Spillway, unless the test says it.
const FOREIGN_VARIABLES: [&str; 11] = [
    "SPILLWAY_LOG",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

fn spawn(setup: &Setup, listen: SocketAddr, admin: SocketAddr, stderr: Stdio) -> io::Result<Owned> {
    let file = setup.write(listen, admin)?;
    let mut command = match setup.descriptors {
        None => Command::new(binary()),
        // The shell becomes Spillway, with its limits.
        Some((soft, hard)) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\""), "sh"]).arg(binary());
            shell
        }
    };
    command.arg("run").arg("--config").arg(file).current_dir(setup.folder());
    FOREIGN_VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
    Ok(Owned(spawned.map_err(|error| io::Error::other(format!("{}: {error}", binary().display())))?))
}

#[derive(Debug)]
struct Process {
    child: Owned,
    log: Log,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    /// Its ports are chosen beforehand, since nobody hears which it has got.
    fn start_unheard(setup: &Setup, stderr: Stdio) -> io::Result<Self> {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr();
        let (listen, admin) = (free()?, free()?);
        let child = spawn(setup, listen, admin, stderr)?;
        Ok(Self { child, log: Log::default(), listen, admin })
    }

    fn start(setup: &Setup, listen: SocketAddr, admin: SocketAddr) -> io::Result<Self> {
        let mut child = spawn(setup, listen, admin, Stdio::piped())?;
        let stderr = child.0.stderr.take().ok_or_else(|| io::Error::other("it has no standard error"))?;
        let log = Log::follow(stderr)?;
        let ready = log.find(&["Spillway is ready"], DEADLINE).unwrap_or_default();
        let line: Value = serde_json::from_str(&ready).unwrap_or_default();
        let address = |name: &str| line[name].as_str().and_then(|text| text.parse().ok());
        match (address("listen"), address("admin")) {
            (Some(listen), Some(admin)) => Ok(Self { child, log, listen, admin }),
            _ => Err(io::Error::other(format!("it does not become ready. Its log:\n{}", log.text()))),
        }
    }
}

/// A running Spillway; it is killed when dropped.
#[derive(Debug)]
pub struct Spillway {
    process: Process,
    setup: Setup,
}

impl Spillway {
    /// Where callers reach it.
    pub fn address(&self) -> SocketAddr {
        self.process.listen
    }

    /// Where operators reach it.
    pub fn admin_address(&self) -> SocketAddr {
        self.process.admin
    }

    /// The folder in which configuration, spool and policies lie.
    pub fn folder(&self) -> &Path {
        self.setup.folder()
    }

    /// A new connection to it.
    ///
    /// # Panics
    /// When it refuses.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.address()).unwrap_or_else(|error| panic!("Spillway refuses to connect: {error}"))
    }

    /// A new connection to it over TLS, as somebody who believes this authority and speaks HTTP/1.1.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn connect_tls(&self, authority: &Authority) -> io::Result<Connection> {
        Connection::open_tls(self.address(), &authority.client(&[b"http/1.1"]), "localhost")
    }

    /// Sends a request on a connection of its own and reads the whole answer.
    ///
    /// # Panics
    /// When no whole answer comes.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.connect().exchange(request).unwrap_or_else(|error| panic!("no whole answer to {request:?}: {error}"))
    }

    /// Sends a request and reads the head of the answer; the body is then read from the connection.
    ///
    /// # Panics
    /// When no head comes.
    #[track_caller]
    pub fn open(&self, request: &Request) -> (Head, Connection) {
        let mut connection = self.connect();
        let head = connection.send(request).and_then(|()| connection.head());
        (head.unwrap_or_else(|error| panic!("no answer to {request:?}: {error}")), connection)
    }

    /// Asks the admin port.
    ///
    /// # Panics
    /// When no whole answer comes.
    #[track_caller]
    pub fn admin(&self, request: &Request) -> Response {
        let answer = Connection::open(self.admin_address()).and_then(|mut admin| admin.exchange(request));
        answer.unwrap_or_else(|error| panic!("the admin port does not answer: {error}"))
    }

    /// The whole status.
    ///
    /// # Panics
    /// When the admin port does not answer.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.admin(&get("/status")).json()
    }

    /// One upstream's part of the status.
    ///
    /// # Panics
    /// When the admin port does not answer.
    #[track_caller]
    pub fn upstream(&self, name: &str) -> Value {
        named(&self.status()["upstreams"], name)
    }

    /// The state of an upstream's own circuit: `closed`, `open` or `half-open`.
    ///
    /// # Panics
    /// When the admin port does not answer.
    #[track_caller]
    pub fn circuit(&self, upstream: &str) -> String {
        let state = &self.upstream(upstream)["breakers"][0]["state"];
        state.as_str().unwrap_or_default().to_owned()
    }

    /// One policy's part of the status.
    ///
    /// # Panics
    /// When the admin port does not answer.
    #[track_caller]
    pub fn policy(&self, name: &str) -> Value {
        named(&self.status()["policies"], name)
    }

    /// The value of a metric, named with labels as they stand in the text: the sum of all series of this name that have
    /// these labels, whatever others they have; 0 if there is none.
    ///
    /// # Panics
    /// When the admin port does not answer.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        sum_of(&self.admin(&get("/metrics")).text(), name)
    }

    /// Waits until an upstream's own circuit is in this state.
    ///
    /// # Panics
    /// When it does not come to that in time.
    #[track_caller]
    pub fn wait_for_circuit(&self, upstream: &str, state: &str) {
        eventually(&format!("the circuit of {upstream} is {state}"), || {
            (self.circuit(upstream) == state).then_some(())
        });
    }

    /// The log so far.
    pub fn log(&self) -> &Log {
        &self.process.log
    }

    /// Copies a compiled policy into the policy folder under this name, as `cp` does.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[track_caller]
    pub fn drop_policy(&self, file: &Path, name: &str) {
        let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.drop_policy_bytes(&bytes, name);
    }

    /// Writes these bytes into the policy folder under this name.
    ///
    /// # Panics
    /// When they cannot be written.
    #[track_caller]
    pub fn drop_policy_bytes(&self, bytes: &[u8], name: &str) {
        let written =
            fs::create_dir_all(self.folder().join("policies")).and_then(|()| fs::write(self.policy_path(name), bytes));
        written.unwrap_or_else(|error| panic!("the policy {name} cannot be written: {error}"));
    }

    /// Where a policy of this name lies in the policy folder.
    pub fn policy_path(&self, name: &str) -> PathBuf {
        self.folder().join(format!("policies/{name}.wasm"))
    }

    /// The clocks under it, of [`Setup::with_clocks_to_move`].
    ///
    /// # Panics
    /// When it was set up without.
    #[track_caller]
    pub fn clocks(&mut self) -> &mut Clocks {
        self.setup.clocks.as_mut().unwrap_or_else(|| panic!("this Spillway has the clocks of its machine"))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.child.0.id()
    }

    /// Asks it to end: SIGTERM; under Wine SIGINT, which that makes Ctrl+C of, while it lets a SIGTERM kill.
    pub fn terminate(&self) {
        self.signal(if std::env::var_os("SPILLWAY_UNDER_WINE").is_some() { Signal::INT } else { Signal::TERM });
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.process.child.0.id()).ok().and_then(Pid::from_raw) {
            // This fails only for a process that has ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it has ended by itself, and starts it again in the same folder and on the same ports.
    ///
    /// # Panics
    /// When it goes on running, or does not become ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.wait_for_exit();
        self.restart();
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it goes on running.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let ended = within(DEADLINE, || self.process.child.0.try_wait().ok().flatten());
        ended.unwrap_or_else(|| panic!("Spillway does not end. Its log:\n{}", self.process.log.text()))
    }

    /// Kills it with SIGKILL, as a power failure would.
    pub fn kill(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.process.child.0.kill();
        let _ = self.process.child.0.wait();
    }

    /// Kills it and starts it again in the same folder and on the same ports.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let process = Process::start(&self.setup, self.process.listen, self.process.admin);
        self.process = process.unwrap_or_else(|error| panic!("Spillway does not start again: {error}"));
    }

    /// Writes the configuration anew while Spillway runs, with more lines in a table of it.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn reconfigure(&mut self, section: &str, lines: &str) {
        self.setup.add(section, lines);
        let written = self.setup.write(self.process.listen, self.process.admin);
        written.unwrap_or_else(|error| panic!("the configuration cannot be written: {error}"));
    }

    /// As [`Spillway::restart`], with more lines in a table of the configuration.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn restart_with(&mut self, section: &str, lines: &str) {
        self.setup.add(section, lines);
        self.restart();
    }

    /// Stops one of its threads, and no other, until the returned value is dropped. Only on Linux.
    ///
    /// # Panics
    /// When there is no thread of this name, or the system does not let it be stopped.
    #[track_caller]
    pub fn stop_thread(&self, name: &str) -> Stopped {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.child.0.id()));
        let threads = threads.unwrap_or_else(|error| panic!("its threads cannot be seen: {error}"));
        let named = threads
            .flatten()
            .find(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
        let id = named.and_then(|thread| thread.file_name().to_str()?.parse().ok());
        let thread = nix::unistd::Pid::from_raw(id.unwrap_or_else(|| panic!("it has no thread {name}")));
        let stopped = ptrace::attach(thread).and_then(|()| waitpid(thread, Some(WaitPidFlag::__WALL)));
        stopped.unwrap_or_else(|error| panic!("its thread cannot be stopped: {error}"));
        Stopped(thread)
    }

    /// Asks for a job until it has ended, and returns the last answer.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn wait_for_job(&self, location: &str) -> Value {
        eventually(&format!("the job {location} has ended"), || {
            let job = self.send(&get(location)).json();
            let ended = matches!(job["status"].as_str(), Some("done" | "dead" | "cancelled" | "expired"));
            ended.then_some(job)
        })
    }
}

/// A thread that is stopped, by whoever has stopped it.
#[derive(Debug)]
pub struct Stopped(nix::unistd::Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        // Fails only for a thread that has ended.
        let _ = ptrace::detach(self.0, None);
    }
}

/// The sum of all series of a name that have these labels, whatever others they have.
fn sum_of(exposition: &str, series: &str) -> f64 {
    let parts = |series: &str| {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split("\",").map(|label| label.trim_end_matches('"').to_owned());
        (name.to_owned(), labels.filter(|label| !label.is_empty()).collect::<Vec<_>>())
    };
    let (name, labels) = parts(series);
    let values = exposition.lines().filter(|line| line.starts_with(&name)).filter_map(|line| {
        let (told, value) = line.rsplit_once(' ')?;
        let (told_name, told_labels) = parts(told);
        let is_meant = told_name == name && labels.iter().all(|label| told_labels.contains(label));
        is_meant.then(|| value.parse::<f64>().ok())?
    });
    values.fold(0.0, |sum, value| sum + value)
}

fn named(list: &Value, name: &str) -> Value {
    let found = list.as_array().into_iter().flatten().find(|entry| entry["name"] == name);
    found.cloned().unwrap_or_default()
}
