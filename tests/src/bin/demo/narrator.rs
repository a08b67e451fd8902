//! Plain text with restrained formatting.

use std::io::IsTerminal;
use std::time::Duration;

/// Writes the story.
pub(crate) struct Narrator {
    colour: bool,
    steps: u32,
}

impl Narrator {
    /// Colours only a terminal, and only if `NO_COLOR` is unset or empty.
    pub(crate) fn new() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: std::io::stdout().is_terminal() && !unwanted, steps: 0 }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A new step begins.
    pub(crate) fn step(&mut self, title: &str) {
        self.steps += 1;
        println!("\n{}", self.paint("1", &format!("{}. {title}", self.steps)));
    }

    /// Something is seen.
    pub(crate) fn fact(&self, text: &str) {
        println!("   {text}");
    }

    /// The whole went well.
    pub(crate) fn success(&self, text: &str) {
        println!("\n{}", self.paint("32", text));
    }

    /// It did not.
    pub(crate) fn failure(&self, text: &str) {
        println!("\n{}", self.paint("31", text));
    }
}

/// Median and 95th percentile.
pub(crate) fn quantiles(durations: impl Iterator<Item = Duration>) -> String {
    let mut sorted: Vec<Duration> = durations.collect();
    sorted.sort_unstable();
    // The nearest rank, which is a value that was really measured.
    let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    match (at(50), at(95)) {
        (Some(half), Some(most)) => format!("p50 {}, p95 {}", readable(half), readable(most)),
        _ => "nothing measured".to_owned(),
    }
}

/// With three significant digits at most, in the unit that fits.
pub(crate) fn readable(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        ..1e3 => format!("{micros:.0} us"),
        ..1e4 => format!("{:.1} ms", micros / 1e3),
        ..1e6 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}
