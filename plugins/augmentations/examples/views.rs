//! What ways of making two views of a photograph cost, beside the ordinary one: processor time on one thread.
//!
//! All ways take turns, and the least time of several passes counts, so other load on the machine matters little.
//!
//! ```sh
//! cargo run --release -p smallfry-augmentations --example views -- FOLDER [PASSES]
//! ```

use std::{path::Path, sync::Arc, time::Instant};

use smallfry::{
    Augmentation, Context, JointAugmentation,
    augmentation::Views,
    data::{
        Dataset, Image,
        dataset::folder::ImageFolder,
        decode::Orientation,
        loader::{Key, Transform},
        normalize::Normalization,
    },
    registry::{self, Built},
};
use smallfry_augmentations as _; // links the plugins

/// The colours of MoCo v2, without the crop.
const COLORS: [&str; 4] = [
    "ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1)",
    "Grayscale(p: 0.2)",
    "GaussianBlur",
    "HorizontalFlip",
];

/// A way of making views: its name, its joint augmentation, and the list of each view.
type Way<'a> = (&'a str, Option<&'a str>, Vec<&'a str>);

fn views(joint: Option<&str>, list: &[&str]) -> Views<Built<dyn Augmentation>> {
    let context = Context {
        folder: Path::new("."),
    };
    let joint = joint.map(|text| {
        let built = registry::parse::<dyn JointAugmentation>(&context, text);
        Arc::clone(&built.expect("it is well-formed").plugin)
    });
    let view = || {
        let parts = list.iter();
        let built = parts.map(|text| registry::parse(&context, text).expect("it is well-formed"));
        built.collect()
    };
    Views::new(joint, vec![view(), view()], Normalization::imagenet()).expect("it has a size")
}

/// Seconds that this thread has run on a processor; elapsed time where the system does not say.
fn processor_seconds(start: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|stat| stat.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns * 1e-9)
}

/// Milliseconds an image.
fn pass(images: &[Image], views: &Views<Built<dyn Augmentation>>, epoch: u64) -> f64 {
    let mut slots: Vec<Vec<f32>> = views.lengths().iter().map(|&n| vec![0.0; n]).collect();
    let mut measures = vec![0.0; views.measures().len()];
    let start = Instant::now();
    let begin = processor_seconds(start);
    for (sample, image) in images.iter().enumerate() {
        let key = Key {
            seed: 1,
            epoch,
            sample: sample as u64,
        };
        let mut borrowed: Vec<&mut [f32]> = slots.iter_mut().map(Vec::as_mut_slice).collect();
        views.apply(image, key, &mut borrowed, &mut measures);
    }
    (processor_seconds(start) - begin) * 1e3 / images.len() as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().expect("give a folder of class folders");
    let passes = arguments.get(1).map_or(5, |n| n.parse().expect("a number"));
    let set = ImageFolder::open(Path::new(folder), Orientation::AsStored).expect("it has images");
    let images: Vec<_> = (0..set.len().min(200))
        .map(|sample| set.load(sample).expect("the photographs are whole"))
        .collect();
    let ordinary = [&["RandomResizedCrop"], &COLORS[..]].concat();
    let ways: [Way; 8] = [
        ("ordinary", None, ordinary.clone()),
        ("MoCoV2", None, vec!["MoCoV2"]),
        ("easy", Some("IoUPair(low: 0.25, high: 1)"), COLORS.to_vec()),
        (
            "hard",
            Some("IoUPair(low: 0.05, high: 0.25, tolerance: 1000)"),
            COLORS.to_vec(),
        ),
        (
            "super-hard",
            Some("IoUPair(low: 1e-4, high: 0.05, tolerance: 2000)"),
            COLORS.to_vec(),
        ),
        (
            "mix-hard",
            Some("IoUPair(tolerance: 500, p: 0.5)"),
            COLORS.to_vec(),
        ),
        ("drop-overlap", Some("DropOverlap"), COLORS.to_vec()),
        (
            "hide-and-seek",
            None,
            [&ordinary[..], &["HideAndSeek"]].concat(),
        ),
    ];
    let made: Vec<_> = ways
        .iter()
        .map(|(_, joint, list)| views(*joint, list))
        .collect();
    let mut least = vec![f64::MAX; ways.len()];
    for epoch in 0..passes {
        for (least, views) in least.iter_mut().zip(&made) {
            *least = least.min(pass(&images, views, epoch));
        }
    }
    for ((name, ..), milliseconds) in ways.iter().zip(&least) {
        println!(
            "{name:<14} {milliseconds:.3} ms an image beside decoding, {:.3} of the ordinary",
            milliseconds / least[0]
        );
    }
}
