//! The passes of backward: gradients through batch norm, activation and gate, and the sums that these need.

use std::ops::Range;

use super::{
    super::{
        activation::{self, each},
        simd::{Kernel, Simd},
    },
    Columns, load, store, sweep, sweep_kernel, tile,
};
use crate::network::Activation;

/// to = p · gradient + q · raw + r, the gradient through a batch norm whose sums are known; with an activation, + t ·
/// act′(scale · raw + shift).
#[derive(Clone, Copy, Debug)]
pub struct NormGradient {
    /// Rows.
    pub rows: usize,
    /// Channels of `gradient` and `raw`.
    pub channels: usize,
    /// Channels written: those behind `channels` become zero.
    pub end: usize,
    /// Gradient of the normalised tensor, up to a factor in p.
    pub gradient: *const f32,
    /// The tensor before the norm.
    pub raw: *const f32,
    /// Distance between rows of both.
    pub from_row: usize,
    /// Destination.
    pub to: *mut f32,
    /// Distance between its rows.
    pub to_row: usize,
    /// p, q and r per channel.
    pub coefficients: [*const f32; 3],
    /// t per channel with scale, shift and the activation.
    pub slope: Option<Slope>,
}

/// The term of a gate that averages after the activation.
#[derive(Clone, Copy, Debug)]
pub struct Slope {
    /// Factor per channel.
    pub factor: *const f32,
    /// Scale of the norm per channel.
    pub scale: *const f32,
    /// Shift of the norm per channel.
    pub shift: *const f32,
    /// The activation after the norm.
    pub activation: Activation,
}

impl Columns for NormGradient {
    const GROUP: usize = 2;

    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        s: S,
        v: usize,
        rows: Range<usize>,
    ) {
        let read = s.mask(self.channels.saturating_sub(v));
        let write = s.mask(self.end - v);
        let ahead = tile(self.channels) * self.from_row;
        // SAFETY: the caller's promise.
        unsafe {
            let [mut p, mut q, mut c] = [[s.zero(); N]; 3];
            let [mut t, mut scale, mut shift] = [[s.zero(); N]; 3];
            each!(N, j, {
                let o = v + j * S::LANES;
                p[j] = s.load(self.coefficients[0].add(o));
                q[j] = s.load(self.coefficients[1].add(o));
                c[j] = s.load(self.coefficients[2].add(o));
                if let Some(slope) = self.slope {
                    t[j] = s.load(slope.factor.add(o));
                    scale[j] = s.load(slope.scale.add(o));
                    shift[j] = s.load(slope.shift.add(o));
                }
            });
            for r in rows.clone() {
                let o = r * self.from_row + v;
                let to = self.to.add(r * self.to_row + v);
                let [mut raw, mut out] = [[s.zero(); N]; 2];
                each!(N, j, {
                    s.prefetch(self.gradient.wrapping_add(o + ahead + j * S::LANES));
                    s.prefetch(self.raw.wrapping_add(o + ahead + j * S::LANES));
                    let g = load::<S, MASKED>(s, self.gradient.add(o + j * S::LANES), read);
                    raw[j] = load::<S, MASKED>(s, self.raw.add(o + j * S::LANES), read);
                    out[j] = s.fmadd(p[j], g, s.fmadd(q[j], raw[j], c[j]));
                });
                if let Some(slope) = self.slope {
                    let mut d = t;
                    each!(N, j, { raw[j] = s.fmadd(scale[j], raw[j], shift[j]) });
                    activation::gradient(s, slope.activation, &mut raw, &mut d);
                    each!(N, j, { out[j] = s.add(out[j], d[j]) });
                }
                each!(N, j, {
                    store::<S, MASKED>(s, to.add(j * S::LANES), out[j], write);
                });
            }
        }
    }
}
sweep_kernel!(NormGradient);

/// The way back from the project convolution to the depthwise norm: replaces da by the activation that the project
/// convolution saw, writes du = da · act′, and adds the sums that gate and norm need.
#[derive(Clone, Copy, Debug)]
pub struct GateGradient {
    /// Rows.
    pub rows: usize,
    /// Channels, also the distance between rows of all tensors.
    pub channels: usize,
    /// The same number again.
    pub end: usize,
    /// In: gradient of the activation; out: the activation.
    pub gradient: *mut f32,
    /// The raw depthwise output.
    pub raw: *const f32,
    /// Out: du.
    pub passed: *mut f32,
    /// 1 / deviation per channel.
    pub inverse: *const f32,
    /// −mean / deviation per channel.
    pub negative: *const f32,
    /// γ per channel.
    pub gamma: *const f32,
    /// β per channel.
    pub beta: *const f32,
    /// Gate factor per channel, or null.
    pub gate: *const f32,
    /// The gate multiplies the activation instead of its input.
    pub gate_after: bool,
    /// The activation.
    pub activation: Activation,
    /// Where Σ du and Σ du·xhat are added; with the gate after the activation also Σ da·act, Σ act′ and Σ act′·xhat.
    pub sums: [*mut f32; 5],
}

impl Columns for GateGradient {
    const GROUP: usize = 2;

    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        s: S,
        v: usize,
        rows: Range<usize>,
    ) {
        if self.gate_after && !self.gate.is_null() {
            // SAFETY: the caller's promise.
            unsafe { self.gate_after::<S, N, MASKED>(s, v, rows) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.gate_before::<S, N, MASKED>(s, v, rows) }
        }
    }
}
sweep_kernel!(GateGradient);

impl GateGradient {
    #[inline(always)]
    unsafe fn gate_before<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        s: S,
        v: usize,
        rows: Range<usize>,
    ) {
        let mask = s.mask(self.channels.saturating_sub(v));
        let ahead = tile(self.channels) * self.channels;
        // SAFETY: the caller's promise.
        unsafe {
            let [mut inverse, mut negative, mut gamma, mut beta] = [[s.zero(); N]; 4];
            let [mut plain, mut product] = [[s.zero(); N]; 2];
            each!(N, j, {
                let o = v + j * S::LANES;
                inverse[j] = s.load(self.inverse.add(o));
                negative[j] = s.load(self.negative.add(o));
                gamma[j] = s.load(self.gamma.add(o));
                beta[j] = s.load(self.beta.add(o));
                if !self.gate.is_null() {
                    let gate = s.load(self.gate.add(o));
                    gamma[j] = s.mul(gamma[j], gate);
                    beta[j] = s.mul(beta[j], gate);
                }
                plain[j] = s.load(self.sums[0].add(o));
                product[j] = s.load(self.sums[1].add(o));
            });
            for r in rows.clone() {
                let row = r * self.channels + v;
                let [mut x, mut z, mut d] = [[s.zero(); N]; 3];
                each!(N, j, {
                    let o = row + j * S::LANES;
                    s.prefetch(self.raw.wrapping_add(o + ahead));
                    let y = load::<S, MASKED>(s, self.raw.add(o), mask);
                    x[j] = s.fmadd(inverse[j], y, negative[j]);
                    z[j] = s.fmadd(gamma[j], x[j], beta[j]);
                    d[j] = load::<S, MASKED>(s, self.gradient.add(o), mask);
                });
                activation::gradient(s, self.activation, &mut z, &mut d);
                each!(N, j, {
                    let o = row + j * S::LANES;
                    store::<S, MASKED>(s, self.gradient.add(o), z[j], mask);
                    store::<S, MASKED>(s, self.passed.add(o), d[j], mask);
                    plain[j] = s.add(plain[j], d[j]);
                    product[j] = s.fmadd(d[j], x[j], product[j]);
                });
            }
            each!(N, j, {
                let o = v + j * S::LANES;
                s.store(self.sums[0].add(o), plain[j]);
                s.store(self.sums[1].add(o), product[j]);
            });
        }
    }

    #[inline(always)]
    unsafe fn gate_after<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        s: S,
        v: usize,
        rows: Range<usize>,
    ) {
        let mask = s.mask(self.channels.saturating_sub(v));
        let ahead = tile(self.channels) * self.channels;
        // SAFETY: the caller's promise.
        unsafe {
            each!(N, j, {
                let at = v + j * S::LANES;
                let (inverse, negative) =
                    (s.load(self.inverse.add(at)), s.load(self.negative.add(at)));
                let (gamma, beta) = (s.load(self.gamma.add(at)), s.load(self.beta.add(at)));
                let gate = s.load(self.gate.add(at));
                let mut sums = self.sums.map(|p| s.load(p.add(at)));
                for r in rows.clone() {
                    let o = r * self.channels + at;
                    s.prefetch(self.raw.wrapping_add(o + ahead));
                    let y = load::<S, MASKED>(s, self.raw.add(o), mask);
                    let x = s.fmadd(inverse, y, negative);
                    let (mut z, mut slope) = ([s.fmadd(gamma, x, beta)], [s.splat(1.0)]);
                    activation::gradient(s, self.activation, &mut z, &mut slope);
                    let da = load::<S, MASKED>(s, self.gradient.add(o), mask);
                    let du = s.mul(da, slope[0]);
                    store::<S, MASKED>(s, self.gradient.add(o), s.mul(gate, z[0]), mask);
                    store::<S, MASKED>(s, self.passed.add(o), du, mask);
                    sums[0] = s.add(sums[0], du);
                    sums[1] = s.fmadd(du, x, sums[1]);
                    sums[2] = s.fmadd(da, z[0], sums[2]);
                    sums[3] = s.add(sums[3], slope[0]);
                    sums[4] = s.fmadd(slope[0], x, sums[4]);
                }
                for (p, sum) in self.sums.iter().zip(sums) {
                    s.store(p.add(at), sum);
                }
            });
        }
    }
}

/// The sums of a batch norm's backward pass: Σ dz and Σ dz·xhat, where dz is the gradient times a factor and the slope
/// of the activation after the norm.
#[derive(Clone, Copy, Debug)]
pub struct NormSums {
    /// Rows.
    pub rows: usize,
    /// Channels, also the distance between rows.
    pub channels: usize,
    /// The same number again.
    pub end: usize,
    /// Gradient of the activated tensor.
    pub gradient: *const f32,
    /// The tensor before the norm.
    pub raw: *const f32,
    /// 1 / deviation per channel.
    pub inverse: *const f32,
    /// −mean / deviation per channel.
    pub negative: *const f32,
    /// γ and β per channel; not read if there is no activation.
    pub gamma: [*const f32; 2],
    /// The activation after the norm.
    pub activation: Activation,
    /// Factor of the gradient.
    pub factor: f32,
    /// Where Σ dz is added.
    pub sum: *mut f32,
    /// Where Σ dz·xhat is added.
    pub product: *mut f32,
}

impl Columns for NormSums {
    const GROUP: usize = 2;

    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        s: S,
        v: usize,
        rows: Range<usize>,
    ) {
        let mask = s.mask(self.channels.saturating_sub(v));
        let active = self.activation != Activation::Identity;
        let ahead = tile(self.channels) * self.channels;
        // SAFETY: the caller's promise.
        unsafe {
            let [mut inverse, mut negative, mut gamma, mut beta] = [[s.zero(); N]; 4];
            let [mut sum, mut product] = [[s.zero(); N]; 2];
            each!(N, j, {
                let o = v + j * S::LANES;
                inverse[j] = s.load(self.inverse.add(o));
                negative[j] = s.load(self.negative.add(o));
                if active {
                    gamma[j] = s.load(self.gamma[0].add(o));
                    beta[j] = s.load(self.gamma[1].add(o));
                }
            });
            for r in rows.clone() {
                let row = r * self.channels + v;
                let [mut x, mut z, mut d] = [[s.zero(); N]; 3];
                each!(N, j, {
                    let o = row + j * S::LANES;
                    s.prefetch(self.gradient.wrapping_add(o + ahead));
                    s.prefetch(self.raw.wrapping_add(o + ahead));
                    d[j] = load::<S, MASKED>(s, self.gradient.add(o), mask);
                    let y = load::<S, MASKED>(s, self.raw.add(o), mask);
                    x[j] = s.fmadd(inverse[j], y, negative[j]);
                    z[j] = s.fmadd(gamma[j], x[j], beta[j]);
                });
                activation::gradient(s, self.activation, &mut z, &mut d);
                each!(N, j, {
                    sum[j] = s.add(sum[j], d[j]);
                    product[j] = s.fmadd(d[j], x[j], product[j]);
                });
            }
            each!(N, j, {
                let (o, factor) = (v + j * S::LANES, s.splat(self.factor));
                let (to, v) = (self.sum.add(o), s.mul(factor, sum[j]));
                s.store(to, s.add(s.load(to), v));
                let (to, v) = (self.product.add(o), s.mul(factor, product[j]));
                s.store(to, s.add(s.load(to), v));
            });
        }
    }
}
sweep_kernel!(NormSums);

/// to = p · gradient · act′(scale · raw + shift) + q · raw + r: the gradient through activation and batch norm.
#[derive(Clone, Copy, Debug)]
pub struct ActivatedGradient {
    /// Rows.
    pub rows: usize,
    /// Channels, also the distance between rows of all tensors.
    pub channels: usize,
    /// The same number again.
    pub end: usize,
    /// Gradient of the activated tensor.
    pub gradient: *const f32,
    /// The tensor before the norm.
    pub raw: *const f32,
    /// Destination.
    pub to: *mut f32,
    /// p, q and r per channel.
    pub coefficients: [*const f32; 3],
    /// Scale of the norm per channel.
    pub scale: *const f32,
    /// Shift of the norm per channel.
    pub shift: *const f32,
    /// The activation after the norm.
    pub activation: Activation,
}

impl Columns for ActivatedGradient {
    const GROUP: usize = 2;

    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        s: S,
        v: usize,
        rows: Range<usize>,
    ) {
        let mask = s.mask(self.channels.saturating_sub(v));
        let ahead = tile(self.channels) * self.channels;
        // SAFETY: the caller's promise.
        unsafe {
            let [mut p, mut q, mut c, mut scale, mut shift] = [[s.zero(); N]; 5];
            each!(N, j, {
                let o = v + j * S::LANES;
                p[j] = s.load(self.coefficients[0].add(o));
                q[j] = s.load(self.coefficients[1].add(o));
                c[j] = s.load(self.coefficients[2].add(o));
                scale[j] = s.load(self.scale.add(o));
                shift[j] = s.load(self.shift.add(o));
            });
            for r in rows.clone() {
                let row = r * self.channels + v;
                let [mut y, mut z, mut d] = [[s.zero(); N]; 3];
                each!(N, j, {
                    let o = row + j * S::LANES;
                    s.prefetch(self.gradient.wrapping_add(o + ahead));
                    s.prefetch(self.raw.wrapping_add(o + ahead));
                    d[j] = load::<S, MASKED>(s, self.gradient.add(o), mask);
                    y[j] = load::<S, MASKED>(s, self.raw.add(o), mask);
                    z[j] = s.fmadd(scale[j], y[j], shift[j]);
                });
                activation::gradient(s, self.activation, &mut z, &mut d);
                each!(N, j, {
                    let v = s.fmadd(p[j], d[j], s.fmadd(q[j], y[j], c[j]));
                    store::<S, MASKED>(s, self.to.add(row + j * S::LANES), v, mask);
                });
            }
        }
    }
}
sweep_kernel!(ActivatedGradient);
