//! How two crops of one image overlap, in the image and in the views made of them.
//!
//! The published thresholds were chosen with a measure that takes the far edges of rectangles as inclusive although
//! their areas are height times width: the intersection of two rectangles is one row and one column larger than the
//! pixels they share. So rectangles that only touch overlap a little, and the IoU of equal ones is above 1. It is kept.

use crate::image::Rectangle;

/// The edges of a rectangle: top, left, and one past the last row and column.
fn edges(r: Rectangle) -> (usize, usize, usize, usize) {
    (r.top, r.left, r.top + r.height, r.left + r.width)
}

/// The pixels that two rectangles share; where they only touch, a rectangle without rows or columns; none where at
/// least one pixel lies between them.
pub fn overlap(a: Rectangle, b: Rectangle) -> Option<Rectangle> {
    let (a, b) = (edges(a), edges(b));
    let (top, left) = (a.0.max(b.0), a.1.max(b.1));
    let (bottom, right) = (a.2.min(b.2), a.3.min(b.3));
    (bottom >= top && right >= left).then(|| Rectangle {
        top,
        left,
        height: bottom - top,
        width: right - left,
    })
}

/// Intersection over union of two rectangles, the intersection with inclusive far edges: from 0, for rectangles that
/// at least one pixel lies between, to somewhat more than 1.
pub fn iou(a: Rectangle, b: Rectangle) -> f64 {
    let area = |r: Rectangle| r.height as f64 * r.width as f64;
    let Some(shared) = overlap(a, b) else {
        return 0.0;
    };
    let intersection = (shared.height + 1) as f64 * (shared.width + 1) as f64;
    intersection / (area(a) + area(b) - intersection)
}

/// Whether one of two rectangles lies within the other; edges may coincide.
pub fn nested(a: Rectangle, b: Rectangle) -> bool {
    let within = |inner: Rectangle, outer: Rectangle| {
        let (inner, outer) = (edges(inner), edges(outer));
        inner.0 >= outer.0 && inner.1 >= outer.1 && inner.2 <= outer.2 && inner.3 <= outer.3
    };
    within(a, b) || within(b, a)
}

/// Where `shared`, a part of the crop `of`, comes to lie in the square view of `side` pixels that the crop is resized
/// to: at least one pixel, cut off at the view's border; none where nothing of it lies inside.
///
/// The size counts far edges as inclusive, as [`iou`] does, and both size and place are rounded down.
pub fn in_view(shared: Rectangle, of: Rectangle, side: usize) -> Option<Rectangle> {
    let length = |shared: usize, of: usize| {
        let share = (shared + 1) as f64 / (of + 1) as f64;
        ((share * side as f64) as usize).max(1)
    };
    let place = |shared: usize, of: usize, length: usize| {
        ((shared.saturating_sub(of)) as f64 / length.max(1) as f64 * side as f64) as usize
    };
    let (top, left) = (
        place(shared.top, of.top, of.height),
        place(shared.left, of.left, of.width),
    );
    (top < side && left < side).then(|| Rectangle {
        top,
        left,
        height: length(shared.height, of.height).min(side - top),
        width: length(shared.width, of.width).min(side - left),
    })
}

/// The rectangle in a view of `side` columns after the view is mirrored left to right.
///
/// # Panics
/// The rectangle sticks out.
pub fn mirrored(part: Rectangle, side: usize) -> Rectangle {
    Rectangle {
        left: side - part.left - part.width,
        ..part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{operation::crop::random_rectangle, random::Random};

    fn square(top: usize, left: usize) -> Rectangle {
        rectangle(top, left, 100, 100)
    }

    fn rectangle(top: usize, left: usize, height: usize, width: usize) -> Rectangle {
        Rectangle {
            top,
            left,
            height,
            width,
        }
    }

    #[test]
    fn iou_counts_far_edges_as_inclusive() {
        for (a, b, expected) in [
            (square(0, 0), square(0, 0), 10201.0 / 9799.0),
            // Side by side, corner to corner, one pixel apart.
            (square(0, 0), square(0, 100), 101.0 / 19899.0),
            (square(100, 100), square(0, 0), 1.0 / 19999.0),
            (square(0, 0), square(0, 101), 0.0),
            (square(0, 0), square(300, 0), 0.0),
            // Half of each, and a quarter.
            (square(0, 0), square(50, 0), 5151.0 / 14849.0),
            (square(7, 9), square(57, 59), 2601.0 / 17399.0),
            // One in the other.
            (square(0, 0), rectangle(10, 20, 30, 40), 1271.0 / 9929.0),
        ] {
            assert_eq!(iou(a, b), expected, "{a:?} {b:?}");
            assert_eq!(iou(b, a), expected, "{b:?} {a:?}");
        }
        assert!((iou(square(0, 0), square(0, 0)) - 1.04102).abs() < 5e-6);
        assert!((iou(square(0, 0), square(0, 100)) - 0.0050756).abs() < 5e-8);
    }

    #[test]
    fn nested_includes_common_edges() {
        let outer = rectangle(10, 10, 50, 40);
        for (inner, expected) in [
            (outer, true),
            (rectangle(10, 10, 50, 39), true),
            (rectangle(20, 15, 40, 35), true),
            (rectangle(20, 15, 41, 35), false),
            (rectangle(9, 10, 20, 20), false),
            (rectangle(30, 0, 5, 200), false),
        ] {
            assert_eq!(nested(inner, outer), expected, "{inner:?}");
            assert_eq!(nested(outer, inner), expected, "{inner:?}");
        }
    }

    #[test]
    fn overlaps_equal_those_counted_pixel_by_pixel() {
        let mut random = Random::new(&[4]);
        let mut drawn = || random_rectangle((24, 18), (0.02, 0.5), (0.75, 4.0 / 3.0), &mut random);
        let inside = |r: Rectangle, x: usize, y: usize| {
            (r.top..r.top + r.height).contains(&y) && (r.left..r.left + r.width).contains(&x)
        };
        let mut seen = [0; 3];
        for _ in 0..300 {
            let (a, b) = (drawn(), drawn());
            let both: Vec<_> = (0..18 * 24)
                .map(|i| (i % 24, i / 24))
                .filter(|&(x, y)| inside(a, x, y) && inside(b, x, y))
                .collect();
            match overlap(a, b) {
                None => seen[0] += 1,
                Some(shared) if shared.height * shared.width == 0 => seen[1] += 1,
                Some(shared) => {
                    seen[2] += 1;
                    assert_eq!(both.len(), shared.height * shared.width);
                    assert!(both.iter().all(|&(x, y)| inside(shared, x, y)));
                    continue;
                }
            }
            assert!(both.is_empty(), "{a:?} {b:?}");
        }
        assert!(seen.iter().all(|&count| count > 3), "{seen:?}");
    }

    #[test]
    fn the_overlap_is_found_again_in_the_view() {
        // 50 of 100 rows and 25 of 50 columns from the middle on, in a view of 224: 51 / 101 and 26 / 51 of it.
        let of = rectangle(20, 40, 100, 50);
        let shared = rectangle(70, 65, 50, 25);
        assert_eq!(
            in_view(shared, of, 224),
            Some(rectangle(112, 112, 112, 112))
        );
        // 113.1 rounds down to 113, and 112 + 114 would stick out: 26 / 51 * 224 = 114.2.
        let upper = rectangle(20, 40, 50, 25);
        assert_eq!(in_view(upper, of, 224), Some(rectangle(0, 0, 113, 114)));
        // All of it, and one pixel of a large crop.
        assert_eq!(in_view(of, of, 224), Some(rectangle(0, 0, 224, 224)));
        let large = rectangle(0, 0, 4000, 4000);
        assert_eq!(
            in_view(rectangle(3999, 10, 1, 1), large, 224),
            Some(rectangle(223, 0, 1, 1))
        );
        // Crops that touch: the strip lies past the view of the upper one and at the top of the lower one.
        let strip = overlap(square(0, 0), square(100, 0)).unwrap();
        assert_eq!((strip.height, strip.width), (0, 100));
        assert_eq!(in_view(strip, square(0, 0), 224), None);
        assert_eq!(
            in_view(strip, square(100, 0), 224),
            Some(rectangle(0, 0, 2, 224))
        );
        assert_eq!(
            mirrored(rectangle(3, 10, 5, 20), 224),
            rectangle(3, 194, 5, 20)
        );
    }
}
