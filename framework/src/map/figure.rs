//! The two figures of the paper: originals by class, and originals joined to their views.
//!
//! Ten inches square on lavender, without ticks, as in the reference; what it gets wrong is put right: limits come from all
//! points that are drawn, colours from the classes and not from runs of a hundred, and views do not have nearly the
//! originals' colour. A legend stands beside the map, where it covers no point.

use super::{
    colour,
    drawing::{Colour, Drawing, Mark, Paint},
};

/// Side of the map: ten inches.
const SIDE: f64 = 720.0;

/// How far the map reaches beyond its outermost points, as a factor on their places.
const REACH: f64 = 1.1;

/// Where names of a legend begin, behind its left edge.
const NAMES: f64 = 36.0;

/// Height of a legend's line.
const LINE: f64 = 28.0;

/// Classes beyond which there is no legend.
const NAMED: usize = 24;

/// Letters of a name at most.
const LETTERS: usize = 26;

/// Size of a legend's letters.
const LETTER: f64 = 17.0;

/// Width of a letter, as a share of its size.
const WIDTH: f64 = 0.62;

/// Size of the letters of a remark.
const REMARK: f64 = 14.0;

const LAVENDER: Colour = [0xe6, 0xe6, 0xfa];
const LIGHT_STEEL_BLUE: Colour = [0xb0, 0xc4, 0xde];
const BLACK: Colour = [0; 3];
const GREY: Colour = [0x66, 0x66, 0x66];

/// Share of the map's side that the inset takes, in its lower left corner.
const INSET: f64 = 0.5;

/// Share of the map's side that a chosen window takes.
const WINDOW: f64 = 0.05;

/// A part of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// From left to right.
    pub x: (f64, f64),
    /// From the bottom to the top.
    pub y: (f64, f64),
}

/// What a figure shows.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    /// Places of the originals, then of each of their views, sample by sample.
    pub maps: &'a [Vec<[f64; 2]>],
    /// The class of each sample, where there are classes.
    pub labels: Option<&'a [u32]>,
    /// Names of the classes, by label.
    pub classes: &'a [String],
}

/// The originals, coloured by class.
pub fn full(points: Points<'_>) -> Drawing {
    let originals = &points.maps[0];
    let present = present(points);
    let legend = (2..=NAMED).contains(&present.len());
    let names = present
        .iter()
        .filter_map(|&class| points.classes.get(class as usize));
    let letters = names.map(|name| name.chars().count().min(LETTERS)).max();
    let beside = match letters {
        Some(letters) if legend => NAMES + WIDTH * LETTER * (letters + 2) as f64,
        _ => 0.0,
    };
    let title = "Map of the originals, coloured by class";
    let mut drawing = sheet(SIDE + beside, SIDE, title);
    let colours = colour::classes(present.len());
    let frame = Frame::around(originals.iter());
    for (sample, &place) in originals.iter().enumerate() {
        let class = points
            .labels
            .and_then(|labels| present.binary_search(&labels[sample]).ok());
        let colour = class.map_or(colour::ORIGINAL, |class| colours[class]);
        drawing.marks.push(Mark::Disc {
            at: frame.at(place),
            radius: 3.5,
            paint: Paint {
                colour,
                opacity: 0.85,
            },
        });
    }
    border(&mut drawing);
    if legend {
        let height = LINE * present.len() as f64;
        let mut y = 0.5 * (SIDE - height) + 0.5 * LINE;
        for (&class, &colour) in present.iter().zip(&colours) {
            let name = points.classes.get(class as usize).map_or("", |name| name);
            entry(&mut drawing, [SIDE + 22.0, y], colour, name);
            y += LINE;
        }
    }
    drawing
}

/// The first `pairs` originals with their views and lines that join them, and `window` once more, enlarged. None where there
/// are no views.
pub fn augmented(points: Points<'_>, pairs: usize, window: Option<Window>) -> Option<Drawing> {
    let pairs = pairs.min(points.maps[0].len());
    if points.maps.len() < 2 || pairs == 0 {
        return None;
    }
    let title = format!("Map of the first {pairs} originals and their views");
    let mut drawing = sheet(SIDE, SIDE + 44.0, &title);
    let frame = Frame::around(points.maps.iter().flat_map(|map| &map[..pairs]));
    loops(&mut drawing, points, pairs, &frame, 3.0);
    if let Some(window) = window {
        inset(&mut drawing, points, pairs, &frame, window);
    }
    border(&mut drawing);
    let y = SIDE + 24.0;
    entry(&mut drawing, [24.0, y], colour::ORIGINAL, "original");
    entry(&mut drawing, [150.0, y], colour::VIEW, "augmented view");
    if window.is_some() {
        let covered = |place: &&[f64; 2]| {
            let [x, y] = frame.at(**place);
            x < INSET * SIDE && y > (1.0 - INSET) * SIDE
        };
        let covered = points.maps[0][..pairs].iter().filter(covered).count();
        drawing.marks.push(Mark::Text {
            at: [330.0, y + 0.35 * REMARK],
            size: REMARK,
            bold: false,
            text: format!("originals under the inset: {covered} of {pairs}"),
        });
    }
    Some(drawing)
}

/// The window, a twentieth of the map wide and outside the place of the inset, that shows the most samples with all their
/// views; around the closest such sample where none fits. None where no sample lies outside the inset.
pub fn telling_window(points: Points<'_>, pairs: usize) -> Option<Window> {
    let pairs = pairs.min(points.maps[0].len());
    if points.maps.len() < 2 || pairs == 0 {
        return None;
    }
    let frame = Frame::around(points.maps.iter().flat_map(|map| &map[..pairs]));
    let bounds = |sample: usize| {
        let places = points.maps.iter().map(|map| map[sample]);
        places.fold(
            [[f64::INFINITY; 2], [f64::NEG_INFINITY; 2]],
            |all, place| {
                [0, 1].map(|end| {
                    [0, 1].map(|axis| match end {
                        0 => all[0][axis].min(place[axis]),
                        _ => all[1][axis].max(place[axis]),
                    })
                })
            },
        )
    };
    let around = |sample: usize, half: [f64; 2]| {
        let [low, high] = bounds(sample);
        let centre = [0.5 * (low[0] + high[0]), 0.5 * (low[1] + high[1])];
        Window {
            x: (centre[0] - half[0], centre[0] + half[0]),
            y: (centre[1] - half[1], centre[1] + half[1]),
        }
    };
    let free = |window: &Window| {
        let share = |axis: usize, value: f64| (value - frame.low[axis]) / frame.span(axis);
        let inside = share(0, window.x.1) < 1.0 && share(1, window.y.1) < 1.0;
        inside
            && share(0, window.x.0) > 0.0
            && share(1, window.y.0) > 0.0
            && (share(0, window.x.0) > INSET || share(1, window.y.0) > INSET)
    };
    let shown = |window: &Window| {
        let whole = |&sample: &usize| {
            let [low, high] = bounds(sample);
            low[0] > window.x.0
                && high[0] < window.x.1
                && low[1] > window.y.0
                && high[1] < window.y.1
        };
        (0..pairs).filter(whole).count()
    };
    let half = [0, 1].map(|axis| 0.5 * WINDOW * frame.span(axis));
    let best = (0..pairs)
        .map(|sample| around(sample, half))
        .filter(free)
        .map(|window| (shown(&window), window))
        .filter(|&(count, _)| count > 0)
        // The first of those that show as many.
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    if let Some((_, window)) = best {
        return Some(window);
    }
    let size = |sample: usize| {
        let [low, high] = bounds(sample);
        (high[0] - low[0]).max(high[1] - low[1])
    };
    let loose = (0..pairs).map(|sample| {
        let half = 0.75 * size(sample);
        (size(sample), around(sample, [half; 2]))
    });
    loose
        .filter(|(size, window)| *size > 0.0 && free(window))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, window)| window)
}

/// Where a map lies on the sheet.
struct Frame {
    /// What is at the lower left corner.
    low: [f64; 2],
    /// What is at the upper right corner.
    high: [f64; 2],
    /// The upper left corner on the sheet.
    corner: [f64; 2],
    /// Its side on the sheet.
    side: f64,
}

impl Frame {
    /// The sheet's frame for these points.
    fn around<'a>(points: impl Iterator<Item = &'a [f64; 2]>) -> Self {
        let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        for point in points {
            for axis in 0..2 {
                low[axis] = low[axis].min(point[axis]);
                high[axis] = high[axis].max(point[axis]);
            }
        }
        for axis in 0..2 {
            // Beyond the points on either side, also where all of them lie on one side of the origin or on a line.
            let middle = 0.5 * (low[axis] + high[axis]);
            let half = (0.5 * REACH * (high[axis] - low[axis])).max(1e-9);
            (low[axis], high[axis]) = (middle - half, middle + half);
        }
        Self {
            low,
            high,
            corner: [0.0; 2],
            side: SIDE,
        }
    }

    fn span(&self, axis: usize) -> f64 {
        self.high[axis] - self.low[axis]
    }

    /// A point's place on the sheet.
    fn at(&self, point: [f64; 2]) -> [f64; 2] {
        let share = |axis: usize| (point[axis] - self.low[axis]) / self.span(axis);
        [
            self.corner[0] + share(0) * self.side,
            self.corner[1] + (1.0 - share(1)) * self.side,
        ]
    }

    fn holds(&self, point: [f64; 2]) -> bool {
        (0..2).all(|axis| self.low[axis] <= point[axis] && point[axis] <= self.high[axis])
    }

    /// The part of a line that lies within, if any.
    fn clip(&self, from: [f64; 2], to: [f64; 2]) -> Option<[[f64; 2]; 2]> {
        let (mut first, mut last) = (0.0f64, 1.0f64);
        for axis in 0..2 {
            let step = to[axis] - from[axis];
            let (low, high) = (self.low[axis] - from[axis], self.high[axis] - from[axis]);
            if step == 0.0 {
                if low > 0.0 || high < 0.0 {
                    return None;
                }
                continue;
            }
            let (enter, leave) = (low / step, high / step);
            first = first.max(enter.min(leave));
            last = last.min(enter.max(leave));
        }
        let along = |share: f64| [0, 1].map(|axis| from[axis] + share * (to[axis] - from[axis]));
        (first < last).then(|| [along(first), along(last)])
    }
}

/// Labels that samples have, in rising order.
fn present(points: Points<'_>) -> Vec<u32> {
    let mut labels: Vec<u32> = points.labels.unwrap_or_default().to_vec();
    labels.sort_unstable();
    labels.dedup();
    labels
}

fn sheet(width: f64, height: f64, title: &str) -> Drawing {
    let background = |high: [f64; 2], colour: Colour| Mark::Rectangle {
        low: [0.0; 2],
        high,
        paint: colour.into(),
    };
    Drawing {
        width,
        height,
        title: title.to_owned(),
        marks: vec![
            background([width, height], [255; 3]),
            background([SIDE; 2], LAVENDER),
        ],
    }
}

fn border(drawing: &mut Drawing) {
    let frame = Mark::frame([0.5; 2], [SIDE - 0.5; 2], 1.0, GREY.into());
    drawing.marks.push(frame);
}

/// A line of a legend, centred at the height of `at`.
fn entry(drawing: &mut Drawing, at: [f64; 2], colour: Colour, name: &str) {
    let name = match name.chars().count() > LETTERS {
        true => name.chars().take(LETTERS - 2).chain("..".chars()).collect(),
        false => name.to_owned(),
    };
    drawing.marks.push(Mark::Disc {
        at,
        radius: 7.0,
        paint: colour.into(),
    });
    drawing.marks.push(Mark::Text {
        at: [at[0] + 14.0, at[1] + 0.35 * LETTER],
        size: LETTER,
        bold: false,
        text: name,
    });
}

/// The samples within `frame`: original and views joined in a ring, lines under points.
fn loops(drawing: &mut Drawing, points: Points<'_>, pairs: usize, frame: &Frame, radius: f64) {
    for sample in 0..pairs {
        let corners: Vec<[f64; 2]> = points.maps.iter().map(|map| map[sample]).collect();
        let next = corners.iter().cycle().skip(1);
        // Two corners have one line between them, not one there and one back.
        let lines = if corners.len() == 2 { 1 } else { corners.len() };
        for (&from, &to) in corners.iter().zip(next).take(lines) {
            if let Some(line) = frame.clip(from, to) {
                drawing.marks.push(Mark::Line {
                    points: line.map(|point| frame.at(point)).to_vec(),
                    width: 0.25 * radius,
                    dashed: false,
                    paint: BLACK.into(),
                });
            }
        }
    }
    // Originals last: with half of their colour neither hides the other.
    for (view, map) in points.maps.iter().enumerate().rev() {
        let colour = match view {
            0 => colour::ORIGINAL,
            _ => colour::VIEW,
        };
        for &point in map[..pairs].iter().filter(|point| frame.holds(**point)) {
            drawing.marks.push(Mark::Disc {
                at: frame.at(point),
                radius,
                paint: Paint {
                    colour,
                    opacity: 0.5,
                },
            });
        }
    }
}

/// What is in `window`, enlarged in the lower left of the map.
fn inset(drawing: &mut Drawing, points: Points<'_>, pairs: usize, whole: &Frame, window: Window) {
    let side = INSET * SIDE;
    let (low, high) = ([0.0, SIDE - side], [side, SIDE]);
    let part = Frame {
        low: [window.x.0, window.y.0],
        high: [window.x.1, window.y.1],
        corner: low,
        side,
    };
    let (left, top) = (window.x.0, window.y.1);
    let [from, to] = [[left, top], [window.x.1, window.y.0]].map(|point| whole.at(point));
    let connector = Paint {
        colour: BLACK,
        opacity: 0.5,
    };
    let corners = [(from, low), (to, high)];
    for (window, inset) in corners {
        drawing.marks.push(Mark::Line {
            points: vec![window, inset],
            width: 3.0,
            dashed: true,
            paint: connector,
        });
    }
    drawing.marks.push(Mark::frame(from, to, 1.5, BLACK.into()));
    drawing.marks.push(Mark::Rectangle {
        low,
        high,
        paint: LIGHT_STEEL_BLUE.into(),
    });
    loops(drawing, points, pairs, &part, 6.0);
    drawing
        .marks
        .push(Mark::frame(low, high, 1.5, BLACK.into()));
    let times = INSET * whole.span(0) / part.span(0);
    let scale = match times < 9.95 {
        true => format!("zoom in ({times:.1}X)"),
        false => format!("zoom in ({times:.0}X)"),
    };
    for (x, y, size, bold, text) in [
        (0.125, 0.06, 21.0, true, "Augmented Views"),
        (0.5, 0.975, 18.0, false, &scale),
    ] {
        let at = [low[0] + x * side, low[1] + y * side];
        let wide = 0.62 * size * text.len() as f64;
        // Letters on points are hard to read.
        drawing.marks.push(Mark::Rectangle {
            low: [at[0] - 4.0, at[1] - 0.85 * size],
            high: [at[0] + wide + 4.0, at[1] + 0.25 * size],
            paint: Paint {
                colour: LIGHT_STEEL_BLUE,
                opacity: 0.75,
            },
        });
        drawing.marks.push(Mark::Text {
            at,
            size,
            bold,
            text: text.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps() -> Vec<Vec<[f64; 2]>> {
        // Forty samples on a spiral around the origin, their views close by.
        let place = |sample: usize, by: f64| {
            let angle = sample as f64 * 0.7;
            let radius = 1.0 + sample as f64 * 0.25;
            [radius * angle.cos() + by, radius * angle.sin() - 0.5 * by]
        };
        [0.0, 0.1, -0.07]
            .iter()
            .map(|&by| (0..40).map(|sample| place(sample, by)).collect())
            .collect()
    }

    fn inside(drawing: &Drawing) {
        let within = |[x, y]: [f64; 2]| {
            x >= -1e-9 && y >= -1e-9 && x <= drawing.width + 1e-9 && y <= drawing.height + 1e-9
        };
        for mark in &drawing.marks {
            match mark {
                Mark::Disc { at, .. } | Mark::Text { at, .. } => assert!(within(*at), "{mark:?}"),
                Mark::Line { points, .. } => assert!(points.iter().all(|&p| within(p)), "{mark:?}"),
                Mark::Rectangle { low, high, .. } => {
                    assert!(within(*low) && within(*high) && low[0] < high[0] && low[1] < high[1]);
                }
            }
        }
    }

    fn discs(drawing: &Drawing, colour: Colour, radius: f64) -> usize {
        let is = |mark: &&Mark| matches!(mark, Mark::Disc { paint, radius: own, .. } if paint.colour == colour && *own == radius);
        drawing.marks.iter().filter(is).count()
    }

    #[test]
    fn originals_have_the_colours_of_their_classes() {
        let maps = maps();
        let labels: Vec<u32> = (0..40).map(|sample| [7, 2, 5][sample % 3]).collect();
        let classes: Vec<String> = (0..9).map(|class| format!("class {class}")).collect();
        let drawing = full(Points {
            maps: &maps,
            labels: Some(&labels),
            classes: &classes,
        });
        inside(&drawing);
        let colours = colour::classes(3);
        // Labels 2, 5 and 7, with 13, 13 and 14 samples.
        let counts = [0, 1, 2].map(|class| discs(&drawing, colours[class], 3.5));
        assert_eq!(counts, [13, 13, 14]);
        let texts: Vec<_> = drawing
            .marks
            .iter()
            .filter_map(|mark| match mark {
                Mark::Text { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(texts, ["class 2", "class 5", "class 7"]);
        let plain = full(Points {
            maps: &maps,
            labels: None,
            classes: &[],
        });
        assert_eq!(plain.width, SIDE);
        assert_eq!(discs(&plain, colour::ORIGINAL, 3.5), 40);
    }

    #[test]
    fn views_are_joined_to_their_originals_and_enlarged() {
        let maps = maps();
        let points = Points {
            maps: &maps,
            labels: None,
            classes: &[],
        };
        let window = telling_window(points, 30).unwrap();
        let drawing = augmented(points, 30, Some(window)).unwrap();
        inside(&drawing);
        assert_eq!(discs(&drawing, colour::ORIGINAL, 3.0), 30);
        assert_eq!(discs(&drawing, colour::VIEW, 3.0), 60);
        let enlarged = discs(&drawing, colour::ORIGINAL, 6.0);
        assert!((1..10).contains(&enlarged), "{enlarged}");
        // Without a window three lines for each sample and the border's.
        let bare = augmented(points, 30, None).unwrap();
        let lines = bare.marks.iter().filter(|m| matches!(m, Mark::Line { .. }));
        assert_eq!(lines.count(), 3 * 30 + 1);
        let alone = Points {
            maps: &maps[..1],
            ..points
        };
        assert!(augmented(alone, 30, None).is_none() && telling_window(alone, 30).is_none());
    }

    #[test]
    fn lines_are_cut_at_the_window() {
        let frame = Frame {
            low: [0.0; 2],
            high: [1.0; 2],
            corner: [0.0; 2],
            side: 1.0,
        };
        let cut = frame.clip([-1.0, 0.5], [3.0, 0.5]).unwrap();
        assert_eq!(cut, [[0.0, 0.5], [1.0, 0.5]]);
        assert!(frame.clip([-1.0, 2.0], [3.0, 2.0]).is_none());
        assert!(frame.clip([-1.0, 0.5], [0.5, 2.5]).is_none());
        assert_eq!(
            frame.clip([0.25, 0.25], [0.5, 0.75]).unwrap(),
            [[0.25, 0.25], [0.5, 0.75]]
        );
    }
}
