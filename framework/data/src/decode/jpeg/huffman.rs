//! Huffman codes and the bits of entropy-coded data.
//!
//! One table look-up gives a short code together with the value that follows it. Two things surprise: a marker ends
//! the data wherever it comes, and what lies beyond it reads as zeros; and a code that no table holds is no error but
//! the symbol 0, both as in libjpeg, so that damaged files give the same picture.

/// Bits that index the table of short codes.
const FAST: u32 = 10;

/// The Huffman code of one table segment.
pub(super) struct Table {
    /// By the next [`FAST`] bits: the length to skip in the low byte, then the symbol, or, where the value's bits also
    /// fit, the run before it; the value, never 0, is the high half. All zero for a longer code.
    fast: [u32; 1 << FAST],
    /// By length, the end of its codes among 16-bit windows.
    ends: [u32; 17],
    /// By length, what to add to a code to have the index of its symbol.
    offsets: [i32; 17],
    symbols: [u8; 256],
}

impl Table {
    /// The canonical code with `counts[i]` codes of `i + 1` bits, for `symbols` in order; `None` where there are more
    /// codes than fit.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            fast: [0; 1 << FAST],
            ends: [0; 17],
            offsets: [0; 17],
            symbols: [0; 256],
        };
        table
            .symbols
            .get_mut(..symbols.len())?
            .copy_from_slice(symbols);
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.offsets[length as usize] = index as i32 - code as i32;
            for &symbol in symbols.get(index..index + count)? {
                if code >> length != 0 {
                    return None;
                }
                if length <= FAST {
                    table.enter(code, length, symbol);
                }
                code += 1;
            }
            index += count;
            table.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    /// Fills the short-code entries that begin with a code.
    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        let size = u32::from(symbol & 15);
        let first = code << (FAST - length);
        for low in 0..1 << (FAST - length) {
            let rest = FAST - length;
            self.fast[(first + low) as usize] = if size != 0 && size <= rest {
                let value = extend(low >> (rest - size), size);
                (value as u32) << 16 | u32::from(symbol >> 4) << 8 | (length + size)
            } else {
                u32::from(symbol) << 8 | length
            };
        }
    }

    /// Whether all symbols are sizes that a DC difference can have.
    pub(super) fn is_for_dc(&self) -> bool {
        self.symbols.iter().all(|&symbol| symbol < 16)
    }
}

/// The value that `size` bits stand for: those that begin with a 0 are negative.
fn extend(bits: u32, size: u32) -> i32 {
    let half = 1 << size >> 1;
    bits as i32
        - if (bits as i32) < half {
            2 * half - 1
        } else {
            0
        }
}

/// The bits of entropy-coded data up to a marker.
///
/// Hot loops work on a copy and put it back, so that it stays in registers.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the top.
    bits: u64,
    /// How many of them are known.
    count: u32,
    /// How many zeros were made up behind the end.
    made_up: u64,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self {
            data,
            at,
            bits: 0,
            count: 0,
            made_up: 0,
        }
    }

    /// Whether bits beyond the end were used.
    pub(super) fn is_exhausted(&self) -> bool {
        u64::from(self.count) < self.made_up
    }

    /// Where the next marker is: its code and the place of the byte before it.
    pub(super) fn marker(&self) -> Option<(u8, usize)> {
        let mut at = self.at;
        loop {
            at += self.data.get(at..)?.iter().position(|&byte| byte == 0xFF)?;
            match *self.data.get(at + 1)? {
                0x00 => at += 2,
                0xFF => at += 1,
                code => return Some((code, at)),
            }
        }
    }

    /// Goes on at another place, with no bits left over.
    pub(super) fn go_to(&mut self, at: usize) {
        *self = Self::new(self.data, at);
    }

    /// Makes at least 32 bits known.
    #[inline(always)]
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.data.get(self.at..self.at + 8) {
            let next = u64::from_be_bytes(next.try_into().expect("eight bytes"));
            let flipped = !next;
            let zeros = flipped.wrapping_sub(0x0101_0101_0101_0101) & next & 0x8080_8080_8080_8080;
            if zeros == 0 {
                // Bits below the count may be set already: to what they are set again later.
                self.bits |= next >> self.count;
                self.at += ((63 - self.count) >> 3) as usize;
                self.count |= 56;
                return;
            }
        }
        *self = self.refilled_slowly();
    }

    /// The same, byte by byte, with stuffed bytes and markers.
    #[cold]
    #[inline(never)]
    fn refilled_slowly(mut self) -> Self {
        while self.count <= 56 {
            let byte = match self.data.get(self.at) {
                Some(0xFF) => match self.data.get(self.at + 1) {
                    Some(0x00) => {
                        self.at += 2;
                        0xFF
                    }
                    Some(0xFF) => {
                        self.at += 1;
                        continue;
                    }
                    _ => break,
                },
                Some(&byte) => {
                    self.at += 1;
                    byte
                }
                None => break,
            };
            self.bits |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        if self.count < 32 {
            self.made_up += u64::from(56 - self.count);
            self.count = 56;
        }
        self
    }

    #[inline(always)]
    fn skip(&mut self, length: u32) {
        self.bits <<= length;
        self.count -= length;
    }

    /// The next `length` bits, of which 1 to 16 must be known.
    #[inline(always)]
    fn get(&mut self, length: u32) -> u32 {
        let bits = (self.bits >> (64 - length)) as u32;
        self.skip(length);
        bits
    }

    /// The next bit.
    #[inline(always)]
    pub(super) fn bit(&mut self) -> bool {
        self.refill();
        self.get(1) != 0
    }

    /// The next `length` bits, at most 16.
    #[inline(always)]
    pub(super) fn number(&mut self, length: u32) -> u32 {
        self.refill();
        if length == 0 { 0 } else { self.get(length) }
    }

    /// A symbol whose entry in the fast table is known and has no value.
    #[inline(always)]
    fn finish_symbol(&mut self, table: &Table, entry: u32) -> u8 {
        if entry != 0 {
            self.skip(entry & 0xFF);
            return (entry >> 8) as u8;
        }
        let window = (self.bits >> 48) as u32;
        for length in FAST + 1..=16 {
            if window < table.ends[length as usize] {
                self.skip(length);
                let code = (window >> (16 - length)) as i32;
                let index = code + table.offsets[length as usize];
                return table.symbols[index as usize & 255];
            }
        }
        self.skip(17);
        0
    }

    /// The next symbol, without the value behind it.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &Table) -> u8 {
        self.refill();
        let entry = table.fast[(self.bits >> (64 - FAST)) as usize];
        if entry >> 16 == 0 {
            return self.finish_symbol(table, entry);
        }
        // The size of a value is the number of its magnitude's bits.
        let size = 32 - ((entry as i32) >> 16).unsigned_abs().leading_zeros();
        self.skip((entry & 0xFF) - size);
        ((entry >> 8 & 15) << 4 | size) as u8
    }

    /// The next run of zeros and the value behind it; a value of 0 stands for what the run then means: 15 for sixteen
    /// zeros, otherwise an end.
    #[inline(always)]
    pub(super) fn run_and_value(&mut self, table: &Table) -> (usize, i32) {
        self.refill();
        let entry = table.fast[(self.bits >> (64 - FAST)) as usize];
        if entry >> 16 != 0 {
            self.skip(entry & 0xFF);
            return ((entry >> 8 & 15) as usize, (entry as i32) >> 16);
        }
        let symbol = self.finish_symbol(table, entry);
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            return (run, 0);
        }
        let bits = self.get(size);
        (run, extend(bits, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A code with all lengths: 0, 10, 110 and so on.
    fn ladder() -> Table {
        let symbols: Vec<u8> = (0..16).collect();
        Table::new(&[1; 16], &symbols).unwrap()
    }

    #[test]
    fn values_follow_their_symbols() {
        // 10 then 1: size 1, value 1; 10 then 0: value -1; 110 then 01: size 2, value -2; 0: nothing.
        let data = [0b1011_0011, 0b0010_1111];
        let mut bits = Bits::new(&data, 0);
        let table = ladder();
        let values: Vec<_> = (0..4).map(|_| bits.run_and_value(&table)).collect();
        assert_eq!(values, [(0, 1), (0, -1), (0, -2), (0, 0)]);
    }

    #[test]
    fn symbols_of_every_length_are_found() {
        for length in 1..=16u32 {
            // As many ones as come before the zero of the code.
            let code = !0u64 << (64 - (length - 1)).min(63) << u32::from(length == 1);
            let data: Vec<u8> = code
                .to_be_bytes()
                .iter()
                .flat_map(|&byte| match byte {
                    0xFF => vec![0xFF, 0],
                    byte => vec![byte],
                })
                .collect();
            let mut bits = Bits::new(&data, 0);
            assert_eq!(u32::from(bits.symbol(&ladder())), length - 1);
        }
    }

    #[test]
    fn the_data_ends_at_a_marker() {
        let data = [0xFF, 0x00, 0x80, 0xFF, 0xD9, 0xFF];
        let mut bits = Bits::new(&data, 0);
        assert_eq!(bits.number(16), 0xFF80);
        assert!(!bits.is_exhausted());
        assert_eq!(bits.number(1), 0);
        assert!(bits.is_exhausted());
        assert_eq!(bits.marker(), Some((0xD9, 3)));
    }

    #[test]
    fn too_many_codes_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Table::new(&counts, &[1, 2, 3]).is_none());
        assert!(Table::new(&counts, &[1]).is_none());
    }
}
