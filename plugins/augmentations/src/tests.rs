//! What every augmentation must do, and how often it does it.

use std::path::Path;

use smallfry::{
    Augmentation, Context, Plugin,
    augmentation::Views,
    data::{
        Image,
        loader::{Key, Transform},
        normalize::Normalization,
        operation::resize::Filter,
        random::Random,
        view::View,
    },
};

use crate::*;

fn built<P: Plugin<dyn Augmentation>>(plugin: P) -> Box<dyn Augmentation> {
    let folder = Path::new("");
    match plugin.build(&Context { folder }) {
        Ok(augmentation) => augmentation,
        Err(invalid) => panic!("{invalid}"),
    }
}

fn refused<P: Plugin<dyn Augmentation>>(plugin: P, field: &str) {
    let folder = Path::new("");
    match plugin.build(&Context { folder }) {
        Ok(_) => panic!("`{field}` must be refused"),
        Err(invalid) => assert_eq!(invalid.field(), field),
    }
}

fn picture() -> Image {
    let mut random = Random::new(&[8]);
    let mut image = Image::black(60, 50);
    image.pixels.fill_with(|| random.bits() as u8);
    image
}

/// The pixels and the mask after an augmentation.
fn applied(augmentation: &dyn Augmentation, image: &Image, key: u64) -> (Image, Option<Vec<bool>>) {
    let mut view = View::of(image);
    augmentation.apply(&mut view, &mut Random::new(&[key]));
    let hidden = view
        .replaced()
        .map(|all| all.iter().map(Option::is_some).collect());
    (view.image().clone(), hidden)
}

#[test]
fn impossible_parameters_are_refused_by_name() {
    let crop = RandomResizedCrop::default;
    refused(RandomResizedCrop { size: 0, ..crop() }, "size");
    refused(
        RandomResizedCrop {
            scale: (0.0, 1.0),
            ..crop()
        },
        "scale",
    );
    refused(
        RandomResizedCrop {
            scale: (0.5, 1.1),
            ..crop()
        },
        "scale",
    );
    refused(
        RandomResizedCrop {
            ratio: (2.0, 1.0),
            ..crop()
        },
        "ratio",
    );
    refused(
        Resize {
            size: 0,
            ..Resize::default()
        },
        "size",
    );
    refused(CenterCrop { size: 1 << 20 }, "size");
    let jitter = ColorJitter::default;
    refused(
        ColorJitter {
            brightness: -0.1,
            ..jitter()
        },
        "brightness",
    );
    refused(
        ColorJitter {
            contrast: f64::NAN,
            ..jitter()
        },
        "contrast",
    );
    refused(
        ColorJitter {
            saturation: f64::INFINITY,
            ..jitter()
        },
        "saturation",
    );
    refused(
        ColorJitter {
            hue: 0.6,
            ..jitter()
        },
        "hue",
    );
    refused(ColorJitter { p: 1.5, ..jitter() }, "p");
    refused(Grayscale { p: f64::NAN }, "p");
    refused(
        GaussianBlur {
            sigma: (2.0, 0.1),
            p: 0.5,
        },
        "sigma",
    );
    refused(HorizontalFlip { p: -1.0 }, "p");
    refused(
        HideAndSeek {
            p: 0.5,
            grids: vec![],
        },
        "grids",
    );
}

/// With probability 0 nothing changes, with 1 something does, with a half it happens half the time.
#[test]
fn probabilities_are_kept() {
    let image = picture();
    let with = |p: f64| -> Vec<Box<dyn Augmentation>> {
        vec![
            built(ColorJitter {
                p,
                ..ColorJitter::default()
            }),
            built(Grayscale { p }),
            built(GaussianBlur {
                sigma: (0.5, 2.0),
                p,
            }),
            built(HorizontalFlip { p }),
        ]
    };
    let changes = |augmentation: &dyn Augmentation| {
        let changed = |key: &u64| applied(augmentation, &image, *key).0 != image;
        (0..400).filter(changed).count()
    };
    for (p, range) in [(0.0, 0..=0), (1.0, 400..=400), (0.5, 160..=240)] {
        for (i, augmentation) in with(p).iter().enumerate() {
            let changes = changes(&**augmentation);
            assert!(
                range.contains(&changes),
                "number {i}, p {p}: {changes} of 400"
            );
        }
    }
}

#[test]
fn without_strength_a_jitter_changes_nothing() {
    let (brightness, contrast, saturation, hue, p) = (0.0, 0.0, 0.0, 0.0, 1.0);
    let jitter = built(ColorJitter {
        brightness,
        contrast,
        saturation,
        hue,
        p,
    });
    let image = picture();
    assert!(applied(&*jitter, &image, 1).0 == image);
}

#[test]
fn sizes_are_what_is_stated() {
    let image = picture();
    for augmentation in [
        built(RandomResizedCrop {
            size: 32,
            ..RandomResizedCrop::default()
        }),
        built(CenterCrop { size: 32 }),
        built(CenterCrop { size: 55 }),
    ] {
        let side = augmentation.size().unwrap();
        let (result, _) = applied(&*augmentation, &image, 3);
        assert_eq!((result.width, result.height), (side, side));
    }
    let resize = built(Resize {
        size: 25,
        bicubic: true,
    });
    assert_eq!(applied(&*resize, &image, 0).0.height, 25);
    assert_eq!(applied(&*resize, &image, 0).0.width, 30);
}

/// A rectangle that is always the whole image shows the filter alone.
#[test]
fn a_crop_is_resampled_as_asked() {
    let image = picture();
    for bicubic in [false, true] {
        let crop = built(RandomResizedCrop {
            size: 25,
            scale: (1.0, 1.0),
            ratio: (1.2, 1.2),
            bicubic,
        });
        let mut view = View::of(&image);
        let filter = match bicubic {
            true => Filter::Bicubic,
            false => Filter::Bilinear,
        };
        view.resize(25, 25, filter);
        assert!(applied(&*crop, &image, 1).0 == *view.image());
    }
}

#[test]
fn hidden_cells_are_whole_and_half_of_all() {
    let hide = built(HideAndSeek {
        p: 0.5,
        grids: vec![10],
    });
    let image = picture();
    let mut hidden = 0;
    for key in 0..100 {
        let (pixels, mask) = applied(&*hide, &image, key);
        assert!(pixels == image);
        let mask = mask.unwrap();
        for (i, &dropped) in mask.iter().enumerate() {
            let (x, y) = (i % 60, i / 60);
            assert_eq!(dropped, mask[y / 10 * 10 * 60 + x / 10 * 10]);
        }
        hidden += mask.iter().filter(|&&dropped| dropped).count() / 100;
    }
    // 3000 cells: four standard deviations are 110.
    assert!((1390..=1610).contains(&hidden), "{hidden} of 3000 cells");
    let none = built(HideAndSeek {
        p: 1.0,
        grids: vec![0],
    });
    assert_eq!(applied(&*none, &image, 0).1, None);
}

/// Views of one sample differ, are the same again for the same key, and fill their slots.
#[test]
fn views_are_keyed_and_fill_their_slots() {
    let list = |size: usize| {
        vec![
            built(RandomResizedCrop {
                size,
                ..RandomResizedCrop::default()
            }),
            built(ColorJitter::default()),
            built(HorizontalFlip::default()),
        ]
    };
    let views = Views::new(
        None,
        vec![list(16), list(16), list(8)],
        Normalization::imagenet(),
    )
    .unwrap();
    assert_eq!(views.lengths(), [768, 768, 192]);
    let image = picture();
    let make = |sample: u64| {
        let mut slots = views
            .lengths()
            .iter()
            .map(|&n| vec![f32::NAN; n])
            .collect::<Vec<_>>();
        let key = Key {
            seed: 1,
            epoch: 2,
            sample,
        };
        let mut borrowed: Vec<&mut [f32]> = slots.iter_mut().map(Vec::as_mut_slice).collect();
        views.apply(&image, key, &mut borrowed, &mut []);
        slots
    };
    let slots = make(5);
    assert!(slots.iter().flatten().all(|value| value.is_finite()));
    assert_ne!(slots[0], slots[1]);
    assert_eq!(slots, make(5));
    assert_ne!(slots, make(6));
    let endless = vec![vec![built(Grayscale::default())]];
    assert!(Views::new(None, endless, Normalization::imagenet()).is_none());
}
