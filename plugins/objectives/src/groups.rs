//! Passes over parts of a batch, each with batch statistics of its own: what several devices do, by one process or by as
//! many as have equal numbers of parts.

use std::{iter, sync::Arc};

use smallfry::{
    Encoder, Invalid,
    data::random::Random,
    dfdx::shapes::HasShape,
    distributed::{
        Communicator, alone,
        collective::{exchange_rows, share_numbers},
    },
    encoder::ImageBatch,
    tensor::{Features, Plain, import, values},
};

/// The parts that batches are cut into, which processes share out.
pub struct Groups {
    count: usize,
    communicator: Arc<dyn Communicator>,
}

impl Groups {
    /// `count` of them, all of this process.
    pub fn of(count: usize) -> Self {
        let communicator = alone();
        Self {
            count,
            communicator,
        }
    }

    /// Whether `processes` can have equal numbers of `count` parts.
    ///
    /// # Errors
    /// Names the parameter `groups`.
    pub fn check_processes(count: usize, processes: usize) -> Result<(), Invalid> {
        if count.is_multiple_of(processes) {
            return Ok(());
        }
        let reason = format!("{count} cannot be shared out among {processes} processes");
        let above = count.next_multiple_of(processes);
        Err(Invalid::new("groups", reason).help(format!(
            "each process has batch statistics of its own: give `groups: {above}`, or start another number of processes"
        )))
    }

    /// Shares them out among the processes of `communicator`.
    pub fn join(&mut self, communicator: Arc<dyn Communicator>) {
        self.communicator = communicator;
    }

    /// How many there are, those of other processes included.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The processes.
    pub fn communicator(&self) -> &dyn Communicator {
        &*self.communicator
    }

    /// How many this process has.
    pub fn own(&self) -> usize {
        self.count / self.communicator.size()
    }

    /// How many images the whole batch has of which this process has `own`.
    pub fn batch(&self, own: usize) -> usize {
        own * self.communicator.size()
    }

    /// A key for random numbers for each part of this process.
    pub fn draw(&self, random: &mut Random) -> Vec<u64> {
        let all: Vec<_> = (0..self.count).map(|_| random.bits()).collect();
        let own = self.own();
        let first = own * self.communicator.rank();
        all[first..first + own].to_vec()
    }

    /// The rows `rows`, as many from each process, in the order of the processes.
    pub fn gather(&self, rows: Plain<Features>) -> Plain<Features> {
        if self.communicator.size() == 1 {
            return rows;
        }
        let (own, width) = *rows.shape();
        let batch = self.batch(own);
        let mut all = vec![0.0; batch * width];
        self.communicator.all_gather(&values(&rows), &mut all);
        import(all, (batch, width))
    }

    /// Gives the encoder the running statistics of the first part, also where that is another process's.
    pub fn share_statistics(&self, encoder: &mut dyn Encoder) {
        if self.communicator.size() > 1 {
            let mut parameters = encoder.parameters();
            share_numbers(&*self.communicator, parameters.statistics_mut());
        }
    }

    /// This process's parts of the images of all processes, cut from them in the given order.
    pub fn shuffle(&self, images: &Arc<ImageBatch>, order: &[usize]) -> Parts {
        if self.count == 1 {
            return parts(images, 1);
        }
        if self.communicator.size() == 1 {
            let (images, order, size) =
                (Arc::clone(images), order.to_vec(), order.len() / self.count);
            let part = move |number| {
                let rows = &order[number * size..(number + 1) * size];
                Arc::new(images.pick(rows))
            };
            return Box::new((0..self.count).map(part));
        }
        let width = images.values.len() / images.batch;
        let values = exchange_rows(&*self.communicator, &images.values, width, order);
        parts(&Arc::new(ImageBatch { values, ..**images }), self.own())
    }
}

/// Parts of a batch, each copied when it is wanted: a whole copy of a batch would go through the caches twice.
pub type Parts = Box<dyn Iterator<Item = Arc<ImageBatch>>>;

/// Runs `pass` on each of `parts` with the one of `draws` in its place. The encoder's running statistics end as the first
/// part leaves them, as the reference saves those of its first device.
pub fn by_groups<T>(
    encoder: &mut dyn Encoder,
    parts: Parts,
    draws: &[u64],
    mut pass: impl FnMut(&mut dyn Encoder, &Arc<ImageBatch>, u64) -> T,
) -> Vec<T> {
    let mut statistics = None;
    let results = draws
        .iter()
        .zip(parts)
        .map(|(&draw, part)| {
            let result = pass(encoder, &part, draw);
            if draws.len() > 1 {
                statistics.get_or_insert_with(|| {
                    let parameters = encoder.parameters();
                    let counters = parameters.counters().to_vec();
                    (parameters.statistics().to_vec(), counters)
                });
            }
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

/// `images` cut into `count` equal parts.
pub fn parts(images: &Arc<ImageBatch>, count: usize) -> Parts {
    let images = Arc::clone(images);
    if count == 1 {
        return Box::new(iter::once(images));
    }
    let size = images.batch / count;
    let part = move |number| {
        let rows: Vec<_> = (number * size..(number + 1) * size).collect();
        Arc::new(images.pick(&rows))
    };
    Box::new((0..count).map(part))
}

/// The rows of all parts, one after the other.
pub fn joined(parts: &[Plain<Features>]) -> Plain<Features> {
    if let [part] = parts {
        return part.clone();
    }
    let width = parts[0].shape().1;
    let rows: Vec<f32> = parts
        .iter()
        .flat_map(|part| values(part).into_owned())
        .collect();
    let shape = (rows.len() / width, width);
    import(rows, shape)
}

/// Rows that stand in `order`, back in the order of the batch.
pub fn put_back(rows: &Plain<Features>, order: &[usize]) -> Plain<Features> {
    let (count, width) = *rows.shape();
    let mut back = vec![0.0; count * width];
    for (row, &place) in values(rows).chunks_exact(width).zip(order) {
        back[place * width..(place + 1) * width].copy_from_slice(row);
    }
    import(back, (count, width))
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
        let groups = Groups::of(3);
        let draws = groups.draw(&mut Random::new(&[1]));
        let mut sizes = Vec::new();
        let shuffled = groups.shuffle(&images, &order);
        let parts = by_groups(&mut encoder, shuffled, &draws, |encoder, part, draw| {
            sizes.push(part.batch);
            encoder.momentum(part, draw)
        });
        assert_eq!(sizes, [2, 2, 2]);
        assert_eq!(*values(&parts[0]), [12.0, 3.0]);
        let rows = put_back(&joined(&parts), &order);
        assert_eq!(*values(&rows), [0.0, 3.0, 6.0, 9.0, 12.0, 15.0]);
        assert_eq!(encoder.parameters().statistics(), [1.0]);
    }
}
