//! The published recipes: whole ones by name do what the lists they stand for do.

use std::path::Path;

use smallfry::{
    Augmentation, Context,
    data::{Image, random::Random, view::View},
    registry::{self, Built},
};
use smallfry_augmentations as _; // links the plugins

fn built(text: &str) -> Built<dyn Augmentation> {
    let context = Context {
        folder: Path::new("."),
    };
    registry::parse(&context, text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

const SECOND: [&str; 4] = [
    "ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1, p: 0.8)",
    "Grayscale(p: 0.2)",
    "GaussianBlur(sigma: (0.1, 2.0), p: 0.5)",
    "HorizontalFlip(p: 0.5)",
];

const FIRST: [&str; 3] = [
    "Grayscale(p: 0.2)",
    "ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.4, p: 1.0)",
    "HorizontalFlip(p: 0.5)",
];

#[test]
fn a_recipe_does_what_its_list_does() {
    let mut random = Random::new(&[3]);
    let mut image = Image::black(300, 260);
    image.pixels.fill_with(|| random.bits() as u8);
    for (name, crop, colors) in [
        ("MoCoV1", "size: 224, scale: (0.2, 1.0)", &FIRST[..]),
        ("SimCLR", "size: 224, scale: (0.2, 1.0)", &FIRST),
        ("MoCoV2", "size: 224, scale: (0.2, 1.0)", &SECOND),
        ("SwAV", "size: 224, scale: (0.14, 1.0)", &SECOND),
        ("SwAVPatch", "size: 96, scale: (0.05, 0.14)", &SECOND),
        (
            "MoCoV2(size: 64, scale: (0.3, 0.5))",
            "size: 64, scale: (0.3, 0.5)",
            &SECOND,
        ),
    ] {
        let recipe = built(name);
        let crop = built(&format!("RandomResizedCrop({crop})"));
        let parts: Vec<_> = colors.iter().map(|text| built(text)).collect();
        assert_eq!(recipe.size(), crop.size(), "{name}");
        let mut differing = 0;
        for key in 0..8 {
            let mut view = View::of(&image);
            recipe.apply(&mut view, &mut Random::new(&[key]));
            let mut expected = View::of(&image);
            let seed = Random::new(&[key]).bits();
            for (i, part) in std::iter::once(&crop).chain(&parts).enumerate() {
                part.apply(&mut expected, &mut Random::new(&[seed, i as u64]));
            }
            assert!(view.image() == expected.image(), "{name}, key {key}");
            differing += usize::from(view.image().pixels[..100] != image.pixels[..100]);
        }
        assert!(differing > 4, "{name}");
    }
}

#[test]
fn hide_and_seek_takes_its_probability() {
    let image = Image::black(112, 112);
    for (p, low, high) in [("0.0", 0.0, 0.0), ("0.2", 0.17, 0.23), ("1.0", 1.0, 1.0)] {
        let hide = built(&format!("HideAndSeek(p: {p}, grids: [14])"));
        let mut hidden = 0;
        for key in 0..100 {
            let mut view = View::of(&image);
            hide.apply(&mut view, &mut Random::new(&[key]));
            let all = view
                .replaced()
                .map_or(0, |all| all.iter().flatten().count());
            hidden += all;
        }
        let share = hidden as f64 / (100 * 112 * 112) as f64;
        assert!((low..=high).contains(&share), "{p}: {share}");
    }
    assert!(
        built("HideAndSeek").line.contains("grids: [0, 14, 28, 56]"),
        "{}",
        built("HideAndSeek").line
    );
}
