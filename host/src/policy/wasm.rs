//! The Wasm engine: compiling policies and calling them within limits. The only module that names wasmtime.

mod cache;
mod facts;
mod meter;
mod ticker;

use super::artifact::{ArtifactError, Sha256Sum, componentize};
use super::limits::Limits;
use crate::runtime::sync::lock;
use crate::runtime::thread_time::thread_cpu_time;
use cache::Cache;
use spillway_sdk::{AttemptFacts, Fault, Hooks, RetryDecision, TripDecision, Verdict, WindowFacts};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wasmtime::component::{Component, HasSelf, Linker, Resource};
use wasmtime::{Config, Engine, Store, StoreLimitsBuilder, Trap, UpdateDeadline};

/// What wasmtime makes of the contract.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod contract {
    wasmtime::component::bindgen!({
        world: "policy",
        path: "../sdk/wit/v0.1",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
        with: {
            "spillway:policy/host.attempt": super::AttemptHandle,
            "spillway:policy/host.window": super::WindowHandle,
        },
    });
}

use contract::exports::spillway::policy::{retrying, tripping};
use facts::{verdict_from, verdict_into};
use meter::Meter;
use ticker::{TICK_MS, Ticker};

/// Ticks before a call's time is looked at at all. One tick alone can pass within a microsecond.
const FREE_TICKS: u64 = 2;
/// Processor time a call may use from then on. A healthy call takes a microsecond.
const CPU_BUDGET: Duration = Duration::from_millis(5);
/// Wall-clock time a call may use from then on, should the processor be busy elsewhere.
const WALL_BUDGET: Duration = Duration::from_millis(50);
/// Memories of one instance: [`Limits::memory_bytes`] holds for each, so more than one would multiply it. The encoder
/// makes one, whatever the language.
const MEMORIES_MAX: usize = 1;
/// Growth of an instance's memory after which a new one takes its place. One that loses a little at each call would
/// else come to its bound, and fail then: what componentize-js makes of JavaScript loses a kilobyte. Making a new one
/// takes half a millisecond, which is less than an interpreter takes to tidy up that much.
const GROWTH_BYTES_MAX: usize = 8 << 20;
/// Stack of one call, on the worker's own stack.
const STACK_BYTES_MAX: usize = 256 << 10;
/// Entries of one table. An interpreter has some thousands.
const TABLE_ELEMENTS_MAX: usize = 10_000;
/// Tables of one instance. With the bound above, 5 MiB of them.
const TABLES_MAX: usize = 32;
/// Bytes that a policy may hand over at once: a whole answer, or the argument of one call of the host. A longer one is
/// not copied at all and ends the call as a fault; what is shorter is clipped to the bounds below.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Longest text taken from a policy: a verdict's reason, a summary.
const TEXT_BYTES_MAX: usize = 200;
/// Longest line a policy may log.
const LOG_BYTES_MAX: usize = 1_024;
/// Lines that a policy may log in a second, over all its instances; the rest is dropped. An instance that traps gets no
/// new allowance with its successor.
const LOG_LINES_PER_SECOND: u32 = 10;

/// Why a call of a policy gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It ran for too long.
    #[error("took longer than {} ms", CPU_BUDGET.as_millis())]
    Deadline,
    /// It panicked, ran out of memory or stack, or did something else that ends an instance.
    #[error("{0}")]
    Trap(String),
}

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is no policy.
    #[error("{0}")]
    Artifact(ArtifactError),
    /// It is too large for an ordinary policy, and was not said to be another.
    #[error(
        "{error}; if it carries an interpreter, as what is made of JavaScript or Python does, it gets more room with [policies] interpreted = [\"{policy}\"] in the configuration"
    )]
    Outsized {
        /// What it exceeds.
        error: ArtifactError,
        /// Its name.
        policy: String,
    },
    /// The engine refuses it.
    #[error("it does not compile: {0}")]
    Compile(String),
    /// It has the right names and something else behind them, or does what it may not as soon as it is started.
    #[error("it cannot be started: {0}")]
    Start(CallError),
    /// It refuses its settings.
    #[error("it refuses its settings: {0}")]
    Settings(String),
    /// It fails when it is tried out.
    #[error("it failed its self-test: {hook} {error}")]
    SelfTest {
        /// Which call.
        hook: &'static str,
        /// How.
        error: CallError,
    },
}

impl LoadError {
    /// Why the file of the policy of this name is none within these limits.
    pub(crate) fn of_artifact(error: ArtifactError, policy: &str, limits: Limits) -> Self {
        match limits == Limits::STANDARD && error.is_about_size() {
            true => LoadError::Outsized { error, policy: policy.to_owned() },
            false => LoadError::Artifact(error),
        }
    }

    /// The file of the policy of this name has so many bytes, which is more than these limits allow.
    pub(crate) fn too_large(bytes: u64, policy: &str, limits: Limits) -> Self {
        Self::of_artifact(ArtifactError::TooLarge { bytes, bytes_max: limits.file_bytes }, policy, limits)
    }
}

/// The engine, and the thread that counts its time.
pub struct Runtime {
    engine: Engine,
    ticker: Arc<Ticker>,
    linker: Linker<Context>,
    cache: Option<Cache>,
}

impl Runtime {
    /// Starts an engine that keeps what it compiles in `cache_dir`, if there is one and it is private.
    ///
    /// # Errors
    /// When this machine cannot run one.
    pub fn start(cache_dir: Option<&Path>) -> Result<Self, wasmtime::Error> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        config.concurrency_support(false);
        config.max_wasm_stack(STACK_BYTES_MAX);
        // What a policy has no use for is not offered to it.
        config.wasm_relaxed_simd(false).wasm_multi_memory(false).wasm_memory64(false).wasm_tail_call(false);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        contract::Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |context: &mut Context| context)?;

        let ticking = engine.clone();
        let ticker = Ticker::start(move || ticking.increment_epoch())?;
        let cache = cache_dir.and_then(|dir| match Cache::open(dir, &engine) {
            Ok(cache) => Some(cache),
            Err(error) => {
                let dir = dir.display();
                tracing::warn!(%dir, %error, "compiled policies are not kept; each start compiles them again");
                None
            }
        });
        Ok(Runtime { engine, ticker, linker, cache })
    }

    /// Makes a policy of a file: checks and compiles it, unless it was compiled before, configures it and tries it
    /// out. Slow: never on a worker.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(
        &self,
        file: &[u8],
        sha256: Sha256Sum,
        name: &str,
        settings: &str,
        limits: Limits,
    ) -> Result<Module, LoadError> {
        let kept = self.load_kept(sha256, name, settings, limits);
        kept.unwrap_or_else(|| self.load_new(file, sha256, name, settings, limits))
    }

    /// As [`Runtime::load`], without compiling: `None` when it would have to be.
    pub(crate) fn load_kept(
        &self,
        sha256: Sha256Sum,
        name: &str,
        settings: &str,
        limits: Limits,
    ) -> Option<Result<Module, LoadError>> {
        let component = self.cache.as_ref()?.get(&self.engine, sha256, limits)?;
        Some(self.try_out(&component, name, settings, limits))
    }

    /// As [`Runtime::load`], of a file that is not kept compiled.
    pub(crate) fn load_new(
        &self,
        file: &[u8],
        sha256: Sha256Sum,
        name: &str,
        settings: &str,
        limits: Limits,
    ) -> Result<Module, LoadError> {
        let component = self.compile(file, name, limits)?;
        if let Some(cache) = &self.cache {
            cache.put(sha256, limits, &component);
        }
        self.try_out(&component, name, settings, limits)
    }

    fn try_out(&self, component: &Component, name: &str, settings: &str, limits: Limits) -> Result<Module, LoadError> {
        let compile = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
        let instance = self.linker.instantiate_pre(component).map_err(compile)?;
        let mut module = Module {
            pre: contract::PolicyPre::new(instance).map_err(compile)?,
            name: name.into(),
            settings: settings.into(),
            limits,
            about: About { version: String::new(), summary: String::new(), hooks: Hooks::ALL },
            log: Arc::default(),
            ticker: Arc::clone(&self.ticker),
        };
        let mut instance = module.instantiate()?;
        module.about = instance.describe().map_err(|error| LoadError::SelfTest { hook: "describe", error })?;
        self_test(&mut instance, module.about.hooks)?;
        Ok(module)
    }

    /// Checks and compiles a file. It may be anybody's, so a defect of checker or compiler that it brings to light must
    /// not end the thread that loads all the others.
    fn compile(&self, file: &[u8], name: &str, limits: Limits) -> Result<Component, LoadError> {
        let compiled = catch_unwind(AssertUnwindSafe(|| {
            let component = componentize(file, limits).map_err(|error| LoadError::of_artifact(error, name, limits))?;
            Component::new(&self.engine, component).map_err(|error| LoadError::Compile(format!("{error:#}")))
        }));
        compiled.unwrap_or_else(|_| Err(LoadError::Compile("the compiler gave up on it".to_owned())))
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// Asks every hook once, as an ordinary success, an ordinary failure and an empty window would.
fn self_test(instance: &mut Instance, hooks: Hooks) -> Result<(), LoadError> {
    use spillway_sdk::testing::{exchange, window};
    for facts in [exchange().status(200), exchange().status(500), exchange().fault(Fault::ConnectRefused)] {
        let facts: Rc<dyn AttemptFacts> = Rc::new(facts);
        let failed = |hook| move |error| LoadError::SelfTest { hook, error };
        if hooks.classify {
            instance.classify(Rc::clone(&facts)).map_err(failed("classify"))?;
        }
        if hooks.backoff {
            instance.backoff(facts, &Verdict::failure("self-test")).map_err(failed("backoff"))?;
        }
        if hooks.trip {
            instance.trip(Rc::new(window())).map_err(failed("trip"))?;
        }
    }
    Ok(())
}

/// What a policy says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Of its crate.
    pub version: String,
    /// One line.
    pub summary: String,
    /// What it wants to be asked.
    pub hooks: Hooks,
}

/// A compiled policy, ready to be instantiated by every worker.
pub struct Module {
    pre: contract::PolicyPre<Context>,
    name: Arc<str>,
    settings: String,
    limits: Limits,
    about: About,
    log: Arc<LogBudget>,
    ticker: Arc<Ticker>,
}

impl Module {
    /// What it says of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The settings it was loaded with.
    pub fn settings(&self) -> &str {
        &self.settings
    }

    /// The limits it was loaded within, and its instances are made within.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// A configured instance, for one thread.
    ///
    /// # Errors
    /// When it cannot be instantiated within the limits, or refuses its settings.
    pub fn instantiate(&self) -> Result<Instance, LoadError> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.limits.memory_bytes)
            .table_elements(TABLE_ELEMENTS_MAX)
            .instances(self.limits.core_instances)
            .memories(MEMORIES_MAX)
            .tables(TABLES_MAX)
            .trap_on_grow_failure(true)
            .build();
        let context = Context {
            meter: Meter::new(limits),
            policy: Arc::clone(&self.name),
            attempt: None,
            window: None,
            watch: None,
            log: Arc::clone(&self.log),
            ticker: Arc::clone(&self.ticker),
        };
        context.ticker.keep_ticking();
        let mut store = Store::new(self.pre.engine(), context);
        store.limiter(|context| &mut context.meter);
        store.set_hostcall_fuel(OUTPUT_BYTES_MAX);
        store.epoch_deadline_callback(|mut context| Ok(context.data_mut().on_tick()));
        store.set_epoch_deadline(FREE_TICKS);
        let bindings = self.pre.instantiate(&mut store).map_err(|error| LoadError::Start(call_error(error)))?;
        let mut instance = Instance { store, bindings, worn_from_bytes: 0 };
        match instance.configure(&self.settings) {
            Ok(Ok(())) => {
                let made_with_bytes = instance.store.data().meter.memory_bytes();
                let left_bytes = self.limits.memory_bytes.saturating_sub(made_with_bytes);
                instance.worn_from_bytes = made_with_bytes.saturating_add(GROWTH_BYTES_MAX.min(left_bytes / 2));
                Ok(instance)
            }
            Ok(Err(message)) => Err(LoadError::Settings(clipped(message, TEXT_BYTES_MAX))),
            Err(error) => Err(LoadError::SelfTest { hook: "configure", error }),
        }
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("name", &self.name).field("about", &self.about).finish_non_exhaustive()
    }
}

/// A policy at work on one thread. After an error it must be dropped: a trap leaves it in no known state.
pub struct Instance {
    store: Store<Context>,
    bindings: contract::Policy,
    /// With more memory than this it is worn.
    worn_from_bytes: usize,
}

impl Instance {
    /// How long a call may run before its time is looked at: two ticks of the engine's clock.
    pub const FREE_TIME: Duration = Duration::from_millis(FREE_TICKS * TICK_MS);
    /// Processor time that a call may hold its worker for after that, and with it every request of that worker. A call
    /// that takes longer is ended, and the built-in policy answers. Configuring a new instance counts as a call, and so
    /// does making it.
    pub const CPU_BUDGET: Duration = CPU_BUDGET;
    /// The same in wall-clock time, for a worker that does not get the processor.
    pub const WALL_BUDGET: Duration = WALL_BUDGET;
    /// Bytes of a verdict's reason that are kept; it is cut at a character's end, and control characters become spaces.
    pub const REASON_BYTES_MAX: usize = TEXT_BYTES_MAX;
    /// Bytes that an answer may have in all. A longer one is a fault.
    pub const OUTPUT_BYTES_MAX: usize = OUTPUT_BYTES_MAX;

    /// Whether it should be replaced by a new one before it is asked again, because it has grown by
    /// [`GROWTH_BYTES_MAX`], or by half of what it had left where that is less. Wasm memory never shrinks.
    pub fn is_worn(&self) -> bool {
        self.store.data().meter.memory_bytes() > self.worn_from_bytes
    }

    fn begin(&mut self) {
        let context = self.store.data_mut();
        context.watch = None;
        context.ticker.keep_ticking();
        self.store.set_epoch_deadline(FREE_TICKS);
    }

    fn describe(&mut self) -> Result<About, CallError> {
        self.begin();
        let description =
            self.bindings.spillway_policy_description().call_describe(&mut self.store).map_err(call_error)?;
        use contract::exports::spillway::policy::description::Hooks as Flags;
        Ok(About {
            version: clipped(description.version, TEXT_BYTES_MAX),
            summary: clipped(description.summary, TEXT_BYTES_MAX),
            hooks: Hooks {
                classify: description.hooks.contains(Flags::CLASSIFY),
                backoff: description.hooks.contains(Flags::BACKOFF),
                trip: description.hooks.contains(Flags::TRIP),
            },
        })
    }

    fn configure(&mut self, settings: &str) -> Result<Result<(), String>, CallError> {
        self.begin();
        self.bindings.spillway_policy_description().call_configure(&mut self.store, settings).map_err(call_error)
    }

    /// Asks what an attempt's end means.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn classify(&mut self, attempt: Rc<dyn AttemptFacts>) -> Result<Option<Verdict>, CallError> {
        self.begin();
        self.store.data_mut().attempt = Some(attempt);
        let answer =
            self.bindings.spillway_policy_classifier().call_classify(&mut self.store, Resource::new_borrow(THE_ONE));
        self.store.data_mut().attempt = None;
        Ok(answer.map_err(call_error)?.map(verdict_from))
    }

    /// Asks what to do after an attempt that is to be tried again.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn backoff(
        &mut self,
        attempt: Rc<dyn AttemptFacts>,
        verdict: &Verdict,
    ) -> Result<Option<RetryDecision>, CallError> {
        self.begin();
        self.store.data_mut().attempt = Some(attempt);
        let answer = self.bindings.spillway_policy_retrying().call_backoff(
            &mut self.store,
            Resource::new_borrow(THE_ONE),
            verdict_into(verdict),
        );
        self.store.data_mut().attempt = None;
        Ok(answer.map_err(call_error)?.map(|decision| match decision {
            retrying::Decision::RetryAfter(ms) => RetryDecision::After(Duration::from_millis(ms)),
            retrying::Decision::NextUpstream => RetryDecision::NextUpstream,
            retrying::Decision::GiveUp => RetryDecision::GiveUp,
            retrying::Decision::SpoolFor(ms) => RetryDecision::SpoolFor(Duration::from_millis(ms)),
        }))
    }

    /// Asks whether a circuit opens.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn trip(&mut self, window: Rc<dyn WindowFacts>) -> Result<Option<TripDecision>, CallError> {
        self.begin();
        self.store.data_mut().window = Some(window);
        let answer = self.bindings.spillway_policy_tripping().call_trip(&mut self.store, Resource::new_borrow(THE_ONE));
        self.store.data_mut().window = None;
        Ok(answer.map_err(call_error)?.map(|decision| match decision {
            tripping::Decision::Stay => TripDecision::Stay,
            tripping::Decision::Open => TripDecision::Open,
            tripping::Decision::OpenFor(ms) => TripDecision::OpenFor(Duration::from_millis(ms)),
        }))
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("policy", &self.store.data().policy).finish_non_exhaustive()
    }
}

fn call_error(error: wasmtime::Error) -> CallError {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => CallError::Deadline,
        Some(trap) => CallError::Trap(format!("trapped: {trap}")),
        None => CallError::Trap(clipped(error.root_cause().to_string(), TEXT_BYTES_MAX)),
    }
}

/// What is kept of a policy's text: its beginning, on one line. A line break would let it forge lines of the log.
fn clipped(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

/// The only handle there is: during a call, the host lends one attempt or one window, which [`Context`] holds.
const THE_ONE: u32 = 0;

/// Stands for the attempt that is lent.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated code exports it again")]
pub enum AttemptHandle {}
/// Stands for the window that is lent.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated code exports it again")]
pub enum WindowHandle {}

/// What an instance can reach: the facts lent to the call under way, and the log.
struct Context {
    meter: Meter,
    policy: Arc<str>,
    attempt: Option<Rc<dyn AttemptFacts>>,
    window: Option<Rc<dyn WindowFacts>>,
    /// Set once a call has outlived its free ticks: processor and wall-clock time at that moment.
    watch: Option<(Duration, Instant)>,
    log: Arc<LogBudget>,
    ticker: Arc<Ticker>,
}

impl Context {
    /// Decides whether a call that still runs at a tick may go on.
    ///
    /// Processor time, not wall-clock time, tells a slow policy from a busy machine: under load a healthy call can
    /// be off the processor for longer than any sensible deadline.
    fn on_tick(&mut self) -> UpdateDeadline {
        let now = (thread_cpu_time(), Instant::now());
        let (cpu, wall) = *self.watch.get_or_insert(now);
        if now.0.saturating_sub(cpu) > CPU_BUDGET || now.1.duration_since(wall) > WALL_BUDGET {
            UpdateDeadline::Interrupt
        } else {
            self.ticker.keep_ticking();
            UpdateDeadline::Continue(1)
        }
    }

    fn attempt(&self) -> Result<&Rc<dyn AttemptFacts>, wasmtime::Error> {
        self.attempt.as_ref().ok_or_else(|| wasmtime::Error::msg("the attempt was used after the call it was lent for"))
    }

    fn window(&self) -> Result<&Rc<dyn WindowFacts>, wasmtime::Error> {
        self.window.as_ref().ok_or_else(|| wasmtime::Error::msg("the window was used after the call it was lent for"))
    }
}

/// Keeps one policy from flooding the log.
#[derive(Default)]
struct LogBudget(Mutex<(Option<Instant>, u32)>);

impl LogBudget {
    fn allows(&self) -> bool {
        let mut budget = lock(&self.0);
        let (second, lines) = &mut *budget;
        if second.is_none_or(|second| second.elapsed() >= Duration::from_secs(1)) {
            (*second, *lines) = (Some(Instant::now()), 0);
        }
        *lines = lines.saturating_add(1);
        *lines <= LOG_LINES_PER_SECOND
    }
}
