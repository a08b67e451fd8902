//! What a demo came to: one table, and where another lane is better.

use crate::demo::comparison::{
    Concession, RELATIVE_TOLERANCE, Row, SHARE_TOLERANCE_POINTS, WAIT_TOLERANCE_MS, concessions,
};
use crate::demo::figures::Figures;
use crate::demo::mode::{Lane, Mode};
use crate::demo::report::{Report, Swap, name};
use crate::runtime::screen::{self, ASIDE, COMMAND, DOUBTFUL, GOOD, HEADING, styled, wrapped};
use comfy_table::CellAlignment;

/// The whole of it.
pub(super) fn of(report: &Report) -> String {
    let conceded = concessions(&report.figures);
    let mut table = screen::table([""].into_iter().chain(Lane::ALL.map(Lane::name)));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.add_row(plain("live requests", &report.figures, |figures| figures.live.sent.to_string()));
    for row in [Row::Served, Row::HalfAnswered, Row::NearlyAllAnswered, Row::ToldNo] {
        table.add_row(compared(row, &report.figures, &conceded));
    }
    if report.figures.iter().any(|figures| figures.live.errors_under_200 > 0) {
        table.add_row(plain("errors taken for answers", &report.figures, |figures| {
            figures.live.errors_under_200.to_string()
        }));
    }
    if let Some(swap) = &report.swap {
        table.add_row(shares("served before the swap", swap.served_share_before));
        table.add_row(shares("served after the swap", swap.served_share_after));
    }
    table.add_row(plain("background requests", &report.figures, |figures| figures.background.sent.to_string()));
    table.add_row(compared(Row::BackgroundAnswered, &report.figures, &conceded));
    table.add_row(plain("kept, and finished later", &report.figures, |figures| {
        let background = &figures.background;
        if background.kept == 0 {
            "-".into()
        } else {
            format!("{} of {}", background.kept_and_answered, background.kept)
        }
    }));
    table.add_row(plain("calls to providers", &report.figures, |figures| figures.calls.all.to_string()));
    table.add_row(compared(Row::CallsPerAnswer, &report.figures, &conceded));
    let mut text = format!("\n{}\n{table}\n\n", styled(HEADING, "What it came to"));
    text.push_str(&verdict(report.scenario.mode, &conceded));
    text.push_str(&styled(ASIDE, how_it_is_measured()));
    if let Some(swap) = &report.swap {
        text.push_str(&about_policy(swap));
    }
    text.push_str(&next(report.scenario.mode));
    text
}

fn plain(name: &str, figures: &[Figures; 3], shown: impl Fn(&Figures) -> String) -> Vec<String> {
    [name.to_owned()].into_iter().chain(figures.iter().map(shown)).collect()
}

fn shares(name: &str, shares: [f64; 3]) -> Vec<String> {
    [name.to_owned()].into_iter().chain(shares.map(|share| format!("{:.1} %", share * 100.0))).collect()
}

/// A row in which lanes are compared. Where ours is worse it says so, with a star for who sees no colours.
fn compared(row: Row, figures: &[Figures; 3], conceded: &[Concession]) -> Vec<String> {
    let is_conceded = conceded.iter().any(|concession| concession.row == row);
    let values = figures.each_ref().map(|figures| row.shown(row.value(figures)));
    let [direct, retries, ours] = values;
    let ours = if is_conceded { styled(DOUBTFUL, format!("* {ours}")) } else { styled(GOOD, ours) };
    vec![row.name().to_owned(), direct, retries, ours]
}

/// In which rows another lane is better.
fn verdict(mode: Mode, conceded: &[Concession]) -> String {
    if conceded.is_empty() {
        return "In no row is another lane better than Spillway's.\n\n".to_owned();
    }
    let mut text = styled(DOUBTFUL, "* Another lane is better here:") + "\n";
    for concession in conceded {
        let sentence = format!("{}.{}", concession.sentence, why(mode, concession.row));
        text.push_str(&wrapped("  ", 2, &sentence, screen::columns()));
    }
    text + "\n"
}

/// What one pays for with what is worse, where it is no accident.
fn why(mode: Mode, row: Row) -> &'static str {
    match (mode, row) {
        (_, Row::ToldNo) => {
            " Behind Spillway callers wait for a probe, and come back when it says so: some are served after all."
        }
        (Mode::Throttled, Row::HalfAnswered | Row::NearlyAllAnswered) => {
            " Behind Spillway calls go out in turn, at the pace that was served before, which is raised step by step."
        }
        _ => "",
    }
}

fn how_it_is_measured() -> String {
    let text = format!(
        "Measured by the clients, and counted by the providers. Waits are of all live requests: who never got an answer \
         has waited for ever. Calls per answer are of what came while something was wrong. A difference of \
         {SHARE_TOLERANCE_POINTS} point, of {:.0} %, or of {WAIT_TOLERANCE_MS} ms of a wait, is none.",
        RELATIVE_TOLERANCE * 100.0
    );
    wrapped("", 0, &text, screen::columns())
}

fn about_policy(swap: &Swap) -> String {
    let text = format!(
        "The policy is {}: a 200 that holds an error is a failure. It took over {:.1} s after the first request, without a \
         restart. Its source is {} in Spillway's repository; make one of your own by",
        swap.policy, swap.at_s, swap.source,
    );
    let command = styled(COMMAND, "spillway policy new my-provider");
    format!("\n{}  {command}\n", wrapped("", 0, &text, screen::columns()))
}

/// What to do next.
fn next(mode: Mode) -> String {
    let others = [Mode::Outage, Mode::Partial, Mode::Throttled, Mode::Fallback, Mode::Swap];
    let others: Vec<_> = others.into_iter().filter(|other| *other != mode).map(name).collect();
    let (run, demo) = (styled(COMMAND, "spillway run"), styled(COMMAND, format!("spillway demo {}", others.join("|"))));
    format!("\nNext: {run}\n  or: {demo}\n")
}
