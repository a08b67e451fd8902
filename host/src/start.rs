//! Starts everything, listens, and ends in order.

mod certificate;
pub(crate) mod command;
mod keys;
mod prices;
mod ready;
mod secrets;
pub(crate) mod shell;
mod upkeep;

use crate::admin;
use crate::config::{Config, LivePolicies, SpoolConfig};
use crate::downstream::accept::{Entrances, accept};
use crate::jobs::drain;
use crate::keys::file::KeyFileError;
use crate::ledger::{Ledger, LedgerError};
use crate::observe::log::Log;
use crate::observe::recording;
use crate::policy::{Bell, Registry, Role, Runtime, watch_folder};
use crate::prices::FollowedPrices;
use crate::proxy::app::{App, Means, Stores};
use crate::proxy::chain::Chains;
use crate::proxy::worker::Worker;
use crate::runtime::child::{CommandLine, Running};
use crate::runtime::clock::Clock;
use crate::runtime::heartbeat::{Places, Pulse};
use crate::runtime::owner::Owner;
use crate::runtime::signals::{Signals, Word};
use crate::runtime::sync::{Mutex, lock};
use crate::runtime::tls::served::ServedError;
use crate::runtime::{descriptors, port, unix_socket};
use crate::spool::{OpenError, Spool, SpoolSettings};
use crate::state::circuit_file::CircuitFile;
use crate::state::maker_file::MakerFile;
use crate::state::steady::SteadyTime;
use crate::upstream::client::{self, Way};
use ready::Ready;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;
/// Descriptors for everything but callers' connections and those of their calls: listeners, spool, policies, probes.
const DESCRIPTORS_OF_OURS: u64 = 96;

/// How long the last bytes of ended requests may take to leave before the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long writing down what must be remembered may take, on a disk that hangs.
const REMEMBER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long what is under way may take to end behind the command that was served. Who asked for it is gone.
const BEHIND_COMMAND: Duration = Duration::from_secs(1);

/// How long the start waits for the data folder to be opened. A large log takes a second or two to recover.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);

/// Why Spillway does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({setting}): {reason}")]
    Listen {
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        reason: String,
    },
    /// The Unix socket cannot be made.
    #[error("cannot listen on {path} (server.unix_socket): {reason}")]
    UnixSocket { path: PathBuf, reason: String },
    /// The certificate or its key cannot serve.
    #[error("server.tls: {0}")]
    Tls(#[from] ServedError),
    /// The system refuses what the spool needs.
    #[error("{0}")]
    Spool(#[from] OpenError),
    /// What is spent cannot be kept.
    #[error("what is spent cannot be kept, and limits hold only where it is: {0}")]
    Ledger(#[from] LedgerError),
    /// The file of virtual keys cannot be used.
    #[error("the file of virtual keys cannot be used: {0}")]
    Keys(#[from] KeyFileError),
    /// The command to be served does not start.
    #[error("cannot start {}: {source}", program.display())]
    Command { program: std::ffi::OsString, source: io::Error },
    /// The recorded requests cannot be written.
    #[error("cannot write to {path}, which [log] requests names: {source}")]
    Recording { path: PathBuf, source: io::Error },
    /// The Wasm engine does not work on this machine.
    #[error("the engine for policies (WebAssembly) does not start on this machine: {0}")]
    Engine(String),
    /// The system refuses a thread or a signal handler.
    #[error(
        "the system refuses a thread, a signal handler or a socket: {0}; are the limits on processes and open files \
         high enough (ulimit -u, ulimit -n)?"
    )]
    System(#[from] io::Error),
}

/// For how long Spillway runs.
pub(crate) enum Term {
    /// Until a signal ends it, or until its owner is gone.
    UntilTold(Owner),
    /// As long as this command, which it serves.
    With(CommandLine),
}

/// Runs so long, and tells of it in this log. Answers how the command has ended, if there was one.
///
/// # Errors
/// When something that is needed cannot be had. Nothing has been served then.
pub(crate) fn run(config: Config, log: &Log, term: Term) -> Result<Option<ExitStatus>, StartError> {
    let clock = Clock::start();
    let (mut owner, command) = match term {
        Term::UntilTold(owner) => (owner, None),
        Term::With(command) => (Owner::none(), Some(command)),
    };
    // A command inherits the limit, and some do not bear one that is raised.
    let descriptors = if command.is_some() { descriptors::allowed() } else { descriptors::raise() };
    let connections_max = connections_of(descriptors);
    // Ports first: two processes must not get as far as to share a spool.
    let listen = config.server.listen;
    let listeners = port::listen_for(config.server.workers, listen, BACKLOG);
    let listeners = listeners.map_err(|error| cannot_listen(listen, "server.listen", &error))?;
    // With port 0 the system has chosen.
    let listen = listeners.first().map_or(Ok(listen), std::net::TcpListener::local_addr)?;
    let unix_socket = config.server.unix_socket.as_deref().map(|path| {
        unix_socket::bind(path, BACKLOG).map_err(|reason| StartError::UnixSocket { path: path.to_owned(), reason })
    });
    let (unix_listener, socket_file) = unix_socket.transpose()?.unzip();
    let admin_listener = port::listen(config.admin.listen, BACKLOG);
    let admin_listener = admin_listener.map_err(|error| cannot_listen(config.admin.listen, "admin.listen", &error))?;
    let admin_address = admin_listener.local_addr()?;

    let (tls, followed) = certificate::serve(&config.server.tls)?.unzip();

    // The spool first: it makes the data folder private, or says why it cannot, before anything else lies in it. A
    // folder that cannot be opened keeps nobody from being served, and one that does not answer is not touched again.
    let folder = config.spool().map(|spool| &*spool.dir);
    let time = Arc::new(Mutex::new(SteadyTime::kept_in(folder)));
    let started = config.spool().map(|settings| start_spool(settings, clock, Arc::clone(&time))).transpose()?;
    let (spool, data_answers) = started.map_or((None, true), |(spool, answers)| (Some(spool), answers));
    let folder = folder.filter(|_| data_answers);
    if folder.is_some() {
        lock(&time).resume(&clock);
    }
    let need_makers = Chains::need_makers(&config);
    let mut maker_file = MakerFile::open(folder.filter(|_| need_makers));
    let mut circuit_file = CircuitFile::open(folder, maker_file.key());
    // What is kept has happened, so that it is not earlier: nobody waits for longer than he was told to.
    clock.not_before(circuit_file.saved_at_unix_ms());
    if folder.is_some() && !spool.as_ref().is_some_and(Spool::is_anothers) {
        // Before anything is promised by it.
        lock(&time).keep(&clock);
    }
    // What may be spent holds only where it is known what was: without it nobody is served.
    let keeps_ledger = config.keeps_ledger() || data_answers && config.key_file().exists();
    if keeps_ledger && !data_answers {
        return Err(LedgerError::Silent(config.spool.dir.clone()).into());
    }
    let opened = keeps_ledger.then(|| Ledger::open(&config, clock)).transpose()?;
    // A disk that does not answer is not waited for by whoever looks after the circuits.
    let time = if data_answers { time } else { Arc::new(Mutex::new(SteadyTime::kept_in(None))) };
    let registry = Arc::new(Registry::new(clock));
    let runtime = Runtime::start(config.policies.cache_dir.as_deref().filter(|_| data_answers));
    let runtime = Arc::new(runtime.map_err(|error| StartError::Engine(error.to_string()))?);
    let settings = Box::new(LivePolicies::new(&config));
    let (dir, trust) = (config.policies.dir.clone(), config.policies.trust());
    let bell = watch_folder(dir, settings, trust, Arc::clone(&registry), runtime)?;
    let recording = config
        .log
        .requests
        .as_ref()
        .map(|path| recording::start(path).map_err(|source| StartError::Recording { path: path.clone(), source }));
    // The writer goes last, with all that was recorded until then.
    let (recorder, _writer) = recording.transpose()?.unzip();
    let means = Means { log_lines_lost: log.lost(), connections_max, listen, tls: tls.clone() };
    let ledger = opened.as_ref().map(|opened| Arc::clone(&opened.ledger));
    let stores = Stores { ledger, spool: spool.clone(), recorder };
    let app = App::new(config, clock, registry, stores, circuit_file.key.clone(), means);
    let app = Arc::new(app);
    // Before what they have spent is known again.
    let followed_keys = keys::open(&app, data_answers)?;
    let keeper = opened.map(|opened| opened.keep(|priced| priced.cost(&app.prices.load()).unwrap_or(0))).transpose()?;
    app.chains.all_makers().restore(maker_file.take(&circuit_file.key));
    circuit_file.restore(&app.upstreams, clock);
    warn_of_missing_policies(&app);
    tell_of_the_network(&app);

    let mut places = Places::default();
    for (index, port) in listeners.into_iter().enumerate() {
        let unix_socket = unix_listener.as_ref().map(unix_socket::Listener::try_clone).transpose()?;
        let (name, task) = (format!("worker-{index}"), Task::Listens(Entrances { port, unix_socket }));
        let pulse = begin(&name, &task, &app)?;
        places.add(name, task, pulse);
    }
    #[cfg_attr(windows, expect(clippy::drop_non_drop, reason = "there are no such sockets on Windows"))]
    drop(unix_listener);
    if let Some(spool) = spool {
        let (name, task) = ("dispatcher".to_owned(), Task::Dispatches(spool));
        let pulse = begin(&name, &task, &app)?;
        places.add(name, task, pulse);
    }
    let mut remember = Vec::new();
    if need_makers {
        let (finish, end) = oneshot::channel();
        remember.push(finish);
        let (app, key) = (Arc::clone(&app), circuit_file.key.clone());
        thread("maker-file", move || upkeep::remember_makers(app, maker_file, key, end))?;
    }
    {
        let (finish, end) = oneshot::channel();
        remember.push(finish);
        let app = Arc::clone(&app);
        thread("circuit-file", move || upkeep::remember(app, circuit_file, time, end))?;
    }
    {
        let app = Arc::clone(&app);
        thread("upkeep", move || upkeep::look_after(app))?;
    }
    if let Some(followed) = FollowedPrices::of(&app.config.prices.files()) {
        let app = Arc::clone(&app);
        thread("prices", move || prices::follow(app, followed))?;
    }
    {
        let app = Arc::clone(&app);
        thread("keys", move || keys::follow(app, followed_keys))?;
    }
    let in_files = secrets::in_files(&app);
    if !in_files.is_empty() {
        let app = Arc::clone(&app);
        thread("secrets", move || secrets::follow(app, in_files))?;
    }

    if let Some((served, followed)) = tls.zip(followed) {
        thread("certificate", move || certificate::follow(served, followed))?;
    }

    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    control.block_on(async {
        for doubt in app.config.doubts() {
            tracing::warn!("is this meant? {doubt}");
        }
        let admin = tokio::spawn(admin::serve(Arc::clone(&app), TcpListener::from_std(admin_listener)?));
        // Those of a command are its own, and some may have been ignored for it.
        let mut signals = command.is_none().then(Signals::listen).transpose()?;
        Ready::of(&app, admin_address, descriptors).await.tell(log, &app.config);
        let started = |command: &CommandLine| {
            let started = command::start(command, &app.config, listen, admin_address);
            started.map_err(|source| StartError::Command { program: command.program.clone(), source })
        };
        let mut served = command.as_ref().map(started).transpose()?;
        // A listener is closed when nobody holds it, so nobody looks after workers once they have been told to end.
        let status = tokio::select! {
            status = over(served.as_mut(), &mut signals, &mut owner, &bell) => status?,
            () = places.look_after(|name, task| begin(name, task, &app)) => None,
        };
        let drain_timeout = if served.is_some() { BEHIND_COMMAND } else { app.config.server.drain_timeout };
        tracing::info!(drain_timeout_s = drain_timeout.as_secs(), "draining; a second signal ends at once");
        app.begin_drain();
        // Whoever comes from here on finds nobody, or the one that takes our place.
        #[cfg_attr(windows, expect(clippy::drop_non_drop, reason = "there are no such sockets on Windows"))]
        drop(socket_file);
        let ended = tokio::select! {
            () = app.idle() => "all requests have ended",
            () = tokio::time::sleep(drain_timeout) => "the drain timeout has passed",
            () = told_to_end(&mut signals, &mut owner, &bell) => "a second signal came",
        };
        app.end_sockets();
        // A request has ended when its last bytes are handed to its connection; they still have to leave. A caller
        // that has connected and said nothing is not waited for any longer.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, app.disconnected()).await;
        // What is still being served of the spool is given back; how the circuits stand is remembered, and who has made
        // what.
        let _ = tokio::time::timeout(REMEMBER_TIMEOUT, app.end_leases()).await;
        let finish = |finish: oneshot::Sender<_>| {
            let (remembered, told) = oneshot::channel();
            finish.send(remembered).ok().map(|()| told)
        };
        // Each is told before one is waited for.
        let told: Vec<_> = remember.into_iter().filter_map(finish).collect();
        let _ = tokio::time::timeout(REMEMBER_TIMEOUT, futures_util::future::join_all(told)).await;
        if let Some(keeper) = keeper {
            let _ = tokio::time::timeout(REMEMBER_TIMEOUT, keeper.end()).await;
        }
        tracing::info!(why = ended, "Spillway ends");
        admin.abort();
        // Workers end with the process: whatever they still hold has had its time. Jobs under way are on disk. So does
        // the thread that loads policies, which may be compiling one.
        Ok(status)
    })
}

/// How many callers can be connected at once with so many descriptors: each has one, and its call another. There is
/// always room for one, as far as is planned; whether the system has it is another thing.
pub(crate) fn connections_of(descriptors: u64) -> u64 {
    (descriptors.saturating_sub(DESCRIPTORS_OF_OURS) / 2).max(1)
}

/// Waits until there is nothing more to do: for the end of the command that is served, which gets the signals, or for
/// the word to end.
async fn over(
    served: Option<&mut Running>,
    signals: &mut Option<Signals>,
    owner: &mut Owner,
    bell: &Bell,
) -> io::Result<Option<ExitStatus>> {
    match served {
        Some(served) => served.ended().await.map(Some),
        None => {
            told_to_end(signals, owner, bell).await;
            Ok(None)
        }
    }
}

/// Waits for the word to end. Until then, whoever says so has what can be changed while serving looked at: the policies,
/// and their settings.
async fn told_to_end(signals: &mut Option<Signals>, owner: &mut Owner, bell: &Bell) {
    loop {
        let word = tokio::select! {
            word = async {
                match signals {
                    Some(signals) => signals.next().await,
                    None => pending().await,
                }
            } => word,
            () = owner.is_gone() => Word::End,
        };
        if word == Word::End {
            return;
        }
        tracing::info!("policies and their settings are looked at; other settings need a restart");
        bell.ring();
    }
}

/// Starts the spool, and tells whether its disk has answered, with whatever. Time is taken up where it was left as soon
/// as the folder is open, on the spool's own thread, and is not before what lies in it.
fn start_spool(config: &SpoolConfig, clock: Clock, time: Arc<Mutex<SteadyTime>>) -> Result<(Spool, bool), OpenError> {
    let settings = SpoolSettings {
        max_jobs: config.max_jobs,
        max_size: config.max_size,
        retention: config.retention,
        dir: config.dir.clone(),
        sealer: None,
    };
    let (spool, first) = Spool::start(settings, move |latest_ms| {
        lock(&time).resume(&clock);
        clock.not_before(latest_ms);
        clock.unix_ms()
    })?;
    let answers = first.wait(OPEN_PATIENCE).is_some();
    if !answers {
        let dir = config.dir.display();
        tracing::error!(
            %dir,
            "the data folder's disk does not answer: live traffic is served, nothing is promised until it does, and \
             neither circuits nor compiled policies nor who has made what are remembered until a restart"
        );
    }
    Ok((spool, answers))
}

fn warn_of_missing_policies(app: &App) {
    for upstream in app.upstreams.values() {
        let policy = upstream.policy.name();
        let dir = &app.config.policies.dir;
        // Of a file that is there, the log says why it does not serve.
        let missing = app.policies.hash(policy, Role::Active).is_none() && !dir.join(format!("{policy}.wasm")).exists();
        if missing && policy != crate::config::DEFAULT_POLICY {
            let dir = dir.display();
            tracing::warn!(upstream = &*upstream.name, policy, %dir, "no such policy file; the built-in policy judges until it appears");
        }
    }
}

/// Says which way calls go out, and what of the environment is not understood.
fn tell_of_the_network(app: &App) {
    for variable in client::mistakes_of_environment() {
        tracing::warn!(variable, "it should name a proxy, as http://, https://, socks5:// or socks5h://, and does not");
    }
    for mistake in client::mistakes_of_system() {
        tracing::warn!(
            mistake,
            "not all certificates of authorities can be read; calls to providers that need those fail (SSL_CERT_FILE, \
             SSL_CERT_DIR)"
        );
    }
    for upstream in app.upstreams.values() {
        if let Way::Through(proxy) = upstream.way() {
            tracing::info!(upstream = &*upstream.name, %proxy, "calls go through a proxy");
        }
    }
}

/// What a worker does.
#[derive(Debug)]
enum Task {
    /// Serves who connects here.
    Listens(Entrances),
    /// Serves jobs.
    Dispatches(Spool),
}

/// Begins a worker, and answers what can be seen of it from outside.
fn begin(name: &str, task: &Task, app: &Arc<App>) -> io::Result<Arc<Pulse>> {
    let (pulse, app) = (Arc::<Pulse>::default(), Arc::clone(app));
    let of_worker = Arc::clone(&pulse);
    match task {
        Task::Listens(entrances) => {
            let entrances = entrances.try_clone()?;
            thread(name, move || async move {
                tokio::task::spawn_local(Arc::clone(&of_worker).beat());
                accept(Worker::new(app, of_worker), entrances).await;
            })?;
        }
        Task::Dispatches(spool) => {
            let spool = spool.clone();
            thread(name, move || async move {
                tokio::task::spawn_local(Arc::clone(&of_worker).beat());
                drain::run(Worker::new(app, of_worker), spool).await;
            })?;
        }
    }
    Ok(pulse)
}

/// Starts a thread with a runtime of its own, on which nothing needs to be sent to other threads.
fn thread<F, T>(name: &str, main: F) -> io::Result<std::thread::JoinHandle<()>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, async move { main().await });
    })
}

fn cannot_listen(address: SocketAddr, setting: &'static str, error: &io::Error) -> StartError {
    StartError::Listen {
        address,
        setting,
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => {
                "the port is in use; is another Spillway running? Stop it, or choose another port".into()
            }
            io::ErrorKind::PermissionDenied => format!("not permitted; {}", port::WHY_NOT_PERMITTED),
            io::ErrorKind::AddrNotAvailable => "this machine has no such address; choose one that it has".into(),
            _ => error.to_string(),
        },
    }
}
