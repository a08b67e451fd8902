//! `spillway demo`: three lanes side by side while something is wrong with a provider.

mod story;
mod table;

use crate::demo::mode::{Mode, Scenario};
use crate::demo::report::Event;
use crate::demo::stage::{self, Addresses, Audience, Scene};
use crate::runtime::screen;
use crate::runtime::signals::Signals;
use clap::Args;
use std::process::ExitCode;
use story::Story;

/// What is shown, for how long, and for whom.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// What goes wrong
    #[arg(value_enum, default_value_t)]
    mode: Mode,
    /// A quarter of a minute instead of a minute
    #[arg(long)]
    fast: bool,
    /// Print nothing but a document for programs, at the end
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub fn run(arguments: DemoArguments) -> ExitCode {
    let scenario = Scenario::new(arguments.mode, arguments.fast);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the system refuses what the demo needs: {error}")),
    };
    let (mut silent, mut story) = (Silent, Story::new(&scenario));
    let audience: &mut dyn Audience = if arguments.json { &mut silent } else { &mut story };
    // Whichever comes first; what does not come to its end is dropped, and all that it has started is ended with it.
    let played = runtime.block_on(async {
        // Before anything is started: there is no moment at which a signal would leave something behind.
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => return Some(Err(error.into())),
        };
        tokio::select! {
            biased;
            // Nothing can be looked at again while the demo runs, so that each word is one to end.
            _ = signals.next() => None,
            played = stage::play(scenario, audience) => Some(played),
        }
    });
    drop(story);
    match played {
        None => failed("ended before its end; nothing is left behind"),
        Some(Err(error)) => failed(&error.to_string()),
        Some(Ok(report)) if arguments.json => match serde_json::to_string_pretty(&report.document()) {
            Ok(document) => {
                screen::print(&format!("{document}\n"));
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error.to_string()),
        },
        Some(Ok(report)) => {
            screen::print(&table::of(&report));
            ExitCode::SUCCESS
        }
    }
}

fn failed(why: &str) -> ExitCode {
    screen::complain(&format!("spillway: {why}\n"));
    ExitCode::FAILURE
}

/// Hears all of it, and says nothing.
struct Silent;

impl Audience for Silent {
    fn begins(&mut self, _: &Scenario, _: &Addresses) {}
    fn hears(&mut self, _: &Event) {}
    fn sees(&mut self, _: &Scene<'_>) {}
}
