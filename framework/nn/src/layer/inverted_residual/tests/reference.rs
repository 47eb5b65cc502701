//! The block in plain loops and double precision, forward and backward.

use std::collections::BTreeMap;

use super::*;
use crate::network::Norm as NormDescription;

/// What the reference finds.
pub(super) struct Result {
    pub y: Vec<f64>,
    pub dx: Vec<f64>,
    pub gradients: BTreeMap<String, Vec<f64>>,
    pub statistics: BTreeMap<String, Vec<f64>>,
}

fn act(activation: Activation, z: f64) -> f64 {
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
        Activation::Relu => f64::from(z > 0.0),
        Activation::Relu6 => f64::from(z > 0.0 && z < 6.0),
        Activation::HardSwish if z < -3.0 => 0.0,
        Activation::HardSwish if z > 3.0 => 1.0,
        Activation::HardSwish => z / 3.0 + 0.5,
        Activation::Swish => {
            let s = 1.0 / (1.0 + (-z).exp());
            s + z * s * (1.0 - s)
        }
    }
}

fn gate(function: Function, z: f64) -> (f64, f64) {
    match function {
        Function::HardSigmoid => (
            (z / 6.0 + 0.5).clamp(0.0, 1.0),
            f64::from(z.abs() < 3.0) / 6.0,
        ),
        Function::Sigmoid => {
            let s = 1.0 / (1.0 + (-z).exp());
            (s, s * (1.0 - s))
        }
    }
}

/// Parameters by name, in double precision.
type Tensors = BTreeMap<String, Vec<f64>>;

fn tensors(parameters: &Parameters) -> Tensors {
    (0..parameters.specs().len())
        .filter_map(|i| match parameters.get(i) {
            Values::Float(values) => {
                let values = values.iter().map(|&v| f64::from(v)).collect();
                Some((parameters.specs()[i].name.clone(), values))
            }
            Values::Integer(_) => None,
        })
        .collect()
}

/// A batch norm: its output, and what backward needs.
struct Normed {
    z: Vec<f64>,
    xhat: Vec<f64>,
    inverse: Vec<f64>,
}

fn normalise(norm: &NormDescription, y: &[f64], tensors: &mut Tensors, infer: bool) -> Normed {
    let get = |last: &str| format!("{}.{last}", norm.name);
    let gamma = tensors[&get("weight")].clone();
    let beta = tensors[&get("bias")].clone();
    let n = gamma.len();
    let count = (y.len() / n) as f64;
    let (mut inverse, mut mean) = (vec![0.0; n], vec![0.0; n]);
    for c in 0..n {
        let channel = || y.iter().skip(c).step_by(n);
        let batch_mean = channel().sum::<f64>() / count;
        let variance = channel().map(|v| (v - batch_mean).powi(2)).sum::<f64>() / count;
        let running_mean = &mut tensors.get_mut(&get("running_mean")).unwrap()[c];
        if infer {
            mean[c] = *running_mean;
            inverse[c] = 1.0 / (tensors[&get("running_var")][c] + f64::from(norm.epsilon)).sqrt();
            continue;
        }
        let share = f64::from(norm.momentum);
        *running_mean += share * (batch_mean - *running_mean);
        let running = &mut tensors.get_mut(&get("running_var")).unwrap()[c];
        *running += share * (variance * count / (count - 1.0) - *running);
        mean[c] = batch_mean;
        inverse[c] = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
    }
    let xhat: Vec<f64> = y
        .iter()
        .enumerate()
        .map(|(i, v)| (v - mean[i % n]) * inverse[i % n])
        .collect();
    let z = xhat
        .iter()
        .enumerate()
        .map(|(i, v)| v * gamma[i % n] + beta[i % n])
        .collect();
    Normed { z, xhat, inverse }
}

fn normalise_back(
    norm: &NormDescription,
    normed: &Normed,
    dz: &[f64],
    tensors: &Tensors,
    gradients: &mut Tensors,
) -> Vec<f64> {
    let gamma = &tensors[&format!("{}.weight", norm.name)];
    let n = gamma.len();
    let count = (dz.len() / n) as f64;
    let (mut plain, mut product) = (vec![0.0; n], vec![0.0; n]);
    for (i, d) in dz.iter().enumerate() {
        plain[i % n] += d;
        product[i % n] += d * normed.xhat[i];
    }
    let dy = (0..dz.len())
        .map(|i| {
            let c = i % n;
            let inner = dz[i] - plain[c] / count - normed.xhat[i] * product[c] / count;
            gamma[c] * normed.inverse[c] * inner
        })
        .collect();
    gradients.insert(format!("{}.weight", norm.name), product);
    gradients.insert(format!("{}.bias", norm.name), plain);
    dy
}

/// Rows of A times the transposed weight `[n, k]`.
fn dense(a: &[f64], weight: &[f64], k: usize) -> Vec<f64> {
    a.chunks_exact(k)
        .flat_map(|row| {
            weight
                .chunks_exact(k)
                .map(|w| row.iter().zip(w).map(|(x, w)| x * w).sum())
        })
        .collect()
}

/// Gradients of A and of the weight.
fn dense_back(a: &[f64], weight: &[f64], k: usize, dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = weight.len() / k;
    let (mut da, mut dw) = (vec![0.0; a.len()], vec![0.0; weight.len()]);
    for (r, dy) in dy.chunks_exact(n).enumerate() {
        for (j, d) in dy.iter().enumerate() {
            for i in 0..k {
                da[r * k + i] += d * weight[j * k + i];
                dw[j * k + i] += d * a[r * k + i];
            }
        }
    }
    (da, dw)
}

/// Calls `f(input element, output element, tap)` for every product of the depthwise convolution but channels.
fn taps(case: &Case, mut f: impl FnMut(usize, usize, usize)) {
    let (h, w) = (case.input.height, case.input.width);
    let (oh, ow) = output_size(case);
    let (k, s, p) = (case.kernel, case.stride, case.padding);
    for i in 0..case.batch {
        for (r, c) in (0..oh * ow).map(|o| (o / ow, o % ow)) {
            for (ty, tx) in (0..k * k).map(|t| (t / k, t % k)) {
                let (y, x) = (r * s + ty, c * s + tx);
                if y >= p.top && y - p.top < h && x >= p.left && x - p.left < w {
                    let from = (i * h + y - p.top) * w + x - p.left;
                    f(from, (i * oh + r) * ow + c, ty * k + tx);
                }
            }
        }
    }
}

fn output_size(case: &Case) -> (usize, usize) {
    let p = case.padding;
    (
        (case.input.height + p.top + p.bottom - case.kernel) / case.stride + 1,
        (case.input.width + p.left + p.right - case.kernel) / case.stride + 1,
    )
}

fn factors(case: &Case, mode: Mode) -> Vec<f64> {
    let Some(draw) = mode.draw() else {
        return vec![1.0; case.batch];
    };
    let p = f64::from(case.drop_connect);
    (0..case.batch as u64)
        .map(|i| {
            let drops = case.shortcut && unit(Key::of_block(draw, 3).at(i)) < p;
            let keep = if case.shortcut { 1.0 - p } else { 1.0 };
            if drops { 0.0 } else { 1.0 / keep }
        })
        .collect()
}

pub(super) fn run(case: &Case, mode: Mode) -> Result {
    let x: Vec<f64> = case.input().iter().map(|&v| f64::from(v)).collect();
    run_with(case, mode, &x, tensors(&case.parameters()))
}

fn run_with(case: &Case, mode: Mode, x: &[f64], mut tensors: Tensors) -> Result {
    let infer = mode == Mode::Infer;
    let d = case.description();
    let (k, n, o) = (case.input.channels, case.hidden, case.output);
    let (oh, ow) = output_size(case);
    let image = oh * ow;
    let activation = case.activation;

    // Forward.
    let expanded = d.expand.as_ref().map(|expand| {
        let y1 = dense(x, &tensors["expand.weight"], k);
        normalise(&expand.norm, &y1, &mut tensors, infer)
    });
    let a1: Vec<f64> = match &expanded {
        Some(normed) => normed.z.iter().map(|&z| act(activation, z)).collect(),
        None => x.to_vec(),
    };
    let taps_count = case.kernel * case.kernel;
    let weight = tensors["depthwise.weight"].clone();
    let mut y2 = vec![0.0; case.batch * image * n];
    taps(case, |from, to, tap| {
        for c in 0..n {
            y2[to * n + c] += a1[from * n + c] * weight[c * taps_count + tap];
        }
    });
    let second = normalise(&d.depthwise.norm, &y2, &mut tensors, infer);
    let z2 = &second.z;
    let mean_of = |v: &[f64]| -> Vec<f64> {
        let mut means = vec![0.0; case.batch * n];
        for (e, v) in v.iter().enumerate() {
            means[e / n / image * n + e % n] += v / image as f64;
        }
        means
    };
    let activated: Vec<f64> = z2.iter().map(|&z| act(activation, z)).collect();
    let (mut means, mut inner, mut pre) = (Vec::new(), Vec::new(), Vec::new());
    let mut factor = vec![1.0; case.batch * n];
    if let Some(g) = &d.squeeze_excite {
        let width = g.width;
        means = mean_of(if g.after_activation { &activated } else { z2 });
        inner = dense(&means, &tensors["reduce.weight"], n);
        for (e, v) in inner.iter_mut().enumerate() {
            *v += tensors["reduce.bias"][e % width];
        }
        let hidden: Vec<f64> = inner.iter().map(|&v| act(g.activation, v)).collect();
        pre = dense(&hidden, &tensors["excite.weight"], width);
        for (e, v) in pre.iter_mut().enumerate() {
            *v += tensors["excite.bias"][e % n];
        }
        factor = pre.iter().map(|&v| gate(g.gate, v).0).collect();
    }
    let after = case.gate.is_some_and(|g| g.1);
    let at = |e: usize| e / n / image * n + e % n;
    let a2: Vec<f64> = (0..z2.len())
        .map(|e| {
            if after {
                factor[at(e)] * activated[e]
            } else {
                act(activation, factor[at(e)] * z2[e])
            }
        })
        .collect();
    let y3 = dense(&a2, &tensors["project.weight"], n);
    let third = normalise(&d.project.norm, &y3, &mut tensors, infer);
    let keep = factors(case, mode);
    let y: Vec<f64> = (0..y3.len())
        .map(|e| third.z[e] * keep[e / o / image] + if case.shortcut { x[e] } else { 0.0 })
        .collect();

    // Backward.
    let mut gradients = Tensors::new();
    let g: Vec<f64> = numbers(y.len(), 2).iter().map(|&v| f64::from(v)).collect();
    let dz3: Vec<f64> = (0..g.len()).map(|e| g[e] * keep[e / o / image]).collect();
    let dy3 = normalise_back(&d.project.norm, &third, &dz3, &tensors, &mut gradients);
    let (da2, dw) = dense_back(&a2, &tensors["project.weight"], n, &dy3);
    gradients.insert("project.weight".into(), dw);
    let mut dfactor = vec![0.0; case.batch * n];
    let mut dactivated = vec![0.0; z2.len()];
    let mut dz2 = vec![0.0; z2.len()];
    for e in 0..z2.len() {
        if after {
            dfactor[at(e)] += da2[e] * activated[e];
            dactivated[e] = da2[e] * factor[at(e)];
        } else {
            let du = da2[e] * slope(activation, factor[at(e)] * z2[e]);
            dfactor[at(e)] += du * z2[e];
            dz2[e] = du * factor[at(e)];
        }
    }
    if let Some(g) = &d.squeeze_excite {
        let dpre: Vec<f64> = (0..pre.len())
            .map(|e| dfactor[e] * gate(g.gate, pre[e]).1)
            .collect();
        let hidden: Vec<f64> = inner.iter().map(|&v| act(g.activation, v)).collect();
        let (dhidden, dw) = dense_back(&hidden, &tensors["excite.weight"], g.width, &dpre);
        let sums = |v: &[f64], n: usize| -> Vec<f64> {
            (0..n).map(|c| v.iter().skip(c).step_by(n).sum()).collect()
        };
        gradients.insert("excite.weight".into(), dw);
        gradients.insert("excite.bias".into(), sums(&dpre, n));
        let dinner: Vec<f64> = (0..inner.len())
            .map(|e| dhidden[e] * slope(g.activation, inner[e]))
            .collect();
        let (dmeans, dw) = dense_back(&means, &tensors["reduce.weight"], n, &dinner);
        gradients.insert("reduce.weight".into(), dw);
        gradients.insert("reduce.bias".into(), sums(&dinner, g.width));
        for e in 0..z2.len() {
            let share = dmeans[at(e)] / image as f64;
            if after {
                dactivated[e] += share;
            } else {
                dz2[e] += share;
            }
        }
    }
    if after {
        for e in 0..z2.len() {
            dz2[e] = dactivated[e] * slope(activation, z2[e]);
        }
    }
    let dy2 = normalise_back(&d.depthwise.norm, &second, &dz2, &tensors, &mut gradients);
    let (mut da1, mut dw) = (vec![0.0; a1.len()], vec![0.0; weight.len()]);
    taps(case, |from, to, tap| {
        for c in 0..n {
            da1[from * n + c] += dy2[to * n + c] * weight[c * taps_count + tap];
            dw[c * taps_count + tap] += dy2[to * n + c] * a1[from * n + c];
        }
    });
    gradients.insert("depthwise.weight".into(), dw);
    let mut dx = match (&d.expand, &expanded) {
        (Some(expand), Some(first)) => {
            let dz1: Vec<f64> = (0..da1.len())
                .map(|e| da1[e] * slope(activation, first.z[e]))
                .collect();
            let dy1 = normalise_back(&expand.norm, first, &dz1, &tensors, &mut gradients);
            let (dx, dw) = dense_back(x, &tensors["expand.weight"], k, &dy1);
            gradients.insert("expand.weight".into(), dw);
            dx
        }
        _ => da1,
    };
    if case.shortcut {
        for (dx, g) in dx.iter_mut().zip(&g) {
            *dx += g;
        }
    }
    Result {
        y,
        dx,
        gradients,
        statistics: tensors,
    }
}

/// Checks the reference's gradients by moving one number at a time.
pub(super) fn check_differences(case: &Case) {
    let mode = Mode::Train { draw: 77 };
    let x: Vec<f64> = case.input().iter().map(|&v| f64::from(v)).collect();
    let start = tensors(&case.parameters());
    let found = run_with(case, mode, &x, start.clone());
    let loss = |x: &[f64], tensors: &Tensors| -> f64 {
        let y = run_with(case, mode, x, tensors.clone()).y;
        let g = numbers(y.len(), 2);
        y.iter().zip(g).map(|(y, g)| y * f64::from(g)).sum()
    };
    let h = 1e-5;
    let compare = |difference: f64, gradient: f64, what: &str| {
        let scale = difference.abs().max(gradient.abs()).max(1e-2);
        assert!(
            (difference - gradient).abs() < 1e-5 * scale,
            "{what}: {difference} {gradient}"
        );
    };
    for e in (0..x.len()).step_by(7) {
        let moved = |by: f64| {
            let mut x = x.clone();
            x[e] += by;
            loss(&x, &start)
        };
        compare((moved(h) - moved(-h)) / (2.0 * h), found.dx[e], "dx");
    }
    for (name, gradient) in &found.gradients {
        for e in (0..gradient.len()).step_by(3) {
            let moved = |by: f64| {
                let mut tensors = start.clone();
                tensors.get_mut(name).unwrap()[e] += by;
                loss(&x, &tensors)
            };
            compare((moved(h) - moved(-h)) / (2.0 * h), gradient[e], name);
        }
    }
}
