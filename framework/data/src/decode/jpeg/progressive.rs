//! The blocks of progressive scans: coefficients come in ranges, and their bits from the top down.
//!
//! A first scan of a range sets coefficients, later ones add a bit to each that is set and set those that reach their
//! first bit. An end-of-band run covers blocks in which nothing more is set, but whose coefficients still get their bit.

use super::{
    frame::{ScanHeader, Tables},
    huffman::{Bits, Table},
    marker::ORDER,
    scan::Blocks,
};

/// What one progressive scan carries from block to block.
pub(super) struct Progressive<'t> {
    /// By component of the scan, for a first DC scan.
    dc: Vec<&'t Table>,
    ac: Option<&'t Table>,
    first: usize,
    last: usize,
    low: u8,
    is_refinement: bool,
    predictions: [i32; 4],
    /// Blocks left in which nothing is set.
    band_run: u32,
}

impl<'t> Progressive<'t> {
    /// `None` if a table is missing.
    pub(super) fn new(scan: &ScanHeader, tables: &'t Tables) -> Option<Self> {
        let is_refinement = scan.high != 0;
        let mut dc = Vec::new();
        let mut ac = None;
        if scan.first > 0 {
            ac = Some(tables.ac[scan.components[0].2].as_deref()?);
        } else if !is_refinement {
            for &(_, table, _) in &scan.components {
                dc.push(tables.dc[table].as_deref()?);
            }
        }
        Some(Self {
            dc,
            ac,
            first: scan.first,
            last: scan.last,
            low: scan.low,
            is_refinement,
            predictions: [0; 4],
            band_run: 0,
        })
    }
}

impl Blocks for Progressive<'_> {
    fn restart(&mut self) {
        self.predictions = [0; 4];
        self.band_run = 0;
    }

    fn decode(&mut self, bits: &mut Bits, index: usize, block: &mut [i16; 64]) {
        match (self.ac, self.is_refinement) {
            (None, false) => {
                let (_, difference) = bits.run_and_value(self.dc[index]);
                let prediction = &mut self.predictions[index];
                *prediction = prediction.wrapping_add(difference);
                block[0] = (*prediction << self.low) as i16;
            }
            (None, true) => {
                if bits.bit() {
                    block[0] |= 1 << self.low;
                }
            }
            (Some(table), false) => self.set(bits, table, block),
            (Some(table), true) => self.refine(bits, table, block),
        }
    }
}

impl Progressive<'_> {
    /// A first scan of AC coefficients.
    fn set(&mut self, bits: &mut Bits, table: &Table, block: &mut [i16; 64]) {
        if self.band_run > 0 {
            self.band_run -= 1;
            return;
        }
        let mut k = self.first;
        while k <= self.last {
            let (run, value) = bits.run_and_value(table);
            if value != 0 {
                k += run;
                block[usize::from(ORDER[k & 127] & 63)] = (value << self.low) as i16;
                k += 1;
            } else if run == 15 {
                k += 16;
            } else {
                // This block is the first of the run.
                self.band_run = (1 << run) + bits.number(run as u32) - 1;
                break;
            }
        }
    }

    /// A later scan of AC coefficients.
    fn refine(&mut self, bits: &mut Bits, table: &Table, block: &mut [i16; 64]) {
        let bit = 1i16 << self.low;
        let mut k = self.first;
        if self.band_run == 0 {
            while k <= self.last {
                let symbol = bits.symbol(table);
                let (mut run, size) = (symbol >> 4, symbol & 15);
                let mut value = 0;
                if size != 0 {
                    // Only sizes of 1 make sense; what to set comes before the bits of those passed over.
                    value = if bits.bit() { bit } else { -bit };
                } else if run != 15 {
                    self.band_run = (1 << run) + bits.number(u32::from(run));
                    break;
                }
                while k <= self.last {
                    let place = &mut block[usize::from(ORDER[k] & 63)];
                    if *place != 0 {
                        add_bit(bits, place, bit);
                    } else if run == 0 {
                        *place = value;
                        k += 1;
                        break;
                    } else {
                        run -= 1;
                    }
                    k += 1;
                }
            }
        }
        if self.band_run > 0 {
            self.band_run -= 1;
            // Most such blocks are empty, which is seen faster as a whole.
            let any = |values: &[i16]| values.iter().fold(0, |all, &value| all | value) != 0;
            if !any(&block[8..]) && !any(&block[1..8]) {
                return;
            }
            for &at in &ORDER[k..=self.last] {
                let place = &mut block[usize::from(at & 63)];
                if *place != 0 {
                    add_bit(bits, place, bit);
                }
            }
        }
    }
}

/// Adds the next bit to a coefficient that is set, away from zero, unless it has it already.
#[inline(always)]
fn add_bit(bits: &mut Bits, place: &mut i16, bit: i16) {
    if bits.bit() && *place & bit == 0 {
        *place = place.wrapping_add(if *place > 0 { bit } else { -bit });
    }
}
