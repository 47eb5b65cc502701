//! Passes over pixel rows: what stands between the convolutions of a block.
//!
//! Every kernel works on `rows` rows of channels; tensors have their own distance between rows, so that a channel block
//! of a wide tensor can be read or written alone. Per-channel arrays are padded with zeros to a multiple of 16 channels,
//! so they are read in whole vectors. Channels are cut into groups of a few vectors whose parameters stay in registers
//! while the rows go by.

use std::ops::Range;

use super::{
    activation::{self, each},
    simd::{Kernel, Simd},
};
use crate::network::Activation;

mod gradient;

pub use gradient::{ActivatedGradient, GateGradient, NormGradient, NormSums, Slope};

/// A kernel on a few vectors of channels.
trait Columns {
    /// Vectors of a full group.
    const GROUP: usize;

    /// Works on the N vectors from channel `v` of some rows; the last is masked if MASKED.
    ///
    /// # Safety
    /// The pointers must be good for all rows.
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        s: S,
        v: usize,
        rows: Range<usize>,
    );
}

/// Numbers of a tensor in a tile: what the first cache holds of several tensors, and of the tiles behind.
const TILE: usize = 2048;

/// Rows of a tile, of so many channels.
#[inline(always)]
fn tile(channels: usize) -> usize {
    (TILE / channels.max(1)).max(4)
}

/// Calls `columns` for all rows and channels, tile of rows by tile of rows: groups of four or two vectors, then vector
/// by vector.
///
/// Without tiles every group would go through all rows, a stride apart, before the next group came back to the same
/// cache lines' neighbours; memory is read much faster in order.
#[inline(always)]
unsafe fn sweep<S: Simd, C: Columns>(s: S, kernel: &C, rows: usize, channels: usize, end: usize) {
    let (tile, mut first) = (tile(channels), 0);
    while first < rows {
        let next = (first + tile).min(rows);
        let mut v = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while v + C::GROUP * S::LANES <= channels {
                if C::GROUP == 4 {
                    kernel.columns::<S, 4, false>(s, v, first..next);
                } else {
                    kernel.columns::<S, 2, false>(s, v, first..next);
                }
                v += C::GROUP * S::LANES;
            }
            while v + S::LANES <= channels {
                kernel.columns::<S, 1, false>(s, v, first..next);
                v += S::LANES;
            }
            while v < end {
                kernel.columns::<S, 1, true>(s, v, first..next);
                v += S::LANES;
            }
        }
        first = next;
    }
}

macro_rules! sweep_kernel {
    ($name:ident) => {
        impl Kernel for $name {
            type Output = ();

            #[inline(always)]
            unsafe fn run<S: Simd>(self, s: S) {
                // SAFETY: the caller's promise.
                unsafe { sweep(s, &self, self.rows, self.channels, self.end) }
            }
        }
    };
}

use sweep_kernel;

/// Loads a vector, all of it or its first lanes.
#[inline(always)]
unsafe fn load<S: Simd, const MASKED: bool>(s: S, p: *const f32, mask: S::Mask) -> S::Vector {
    // SAFETY: the caller's promise.
    unsafe {
        if MASKED {
            s.load_masked(p, mask)
        } else {
            s.load(p)
        }
    }
}

/// Stores a vector, all of it or its first lanes.
#[inline(always)]
unsafe fn store<S: Simd, const MASKED: bool>(s: S, p: *mut f32, v: S::Vector, mask: S::Mask) {
    // SAFETY: the caller's promise.
    unsafe {
        if MASKED {
            s.store_masked(p, v, mask);
        } else {
            s.store(p, v);
        }
    }
}

/// to = act(scale · from + shift), with the gate before or after the activation.
#[derive(Clone, Copy, Debug)]
pub struct Activate {
    /// Rows.
    pub rows: usize,
    /// Channels of `from`.
    pub channels: usize,
    /// Channels written: those behind `channels` become zero.
    pub end: usize,
    /// Source.
    pub from: *const f32,
    /// Distance between its rows.
    pub from_row: usize,
    /// Destination.
    pub to: *mut f32,
    /// Distance between its rows.
    pub to_row: usize,
    /// Per channel.
    pub scale: *const f32,
    /// Per channel.
    pub shift: *const f32,
    /// Factor per channel, or null for 1.
    pub gate: *const f32,
    /// The gate multiplies the activation instead of its input.
    pub gate_after: bool,
    /// The activation.
    pub activation: Activation,
}

impl Columns for Activate {
    const GROUP: usize = 4;

    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        s: S,
        v: usize,
        rows: Range<usize>,
    ) {
        let read = s.mask(self.channels.saturating_sub(v));
        let write = s.mask(self.end - v);
        let ahead = tile(self.channels) * self.from_row;
        // SAFETY: the caller's promise.
        unsafe {
            let mut scale = [s.zero(); N];
            let mut shift = [s.zero(); N];
            let mut gate = [s.splat(1.0); N];
            each!(N, j, {
                let o = v + j * S::LANES;
                scale[j] = s.load(self.scale.add(o));
                shift[j] = s.load(self.shift.add(o));
                if !self.gate.is_null() {
                    gate[j] = s.load(self.gate.add(o));
                    if !self.gate_after {
                        scale[j] = s.mul(scale[j], gate[j]);
                        shift[j] = s.mul(shift[j], gate[j]);
                    }
                }
            });
            let multiply = self.gate_after && !self.gate.is_null();
            for r in rows.clone() {
                let (from, to) = (
                    self.from.add(r * self.from_row + v),
                    self.to.add(r * self.to_row + v),
                );
                let mut z = [s.zero(); N];
                each!(N, j, {
                    s.prefetch(from.wrapping_add(ahead + j * S::LANES));
                    let y = load::<S, MASKED>(s, from.add(j * S::LANES), read);
                    z[j] = s.fmadd(scale[j], y, shift[j]);
                });
                activation::apply(s, self.activation, &mut z);
                if multiply {
                    each!(N, j, { z[j] = s.mul(z[j], gate[j]) });
                }
                each!(N, j, {
                    store::<S, MASKED>(s, to.add(j * S::LANES), z[j], write);
                });
            }
        }
    }
}
sweep_kernel!(Activate);

/// Adds the column sums of act(scale · from + shift) to `sum`.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    /// Rows.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// The same number again.
    pub end: usize,
    /// Source.
    pub from: *const f32,
    /// Distance between its rows.
    pub from_row: usize,
    /// Per channel.
    pub scale: *const f32,
    /// Per channel.
    pub shift: *const f32,
    /// The activation.
    pub activation: Activation,
    /// Per channel, padded.
    pub sum: *mut f32,
}

impl Columns for Sum {
    const GROUP: usize = 4;

    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        s: S,
        v: usize,
        rows: Range<usize>,
    ) {
        let mask = s.mask(self.channels.saturating_sub(v));
        let ahead = tile(self.channels) * self.from_row;
        // SAFETY: the caller's promise.
        unsafe {
            let mut scale = [s.zero(); N];
            let mut shift = [s.zero(); N];
            let mut sum = [s.zero(); N];
            each!(N, j, {
                let o = v + j * S::LANES;
                scale[j] = s.load(self.scale.add(o));
                shift[j] = s.load(self.shift.add(o));
                sum[j] = s.load(self.sum.add(o));
            });
            for r in rows.clone() {
                let from = self.from.add(r * self.from_row + v);
                let mut z = [s.zero(); N];
                each!(N, j, {
                    s.prefetch(from.wrapping_add(ahead + j * S::LANES));
                    let y = load::<S, MASKED>(s, from.add(j * S::LANES), mask);
                    z[j] = s.fmadd(scale[j], y, shift[j]);
                });
                activation::apply(s, self.activation, &mut z);
                each!(N, j, { sum[j] = s.add(sum[j], z[j]) });
            }
            each!(N, j, { s.store(self.sum.add(v + j * S::LANES), sum[j]) });
        }
    }
}
sweep_kernel!(Sum);

/// to = scale · from + shift, and + shortcut where there is one.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    /// Rows.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// The same number again.
    pub end: usize,
    /// Source.
    pub from: *const f32,
    /// Distance between its rows.
    pub from_row: usize,
    /// What is added, or null.
    pub shortcut: *const f32,
    /// Destination.
    pub to: *mut f32,
    /// Distance between rows of destination and shortcut.
    pub to_row: usize,
    /// Per channel.
    pub scale: *const f32,
    /// Per channel.
    pub shift: *const f32,
    /// Factor of scale and shift.
    pub factor: f32,
}

impl Columns for Affine {
    const GROUP: usize = 4;

    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        s: S,
        v: usize,
        rows: Range<usize>,
    ) {
        let mask = s.mask(self.channels.saturating_sub(v));
        let ahead = tile(self.channels) * self.from_row;
        // SAFETY: the caller's promise.
        unsafe {
            let [mut scale, mut shift] = [[s.zero(); N]; 2];
            each!(N, j, {
                let (o, factor) = (v + j * S::LANES, s.splat(self.factor));
                scale[j] = s.mul(factor, s.load(self.scale.add(o)));
                shift[j] = s.mul(factor, s.load(self.shift.add(o)));
            });
            for r in rows.clone() {
                let (from, row) = (r * self.from_row + v, r * self.to_row + v);
                each!(N, j, {
                    let o = row + j * S::LANES;
                    s.prefetch(self.from.wrapping_add(from + ahead + j * S::LANES));
                    let y = load::<S, MASKED>(s, self.from.add(from + j * S::LANES), mask);
                    let mut z = s.fmadd(scale[j], y, shift[j]);
                    if !self.shortcut.is_null() {
                        z = s.add(z, load::<S, MASKED>(s, self.shortcut.add(o), mask));
                    }
                    store::<S, MASKED>(s, self.to.add(o), z, mask);
                });
            }
        }
    }
}
sweep_kernel!(Affine);

/// to += from, number by number.
#[derive(Clone, Copy, Debug)]
pub struct Add {
    /// Numbers.
    pub len: usize,
    /// What is added.
    pub from: *const f32,
    /// What it is added to.
    pub to: *mut f32,
}

impl Kernel for Add {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut i = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while i + S::LANES <= self.len {
                let (from, to) = (self.from.add(i), self.to.add(i));
                s.store(to, s.add(s.load(to), s.load(from)));
                i += S::LANES;
            }
            let mask = s.mask(self.len - i);
            let (from, to) = (self.from.add(i), self.to.add(i));
            let sum = s.add(s.load_masked(to, mask), s.load_masked(from, mask));
            s.store_masked(to, sum, mask);
        }
    }
}
