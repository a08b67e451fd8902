//! What people read in a terminal: its width, its colours, and tables that fit into it.
//!
//! Texts carry their styles wherever they are made. [`print`] and [`complain`] take them off where nobody would see
//! them: in a file, in a pipe, and where `NO_COLOR` says so.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use std::fmt::Display;
use std::io::Write;

/// Columns where nobody says how many there are, as in a pipe.
const COLUMNS_DEFAULT: u16 = 100;
/// Fewer columns hold no table. What is made for them is broken by the terminal itself.
const COLUMNS_MIN: u16 = 40;
/// A line that is longer is hard to follow with the eye.
const COLUMNS_MAX: u16 = 160;

/// The name of what follows.
pub(crate) const HEADING: Style = Style::new().bold();
/// All is well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// To be looked at.
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
/// Something is broken.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What is to be typed, or followed.
pub(crate) const COMMAND: Style = AnsiColor::Cyan.on_default();
/// What need not be read.
pub(crate) const ASIDE: Style = Style::new().dimmed();

/// A text in a style.
pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// How many columns what is printed may fill.
pub(crate) fn columns() -> usize {
    let said = terminal_size::terminal_size().map(|(width, _)| width.0);
    // Cells of width zero are what some terminals say that do not know.
    usize::from(said.filter(|width| *width > 0).unwrap_or(COLUMNS_DEFAULT).clamp(COLUMNS_MIN, COLUMNS_MAX))
}

/// A table of these columns, which breaks the lines of its cells where the terminal is too narrow. It has lines between
/// nothing: columns are told apart by space, so that they can be copied.
pub(crate) fn table<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(columns()).unwrap_or(COLUMNS_MAX));
    table.set_header(header.into_iter().map(|name| styled(ASIDE, name)));
    table
}

/// Prints a text as it is, on standard output. A reader that has seen enough closes the pipe, which is no failure.
pub(crate) fn print(text: &str) {
    let mut out = anstream::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a text as it is, on standard error, where it does not get into the way of what is read by programs. Nobody
/// hears it if that fails.
pub(crate) fn complain(text: &str) {
    let _ = anstream::stderr().write_all(text.as_bytes());
}
