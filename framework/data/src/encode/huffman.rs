//! The entropy-coded data: quantised blocks as Huffman codes, in units of four luma blocks and two of colour differences.
//!
//! The codes are fixed (ITU-T T.81, annex K), so a symbol's code is looked up with its length. Only coefficients that are not
//! zero are visited, by a bit mask in zigzag order.

use super::{header::ZIGZAG, strip::Strip};
use crate::kernel::dispatch_narrow;

/// A Huffman code as it stands in a file.
pub(super) struct Code {
    /// Codes of one to sixteen bits.
    pub counts: [u8; 16],
    /// Their symbols, short codes first.
    pub symbols: &'static [u8],
}

/// Which of the two pairs of codes, and of the two quantisations, a component has.
#[derive(Clone, Copy)]
pub(super) enum Component {
    /// Luma.
    Luma,
    /// Either colour difference.
    Chroma,
}

impl Component {
    /// The code of the sizes of differences of constants.
    pub(super) const fn constant(self) -> Code {
        match self {
            Self::Luma => LUMA_CONSTANT,
            Self::Chroma => CHROMA_CONSTANT,
        }
    }

    /// The code of runs of zeros and sizes of what follows them.
    pub(super) const fn others(self) -> Code {
        match self {
            Self::Luma => LUMA_OTHERS,
            Self::Chroma => CHROMA_OTHERS,
        }
    }

    const fn words(self) -> Words {
        Words {
            constant: words(&self.constant()),
            others: words(&self.others()),
        }
    }
}

/// The words of both codes of a component, by symbol: the code, with room for the bits behind it, above six bits of the length of
/// both.
struct Words {
    constant: [u32; 256],
    others: [u32; 256],
}

static LUMA: Words = Component::Luma.words();
static CHROMA: Words = Component::Chroma.words();

/// The symbol of sixteen zeros.
const SIXTEEN_ZEROS: usize = 0xF0;

/// The symbol of nothing but zeros to the block's end.
const END: usize = 0;

/// The canonical code by symbol; a symbol's lower four bits say how many bits follow its code.
const fn words(code: &Code) -> [u32; 256] {
    let mut words = [0; 256];
    let (mut next, mut index, mut length) = (0, 0, 1);
    while length <= 16 {
        let mut left = code.counts[length - 1];
        while left > 0 {
            let symbol = code.symbols[index] as usize;
            let size = symbol & 15;
            words[symbol] = next << (size + 6) | (length + size) as u32;
            next += 1;
            index += 1;
            left -= 1;
        }
        next <<= 1;
        length += 1;
    }
    words
}

/// For each byte of a mask in natural order, the mask of the same coefficients in zigzag order.
static TO_ZIGZAG: [[u64; 256]; 8] = {
    let mut masks = [[0; 256]; 8];
    let mut place = 0;
    while place < 64 {
        let (row, column) = (ZIGZAG[place] as usize / 8, ZIGZAG[place] % 8);
        let mut byte = 0;
        while byte < 256 {
            if byte >> column & 1 == 1 {
                masks[row][byte] |= 1 << place;
            }
            byte += 1;
        }
        place += 1;
    }
    masks
};

/// Bytes that are collected before zeros are put in behind those of 255.
const RAW: usize = 8192;

/// The most bytes of a unit, and of the eight that are written at once: six blocks of 64 symbols of at most 27 bits.
const UNIT: usize = 6 * 64 * 27 / 8 + 8;

/// A scan that is being written.
pub(super) struct Scan<'a> {
    file: &'a mut Vec<u8>,
    bits: Bits,
    /// The constant of the last block of each component.
    constants: [i16; 3],
    raw: Box<[u8; RAW]>,
}

/// The end of what was collected.
#[derive(Clone, Copy, Default)]
pub(super) struct Bits {
    /// Whole bytes collected.
    bytes: usize,
    /// The bits behind them, the last one lowest; what lies above `count` is in the bytes.
    word: u64,
    /// How many there are, below 8 between symbols.
    count: u32,
}

impl<'a> Scan<'a> {
    /// Begins a scan behind the headers in `file`.
    pub(super) fn new(file: &'a mut Vec<u8>) -> Self {
        Self {
            file,
            bits: Bits::default(),
            constants: [0; 3],
            raw: Box::new([0; RAW]),
        }
    }

    /// Appends the units of a strip.
    pub(super) fn write(&mut self, strip: &Strip) {
        let mut unit = 0;
        while unit < strip.units {
            unit = units(
                unit,
                strip,
                &mut self.constants,
                &mut self.bits,
                &mut self.raw,
            );
            stuff(&self.raw[..self.bits.bytes], self.file);
            self.bits.bytes = 0;
        }
    }

    /// Fills the last byte up with ones and ends the file.
    pub(super) fn finish(mut self) {
        self.bits.put(&mut self.raw, 0x7F, 7);
        stuff(&self.raw[..self.bits.bytes], self.file);
        self.file.extend([0xFF, 0xD9]);
    }
}

dispatch_narrow! {
    /// Appends units of a strip from `first` on until there may be no room for another one; the first that is left.
    pub fn units(first: usize, strip: &Strip, constants: &mut [i16; 3], bits: &mut Bits, raw: &mut [u8; RAW]) -> usize = write_units;
}

#[inline(always)]
fn write_units(
    first: usize,
    strip: &Strip,
    constants: &mut [i16; 3],
    kept: &mut Bits,
    raw: &mut [u8; RAW],
) -> usize {
    let [luma, blue, red] = strip
        .coefficients
        .each_ref()
        .map(|blocks| blocks.as_chunks::<64>().0);
    let across = strip.luma_blocks;
    // A copy stays in registers.
    let (mut bits, mut unit) = (*kept, first);
    while unit < strip.units && bits.bytes + UNIT <= RAW {
        for y in 0..2 {
            for x in [2 * unit, 2 * unit + 1] {
                if y < strip.luma_rows && x < across {
                    bits.block(raw, &luma[y * across + x], &mut constants[0], &LUMA);
                } else {
                    // Only completes the unit: the constant of the block before, and nothing else.
                    bits.symbol(raw, LUMA.constant[0], 0);
                    bits.symbol(raw, LUMA.others[END], 0);
                }
            }
        }
        bits.block(raw, &blue[unit], &mut constants[1], &CHROMA);
        bits.block(raw, &red[unit], &mut constants[2], &CHROMA);
        unit += 1;
    }
    *kept = bits;
    unit
}

impl Bits {
    /// Appends a block whose component's last constant was `last`.
    #[inline(always)]
    fn block(&mut self, raw: &mut [u8; RAW], block: &[i16; 64], last: &mut i16, words: &Words) {
        let difference = i32::from(block[0]) - i32::from(*last);
        *last = block[0];
        self.value(raw, &words.constant, 0, difference);
        let natural = nonzero(block).to_le_bytes();
        let mut mask = 0;
        for (row, &byte) in TO_ZIGZAG.iter().zip(&natural) {
            mask |= row[usize::from(byte)];
        }
        // The constant is done.
        mask &= !1;
        let mut next = 1;
        while mask != 0 {
            let place = mask.trailing_zeros();
            mask &= mask - 1;
            let mut zeros = place - next;
            while zeros > 15 {
                self.symbol(raw, words.others[SIXTEEN_ZEROS], 0);
                zeros -= 16;
            }
            let value = i32::from(block[usize::from(ZIGZAG[place as usize])]);
            self.value(raw, &words.others, zeros as usize, value);
            next = place + 1;
        }
        if next < 64 {
            self.symbol(raw, words.others[END], 0);
        }
    }

    /// Appends a value behind `zeros` zeros: the code of both sizes, then as many bits as the value needs, those of a
    /// negative one less 1.
    #[inline(always)]
    fn value(&mut self, raw: &mut [u8; RAW], words: &[u32; 256], zeros: usize, value: i32) {
        let size = 32 - value.unsigned_abs().leading_zeros();
        let bits = (value + (value >> 31)) as u32 & ((1 << size) - 1);
        self.symbol(raw, words[zeros << 4 | size as usize], bits);
    }

    /// Appends the code of a symbol and the bits behind it.
    #[inline(always)]
    fn symbol(&mut self, raw: &mut [u8; RAW], word: u32, bits: u32) {
        self.put(raw, word >> 6 | bits, word & 63);
    }

    /// Appends from 1 to 32 bits.
    #[inline(always)]
    fn put(&mut self, raw: &mut [u8; RAW], bits: u32, count: u32) {
        self.word = self.word << count | u64::from(bits);
        self.count += count;
        // Eight bytes each time, of which the whole ones count: that needs no decision.
        let aligned = self.word << (64 - self.count);
        raw[self.bytes..][..8].copy_from_slice(&aligned.to_be_bytes());
        self.bytes += self.count as usize / 8;
        self.count %= 8;
    }
}

/// Appends bytes of data; a zero behind 255 tells it from a marker.
fn stuff(mut raw: &[u8], file: &mut Vec<u8>) {
    file.reserve(raw.len());
    while let Some((some, rest)) = raw.split_at_checked(16) {
        if some.iter().fold(false, |any, &byte| any | (byte == 0xFF)) {
            some.iter().for_each(|&byte| push(file, byte));
        } else {
            file.extend_from_slice(some);
        }
        raw = rest;
    }
    raw.iter().for_each(|&byte| push(file, byte));
}

/// Appends a byte of data.
fn push(file: &mut Vec<u8>, byte: u8) {
    file.push(byte);
    if byte == 0xFF {
        file.push(0);
    }
}

/// Which coefficients of a block are not zero, the first lowest.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn nonzero(block: &[i16; 64]) -> u64 {
    use std::arch::x86_64::*;
    let mut zeros = 0;
    for (i, sixteen) in block.as_chunks::<16>().0.iter().enumerate() {
        // SAFETY: SSE2 is part of the target; the sixteen numbers are read as two vectors of eight.
        let mask = unsafe {
            let at: *const __m128i = sixteen.as_ptr().cast();
            // Saturation leaves zeros, and only those, zero.
            let bytes = _mm_packs_epi16(_mm_loadu_si128(at), _mm_loadu_si128(at.add(1)));
            _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_setzero_si128()))
        };
        zeros |= u64::from(mask as u16) << (16 * i);
    }
    !zeros
}

/// Which coefficients of a block are not zero, the first lowest.
#[cfg(not(target_arch = "x86_64"))]
fn nonzero(block: &[i16; 64]) -> u64 {
    (0..64).fold(0, |mask, i| mask | u64::from(block[i] != 0) << i)
}

/// The code of luma's constants.
const LUMA_CONSTANT: Code = Code {
    counts: [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
    symbols: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
};

/// The code of luma's other coefficients.
const LUMA_OTHERS: Code = Code {
    counts: [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125],
    symbols: &[
        0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61,
        0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52,
        0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25,
        0x26, 0x27, 0x28, 0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45,
        0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64,
        0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83,
        0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
        0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6,
        0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3,
        0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8,
        0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
    ],
};

/// The code of the constants of colour differences.
const CHROMA_CONSTANT: Code = Code {
    counts: [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    symbols: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
};

/// The code of the other coefficients of colour differences.
const CHROMA_OTHERS: Code = Code {
    counts: [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119],
    symbols: &[
        0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61,
        0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33,
        0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18,
        0x19, 0x1A, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44,
        0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63,
        0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A,
        0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97,
        0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4,
        0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA,
        0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7,
        0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
    ],
};
