//! Loaders over made-up data sets.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Samples of one pixel that holds their number; some cannot be read.
struct Numbers {
    count: usize,
    bad: Vec<usize>,
    loads: AtomicUsize,
}

impl Numbers {
    fn new(count: usize, bad: &[usize]) -> Arc<Self> {
        Arc::new(Self {
            count,
            bad: bad.to_vec(),
            loads: AtomicUsize::new(0),
        })
    }
}

impl Dataset for Numbers {
    fn len(&self) -> usize {
        self.count
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn label(&self, sample: usize) -> Option<u32> {
        Some(sample as u32 * 10)
    }

    fn name(&self, sample: usize) -> String {
        format!("number {sample}")
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        if self.bad.contains(&sample) {
            return Err(LoadError {
                name: self.name(sample),
                reason: "is bad".into(),
            });
        }
        Ok(Image::from_grey(1, 1, &[sample as u8]))
    }
}

/// The number itself, and a random one.
struct Plain;

impl Transform for Plain {
    fn lengths(&self) -> Vec<usize> {
        vec![1, 2]
    }

    fn measures(&self) -> &'static [&'static str] {
        &["number"]
    }

    fn apply(&self, image: &Image, key: Key, views: &mut [&mut [f32]], measures: &mut [f64]) {
        measures[0] = f64::from(image.pixels[0]);
        views[0][0] = f32::from(image.pixels[0]);
        views[1][0] = key.stream(1, 0).unit() as f32;
        views[1][1] = key.epoch as f32;
    }
}

fn settings(order: Order, batch: usize, workers: usize) -> Settings {
    Settings {
        batch,
        part: Part::WHOLE,
        order,
        seed: 3,
        start: Cursor::default(),
        end_epoch: 2,
        workers,
        queue: 2,
    }
}

fn all(dataset: &Arc<Numbers>, settings: Settings) -> Vec<Batch> {
    let loader = Loader::start(dataset.clone(), Arc::new(Plain), settings).unwrap();
    loader.map(Result::unwrap).collect()
}

fn content(batches: &[Batch]) -> Vec<(Cursor, Vec<Vec<f32>>, Vec<usize>)> {
    batches
        .iter()
        .map(|b| (b.cursor, b.views.clone(), b.samples.clone()))
        .collect()
}

#[test]
fn any_number_of_workers_gives_the_same_batches() {
    let dataset = Numbers::new(23, &[4, 11]);
    let one = all(&dataset, settings(Order::Shuffled, 5, 1));
    assert_eq!(one.len(), 8);
    for workers in [2, 7] {
        let many = all(&dataset, settings(Order::Shuffled, 5, workers));
        assert_eq!(content(&one), content(&many));
    }
}

#[test]
fn an_epoch_takes_each_sample_at_most_once_and_epochs_differ() {
    let dataset = Numbers::new(23, &[]);
    let batches = all(&dataset, settings(Order::Shuffled, 5, 2));
    let epochs: Vec<Vec<usize>> = batches
        .chunks(4)
        .map(|epoch| epoch.iter().flat_map(|b| b.samples.clone()).collect())
        .collect();
    assert_ne!(epochs[0], epochs[1]);
    for mut epoch in epochs {
        epoch.sort_unstable();
        epoch.dedup();
        assert_eq!(epoch.len(), 20);
    }
}

#[test]
fn a_whole_epoch_takes_each_sample_once() {
    let dataset = Numbers::new(23, &[]);
    let batches = all(&dataset, settings(Order::ShuffledWhole, 5, 2));
    assert_eq!(batches.len(), 2 * 5);
    for (epoch, batches) in batches.chunks(5).enumerate() {
        assert_eq!(batches[4].samples.len(), 3);
        let samples = batches.iter().flat_map(|batch| batch.samples.clone());
        assert!(
            batches
                .iter()
                .all(|batch| batch.cursor.epoch == epoch as u64)
        );
        let mut samples: Vec<_> = samples.collect();
        samples.sort_unstable();
        assert!(samples.into_iter().eq(0..23));
    }
    let damaged = Numbers::new(23, &[4, 11]);
    let batches = all(&damaged, settings(Order::ShuffledWhole, 5, 2));
    let replaced: usize = batches[..5].iter().map(|batch| batch.replaced).sum();
    assert_eq!(replaced, 2);
}

#[test]
fn a_loader_started_later_goes_on_with_the_same_bytes() {
    let dataset = Numbers::new(23, &[9]);
    let whole = all(&dataset, settings(Order::Shuffled, 5, 2));
    for (skip, start) in [(3, (0, 3)), (4, (1, 0)), (6, (1, 2))] {
        let mut later = settings(Order::Shuffled, 5, 3);
        later.start = Cursor {
            epoch: start.0,
            batch: start.1,
        };
        assert_eq!(content(&all(&dataset, later)), content(&whole[skip..]));
    }
}

#[test]
fn parts_of_a_batch_are_what_the_whole_has_in_their_place() {
    let dataset = Numbers::new(20, &[4, 11]);
    let whole = all(&dataset, settings(Order::Shuffled, 6, 2));
    let parts: Vec<_> = (0..3)
        .map(|index| {
            let mut settings = settings(Order::Shuffled, 6, 2);
            settings.part = Part { index, count: 3 };
            all(&dataset, settings)
        })
        .collect();
    for (number, batch) in whole.iter().enumerate() {
        let of = |part: &Vec<Batch>| part[number].samples.clone();
        assert_eq!(parts.iter().flat_map(of).collect::<Vec<_>>(), batch.samples);
        let views = parts.iter().flat_map(|part| part[number].views[0].clone());
        assert_eq!(views.collect::<Vec<_>>(), batch.views[0]);
        let replaced: usize = parts.iter().map(|part| part[number].replaced).sum();
        assert_eq!(replaced, batch.replaced);
    }
}

#[test]
fn a_bad_sample_is_replaced_counted_and_listed_once() {
    let dataset = Numbers::new(20, &[4, 11]);
    let mut loader = Loader::start(
        dataset.clone(),
        Arc::new(Plain),
        settings(Order::Shuffled, 5, 2),
    )
    .unwrap();
    let batches: Vec<Batch> = loader.by_ref().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|b| b.replaced).sum::<usize>(), 4);
    for batch in &batches {
        assert_eq!(batch.samples.len(), 5);
        assert!(!batch.samples.contains(&4) && !batch.samples.contains(&11));
        for (row, &sample) in batch.samples.iter().enumerate() {
            assert_eq!(batch.views[0][row], sample as f32);
            assert_eq!(batch.labels[row], sample as u32 * 10);
        }
    }
    let listed: Vec<usize> = loader.quarantined().iter().map(|(s, _)| *s).collect();
    assert_eq!(listed, [4, 11]);
}

#[test]
fn evaluation_keeps_the_order_and_leaves_bad_samples_out() {
    let dataset = Numbers::new(12, &[0, 5, 10, 11]);
    let mut settings = settings(Order::Sequential, 5, 3);
    settings.end_epoch = 1;
    let batches = all(&dataset, settings);
    let samples: Vec<_> = batches.iter().map(|b| b.samples.clone()).collect();
    assert_eq!(samples, [vec![1, 2, 3, 4], vec![6, 7, 8, 9]]);
    // Figures are those of the rows that are there.
    assert_eq!(batches[0].measures, [("number", vec![1.0, 2.0, 3.0, 4.0])]);
    assert_eq!(batches[1].measures, [("number", vec![6.0, 7.0, 8.0, 9.0])]);
    assert_eq!(batches[1].views[0], [6.0, 7.0, 8.0, 9.0]);
    assert_eq!(batches[1].views[1].len(), 8);
}

#[test]
fn a_set_without_a_readable_sample_is_an_error() {
    let bad: Vec<usize> = (0..10).collect();
    for order in [Order::Shuffled, Order::Sequential] {
        let dataset = Numbers::new(10, &bad);
        let mut loader = Loader::start(dataset, Arc::new(Plain), settings(order, 3, 2)).unwrap();
        let error = loader.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("`number"), "{error}");
        assert!(loader.next().is_none());
    }
}

#[test]
fn a_set_smaller_than_a_batch_is_refused() {
    let start = |order, count| {
        let settings = settings(order, 5, 1);
        Loader::start(Numbers::new(count, &[]), Arc::new(Plain), settings).map(|_| ())
    };
    let too_few = |samples| Err(LoaderError::TooFew { samples, batch: 5 });
    assert_eq!(start(Order::Shuffled, 4), too_few(4));
    assert_eq!(start(Order::Sequential, 0), too_few(0));
    assert_eq!(start(Order::Sequential, 4), Ok(()));
}

#[test]
fn a_panic_in_the_transform_is_an_error() {
    struct Broken;
    impl Transform for Broken {
        fn lengths(&self) -> Vec<usize> {
            vec![1]
        }

        fn apply(&self, image: &Image, _: Key, _: &mut [&mut [f32]], _: &mut [f64]) {
            assert_ne!(image.pixels[0], 7, "seven is broken");
        }
    }
    let dataset = Numbers::new(10, &[]);
    let mut settings = settings(Order::Sequential, 5, 2);
    settings.end_epoch = 1;
    let results: Vec<_> = Loader::start(dataset, Arc::new(Broken), settings)
        .unwrap()
        .collect();
    assert_eq!(results.len(), 2);
    match results[1].as_ref().unwrap_err() {
        LoaderError::Panicked { name, message } => {
            assert_eq!(name, "number 7");
            assert!(message.contains("seven is broken"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn dropping_a_loader_stops_it() {
    let dataset = Numbers::new(1000, &[]);
    let mut endless = settings(Order::Shuffled, 10, 2);
    endless.end_epoch = u64::MAX;
    let mut loader = Loader::start(dataset.clone(), Arc::new(Plain), endless).unwrap();
    let batch = loader.next().unwrap().unwrap();
    loader.recycle(batch.views);
    drop(loader);
    // The threads have been joined: nothing is loaded any more.
    let loads = dataset.loads.load(Ordering::Relaxed);
    std::thread::yield_now();
    assert_eq!(dataset.loads.load(Ordering::Relaxed), loads);
}
