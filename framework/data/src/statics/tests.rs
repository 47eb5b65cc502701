use std::collections::BTreeMap;

use super::*;
use crate::{
    Image,
    image::Rectangle,
    operation::{
        crop::flip,
        overlap::{iou, nested, overlap},
        patch::MEAN_COLOR,
    },
    random::Random,
};

const SIZE: (usize, usize) = (120, 90);

fn photograph_of((width, height): (usize, usize)) -> Image {
    let mut random = Random::new(&[1]);
    let mut image = Image::black(width, height);
    for (at, byte) in image.pixels.iter_mut().enumerate() {
        *byte = (at % (3 * width) / 2 + at / (3 * width) + random.below(30) as usize) as u8;
    }
    image
}

fn recipes(mode: Mode) -> Vec<Recipe> {
    let draw = |key| Recipe::draw(mode, SIZE, 7, key).unwrap();
    (0..300).map(draw).collect()
}

fn pictures(image: &Image, recipe: &Recipe) -> Vec<Image> {
    let mut pictures = Vec::new();
    paint(image, recipe, |file, picture| {
        assert_eq!(file, pictures.len() + 1);
        pictures.push(picture.clone());
        Ok::<_, ()>(())
    })
    .unwrap();
    pictures
}

#[test]
fn crops_lie_as_their_mode_says() {
    for mode in Mode::ALL {
        let (mut forced, mut draws) = (0, 0);
        for recipe in recipes(mode) {
            let [a, b] = recipe.views.each_ref().map(|view| view.part);
            for part in [a, b] {
                assert!(part.left + part.width <= SIZE.0 && part.top + part.height <= SIZE.1);
                assert!(part.width > 0 && part.height > 0);
            }
            assert_eq!(recipe.patches.len(), mode.files() - 3);
            match (mode.overlap(), recipe.pair) {
                (Some(wanted), Some(pair)) => {
                    assert_eq!(pair.iou, iou(a, b));
                    forced += usize::from(pair.forced);
                    draws += pair.draws;
                    if !pair.forced {
                        assert!((wanted.low..=wanted.high).contains(&pair.iou) && !nested(a, b));
                    }
                }
                (None, None) if mode == Mode::NoInter => {
                    // Different quarters of an image with even sides share nothing.
                    let shared = overlap(a, b).map_or(0, |shared| shared.height * shared.width);
                    assert_eq!(shared, 0);
                    assert!(a.width <= SIZE.0 / 2 && a.height <= SIZE.1 / 2);
                }
                (None, None) => {}
                other => panic!("{mode:?} {other:?}"),
            }
        }
        assert!(forced < 5, "{mode:?}: {forced}");
        assert_eq!(draws > 300, mode.overlap().is_some());
    }
}

#[test]
fn all_quarters_and_choices_come_up() {
    let mut corners = BTreeMap::new();
    let (mut jittered, mut grey, mut blurred, mut flipped) = (0, 0, 0, 0);
    for recipe in recipes(Mode::NoInter) {
        let corner = |part: Rectangle| (part.top >= SIZE.1 / 2, part.left >= SIZE.0 / 2);
        let pair = recipe.views.each_ref().map(|view| corner(view.part));
        *corners.entry(pair).or_insert(0) += 1;
        for view in &recipe.views {
            jittered += usize::from(view.jitter.is_some());
            grey += usize::from(view.grey);
            blurred += usize::from(view.blur.is_some());
            flipped += usize::from(view.flip);
            if let Some(jitter) = &view.jitter {
                for factor in [jitter.brightness, jitter.contrast, jitter.saturation] {
                    assert!((0.6..=1.4).contains(&factor));
                }
                assert!((-0.1..=0.1).contains(&jitter.hue));
            }
            assert!(view.blur.is_none_or(|sigma| (0.1..=2.0).contains(&sigma)));
        }
    }
    assert_eq!(corners.len(), 12, "{corners:?}");
    // Of 600 views, four standard deviations about the mean.
    for (count, mean, spread) in [
        (jittered, 480, 40),
        (grey, 120, 40),
        (blurred, 300, 49),
        (flipped, 300, 49),
    ] {
        assert!(usize::abs_diff(count, mean) <= spread, "{count} {mean}");
    }
}

#[test]
fn patches_cover_the_overlap_or_as_much_elsewhere() {
    let image = photograph_of(SIZE);
    for recipe in recipes(Mode::Hard).iter().take(12) {
        let pictures = pictures(&image, recipe);
        assert_eq!(pictures.len(), 10);
        let unflipped: Vec<Image> = pictures
            .iter()
            .enumerate()
            .map(|(at, picture)| {
                let mut picture = picture.clone();
                if recipe.views[at % 2].flip {
                    flip(&mut picture);
                }
                picture
            })
            .collect();
        for (at, picture) in unflipped.iter().enumerate().skip(2) {
            let (view, patch) = recipe.patches[at - 2];
            assert_eq!(view, at % 2);
            let Patch { part, fill } = patch.unwrap();
            let base = &unflipped[view];
            let over = recipe.patches[view].1.unwrap().part;
            assert_eq!((part.height, part.width), (over.height, over.width));
            assert_eq!(part == over, [2, 3, 6, 7].contains(&at), "{at}");
            for y in 0..SIDE {
                for x in 0..SIDE {
                    let inside = (part.top..part.top + part.height).contains(&y)
                        && (part.left..part.left + part.width).contains(&x);
                    let pixel = &picture.row(y)[3 * x..3 * x + 3];
                    match fill {
                        _ if !inside => assert_eq!(pixel, &base.row(y)[3 * x..3 * x + 3]),
                        Fill::MeanColor => assert_eq!(pixel, MEAN_COLOR),
                        Fill::Noise(_) => {
                            // The same noise stands at both places.
                            let first = &unflipped[2 + view];
                            let (y, x) = (y - part.top + over.top, x - part.left + over.left);
                            assert_eq!(pixel, &first.row(y)[3 * x..3 * x + 3]);
                        }
                    }
                }
            }
        }
    }
}

/// Crops of a strip overlap by whole columns or not at all: often no draw meets the bounds.
#[test]
fn a_pair_that_was_forced_apart_has_no_patches() {
    let mut recipes = (0..40).map(|key| Recipe::draw(Mode::Hard, (8, 1), 3, key).unwrap());
    let apart = |pair: Pair| pair.forced && pair.iou == 0.0;
    let recipe = recipes
        .find(|recipe| recipe.pair.is_some_and(apart))
        .unwrap();
    assert_eq!(recipe.pair.unwrap().draws, 1001);
    assert!(recipe.patches.iter().all(|(_, patch)| patch.is_none()));
    let pictures = pictures(&photograph_of((8, 1)), &recipe);
    for (at, picture) in pictures.iter().enumerate() {
        assert!(*picture == pictures[at % 2]);
    }
}

#[test]
fn views_depend_on_seed_and_image_alone() {
    let first = |seed, key| Recipe::draw(Mode::MoCo, SIZE, seed, key).unwrap();
    assert_eq!(first(1, 2), first(1, 2));
    assert_ne!(first(1, 2), first(1, 3));
    assert_ne!(first(1, 2), first(2, 2));
}

#[test]
fn the_smallest_images_have_views_or_are_refused() {
    for mode in Mode::ALL {
        for (width, height) in [(1, 1), (2, 2), (1, 9), (3, 500)] {
            let recipe = Recipe::draw(mode, (width, height), 3, 4);
            assert_eq!(recipe.is_none(), mode == Mode::NoInter && width == 1);
            if let Some(recipe) = recipe {
                let pictures = pictures(&Image::black(width, height), &recipe);
                assert_eq!(pictures.len() + 1, mode.files());
                assert!(pictures.iter().all(|p| (p.width, p.height) == (SIDE, SIDE)));
            }
        }
    }
}
