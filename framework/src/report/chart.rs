//! Line charts as inline SVG that takes its colours from the page, so it suits light and dark.

use std::fmt::Write;

use super::text::{escape, number};

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 36.0;

/// Points of a line beyond which neighbours are averaged: more do not show at this size.
const POINTS: usize = 400;

/// A line of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Its name in the legend; empty for none.
    pub name: String,
    /// Horizontal and vertical positions, in rising horizontal order.
    pub points: Vec<(f64, f64)>,
    /// Which of the page's colours it has, from 0.
    pub colour: usize,
    /// Drawn thin and pale, behind others.
    pub faint: bool,
}

/// A line chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// The heading.
    pub title: String,
    /// What runs to the right.
    pub across: String,
    /// The unit of the values; empty for none.
    pub unit: String,
    /// The lines.
    pub lines: Vec<Line>,
    /// A level to compare with, and its name.
    pub level: Option<(f64, String)>,
    /// The vertical axis begins at 0.
    pub from_zero: bool,
    /// The horizontal axis begins at 0.
    pub from_start: bool,
}

/// The values of an axis and where its marks are.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// An axis over `low..=high`, with about `marks` marks at round values; `whole` extends it to marks.
    fn new(low: f64, high: f64, marks: f64, whole: bool) -> Self {
        let span = if high > low {
            high - low
        } else {
            high.abs().max(1.0)
        };
        let raw = span / marks;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|round| round * power);
        let step = step
            .into_iter()
            .find(|&step| step >= 0.999 * raw)
            .unwrap_or(10.0 * power);
        let (low, high) = match (high > low, whole) {
            (false, _) => (low - span / 2.0, low + span / 2.0),
            (true, true) => ((low / step).floor() * step, (high / step).ceil() * step),
            (true, false) => (low, high),
        };
        Self { low, high, step }
    }

    fn marks(&self) -> impl Iterator<Item = f64> + '_ {
        let first = (self.low / self.step - 1e-9).ceil();
        let count = ((self.high / self.step + 1e-9).floor() - first).max(-1.0) as usize + 1;
        (0..count.min(20)).map(move |i| (first + i as f64) * self.step)
    }

    fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        from + (value - self.low) / (self.high - self.low) * (to - from)
    }
}

impl Chart {
    /// The chart as an HTML figure; empty if there is nothing to draw.
    pub fn figure(&self) -> String {
        let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
        let points: Vec<_> = self
            .lines
            .iter()
            .flat_map(|line| &line.points)
            .filter(finite)
            .collect();
        if points.is_empty() {
            return String::new();
        }
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::MAX, f64::MIN), |(low, high), v| {
                (low.min(v), high.max(v))
            })
        };
        let start = self.from_start.then_some(0.0);
        let across = range(&mut points.iter().map(|p| p.0).chain(start));
        let level = self.level.iter().map(|level| level.0);
        let zero = self.from_zero.then_some(0.0);
        let up = range(&mut points.iter().map(|p| p.1).chain(level).chain(zero));
        let (x, y) = (
            Axis::new(across.0, across.1, 6.0, false),
            Axis::new(up.0, up.1, 5.0, true),
        );
        let mut svg = format!(
            "<figure><figcaption>{}{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title),
            self.legend(),
            escape(&self.title)
        );
        self.axes(&x, &y, &mut svg);
        // Pale lines first, so that strong ones lie on top.
        let (faint, strong): (Vec<_>, Vec<_>) = self.lines.iter().partition(|line| line.faint);
        for line in faint.into_iter().chain(strong) {
            draw(line, &x, &y, &mut svg);
        }
        svg.push_str("</svg></figure>");
        svg
    }

    fn legend(&self) -> String {
        let mut legend = String::new();
        if self
            .lines
            .iter()
            .filter(|line| !line.name.is_empty())
            .count()
            > 1
        {
            for line in self.lines.iter().filter(|line| !line.name.is_empty()) {
                write!(
                    legend,
                    "<span class=\"key c{}\">{}</span>",
                    line.colour % 6,
                    escape(&line.name)
                )
                .expect("a string takes any text");
            }
        }
        legend
    }

    fn axes(&self, x: &Axis, y: &Axis, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for mark in y.marks() {
            let place = y.place(mark, bottom, TOP);
            let text = number(mark);
            write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {place:.1}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" class=\"end\">{text}</text>",
                LEFT - 6.0,
                place + 4.0
            )
            .expect("a string takes any text");
        }
        for mark in x.marks() {
            let place = x.place(mark, LEFT, right);
            write!(
                svg,
                "<text x=\"{place:.1}\" y=\"{:.1}\" class=\"middle\">{}</text>",
                bottom + 16.0,
                number(mark)
            )
            .expect("a string takes any text");
        }
        let unit = match self.unit.as_str() {
            "" => String::new(),
            unit => format!(
                "<text x=\"{LEFT}\" y=\"{:.1}\">{}</text>",
                HEIGHT - 4.0,
                escape(unit)
            ),
        };
        write!(
            svg,
            "{unit}<text x=\"{right}\" y=\"{:.1}\" class=\"end\">{}</text>",
            HEIGHT - 4.0,
            escape(&self.across)
        )
        .expect("a string takes any text");
        if let Some((level, name)) = &self.level {
            let place = y.place(*level, bottom, TOP);
            let below = if place < TOP + 16.0 { 13.0 } else { -5.0 };
            write!(
                svg,
                "<path class=\"level\" d=\"M{LEFT} {place:.1}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" class=\"end\">{}</text>",
                right - 4.0,
                place + below,
                escape(name)
            )
            .expect("a string takes any text");
        }
    }
}

fn draw(line: &Line, x: &Axis, y: &Axis, svg: &mut String) {
    let points: Vec<_> = thin(&line.points)
        .into_iter()
        .filter(|p| p.0.is_finite() && p.1.is_finite())
        .map(|(across, up)| {
            (
                x.place(across, LEFT, WIDTH - RIGHT),
                y.place(up, HEIGHT - BOTTOM, TOP),
            )
        })
        .collect();
    let Some(first) = points.first() else {
        return;
    };
    let faint = if line.faint { " faint" } else { "" };
    let colour = line.colour % 6;
    let mut path = format!("M{:.1} {:.1}", first.0, first.1);
    for point in &points[1..] {
        write!(path, "L{:.1} {:.1}", point.0, point.1).expect("a string takes any text");
    }
    write!(svg, "<path class=\"line c{colour}{faint}\" d=\"{path}\"/>")
        .expect("a string takes any text");
    if !line.faint && points.len() <= 30 {
        for (point, (across, up)) in points.iter().zip(&line.points) {
            write!(
                svg,
                "<circle class=\"c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{} {}: {}</title></circle>",
                point.0,
                point.1,
                escape(&line.name),
                number(*across),
                number(*up)
            )
            .expect("a string takes any text");
        }
    }
}

/// At most [`POINTS`] points, neighbours averaged.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        let sum = points
            .iter()
            .fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(group).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round() {
        let marks = |low, high| {
            Axis::new(low, high, 5.0, true)
                .marks()
                .map(number)
                .collect::<Vec<_>>()
        };
        assert_eq!(marks(0.0, 10.0), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(marks(4.1, 8.3), ["4", "5", "6", "7", "8", "9"]);
        assert_eq!(marks(-0.03, 0.01), ["-0.03", "-0.02", "-0.01", "0", "0.01"]);
        // A constant still has an axis.
        assert!(marks(5.0, 5.0).len() > 2);
    }

    #[test]
    fn a_chart_stays_within_its_frame() {
        let chart = Chart {
            title: "loss <1>".to_owned(),
            lines: vec![Line {
                points: (0..2000)
                    .map(|i| (f64::from(i), f64::from(i % 7)))
                    .collect(),
                ..Line::default()
            }],
            level: Some((11.0, "ln(1 + K)".to_owned())),
            ..Chart::default()
        };
        let figure = chart.figure();
        assert!(figure.contains("loss &lt;1&gt;") && figure.contains("ln(1 + K)"));
        let path = figure.split("class=\"line c0\" d=\"M").nth(1).unwrap();
        let path = path.split('"').next().unwrap();
        let points: Vec<_> = path.split('L').collect();
        assert_eq!(points.len(), 400);
        for point in points {
            let (x, y) = point.split_once(' ').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y));
        }
    }

    #[test]
    fn nothing_to_draw_is_no_figure() {
        let line = Line {
            points: vec![(1.0, f64::NAN)],
            ..Line::default()
        };
        let chart = Chart {
            lines: vec![line],
            ..Chart::default()
        };
        assert_eq!(chart.figure(), "");
    }
}
