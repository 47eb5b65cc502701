//! The backward pass of a transformer's layer, image by image.
//!
//! Every slice of the batch adds the gradients of all the layer's tensors to a copy of its own, laid out as the tensors are;
//! the copies are added in order at the end.

use rayon::prelude::*;

use super::{Direction, Record, Shared, TransformerLayer, multiply, take};
use crate::{
    kernel::{
        gelu,
        gemm::{Rows, multiply_transposed},
        layer_norm::{self, Gradients},
    },
    layer::{FLAT, Pass, each_slice, pieces, slices},
    memory::Memory,
};

/// What a slice works with.
struct Buffers<'a> {
    /// Gradients of the layer's tensors.
    own: &'a mut [f32],
    /// Normalised rows, `[tokens, width]`.
    normal: &'a mut [f32],
    /// Their gradient, and before that what dropout has let through; `[tokens, width]`.
    gradient: &'a mut [f32],
    /// The gradient of the sum after attention, `[queries, width]`.
    middle: &'a mut [f32],
    /// GELU's output, and its gradient; `[queries, hidden]`.
    hidden: [&'a mut [f32]; 2],
    /// The gradient of the heads' output, `[heads, queries, head_width]`.
    heads: &'a mut [f32],
    /// The gradient of queries, keys and values, `[tokens, 3 · inner]`, and at the end that of the input if nobody wants it.
    qkv: &'a mut [f32],
    attention: &'a mut [f32],
}

impl TransformerLayer {
    fn backward_lens(&self) -> [usize; 9] {
        let (tokens, queries) = (self.tokens, self.queries);
        [
            self.span.len(),
            tokens * self.width,
            tokens * self.width,
            queries * self.width,
            queries * self.hidden,
            queries * self.hidden,
            queries * self.inner(),
            tokens * self.width.max(3 * self.inner()),
            self.attention_buffers(),
        ]
    }

    /// Floats of one slice's buffers.
    pub(super) fn backward_buffers(&self) -> usize {
        self.backward_lens().into_iter().map(Memory::pad).sum()
    }

    fn buffers<'a>(&self, mut rest: &'a mut [f32]) -> Buffers<'a> {
        let parts = self.backward_lens().map(|len| take(&mut rest, len));
        let [
            own,
            normal,
            gradient,
            middle,
            first,
            second,
            heads,
            qkv,
            attention,
        ] = parts;
        Buffers {
            own,
            normal,
            gradient,
            middle,
            hidden: [first, second],
            heads,
            qkv,
            attention,
        }
    }

    pub(super) fn backward_pass(
        &self,
        pass: &mut Pass<'_>,
        x: &[f32],
        dy: &[f32],
        dx: Option<&mut [f32]>,
    ) {
        let masks = self.masks(pass);
        let (values, gradients) = pass.parameters.values_and_gradients_mut();
        let values = &values[self.span.clone()];
        let (packed, buffers) = pass.scratch.split_at_mut(self.packed());
        let shared = Shared {
            values,
            matrices: self.pack(values, Direction::Backward, packed),
            masks,
        };
        let (from, to) = (self.tokens * self.width, self.queries * self.width);
        let (kept, slice) = (self.record_len(), self.backward_buffers());
        let mut nowhere = [];
        let (dx, wanted) = match dx {
            Some(dx) => (dx, from),
            None => (&mut nowhere[..], 0),
        };
        let parts = pieces(dx, wanted, self.batch)
            .zip(pieces(pass.saved, kept, self.batch))
            .zip(buffers.chunks_mut(slice))
            .zip(slices(self.batch));
        each_slice(parts, |(((dx, saved), buffers), images)| {
            let mut buffers = self.buffers(buffers);
            buffers.own.fill(0.0);
            let mut dx = dx.chunks_mut(wanted.max(1));
            for (saved, image) in saved.chunks_mut(kept).zip(images) {
                let (x, dy) = (&x[image * from..][..from], &dy[image * to..][..to]);
                let record = self.record(saved);
                self.backward_image(&shared, image, x, record, dy, &mut buffers, dx.next());
            }
        });
        let (count, len) = (slices(self.batch).len(), self.span.len());
        let copies = buffers.chunks(slice).take(count);
        let own: Vec<&[f32]> = copies.map(|own| &own[..len]).collect();
        gradients[self.span.clone()]
            .par_chunks_mut(FLAT)
            .enumerate()
            .for_each(|(chunk, gradients)| {
                for own in &own {
                    let own = &own[chunk * FLAT..];
                    for (sum, value) in gradients.iter_mut().zip(own) {
                        *sum += value;
                    }
                }
            });
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one image's tensors and the slice's buffers"
    )]
    fn backward_image(
        &self,
        shared: &Shared<'_>,
        image: usize,
        x: &[f32],
        record: Record<'_>,
        dy: &[f32],
        buffers: &mut Buffers<'_>,
        dx: Option<&mut [f32]>,
    ) {
        let (level, width, inner, hidden) = (self.level, self.width, self.inner(), self.hidden);
        let (tokens, queries) = (self.tokens, self.queries);
        let [query, keys, output, expand, project] = &shared.matrices;
        let [
            query_weight,
            keys_weight,
            output_weight,
            expand_weight,
            project_weight,
        ] = self
            .places
            .weights
            .each_ref()
            .map(|weight| weight.place.clone());
        let [output_bias, expand_bias, project_bias] = self.places.biases.clone();
        let mask = |site: usize| shared.masks[site].map(|mask| (mask, (image * queries) as u64));
        let [first, second] = record.statistics;
        let Buffers {
            own,
            normal,
            gradient,
            middle,
            hidden: [activated, dhidden],
            heads,
            qkv,
            attention,
        } = buffers;
        let transposed = |own: &mut [f32], m, k, n, x: &[f32], d: &[f32]| {
            let (x, d) = (Rows::dense(x, k), Rows::dense(d, n));
            multiply_transposed(level, m, k, n, x, d, own, n);
        };

        // The second part.
        let passed = &mut gradient[..queries * width];
        layer_norm::add_dropped(level, width, None, dy, passed, mask(2));
        layer_norm::add_columns(level, passed, &mut own[project_bias]);
        let rows = Rows::dense(passed, width);
        multiply(queries, rows, project, dhidden, hidden, None, false);
        gelu::backward(level, hidden, record.hidden, activated, dhidden, mask(1));
        let target = &mut own[project_weight];
        transposed(target, queries, width, hidden, passed, activated);
        layer_norm::add_columns(level, dhidden, &mut own[expand_bias]);
        let affine = self.affine(1, shared.values);
        let some = &mut normal[..queries * width];
        layer_norm::normalise_again(level, affine, record.middle, some, second);
        let target = &mut own[expand_weight];
        transposed(target, queries, hidden, width, dhidden, some);
        let rows = Rows::dense(dhidden, hidden);
        multiply(queries, rows, expand, passed, width, None, false);
        let [weight, bias] = self.places.norms[1].clone();
        let (dweight, dbias) = pair(own, weight.start, bias.start, width);
        let gradients = Gradients {
            dx: middle,
            dweight,
            dbias,
        };
        let statistics = &*second;
        layer_norm::gradient(
            level,
            affine.weight,
            record.middle,
            statistics,
            passed,
            dy,
            gradients,
        );

        // Attention.
        layer_norm::add_dropped(level, width, None, middle, passed, mask(0));
        layer_norm::add_columns(level, passed, &mut own[output_bias]);
        let target = &mut own[output_weight];
        transposed(target, queries, width, inner, passed, record.heads);
        let rows = Rows::dense(passed, width);
        for (head, part) in heads.chunks_mut(queries * self.head_width).enumerate() {
            let matrix = output.block(head);
            multiply(queries, rows, &matrix, part, self.head_width, None, false);
        }
        self.attend_back(
            record.qkv,
            record.heads,
            record.logarithms,
            heads,
            &mut qkv[..tokens * 3 * inner],
            attention,
        );
        let affine = self.affine(0, shared.values);
        layer_norm::normalise_again(level, affine, x, normal, first);
        let normal = Rows::dense(normal, width);
        let [of_query, of_keys] = [0, inner].map(|part| Rows {
            values: &qkv[part..],
            stride: 3 * inner,
        });
        let target = &mut own[query_weight];
        multiply_transposed(
            level, queries, inner, width, of_query, normal, target, width,
        );
        let target = &mut own[keys_weight];
        multiply_transposed(
            level,
            tokens,
            2 * inner,
            width,
            of_keys,
            normal,
            target,
            width,
        );
        multiply(tokens, of_keys, keys, gradient, width, None, false);
        multiply(queries, of_query, query, gradient, width, None, true);
        let [weight, bias] = self.places.norms[0].clone();
        let (dweight, dbias) = pair(own, weight.start, bias.start, width);
        // Without a gradient to give, the rows' own goes to a buffer that is free by now.
        let dx = dx.unwrap_or(&mut qkv[..tokens * width]);
        let gradients = Gradients { dx, dweight, dbias };
        let statistics = &*first;
        layer_norm::gradient(
            level,
            affine.weight,
            x,
            statistics,
            gradient,
            middle,
            gradients,
        );
    }
}

/// Two pieces of `width` numbers, the first before the second.
fn pair(values: &mut [f32], first: usize, second: usize, width: usize) -> (&mut [f32], &mut [f32]) {
    let (before, after) = values.split_at_mut(second);
    (&mut before[first..][..width], &mut after[..width])
}
