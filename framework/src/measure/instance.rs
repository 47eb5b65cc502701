//! Telling instances apart: whether an image is nearer to another view of itself than to other images.

use super::{
    UnitRows,
    products::{dot, fold, slack},
};
use crate::metric::Watch;

/// What the images other than its own came to for a query.
#[derive(Clone, Copy, Default)]
struct Rivals {
    /// Those nearer than the query's own other view.
    nearer: usize,
    /// Those just as near.
    equal: usize,
}

/// For each of `top`, the share of images, in percent, that have fewer than that many other images nearer than their
/// own other view: `first` against `second` for the image itself, `first` against `first` for the others. Images just as
/// near share their places, so that features which are all equal give the accuracy of guessing.
///
/// This is the reference's instance discrimination between its original and its augmented images; nearness is exact in
/// double precision. Not a number without images.
///
/// # Panics
/// If the two differ in shape.
pub fn instance_accuracy(first: &UnitRows, second: &UnitRows, top: &[usize]) -> Vec<f64> {
    assert_eq!(
        (first.rows(), first.width()),
        (second.rows(), second.width()),
        "two views of the same images"
    );
    let (values, width, rows) = (first.values(), first.width(), first.rows());
    let own: Vec<f64> = (0..rows)
        .map(|row| dot(first.row(row), second.row(row)))
        .collect();
    let slack = slack(width);
    let tiles = fold(
        values,
        values,
        width,
        false,
        Vec::<Rivals>::new,
        |rivals, products| {
            for (place, (i, row)) in products.rows().enumerate() {
                if rivals.len() == place {
                    rivals.push(Rivals::default());
                }
                let (rivals, own) = (&mut rivals[place], own[i]);
                for (j, &product) in row.iter().enumerate() {
                    let j = products.right + j;
                    let gap = f64::from(product) - own;
                    if gap < -slack || i == j {
                        continue;
                    }
                    let exact = if gap > slack {
                        gap
                    } else {
                        dot(first.row(i), first.row(j)) - own
                    };
                    rivals.nearer += usize::from(exact > 0.0);
                    rivals.equal += usize::from(exact == 0.0);
                }
            }
        },
        Watch::default(),
    )
    .expect("nobody watches");
    let rivals = tiles.concat();
    let share = |top: usize| {
        let hits = rivals.iter().map(|rivals| {
            let left = top.saturating_sub(rivals.nearer) as f64;
            (left / (1 + rivals.equal) as f64).min(1.0)
        });
        100.0 * hits.sum::<f64>() / rows as f64
    };
    top.iter().map(|&top| share(top)).collect()
}

#[cfg(test)]
mod tests {
    use smallfry_data::random::Random;

    use super::*;

    fn unit(values: &[f32], width: usize) -> UnitRows {
        UnitRows::new(values, width).unwrap()
    }

    #[test]
    fn three_images_by_hand() {
        // On a circle at 0°, 10° and 90°; their other views at 5°, 40° and 90°.
        let circle = |degrees: [f32; 3]| {
            let points = degrees.map(|d| [d.to_radians().cos(), d.to_radians().sin()]);
            unit(&points.concat(), 2)
        };
        let (first, second) = (circle([0.0, 10.0, 90.0]), circle([5.0, 40.0, 90.0]));
        // The second image is nearer to the first (10°) than to itself (30°), but not than to the third (80°).
        let found = instance_accuracy(&first, &second, &[1, 2]);
        assert!((found[0] - 200.0 / 3.0).abs() < 1e-9 && found[1] == 100.0);
    }

    #[test]
    fn equal_features_give_the_accuracy_of_guessing() {
        let same = unit(&[0.6, 0.8].repeat(50), 2);
        let found = instance_accuracy(&same, &same, &[1, 5, 50, 60]);
        for (found, expected) in found.iter().zip([2.0, 10.0, 100.0, 100.0]) {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
        let zeros = unit(&[0.0; 20], 2);
        assert!((instance_accuracy(&zeros, &zeros, &[1])[0] - 10.0).abs() < 1e-9);
    }

    #[test]
    fn agrees_with_a_full_ranking_across_tiles_and_pieces() {
        let (rows, width) = (400, 7);
        let mut random = Random::new(&[4]);
        let values: Vec<f32> = (0..rows * width).map(|_| random.normal() as f32).collect();
        let moved: Vec<f32> = values
            .iter()
            .map(|value| value + 0.5 * random.normal() as f32)
            .collect();
        let (first, second) = (unit(&values, width), unit(&moved, width));
        let top = [1, 2, 5];
        let mut hits = [0.0; 3];
        for i in 0..rows {
            let own = dot(first.row(i), second.row(i));
            let nearer = (0..rows)
                .filter(|&j| j != i && dot(first.row(i), first.row(j)) > own)
                .count();
            for (hit, &top) in hits.iter_mut().zip(&top) {
                *hit += f64::from(u8::from(nearer < top));
            }
        }
        let found = instance_accuracy(&first, &second, &top);
        assert!(found[0] > 20.0 && found[0] < 90.0);
        for (found, hits) in found.iter().zip(hits) {
            assert!((found - hits / rows as f64 * 100.0).abs() < 1e-9);
        }
    }
}
