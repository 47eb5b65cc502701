//! What an augmentation must do.

use smallfry_data::{Image, random::Random, view::View};

use crate::Augmentation;

/// Images of different forms, one smaller than any crop.
pub(super) fn images() -> Vec<Image> {
    [(97, 64), (40, 130), (9, 7)]
        .into_iter()
        .map(|(width, height)| {
            let mut random = Random::new(&[width as u64, height as u64]);
            let pixels = (0..3 * width * height)
                .map(|_| random.bits() as u8)
                .collect();
            Image {
                width,
                height,
                pixels,
            }
        })
        .collect()
}

/// What is wrong with `augmentation`: it must keep its promised size, and do the same for the same random key.
pub fn augmentation_faults(augmentation: &dyn Augmentation) -> Vec<String> {
    let mut faults = Vec::new();
    for image in images() {
        for key in 0..16 {
            let apply = || {
                let mut view = View::of(&image);
                augmentation.apply(&mut view, &mut Random::new(&[key]));
                let result = view.image().clone();
                (result, view)
            };
            let (first, view) = apply();
            let (second, again) = apply();
            let of = format!("{} x {} pixels, key {key}", image.width, image.height);
            if first != second || view.replaced() != again.replaced() {
                faults.push(format!("gives two results for one random key ({of})"));
            }
            if first.pixels.len() != 3 * first.width * first.height {
                faults.push(format!("leaves a broken image ({of})"));
            }
            if let Some(size) = augmentation.size()
                && (first.width, first.height) != (size, size)
            {
                faults.push(format!(
                    "promises {size} x {size} pixels and leaves {} x {} ({of})",
                    first.width, first.height
                ));
            }
            if !faults.is_empty() {
                return faults;
            }
        }
    }
    faults
}

/// What is wrong with an augmentation of probability 0: it must change nothing.
pub(super) fn identity_faults(never: &dyn Augmentation) -> Vec<String> {
    for image in images() {
        for key in 0..16 {
            let mut view = View::of(&image);
            never.apply(&mut view, &mut Random::new(&[key]));
            let hidden = view
                .replaced()
                .is_some_and(|replaced| replaced.iter().any(Option::is_some));
            if hidden || *view.image() != image {
                return vec!["changes the image although `p` is 0".to_owned()];
            }
        }
    }
    Vec::new()
}
