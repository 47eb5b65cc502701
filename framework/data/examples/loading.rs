//! Two augmented 224 x 224 views of every photograph of a folder: smallfry beside torchvision with Pillow.
//!
//! Both run on one thread, in turns, and the least processor time of several passes counts, so other load on the
//! machine matters little. The peer is `tests/bench/loading.py`; without it only smallfry is measured.
//!
//! ```sh
//! cargo run --release -p smallfry-data --example loading -- FOLDER [PYTHON] [PASSES]
//! ```

use std::{path::Path, process::Command, time::Instant};

use smallfry_data::{
    Dataset, Image, View,
    dataset::folder::ImageFolder,
    decode::Orientation,
    loader::{Key, Transform},
    normalize::Normalization,
    operation::{
        blur::gaussian_blur,
        color::{brightness, contrast, grey, hue, saturation},
        crop::random_rectangle,
        resize::Filter,
    },
    random::Random,
};

/// Side of a view.
const SIDE: usize = 224;

/// The paper's augmentation at colour strength 1, with grey and blur of probability one half.
struct PreTraining(Normalization);

impl PreTraining {
    fn change(view: &mut View<'_>, random: &mut Random) {
        let part = random_rectangle(view.size(), (0.2, 1.0), (0.75, 4.0 / 3.0), random);
        view.crop(part);
        view.resize(SIDE, SIDE, Filter::Bilinear);
        let image = view.image_mut();
        if random.chance(0.8) {
            let mut order = [0, 1, 2, 3];
            random.shuffle(&mut order);
            for change in order {
                let factor = random.uniform(0.2, 1.8) as f32;
                match change {
                    0 => brightness(image, factor),
                    1 => contrast(image, factor),
                    2 => saturation(image, factor),
                    _ => hue(image, random.uniform(-0.4, 0.4)),
                }
            }
        }
        if random.chance(0.5) {
            grey(image);
        }
        if random.chance(0.5) {
            gaussian_blur(image, random.uniform(0.1, 2.0) as f32);
        }
        if random.chance(0.5) {
            view.flip();
        }
    }
}

impl Transform for PreTraining {
    fn lengths(&self) -> Vec<usize> {
        vec![3 * SIDE * SIDE; 2]
    }

    fn apply(&self, image: &Image, key: Key, slots: &mut [&mut [f32]], _: &mut [f64]) {
        for (v, slot) in slots.iter_mut().enumerate() {
            let mut view = View::of(image);
            Self::change(&mut view, &mut key.stream(v, 0));
            self.0.write(&mut view, slot);
            view.recycle();
        }
    }
}

/// Seconds that this thread has run on a processor; elapsed time where the system does not say.
fn processor_seconds(start: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|stat| stat.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns * 1e-9)
}

/// Milliseconds an image of one pass: decoding, and everything.
fn pass(set: &ImageFolder, transform: &PreTraining, epoch: u64) -> (f64, f64) {
    let start = Instant::now();
    let mut slots = vec![vec![0f32; 3 * SIDE * SIDE]; 2];
    let (mut decoding, begin) = (0.0, processor_seconds(start));
    for sample in 0..set.len() {
        let before = processor_seconds(start);
        let image = set.load(sample).expect("the photographs are whole");
        decoding += processor_seconds(start) - before;
        let key = Key {
            seed: 1,
            epoch,
            sample: sample as u64,
        };
        let (first, second) = slots.split_at_mut(1);
        transform.apply(&image, key, &mut [&mut first[0], &mut second[0]], &mut []);
        image.recycle();
    }
    let each = 1e3 / set.len() as f64;
    (decoding * each, (processor_seconds(start) - begin) * each)
}

/// The peer's milliseconds an image.
fn peer(python: &str, folder: &str) -> Option<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/bench/loading.py");
    let output = Command::new(python)
        .arg(script)
        .args([folder, "1"])
        .output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    text.trim().parse().ok()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().expect("give a folder of class folders");
    let python = arguments.get(1);
    let passes = arguments.get(2).map_or(5, |n| n.parse().expect("a number"));
    let parts: Vec<_> = [Path::new(folder).join("train"), folder.into()]
        .into_iter()
        .filter(|path| path.is_dir())
        .collect();
    let set = ImageFolder::open(&parts[0], Orientation::AsStored).expect("a folder of images");
    let transform = PreTraining(Normalization::imagenet());
    let (mut ours, mut decoding, mut theirs) = (f64::MAX, f64::MAX, f64::MAX);
    for epoch in 0..passes {
        let (decode, all) = pass(&set, &transform, epoch);
        (ours, decoding) = (ours.min(all), decoding.min(decode));
        if let Some(python) = python {
            let peer = peer(python, &parts[0].display().to_string());
            theirs = theirs.min(peer.expect("the peer runs"));
        }
    }
    println!(
        "smallfry     {ours:.3} ms an image ({decoding:.3} of it decoding), {:.0} images/s",
        1e3 / ours
    );
    if python.is_some() {
        println!(
            "torchvision  {theirs:.3} ms an image, {:.0} images/s",
            1e3 / theirs
        );
        println!("ratio        {:.2}", theirs / ours);
    }
}
