//! How near points are to each other before they are mapped: the probabilities p of t-SNE.
//!
//! Each point looks at the others through a Gaussian whose precision β gives its view the wished perplexity, the number
//! of neighbours that count; p(j|i) ∝ exp(−β_i·d_ij²). A pair's p is the mean of both views over the number of points, so all
//! pairs sum to one. The search for β is the reference's: start at 1, double or halve until bracketed, then bisect.

use smallfry_nn::kernel::Level;

use super::kernel;

/// Steps of the search for a precision.
const TRIES: usize = 50;

/// How near the entropy must come to the logarithm of the perplexity.
const TOLERANCE: f64 = 1e-5;

/// The view of a point: p(j|i) = exp(−precision · (d² − nearest)) / sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    /// β of the Gaussian.
    pub precision: f64,
    /// The least of the squared distances. Taken off all of them it changes no probability, and no sum can vanish.
    pub nearest: f64,
    /// The sum of the exponentials.
    pub sum: f64,
}

impl View {
    /// Searches the view of the wished `perplexity` on points in the squared `distances`, without the point itself.
    ///
    /// Ends after [`TRIES`] where there is none, such as where more points than that are equally near.
    pub fn search(distances: &[f64], perplexity: f64) -> Self {
        let wanted = perplexity.ln();
        let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
        let mut view = Self {
            precision: 1.0,
            nearest,
            sum: 0.0,
        };
        let (mut low, mut high) = (None, None);
        for _ in 0..TRIES {
            let surplus = view.look(distances) - wanted;
            if surplus.abs() <= TOLERANCE {
                return view;
            }
            let precision = view.precision;
            view.precision = if surplus > 0.0 {
                low = Some(precision);
                high.map_or(2.0 * precision, |high| 0.5 * (precision + high))
            } else {
                high = Some(precision);
                low.map_or(0.5 * precision, |low| 0.5 * (precision + low))
            };
        }
        view.look(distances);
        view
    }

    /// p(j|i) of a point in this squared distance.
    pub fn probability(&self, distance: f64) -> f64 {
        (-self.precision * (distance - self.nearest)).exp() / self.sum
    }

    /// Sets the sum for the precision; the entropy of the view.
    fn look(&mut self, distances: &[f64]) -> f64 {
        let level = Level::current();
        let (sum, moment) = kernel::gaussian(level, distances, self.nearest, self.precision);
        self.sum = sum;
        sum.ln() + self.precision * moment / sum
    }
}

#[cfg(test)]
mod tests {
    use smallfry_data::random::Random;

    use super::*;

    #[test]
    fn the_entropy_is_the_logarithm_of_the_perplexity() {
        for (seed, scale) in [(1, 1.0), (2, 1e-6), (3, 1e6)] {
            let mut random = Random::new(&[seed]);
            let distances: Vec<f64> = (0..200).map(|_| scale * random.unit()).collect();
            for perplexity in [2.0, 5.0, 30.0, 66.0] {
                let view = View::search(&distances, perplexity);
                let p: Vec<f64> = distances.iter().map(|&d| view.probability(d)).collect();
                let entropy: f64 = p.iter().map(|p| -p * p.max(1e-300).ln()).sum();
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                assert!((entropy - perplexity.ln()).abs() < 1e-5 + 1e-9, "{entropy}");
            }
        }
    }

    #[test]
    fn the_search_takes_the_references_steps() {
        // Two distances: the entropy of p and 1 − p with p = 1 / (1 + exp(−β)). The reference doubles from 1 and bisects, so
        // β is a short binary fraction, and no other search gives the same.
        let view = View::search(&[0.0, 1.0], 1.5);
        let mut beta: f64 = 1.0;
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        loop {
            let p = 1.0 / (1.0 + (-beta).exp());
            let surplus = -p * p.ln() - (1.0 - p) * (1.0 - p).ln() - 1.5f64.ln();
            if surplus.abs() <= 1e-5 {
                break;
            }
            if surplus > 0.0 {
                low = beta;
                beta = if high.is_infinite() {
                    beta * 2.0
                } else {
                    (beta + high) / 2.0
                };
            } else {
                high = beta;
                beta = if low.is_infinite() {
                    beta / 2.0
                } else {
                    (beta + low) / 2.0
                };
            }
        }
        assert_eq!(view.precision, beta);
        assert!(beta > 1.0 && beta < 4.0);
    }

    #[test]
    fn points_all_equally_near_share() {
        for distance in [0.0, 3.0, 1e9] {
            let view = View::search(&[distance; 100], 5.0);
            assert!((view.probability(distance) - 0.01).abs() < 1e-12);
        }
    }
}
