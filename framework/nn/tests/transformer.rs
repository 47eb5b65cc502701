//! Vision transformers against slow forward passes in `f64`, whose differences are the gradients.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use smallfry_nn::{
    Executor, Images, Mode, Network, Parameters,
    init::Init,
    kernel::Level,
    network::{
        Activation, Attention, Block, Hidden, LayerNorm, Linear, PatchEmbedding, Role, Tokens,
        TransformerLayer,
    },
    parameter::Values,
};

/// The level is the process's, so tests that change it or compare two passes take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sizes of a network of two layers.
#[derive(Clone, Copy)]
struct Shape {
    image: usize,
    patch: usize,
    width: usize,
    heads: usize,
    head_width: usize,
    hidden: usize,
}

const SMALL: Shape = Shape {
    image: 6,
    patch: 2,
    width: 5,
    heads: 2,
    head_width: 3,
    hidden: 7,
};

/// Several vectors and tiles in every direction, none of them whole.
const WIDE: Shape = Shape {
    image: 18,
    patch: 3,
    width: 70,
    heads: 3,
    head_width: 35,
    hidden: 90,
};

fn network(shape: Shape, dropout: f32, frozen: bool, last: Tokens) -> Network {
    let layer = |i: usize, tokens| {
        let name = |last: &str| format!("layers.{i}.{last}");
        Block::TransformerLayer(TransformerLayer {
            attention: Attention {
                norm: LayerNorm::new(name("0.norm"), shape.width),
                qkv: name("qkv"),
                output: name("out"),
                heads: shape.heads,
                head_width: shape.head_width,
            },
            hidden: Hidden {
                norm: LayerNorm::new(name("1.norm"), shape.width),
                expand: name("expand"),
                project: name("project"),
                width: shape.hidden,
            },
            dropout,
            tokens,
        })
    };
    let mut blocks = vec![
        Block::PatchEmbedding(PatchEmbedding {
            projection: "patch".into(),
            positions: "positions".into(),
            class_token: "class".into(),
            image: shape.image,
            patch: shape.patch,
            width: shape.width,
            dropout,
            frozen,
        }),
        layer(0, Tokens::All),
        layer(1, last),
    ];
    if last == Tokens::First {
        blocks.extend([
            Block::LayerNorm(LayerNorm::new("head.norm", shape.width)),
            Block::Linear(Linear {
                name: "fc".into(),
                input: shape.width,
                output: 4,
                bias: true,
                activation: Activation::Identity,
                dropout: 0.0,
                init: Init::FanIn {
                    fan_in: shape.width,
                },
                bias_init: Init::Constant(0.0),
            }),
        ]);
    }
    Network { blocks }
}

/// Numbers between −1 and 1 without a pattern.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn filled(network: &Network) -> Parameters {
    let mut parameters = Parameters::new(network.tensors());
    for i in 0..parameters.specs().len() {
        let spec = parameters.specs()[i].clone();
        let values = numbers(spec.len(), i as u64 + 1);
        let matrix = spec.shape.len() == 2;
        let scale = if matrix {
            (2.0 / spec.shape[1] as f32).sqrt()
        } else {
            0.5
        };
        let one = spec.name.ends_with("norm.weight");
        let target = parameters.floats_mut(i);
        for (t, v) in target.iter_mut().zip(values) {
            *t = v * scale + f32::from(one);
        }
    }
    parameters
}

type Named = BTreeMap<String, Vec<f64>>;

fn named(parameters: &Parameters) -> Named {
    let specs = parameters.specs().iter().enumerate();
    specs
        .map(|(i, spec)| match parameters.get(i) {
            Values::Float(values) => {
                let wide = values.iter().map(|&v| f64::from(v)).collect();
                (spec.name.clone(), wide)
            }
            Values::Integer(_) => unreachable!("a transformer has no counters"),
        })
        .collect()
}

fn linear(x: &[f64], weight: &[f64], bias: Option<&[f64]>, input: usize) -> Vec<f64> {
    let output = weight.len() / input;
    let mut out = Vec::new();
    for row in x.chunks(input) {
        for o in 0..output {
            let dot: f64 = row
                .iter()
                .zip(&weight[o * input..])
                .map(|(a, b)| a * b)
                .sum();
            out.push(dot + bias.map_or(0.0, |bias| bias[o]));
        }
    }
    out
}

fn norm(x: &[f64], p: &Named, name: &str) -> Vec<f64> {
    let (weight, bias) = (&p[&format!("{name}.weight")], &p[&format!("{name}.bias")]);
    let n = weight.len() as f64;
    let mut out = Vec::new();
    for row in x.chunks(weight.len()) {
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let deviation = (variance + 1e-5).sqrt();
        out.extend(
            row.iter()
                .zip(weight.iter().zip(bias))
                .map(|(v, (w, b))| (v - mean) / deviation * w + b),
        );
    }
    out
}

/// x · Φ(x), Φ by the series of the error function.
fn gelu(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / (2.0 * f64::from(n));
        sum += term / f64::from(2 * n + 1);
    }
    x * (0.5 + sum / std::f64::consts::TAU.sqrt())
}

/// Features, or tokens where there is no head.
fn slow(shape: Shape, p: &Named, images: &[f64], head: bool) -> Vec<f64> {
    let Shape {
        image,
        patch,
        width,
        heads,
        head_width,
        hidden,
    } = shape;
    let mut out = Vec::new();
    for pixels in images.chunks(image * image * 3) {
        let side = image / patch;
        let mut patches = Vec::new();
        for (row, column) in (0..side * side).map(|i| (i / side, i % side)) {
            for (y, x) in (0..patch * patch).map(|i| (i / patch, i % patch)) {
                let at = (row * patch + y) * image + column * patch + x;
                patches.extend_from_slice(&pixels[3 * at..][..3]);
            }
        }
        let depth = 3 * patch * patch;
        let mut x = p["class"].clone();
        x.extend(linear(
            &patches,
            &p["patch.weight"],
            Some(&p["patch.bias"]),
            depth,
        ));
        x.iter_mut().zip(&p["positions"]).for_each(|(x, p)| *x += p);
        let tokens = side * side + 1;
        for layer in 0..2 {
            let name = |last: &str| format!("layers.{layer}.{last}");
            let inner = heads * head_width;
            let qkv = linear(
                &norm(&x, p, &name("0.norm")),
                &p[&name("qkv.weight")],
                None,
                width,
            );
            let mut attended = vec![0.0; tokens * inner];
            for head in 0..heads {
                let part = |token: usize, part: usize| {
                    &qkv[token * 3 * inner + part * inner + head * head_width..][..head_width]
                };
                for query in 0..tokens {
                    let weights: Vec<f64> = (0..tokens)
                        .map(|key| {
                            let pairs = part(query, 0).iter().zip(part(key, 1));
                            let dot: f64 = pairs.map(|(a, b)| a * b).sum();
                            (dot / (head_width as f64).sqrt()).exp()
                        })
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    for (key, weight) in weights.iter().enumerate() {
                        for (i, v) in part(key, 2).iter().enumerate() {
                            attended[query * inner + head * head_width + i] += weight / sum * v;
                        }
                    }
                }
            }
            let bias = Some(&*p[&name("out.bias")]);
            let z = linear(&attended, &p[&name("out.weight")], bias, inner);
            x.iter_mut().zip(z).for_each(|(x, z)| *x += z);
            let bias = Some(&*p[&name("expand.bias")]);
            let n = norm(&x, p, &name("1.norm"));
            let mut h = linear(&n, &p[&name("expand.weight")], bias, width);
            h.iter_mut().for_each(|h| *h = gelu(*h));
            let bias = Some(&*p[&name("project.bias")]);
            let z = linear(&h, &p[&name("project.weight")], bias, hidden);
            x.iter_mut().zip(z).for_each(|(x, z)| *x += z);
        }
        if head {
            let n = norm(&x[..width], p, "head.norm");
            out.extend(linear(&n, &p["fc.weight"], Some(&p["fc.bias"]), width));
        } else {
            out.extend(x);
        }
    }
    out
}

fn images(shape: Shape, batch: usize) -> Vec<f32> {
    numbers(batch * shape.image * shape.image * 3, 99)
}

fn view(shape: Shape, values: &[f32]) -> Images<'_> {
    Images {
        batch: values.len() / (3 * shape.image * shape.image),
        height: shape.image,
        width: shape.image,
        values,
    }
}

fn distance(own: &[f32], truth: &[f64]) -> f64 {
    assert_eq!(own.len(), truth.len());
    let (mut error, mut size) = (0.0, 0.0);
    for (a, b) in own.iter().zip(truth) {
        error += (f64::from(*a) - b).powi(2);
        size += b * b;
    }
    (error / size.max(1e-30)).sqrt()
}

/// Gradients by differences of the slow pass, for every element of a small network.
#[test]
fn gradients_are_differences() {
    let _turn = turn();
    let shape = SMALL;
    let batch = 3;
    let values = images(shape, batch);
    let cotangent = numbers(batch * 4, 5);
    for frozen in [false, true] {
        let network = network(shape, 0.0, frozen, Tokens::First);
        let parameters = filled(&network);
        let exact: Vec<f64> = values.iter().map(|&v| v.into()).collect();
        let loss = |p: &Named, images: &[f64]| -> f64 {
            let out = slow(shape, p, images, true);
            out.iter()
                .zip(&cotangent)
                .map(|(y, c)| y * f64::from(*c))
                .sum()
        };
        let mut truth = Named::new();
        let mut p = named(&parameters);
        for spec in parameters.specs() {
            let mut gradient = vec![0.0; spec.len()];
            for (i, g) in gradient.iter_mut().enumerate() {
                let mut moved = |by: f64| {
                    p.get_mut(&spec.name).unwrap()[i] += by;
                    let value = loss(&p, &exact);
                    p.get_mut(&spec.name).unwrap()[i] -= by;
                    value
                };
                *g = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            }
            truth.insert(spec.name.clone(), gradient);
        }
        let mut pixels = exact.clone();
        let of_images: Vec<f64> = (0..pixels.len())
            .map(|i| {
                let mut moved = |by: f64| {
                    pixels[i] += by;
                    let value = loss(&p, &pixels);
                    pixels[i] -= by;
                    value
                };
                (moved(1e-5) - moved(-1e-5)) / 2e-5
            })
            .collect();
        for level in Level::available() {
            level.make_current();
            let mut parameters = parameters.clone();
            let mut executor = Executor::new(network.clone());
            let mut out = vec![0.0; batch * 4];
            // This network has neither dropout nor batch statistics: the two modes are one.
            let mode = if frozen {
                Mode::Fixed
            } else {
                Mode::Train { draw: 1 }
            };
            executor.forward(&mut parameters, view(shape, &values), mode, &mut out);
            let mut own = vec![0.0; values.len()];
            let images = view(shape, &values);
            executor.backward(&mut parameters, images, &cotangent, Some(&mut own));
            assert!(distance(&own, &of_images) < 2e-5, "{level}: images");
            for spec in parameters.specs() {
                let own = parameters.gradient(&spec.name);
                if spec.role == Role::Frozen {
                    assert!(frozen && own.iter().all(|g| *g == 0.0), "{}", spec.name);
                } else {
                    let error = distance(own, &truth[&spec.name]);
                    assert!(error < 2e-5, "{level}: {} {error:e}", spec.name);
                }
            }
        }
    }
}

#[test]
fn every_mode_and_level_gives_the_slow_features() {
    let _turn = turn();
    for (shape, batch) in [(SMALL, 1), (WIDE, 2), (WIDE, 9)] {
        let values = images(shape, batch);
        let exact: Vec<f64> = values.iter().map(|&v| v.into()).collect();
        let network = network(shape, 0.0, true, Tokens::First);
        let parameters = filled(&network);
        let truth = slow(shape, &named(&parameters), &exact, true);
        for level in Level::available() {
            level.make_current();
            for mode in [
                Mode::Infer,
                Mode::Momentum { draw: 1 },
                Mode::Train { draw: 1 },
                Mode::Fixed,
            ] {
                let mut parameters = parameters.clone();
                let mut out = vec![0.0; batch * 4];
                let mut executor = Executor::new(network.clone());
                executor.forward(&mut parameters, view(shape, &values), mode, &mut out);
                let error = distance(&out, &truth);
                assert!(error < 1e-5, "{level} {mode:?} {error:e}");
            }
        }
    }
}

/// Differences of the executor itself along one direction for each tensor, with live dropout.
#[test]
fn dropout_is_the_same_in_backward() {
    let _turn = turn();
    let shape = WIDE;
    let batch = 4;
    let values = images(shape, batch);
    let network = network(shape, 0.3, false, Tokens::First);
    let mut parameters = filled(&network);
    let mut executor = Executor::new(network);
    let cotangent = numbers(batch * 4, 5);
    let mut out = vec![0.0; batch * 4];
    let train = Mode::Train { draw: 77 };
    executor.forward(&mut parameters, view(shape, &values), train, &mut out);
    let images = view(shape, &values);
    executor.backward(&mut parameters, images, &cotangent, None);
    let mut other = vec![0.0; batch * 4];
    let momentum = Mode::Momentum { draw: 77 };
    executor.forward(&mut parameters, images, momentum, &mut other);
    assert_eq!(out, other);
    executor.forward(
        &mut parameters,
        images,
        Mode::Momentum { draw: 78 },
        &mut other,
    );
    assert_ne!(out, other);

    for spec in parameters.specs().to_vec() {
        let place = parameters.weight_place(&spec.name);
        let direction = parameters.gradients()[place.clone()].to_vec();
        let square: f64 = direction.iter().map(|d| f64::from(*d).powi(2)).sum();
        let step = 0.02 / square.sqrt();
        let mut loss = |by: f64| -> f64 {
            let mut moved = parameters.clone();
            for (v, d) in moved.values_mut()[place.clone()].iter_mut().zip(&direction) {
                *v += (by * f64::from(*d)) as f32;
            }
            let mut out = vec![0.0; batch * 4];
            executor.forward(&mut moved, images, Mode::Momentum { draw: 77 }, &mut out);
            out.iter()
                .zip(&cotangent)
                .map(|(y, c)| f64::from(*y) * f64::from(*c))
                .sum()
        };
        let slope = (loss(step) - loss(-step)) / (2.0 * step);
        assert!(
            (slope / square - 1.0).abs() < 1e-2,
            "{}: {slope} {square}",
            spec.name
        );
    }
}

#[test]
fn the_same_bytes_for_any_number_of_threads() {
    let _turn = turn();
    let shape = WIDE;
    let values = images(shape, 11);
    let network = network(shape, 0.1, false, Tokens::First);
    let cotangent = numbers(44, 5);
    let mut first: Option<(Vec<f32>, Vec<f32>)> = None;
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let result = pool.build().unwrap().install(|| {
            let mut parameters = filled(&network);
            let mut executor = Executor::new(network.clone());
            let mut out = vec![0.0; 44];
            let train = Mode::Train { draw: 3 };
            executor.forward(&mut parameters, view(shape, &values), train, &mut out);
            let images = view(shape, &values);
            executor.backward(&mut parameters, images, &cotangent, None);
            (out, parameters.gradients().to_vec())
        });
        assert!(first.get_or_insert(result.clone()) == &result, "{threads}");
    }
}

#[test]
fn what_is_not_a_number_reaches_the_features() {
    let shape = WIDE;
    let mut values = images(shape, 2);
    values[400] = f32::NAN;
    let network = network(shape, 0.0, true, Tokens::First);
    let mut out = vec![0.0; 8];
    let images = view(shape, &values);
    Executor::new(network.clone()).forward(&mut filled(&network), images, Mode::Infer, &mut out);
    assert!(out[..4].iter().all(|v| v.is_nan()) && out[4..].iter().all(|v| v.is_finite()));
}

#[test]
fn impossible_networks_say_why() {
    let good = network(SMALL, 0.0, true, Tokens::First);
    assert!(good.outputs(6, 6).is_ok());
    let reason = good.outputs(8, 6).unwrap_err().to_string();
    assert_eq!(
        reason,
        "block 0 of the network: images must have 6 × 6 pixels, as `positions` has 10 places, but they have 8 × 6"
    );
    let open = network(SMALL, 0.0, true, Tokens::All);
    let reason = open.outputs(6, 6).unwrap_err().to_string();
    assert!(reason.contains("must end in rows"), "{reason}");
    let mut other = good.clone();
    other.blocks.remove(0);
    let reason = other.outputs(6, 6).unwrap_err().to_string();
    assert!(
        reason.contains("put a patch embedding before it"),
        "{reason}"
    );
}
