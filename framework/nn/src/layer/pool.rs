//! Pooling: the maximum over windows, and the mean over all pixels.

use super::{Layer, Pass, Size, dropout::dropout_of, each_slice, pieces};
use crate::kernel::{Level, pool::Windows};

/// Maximum over windows; padding counts as minus infinity.
///
/// The gradient of a window goes to its first maximum in row-major order, as in PyTorch. The places are found again in
/// backward instead of being kept.
#[derive(Clone, Debug)]
pub struct MaxPool {
    level: Level,
    batch: usize,
    input: Size,
    output: Size,
    windows: Windows,
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
            level: Level::current(),
            batch,
            input,
            output,
            windows: Windows {
                kernel,
                stride,
                padding,
                input: (input.height, input.width),
                output: (output.height, output.width),
                channels: input.channels,
            },
        }
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
        let (from, to) = (self.input.len(), self.output.len());
        let parts = pieces(y, to, self.batch).zip(super::slices(self.batch));
        each_slice(parts, |(y, images)| {
            for (y, image) in y.chunks_mut(to).zip(images) {
                let x = &x[image * from..][..from];
                self.windows.maxima(self.level, x, y);
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
        let (from, to) = (self.output.len(), self.input.len());
        let parts = pieces(dx, to, self.batch).zip(super::slices(self.batch));
        let dy = &*dy;
        each_slice(parts, |(dx, images)| {
            for (dx, image) in dx.chunks_mut(to).zip(images) {
                let x = &x[image * to..][..to];
                let (y, dy) = (&y[image * from..][..from], &dy[image * from..][..from]);
                self.windows.gradient(self.level, x, y, dy, dx);
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
        dropout_of(self.dropout, pass, y);
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
