//! The geometry of a picture: its components, their blocks and how they are brought to full size.
//!
//! A component has whole blocks, as many as whole minimum coded units need, and of their samples only `width` by
//! `height` are meant: interpolation must not look at the others.

use super::{color::Space, huffman::Table};

/// How a component reaches the size of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enlargement {
    None,
    /// Interpolated to twice the width.
    Width,
    /// Interpolated to twice the height.
    Height,
    /// Interpolated to twice both.
    Both,
    /// Samples repeated to this many times the width, and rows as often as needed.
    Repeat(usize),
}

/// One component of a picture.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks of a minimum coded unit in each direction.
    pub(super) across: usize,
    pub(super) down: usize,
    /// Which quantization table the component names.
    pub(super) table: usize,
    /// The table's content when the first scan of the component began.
    pub(super) quantization: Option<[u16; 64]>,
    /// Samples that count.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks of whole units.
    pub(super) blocks_wide: usize,
    pub(super) blocks_high: usize,
    /// Rows of the picture for each row of the component.
    pub(super) rows_for_one: usize,
    pub(super) enlargement: Enlargement,
}

/// The frame header.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) is_progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Rows of the picture in each row of the component with the fewest.
    pub(super) most_down: usize,
    pub(super) most_across: usize,
    /// Minimum coded units in each direction.
    pub(super) units_wide: usize,
    pub(super) units_high: usize,
    pub(super) components: Vec<Component>,
}

impl Frame {
    /// A frame from the body of its segment; `None` for what this decoder leaves to another.
    pub(super) fn parse(body: &[u8], is_progressive: bool) -> Option<Self> {
        let (&[precision, h1, h0, w1, w0, count], rest) = body.split_first_chunk::<6>()?;
        let height = usize::from(u16::from_be_bytes([h1, h0]));
        let width = usize::from(u16::from_be_bytes([w1, w0]));
        let (specs, rest) = rest.as_chunks::<3>();
        let count = usize::from(count);
        if precision != 8 || width == 0 || height == 0 || specs.len() != count || !rest.is_empty() {
            return None;
        }
        if !matches!(count, 1 | 3 | 4) {
            return None;
        }
        let mut factors: Vec<(usize, usize)> = specs
            .iter()
            .map(|spec| (usize::from(spec[1] >> 4), usize::from(spec[1] & 15)))
            .collect();
        if factors
            .iter()
            .any(|&(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v))
        {
            return None;
        }
        if count == 1 {
            // A single component is never subsampled, whatever it says.
            factors[0] = (1, 1);
        }
        let most_across = factors.iter().map(|f| f.0).max()?;
        let most_down = factors.iter().map(|f| f.1).max()?;
        let units_wide = width.div_ceil(8 * most_across);
        let units_high = height.div_ceil(8 * most_down);
        let mut components: Vec<Component> = Vec::with_capacity(count);
        for (spec, (across, down)) in specs.iter().zip(factors) {
            if most_across % across != 0 || most_down % down != 0 || spec[2] > 3 {
                return None;
            }
            if components.iter().any(|other| other.id == spec[0]) {
                return None;
            }
            let component_width = (width * across).div_ceil(most_across);
            let wide_enough = component_width > 2;
            let enlargement = match (most_across / across, most_down / down) {
                (1, 1) => Enlargement::None,
                (2, 1) if wide_enough => Enlargement::Width,
                (1, 2) => Enlargement::Height,
                (2, 2) if wide_enough => Enlargement::Both,
                (factor, _) => Enlargement::Repeat(factor),
            };
            components.push(Component {
                id: spec[0],
                across,
                down,
                table: usize::from(spec[2]),
                quantization: None,
                width: component_width,
                height: (height * down).div_ceil(most_down),
                blocks_wide: units_wide * across,
                blocks_high: units_high * down,
                rows_for_one: most_down / down,
                enlargement,
            });
        }
        Some(Self {
            is_progressive,
            width,
            height,
            most_down,
            most_across,
            units_wide,
            units_high,
            components,
        })
    }

    /// What the components stand for, by libjpeg's rules.
    pub(super) fn space(&self, has_jfif: bool, adobe: Option<u8>) -> Space {
        let ids: Vec<u8> = self
            .components
            .iter()
            .map(|component| component.id)
            .collect();
        match (ids.len(), adobe) {
            (1, _) => Space::Grey,
            (4, Some(0) | None) => Space::Cmyk,
            (4, Some(_)) => Space::Ycck,
            _ if has_jfif => Space::YCbCr,
            (_, Some(0)) => Space::Rgb,
            (_, Some(_)) => Space::YCbCr,
            _ if ids == *b"RGB" => Space::Rgb,
            _ => Space::YCbCr,
        }
    }

    /// Bytes that all coefficients take.
    pub(super) fn coefficient_bytes(&self) -> u64 {
        let blocks = self
            .components
            .iter()
            .map(|c| c.blocks_wide * c.blocks_high);
        128 * blocks.map(|blocks| blocks as u64).sum::<u64>()
    }
}

/// Which coefficients a scan brings, of which components.
#[derive(Debug)]
pub(super) struct ScanHeader {
    /// Place in the frame, DC table and AC table of each component.
    pub(super) components: Vec<(usize, usize, usize)>,
    /// The first and the last coefficient in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// The bit that the scan before reached, 0 for none, and the bit that this one reaches.
    pub(super) high: u8,
    pub(super) low: u8,
}

impl ScanHeader {
    /// A scan from the body of its segment; `None` where it makes no sense for the frame.
    pub(super) fn parse(body: &[u8], frame: &Frame) -> Option<Self> {
        let (&count, rest) = body.split_first()?;
        let (specs, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let &[first, last, approximation] = <&[u8; 3]>::try_from(rest).ok()?;
        let mut components: Vec<(usize, usize, usize)> = Vec::with_capacity(specs.len() / 2);
        for spec in specs.as_chunks::<2>().0 {
            let place = frame.components.iter().position(|c| c.id == spec[0])?;
            let (dc, ac) = (usize::from(spec[1] >> 4), usize::from(spec[1] & 15));
            if components.iter().any(|&(other, ..)| other == place) || dc > 3 || ac > 3 {
                return None;
            }
            components.push((place, dc, ac));
        }
        let blocks: usize = components
            .iter()
            .map(|&(place, ..)| frame.components[place].across * frame.components[place].down)
            .sum();
        if components.is_empty() || components.len() > 1 && blocks > 10 {
            return None;
        }
        let mut scan = Self {
            components,
            first: usize::from(first),
            last: usize::from(last),
            high: approximation >> 4,
            low: approximation & 15,
        };
        if !frame.is_progressive {
            // Sequential scans bring everything; some programs write other limits.
            (scan.first, scan.last, scan.high, scan.low) = (0, 63, 0, 0);
            return Some(scan);
        }
        let is_dc = scan.first == 0;
        let range_fits = if is_dc {
            scan.last == 0
        } else {
            scan.first <= scan.last && scan.last < 64 && scan.components.len() == 1
        };
        let bits_fit = scan.low <= 13 && (scan.high == 0 || scan.high == scan.low + 1);
        (range_fits && bits_fit).then_some(scan)
    }
}

/// Tables that scans refer to; segments replace them on the way.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) quantization: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Box<Table>>; 4],
    pub(super) ac: [Option<Box<Table>>; 4],
    /// Minimum coded units between restart markers, 0 for no restarts.
    pub(super) restart_interval: usize,
}
