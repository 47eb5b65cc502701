//! The walk through the minimum coded units of a scan, and the blocks of sequential scans.
//!
//! Damage is met as libjpeg meets it: behind an unexpected marker blocks keep what they have, up to the next restart
//! marker in its turn.

use std::ops::Range;

use super::{
    frame::{Frame, ScanHeader, Tables},
    huffman::{Bits, Table},
    marker::ORDER,
};

/// The place of a scan in its data, and where its restarts are.
pub(super) struct Walk<'a> {
    pub(super) bits: Bits<'a>,
    /// Units between restarts, 0 for none.
    interval: usize,
    /// Units until the next restart.
    left: usize,
    /// The low bits of the next restart marker's code.
    next: u8,
    /// Whether the data ended early.
    is_short: bool,
}

/// What to do for a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Decode it.
    Decode,
    /// Decode it after setting all predictions to zero.
    Restart,
    /// Leave it as it is.
    Skip,
    /// Leave it and all that follow.
    Stop,
}

impl<'a> Walk<'a> {
    pub(super) fn new(data: &'a [u8], at: usize, interval: usize) -> Self {
        Self {
            bits: Bits::new(data, at),
            interval,
            left: interval,
            next: 0,
            is_short: false,
        }
    }

    /// Looks at the data before a unit.
    #[inline]
    pub(super) fn step(&mut self) -> Step {
        let mut step = Step::Decode;
        if self.interval > 0 {
            if self.left == 0 {
                self.left = self.interval;
                self.restart();
                step = Step::Restart;
            }
            self.left -= 1;
        }
        self.is_short |= self.bits.is_exhausted();
        if !self.is_short {
            return step;
        }
        let may_go_on =
            self.interval > 0 && matches!(self.bits.marker(), Some((0xD0..=0xD7 | 0x01..=0xBF, _)));
        if may_go_on { Step::Skip } else { Step::Stop }
    }

    /// Goes behind the next restart marker, if it is the right one or near enough.
    fn restart(&mut self) {
        let expected = self.next;
        self.next = (self.next + 1) & 7;
        while let Some((code, at)) = self.bits.marker() {
            let ahead = match code {
                // No marker that exists.
                0x01..=0xBF => None,
                0xD0..=0xD7 => Some((code.wrapping_sub(expected)) & 7),
                // The end of the scan: nothing more to come.
                _ => Some(1),
            };
            match ahead {
                // One or two restarts are missing: this marker is for later.
                Some(1 | 2) => {
                    self.bits.go_to(at);
                    break;
                }
                // A late one, or none at all: look further.
                Some(6 | 7) | None => self.bits.go_to(at + 2),
                // The right one, or one too far off to tell.
                Some(_) => {
                    self.bits.go_to(at + 2);
                    self.is_short = false;
                    return;
                }
            }
        }
        self.is_short = true;
    }

    /// Where the marker behind the scan is, or the end of the file.
    pub(super) fn end(&self, data: &[u8]) -> usize {
        self.bits.marker().map_or(data.len(), |(_, at)| at)
    }
}

/// A way to code blocks.
pub(super) trait Blocks {
    /// Forgets what carries over from block to block.
    fn restart(&mut self);

    /// Decodes a scan's part of a block of its component `index`.
    fn decode(&mut self, bits: &mut Bits, index: usize, block: &mut [i16; 64]);
}

/// The tables of the components of a sequential scan, and their last DC values.
pub(super) struct Sequential<'t> {
    tables: Vec<(&'t Table, &'t Table)>,
    predictions: [i16; 4],
}

impl<'t> Sequential<'t> {
    /// `None` if a table is missing.
    pub(super) fn new(scan: &ScanHeader, tables: &'t Tables) -> Option<Self> {
        let pair = |&(_, dc, ac): &(usize, usize, usize)| {
            Some((tables.dc[dc].as_deref()?, tables.ac[ac].as_deref()?))
        };
        Some(Self {
            tables: scan.components.iter().map(pair).collect::<Option<_>>()?,
            predictions: [0; 4],
        })
    }
}

impl Blocks for Sequential<'_> {
    fn restart(&mut self) {
        self.predictions = [0; 4];
    }

    #[inline]
    fn decode(&mut self, bits: &mut Bits, index: usize, block: &mut [i16; 64]) {
        let (dc, ac) = self.tables[index];
        let mut local = *bits;
        let (_, difference) = local.run_and_value(dc);
        let prediction = &mut self.predictions[index];
        *prediction = prediction.wrapping_add(difference as i16);
        block[0] = *prediction;
        let mut k = 1;
        while k < 64 {
            let (run, value) = local.run_and_value(ac);
            if value == 0 {
                if run != 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            block[usize::from(ORDER[k & 127] & 63)] = value as i16;
            k += 1;
        }
        *bits = local;
    }
}

/// Decodes the blocks of some rows of a scan's units into `coefficients`, one store a component with its row-major
/// blocks of whole units, of which row 0 is the scan's first or the only one that is decoded; says whether there may be more to decode.
pub(super) fn walk_rows(
    walk: &mut Walk,
    frame: &Frame,
    scan: &ScanHeader,
    rows: Range<usize>,
    coefficients: &mut [Vec<i16>],
    blocks: &mut impl Blocks,
) -> bool {
    let is_single = scan.components.len() == 1;
    let (wide, _) = units(frame, scan);
    for row in rows {
        for column in 0..wide {
            match walk.step() {
                Step::Decode => {}
                Step::Restart => blocks.restart(),
                Step::Skip => continue,
                Step::Stop => return false,
            }
            for (index, &(place, ..)) in scan.components.iter().enumerate() {
                let component = &frame.components[place];
                let store = coefficients[place].as_chunks_mut::<64>().0;
                let (across, down) = match is_single {
                    true => (1, 1),
                    false => (component.across, component.down),
                };
                for y in 0..down {
                    let at = (row * down + y) * component.blocks_wide + column * across;
                    for block in &mut store[at..at + across] {
                        blocks.decode(&mut walk.bits, index, block);
                    }
                }
            }
        }
    }
    true
}

/// Units of a scan in each direction.
pub(super) fn units(frame: &Frame, scan: &ScanHeader) -> (usize, usize) {
    match scan.components[..] {
        // A single component has blocks as units, and none beyond its edges.
        [(place, ..)] => {
            let component = &frame.components[place];
            (component.width.div_ceil(8), component.height.div_ceil(8))
        }
        _ => (frame.units_wide, frame.units_high),
    }
}
