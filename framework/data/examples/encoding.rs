//! JPEG files of smallfry beside those that Pillow wrote, byte by byte, and the time of an image.
//!
//! Takes a folder of pairs `NAME-QUALITY.png` and `NAME-QUALITY.jpg`, the second made from the pixels of the first, as
//! `tests/bench/encoding.py` makes it; that script runs this program and says how the times compare.
//!
//! ```sh
//! cargo run --release -p smallfry-data --example encoding -- FOLDER
//! ```

use std::{path::Path, process::ExitCode, time::Instant};

use smallfry_data::{
    decode::{Orientation, read},
    encode::jpeg_into,
};

/// Times that each image is encoded; the least counts.
const PASSES: usize = 5;

fn main() -> ExitCode {
    let folder = std::env::args().nth(1).expect("give a folder of pairs");
    let entries = std::fs::read_dir(Path::new(&folder)).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    let mut pictures: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "png"))
        .collect();
    pictures.sort();
    let (mut different, mut seconds, mut pixels) = (0, 0.0, 0);
    let mut file = Vec::new();
    for path in &pictures {
        let name = path.file_stem().expect("a file").to_string_lossy();
        let quality = name.rsplit('-').next().and_then(|text| text.parse().ok());
        let image = read(path, Orientation::AsStored).expect("a whole picture");
        let mut least = f64::MAX;
        for _ in 0..PASSES {
            file.clear();
            let begin = Instant::now();
            jpeg_into(&mut file, &image, quality.expect("a quality in the name"));
            least = least.min(begin.elapsed().as_secs_f64());
        }
        seconds += least;
        pixels += image.width * image.height;
        let expected = std::fs::read(path.with_extension("jpg")).expect("the pair's other file");
        if file != expected {
            different += 1;
            println!("{name} differs ({} x {})", image.width, image.height);
        }
    }
    println!(
        "{} files, {different} of them different, {:.4} ms each, {:.1} megapixels/s",
        pictures.len(),
        1e3 * seconds / pictures.len() as f64,
        1e-6 * pixels as f64 / seconds
    );
    ExitCode::from(u8::from(different > 0))
}
