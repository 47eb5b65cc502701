//! What goes onto a map: features of images and their views, of length one, with a small picture of each.
//!
//! Features are those of an evaluation's pass, and come from its cache where the same network has seen the same images. A
//! sample of which any file cannot be read is left out as a whole, so that row i of every view is the same sample.

use std::sync::Arc;

use rayon::prelude::*;
use smallfry_data::{Dataset, Image, View, encode::jpeg_into, operation::resize::Filter};

use crate::{
    evaluate::{extracted::Extracted, pass::Pass},
    failure::Failure,
    measure::UnitRows,
    metric::FeatureSet,
    report::text::embed,
    tensor,
    workplace::Workplace,
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

impl Collected {
    /// What `pass` gives of the first `views` files of the first `samples` of `set`, with pictures.
    ///
    /// # Errors
    /// No image can be read, one that could be read no longer can, or the user stops.
    pub(super) fn new(
        mut pass: Pass<'_>,
        set: &Arc<dyn Dataset>,
        samples: usize,
        views: usize,
        workplace: &mut Workplace,
    ) -> Result<Self, Failure> {
        let sets = pass.features(set, samples, views, workplace);
        let sets = sets.map_err(|failure| match workplace.interrupt.requested() {
            true => stopped(),
            false => failure,
        })?;
        // All views have the same rows.
        let images = &sets[0];
        let rows = images.rows();
        Ok(Self {
            rows: sets.iter().map(values).collect(),
            width: pass.width(),
            labels: images.labels().map(<[u32]>::to_vec),
            names: (0..rows).map(|row| images.name(row)).collect(),
            pictures: pictures(&**set, &images.samples()[..rows.min(PICTURED)], views)?,
            left_out: images.left_out().to_vec(),
        })
    }

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

/// All features of `set`, row by row.
fn values(set: &Extracted) -> Vec<f32> {
    tensor::values(&set.read(0..set.rows())).into_owned()
}

/// Small pictures of the first `views` files of each of `samples`.
fn pictures(set: &dyn Dataset, samples: &[u32], views: usize) -> Result<Vec<Vec<String>>, Failure> {
    let all = samples.par_iter().map(|&sample| {
        let files = (0..views).map(|file| set.load_view(sample as usize, file));
        let pictures = files.map(|image| image.map(|image| picture(&image)));
        pictures.collect::<Result<Vec<_>, _>>()
    });
    all.collect::<Result<_, _>>()
        .map_err(|error| Failure::fault(format!("an image can no longer be read: {error}")))
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
