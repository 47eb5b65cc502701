//! Colours that tell classes apart, also for eyes that do not tell red from green.

use super::drawing::Colour;

/// Colours for up to ten classes: Tol's scheme "muted" and a grey.
const FEW: [Colour; 10] = [
    [0x33, 0x22, 0x88],
    [0xcc, 0x66, 0x77],
    [0x11, 0x77, 0x33],
    [0xdd, 0xaa, 0x33],
    [0x33, 0xaa, 0xdd],
    [0x88, 0x22, 0x55],
    [0x44, 0xaa, 0x99],
    [0xaa, 0x44, 0x99],
    [0x77, 0x77, 0x22],
    [0x55, 0x55, 0x55],
];

/// The colour of an original where classes do not matter.
pub const ORIGINAL: Colour = FEW[0];

/// The colour of a view: as far from the originals' as can be.
pub const VIEW: Colour = [0xd5, 0x5e, 0x00];

/// Lightness of neighbouring hues, which take turns, in Oklab.
const LIGHTNESS: [f64; 3] = [0.5, 0.66, 0.78];

/// Strength of hues in Oklab, within what a screen shows at these lightnesses.
const CHROMA: f64 = 0.115;

/// Lightness in Oklab of black turned to a dark ground.
const DARKEST: f64 = 0.5;

/// Colours of `count` classes: hand-picked for a few, around the circle of hues in Oklab (Ottosson 2020) for many.
pub fn classes(count: usize) -> Vec<Colour> {
    if count <= FEW.len() {
        return FEW[..count].to_vec();
    }
    let colour = |class: usize| {
        let hue = std::f64::consts::TAU * class as f64 / count as f64;
        let (a, b) = (CHROMA * hue.cos(), CHROMA * hue.sin());
        from_oklab(LIGHTNESS[class % LIGHTNESS.len()], a, b)
    };
    (0..count).map(colour).collect()
}

/// The colour on a dark ground: of the same hue, but nothing is darker than a medium lightness.
pub fn on_dark(colour: Colour) -> Colour {
    let [lightness, a, b] = to_oklab(colour);
    from_oklab(DARKEST + (1.0 - DARKEST) * lightness, a, b)
}

/// Lightness and the two axes of hue of a colour.
fn to_oklab(colour: Colour) -> [f64; 3] {
    let [red, green, blue] = colour.map(|part| {
        let part = f64::from(part) / 255.0;
        match part <= 0.040_45 {
            true => part / 12.92,
            false => ((part + 0.055) / 1.055).powf(2.4),
        }
    });
    let long = (0.412_221_470_8 * red + 0.536_332_536_3 * green + 0.051_445_992_9 * blue).cbrt();
    let medium = (0.211_903_498_2 * red + 0.680_699_545_1 * green + 0.107_396_956_6 * blue).cbrt();
    let short = (0.088_302_461_9 * red + 0.281_718_837_6 * green + 0.629_978_700_5 * blue).cbrt();
    [
        0.210_454_255_3 * long + 0.793_617_785_0 * medium - 0.004_072_046_8 * short,
        1.977_998_495_1 * long - 2.428_592_205_0 * medium + 0.450_593_709_9 * short,
        0.025_904_037_1 * long + 0.782_771_766_2 * medium - 0.808_675_766_0 * short,
    ]
}

/// The nearest colour that a screen shows.
fn from_oklab(lightness: f64, a: f64, b: f64) -> Colour {
    let long = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let medium = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let short = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    let linear = [
        4.076_741_662_1 * long - 3.307_711_591_3 * medium + 0.230_969_929_2 * short,
        -1.268_438_004_6 * long + 2.609_757_401_1 * medium - 0.341_319_396_5 * short,
        -0.004_196_086_3 * long - 0.703_418_614_7 * medium + 1.707_614_701_0 * short,
    ];
    linear.map(|part| {
        let part = part.clamp(0.0, 1.0);
        let curved = match part <= 0.003_130_8 {
            true => 12.92 * part,
            false => 1.055 * part.powf(1.0 / 2.4) - 0.055,
        };
        (255.0 * curved).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_of_a_hundred_classes_are_alike() {
        for count in [0, 1, 10, 11, 20, 100] {
            let colours = classes(count);
            assert_eq!(colours.len(), count);
            for (i, a) in colours.iter().enumerate() {
                for b in &colours[..i] {
                    let far = a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b)));
                    assert!(far.sum::<u32>() > 5, "{count}: {a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn on_a_dark_ground_every_colour_shows_and_none_is_another() {
        // Relative luminance, as the contrast of web pages counts it.
        let luminance = |colour: Colour| {
            let linear = colour.map(|part| (f64::from(part) / 255.0).powf(2.2));
            0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        };
        let ground = luminance([0x1b, 0x1d, 0x2c]);
        for count in [10, 24, 100] {
            let colours: Vec<Colour> = classes(count).into_iter().map(on_dark).collect();
            for (i, &colour) in colours.iter().enumerate() {
                let contrast = (luminance(colour) + 0.05) / (ground + 0.05);
                assert!(contrast > 4.5, "{colour:?}: {contrast}");
                assert!(!colours[..i].contains(&colour));
            }
        }
    }

    #[test]
    fn oklab_comes_back() {
        for colour in [[0, 0, 0], [255, 255, 255], [0x33, 0x22, 0x88], [1, 200, 90]] {
            let [lightness, a, b] = to_oklab(colour);
            assert_eq!(from_oklab(lightness, a, b), colour);
        }
    }

    #[test]
    fn grey_in_oklab_is_grey() {
        assert_eq!(from_oklab(1.0, 0.0, 0.0), [255; 3]);
        assert_eq!(from_oklab(0.0, 0.0, 0.0), [0; 3]);
        let [red, green, blue] = from_oklab(0.6, 0.0, 0.0);
        assert!(red == green && green == blue && (100..160).contains(&red));
    }
}
