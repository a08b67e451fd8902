//! Everything that plays a part, and the play from the first request to the last answer.

use super::board::{Board, Entry, Standing};
use super::caller::Caller;
use super::figures::{Figures, Live};
use super::mode::{Kind, Lane, Mode, Scenario, Trouble};
use super::process::{DemoError, Spillway};
use super::report::{Event, Report, Swap, Who};
use super::{provider, traffic, words};
use serde_json::Value;
use spillway_mock_provider::Provider;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Between the start of everything and the first request.
const LEAD: Duration = Duration::from_millis(300);
/// How often it is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long the last request's answer is waited for. What has none by then never gets one here.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the status may take, on a machine that has much else to do.
const LOOK_TIMEOUT: Duration = Duration::from_millis(200);

/// The policy that is dropped in, and where its source is. It is written in C, because that makes it small enough to
/// come along.
const POLICY: &str = "error-in-success";
const POLICY_SOURCE: &str = "policies/other-languages/error-in-success.c";
const POLICY_FILE: &[u8] = include_bytes!("../../../policies/other-languages/error-in-success.wasm");

/// How it stands at a moment.
pub(crate) struct Scene<'a> {
    /// Since the first request.
    pub elapsed: Duration,
    /// All requests, by lane.
    pub lanes: &'a [Vec<Entry>; 3],
    /// How Spillway stands, in a few words.
    pub spillway: &'a str,
}

/// Who is told what happens while it happens.
pub(crate) trait Audience {
    /// Before anything happens.
    fn begins(&mut self, scenario: &Scenario, addresses: &Addresses);
    /// Something happens.
    fn hears(&mut self, event: &Event);
    /// Some times a second.
    fn sees(&mut self, scene: &Scene<'_>);
}

/// Where everything is.
pub(crate) struct Addresses {
    /// Where callers reach Spillway.
    pub spillway: String,
    /// Where operators do.
    pub admin: String,
}

/// Plays all of it. Whatever was started is ended when this is dropped, also before its end.
///
/// # Errors
/// When something that is needed cannot be had.
pub(crate) async fn play(scenario: Scenario, audience: &mut dyn Audience) -> Result<Report, DemoError> {
    let [direct, retries, through] = [(); 3].map(|()| Provider::start_on(0));
    let providers = [direct?, retries?, through?];
    let second = if scenario.mode == Mode::Fallback { Some(Provider::start_on(0)?) } else { None };
    let mut spillway = Spillway::start(&tables(&scenario, &providers[2], second.as_ref())).await?;
    let begins = Instant::now() + LEAD;
    let tallies = providers.each_ref().map(|provider| provider::put_into_trouble(provider, &scenario, begins));
    let tally_of_second = second.as_ref().map(provider::keep_well);
    let [listen, admin] = [spillway.listen(), spillway.admin()].map(|address| format!("http://{address}"));
    audience.begins(&scenario, &Addresses { spillway: listen, admin });

    let due = traffic::due(&scenario);
    let targets = [providers[0].address(), providers[1].address(), spillway.listen()];
    let callers: [Caller; 3] = std::array::from_fn(|lane| Caller::new(Lane::ALL[lane], targets[lane]));
    let boards: [Board; 3] = std::array::from_fn(|_| Board::new(&due));
    // They are given up when this is dropped.
    let _sent: [JoinSet<()>; 3] =
        std::array::from_fn(|lane| traffic::send(&callers[lane], &boards[lane], &due, begins));
    let operator = Caller::new(Lane::Direct, spillway.admin());

    let mut play = Play { begins, events: Vec::new(), audience, taken_over_at: None, said_last: String::new() };
    let mut script = script(&scenario).into_iter().peekable();
    let mut swap_at = scenario.swap_at;
    let mut refusal_is_told = false;
    let mut ticks = tokio::time::interval_at(begins.into(), TICK);
    loop {
        tokio::select! {
            line = spillway.says() => match line {
                Some(line) => play.hears_spillway(&line),
                None => return Err(spillway.ended()),
            },
            _ = ticks.tick() => {
                let elapsed = begins.elapsed();
                while let Some((at, who, what)) = script.next_if(|(at, ..)| *at <= elapsed) {
                    play.tell(at, who, what);
                }
                if swap_at.is_some_and(|at| at <= elapsed) {
                    swap_at = None;
                    play.tell(elapsed, Who::Demo, format!("cp {POLICY}.wasm policies/    while traffic flows"));
                    spillway.drop_policy(POLICY, POLICY_FILE)?;
                }
                if let Some(words) = callers[2].first_refusal().filter(|_| !refusal_is_told) {
                    refusal_is_told = true;
                    play.tell(elapsed, Who::Spillway, format!("tells a caller that cannot be served: “{words}”"));
                }
                let status = tokio::time::timeout(LOOK_TIMEOUT, operator.look("/status")).await.unwrap_or_default();
                let spillway_stands = words::of_status(&status).unwrap_or_default();
                let lanes = boards.each_ref().map(Board::entries);
                play.audience.sees(&Scene { elapsed, lanes: &lanes, spillway: &spillway_stands });
                let all_ended = lanes.iter().flatten().all(Entry::has_ended);
                if all_ended || elapsed > scenario.lasting + FINISH_TIMEOUT {
                    break;
                }
            }
        }
    }
    let entries = boards.each_ref().map(Board::entries);
    let calls = |lane: usize, number: usize| {
        let of_second = tally_of_second.as_ref().filter(|_| Lane::ALL[lane] == Lane::Spillway);
        tallies[lane].of(number) + of_second.map_or(0, |tally| tally.of(number))
    };
    let figures = |lane: usize| {
        let costs = |(number, entry): (usize, &Entry)| (*entry, calls(lane, number));
        let requests: Vec<_> = entries[lane].iter().enumerate().map(costs).collect();
        Figures::of(&requests, &(scenario.trouble_from..scenario.trouble_until))
    };
    Ok(Report {
        scenario,
        figures: std::array::from_fn(figures),
        swap: play.taken_over_at.map(|at| before_and_after(&scenario, &entries, at)),
        events: play.events,
    })
}

/// What is told, and to whom.
struct Play<'a> {
    begins: Instant,
    events: Vec<Event>,
    audience: &'a mut dyn Audience,
    taken_over_at: Option<Duration>,
    /// What Spillway's log has said last.
    said_last: String,
}

impl Play<'_> {
    fn tell(&mut self, at: Duration, who: Who, what: String) {
        let event = Event { at_s: (at.as_secs_f64() * 10.0).round() / 10.0, who, what };
        self.audience.hears(&event);
        self.events.push(event);
    }

    fn hears_spillway(&mut self, line: &Value) {
        let at = self.begins.elapsed();
        if words::policy_taking_over(line) == Some(POLICY) {
            self.taken_over_at = Some(at);
        }
        // The same words again are no news.
        if let Some(words) = words::of_log(line).filter(|words| self.said_last != *words) {
            self.said_last.clone_from(&words);
            self.tell(at, Who::Spillway, words);
        }
    }
}

impl Entry {
    fn has_ended(&self) -> bool {
        matches!(self.standing, Standing::Ended { .. })
    }
}

/// Tables of the configuration: all as by default, but where the provider is.
fn tables(scenario: &Scenario, provider: &Provider, second: Option<&Provider>) -> String {
    let first = format!("[upstreams.openai]\nurl = \"{}\"\n", provider.url());
    match second {
        None if scenario.swap_at.is_some() => format!("{first}policy = \"{POLICY}\"\n"),
        None => first,
        Some(second) => format!(
            "{first}\n[upstreams.second]\nurl = \"{}\"\ndialect = \"openai\"\n\n\
             [routes.chat]\ntargets = [\"openai\", \"second\"]\nopen_to_local = true\n",
            second.url()
        ),
    }
}

/// What is done to Spillway and the others, and when.
fn script(scenario: &Scenario) -> Vec<(Duration, Who, String)> {
    let asks = |at| format!("asks {:.0} times a second", scenario.requests_per_second(at));
    let well = |word: &str| (Who::Provider, format!("is {word}"));
    let (before, meanwhile, after) = match scenario.trouble {
        Trouble::Away => (well("well"), (Who::Provider, "answers 503 to everything".to_owned()), well("well again")),
        Trouble::HalfFails => {
            (well("well"), (Who::Provider, "fails half of the calls, with a 500".to_owned()), well("well again"))
        }
        Trouble::Burst { limit_per_second } => {
            let limit =
                format!("serves {limit_per_second:.0} calls a second, and says 429 to more, with Retry-After: 1");
            let burst = (Who::Application, format!("{}: more than is served", asks(scenario.trouble_from)));
            ((Who::Provider, limit), burst, (Who::Application, format!("{} again", asks(scenario.trouble_until))))
        }
        Trouble::HalfFailsUnder200 => {
            let error = "answers half of the calls with an error, under status 200".to_owned();
            (well("well"), (Who::Provider, error), well("well again"))
        }
    };
    let mut script = vec![
        (Duration::ZERO, Who::Application, asks(Duration::ZERO)),
        (Duration::ZERO, before.0, before.1),
        (scenario.trouble_from, meanwhile.0, meanwhile.1),
    ];
    if scenario.trouble_until < scenario.lasting {
        script.push((scenario.trouble_until, after.0, after.1));
    }
    script
}

/// What was served before the policy took over and afterwards, of what was due while the provider failed.
fn before_and_after(scenario: &Scenario, entries: &[Vec<Entry>; 3], taken_over_at: Duration) -> Swap {
    let served = |from: Duration, until: Duration| {
        entries.each_ref().map(|entries| {
            let meant = |entry: &&Entry| entry.kind == Kind::Live && entry.at >= from && entry.at < until;
            Live::of(&entries.iter().filter(meant).copied().collect::<Vec<_>>()).served_share
        })
    };
    Swap {
        policy: POLICY,
        source: POLICY_SOURCE,
        at_s: taken_over_at.as_secs_f64(),
        served_share_before: served(scenario.trouble_from, taken_over_at),
        served_share_after: served(taken_over_at, scenario.trouble_until),
    }
}
