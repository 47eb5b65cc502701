//! MobileNet's block: expand 1×1, depthwise k×k, squeeze-excite, project 1×1, shortcut, each with its batch norm.
//!
//! What lasts from forward to backward is small: the raw depthwise output, the raw project output, and (where the input
//! is wide) the raw expanded tensor. Normalised tensors, activations and the gradients of inner tensors are never stored:
//! they live for a moment in a buffer of the second cache, one (image, band of rows, block of channels) at a time, and
//! are worked out again where they are needed again.
//!
//! Three ideas make that possible ([`forward`] and [`backward`] explain them where they happen):
//! * the batch statistics of the expanded tensor y = x·W follow from mean and covariance of the narrow input x, so the
//!   expanded tensor need not exist;
//! * batch norm's backward pass is affine per channel once two sums per channel are known;
//! * those sums of the *first* norm enter linearly into what comes before it, so they are corrected afterwards with two
//!   small matrices, and the inner gradient need not exist either.
//!
//! Work is cut into the fixed slices of the batch; every slice has its own partial sums, added in order.

use std::ops::Range;

use rayon::prelude::*;

use super::{Layer, Pass, Purpose, Size, place::Place, slices};
use crate::{
    executor::Mode,
    kernel::{Level, depthwise::Axis, gemm::packed_len},
    network::{Activation, Convolution, InvertedResidual as Description},
    parameter::Parameters,
    random::{Key, unit},
};

mod backward;
mod expanded;
mod filter_back;
mod forward;
mod gate;
pub(super) mod norm;
#[cfg(test)]
mod tests;

use gate::Gate;
use norm::Norm;

/// Numbers of all buffers of a slice that should stay in the second cache together.
const CACHE: usize = 96 * 1024;
/// Numbers of the expanded tensor, of one block of channels, that backward's products take at once.
const GROUP: usize = 64 * 1024;
/// Input channels from which reading the stored expanded tensor is cheaper than computing it again.
const WIDE: usize = 80;
/// Channels of a block in backward.
const BACKWARD_BLOCK: usize = 96;

/// A planned inverted residual block.
#[derive(Clone, Debug)]
pub struct InvertedResidual {
    level: Level,
    /// Numbers that the buffers of a slice may have together.
    cache: usize,
    purpose: Purpose,
    batch: usize,
    input: Size,
    output: Size,
    /// Channels between the 1×1 convolutions, and that rounded up to whole vectors of any level.
    hidden: usize,
    padded: usize,
    rows: Axis,
    columns: Axis,
    /// The weights of expand (absent where the block does not expand), depthwise, project.
    expand: Option<Range<usize>>,
    depthwise: Range<usize>,
    project: Range<usize>,
    norms: [Norm; 3],
    activations: [Activation; 2],
    gate: Option<Gate>,
    shortcut: bool,
    drop_connect: f32,
    /// The expanded tensor is stored between the statistics and its use.
    stored: bool,
    memory: Map,
    /// First channel and width of every block of channels.
    forward_blocks: Vec<(usize, usize)>,
    backward_blocks: Vec<(usize, usize)>,
    parts: Vec<Part>,
    /// Per sample, what stochastic depth multiplies the block with.
    factors: Vec<f32>,
    /// Depthwise weights `[tap, padded]`.
    taps: Vec<f32>,
    /// Sums of the raw depthwise output `[batch, padded]`.
    image_sums: Vec<f32>,
    /// Mean of every input channel, and the covariance of the input channels.
    input_mean: Vec<f64>,
    covariance: Vec<f32>,
    ones: Vec<f32>,
    zeros: Vec<f32>,
}

/// Where tensors lie: `kept` ones in the saved memory in training and at the start of the scratch memory otherwise.
#[derive(Clone, Debug, Default)]
struct Map {
    expanded: usize,
    depthwise: usize,
    project: usize,
    /// Covariance · W of the expand convolution, `[hidden, input]`.
    moments: usize,
    kept: usize,
    /// Start of a slice's chunk buffers, and the distance to the next slice's.
    chunks: usize,
    chunk: usize,
    /// Packed weights.
    packed_expand: usize,
    packed_project: usize,
    /// Backward only.
    passed: usize,
    packed_expand_back: usize,
    packed_project_back: usize,
    scaled: usize,
    correction: usize,
    /// Start of a slice's weight gradients, the distance to the next slice's, and the places in one.
    gradients: usize,
    gradient: usize,
    gradient_depthwise: usize,
    gradient_project: usize,
    total: usize,
}

/// One slice of the batch and its partial sums.
#[derive(Clone, Debug)]
struct Part {
    index: usize,
    images: Range<usize>,
    sums: [Vec<f64>; 2],
    /// Sums of one image, in single precision while a kernel adds to them.
    image: [Vec<f32>; 5],
    /// Σ x xᵀ and Σ x of the input.
    gram: Vec<f64>,
}

impl Part {
    fn clear(&mut self) {
        for sums in &mut self.sums {
            sums.fill(0.0);
        }
        self.clear_image();
    }

    fn clear_image(&mut self) {
        for sums in &mut self.image {
            sums.fill(0.0);
        }
    }

    /// Adds the image's first two sums to the slice's.
    fn flush(&mut self) {
        for (sums, image) in self.sums.iter_mut().zip(&mut self.image) {
            for (sum, value) in sums.iter_mut().zip(image.iter_mut()) {
                *sum += f64::from(*value);
                *value = 0.0;
            }
        }
    }
}

impl InvertedResidual {
    /// Plans `description` for `batch` images of size `input`.
    ///
    /// # Panics
    /// If the description is not a possible block (see `Network::check`).
    pub fn new(
        description: &Description,
        batch: usize,
        input: Size,
        purpose: Purpose,
        parameters: &Parameters,
    ) -> Self {
        let depthwise = &description.depthwise.convolution;
        let hidden = depthwise.output;
        let padded = hidden.next_multiple_of(16);
        let (rows, columns) = axes(depthwise, input);
        let output = Size {
            height: rows.output,
            width: columns.output,
            channels: description.project.convolution.output,
        };
        let weight = |c: &Convolution| parameters.weight_place(&format!("{}.weight", c.name));
        let stored = description.expand.is_some()
            && input.channels >= WIDE
            && (purpose == Purpose::Train
                || hidden < 4 * input.channels
                || input.channels >= 2 * WIDE);
        let k = input.channels;
        let widest = padded.max(output.channels).max(k).next_multiple_of(16);
        let expand_norm = description
            .expand
            .as_ref()
            .unwrap_or(&description.depthwise);
        let mut block = Self {
            level: Level::current(),
            cache: CACHE,
            purpose,
            batch,
            input,
            output,
            hidden,
            padded,
            rows,
            columns,
            expand: description.expand.as_ref().map(|e| weight(&e.convolution)),
            depthwise: weight(depthwise),
            project: weight(&description.project.convolution),
            norms: [
                Norm::new(&expand_norm.norm, hidden, parameters),
                Norm::new(&description.depthwise.norm, hidden, parameters),
                Norm::new(&description.project.norm, output.channels, parameters),
            ],
            activations: [
                description
                    .expand
                    .as_ref()
                    .map_or(Activation::Identity, |e| e.activation),
                description.depthwise.activation,
            ],
            gate: description
                .squeeze_excite
                .as_ref()
                .map(|gate| Gate::new(gate, hidden, batch, parameters)),
            shortcut: description.shortcut,
            drop_connect: description.drop_connect,
            stored,
            memory: Map::default(),
            forward_blocks: cut(padded, if hidden >= 200 { 64 } else { 48 }),
            backward_blocks: cut(padded, BACKWARD_BLOCK),
            parts: slices(batch)
                .enumerate()
                .map(|(index, images)| Part {
                    index,
                    images,
                    sums: [vec![0.0; widest], vec![0.0; widest]],
                    image: std::array::from_fn(|_| vec![0.0; widest]),
                    gram: vec![0.0; k * k + k],
                })
                .collect(),
            factors: vec![1.0; batch],
            taps: vec![0.0; rows.kernel * rows.kernel * padded],
            image_sums: vec![0.0; batch * padded],
            input_mean: vec![0.0; k],
            covariance: vec![0.0; k * k],
            ones: vec![1.0; widest],
            zeros: vec![0.0; widest],
        };
        block.memory = block.map();
        block
    }

    /// Uses the kernels of `level`.
    #[cfg(test)]
    fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Cuts its work as if the cache held only so many numbers.
    #[cfg(test)]
    fn with_cache(mut self, cache: usize) -> Self {
        self.cache = cache;
        self.memory = self.map();
        self
    }

    fn map(&self) -> Map {
        let mut m = Map::default();
        let (n, k, o) = (self.hidden, self.input.channels, self.output.channels);
        let output_pixels = self.batch * self.output.height * self.output.width;
        let input_pixels = self.batch * self.input.height * self.input.width;
        let mut end = 0;
        let mut take = |len: usize| {
            let start = end;
            end += len.next_multiple_of(16);
            start
        };
        m.expanded = take(if self.stored { input_pixels * n } else { 0 });
        m.depthwise = take(output_pixels * n);
        m.project = take(output_pixels * o);
        m.moments = take(if self.expand.is_some() { n * k } else { 0 });
        m.kept = take(0);

        let mut end = if self.purpose == Purpose::Train {
            0
        } else {
            m.kept
        };
        let mut take = |len: usize| {
            let start = end;
            end += len.next_multiple_of(16);
            start
        };
        m.packed_expand = take(packed_len(k, self.padded));
        m.packed_project = take(packed_len(n, o));
        let forward = (self.forward_rows(self.output.height) * self.columns.padded())
            * self.widest(&self.forward_blocks);
        let mut chunk = forward.max(self.project_rows() * n).max(k * k + 16 * k);
        if self.purpose == Purpose::Train {
            let sizes = self.backward_sizes();
            chunk = chunk
                .max(sizes.iter().sum())
                .max(self.project_rows() * (n + o) + 16);
            m.passed = take(output_pixels * n);
            m.packed_expand_back = take(self.padded * k.next_multiple_of(16));
            m.packed_project_back = take(packed_len(o, n));
            m.scaled = take(n * k);
            m.correction = take(k * k);
            let t = self.rows.kernel * self.rows.kernel;
            m.gradient_depthwise = (k * self.padded).next_multiple_of(16);
            m.gradient_project = m.gradient_depthwise + t * self.padded;
            m.gradient = m.gradient_project + (n * o).next_multiple_of(16);
            m.gradients = take(m.gradient * self.parts.len());
        }
        m.chunk = chunk.next_multiple_of(16);
        m.chunks = take(m.chunk * self.parts.len());
        m.total = take(0);
        m
    }

    fn widest(&self, blocks: &[(usize, usize)]) -> usize {
        blocks.iter().map(|b| b.1).max().unwrap_or(0)
    }

    /// Padded input rows of a forward band of `output` rows at most; the band fits the cache.
    fn forward_rows(&self, output: usize) -> usize {
        (self.forward_band().min(output) - 1) * self.rows.stride + self.rows.kernel
    }

    /// Output rows of a forward band.
    fn forward_band(&self) -> usize {
        let row = self.columns.padded() * self.widest(&self.forward_blocks);
        ((self.cache / row).saturating_sub(self.rows.kernel) / self.rows.stride)
            .clamp(1, self.output.height)
    }

    /// Input rows of a backward band.
    fn backward_band(&self) -> usize {
        let row = (self.columns.input + self.columns.kernel) * self.widest(&self.backward_blocks);
        let rows = (self.cache / (3 * row)).max(2);
        if rows < self.input.height {
            rows / 2 * 2
        } else {
            self.input.height
        }
    }

    /// Numbers of the buffers of a backward band: the gradient, the normalised input, the activation; and of what bands
    /// leave to the next ones: lines of the gradient, of all channels.
    fn backward_sizes(&self) -> [usize; 4] {
        let width = self.widest(&self.backward_blocks);
        let band = self.backward_band();
        // Bands start at any row: the reached rows of the first ones are as many as those of any other, or one more.
        let lines = self.rows.reached(0, band).len() + 1;
        let line = self.columns.reached(0, self.columns.input).len();
        let pixels = band * self.input.width * width;
        let left = if band < self.input.height {
            self.common_lines() * line * self.padded
        } else {
            0
        };
        [
            lines * line * width,
            pixels * self.backward_group(),
            pixels,
            left,
        ]
    }

    /// Rows of a chunk of the project convolution: whole images, or an even part of one.
    fn project_rows(&self) -> usize {
        let image = self.output.height * self.output.width;
        let rows = (self.cache / self.hidden).max(14);
        if image > rows {
            let parts = image.div_ceil(rows);
            return image.div_ceil(parts).next_multiple_of(14).min(image);
        }
        let most = self.parts.iter().map(|part| part.images.len()).max();
        image * (rows / image).min(most.unwrap_or(1))
    }

    /// The chunks of some images: the images that each touches, and its output pixels.
    fn project_chunks(
        &self,
        images: Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        let image = self.output.height * self.output.width;
        let rows = self.project_rows();
        let (group, steps) = if rows < image {
            (1, image.div_ceil(rows))
        } else {
            (rows / image, 1)
        };
        images.clone().step_by(group).flat_map(move |first| {
            let last = (first + group).min(images.end);
            (0..steps).map(move |step| {
                let start = first * image + step * rows;
                (first..last, start..(start + rows).min(last * image))
            })
        })
    }

    /// Lines of the gradient that two neighbouring bands have in common, at most.
    fn common_lines(&self) -> usize {
        (self.rows.kernel - 2).div_ceil(self.rows.stride) + 1
    }

    /// Images of a slice that go through backward's filter together: several where an image is small.
    fn backward_group(&self) -> usize {
        let image = self.input.height * self.input.width;
        if self.backward_band() < self.input.height {
            return 1;
        }
        let most = self.parts.iter().map(|part| part.images.len()).max();
        let most = most.unwrap_or(1);
        let fit = GROUP / (image * self.widest(&self.backward_blocks));
        // As even as possible.
        most.div_ceil(most.div_ceil(fit.clamp(1, most)))
    }

    fn expanded_activation(&self) -> Activation {
        self.activations[0]
    }

    fn draw_factors(&mut self, mode: Mode, position: usize) {
        let draws = self.drop_connect != 0.0 && self.shortcut;
        let Some(draw) = mode.draw().filter(|_| draws) else {
            return self.factors.fill(1.0);
        };
        let (key, p) = (Key::of_block(draw, position), f64::from(self.drop_connect));
        for (i, factor) in self.factors.iter_mut().enumerate() {
            let drops = unit(key.at(i as u64)) < p;
            *factor = if drops { 0.0 } else { (1.0 / (1.0 - p)) as f32 };
        }
    }
}

/// The vertical and horizontal geometry of a depthwise convolution.
fn axes(c: &Convolution, input: Size) -> (Axis, Axis) {
    (
        Axis::new(
            input.height,
            c.kernel,
            c.stride,
            c.padding.top,
            c.padding.bottom,
        ),
        Axis::new(
            input.width,
            c.kernel,
            c.stride,
            c.padding.left,
            c.padding.right,
        ),
    )
}

/// Cuts `padded` channels into blocks of at most `width`, as even as whole groups of sixteen allow.
fn cut(padded: usize, width: usize) -> Vec<(usize, usize)> {
    let groups = padded / 16;
    let blocks = groups.div_ceil(width / 16);
    (0..blocks)
        .map(|i| {
            let (first, end) = (groups * i / blocks * 16, groups * (i + 1) / blocks * 16);
            (first, end - first)
        })
        .collect()
}

/// Works on every slice, each a task of its own.
fn each(parts: &mut [Part], work: impl Fn(&mut Part) + Sync + Send) {
    parts.par_iter_mut().with_max_len(1).for_each(work);
}

impl Layer for InvertedResidual {
    fn output(&self) -> Size {
        self.output
    }

    fn saved(&self) -> usize {
        self.memory.kept
    }

    fn scratch(&self) -> usize {
        self.memory.total
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let keeps = pass.mode.keeps();
        assert_eq!(
            keeps,
            self.purpose == Purpose::Train,
            "the block was planned for another purpose"
        );
        assert!(
            pass.scratch.len() >= self.memory.total,
            "too little scratch memory"
        );
        assert_eq!(x.len(), self.batch * self.input.len(), "size of the input");
        assert_eq!(
            y.len(),
            self.batch * self.output.len(),
            "size of the output"
        );
        let scratch = Place::new(pass.scratch);
        let kept = if keeps {
            assert!(
                pass.saved.len() >= self.memory.kept,
                "too little saved memory"
            );
            Place::new(pass.saved)
        } else {
            scratch
        };
        self.draw_factors(pass.mode, pass.position);
        let (mode, parameters) = (pass.mode, &mut *pass.parameters);
        // From here on within the pool: a parallel section started by one of its threads costs a fraction.
        rayon::scope(|_| self.run_forward(parameters, mode, kept, scratch, x, y));
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: &[f32],
        _: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        assert!(
            self.purpose == Purpose::Train,
            "the block was planned for another purpose"
        );
        assert!(
            pass.scratch.len() >= self.memory.total,
            "too little scratch memory"
        );
        assert!(
            pass.saved.len() >= self.memory.kept,
            "too little saved memory"
        );
        assert_eq!(x.len(), self.batch * self.input.len(), "size of the input");
        assert_eq!(
            dy.len(),
            self.batch * self.output.len(),
            "size of the gradient"
        );
        if let Some(dx) = &dx {
            assert_eq!(dx.len(), x.len(), "size of the input's gradient");
        }
        let (kept, scratch) = (Place::new(pass.saved), Place::new(pass.scratch));
        let parameters = &mut *pass.parameters;
        rayon::scope(|_| self.run_backward(parameters, kept, scratch, x, dy, dx));
    }
}
