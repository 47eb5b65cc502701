//! The contrast of SimCLR (Chen et al. 2020, equation 1): each view is to be told from the other images of its batch.
//!
//! In plain dfdx. There is one encoder and no queue, and gradients flow through both views. How it departs from the paper:
//! a view is compared with the other views of the batch that were made in the other place, not with those made in its own
//! as well, so a batch of b images gives b - 1 negatives instead of 2 (b - 1).

use std::sync::Arc;

use smallfry::{
    Backbone, Context, Encoder, Head, Invalid, Objective,
    backbone::HeadLayer,
    dfdx::{
        shapes::{Axes2, Axis},
        tensor::{OwnedTape, PutTape, SplitTape},
        tensor_ops::{PermuteTo, SumTo, TryMatMul},
    },
    encoder::ImageBatch,
    nn::network::Activation,
    objective::{Buffer, Learner, Moment, Outcome, Setup},
    operation::normalise,
    plugin,
    tensor::{Features, Plain, Traced, import, values},
};

plugin! {
    /// Contrast within a batch, without a queue (SimCLR)
    pub struct NTXent: Objective {
        /// Width of the embeddings.
        dim: usize = 64,
        /// What similarities are divided by, above 0.
        temperature: f64 = 0.5,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Objective>, Invalid> {
        if self.dim == 0 {
            return Err(Invalid::new("dim", "must be at least 1"));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(Invalid::new("temperature", "must be above 0"));
        }
        Ok(Box::new(self))
    }
}

impl Objective for NTXent {
    fn check(&self, setup: &Setup) -> Result<(), Invalid> {
        match setup.batch {
            0 | 1 => Err(Invalid::whole("needs batches of at least 2 images")
                .help("the other images of a batch are all that there is to contrast with")),
            _ => Ok(()),
        }
    }

    fn start(&self, setup: &Setup, backbone: &dyn Backbone) -> Result<Box<dyn Learner>, Invalid> {
        self.check(setup)?;
        let layer = |name: &str, output, activation| HeadLayer {
            name: name.to_owned(),
            output,
            norm: None,
            activation,
            dropout: 0.0,
            own_init: false,
        };
        let head = Head {
            layers: vec![
                layer("fc.0", backbone.width(), Activation::Relu),
                layer("fc.2", self.dim, Activation::Identity),
            ],
            ..Head::default()
        };
        Ok(Box::new(Contrast {
            encoder: backbone.encoder(&head, setup.seed),
            temperature: self.temperature as f32,
            batch: setup.batch,
        }))
    }
}

/// The objective in training.
struct Contrast {
    encoder: Box<dyn Encoder>,
    temperature: f32,
    batch: usize,
}

impl Learner for Contrast {
    fn loss(&mut self, views: &[Arc<ImageBatch>], moment: Moment) -> Outcome {
        // Each pass has random numbers of its own.
        let first = normalise(self.encoder.train(&views[0], 2 * moment.step));
        let second = normalise(self.encoder.train(&views[1], 2 * moment.step + 1));
        let turned = second.permute::<Features, Axes2<1, 0>>();
        let logits = first.matmul(turned) / self.temperature;
        let hits = hits(&values(&logits), views[0].batch);
        // Rows ask for the second view of each image, columns for the first; a tape can go with one of them, and joins
        // again in the sum.
        let (logits, tape) = logits.split_tape();
        let columns = logits.clone().put_tape(OwnedTape::default());
        let rows = cross_entropy(logits.put_tape(tape));
        let columns = cross_entropy(columns.permute::<Features, Axes2<1, 0>>());
        Outcome {
            loss: (rows + columns) * 0.5,
            measures: vec![("acc1", hits)],
        }
    }

    fn encoders(&self) -> Vec<(&'static str, &dyn Encoder)> {
        vec![("encoder", &*self.encoder)]
    }

    fn trained(&self) -> &'static [&'static str] {
        &["encoder"]
    }

    fn evaluated(&self) -> &'static str {
        "encoder"
    }

    fn chance_loss(&self) -> Option<f64> {
        Some((self.batch as f64).ln())
    }

    fn buffers(&self) -> Vec<Buffer> {
        Vec::new()
    }

    fn restore(&mut self, buffer: Buffer) -> Result<(), String> {
        Err(format!("this objective has no buffer `{}`", buffer.name))
    }
}

/// The mean over rows of minus the logarithm of the probability of column i in row i.
fn cross_entropy(logits: Traced<Features>) -> Traced<()> {
    let (batch, _) = *smallfry::dfdx::shapes::HasShape::shape(&logits);
    let mut diagonal = vec![0.0; batch * batch];
    diagonal
        .iter_mut()
        .step_by(batch + 1)
        .for_each(|value| *value = 1.0);
    let diagonal: Plain<Features> = import(diagonal, (batch, batch));
    (logits.log_softmax::<Axis<1>>() * diagonal).sum() * (-1.0 / batch as f32)
}

/// The percentage of rows whose largest logit is that of their own column.
fn hits(logits: &[f32], batch: usize) -> f64 {
    let rows = logits.chunks_exact(batch).enumerate();
    let hits = rows
        .filter(|(i, row)| row.iter().all(|value| *value <= row[*i]))
        .count();
    100.0 * hits as f64 / batch as f64
}

#[cfg(test)]
mod tests {
    use smallfry::tensor::scalar;

    use super::*;

    #[test]
    fn equal_logits_are_chance() {
        let logits: Plain<Features> = import(vec![3.0; 16], (4, 4));
        let loss = cross_entropy(logits.put_tape(OwnedTape::default()));
        assert!((scalar(&loss) - 4f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn clear_logits_cost_nothing() {
        let logits: Plain<Features> = import(vec![50.0, 0.0, 0.0, 50.0], (2, 2));
        assert_eq!(hits(&values(&logits), 2), 100.0);
        let loss = cross_entropy(logits.put_tape(OwnedTape::default()));
        assert!(scalar(&loss).abs() < 1e-6);
    }
}
