//! Operands of dense convolutions: tensors that are worked out while they are read.
//!
//! What a convolution reads is seldom a stored tensor. Its input is the activated batch norm of the raw output of the
//! convolution before it, and the gradient of its output is a linear map of two stored tensors (the backward pass of a
//! batch norm). Both cost a few instructions a vector, a stored copy costs two passes over memory. So a convolution is
//! given an [`Operand`], and [`Band`] writes the rows that it works on next, with their zero padding, into a buffer in
//! the cache.
//!
//! What a newcomer would get wrong: the padding is zero *after* the map, not before it.

use super::{
    activation,
    simd::{Kernel, Level, Simd},
};
use crate::network::Activation;

mod direct;
#[cfg(test)]
mod tests;

pub use direct::{Direct, DirectTransposed};

/// A tensor whose rows are pixels, `[rows, channels]`.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// The numbers themselves.
    Plain(&'a [f32]),
    /// activation(scale · raw + shift).
    Activated {
        /// The stored tensor.
        raw: &'a [f32],
        /// A factor for each channel.
        scale: &'a [f32],
        /// A start value for each channel.
        shift: &'a [f32],
        /// Applied at the end.
        activation: Activation,
    },
    /// factor · d + slope · raw + shift.
    Gradient {
        /// The gradient behind a batch norm.
        d: &'a [f32],
        /// The tensor before it.
        raw: &'a [f32],
        /// Factor, slope and shift, each with a number for each channel.
        coefficients: [&'a [f32]; 3],
    },
}

impl<'a> Operand<'a> {
    /// Number of numbers.
    pub fn len(self) -> usize {
        match self {
            Self::Plain(values) | Self::Activated { raw: values, .. } => values.len(),
            Self::Gradient { d, .. } => d.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// `len` numbers from `first` on, both multiples of the number of channels.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn part(self, first: usize, len: usize) -> Self {
        match self {
            Self::Plain(values) => Self::Plain(&values[first..][..len]),
            Self::Activated {
                raw,
                scale,
                shift,
                activation,
            } => Self::Activated {
                raw: &raw[first..][..len],
                scale,
                shift,
                activation,
            },
            Self::Gradient {
                d,
                raw,
                coefficients,
            } => Self::Gradient {
                d: &d[first..][..len],
                raw: &raw[first..][..len],
                coefficients,
            },
        }
    }

    /// The numbers themselves, where they are stored.
    pub fn plain(self) -> Option<&'a [f32]> {
        match self {
            Self::Plain(values) => Some(values),
            _ => None,
        }
    }

    /// Writes all numbers to `out`.
    ///
    /// # Panics
    /// If `out` has another length, or a channel array does not have `channels` numbers.
    pub fn write(self, level: Level, channels: usize, out: &mut [f32]) {
        let rows = self.len() / channels;
        assert_eq!(out.len(), rows * channels);
        let band = Band {
            operand: self,
            height: 1,
            width: rows,
            channels,
            first: 0,
            rows: 1,
            left: 0,
            columns: rows,
        };
        band.fill(level, out);
    }

    fn fits(self, len: usize, channels: usize) -> bool {
        self.len() == len
            && match self {
                Self::Plain(_) => true,
                Self::Activated { scale, shift, .. } => {
                    scale.len() == channels && shift.len() == channels
                }
                Self::Gradient {
                    raw, coefficients, ..
                } => raw.len() == len && coefficients.iter().all(|c| c.len() == channels),
            }
    }
}

/// Some rows of an image between zeros.
#[derive(Clone, Copy, Debug)]
pub struct Band<'a> {
    /// The image.
    pub operand: Operand<'a>,
    /// Rows of the image.
    pub height: usize,
    /// Columns of the image.
    pub width: usize,
    /// Channels of the image.
    pub channels: usize,
    /// The image's row that is the first of the band; those outside the image are zero.
    pub first: isize,
    /// Rows of the band.
    pub rows: usize,
    /// Columns of zeros before the image's first one.
    pub left: usize,
    /// Columns of the band; those behind the image are zero.
    pub columns: usize,
}

impl Band<'_> {
    /// Numbers of the band.
    pub fn len(&self) -> usize {
        self.rows * self.columns * self.channels
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the band `[rows, columns, channels]` to the start of `out`.
    ///
    /// # Panics
    /// If `out` is too short, the operand is not an image of that size, or the image is wider than the band.
    pub fn fill(&self, level: Level, out: &mut [f32]) {
        let size = self.height * self.width * self.channels;
        assert!(self.operand.fits(size, self.channels));
        assert!(self.left + self.width <= self.columns);
        let pitch = self.columns * self.channels;
        let (before, inside) = (self.left * self.channels, self.width * self.channels);
        for (r, row) in out[..self.len()].chunks_exact_mut(pitch).enumerate() {
            let i = self.first + r as isize;
            if i < 0 || i >= self.height as isize {
                row.fill(0.0);
                continue;
            }
            let (zeros, rest) = row.split_at_mut(before);
            let (values, more) = rest.split_at_mut(inside);
            zeros.fill(0.0);
            more.fill(0.0);
            match self.operand.part(i as usize * inside, inside) {
                Operand::Plain(from) => values.copy_from_slice(from),
                operand => {
                    let kernel = Map {
                        operand,
                        channels: self.channels,
                        pixels: self.width,
                        out: values.as_mut_ptr(),
                    };
                    // SAFETY: `values` and the operand have that many pixels, and the operand's channel arrays that
                    // many channels; `fits` looked.
                    unsafe { level.run(kernel) }
                }
            }
        }
    }
}

/// Vectors that are worked on together.
const TOGETHER: usize = 4;

/// Works out some pixels of an operand.
struct Map<'a> {
    operand: Operand<'a>,
    channels: usize,
    pixels: usize,
    out: *mut f32,
}

impl Kernel for Map<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for pixel in 0..self.pixels {
            let (at, mut c) = (pixel * self.channels, 0);
            // SAFETY: whole vectors below the number of channels, then a masked one.
            unsafe {
                while c + TOGETHER * S::LANES <= self.channels {
                    self.vectors::<S, TOGETHER, false>(s, at, c);
                    c += TOGETHER * S::LANES;
                }
                while c + S::LANES <= self.channels {
                    self.vectors::<S, 1, false>(s, at, c);
                    c += S::LANES;
                }
                if c < self.channels {
                    self.vectors::<S, 1, true>(s, at, c);
                }
            }
        }
    }
}

impl Map<'_> {
    /// `Q` vectors of the pixel that starts at number `at`, from channel `c` on.
    #[inline(always)]
    unsafe fn vectors<S: Simd, const Q: usize, const MASKED: bool>(
        &self,
        s: S,
        at: usize,
        c: usize,
    ) {
        let mask = s.mask(self.channels - c);
        // SAFETY: the caller's promise.
        unsafe {
            let load = |values: &[f32], at: usize| {
                let p = values.as_ptr().add(at);
                if MASKED {
                    s.load_masked(p, mask)
                } else {
                    s.load(p)
                }
            };
            let mut z = [s.zero(); Q];
            match self.operand {
                Operand::Plain(values) => {
                    for (q, z) in z.iter_mut().enumerate() {
                        *z = load(values, at + c + q * S::LANES);
                    }
                }
                Operand::Activated {
                    raw,
                    scale,
                    shift,
                    activation,
                } => {
                    for (q, z) in z.iter_mut().enumerate() {
                        let c = c + q * S::LANES;
                        *z = s.fmadd(load(scale, c), load(raw, at + c), load(shift, c));
                    }
                    activation::apply(s, activation, &mut z);
                }
                Operand::Gradient {
                    d,
                    raw,
                    coefficients: [factor, slope, shift],
                } => {
                    for (q, z) in z.iter_mut().enumerate() {
                        let c = c + q * S::LANES;
                        let own = s.fmadd(load(slope, c), load(raw, at + c), load(shift, c));
                        *z = s.fmadd(load(factor, c), load(d, at + c), own);
                    }
                }
            }
            for (q, &z) in z.iter().enumerate() {
                let p = self.out.add(at + c + q * S::LANES);
                if MASKED {
                    s.store_masked(p, z, mask);
                } else {
                    s.store(p, z);
                }
            }
        }
    }
}

/// y = activation(y + x).
///
/// # Panics
/// If the lengths differ.
pub fn add_and_activate(level: Level, x: &[f32], activation: Activation, y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    // SAFETY: both have as many numbers.
    unsafe { level.run(Add { x, activation, y }) }
}

struct Add<'a> {
    x: &'a [f32],
    activation: Activation,
    y: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let (x, y, len) = (self.x.as_ptr(), self.y.as_mut_ptr(), self.y.len());
        let mut i = 0;
        // SAFETY: vectors below the length, the last one masked.
        unsafe {
            while i + TOGETHER * S::LANES <= len {
                let mut z = [s.zero(); TOGETHER];
                for (q, z) in z.iter_mut().enumerate() {
                    let at = i + q * S::LANES;
                    *z = s.add(s.load(x.add(at)), s.load(y.add(at)));
                }
                activation::apply(s, self.activation, &mut z);
                for (q, &z) in z.iter().enumerate() {
                    s.store(y.add(i + q * S::LANES), z);
                }
                i += TOGETHER * S::LANES;
            }
            while i < len {
                let mask = s.mask(len - i);
                let (x, y) = (x.add(i), y.add(i));
                let mut z = [s.add(s.load_masked(x, mask), s.load_masked(y, mask))];
                activation::apply(s, self.activation, &mut z);
                s.store_masked(y, z[0], mask);
                i += S::LANES;
            }
        }
    }
}
