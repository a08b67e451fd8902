//! What people read in a terminal: its width, its colours, and tables that fit into it.
//!
//! Texts carry their styles wherever they are made. [`print`] and [`complain`] take them off where nobody would see
//! them: in a file, in a pipe, and where `NO_COLOR` says so.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

/// Columns where nobody says how many there are, as in a pipe. Every terminal has them, so that none that shows in the
/// end what came through one breaks its lines within words.
const COLUMNS_DEFAULT: u16 = 80;
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

/// How many columns what is printed may fill: as many as the terminal has, or else as `COLUMNS` says.
pub(crate) fn columns() -> usize {
    let terminal = terminal_size::terminal_size().map(|(width, _)| width.0);
    columns_of(terminal, std::env::var("COLUMNS").ok().as_deref())
}

fn columns_of(terminal: Option<u16>, variable: Option<&str>) -> usize {
    // No columns at all are what some terminals say that do not know.
    let known = |width: &u16| *width > 0;
    let told = || variable?.trim().parse().ok().filter(known);
    let said = terminal.filter(known).or_else(told);
    usize::from(said.unwrap_or(COLUMNS_DEFAULT).clamp(COLUMNS_MIN, COLUMNS_MAX))
}

/// A text behind something that takes so many columns, broken at spaces, where it goes on below its own beginning. Styles
/// take no columns. A word that is longer than a line is left whole.
pub(crate) fn wrapped(before: &str, margin: usize, text: &str, columns: usize) -> String {
    let (mut lines, mut column) = (before.to_owned(), margin);
    for word in text.split_whitespace() {
        let length = anstream::adapter::strip_str(word).map(|part| part.chars().count()).sum::<usize>();
        if column > margin && column + 1 + length > columns {
            lines.push_str(&format!("\n{:margin$}", ""));
            column = margin;
        } else if column > margin {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines + "\n"
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

/// A table without a header, for names and what is said of them. It is indented by one column.
pub(crate) fn rows(columns: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(columns).unwrap_or(COLUMNS_MAX));
    table
}

/// So many of something, in words: `1 request`, `2 requests`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A span of time as people say it: `0.6 s`, `12 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn span(span: Duration) -> String {
    const MINUTE_S: u64 = 60;
    const HOUR_S: u64 = 60 * MINUTE_S;
    const DAY_S: u64 = 24 * HOUR_S;
    let of_two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match span.as_secs() {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        seconds @ 10..MINUTE_S => format!("{seconds} s"),
        seconds @ MINUTE_S..HOUR_S => of_two(seconds / MINUTE_S, "min", seconds % MINUTE_S, "s"),
        seconds @ HOUR_S..DAY_S => of_two(seconds / HOUR_S, "h", seconds % HOUR_S / MINUTE_S, "min"),
        seconds => of_two(seconds / DAY_S, "d", seconds % DAY_S / HOUR_S, "h"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_says_how_wide_it_is_or_else_the_environment_and_otherwise_it_is_80_columns() {
        for (terminal, variable, columns) in [
            (Some(120), None, 120),
            (Some(120), Some("60"), 120),
            (Some(0), Some("60"), 60),
            (None, Some("60"), 60),
            (Some(0), None, 80),
            (None, None, 80),
            (None, Some("0"), 80),
            (None, Some("many"), 80),
            (Some(9), None, usize::from(COLUMNS_MIN)),
            (Some(999), None, usize::from(COLUMNS_MAX)),
        ] {
            assert_eq!(columns_of(terminal, variable), columns, "{terminal:?} {variable:?}");
        }
    }

    #[test]
    fn a_text_is_broken_at_spaces_and_its_styles_take_no_room() {
        let bold = |text| styled(HEADING, text);
        let styled_words = format!("{} {} {}", bold("aaa"), bold("bbb"), bold("ccc"));
        for (before, margin, text, columns, broken) in [
            ("", 0, "aaa bbb ccc", 7, "aaa bbb\nccc\n"),
            ("", 0, "aaa bbb ccc", 6, "aaa\nbbb\nccc\n"),
            ("x: ", 3, "aaa bbb ccc", 10, "x: aaa bbb\n   ccc\n"),
            ("", 0, "longer than it is wide", 4, "longer\nthan\nit\nis\nwide\n"),
            ("", 0, "half a second and a second later", 26, "half a second and a second\nlater\n"),
            ("", 0, &styled_words, 7, "aaa bbb\nccc\n"),
            ("x: ", 3, "", 10, "x: \n"),
        ] {
            let text = wrapped(before, margin, text, columns);
            assert_eq!(anstream::adapter::strip_str(&text).to_string(), broken);
        }
    }

    #[test]
    fn spans_and_counts_are_said_as_people_say_them() {
        let spans = [
            (0, "0.0 s"),
            (640, "0.6 s"),
            (12_400, "12 s"),
            (60_000, "1 min"),
            (192_000, "3 min 12 s"),
            (7_500_000, "2 h 5 min"),
            (273_600_000, "3 d 4 h"),
        ];
        for (milliseconds, said) in spans {
            assert_eq!(span(Duration::from_millis(milliseconds)), said);
        }
        assert_eq!([counted(0, "job"), counted(1, "job"), counted(2, "job")], ["0 jobs", "1 job", "2 jobs"]);
    }
}
