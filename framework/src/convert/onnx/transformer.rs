//! Vision transformers as ONNX operators.
//!
//! Tokens are `[batch, tokens, width]`. Maps are stored transposed, as `MatMul` wants them; queries, keys and values get
//! a map each, since a split in one would cost a copy. The last layer works out the class token alone, as the executor
//! does.

use smallfry_nn::network::{
    Attention, Hidden, LayerNorm, PatchEmbedding, Tokens, TransformerLayer,
};

use super::{
    graph::{Graph, INPUT},
    protobuf::Attribute,
};

impl Graph<'_> {
    /// Images to tokens, the class token first: a convolution with windows that do not overlap.
    pub(super) fn patch_embedding(&mut self, embedding: &PatchEmbedding, input: String) -> String {
        let name = &embedding.projection;
        let (patch, width) = (embedding.patch, embedding.width);
        let stored = self.weight(&format!("{name}.weight"));
        let mut weight = Vec::with_capacity(stored.len());
        for filter in stored.chunks_exact(3 * patch * patch) {
            for channel in 0..3 {
                weight.extend(filter.iter().skip(channel).step_by(3));
            }
        }
        let bias = format!("{name}.bias");
        let inputs = vec![
            input,
            self.constant(
                &format!("{name}.weight"),
                &[width, 3, patch, patch],
                &weight,
            ),
            self.constant(&bias, &[width], self.weight(&bias)),
        ];
        let side = |n: usize| Attribute::Integers(vec![n as i64; 2]);
        let map = self.node(
            "Conv",
            inputs,
            format!("{name}/conv"),
            vec![("kernel_shape", side(patch)), ("strides", side(patch))],
        );
        let rows = self.reshape(map, "as_pixels", &[0, 0, -1]);
        let patches = self.transpose(rows, &[0, 2, 1]);

        // The class token is the same for every image: as many copies as there are images.
        let ends = vec![
            ("start", Attribute::Integer(0)),
            ("end", Attribute::Integer(1)),
        ];
        let batch = self.node("Shape", vec![INPUT.to_owned()], "batch_size".into(), ends);
        let one_row = self.integers("one_row", &[2], &[1, width as i64]);
        let axis = |n| vec![("axis", Attribute::Integer(n))];
        let shape = self.node(
            "Concat",
            vec![batch, one_row],
            "class_token_shape".into(),
            axis(0),
        );
        let token = &embedding.class_token;
        let token = self.constant(token, &[1, 1, width], self.weight(token));
        let copies = self.node("Expand", vec![token, shape], "class_tokens".into(), vec![]);
        let tokens = self.node("Concat", vec![copies, patches], "tokens".into(), axis(1));
        let positions = &embedding.positions;
        let shape = [1, embedding.tokens(), width];
        let positions = self.constant(positions, &shape, self.weight(positions));
        let output = format!("{name}/placed");
        self.node("Add", vec![tokens, positions], output, vec![])
    }

    /// x + attention(norm(x)), then y + hidden(norm(y)); rows where only the class token goes on.
    pub(super) fn transformer_layer(&mut self, layer: &TransformerLayer, input: String) -> String {
        let attention = &layer.attention;
        let normed = self.layer_norm(&attention.norm, input.clone());
        let (asking, shortcut) = match layer.tokens {
            Tokens::All => (normed.clone(), input),
            Tokens::First => (self.first(normed.clone()), self.first(input)),
        };
        let attended = self.attention(attention, asking, normed);
        let sum = format!("{attended}/add");
        let middle = self.node("Add", vec![attended, shortcut], sum, vec![]);
        let output = self.hidden(&layer.hidden, middle);
        match layer.tokens {
            Tokens::All => output,
            Tokens::First => {
                let rows = format!("{output}/rows");
                let axis = ("axis", Attribute::Integer(1));
                self.node("Flatten", vec![output], rows, vec![axis])
            }
        }
    }

    /// Normalisation over the last axis.
    pub(super) fn layer_norm(&mut self, norm: &LayerNorm, input: String) -> String {
        let mut inputs = vec![input];
        for last in ["weight", "bias"] {
            let name = format!("{}.{last}", norm.name);
            inputs.push(self.constant(&name, &[norm.width], self.weight(&name)));
        }
        self.node(
            "LayerNormalization",
            inputs,
            format!("{}/norm", norm.name),
            vec![
                ("axis", Attribute::Integer(-1)),
                ("epsilon", Attribute::Float(norm.epsilon)),
            ],
        )
    }

    /// The first token alone, as one token.
    fn first(&mut self, tokens: String) -> String {
        let place = self.integers("first_token", &[1], &[0]);
        let output = format!("{tokens}/first");
        let axis = ("axis", Attribute::Integer(1));
        self.node("Gather", vec![tokens, place], output, vec![axis])
    }

    /// What the tokens `asking` find in the tokens `asked`.
    fn attention(&mut self, attention: &Attention, asking: String, asked: String) -> String {
        let (heads, width) = (attention.heads, attention.head_width);
        let scale = (1.0 / (width as f64).sqrt()) as f32;
        let queries = self.share(attention, 0, scale, asking, &[0, 2, 1, 3]);
        let keys = self.share(attention, 1, 1.0, asked.clone(), &[0, 2, 3, 1]);
        let values = self.share(attention, 2, 1.0, asked, &[0, 2, 1, 3]);
        let name = &attention.qkv;
        let logits = self.node(
            "MatMul",
            vec![queries, keys],
            format!("{name}/logits"),
            vec![],
        );
        let axis = ("axis", Attribute::Integer(-1));
        let shares = self.node(
            "Softmax",
            vec![logits],
            format!("{name}/shares"),
            vec![axis],
        );
        let found = self.node(
            "MatMul",
            vec![shares, values],
            format!("{name}/found"),
            vec![],
        );
        let tokens = self.transpose(found, &[0, 2, 1, 3]);
        let joined = self.reshape(tokens, "joined_heads", &[0, 0, (heads * width) as i64]);
        let output = &attention.output;
        self.map(output, [attention.norm.width, heads * width], joined)
    }

    /// Queries (part 0), keys (1) or values (2), head by head, times `scale`.
    fn share(
        &mut self,
        attention: &Attention,
        part: usize,
        scale: f32,
        tokens: String,
        order: &[i64; 4],
    ) -> String {
        let (inner, width) = (attention.inner(), attention.norm.width);
        let all = self.weight(&format!("{}.weight", attention.qkv));
        let own: Vec<f32> = all[part * inner * width..(part + 1) * inner * width]
            .iter()
            .map(|value| value * scale)
            .collect();
        let name = format!("{}/{}", attention.qkv, ["queries", "keys", "values"][part]);
        let weight = transposed(&own, inner, width);
        let weight = self.constant(&format!("{name}.weight"), &[width, inner], &weight);
        let rows = self.node("MatMul", vec![tokens, weight], name, vec![]);
        let shape = [0, 0, attention.heads as i64, attention.head_width as i64];
        let split = self.reshape(rows, "split_heads", &shape);
        self.transpose(split, order)
    }

    fn hidden(&mut self, hidden: &Hidden, input: String) -> String {
        let (width, inner) = (hidden.norm.width, hidden.width);
        let normed = self.layer_norm(&hidden.norm, input.clone());
        let expanded = self.map(&hidden.expand, [inner, width], normed);
        let activated = self.gelu(expanded);
        let projected = self.map(&hidden.project, [width, inner], activated);
        let sum = format!("{projected}/add");
        self.node("Add", vec![projected, input], sum, vec![])
    }

    /// x · (1 + erf(x / √2)) / 2, in the form that runtimes know as one operation.
    fn gelu(&mut self, input: String) -> String {
        let root = self.constant("root_of_two", &[], &[std::f32::consts::SQRT_2]);
        let one = self.constant("one", &[], &[1.0]);
        let half = self.constant("half", &[], &[0.5]);
        let step = |what: &str| format!("{input}/gelu_{what}");
        let scaled = self.node("Div", vec![input.clone(), root], step("scaled"), vec![]);
        let erf = self.node("Erf", vec![scaled], step("erf"), vec![]);
        let shifted = self.node("Add", vec![erf, one], step("shifted"), vec![]);
        let double = self.node("Mul", vec![input.clone(), shifted], step("double"), vec![]);
        self.node("Mul", vec![double, half], step("half"), vec![])
    }

    /// A fully connected layer on tokens; its weight is stored `[output, input]`.
    fn map(&mut self, name: &str, [output, input]: [usize; 2], tokens: String) -> String {
        let weight = format!("{name}.weight");
        let turned = transposed(self.weight(&weight), output, input);
        let weight = self.constant(&weight, &[input, output], &turned);
        let bias = format!("{name}.bias");
        let bias = self.constant(&bias, &[output], self.weight(&bias));
        let product = self.node(
            "MatMul",
            vec![tokens, weight],
            format!("{name}/map"),
            vec![],
        );
        self.node("Add", vec![product, bias], format!("{name}/linear"), vec![])
    }

    /// The same numbers in another shape: 0 keeps a length, −1 is what remains; `name` is that of the shape.
    fn reshape(&mut self, input: String, name: &str, shape: &[i64]) -> String {
        let constant = self.integers(name, &[shape.len()], shape);
        let output = format!("{input}/{name}");
        self.node("Reshape", vec![input, constant], output, vec![])
    }

    fn transpose(&mut self, input: String, order: &[i64]) -> String {
        let order = ("perm", Attribute::Integers(order.to_vec()));
        let output = format!("{input}/turned");
        self.node("Transpose", vec![input], output, vec![order])
    }
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(values.len());
    for column in 0..columns {
        turned.extend((0..rows).map(|row| values[row * columns + column]));
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        assert_eq!(
            transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3),
            [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
        );
    }
}
