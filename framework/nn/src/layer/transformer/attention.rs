//! Attention of one image, head by head: scores, softmax, weighted values, and their gradients.
//!
//! The scores of a head lie in the second-level cache and nowhere else.

use super::{
    TransformerLayer,
    product::{Matrix, multiply},
    take,
};
use crate::{
    kernel::{
        gemm::{self, Finish, Rows, multiply_transposed, pack_transposed, packed_len},
        softmax,
    },
    memory::Memory,
};

impl TransformerLayer {
    /// Floats that [`attend`](Self::attend) and [`attend_back`](Self::attend_back) work in.
    pub(super) fn attention_buffers(&self) -> usize {
        2 * Memory::pad(packed_len(self.head_width, self.tokens))
            + 2 * Memory::pad(self.queries * self.stride())
            + Memory::pad(self.queries)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }

    /// Packs the transpose of a head's keys or values, which start at `rows`.
    fn packed_transpose<'a>(&self, rows: &[f32], packed: &'a mut [f32]) -> Matrix<'a> {
        let (k, n) = (self.head_width, self.tokens);
        pack_transposed(self.level, k, n, rows, k, None, packed);
        Matrix {
            level: self.level,
            k,
            n,
            packed,
        }
    }

    /// A head's queries, keys and values, `[tokens, head_width]` each.
    fn parts<'a>(&self, qkv: &'a [f32], head: usize) -> [Rows<'a>; 3] {
        let len = self.tokens * self.head_width;
        [0, 1, 2].map(|part| {
            let values = &qkv[(part * self.heads + head) * len..][..len];
            Rows::dense(values, self.head_width)
        })
    }

    /// The heads' output `[queries, inner]`, and the logarithms of the softmax's sums, from queries, keys and values.
    pub(super) fn attend(
        &self,
        qkv: &[f32],
        out: &mut [f32],
        logarithms: &mut [f32],
        mut buffers: &mut [f32],
    ) {
        let (tokens, queries, inner) = (self.tokens, self.queries, self.inner());
        let (head_width, stride) = (self.head_width, self.stride());
        let packed = take(&mut buffers, packed_len(head_width, tokens));
        let scores = take(&mut buffers, queries * stride);
        let inverse = take(&mut buffers, queries);
        for (head, logarithms) in logarithms.chunks_mut(queries).enumerate() {
            let [q, k, v] = self.parts(qkv, head);
            let keys = self.packed_transpose(k.values, packed);
            multiply(queries, q, &keys, scores, stride, None, false);
            softmax::forward(
                self.level,
                scores,
                tokens,
                stride,
                self.scale(),
                inverse,
                logarithms,
            );
            let p = Rows {
                values: scores,
                stride,
            };
            let out = &mut out[head * head_width..];
            gemm::multiply(
                self.level,
                queries,
                tokens,
                head_width,
                p,
                v,
                out,
                inner,
                Finish::default(),
            );
            for (row, inverse) in out.chunks_mut(inner).zip(&*inverse) {
                for value in &mut row[..head_width] {
                    *value *= inverse;
                }
            }
        }
    }

    /// The gradient of queries, keys and values, `[tokens, 3 · inner]`, given that of the heads' output `out`,
    /// `[heads, queries, head_width]`. Of the queries' part only the first rows are written, as many as there are queries.
    pub(super) fn attend_back(
        &self,
        qkv: &[f32],
        out: &[f32],
        logarithms: &[f32],
        dout: &[f32],
        dqkv: &mut [f32],
        mut buffers: &mut [f32],
    ) {
        let (level, tokens, queries, inner) = (self.level, self.tokens, self.queries, self.inner());
        let (head_width, stride, distance) = (self.head_width, self.stride(), 3 * inner);
        let transposes = [(); 2].map(|()| take(&mut buffers, packed_len(head_width, tokens)));
        let [keys, values] = transposes;
        let [scores, gradient] = [(); 2].map(|()| take(&mut buffers, queries * stride));
        let along = take(&mut buffers, queries);
        // Products with a transposed matrix are added; those of the queries are not transposed.
        for row in dqkv.chunks_mut(distance) {
            row[inner..].fill(0.0);
        }
        for (head, logarithms) in logarithms.chunks(queries).enumerate() {
            let at = head * head_width;
            let [q, k, v] = self.parts(qkv, head);
            let d = Rows::dense(&dout[at * queries..][..head_width * queries], head_width);
            let keys = self.packed_transpose(k.values, keys);
            multiply(queries, q, &keys, scores, stride, None, false);
            let values = self.packed_transpose(v.values, values);
            multiply(queries, d, &values, gradient, stride, None, false);
            let heads = Rows {
                values: &out[at..],
                stride: inner,
            };
            softmax::dots(level, d, heads, head_width, along);
            softmax::backward(
                level,
                scores,
                gradient,
                tokens,
                stride,
                logarithms,
                along,
                self.scale(),
            );
            let [p, g] = [&*scores, &*gradient].map(|values| Rows { values, stride });
            let dv = &mut dqkv[2 * inner + at..];
            multiply_transposed(level, queries, tokens, head_width, p, d, dv, distance);
            let dk = &mut dqkv[inner + at..];
            multiply_transposed(level, queries, tokens, head_width, g, q, dk, distance);
            let dq = &mut dqkv[at..];
            let finish = Finish::default();
            gemm::multiply(
                level, queries, tokens, head_width, g, k, dq, distance, finish,
            );
        }
    }
}
