//! Line charts as SVG: just as much as the curves need.

use std::fmt::Write as _;

/// One direction of a chart, from 0 on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// What is counted, with its unit.
    pub(super) label: &'static str,
    /// The last value.
    pub(super) max: f64,
    /// From one grid line to the next.
    pub(super) step: f64,
}

/// One protection's figures.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// One of several charts with the same axes. Its last line is the one that matters.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line>,
}

/// Panels, two in a row, under one title and one legend.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) panels: Vec<Panel>,
}

/// Colour and dashes of each line but the last: told apart by those who see few colours, too (Okabe and Ito's palette).
const STYLES: [(&str, &str); 6] = [
    ("#6b6b6b", "6 3"),
    ("#009e73", ""),
    ("#b8860b", "2 3"),
    ("#cc79a7", "8 3 2 3"),
    ("#d55e00", "4 2"),
    ("#56b4e9", "1 2"),
];
/// The last line's.
const OURS: &str = "#0b3d91";

const PLOT: (f64, f64) = (330.0, 230.0);
const GAP: (f64, f64) = (100.0, 92.0);
const LEFT: f64 = 64.0;
const TOP: f64 = 118.0;
const COLUMNS: usize = 2;
const LEGEND_COLUMNS: usize = 4;

impl Chart {
    /// The chart as a document of its own, on white, so that it can be read on any background.
    pub(super) fn svg(&self) -> String {
        let rows = self.panels.len().div_ceil(COLUMNS) as f64;
        let (width, height) = (LEFT + 2.0 * PLOT.0 + GAP.0 + 24.0, TOP + rows * (PLOT.1 + GAP.1) - 30.0);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#222\">\n\
             <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"28\" font-size=\"17\" font-weight=\"600\">{title}</text>\n",
            title = self.title
        );
        self.legend(&mut svg);
        for (index, panel) in self.panels.iter().enumerate() {
            let column = (index % COLUMNS) as f64;
            let row = (index / COLUMNS) as f64;
            self.panel(&mut svg, panel, (LEFT + column * (PLOT.0 + GAP.0), TOP + row * (PLOT.1 + GAP.1)));
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Ours first, for it is what is looked for.
    fn legend(&self, svg: &mut String) {
        let lines = self.panels.first().map_or(&[][..], |panel| &panel.lines);
        for (place, index) in (0..lines.len()).rev().take(1).chain(0..lines.len().saturating_sub(1)).enumerate() {
            let x = LEFT + (place % LEGEND_COLUMNS) as f64 * 185.0;
            let y = 52.0 + (place / LEGEND_COLUMNS) as f64 * 20.0;
            let weight = if place == 0 { " font-weight=\"600\"" } else { "" };
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {:.1}h30\" {}/><text x=\"{:.1}\" y=\"{y:.1}\"{weight}>{}</text>",
                y - 4.0,
                style(index, lines.len()),
                x + 37.0,
                lines[index].name
            );
        }
    }

    fn panel(&self, svg: &mut String, panel: &Panel, (left, top): (f64, f64)) {
        let x = |value: f64| left + value / self.x.max * PLOT.0;
        let y = |value: f64| top + PLOT.1 - value.clamp(0.0, self.y.max) / self.y.max * PLOT.1;
        let (right, bottom) = (left + PLOT.0, top + PLOT.1);
        let _ = writeln!(
            svg,
            "<text x=\"{left:.1}\" y=\"{:.1}\" font-size=\"13\" font-weight=\"600\">{}</text>",
            top - 10.0,
            panel.title
        );
        for value in ticks(self.y) {
            let _ = writeln!(
                svg,
                "<path d=\"M{left:.1} {at:.1}H{right:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                left - 7.0,
                y(value) + 4.0,
                at = y(value)
            );
        }
        for value in ticks(self.x) {
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {bottom:.1}v5\" stroke=\"#222\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
                bottom + 19.0,
                at = x(value)
            );
        }
        let _ = writeln!(svg, "<path d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"#222\"/>");
        let (middle, across) = (left + PLOT.0 / 2.0, top + PLOT.1 / 2.0);
        let _ = writeln!(
            svg,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate({:.1} {across:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            bottom + 38.0,
            self.x.label,
            left - 40.0,
            self.y.label
        );
        for (index, line) in panel.lines.iter().enumerate() {
            let points: Vec<String> =
                line.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
            let _ = writeln!(svg, "<polyline points=\"{}\" {}/>", points.join(" "), style(index, panel.lines.len()));
        }
    }
}

/// How a line is drawn that is one of so many.
fn style(index: usize, count: usize) -> String {
    if index + 1 == count {
        return format!("fill=\"none\" stroke=\"{OURS}\" stroke-width=\"4\" stroke-linejoin=\"round\"");
    }
    let (colour, dashes) = STYLES[index % STYLES.len()];
    format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"")
}

fn ticks(axis: Axis) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(0.0), move |value| Some(value + axis.step)).take_while(move |value| *value <= axis.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_where_their_values_say_and_nothing_leaves_the_plot() {
        let line = |name, points| Line { name, points };
        let lines = vec![line("other", vec![(0.0, 0.0), (50.0, 10.0)]), line("ours", vec![(0.0, 5.0), (100.0, 99.0)])];
        let axis = |label, max| Axis { label, max, step: max / 2.0 };
        let chart = Chart {
            title: "a chart",
            x: axis("across", 100.0),
            y: axis("up", 10.0),
            panels: vec![Panel { title: "a panel", lines }],
        };
        let svg = chart.svg();
        assert!(svg.contains("<polyline points=\"64.0,348.0 229.0,118.0\""), "{svg}");
        assert!(svg.contains("<polyline points=\"64.0,233.0 394.0,118.0\" fill=\"none\" stroke=\"#0b3d91\""), "{svg}");
        for text in ["a chart", "a panel", "across", "up", "ours", "other", ">5<", ">50<", ">100<"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn ticks_end_with_the_axis() {
        let ticks: Vec<f64> = ticks(Axis { label: "", max: 100.0, step: 40.0 }).collect();
        assert_eq!(ticks, [0.0, 40.0, 80.0]);
    }
}
