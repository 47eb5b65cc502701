//! The same networks once more, in `f64`, by plain loops, with nothing shared with the crate but the descriptions.
//!
//! Every function returns its result and a closure that turns the gradient of the result into that of the input, adding
//! the gradients of parameters on its way.

use std::collections::BTreeMap;

use smallfry_nn::network::{
    Activation, Block, ConvNorm, Convolution, Gate, InvertedResidual, Linear, Network, Norm,
    Residual, SqueezeExcite,
};

/// Tensors by name.
pub type Named = BTreeMap<String, Vec<f64>>;

/// A tensor `[batch, height, width, channels]`.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub shape: [usize; 4],
    pub values: Vec<f64>,
}

/// Takes the gradient of a result, adds to the gradients by name, and returns the gradient of the input.
type Back = Box<dyn Fn(Tensor, &mut Named) -> Tensor>;

/// A function of one number.
type Scalar = fn(f64) -> f64;

/// How statistics are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Statistics {
    Batch,
    Running,
}

impl Tensor {
    pub fn new(shape: [usize; 4], values: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape, values }
    }

    fn zeros(shape: [usize; 4]) -> Self {
        Self::new(shape, vec![0.0; shape.iter().product()])
    }

    fn at(&self, n: usize, y: usize, x: usize, c: usize) -> usize {
        ((n * self.shape[1] + y) * self.shape[2] + x) * self.shape[3] + c
    }

    fn zip(mut self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!(self.shape, other.shape);
        for (a, b) in self.values.iter_mut().zip(&other.values) {
            *a = f(*a, *b);
        }
        self
    }
}

/// Runs `network` forward; in batch mode the running statistics in `tensors` move.
pub fn run(
    network: &Network,
    tensors: &mut Named,
    images: Tensor,
    mode: Statistics,
) -> (Tensor, Back) {
    let mut x = images;
    let mut backs: Vec<Back> = Vec::new();
    for block in &network.blocks {
        let (y, back) = match block {
            Block::ConvNorm(conv) => conv_norm(conv, tensors, x, mode),
            Block::InvertedResidual(block) => inverted_residual(block, tensors, x, mode),
            Block::Residual(block) => residual(block, tensors, x, mode),
            &Block::MaxPool {
                kernel,
                stride,
                padding,
            } => max_pool(kernel, stride, padding, x),
            Block::GlobalAveragePool { .. } => mean(x),
            Block::Linear(layer) => linear(layer, tensors, x),
            Block::RowNorm(row) => {
                let (y, a) = norm(&row.norm, tensors, x, mode);
                let (y, b) = activation(row.activation, y);
                (y, then(a, b))
            }
            Block::UnitLength => unit_length(x),
            Block::PatchEmbedding(_) | Block::TransformerLayer(_) | Block::LayerNorm(_) => {
                panic!("transformers have a slow reference of their own")
            }
            Block::Kept(_) => (x, Box::new(|d: Tensor, _: &mut Named| d) as Back),
        };
        x = y;
        backs.push(back);
    }
    let back: Back = Box::new(move |mut d, gradients| {
        for back in backs.iter().rev() {
            d = back(d, gradients);
        }
        d
    });
    (x, back)
}

fn add(gradients: &mut Named, name: String, d: &[f64]) {
    let own = gradients.entry(name).or_insert_with(|| vec![0.0; d.len()]);
    for (a, b) in own.iter_mut().zip(d) {
        *a += b;
    }
}

fn then(first: Back, second: Back) -> Back {
    Box::new(move |d, gradients| first(second(d, gradients), gradients))
}

fn conv_norm(conv: &ConvNorm, tensors: &mut Named, x: Tensor, mode: Statistics) -> (Tensor, Back) {
    let (y, a) = convolution(&conv.convolution, tensors, x);
    let (y, b) = norm(&conv.norm, tensors, y, mode);
    let (y, c) = activation(conv.activation, y);
    (y, then(then(a, b), c))
}

fn convolution(c: &Convolution, tensors: &Named, x: Tensor) -> (Tensor, Back) {
    let name = format!("{}.weight", c.name);
    let w = tensors[&name].clone();
    let [n, h, wd, _] = x.shape;
    let p = c.padding;
    let oh = (h + p.top + p.bottom - c.kernel) / c.stride + 1;
    let ow = (wd + p.left + p.right - c.kernel) / c.stride + 1;
    let mut y = Tensor::zeros([n, oh, ow, c.output]);
    let (own, outputs) = (c.input / c.groups, c.output / c.groups);
    // Calls `f(place in x, place in y, place in w)` for every product.
    let (c, shape) = (c.clone(), x.shape);
    let each = move |f: &mut dyn FnMut(usize, usize, usize)| {
        for image in 0..n {
            for oy in 0..oh {
                for ox in 0..ow {
                    for r in 0..c.kernel {
                        for q in 0..c.kernel {
                            let iy = (oy * c.stride + r) as isize - p.top as isize;
                            let ix = (ox * c.stride + q) as isize - p.left as isize;
                            if iy < 0 || ix < 0 || iy >= h as isize || ix >= wd as isize {
                                continue;
                            }
                            let pixel = (image * shape[1] + iy as usize) * shape[2] + ix as usize;
                            let out = (image * oh + oy) * ow + ox;
                            for o in 0..c.output {
                                for k in 0..own {
                                    f(
                                        pixel * c.input + o / outputs * own + k,
                                        out * c.output + o,
                                        ((o * own + k) * c.kernel + r) * c.kernel + q,
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    each(&mut |i, o, k| y.values[o] += x.values[i] * w[k]);
    let back: Back = Box::new(move |d, gradients| {
        let mut dx = Tensor::zeros(x.shape);
        let mut dw = vec![0.0; w.len()];
        each(&mut |i, o, k| {
            dx.values[i] += d.values[o] * w[k];
            dw[k] += d.values[o] * x.values[i];
        });
        add(gradients, name.clone(), &dw);
        dx
    });
    (y, back)
}

fn norm(norm: &Norm, tensors: &mut Named, x: Tensor, mode: Statistics) -> (Tensor, Back) {
    let c = x.shape[3];
    let m = (x.values.len() / c) as f64;
    let name = |last: &str| format!("{}.{last}", norm.name);
    let (weight, bias) = (
        tensors[&name("weight")].clone(),
        tensors[&name("bias")].clone(),
    );
    let mut mean = vec![0.0; c];
    let mut variance = vec![0.0; c];
    if mode == Statistics::Batch {
        for (i, v) in x.values.iter().enumerate() {
            mean[i % c] += v / m;
        }
        for (i, v) in x.values.iter().enumerate() {
            variance[i % c] += (v - mean[i % c]).powi(2) / m;
        }
        let momentum = f64::from(norm.momentum);
        for k in 0..c {
            for (last, new) in [
                ("running_mean", mean[k]),
                ("running_var", variance[k] * m / (m - 1.0)),
            ] {
                let old = &mut tensors.get_mut(&name(last)).unwrap()[k];
                *old += momentum * (new - *old);
            }
        }
    } else {
        mean.clone_from(&tensors[&name("running_mean")]);
        variance.clone_from(&tensors[&name("running_var")]);
    }
    let inverse: Vec<f64> = variance
        .iter()
        .map(|v| 1.0 / (v + f64::from(norm.epsilon)).sqrt())
        .collect();
    let mut standard = x;
    for (i, v) in standard.values.iter_mut().enumerate() {
        *v = (*v - mean[i % c]) * inverse[i % c];
    }
    let mut y = standard.clone();
    for (i, v) in y.values.iter_mut().enumerate() {
        *v = *v * weight[i % c] + bias[i % c];
    }
    let (weight_name, bias_name) = (name("weight"), name("bias"));
    let back: Back = Box::new(move |mut d, gradients| {
        let (mut plain, mut product) = (vec![0.0; c], vec![0.0; c]);
        for (i, (d, s)) in d.values.iter().zip(&standard.values).enumerate() {
            plain[i % c] += d;
            product[i % c] += d * s;
        }
        add(gradients, weight_name.clone(), &product);
        add(gradients, bias_name.clone(), &plain);
        if mode == Statistics::Running {
            for (i, d) in d.values.iter_mut().enumerate() {
                *d *= weight[i % c] * inverse[i % c];
            }
            return d;
        }
        for (i, (d, s)) in d.values.iter_mut().zip(&standard.values).enumerate() {
            let k = i % c;
            *d = weight[k] * inverse[k] * (*d - plain[k] / m - s * product[k] / m);
        }
        d
    });
    (y, back)
}

fn value(activation: Activation, z: f64) -> f64 {
    match activation {
        Activation::Identity => z,
        Activation::Relu => z.max(0.0),
        Activation::Relu6 => z.clamp(0.0, 6.0),
        Activation::HardSwish => z * (z + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Swish => z / (1.0 + (-z).exp()),
    }
}

fn slope(activation: Activation, z: f64) -> f64 {
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => f64::from(u8::from(z > 0.0)),
        Activation::Relu6 => f64::from(u8::from(z > 0.0 && z < 6.0)),
        Activation::HardSwish if z.abs() >= 3.0 => f64::from(u8::from(z > 0.0)),
        Activation::HardSwish => (2.0 * z + 3.0) / 6.0,
        Activation::Swish => {
            let s = 1.0 / (1.0 + (-z).exp());
            s * (1.0 + z * (1.0 - s))
        }
    }
}

fn activation(a: Activation, z: Tensor) -> (Tensor, Back) {
    let mut y = z.clone();
    for v in &mut y.values {
        *v = value(a, *v);
    }
    (y, Box::new(move |d, _| d.zip(&z, |d, z| d * slope(a, z))))
}

fn inverted_residual(
    block: &InvertedResidual,
    tensors: &mut Named,
    x: Tensor,
    mode: Statistics,
) -> (Tensor, Back) {
    let input = x.clone();
    let mut back: Back = Box::new(|d, _| d);
    let mut y = x;
    if let Some(expand) = &block.expand {
        let (z, b) = conv_norm(expand, tensors, y, mode);
        (y, back) = (z, then(back, b));
    }
    let (z, b) = convolution(&block.depthwise.convolution, tensors, y);
    (y, back) = (z, then(back, b));
    let (z, b) = norm(&block.depthwise.norm, tensors, y, mode);
    (y, back) = (z, then(back, b));
    let after = block
        .squeeze_excite
        .as_ref()
        .is_some_and(|s| s.after_activation);
    if after {
        let (z, b) = activation(block.depthwise.activation, y);
        (y, back) = (z, then(back, b));
    }
    if let Some(gating) = &block.squeeze_excite {
        let (z, b) = squeeze_excite(gating, tensors, y);
        (y, back) = (z, then(back, b));
    }
    if !after {
        let (z, b) = activation(block.depthwise.activation, y);
        (y, back) = (z, then(back, b));
    }
    let (z, b) = conv_norm(&block.project, tensors, y, mode);
    (y, back) = (z, then(back, b));
    if block.shortcut {
        y = y.zip(&input, |a, b| a + b);
        let inner = back;
        back = Box::new(move |d, gradients| inner(d.clone(), gradients).zip(&d, |a, b| a + b));
    }
    (y, back)
}

fn squeeze_excite(s: &SqueezeExcite, tensors: &mut Named, x: Tensor) -> (Tensor, Back) {
    let [n, h, w, c] = x.shape;
    let layer = |name: &str, input, output| Linear {
        name: name.into(),
        input,
        output,
        bias: true,
        activation: Activation::Identity,
        dropout: 0.0,
        init: s.init,
        bias_init: s.bias_init,
    };
    let (pooled, a) = mean(x.clone());
    let (hidden, b) = linear(&layer(&s.reduce, c, s.width), tensors, pooled);
    let (hidden, e) = activation(s.activation, hidden);
    let (open, f) = linear(&layer(&s.expand, s.width, c), tensors, hidden);
    let inner = then(then(then(a, b), e), f);
    let gate = s.gate;
    let (value, slope): (Scalar, Scalar) = match gate {
        Gate::HardSigmoid => (
            |z| (z + 3.0).clamp(0.0, 6.0) / 6.0,
            |z| if z.abs() < 3.0 { 1.0 / 6.0 } else { 0.0 },
        ),
        Gate::Sigmoid => (
            |z| 1.0 / (1.0 + (-z).exp()),
            |z| {
                let s = 1.0 / (1.0 + (-z).exp());
                s * (1.0 - s)
            },
        ),
    };
    let mut y = x.clone();
    for (i, v) in y.values.iter_mut().enumerate() {
        *v *= value(open.values[i / (h * w * c) * c + i % c]);
    }
    let back: Back = Box::new(move |d, gradients| {
        let mut dopen = Tensor::zeros([n, 1, 1, c]);
        let mut dx = Tensor::zeros(x.shape);
        for (i, (d, x)) in d.values.iter().zip(&x.values).enumerate() {
            let k = i / (h * w * c) * c + i % c;
            dx.values[i] = d * value(open.values[k]);
            dopen.values[k] += d * x * slope(open.values[k]);
        }
        let through = inner(dopen, gradients);
        dx.zip(&through, |a, b| a + b)
    });
    (y, back)
}

fn residual(block: &Residual, tensors: &mut Named, x: Tensor, mode: Statistics) -> (Tensor, Back) {
    let mut back: Back = Box::new(|d, _| d);
    let mut y = x.clone();
    for conv in &block.path {
        let (z, b) = conv_norm(conv, tensors, y, mode);
        (y, back) = (z, then(back, b));
    }
    let (shortcut, side): (Tensor, Back) = match &block.downsample {
        Some(conv) => conv_norm(conv, tensors, x, mode),
        None => (x, Box::new(|d, _| d)),
    };
    let (y, last) = activation(block.activation, y.zip(&shortcut, |a, b| a + b));
    let both: Back = Box::new(move |d, gradients| {
        let d = last(d, gradients);
        back(d.clone(), gradients).zip(&side(d, gradients), |a, b| a + b)
    });
    (y, both)
}

fn max_pool(kernel: usize, stride: usize, padding: usize, x: Tensor) -> (Tensor, Back) {
    let [n, h, w, c] = x.shape;
    let side = |n: usize| (n + 2 * padding - kernel) / stride + 1;
    let mut y = Tensor::zeros([n, side(h), side(w), c]);
    let mut places = vec![0; y.values.len()];
    for image in 0..n {
        for oy in 0..side(h) {
            for ox in 0..side(w) {
                for k in 0..c {
                    let mut best: Option<(f64, usize)> = None;
                    for r in 0..kernel {
                        for q in 0..kernel {
                            let iy = (oy * stride + r) as isize - padding as isize;
                            let ix = (ox * stride + q) as isize - padding as isize;
                            if iy < 0 || ix < 0 || iy >= h as isize || ix >= w as isize {
                                continue;
                            }
                            let place = x.at(image, iy as usize, ix as usize, k);
                            if best.is_none_or(|(v, _)| x.values[place] > v) {
                                best = Some((x.values[place], place));
                            }
                        }
                    }
                    let out = y.at(image, oy, ox, k);
                    (y.values[out], places[out]) = best.unwrap();
                }
            }
        }
    }
    let back: Back = Box::new(move |d, _| {
        let mut dx = Tensor::zeros(x.shape);
        for (place, d) in places.iter().zip(&d.values) {
            dx.values[*place] += d;
        }
        dx
    });
    (y, back)
}

fn mean(x: Tensor) -> (Tensor, Back) {
    let [n, h, w, c] = x.shape;
    let area = h * w;
    let mut y = Tensor::zeros([n, 1, 1, c]);
    for (i, v) in x.values.iter().enumerate() {
        y.values[i / (area * c) * c + i % c] += v / area as f64;
    }
    let back: Back = Box::new(move |d, _| {
        let mut dx = Tensor::zeros(x.shape);
        for (i, v) in dx.values.iter_mut().enumerate() {
            *v = d.values[i / (area * c) * c + i % c] / area as f64;
        }
        dx
    });
    (y, back)
}

fn linear(layer: &Linear, tensors: &Named, x: Tensor) -> (Tensor, Back) {
    let (name, bias_name) = (
        format!("{}.weight", layer.name),
        format!("{}.bias", layer.name),
    );
    let w = tensors[&name].clone();
    let (k, o, has_bias) = (layer.input, layer.output, layer.bias);
    let n = x.shape[0];
    let mut y = Tensor::zeros([n, 1, 1, o]);
    for row in 0..n {
        for j in 0..o {
            let products = (0..k).map(|i| x.values[row * k + i] * w[j * k + i]);
            let bias = if has_bias {
                tensors[&bias_name][j]
            } else {
                0.0
            };
            y.values[row * o + j] = products.sum::<f64>() + bias;
        }
    }
    let (y, last) = activation(layer.activation, y);
    let back: Back = Box::new(move |d, gradients| {
        let d = last(d, gradients);
        let mut dx = Tensor::zeros(x.shape);
        let mut dw = vec![0.0; w.len()];
        let mut db = vec![0.0; o];
        for row in 0..n {
            for j in 0..o {
                let d = d.values[row * o + j];
                db[j] += d;
                for i in 0..k {
                    dw[j * k + i] += d * x.values[row * k + i];
                    dx.values[row * k + i] += d * w[j * k + i];
                }
            }
        }
        add(gradients, name.clone(), &dw);
        if has_bias {
            add(gradients, bias_name.clone(), &db);
        }
        dx
    });
    (y, back)
}

fn unit_length(x: Tensor) -> (Tensor, Back) {
    let c = x.shape[3];
    let lengths: Vec<f64> = x
        .values
        .chunks(c)
        .map(|row| row.iter().map(|v| v * v).sum::<f64>().sqrt())
        .collect();
    let mut y = x.clone();
    for (row, length) in y.values.chunks_mut(c).zip(&lengths) {
        row.iter_mut().for_each(|v| *v /= length);
    }
    let back: Back = Box::new(move |d, _| {
        let mut dx = Tensor::zeros(d.shape);
        for (i, length) in lengths.iter().enumerate() {
            let (d, x) = (&d.values[i * c..(i + 1) * c], &x.values[i * c..(i + 1) * c]);
            // d(x/|x|) = dx/|x| − x (x·dx)/|x|³.
            let along: f64 = d.iter().zip(x).map(|(d, x)| d * x).sum();
            for (k, out) in dx.values[i * c..(i + 1) * c].iter_mut().enumerate() {
                *out = d[k] / length - x[k] * along / length.powi(3);
            }
        }
        dx
    });
    (y, back)
}
