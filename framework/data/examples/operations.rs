//! What each operation of a 224 x 224 view costs, in microseconds of one thread, and a digest of all bytes it made.
//!
//! The operations take turns, and the least time of several passes counts, so other load on the machine matters
//! little; two builds whose digests agree made the same bytes.
//!
//! ```sh
//! cargo run --release -p smallfry-data --example operations -- FOLDER [PASSES]
//! ```

use std::{path::Path, time::Instant};

use smallfry_data::{
    Dataset, Image, View,
    dataset::folder::ImageFolder,
    decode::Orientation,
    normalize::Normalization,
    operation::{blur, color, crop, resize::Filter},
    random::Random,
};

/// Side of a view, in pixels.
const SIDE: usize = 224;

/// An operation on a view, with random numbers of its own.
type Operation = (&'static str, fn(&mut Image, &mut Random));

/// The operations of the paper's augmentations at full strength, beside the crop and the normalisation.
const OPERATIONS: [Operation; 9] = [
    ("brightness", |image, random| {
        color::brightness(image, random.uniform(0.2, 1.8) as f32)
    }),
    ("contrast", |image, random| {
        color::contrast(image, random.uniform(0.2, 1.8) as f32)
    }),
    ("saturation", |image, random| {
        color::saturation(image, random.uniform(0.2, 1.8) as f32)
    }),
    ("hue", |image, random| {
        color::hue(image, random.uniform(-0.4, 0.4))
    }),
    ("grey", |image, _| color::grey(image)),
    ("blur, sigma to 1.4", |image, random| {
        blur::gaussian_blur(image, random.uniform(0.1, 1.4) as f32)
    }),
    ("blur, sigma to 2", |image, random| {
        blur::gaussian_blur(image, random.uniform(1.4, 2.0) as f32)
    }),
    ("blur, sigma to 10", |image, random| {
        blur::gaussian_blur(image, random.uniform(2.0, 10.0) as f32)
    }),
    ("flip", |image, _| crop::flip(image)),
];

/// What an operation took, its least time of each photograph summed, and the digest of what it made.
#[derive(Clone)]
struct Cost {
    microseconds: f64,
    digest: u32,
}

impl Cost {
    /// Takes what a pass made into the digest and returns the microseconds since `begin`.
    fn count(&mut self, begin: Instant, made: &[u8]) -> f64 {
        let elapsed = begin.elapsed().as_secs_f64() * 1e6;
        self.digest(made.iter().copied());
        elapsed
    }

    /// Goes on with the digest, which is FNV-1a.
    fn digest(&mut self, made: impl Iterator<Item = u8>) {
        for byte in made {
            self.digest = (self.digest ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().expect("give a folder of class folders");
    let passes = arguments.get(1).map_or(9, |n| n.parse().expect("a number"));
    let set = ImageFolder::open(Path::new(folder), Orientation::AsStored).expect("it has images");
    let images: Vec<_> = (0..set.len().min(60))
        .map(|sample| set.load(sample).expect("the photographs are whole"))
        .collect();
    let normalization = Normalization::imagenet();
    let mut slot = vec![0.0; 3 * SIDE * SIDE];
    let names: Vec<_> = ["crop and resize", "normalise"]
        .into_iter()
        .chain(OPERATIONS.map(|(name, _)| name))
        .collect();
    let start = Cost {
        microseconds: 0.0,
        digest: 0x811C_9DC5,
    };
    let mut costs = vec![start; names.len()];
    for (sample, image) in images.iter().enumerate() {
        let mut least = vec![f64::MAX; names.len()];
        for _ in 0..passes {
            let mut random = Random::new(&[7, sample as u64]);
            let size = (image.width, image.height);
            let part = crop::random_rectangle(size, (0.2, 1.0), (0.75, 4.0 / 3.0), &mut random);
            let mut view = View::of(image);
            view.crop(part);
            view.resize(SIDE, SIDE, Filter::Bilinear);
            let begin = Instant::now();
            view.image();
            let elapsed = costs[0].count(begin, &view.image().pixels);
            least[0] = least[0].min(elapsed);

            let begin = Instant::now();
            normalization.write(&mut view, &mut slot);
            let elapsed = costs[1].count(begin, &[]);
            let bits = slot.iter().flat_map(|value| value.to_bits().to_le_bytes());
            costs[1].digest(bits);
            least[1] = least[1].min(elapsed);
            for (i, (_, operation)) in OPERATIONS.iter().enumerate() {
                let mut changed = view.image().clone();
                let begin = Instant::now();
                operation(&mut changed, &mut random);
                let elapsed = costs[2 + i].count(begin, &changed.pixels);
                least[2 + i] = least[2 + i].min(elapsed);
            }
            view.recycle();
        }
        for (cost, least) in costs.iter_mut().zip(least) {
            cost.microseconds += least;
        }
    }
    for (name, cost) in names.iter().zip(&costs) {
        let each = cost.microseconds / images.len() as f64;
        println!("{name:<20} {each:>7.1} us  {:08x}", cost.digest);
    }
}
