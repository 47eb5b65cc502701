//! Statistics of features as they are: lengths, spread, dead numbers, redundancy.
//!
//! No figure of quality, but what explains one: lengths that vary make Euclidean and cosine neighbours differ, a feature's
//! number that never changes is lost width, and numbers that go together say the same thing twice (the off-diagonal
//! correlation that Barlow Twins, Zbontar et al. 2021, drives to zero). The deviation is of unit features, as in SimSiam
//! (Chen and He 2021): 1/√width where they spread evenly, 0 where all are equal.

use smallfry::{
    Context, Invalid, Metric,
    data::random::Random,
    measure::{Gram, deviation},
    metric::{Evaluation, FeatureSet, Score},
    plugin,
};

use crate::judged;

/// The random stream of the images.
const IMAGES: u64 = 0x7374_6174;

/// Images that are read at once.
const ROWS: usize = 1024;

/// The standard deviation of a number, as a share of the mean square of all, up to which it is dead.
const DEAD: f64 = 1e-6;

plugin! {
    /// Lengths, deviation, dead numbers and correlation of the features
    pub struct FeatureStatistics: Metric {
        /// The most images that are looked at; of a larger set as many are drawn by the seed.
        images: usize = 50_000,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Metric>, Invalid> {
        match self.images {
            0 | 1 => Err(Invalid::new("images", "must be at least 2")),
            _ => Ok(Box::new(self)),
        }
    }
}

impl Metric for FeatureStatistics {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let set = judged::view(evaluation, 0)?;
        let random = Random::new(&[evaluation.seed, IMAGES]);
        let chosen = judged::draw(set.rows(), self.images, random);
        let share = |i: usize| (i * ROWS) as f64 / chosen.len() as f64;
        let mut moments = Moments::new(set.width());
        for (i, rows) in chosen.chunks(ROWS).enumerate() {
            evaluation.watch.reached(0.2 * share(i))?;
            moments.add(&judged::finite_rows(set, rows)?);
        }
        let means = moments.means();
        let mut gram = Gram::new(set.width());
        for (i, rows) in chosen.chunks(ROWS).enumerate() {
            evaluation.watch.reached(0.2 + 0.8 * share(i))?;
            let mut features = judged::finite_rows(set, rows)?;
            for feature in features.chunks_exact_mut(means.len()) {
                for (value, mean) in feature.iter_mut().zip(&means) {
                    *value = (f64::from(*value) - mean) as f32;
                }
            }
            gram.add(&features);
        }
        let score = |name: &str, value: f64, unit, higher_is_better, table| Score {
            name: name.to_owned(),
            value,
            unit,
            higher_is_better,
            error: None,
            setting: match chosen.len() < set.rows() {
                true => format!("{} drawn images", chosen.len()),
                false => String::new(),
            },
            table,
        };
        let spread = Spread::of(&gram, moments.mean_square());
        let (length, length_deviation) = moments.length();
        let dead = 100.0 * spread.dead as f64 / means.len() as f64;
        let lengths = [
            ("deviation", length_deviation),
            ("least", moments.shortest),
            ("greatest", moments.longest),
        ];
        let lengths = lengths
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec();
        let even = 1.0 / (means.len() as f64).sqrt();
        let unit = unit_deviation(set, &chosen)?;
        Ok(vec![
            score("feature length", length, "", true, lengths),
            score(
                "feature deviation",
                unit,
                "",
                true,
                vec![("evenly spread".to_owned(), even)],
            ),
            score("dead numbers", dead, "%", false, Vec::new()),
            score(
                "feature correlation",
                spread.correlation,
                "",
                false,
                Vec::new(),
            ),
        ])
    }
}

/// The deviation of unit features.
fn unit_deviation(set: &dyn FeatureSet, chosen: &[u32]) -> Result<f64, String> {
    Ok(deviation(&judged::unit_rows(set, chosen)?))
}

/// Sums over features, number by number, and their lengths.
struct Moments {
    sums: Vec<f64>,
    rows: usize,
    squares: f64,
    lengths: f64,
    shortest: f64,
    longest: f64,
}

impl Moments {
    fn new(width: usize) -> Self {
        Self {
            sums: vec![0.0; width],
            rows: 0,
            squares: 0.0,
            lengths: 0.0,
            shortest: f64::INFINITY,
            longest: 0.0,
        }
    }

    fn add(&mut self, features: &[f32]) {
        for feature in features.chunks_exact(self.sums.len()) {
            let mut square = 0.0;
            for (sum, &value) in self.sums.iter_mut().zip(feature) {
                let value = f64::from(value);
                *sum += value;
                square += value * value;
            }
            let length = square.sqrt();
            self.rows += 1;
            self.squares += square;
            self.lengths += length;
            self.shortest = self.shortest.min(length);
            self.longest = self.longest.max(length);
        }
    }

    fn means(&self) -> Vec<f64> {
        let count = self.rows as f64;
        self.sums.iter().map(|sum| sum / count).collect()
    }

    /// The mean square of a number.
    fn mean_square(&self) -> f64 {
        self.squares / (self.rows * self.sums.len()) as f64
    }

    /// Mean and standard deviation of the lengths.
    fn length(&self) -> (f64, f64) {
        let count = self.rows as f64;
        let mean = self.lengths / count;
        (mean, (self.squares / count - mean * mean).max(0.0).sqrt())
    }
}

/// What the products of centred numbers say.
struct Spread {
    /// Numbers that do not change.
    dead: usize,
    /// The mean magnitude of the correlation of two numbers that change; 0 where there are no two.
    correlation: f64,
}

impl Spread {
    fn of(gram: &Gram, mean_square: f64) -> Self {
        let count = gram.rows() as f64;
        let deviation = |i: usize| (gram.product(i, i) / count).sqrt();
        let alive: Vec<(usize, f64)> = (0..gram.width())
            .map(|i| (i, deviation(i)))
            .filter(|(_, deviation)| *deviation > DEAD * mean_square.sqrt())
            .collect();
        let mut sum = 0.0;
        for (place, (i, first)) in alive.iter().enumerate() {
            for (j, second) in &alive[..place] {
                sum += (gram.product(*i, *j) / count / (first * second)).abs();
            }
        }
        let pairs = alive.len() * alive.len().saturating_sub(1) / 2;
        Self {
            dead: gram.width() - alive.len(),
            correlation: match pairs {
                0 => 0.0,
                pairs => sum / pairs as f64,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use smallfry::testing::Set;

    use super::*;

    #[test]
    fn statistics_by_hand() {
        // Number 0 is constant; number 2 is minus twice number 1; number 3 has nothing to do with either.
        let rows = [
            [1.0, 1.0, -2.0, 1.0],
            [1.0, -1.0, 2.0, 1.0],
            [1.0, 1.0, -2.0, -1.0],
            [1.0, -1.0, 2.0, -1.0],
        ];
        let set = Set {
            values: rows.concat(),
            width: 4,
            labels: None,
        };
        let metric = FeatureStatistics::default();
        let scores = metric.evaluate(&Evaluation::of(&set)).unwrap();
        let value = |name: &str| {
            let score = scores.iter().find(|score| score.name == name);
            score.expect("it is given").value
        };
        let length = 7f64.sqrt();
        assert!((value("feature length") - length).abs() < 1e-12);
        assert_eq!(value("dead numbers"), 25.0);
        assert!((value("feature correlation") - 1.0 / 3.0).abs() < 1e-12);
        // Unit features: deviations 0, 1/√7, 2/√7, 1/√7.
        assert!((value("feature deviation") - 1.0 / length).abs() < 1e-6);
    }

    #[test]
    fn equal_features_are_all_dead() {
        let set = Set {
            values: [0.5, 2.0].repeat(7),
            width: 2,
            labels: None,
        };
        let metric = FeatureStatistics::default();
        let scores = metric.evaluate(&Evaluation::of(&set)).unwrap();
        assert_eq!(scores[2].value, 100.0);
        assert_eq!(scores[3].value, 0.0);
    }
}
