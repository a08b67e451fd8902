//! What is told while the demo runs: in a terminal a strip for each lane that grows, elsewhere a line now and then.

use crate::demo::board::{End, Entry, Standing};
use crate::demo::figures::share;
use crate::demo::mode::{Kind, Lane, Mode, Scenario};
use crate::demo::report::{Event, Who};
use crate::demo::stage::{Addresses, Audience, Scene};
use crate::runtime::screen::{self, ASIDE, BAD, COMMAND, DOUBTFUL, GOOD, HEADING, styled, wrapped};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// Columns of a strip, each for as long a part of the time.
const STRIP_COLUMNS: usize = 48;
/// Lines of how it stands, where there is no terminal.
const LINES: usize = 10;
/// Columns of who speaks, and when.
const MARGIN: usize = 20;

/// Tells it.
pub(super) struct Story {
    scenario: Scenario,
    /// `None` where nobody looks at a terminal.
    live: Option<LiveView>,
    lines_told: usize,
}

struct LiveView {
    all: MultiProgress,
    strips: [ProgressBar; 3],
    spillway: ProgressBar,
    bar: ProgressBar,
}

impl Story {
    /// Of this demo.
    pub(super) fn new(scenario: &Scenario) -> Story {
        let in_terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
        Story { scenario: *scenario, live: in_terminal.then(LiveView::default), lines_told: 1 }
    }

    fn say(&self, text: &str) {
        match &self.live {
            Some(live) => live.all.suspend(|| screen::print(text)),
            None => screen::print(text),
        }
    }
}

impl Default for LiveView {
    fn default() -> LiveView {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let line = |template| {
            let line = all.add(ProgressBar::new_spinner());
            line.set_style(style(template));
            line
        };
        // What Spillway says may be longer than a line, and is cut there: its end is what matters least.
        let (strips, spillway) = ([(); 3].map(|()| line("{msg}")), line("{wide_msg}"));
        let bar = all.add(ProgressBar::new(0));
        bar.set_style(style(&format!("{{msg:18}} {{bar:{STRIP_COLUMNS}}}")));
        LiveView { strips, spillway, bar, all }
    }
}

/// A template of ours always has one; what indicatif does without is its own.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Drop for LiveView {
    fn drop(&mut self) {
        // What was seen last is told again by the table.
        let _ = self.all.clear();
    }
}

impl Audience for Story {
    fn begins(&mut self, scenario: &Scenario, addresses: &Addresses) {
        self.say(&introduction(scenario, addresses));
    }

    fn hears(&mut self, event: &Event) {
        self.say(&told(event, screen::columns()));
    }

    fn sees(&mut self, scene: &Scene<'_>) {
        let scenario = self.scenario;
        if let Some(live) = &self.live {
            let lanes = live.strips.iter().zip(Lane::ALL).zip(scene.lanes);
            for ((line, lane), entries) in lanes {
                line.set_message(format!("{:<18} {} {}", lane.name(), strip(&scenario, entries), served(entries)));
            }
            live.spillway.set_message(format!("{:<18} {}", "Spillway says", styled(ASIDE, scene.spillway)));
            live.bar.set_length(milliseconds(scenario.lasting));
            live.bar.set_position(milliseconds(scene.elapsed));
            live.bar.set_message(format!(
                "{:.0} of {:.0} s",
                scene.elapsed.as_secs_f64(),
                scenario.lasting.as_secs_f64()
            ));
        } else if scenario.part(scene.elapsed, LINES) >= self.lines_told && self.lines_told < LINES {
            self.lines_told = scenario.part(scene.elapsed, LINES) + 1;
            let lanes: Vec<_> = Lane::ALL
                .into_iter()
                .zip(scene.lanes)
                .map(|(lane, entries)| format!("{} {}", lane.name(), served(entries)))
                .collect();
            let (at_s, what) = (scene.elapsed.as_secs_f64(), format!("{}; {}", lanes.join(", "), scene.spillway));
            self.say(&line(at_s, "served    ", &what, screen::columns()));
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn introduction(scenario: &Scenario, addresses: &Addresses) -> String {
    let what = match scenario.mode {
        Mode::Outage => "a provider fails for a while",
        Mode::Partial => "a provider fails half of the calls for a while",
        Mode::Throttled => "callers ask for more than a provider's limit for a while",
        Mode::Fallback => "a provider fails for a while, and there is a second one",
        Mode::Swap => "a provider puts errors under status 200, and a policy that knows it is dropped in",
    };
    let Addresses { spillway, admin } = addresses;
    let columns = screen::columns();
    let mut text = format!("{}\n\n", styled(HEADING, format!("Spillway demo: {what}")));
    let same = "The same traffic, three times at once; each lane has a mock provider of its own, in the same state.";
    text.push_str(&wrapped("", 0, same, columns));
    for (lane, what) in [
        (Lane::Direct, "one call to the provider, and what comes of it"),
        (Lane::Retries, "as the official SDKs do: two more tries, half a second and a second later"),
        (
            Lane::Spillway,
            "the same SDK, through a real Spillway with its default settings; background requests say that they can come \
             back for their answer (Prefer: respond-async)",
        ),
    ] {
        text.push_str(&wrapped(&format!("  {:<13}", lane.name()), 15, what, columns));
    }
    text.push_str(&format!("Spillway {spillway}, its state {admin}/status\n"));
    text.push_str(&styled(ASIDE, wrapped("", 0, &legend(scenario), columns)));
    text.push('\n');
    text
}

fn legend(scenario: &Scenario) -> String {
    let column = scenario.lasting.as_secs_f64() / STRIP_COLUMNS as f64;
    format!("In a strip each column is {column:.2} s: its height is the share served, x is nobody, ? waits.")
}

/// An event, broken at spaces to fit into so many columns.
fn told(event: &Event, columns: usize) -> String {
    let (who, style) = match event.who {
        Who::Provider => ("provider", DOUBTFUL),
        Who::Application => ("app", COMMAND),
        Who::Spillway => ("Spillway", GOOD),
        Who::Demo => ("demo", COMMAND),
    };
    line(event.at_s, &styled(style, format!("{who:<10}")), &event.what, columns)
}

/// A line of the story.
fn line(at_s: f64, who: &str, what: &str, columns: usize) -> String {
    wrapped(&format!("{at_s:5.1} s  {who} "), MARGIN, what, columns)
}

/// What became of the live requests, by the time at which they were due.
fn strip(scenario: &Scenario, entries: &[Entry]) -> String {
    let mut columns = [Column::default(); STRIP_COLUMNS];
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Live) {
        let column = &mut columns[scenario.part(entry.at, STRIP_COLUMNS)];
        match entry.standing {
            Standing::Due => {}
            Standing::Waiting | Standing::Kept => column.waiting += 1,
            Standing::Ended { end: End::Answered, .. } => column.served += 1,
            Standing::Ended { end: End::Failed | End::ErrorUnder200, .. } => column.failed += 1,
        }
    }
    columns.iter().map(Column::drawn).collect()
}

/// How many requests of a column stand where.
#[derive(Clone, Copy, Debug, Default)]
struct Column {
    served: usize,
    failed: usize,
    waiting: usize,
}

impl Column {
    fn drawn(&self) -> String {
        const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let ended = self.served + self.failed;
        match (self.served, self.failed) {
            (0, 0) if self.waiting > 0 => styled(ASIDE, '?'),
            (0, 0) => " ".to_owned(),
            (0, _) => styled(BAD, 'x'),
            (served, failed) => {
                let height = HEIGHTS[(served * HEIGHTS.len()).div_ceil(ended).clamp(1, HEIGHTS.len()) - 1];
                styled(if failed == 0 { GOOD } else { DOUBTFUL }, height)
            }
        }
    }
}

/// The share served of the live requests that have ended, in words.
fn served(entries: &[Entry]) -> String {
    let live = entries.iter().filter(|entry| entry.kind == Kind::Live);
    let ends = live.filter_map(|entry| match entry.standing {
        Standing::Ended { end, .. } => Some(end),
        Standing::Due | Standing::Waiting | Standing::Kept => None,
    });
    let ends: Vec<End> = ends.collect();
    let served = ends.iter().filter(|end| **end == End::Answered).count();
    format!("{:.0} %", share(served, ends.len()) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at_ms: u64, standing: Standing) -> Entry {
        Entry { at: Duration::from_millis(at_ms), kind: Kind::Live, standing }
    }

    fn ended(end: End) -> Standing {
        Standing::Ended { end, took: Duration::ZERO, kept: false }
    }

    #[test]
    fn a_column_shows_how_many_of_its_requests_were_served_also_without_colours() {
        for (served, failed, waiting, drawn) in [
            (0, 0, 0, ' '),
            (0, 0, 3, '?'),
            (0, 2, 9, 'x'),
            (4, 0, 1, '█'),
            (2, 2, 0, '▄'),
            (1, 99, 0, '▁'),
            (99, 1, 0, '█'),
        ] {
            let column = Column { served, failed, waiting }.drawn();
            assert_eq!(
                anstream::adapter::strip_str(&column).to_string(),
                drawn.to_string(),
                "{served} {failed} {waiting}"
            );
        }
    }

    #[test]
    fn a_strip_is_as_long_as_the_whole_whatever_has_happened() {
        let scenario = Scenario::new(Mode::Outage, true);
        let entries = [
            entry(0, ended(End::Answered)),
            entry(300, ended(End::Failed)),
            entry(600, Standing::Waiting),
            entry(900, Standing::Due),
        ];
        let drawn = strip(&scenario, &entries);
        let drawn = anstream::adapter::strip_str(&drawn).to_string();
        assert_eq!(drawn.chars().count(), STRIP_COLUMNS);
        assert!(drawn.starts_with("█x? "), "{drawn}");
        assert_eq!(served(&entries), "50 %");
    }

    #[test]
    fn what_is_told_is_broken_where_the_terminal_ends() {
        let what = "the circuit of openai opens: ten failing requests in a row, so that nobody is called".to_owned();
        let event = Event { at_s: 12.34, who: Who::Spillway, what };
        let text = anstream::adapter::strip_str(&told(&event, 60)).to_string();
        assert!(text.starts_with(" 12.3 s  Spillway   the circuit of openai"), "{text}");
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.chars().count() <= 60), "{text}");
    }
}
