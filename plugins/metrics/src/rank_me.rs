//! RankMe: how many directions the features use (Garrido et al. 2023, equation 1; the effective rank of Roy and Vetterli
//! 2007).
//!
//! The exponential of the entropy of the singular values' shares of the features, not centred and not scaled, as in the
//! paper: from 1, all on one line, to the width. It needs no labels and tells of collapse, but a rank is not an accuracy:
//! compare encoders of one width. Singular values come from the Gram matrix in double precision, so those below 10⁻⁸ of the
//! largest are noise.

use smallfry::{
    Context, Invalid, Metric,
    data::random::Random,
    measure::{Gram, rank_of},
    metric::{Evaluation, Needs, Score},
    plugin,
};

use crate::judged;

/// The random stream of the images.
const IMAGES: u64 = 0x7261_6e6b;

/// Images that are read at once.
const ROWS: usize = 1024;

/// Shares of the sum of squares whose number of directions is given, in percent.
const SHARES: [u32; 4] = [50, 90, 95, 99];

plugin! {
    /// Number of directions that the features use (effective rank)
    pub struct RankMe: Metric {
        /// The most images that are looked at; of a larger set as many are drawn by the seed. The paper takes 25,600.
        images: usize = 50_000,
        /// Whether features are scaled to length one before.
        normalize: bool = false,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Metric>, Invalid> {
        match self.images {
            0 => Err(Invalid::new("images", "must be at least 1")),
            _ => Ok(Box::new(self)),
        }
    }
}

impl Metric for RankMe {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let set = judged::view(evaluation, 0)?;
        let random = Random::new(&[evaluation.seed, IMAGES]);
        let chosen = judged::draw(set.rows(), self.images, random);
        let mut gram = Gram::new(set.width());
        for (i, rows) in chosen.chunks(ROWS).enumerate() {
            evaluation
                .watch
                .reached((i * ROWS) as f64 / chosen.len() as f64)?;
            match self.normalize {
                true => gram.add(judged::unit_rows(set, rows)?.values()),
                false => gram.add(&judged::finite_rows(set, rows)?),
            }
        }
        let singular = gram.watched_singular_values(evaluation.watch)?;
        let whole: f64 = singular.iter().map(|value| value * value).sum();
        let directions = |percent: u32| {
            let wanted = f64::from(percent) / 100.0 * whole;
            let mut sum = 0.0;
            let below = singular.iter().take_while(|&&value| {
                let enough = sum >= wanted;
                sum += value * value;
                !enough
            });
            below.count() as f64
        };
        let table = SHARES.map(|share| {
            (
                format!("directions of {share} % of the squares"),
                directions(share),
            )
        });
        let mut setting = format!("of {}", singular.len());
        if chosen.len() < set.rows() {
            setting += &format!(", {} drawn images", chosen.len());
        }
        Ok(vec![Score {
            name: "RankMe".to_owned(),
            value: rank_of(&singular),
            unit: "directions",
            higher_is_better: true,
            error: None,
            setting,
            table: table.to_vec(),
        }])
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }
}

#[cfg(test)]
mod tests {
    use smallfry::testing::Set;

    use super::*;

    fn scores(values: Vec<f32>, width: usize, metric: &RankMe) -> Result<Score, String> {
        let set = Set {
            values,
            width,
            labels: None,
        };
        let scores = metric.evaluate(&Evaluation::of(&set));
        scores.map(|mut scores| scores.remove(0))
    }

    #[test]
    fn ranks_by_hand() {
        // The eight axes of eight dimensions, many times; the first axis twice as long halves no direction.
        let axes: Vec<f32> = (0..64).map(|i| f32::from(u8::from(i % 9 == 0))).collect();
        let score = scores(axes.repeat(50), 8, &RankMe::default()).unwrap();
        assert!((score.value - 8.0).abs() < 1e-4, "{}", score.value);
        assert_eq!(score.setting, "of 8");
        let table: Vec<f64> = score.table.iter().map(|(_, value)| *value).collect();
        assert_eq!(table, [4.0, 8.0, 8.0, 8.0]);
        // Singular values 3 and 1: shares of 3/4 and 1/4.
        let score = scores(vec![3.0, 0.0, 0.0, 1.0], 2, &RankMe::default()).unwrap();
        assert!((score.value - 4.0 / 3.0f64.powf(0.75)).abs() < 1e-5);
        let unit = RankMe {
            normalize: true,
            ..RankMe::default()
        };
        let score = scores(vec![3.0, 0.0, 0.0, 1.0], 2, &unit).unwrap();
        assert!((score.value - 2.0).abs() < 1e-5);
    }

    #[test]
    fn fewer_images_than_numbers_and_drawn_ones() {
        let values: Vec<f32> = (0..60).map(|i| ((i * 31) % 17) as f32).collect();
        let few = scores(values[..20].to_vec(), 10, &RankMe::default()).unwrap();
        assert_eq!(few.setting, "of 2");
        assert!(few.value <= 2.0 + 1e-5);
        let drawn = RankMe {
            images: 4,
            ..RankMe::default()
        };
        let drawn = scores(values, 10, &drawn).unwrap();
        assert_eq!(drawn.setting, "of 4, 4 drawn images");
    }

    #[test]
    fn broken_features_are_named() {
        let broken = scores(vec![1.0, 2.0, f32::NAN, 0.0], 2, &RankMe::default());
        assert!(broken.unwrap_err().contains("`row 1`"));
    }
}
