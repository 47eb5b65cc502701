//! Transforms of tiles of an image: inputs and gradients to points, points to outputs.

use super::{SIDE, TILE, gradient_line, input_line, output_line};
use crate::{
    kernel::{
        activation,
        simd::{Kernel, Simd},
    },
    network::Activation,
};

/// Runs `$body` for every whole vector of channels, then for what is left, with the mask of that.
macro_rules! channels {
    ($self:ident, $s:ident, $tile:ident, ($($argument:expr),*)) => {{
        let mut c = 0;
        while c + S::LANES <= $self.channels {
            $self.$tile::<S, false>($s, $($argument,)* c);
            c += S::LANES;
        }
        if c < $self.channels {
            $self.$tile::<S, true>($s, $($argument,)* c);
        }
    }};
}

/// Takes a line of `N` numbers to the six points of a tile's line.
pub trait Line<const N: usize>: Copy {
    /// The transform; the same for rows and columns.
    fn points<S: Simd>(s: S, line: [S::Vector; N]) -> [S::Vector; SIDE];
}

/// The transform of inputs.
#[derive(Clone, Copy, Debug)]
pub struct Input;

impl Line<SIDE> for Input {
    #[inline(always)]
    fn points<S: Simd>(s: S, line: [S::Vector; SIDE]) -> [S::Vector; SIDE] {
        input_line(s, line)
    }
}

/// The transform of gradients of outputs.
#[derive(Clone, Copy, Debug)]
pub struct Gradient;

impl Line<TILE> for Gradient {
    #[inline(always)]
    fn points<S: Simd>(s: S, line: [S::Vector; TILE]) -> [S::Vector; SIDE] {
        gradient_line(s, line)
    }
}

/// Transforms the 6×6 inputs of every tile of a band, `[4 · rows + 2, pitch]` numbers from that above and left of the
/// first output.
pub type InputTiles = BandTiles<Input, SIDE>;

/// Transforms the 4×4 gradients of the outputs of every tile of a band, `[4 · rows, pitch]` numbers, zero where a tile
/// reaches out of the image.
pub type GradientTiles = BandTiles<Gradient, TILE>;

/// Transforms squares of `N` × `N` numbers of a band, four apart, to points.
#[derive(Clone, Copy, Debug)]
pub struct BandTiles<L, const N: usize> {
    /// Which transform.
    pub line: L,
    /// The band.
    pub band: *const f32,
    /// Distance between rows of the band, in numbers.
    pub pitch: usize,
    /// Channels.
    pub channels: usize,
    /// Rows and columns of tiles.
    pub tiles: (usize, usize),
    /// Where the first tile goes at point 0.
    pub out: *mut f32,
    /// Distance between points.
    pub plane: usize,
}

impl<L: Line<N>, const N: usize> Kernel for BandTiles<L, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let (rows, columns) = self.tiles;
        for y in 0..rows {
            for x in 0..columns {
                let from = y * TILE * self.pitch + x * TILE * self.channels;
                let to = (y * columns + x) * self.channels;
                // SAFETY: the caller's promise: the band and every point hold these tiles.
                unsafe { channels!(self, s, tile, (from, to)) }
            }
        }
    }
}

impl<L: Line<N>, const N: usize> BandTiles<L, N> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const MASKED: bool>(&self, s: S, from: usize, to: usize, c: usize) {
        let mask = s.mask(self.channels - c);
        // SAFETY: a tile of the band and its place at every point; channels behind the last are masked.
        unsafe {
            let (from, to) = (self.band.add(from + c), self.out.add(to + c));
            let mut points = [[s.zero(); N]; SIDE];
            for j in 0..N {
                let mut line = [s.zero(); N];
                for (i, v) in line.iter_mut().enumerate() {
                    let p = from.add(i * self.pitch + j * self.channels);
                    *v = if MASKED {
                        s.load_masked(p, mask)
                    } else {
                        s.load(p)
                    };
                }
                let line = L::points(s, line);
                for (row, v) in points.iter_mut().zip(line) {
                    row[j] = v;
                }
            }
            for (i, &row) in points.iter().enumerate() {
                for (j, v) in L::points(s, row).into_iter().enumerate() {
                    let p = to.add((i * SIDE + j) * self.plane);
                    if MASKED {
                        s.store_masked(p, v, mask);
                    } else {
                        s.store(p, v);
                    }
                }
            }
        }
    }
}

/// Transforms the products of every tile to 4×4 outputs, and writes those that lie in the image.
#[derive(Clone, Copy, Debug)]
pub struct OutputTiles {
    /// The first tile at point 0.
    pub points: *const f32,
    /// Distance between points.
    pub plane: usize,
    /// Channels.
    pub channels: usize,
    /// Rows and columns of tiles.
    pub tiles: (usize, usize),
    /// Where the first output goes; rows follow each other without gaps.
    pub out: *mut f32,
    /// Rows and columns of outputs; the tiles may reach further.
    pub size: (usize, usize),
    /// Start value of every channel, or null for zeros.
    pub start: *const f32,
    /// What is added to the outputs, laid out as they are; `out` itself, or null for nothing.
    pub addend: *const f32,
    /// Applied before the store.
    pub activation: Activation,
}

impl Kernel for OutputTiles {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let (rows, columns) = self.tiles;
        for y in 0..rows {
            for x in 0..columns {
                // SAFETY: the caller's promise: the points hold these tiles and the output that many pixels.
                unsafe { channels!(self, s, tile, (y, x)) }
            }
        }
    }
}

impl OutputTiles {
    #[inline(always)]
    unsafe fn tile<S: Simd, const MASKED: bool>(&self, s: S, y: usize, x: usize, c: usize) {
        let mask = s.mask(self.channels - c);
        let from = (y * self.tiles.1 + x) * self.channels + c;
        let (rows, columns) = (self.size.0 - y * TILE, self.size.1 - x * TILE);
        // SAFETY: a tile of every point, and those of its outputs that lie in the image.
        unsafe {
            let load = |p: *const f32| {
                if MASKED {
                    s.load_masked(p, mask)
                } else {
                    s.load(p)
                }
            };
            let mut lines = [[s.zero(); SIDE]; TILE];
            for j in 0..SIDE {
                let mut line = [s.zero(); SIDE];
                for (i, v) in line.iter_mut().enumerate() {
                    *v = load(self.points.add((i * SIDE + j) * self.plane + from));
                }
                let line = output_line(s, line);
                for (row, v) in lines.iter_mut().zip(line) {
                    row[j] = v;
                }
            }
            let start = if self.start.is_null() {
                s.zero()
            } else {
                load(self.start.add(c))
            };
            let pitch = self.size.1 * self.channels;
            let first = y * TILE * pitch + x * TILE * self.channels + c;
            let out = self.out.add(first);
            for (i, &row) in lines.iter().enumerate() {
                if i >= rows {
                    break;
                }
                let mut line = output_line(s, row);
                for v in &mut line {
                    *v = s.add(*v, start);
                }
                let out = out.add(i * pitch);
                if !self.addend.is_null() {
                    let addend = self.addend.add(first + i * pitch);
                    for (j, v) in line.iter_mut().enumerate() {
                        if j < columns {
                            *v = s.add(*v, load(addend.add(j * self.channels)));
                        }
                    }
                }
                activation::apply(s, self.activation, &mut line);
                for (j, &v) in line.iter().enumerate() {
                    if j < columns {
                        let p = out.add(j * self.channels);
                        if MASKED {
                            s.store_masked(p, v, mask);
                        } else {
                            s.store(p, v);
                        }
                    }
                }
            }
        }
    }
}
