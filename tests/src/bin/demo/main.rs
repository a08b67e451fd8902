//! The main job on the terminal, with real figures: a mock provider in this process, the real Spillway in another,
//! clients that send all the while, and a step only where what it tells has been observed.

mod narrator;
mod traffic;

use narrator::{Narrator, quantiles, readable};
use spillway_tests::http::{Connection, get};
use spillway_tests::provider::{Failure, Provider, Reply, error_in_200, fail, healthy};
use spillway_tests::spillway::{Setup, Spillway, policy_file};
use spillway_tests::wait::within;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use traffic::{Fate, GATEWAY_PATH, Sample, Totals, Traffic};

/// How long any one step may take. Healthy ones take a few seconds.
const STEP_DEADLINE: Duration = Duration::from_secs(30);

/// How long the mock provider thinks, so that an answer without it stands out.
const THINKING: Duration = Duration::from_millis(20);

/// What the mock provider says, and so what every finished job must hold.
const ANSWER: &str = "Water flows downhill, requests flow upstream.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let stay = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--stay"] => true,
        _ => {
            eprintln!("usage: demo [--stay]");
            return ExitCode::from(2);
        }
    };
    let mut narrator = Narrator::new();
    match demo(&mut narrator, stay) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            narrator.failure(&format!("The demo failed: {what}"));
            ExitCode::FAILURE
        }
    }
}

fn thinking() -> Reply {
    healthy().saying(ANSWER).delay(THINKING)
}

fn demo(narrator: &mut Narrator, stay: bool) -> Result<(), String> {
    let began = Instant::now();
    let (provider, gateway) = (Provider::start(), Provider::start());
    provider.always(thinking());
    gateway.always(thinking());
    let breaker = "consecutive_failures = 5\ncooldown = \"500ms\"\ncooldown_max = \"1s\"";
    let setup = Setup::with(&provider)
        .set("upstreams.gateway", &format!("url = \"{}\"\npolicy = \"error-in-success\"", gateway.url()))
        .set("upstreams.openai.breaker", breaker)
        .set("upstreams.gateway.breaker", breaker)
        // Without retries every failure reaches its caller, and so can be counted here.
        .set("upstreams.gateway.retry", "max_attempts = 1");
    fs::create_dir_all(setup.folder().join("policies")).map_err(|error| format!("no policy folder: {error}"))?;
    let spillway = setup.try_start().map_err(|error| format!("Spillway does not start: {error}"))?;
    println!("Spillway  http://{}  (admin http://{})", spillway.address(), spillway.admin_address());
    println!("provider  {}  a mock that thinks for {} before it answers", provider.url(), readable(THINKING));
    println!("gateway   {}  a second one, with error habits of its own", gateway.url());
    println!("folder    {}  with an empty policies/", spillway.folder().display());

    let traffic = Traffic::start(spillway.address()).map_err(|error| format!("no clients: {error}"))?;
    let mut stage = Stage { narrator, provider, gateway, spillway, traffic };
    stage.healthy_traffic()?;
    stage.the_provider_fails()?;
    stage.refused_at_once()?;
    stage.kept_for_later()?;
    stage.another_policy()?;
    stage.the_provider_is_back()?;
    stage.every_job_is_finished()?;
    let Stage { narrator, provider, gateway, spillway, traffic } = stage;
    let totals = traffic.stop();
    // Jobs may have been added since the step that looked at them.
    let unfinished = unfinished_jobs(&spillway, &totals)?;
    account(narrator, &totals, unfinished, began.elapsed())?;
    if stay {
        // Ctrl-C ends Spillway as well, and what its callers then see is not part of the account.
        let _traffic = Traffic::start(spillway.address()).map_err(|error| format!("no clients: {error}"))?;
        invite(&spillway)?;
    }
    drop((provider, gateway));
    Ok(())
}

/// Everything that plays a part.
struct Stage<'a> {
    narrator: &'a mut Narrator,
    provider: Provider,
    gateway: Provider,
    spillway: Spillway,
    traffic: Traffic,
}

impl Stage<'_> {
    fn healthy_traffic(&mut self) -> Result<(), String> {
        self.narrator.step("Healthy traffic");
        let answered = |sample: &Sample| sample.fate == Fate::Answered;
        self.until("400 requests are answered", |stage| stage.traffic.count(answered) >= 400)?;
        let samples = self.traffic.samples(answered);
        self.narrator.fact(&format!("{} requests answered, streams among them", samples.len()));
        self.tell_latencies(&samples);
        Ok(())
    }

    fn the_provider_fails(&mut self) -> Result<(), String> {
        self.narrator.step("The provider fails: 503 to everything");
        self.traffic.begin_step();
        let (failing_since, calls_before) = (Instant::now(), self.provider.stats().started);
        self.provider.always(fail(Failure::ServerError).status(503));
        self.until("the circuit opens", |stage| stage.spillway.circuit("openai") == "open")?;
        let calls = self.provider.stats().started - calls_before;
        let cause = self.spillway.upstream("openai")["breakers"][0]["cause"].as_str().unwrap_or("open").to_owned();
        let after = readable(failing_since.elapsed());
        self.narrator.fact(&format!("after {after} and {calls} calls the breaker trips: {cause}"));
        Ok(())
    }

    fn refused_at_once(&mut self) -> Result<(), String> {
        self.narrator.step("Requests are answered without an upstream call");
        self.traffic.begin_step();
        let calls_before = self.provider.stats().started;
        let refused = |sample: &Sample| sample.fate == Fate::Refused;
        self.until("400 requests are refused", |stage| stage.traffic.count(refused) >= 400)?;
        let (samples, calls) = (self.traffic.samples(refused), self.provider.stats().started - calls_before);
        self.narrator.fact(&format!("{} requests refused in the caller's dialect, with Retry-After", samples.len()));
        self.tell_latencies(&samples);
        self.narrator.fact(&format!("meanwhile the provider received {calls} calls, to probe whether it is back"));
        // One call at a time probes, once in a cooldown; anything more would be refusals that were none.
        if calls > 10 {
            return Err(format!("{calls} upstream calls for {} refusals", samples.len()));
        }
        Ok(())
    }

    fn kept_for_later(&mut self) -> Result<(), String> {
        self.narrator.step("Callers that sent `Prefer: respond-async` receive 202");
        self.until("twenty requests are kept", |stage| stage.traffic.totals().jobs.len() >= 20)?;
        let jobs = self.traffic.totals().jobs;
        let first = jobs.first().map(String::as_str).unwrap_or_default();
        let mut connection = Connection::open(self.spillway.address()).map_err(|error| error.to_string())?;
        let job = connection.exchange(&get(first)).map_err(|error| error.to_string())?;
        let (state, jobs) = (job.at("/status"), jobs.len());
        self.narrator.fact(&format!("{jobs} requests kept on disk until the provider is back"));
        self.narrator.fact(&format!("the first of them: Location: {first}, {state}"));
        Ok(())
    }

    fn another_policy(&mut self) -> Result<(), String> {
        self.narrator
            .step("The gateway answers 200 with an error inside; a policy for that is dropped into the folder");
        self.traffic.begin_step();
        self.gateway.always(error_in_200().delay(THINKING));
        let dressed_up = |sample: &Sample| sample.gateway && sample.fate == Fate::ErrorIn200;
        self.until("40 errors pass as successes", |stage| stage.traffic.count(dressed_up) >= 40)?;
        let samples = self.traffic.samples(dressed_up);
        let judge = judges(&samples);
        let state = self.spillway.circuit("gateway");
        let count = samples.len();
        self.narrator.fact(&format!("before: {count} errors passed as successes, judged by {judge}; circuit {state}"));
        if state != "closed" {
            return Err(format!("the gateway's circuit is {state} before the policy came"));
        }

        self.traffic.begin_step();
        let (dropped, target) = (Instant::now(), self.spillway.policy_path("error-in-success"));
        fs::copy(policy_file("error-in-success"), &target).map_err(|error| format!("{}: {error}", target.display()))?;
        self.narrator.fact("cp error-in-success.wasm policies/     while traffic flows");
        let judged_by_it =
            |sample: &Sample| sample.policy.as_deref().is_some_and(|by| by.starts_with("error-in-success@"));
        self.until("the policy serves", |stage| stage.spillway.policy("error-in-success")["source"] == "module")?;
        let after = readable(dropped.elapsed());
        self.until("the policy judges traffic", |stage| stage.traffic.count(judged_by_it) > 0)?;
        let judge = judges(&self.traffic.samples(judged_by_it));
        self.narrator.fact(&format!("it takes over {after} after the drop; x-spillway-policy: {judge}"));
        self.until("the gateway's circuit opens", |stage| stage.spillway.circuit("gateway") == "open")?;
        let failures = self.traffic.count(|sample| judged_by_it(sample) && sample.fate == Fate::Failed);
        let policy = self.spillway.policy("error-in-success");
        let (calls, faults) = (&policy["calls"], &policy["faults"]);
        self.narrator
            .fact(&format!("after:  the same answers are failures, {failures} callers were told so; circuit open"));
        self.narrator.fact(&format!("the policy was asked {calls} times, with {faults} faults"));
        Ok(())
    }

    fn the_provider_is_back(&mut self) -> Result<(), String> {
        self.narrator.step("Provider and gateway are back");
        self.traffic.begin_step();
        let back = Instant::now();
        self.provider.always(thinking());
        self.gateway.always(thinking());
        for upstream in ["openai", "gateway"] {
            self.until("the circuits close", |stage| stage.spillway.circuit(upstream) == "closed")?;
            let closed = readable(back.elapsed());
            let of_upstream = format!("\"upstream\":\"{upstream}\"");
            let words = ["circuit changed", &of_upstream, "\"from\":\"half-open\"", "\"to\":\"closed\""];
            if self.spillway.log().find(&words, STEP_DEADLINE).is_none() {
                return Err(format!("no probe has closed the circuit of {upstream}"));
            }
            self.narrator
                .fact(&format!("{upstream}: half-open, one probe succeeded, closed {closed} after the return"));
        }
        let answered = |sample: &Sample| sample.fate == Fate::Answered;
        self.until("300 requests are answered", |stage| stage.traffic.count(answered) >= 300)?;
        let samples = self.traffic.samples(answered);
        self.narrator.fact(&format!("{} requests answered since", samples.len()));
        self.tell_latencies(&samples);
        Ok(())
    }

    fn every_job_is_finished(&mut self) -> Result<(), String> {
        self.narrator.step("Every spooled job is finished");
        let totals = self.traffic.totals();
        let unfinished = unfinished_jobs(&self.spillway, &totals)?;
        if unfinished > 0 {
            return Err(format!("{unfinished} of {} jobs are not finished", totals.jobs.len()));
        }
        self.narrator.fact(&format!("{} jobs, each asked for at its Location: all done", totals.jobs.len()));
        self.narrator.fact("each holds the provider's own answer");
        Ok(())
    }

    /// Waits until it is so, or says what did not happen.
    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<(), String> {
        let seen = within(STEP_DEADLINE, || holds(self).then_some(()));
        seen.ok_or_else(|| format!("waited {} in vain until {what}", readable(STEP_DEADLINE)))
    }

    fn tell_latencies(&self, samples: &[Sample]) {
        let total = quantiles(samples.iter().map(|sample| sample.duration));
        let own = quantiles(samples.iter().filter_map(|sample| sample.own));
        self.narrator.fact(&format!("as the clients measure it: {total}; Spillway's own part: {own}"));
    }
}

/// The policies that judged these, each once.
fn judges(samples: &[Sample]) -> String {
    let mut names: Vec<&str> = samples.iter().filter_map(|sample| sample.policy.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// Asks every job's Location until it is done, and returns how many are not by the deadline.
///
/// A job that is done without the provider's answer is an error.
fn unfinished_jobs(spillway: &Spillway, totals: &Totals) -> Result<usize, String> {
    let mut open: Vec<&String> = totals.jobs.iter().collect();
    let mut connection = Connection::open(spillway.address()).map_err(|error| error.to_string())?;
    let mut wrong = None;
    let _ = within(STEP_DEADLINE, || {
        open.retain(|location| match connection.exchange(&get(location)) {
            Ok(job) if job.at("/status") == "done" => {
                if job.at("/response/body/choices/0/message/content") != ANSWER {
                    wrong = Some(format!("{location} holds another answer: {}", job.text()));
                }
                false
            }
            Ok(_) => true,
            Err(error) => {
                wrong = Some(format!("{location} cannot be asked for: {error}"));
                false
            }
        });
        (open.is_empty() || wrong.is_some()).then_some(())
    });
    wrong.map_or(Ok(open.len()), Err)
}

fn account(narrator: &mut Narrator, totals: &Totals, unfinished: usize, took: Duration) -> Result<(), String> {
    narrator.step("The account");
    let lost = totals.lost + unfinished as u64;
    let finished = totals.spooled - unfinished as u64;
    for (name, count, remark) in [
        ("sent", totals.sent, ""),
        ("answered", totals.answered, ""),
        ("refused", totals.refused, "while a circuit was open"),
        ("failed", totals.failed, "the provider's failure, passed on"),
        ("error in 200", totals.errors_in_200, "before the policy came"),
        ("spooled", totals.spooled, ""),
        ("finished", finished, "of the spooled"),
        ("lost", lost, ""),
    ] {
        narrator.fact(format!("{name:<13}{count:>6}   {remark}").trim_end());
    }
    let ended = totals.answered + totals.refused + totals.failed + totals.errors_in_200 + totals.spooled + totals.lost;
    if lost > 0 {
        let why = totals.first_loss.as_deref().unwrap_or("a job that was promised is not finished");
        return Err(format!("{lost} requests were lost: {why}"));
    }
    if ended != totals.sent || totals.jobs.len() as u64 != totals.spooled {
        return Err(format!("{} requests were sent and {ended} ended", totals.sent));
    }
    narrator.success(&format!("All of it happened, in {}.", readable(took)));
    Ok(())
}

/// Leaves everything running until Ctrl-C.
fn invite(spillway: &Spillway) -> Result<(), String> {
    let (address, admin) = (spillway.address(), spillway.admin_address());
    println!("\nEverything keeps running, with traffic, until Ctrl-C. Try:");
    println!("  curl http://{admin}/status");
    println!("  curl http://{admin}/metrics");
    println!("  curl http://{address}/v1/models");
    println!("  curl http://{address}{GATEWAY_PATH} -d '{{\"model\":\"m\",\"messages\":[]}}'");
    println!("  rm {}", spillway.policy_path("error-in-success").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let interrupted = runtime.and_then(|runtime| runtime.block_on(tokio::signal::ctrl_c()));
    interrupted.map_err(|error| format!("Ctrl-C cannot be waited for: {error}"))
}
