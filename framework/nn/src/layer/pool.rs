//! Pooling: the maximum over windows, and the mean over all pixels.

use super::{Layer, Pass, Size, dropout::dropout_of, each_slice, pieces};
use crate::executor::Mode;

/// Maximum over windows; padding counts as minus infinity.
///
/// The gradient of a window goes to its first maximum in row-major order, as in PyTorch. The places are found again in
/// backward instead of being kept.
#[derive(Clone, Debug)]
pub struct MaxPool {
    batch: usize,
    input: Size,
    output: Size,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl MaxPool {
    /// Plans a pool for `batch` images of size `input`.
    pub fn new(
        batch: usize,
        input: Size,
        output: Size,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        Self {
            batch,
            input,
            output,
            kernel,
            stride,
            padding,
        }
    }

    /// The pixels of the window around an output pixel, in row-major order.
    fn window(&self, y: usize, x: usize) -> impl Iterator<Item = usize> {
        let axis = |o: usize, n: usize| {
            let start = o * self.stride;
            start.saturating_sub(self.padding)..(start + self.kernel - self.padding).min(n)
        };
        let columns = axis(x, self.input.width);
        let width = self.input.width;
        axis(y, self.input.height)
            .flat_map(move |row| columns.clone().map(move |c| row * width + c))
    }
}

impl Layer for MaxPool {
    fn output(&self) -> Size {
        self.output
    }

    fn saved(&self) -> usize {
        0
    }

    fn scratch(&self) -> usize {
        0
    }

    fn forward(&mut self, _: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let (depth, size) = (self.input.channels, self.output.len());
        let parts = pieces(y, size, self.batch).zip(super::slices(self.batch));
        each_slice(parts, |(y, images)| {
            for (y, image) in y.chunks_mut(size).zip(images) {
                let x = &x[image * self.input.len()..][..self.input.len()];
                for (pixel, y) in y.chunks_mut(depth).enumerate() {
                    y.fill(f32::NEG_INFINITY);
                    let (row, column) = (pixel / self.output.width, pixel % self.output.width);
                    for place in self.window(row, column) {
                        for (y, &x) in y.iter_mut().zip(&x[place * depth..][..depth]) {
                            // Not-a-number must not vanish: training has to notice it.
                            *y = if x > *y || x.is_nan() { x } else { *y };
                        }
                    }
                }
            }
        });
    }

    fn backward(
        &mut self,
        _: &mut Pass<'_>,
        x: &[f32],
        y: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        let Some(dx) = dx else { return };
        let depth = self.input.channels;
        let (from, to) = (self.output.len(), self.input.len());
        let parts = pieces(dx, to, self.batch).zip(super::slices(self.batch));
        let dy = &*dy;
        each_slice(parts, |(dx, images)| {
            let mut waiting = vec![0.0; depth];
            for (dx, image) in dx.chunks_mut(to).zip(images) {
                dx.fill(0.0);
                let x = &x[image * to..][..to];
                let pixels = y[image * from..][..from].chunks(depth);
                let pairs = pixels.zip(dy[image * from..][..from].chunks(depth));
                for (pixel, (y, dy)) in pairs.enumerate() {
                    let (row, column) = (pixel / self.output.width, pixel % self.output.width);
                    waiting.copy_from_slice(dy);
                    for place in self.window(row, column) {
                        let x = &x[place * depth..][..depth];
                        let dx = &mut dx[place * depth..][..depth];
                        for c in 0..depth {
                            let hit = x[c] == y[c];
                            dx[c] += if hit { waiting[c] } else { 0.0 };
                            waiting[c] = if hit { 0.0 } else { waiting[c] };
                        }
                    }
                }
            }
        });
    }
}

/// Mean over all pixels, and dropout.
#[derive(Clone, Debug)]
pub struct GlobalAveragePool {
    batch: usize,
    input: Size,
    dropout: f32,
}

impl GlobalAveragePool {
    /// Plans a pool for `batch` images of size `input`.
    pub fn new(batch: usize, input: Size, dropout: f32) -> Self {
        Self {
            batch,
            input,
            dropout,
        }
    }
}

impl Layer for GlobalAveragePool {
    fn output(&self) -> Size {
        Size {
            height: 1,
            width: 1,
            ..self.input
        }
    }

    fn saved(&self) -> usize {
        0
    }

    fn scratch(&self) -> usize {
        0
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let depth = self.input.channels;
        let share = 1.0 / (self.input.height * self.input.width) as f32;
        let parts = pieces(y, depth, self.batch).zip(super::slices(self.batch));
        each_slice(parts, |(y, images)| {
            for (y, image) in y.chunks_mut(depth).zip(images) {
                y.fill(0.0);
                for pixel in x[image * self.input.len()..][..self.input.len()].chunks(depth) {
                    for (y, x) in y.iter_mut().zip(pixel) {
                        *y += x;
                    }
                }
                for y in y {
                    *y *= share;
                }
            }
        });
        if pass.mode != Mode::Infer {
            dropout_of(self.dropout, pass, y);
        }
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_>,
        _: &[f32],
        _: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        let Some(dx) = dx else { return };
        dropout_of(self.dropout, pass, dy);
        let depth = self.input.channels;
        let share = 1.0 / (self.input.height * self.input.width) as f32;
        for d in dy.iter_mut() {
            *d *= share;
        }
        let dy = &*dy;
        let parts = pieces(dx, self.input.len(), self.batch).zip(super::slices(self.batch));
        each_slice(parts, |(dx, images)| {
            for (dx, image) in dx.chunks_mut(self.input.len()).zip(images) {
                for pixel in dx.chunks_mut(depth) {
                    pixel.copy_from_slice(&dy[image * depth..][..depth]);
                }
            }
        });
    }
}
