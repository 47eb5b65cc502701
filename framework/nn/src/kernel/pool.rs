//! The maximum over windows of an image, and its gradient.
//!
//! What a newcomer would get wrong: what is not a number must come out as such, because training has to notice it, but
//! the instructions for the maximum drop it. And the gradient goes to the *first* maximum of a window in row-major order,
//! as in PyTorch, not to all of them.

use std::ops::Range;

use super::simd::{Kernel, Level, Simd};

/// Vectors that are worked on together.
const TOGETHER: usize = 4;

/// Windows over an image `[height, width, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Side of a window.
    pub kernel: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Pixels outside the image on all sides; they do not count.
    pub padding: usize,
    /// Rows and columns of the image.
    pub input: (usize, usize),
    /// Rows and columns of windows.
    pub output: (usize, usize),
    /// Channels.
    pub channels: usize,
}

impl Windows {
    /// Numbers of an image.
    fn input_len(&self) -> usize {
        self.input.0 * self.input.1 * self.channels
    }

    /// Numbers of an image of maxima.
    fn output_len(&self) -> usize {
        self.output.0 * self.output.1 * self.channels
    }

    /// The rows or columns of the window at `place`, of an image with `size` of them.
    #[inline(always)]
    fn range(&self, place: usize, size: usize) -> Range<usize> {
        let start = place * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel - self.padding).min(size)
    }

    /// Writes the maximum of every window of the image `x` to `y`.
    ///
    /// # Panics
    /// If a slice has another size.
    pub fn maxima(&self, level: Level, x: &[f32], y: &mut [f32]) {
        assert!(x.len() == self.input_len() && y.len() == self.output_len());
        let kernel = Maxima {
            windows: *self,
            x: x.as_ptr(),
            y: y.as_mut_ptr(),
        };
        // SAFETY: the sizes were checked.
        unsafe { level.run(kernel) }
    }

    /// Writes to `dx` the gradient of the image `x`, given its maxima `y` and their gradient `dy`.
    ///
    /// # Panics
    /// If a slice has another size.
    pub fn gradient(&self, level: Level, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
        assert!(x.len() == self.input_len() && y.len() == self.output_len());
        assert!(dx.len() == x.len() && dy.len() == y.len());
        let row = self.input.1 * self.channels;
        let mut cleared = 0;
        for i in 0..self.output.0 {
            // Rows are cleared just before they are first added to, while they are wanted in the cache.
            let rows = self.range(i, self.input.0);
            dx[cleared * row..rows.end.max(cleared) * row].fill(0.0);
            cleared = rows.end.max(cleared);
            let kernel = RowGradient {
                windows: *self,
                row: i,
                x: x.as_ptr(),
                y: y.as_ptr(),
                dy: dy.as_ptr(),
                dx: dx.as_mut_ptr(),
            };
            // SAFETY: the sizes were checked.
            unsafe { level.run(kernel) }
        }
        dx[cleared * row..].fill(0.0);
    }
}

/// Does `$body` for every few whole vectors of channels, then for single ones, then for what is left.
macro_rules! channels {
    ($self:ident, $s:ident, $vectors:ident, ($($argument:expr),*)) => {{
        let (mut c, n) = (0, $self.windows.channels);
        while c + TOGETHER * S::LANES <= n {
            $self.$vectors::<S, TOGETHER, false>($s, $($argument,)* c);
            c += TOGETHER * S::LANES;
        }
        while c + S::LANES <= n {
            $self.$vectors::<S, 1, false>($s, $($argument,)* c);
            c += S::LANES;
        }
        if c < n {
            $self.$vectors::<S, 1, true>($s, $($argument,)* c);
        }
    }};
}

struct Maxima {
    windows: Windows,
    x: *const f32,
    y: *mut f32,
}

impl Kernel for Maxima {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for i in 0..self.windows.output.0 {
            for j in 0..self.windows.output.1 {
                // SAFETY: the caller's promise: the image and its maxima have these pixels and channels.
                unsafe { channels!(self, s, window, (i, j)) }
            }
        }
    }
}

impl Maxima {
    #[inline(always)]
    unsafe fn window<S: Simd, const Q: usize, const MASKED: bool>(
        &self,
        s: S,
        i: usize,
        j: usize,
        c: usize,
    ) {
        let w = &self.windows;
        let mask = s.mask(w.channels - c);
        let mut most = [s.splat(f32::NEG_INFINITY); Q];
        // 1 as long as all are numbers, then 0.
        let mut numbers = [s.splat(1.0); Q];
        // SAFETY: pixels of the window within the image; channels behind the last are masked.
        unsafe {
            for row in w.range(i, w.input.0) {
                for column in w.range(j, w.input.1) {
                    let x = self.x.add((row * w.input.1 + column) * w.channels + c);
                    for q in 0..Q {
                        let p = x.add(q * S::LANES);
                        let x = if MASKED {
                            s.load_masked(p, mask)
                        } else {
                            s.load(p)
                        };
                        most[q] = s.max(most[q], x);
                        numbers[q] = s.where_equal(x, x, numbers[q]);
                    }
                }
            }
            let y = self.y.add((i * w.output.1 + j) * w.channels + c);
            for q in 0..Q {
                let lost = s.where_equal(numbers[q], s.zero(), s.splat(f32::NAN));
                let most = s.add(most[q], lost);
                let p = y.add(q * S::LANES);
                if MASKED {
                    s.store_masked(p, most, mask);
                } else {
                    s.store(p, most);
                }
            }
        }
    }
}

struct RowGradient {
    windows: Windows,
    row: usize,
    x: *const f32,
    y: *const f32,
    dy: *const f32,
    dx: *mut f32,
}

impl Kernel for RowGradient {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for j in 0..self.windows.output.1 {
            // SAFETY: the caller's promise: the image and its maxima have these pixels and channels.
            unsafe { channels!(self, s, window, (j)) }
        }
    }
}

impl RowGradient {
    #[inline(always)]
    unsafe fn window<S: Simd, const Q: usize, const MASKED: bool>(&self, s: S, j: usize, c: usize) {
        let w = &self.windows;
        let mask = s.mask(w.channels - c);
        // SAFETY: pixels of the window within the image; channels behind the last are masked.
        unsafe {
            let load = |p: *const f32| {
                if MASKED {
                    s.load_masked(p, mask)
                } else {
                    s.load(p)
                }
            };
            let at = (self.row * w.output.1 + j) * w.channels + c;
            let (mut y, mut waiting) = ([s.zero(); Q], [s.zero(); Q]);
            for q in 0..Q {
                y[q] = load(self.y.add(at + q * S::LANES));
                waiting[q] = load(self.dy.add(at + q * S::LANES));
            }
            for row in w.range(self.row, w.input.0) {
                for column in w.range(j, w.input.1) {
                    let at = (row * w.input.1 + column) * w.channels + c;
                    for q in 0..Q {
                        let at = at + q * S::LANES;
                        let hit = s.where_equal(load(self.x.add(at)), y[q], waiting[q]);
                        waiting[q] = s.sub(waiting[q], hit);
                        let p = self.dx.add(at);
                        let sum = s.add(load(p), hit);
                        if MASKED {
                            s.store_masked(p, sum, mask);
                        } else {
                            s.store(p, sum);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(level: Level, windows: Windows, seed: usize) {
        let n = windows.channels;
        let number = |i: usize| ((i * 7919 + seed) % 23) as f32 - 11.0;
        let mut x: Vec<f32> = (0..windows.input_len()).map(number).collect();
        if seed == 2 {
            x[n] = f32::NAN;
            x[0] = f32::INFINITY;
        }
        let dy: Vec<f32> = (0..windows.output_len()).map(|i| 1.0 + i as f32).collect();
        let mut y = vec![0.0; dy.len()];
        let mut dx = vec![f32::NAN; x.len()];
        windows.maxima(level, &x, &mut y);
        windows.gradient(level, &x, &y, &dy, &mut dx);
        let mut expected = vec![0.0; x.len()];
        for (at, &y) in y.iter().enumerate() {
            let (pixel, c) = (at / n, at % n);
            let (i, j) = (pixel / windows.output.1, pixel % windows.output.1);
            let places = windows.range(i, windows.input.0).flat_map(|row| {
                let columns = windows.range(j, windows.input.1);
                columns.map(move |column| (row * windows.input.1 + column) * n + c)
            });
            let most = places.clone().fold(f32::NEG_INFINITY, |most, place| {
                if most.is_nan() || x[place].is_nan() {
                    f32::NAN
                } else {
                    most.max(x[place])
                }
            });
            assert!(
                y == most || y.is_nan() && most.is_nan(),
                "{level} {windows:?}: {y} {most}"
            );
            let first = places.clone().find(|&place| x[place] == most);
            if let Some(place) = first {
                expected[place] += dy[at];
            }
        }
        assert_eq!(dx, expected, "{level} {windows:?}");
    }

    #[test]
    fn equals_the_definition() {
        for level in Level::available() {
            for seed in 0..3 {
                for (kernel, stride, padding) in [(3, 2, 1), (2, 2, 0), (3, 1, 1), (1, 2, 0)] {
                    for (height, width) in [(7, 6), (8, 9), (3, 3)] {
                        for channels in [1, 16, 70] {
                            let side = |n: usize| (n + 2 * padding - kernel) / stride + 1;
                            let windows = Windows {
                                kernel,
                                stride,
                                padding,
                                input: (height, width),
                                output: (side(height), side(width)),
                                channels,
                            };
                            check(level, windows, seed);
                        }
                    }
                }
            }
        }
    }
}
