//! Passes over parts of a batch, each with batch statistics of its own: one device in the place of several.

use std::sync::Arc;

use smallfry::{
    Encoder,
    encoder::ImageBatch,
    tensor::{Features, Plain, import, values},
};

/// Runs `pass` on equal parts of `images`, cut from its rows in the given order. The encoder's running statistics end as
/// the first part leaves them, as the reference saves those of its first device.
pub fn by_groups<T>(
    encoder: &mut dyn Encoder,
    images: &Arc<ImageBatch>,
    order: &[usize],
    groups: usize,
    mut pass: impl FnMut(&mut dyn Encoder, &Arc<ImageBatch>) -> T,
) -> Vec<T> {
    if groups == 1 {
        return vec![pass(encoder, images)];
    }
    let mut statistics = None;
    let results = order
        .chunks(images.batch / groups)
        .map(|rows| {
            let result = pass(encoder, &Arc::new(images.pick(rows)));
            statistics.get_or_insert_with(|| {
                let parameters = encoder.parameters();
                let counters = parameters.counters().to_vec();
                (parameters.statistics().to_vec(), counters)
            });
            result
        })
        .collect();
    if let Some((statistics, counters)) = statistics {
        let mut parameters = encoder.parameters();
        parameters.statistics_mut().copy_from_slice(&statistics);
        parameters.counters_mut().copy_from_slice(&counters);
    }
    results
}

/// The embeddings of parts cut in `order`, back in the order of the batch.
pub fn put_back(parts: &[Plain<Features>], order: &[usize], width: usize) -> Plain<Features> {
    let mut rows = vec![0.0; order.len() * width];
    let size = order.len() / parts.len();
    for (part, order) in parts.iter().zip(order.chunks(size)) {
        for (row, &place) in values(part).chunks_exact(width).zip(order) {
            rows[place * width..(place + 1) * width].copy_from_slice(row);
        }
    }
    import(rows, (order.len(), width))
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard};

    use smallfry::{
        nn::{
            Parameters,
            init::Init,
            network::{Role, Spec},
        },
        tensor::Traced,
    };

    use super::*;

    /// Embeds an image as its first value, and counts its passes in a running statistic.
    struct FirstValue(Mutex<Parameters>);

    impl Encoder for FirstValue {
        fn width(&self) -> usize {
            1
        }

        fn train(&mut self, _: &Arc<ImageBatch>, _: u64) -> Traced<Features> {
            unreachable!("the test makes no gradient")
        }

        fn momentum(&mut self, images: &Arc<ImageBatch>, _: u64) -> Plain<Features> {
            self.parameters().statistics_mut()[0] += 1.0;
            self.embed(images)
        }

        fn embed(&self, images: &Arc<ImageBatch>) -> Plain<Features> {
            let pixels = images.values.len() / images.batch;
            let firsts = images.values.iter().step_by(pixels).copied();
            import(firsts.collect(), (images.batch, 1))
        }

        fn parameters(&self) -> MutexGuard<'_, Parameters> {
            self.0.lock().expect("no test panics with it")
        }
    }

    #[test]
    fn parts_come_back_in_order_and_the_first_keeps_its_statistics() {
        let mut encoder = FirstValue(Mutex::new(Parameters::new(vec![Spec {
            name: "running".into(),
            shape: vec![1],
            role: Role::Statistic,
            init: Init::Constant(0.0),
        }])));
        let images = Arc::new(ImageBatch {
            batch: 6,
            height: 1,
            width: 1,
            values: (0..18).map(|value| value as f32).collect(),
        });
        let order = [4, 1, 5, 0, 3, 2];
        let mut sizes = Vec::new();
        let parts = by_groups(&mut encoder, &images, &order, 3, |encoder, part| {
            sizes.push(part.batch);
            encoder.momentum(part, 0)
        });
        assert_eq!(sizes, [2, 2, 2]);
        assert_eq!(*values(&parts[0]), [12.0, 3.0]);
        let rows = put_back(&parts, &order, 1);
        assert_eq!(*values(&rows), [0.0, 3.0, 6.0, 9.0, 12.0, 15.0]);
        assert_eq!(encoder.parameters().statistics(), [1.0]);
    }
}
