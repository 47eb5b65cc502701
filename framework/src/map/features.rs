//! What goes onto a map: features of images and their views, of length one, with a small picture of each.
//!
//! An image is resized and cropped as the backbone says; its views are as large as a network takes them and are left as they
//! are, in another size only for a network of another. A sample of which any file cannot be read is left out as a whole,
//! so that row i of every view is the same sample.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;
use smallfry_data::{
    Dataset, Image, LoadError, View,
    encode::jpeg_into,
    normalize::Normalization,
    operation::{
        crop::central_square,
        resize::{Filter, shorter_side},
    },
};

use crate::{
    Encoder, backbone::Preprocessing, encoder::ImageBatch, failure::Failure, measure::UnitRows,
    report::text::embed, tensor, train::Workplace,
};

/// Longest side of a small picture in pixels.
const PICTURE: usize = 72;

/// Quality of a small picture.
const QUALITY: u8 = 70;

/// Samples that have small pictures: more would make a page that no browser likes.
const PICTURED: usize = 2000;

/// Features of images and their views.
pub struct Collected {
    /// Features of the images, then of each of their views, row by row the same samples.
    pub rows: Vec<Vec<f32>>,
    /// Width of a feature.
    pub width: usize,
    /// The class of each sample, where all have one.
    pub labels: Option<Vec<u32>>,
    /// Names of the samples.
    pub names: Vec<String>,
    /// Small pictures of the first samples and their views, as `data:` addresses.
    pub pictures: Vec<Vec<String>>,
    /// Samples that could not be read: name and reason.
    pub left_out: Vec<(String, String)>,
}

/// How images become features.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    /// What the network's input looks like.
    pub preprocessing: Preprocessing,
    /// Files of a sample that are read: the image and its views.
    pub views: usize,
    /// Samples at a time.
    pub batch: usize,
}

/// A sample as it was read.
struct Read {
    /// The network's input of each file.
    values: Vec<Vec<f32>>,
    pictures: Vec<String>,
}

impl Images {
    /// The features of the first `samples` of `set`, as the network gives them.
    ///
    /// # Errors
    /// The user stops.
    pub fn collect(
        &self,
        set: &dyn Dataset,
        samples: usize,
        encoder: &dyn Encoder,
        workplace: &Workplace,
    ) -> Result<Collected, Failure> {
        let mut collected = Collected {
            rows: vec![Vec::new(); self.views],
            width: encoder.width(),
            labels: (!set.classes().is_empty()).then(Vec::new),
            names: Vec::new(),
            pictures: Vec::new(),
            left_out: Vec::new(),
        };
        for first in (0..samples).step_by(self.batch) {
            if workplace.interrupt.requested() {
                return Err(stopped());
            }
            let batch = first..samples.min(first + self.batch);
            let done = batch.end;
            self.add(set, batch, encoder, &mut collected);
            workplace.display.samples(done as u64);
        }
        Ok(collected)
    }

    fn add(
        &self,
        set: &dyn Dataset,
        samples: Range<usize>,
        encoder: &dyn Encoder,
        collected: &mut Collected,
    ) {
        let pictured = collected.names.len() < PICTURED;
        let read: Vec<Result<Read, LoadError>> = samples
            .clone()
            .into_par_iter()
            .map(|sample| self.read(set, sample, pictured))
            .collect();
        let side = self.preprocessing.size;
        let empty = || ImageBatch {
            batch: 0,
            height: side,
            width: side,
            values: Vec::new(),
        };
        let mut batches: Vec<_> = (0..self.views).map(|_| empty()).collect();
        for (sample, read) in samples.zip(read) {
            match read {
                Ok(read) => {
                    for (batch, values) in batches.iter_mut().zip(read.values) {
                        batch.batch += 1;
                        batch.values.extend(values);
                    }
                    collected.names.push(set.name(sample));
                    if collected.pictures.len() < PICTURED {
                        collected.pictures.push(read.pictures);
                    }
                    match (&mut collected.labels, set.label(sample)) {
                        (Some(labels), Some(label)) => labels.push(label),
                        (labels, _) => *labels = None,
                    }
                }
                Err(LoadError { name, reason }) => collected.left_out.push((name, reason)),
            }
        }
        for (rows, batch) in collected.rows.iter_mut().zip(batches) {
            if batch.batch > 0 {
                let features = encoder.embed(&Arc::new(batch));
                rows.extend_from_slice(&tensor::values(&features));
            }
        }
    }

    fn read(&self, set: &dyn Dataset, sample: usize, pictured: bool) -> Result<Read, LoadError> {
        let Preprocessing {
            size,
            mean,
            deviation,
            ..
        } = self.preprocessing;
        let normalization = Normalization::new(mean, deviation);
        let mut read = Read {
            values: Vec::new(),
            pictures: Vec::new(),
        };
        for file in 0..self.views {
            let image = set.load_view(sample, file)?;
            let mut view = View::of(&image);
            self.shape(&mut view, file);
            let mut values = vec![0.0; 3 * size * size];
            normalization.write(&mut view, &mut values);
            read.values.push(values);
            if pictured {
                read.pictures.push(picture(&image));
            }
        }
        Ok(read)
    }

    /// Brings a file into the network's size.
    fn shape(&self, view: &mut View<'_>, file: usize) {
        let Preprocessing {
            size,
            resize,
            bicubic,
            ..
        } = self.preprocessing;
        let filter = match bicubic {
            true => Filter::Bicubic,
            false => Filter::Bilinear,
        };
        if file > 0 {
            if view.size() != (size, size) {
                view.resize(size, size, filter);
            }
            return;
        }
        let (width, height) = view.size();
        let (width, height) = shorter_side(width, height, resize);
        if (width, height) != view.size() {
            view.resize(width, height, filter);
        }
        let square = central_square(width, height, size);
        view.crop(square.expect("images are resized to no less than is cropped"));
    }
}

impl Collected {
    /// All features, the images' first, then those of each view, scaled to length one.
    ///
    /// # Errors
    /// A feature is not finite; names its sample.
    pub fn unit(&self) -> Result<Vec<f32>, Failure> {
        let stacked = self.rows.concat();
        match UnitRows::new(&stacked, self.width) {
            Ok(unit) => Ok(unit.values().to_vec()),
            Err(broken) => {
                let samples = self.names.len();
                let (view, sample) = (broken.row / samples, broken.row % samples);
                let what = match view {
                    0 => "the image".to_owned(),
                    view => format!("view {view}"),
                };
                Err(Failure::fault(format!(
                    "{} of the {} features are not finite, the first that of {what} of `{}`",
                    broken.rows,
                    stacked.len() / self.width,
                    self.names[sample]
                ))
                .help(
                    "the weights are those of a training that diverged; map an earlier checkpoint",
                ))
            }
        }
    }
}

/// Being stopped by the user.
pub(super) fn stopped() -> Failure {
    Failure::interrupt("stopped during a map")
        .help("the same command with --resume goes on with this stage")
}

/// A small picture as a `data:` address.
fn picture(image: &Image) -> String {
    let mut view = View::of(image);
    let (width, height) = view.size();
    let longest = width.max(height);
    if longest > PICTURE {
        let side = |side: usize| ((side * PICTURE + longest / 2) / longest).max(1);
        view.resize(side(width), side(height), Filter::Bilinear);
    }
    let mut file = Vec::new();
    jpeg_into(&mut file, view.image(), QUALITY);
    embed("image/jpeg", &file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(rows: Vec<Vec<f32>>) -> Collected {
        Collected {
            rows,
            width: 2,
            labels: None,
            names: vec!["a.jpg".to_owned(), "b.jpg".to_owned()],
            pictures: Vec::new(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn views_stand_behind_originals_and_have_length_one() {
        let unit = collected(vec![vec![3.0, 4.0, 0.0, 2.0], vec![0.0, -1.0, 5.0, 0.0]]).unit();
        let expected = [0.6, 0.8, 0.0, 1.0, 0.0, -1.0, 1.0, 0.0];
        for (found, expected) in unit.unwrap().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn a_feature_that_is_no_number_names_its_sample() {
        let rows = vec![vec![1.0; 4], vec![1.0, 1.0, f32::NAN, 1.0]];
        let failure = collected(rows).unit().unwrap_err();
        assert_eq!(
            failure.message,
            "1 of the 4 features are not finite, the first that of view 1 of `b.jpg`"
        );
    }

    #[test]
    fn pictures_are_small() {
        for (width, height) in [(1, 1), (72, 10), (640, 3), (300, 400)] {
            let address = picture(&Image::black(width, height));
            assert!(address.starts_with("data:image/jpeg;base64,") && address.len() < 3000);
        }
    }
}
