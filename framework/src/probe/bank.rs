//! Linear classifiers that learn side by side from the same features.
//!
//! A head is softmax regression by stochastic gradient descent: v ← μ v + (g + λ w), then w ← w − η v, as PyTorch does it.
//! Heads of a bank differ in learning rate and in whether they see the feature itself or the feature divided by its
//! length; they start alike and never meet, so a head among many has the same bits as alone. What they share is the
//! features: those are packed once, and each head multiplies them with its own weights.
//!
//! A batch has few rows and weights are many, so products have classes as rows and samples as columns. The gradient of
//! some classes is followed as soon as it is there and never kept. Samples are cut into groups of fixed size, whose
//! sums are added in order: results do not depend on the number of threads.

mod input;
mod scores;

use rayon::prelude::*;
use smallfry_nn::{
    Parameters,
    init::Init,
    kernel::{
        Level,
        gemm::{Finish, Rows, multiply_packed},
    },
    network::{Role, Spec},
};

use super::figures::Figures;
use input::{Input, unit_rows};
use scores::Task;

/// Standard deviation of the weights that a head starts with; biases start at 0. (The reference's, and MoCo's before it.)
pub const DEVIATION: f32 = 0.01;

/// Samples whose scores are worked out together.
const GROUP: usize = 128;
/// Classes whose weights are moved together.
const BLOCK: usize = 64;
/// Distance added between rows, as rows a power of two apart would push each other out of the cache.
const GAP: usize = 16;
/// What distinguishes a head from others of its bank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    /// Learning rate, which a schedule scales.
    pub rate: f64,
    /// Whether features are divided by their length first.
    pub unit_length: bool,
}

/// The constants of descent that all heads of a bank share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Share of the last velocity that is kept.
    pub momentum: f64,
    /// Weight decay, added to the gradient as this share of the weight.
    pub decay: f64,
}

/// The numbers of a head, without gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// `[classes, width]`.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
    /// Velocity of the weight.
    pub weight_velocity: Vec<f32>,
    /// Velocity of the bias.
    pub bias_velocity: Vec<f32>,
}

/// Linear classifiers of the same start.
pub struct Bank {
    level: Level,
    classes: usize,
    width: usize,
    rule: Rule,
    heads: Vec<Learner>,
    raw: Input,
    unit: Input,
}

/// A head at work; rows of weights and velocities are `width + GAP` apart.
struct Learner {
    head: Head,
    weight: Vec<f32>,
    bias: Vec<f32>,
    weight_velocity: Vec<f32>,
    bias_velocity: Vec<f32>,
    /// Each group's scores, and then their gradients, `[classes, GROUP + GAP]`.
    products: Vec<Vec<f32>>,
    failed: bool,
}

impl Bank {
    /// Heads for `classes` classes on features of `width` numbers; their weights are drawn from `seed`.
    pub fn new(classes: usize, width: usize, rule: Rule, heads: &[Head], seed: u64) -> Self {
        let spec = |name: &str, shape: &[usize], init| Spec {
            name: format!("fc.{name}"),
            shape: shape.to_vec(),
            role: Role::Weight,
            init,
        };
        let mut start = Parameters::new(vec![
            spec("weight", &[classes, width], Init::Normal(DEVIATION)),
            spec("bias", &[classes], Init::Constant(0.0)),
        ]);
        start.initialise(seed);
        let state = State {
            weight: start.weight("fc.weight").to_vec(),
            bias: start.weight("fc.bias").to_vec(),
            weight_velocity: vec![0.0; classes * width],
            bias_velocity: vec![0.0; classes],
        };
        let mut bank = Self {
            level: Level::current(),
            classes,
            width,
            rule,
            heads: Vec::new(),
            raw: Input::default(),
            unit: Input::default(),
        };
        for &head in heads {
            let spread = |values: &[f32]| bank.spread(values);
            bank.heads.push(Learner {
                head,
                weight: spread(&state.weight),
                bias: state.bias.clone(),
                weight_velocity: spread(&state.weight_velocity),
                bias_velocity: state.bias_velocity.clone(),
                products: Vec::new(),
                failed: false,
            });
        }
        bank
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Width of the features.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The heads, in the order in which they were given.
    pub fn heads(&self) -> impl ExactSizeIterator<Item = Head> + '_ {
        self.heads.iter().map(|learner| learner.head)
    }

    /// Takes a step on `features` `[batch, width]` of classes `labels`, the rates times `factor`; gives the figures of
    /// each head before the step. A head whose loss is no number takes no step, then or later.
    ///
    /// # Panics
    /// If a label is no class, or there are not as many as features.
    pub fn step(&mut self, features: &[f32], labels: &[u32], factor: f64) -> Vec<Figures> {
        let figures = self.forward(features, labels, true);
        for (learner, figures) in self.heads.iter_mut().zip(&figures) {
            learner.failed |= !figures.loss.is_finite();
        }
        let (classes, width, rule) = (self.classes, self.width, self.rule);
        let (raw, unit) = (&self.raw, &self.unit);
        self.heads
            .par_iter_mut()
            .filter(|learner| !learner.failed)
            .for_each(|learner| {
                let input = if learner.head.unit_length { unit } else { raw };
                learner.descend(input, [classes, width], rule, factor);
            });
        figures
    }

    /// The figures of each head on `features` `[batch, width]` of classes `labels`.
    ///
    /// # Panics
    /// As [`step`](Self::step).
    pub fn judge(&mut self, features: &[f32], labels: &[u32]) -> Vec<Figures> {
        self.forward(features, labels, false)
    }

    /// Whether the loss of head `i` was no number in some step.
    pub fn failed(&self, i: usize) -> bool {
        self.heads[i].failed
    }

    /// The numbers of head `i`.
    pub fn state(&self, i: usize) -> State {
        let learner = &self.heads[i];
        let gather = |values: &[f32]| -> Vec<f32> {
            let rows = values.chunks(self.width + GAP);
            rows.flat_map(|row| &row[..self.width]).copied().collect()
        };
        State {
            weight: gather(&learner.weight),
            bias: learner.bias.clone(),
            weight_velocity: gather(&learner.weight_velocity),
            bias_velocity: learner.bias_velocity.clone(),
        }
    }

    /// Gives head `i` other numbers; `failed` as [`failed`](Self::failed) says it of the head they come from.
    ///
    /// # Panics
    /// If they are of another shape.
    pub fn set_state(&mut self, i: usize, state: &State, failed: bool) {
        assert_eq!(state.weight.len(), self.classes * self.width);
        assert_eq!(state.weight_velocity.len(), self.classes * self.width);
        assert_eq!(state.bias.len(), self.classes);
        assert_eq!(state.bias_velocity.len(), self.classes);
        let weight = self.spread(&state.weight);
        let weight_velocity = self.spread(&state.weight_velocity);
        let learner = &mut self.heads[i];
        (learner.weight, learner.weight_velocity) = (weight, weight_velocity);
        learner.bias.copy_from_slice(&state.bias);
        learner.bias_velocity.copy_from_slice(&state.bias_velocity);
        learner.failed = failed;
    }

    /// Rows with gaps behind them.
    fn spread(&self, values: &[f32]) -> Vec<f32> {
        let stride = self.width + GAP;
        let mut out = vec![0.0; self.classes * stride];
        for (row, values) in out.chunks_mut(stride).zip(values.chunks(self.width)) {
            row[..self.width].copy_from_slice(values);
        }
        out
    }

    /// Scores, figures and, for a step, the gradients of the scores.
    fn forward(&mut self, features: &[f32], labels: &[u32], step: bool) -> Vec<Figures> {
        let (level, width, classes) = (self.level, self.width, self.classes);
        assert_eq!(
            features.len(),
            labels.len() * width,
            "a label for each feature"
        );
        assert!(
            labels.iter().all(|&label| (label as usize) < classes),
            "labels are numbers of classes"
        );
        let wanted = |unit_length| move |learner: &Learner| learner.head.unit_length == unit_length;
        if self.heads.iter().any(wanted(false)) {
            self.raw.pack(level, width, features, step);
        }
        if self.heads.iter().any(wanted(true)) {
            self.unit
                .pack(level, width, &unit_rows(features, width), step);
        }
        let count = labels.len().div_ceil(GROUP);
        for learner in &mut self.heads {
            let empty = || vec![0.0; classes * (GROUP + GAP)];
            if learner.products.len() < count {
                learner.products.resize_with(count, empty);
            }
        }
        let share = step.then(|| 1.0 / labels.len() as f32);
        let (raw, unit) = (&self.raw, &self.unit);
        let tasks: Vec<_> = self
            .heads
            .iter_mut()
            .flat_map(|learner| {
                let input = if learner.head.unit_length { unit } else { raw };
                let (weight, bias) = (&learner.weight[..], &learner.bias[..]);
                let groups = learner.products.iter_mut().zip(&input.groups);
                groups
                    .zip(labels.chunks(GROUP))
                    .map(move |((products, group), labels)| Task {
                        weight,
                        bias,
                        products,
                        group,
                        labels,
                    })
            })
            .collect();
        let parts: Vec<Figures> = tasks
            .into_par_iter()
            .with_max_len(1)
            .map(|task| task.run(width, share))
            .collect();
        let mut figures = vec![Figures::default(); self.heads.len()];
        for (figures, parts) in figures.iter_mut().zip(parts.chunks(count.max(1))) {
            parts.iter().for_each(|part| figures.add(part));
        }
        figures
    }
}

impl Learner {
    /// Follows the gradients that `products` holds.
    fn descend(&mut self, input: &Input, [classes, width]: [usize; 2], rule: Rule, factor: f64) {
        let stride = width + GAP;
        let rate = (self.head.rate * factor) as f32;
        let (momentum, decay) = (rule.momentum as f32, rule.decay as f32);
        let follow = move |weight: &mut f32, velocity: &mut f32, gradient: f32| {
            *velocity = momentum * *velocity + (gradient + decay * *weight);
            *weight -= rate * *velocity;
        };
        let products = &self.products;
        self.weight
            .par_chunks_mut(BLOCK * stride)
            .zip(self.weight_velocity.par_chunks_mut(BLOCK * stride))
            .enumerate()
            .for_each(|(block, (weight, velocity))| {
                let first = block * BLOCK;
                let rows = BLOCK.min(classes - first);
                let mut gradient = vec![0.0; rows * stride];
                for (number, (group, products)) in input.groups.iter().zip(products).enumerate() {
                    multiply_packed(
                        rows,
                        Rows {
                            values: &products[first * (GROUP + GAP)..],
                            stride: GROUP + GAP,
                        },
                        &group.backward,
                        &mut gradient,
                        stride,
                        Finish {
                            accumulate: number > 0,
                            ..Finish::default()
                        },
                    );
                }
                // What lies in the gaps stays zero: all three are zero there.
                for ((weight, velocity), gradient) in weight.iter_mut().zip(velocity).zip(&gradient)
                {
                    follow(weight, velocity, *gradient);
                }
            });
        let biases = self.bias.iter_mut().zip(&mut self.bias_velocity);
        for (class, (bias, velocity)) in biases.enumerate() {
            let groups = input.groups.iter().zip(products);
            let parts = groups.map(|(group, products)| {
                let row = &products[class * (GROUP + GAP)..][..group.samples];
                row.iter().map(|&d| f64::from(d)).sum::<f64>()
            });
            follow(bias, velocity, parts.sum::<f64>() as f32);
        }
    }
}

#[cfg(test)]
mod tests;
