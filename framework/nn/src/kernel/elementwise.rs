//! Passes over pixel rows: what stands between the convolutions of a block.
//!
//! Every kernel works on `rows` rows of channels; tensors have their own distance between rows, so that a channel block
//! of a wide tensor can be read or written alone. Per-channel arrays are padded with zeros to a multiple of 16 channels,
//! so they are read in whole vectors. Channels are cut into groups of a few vectors whose parameters stay in registers
//! while the rows go by.

use super::{
    activation::{self, each},
    simd::{Kernel, Simd},
};
use crate::network::Activation;

/// A kernel on a few vectors of channels.
trait Columns {
    /// Vectors of a full group.
    const GROUP: usize;

    /// Works on the N vectors from channel `v`; the last is masked if MASKED.
    ///
    /// # Safety
    /// The pointers must be good for all rows.
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(&self, s: S, v: usize);
}

/// Calls `columns` for all channels: groups of four or two vectors, then vector by vector.
#[inline(always)]
unsafe fn sweep<S: Simd, C: Columns>(s: S, kernel: &C, channels: usize, end: usize) {
    let mut v = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while v + C::GROUP * S::LANES <= channels {
            if C::GROUP == 4 {
                kernel.columns::<S, 4, false>(s, v);
            } else {
                kernel.columns::<S, 2, false>(s, v);
            }
            v += C::GROUP * S::LANES;
        }
        while v + S::LANES <= channels {
            kernel.columns::<S, 1, false>(s, v);
            v += S::LANES;
        }
        while v < end {
            kernel.columns::<S, 1, true>(s, v);
            v += S::LANES;
        }
    }
}

macro_rules! sweep_kernel {
    ($name:ident) => {
        impl Kernel for $name {
            type Output = ();

            #[inline(always)]
            unsafe fn run<S: Simd>(self, s: S) {
                // SAFETY: the caller's promise.
                unsafe { sweep(s, &self, self.channels, self.end) }
            }
        }
    };
}

/// Loads a vector, all of it or its first lanes.
#[inline(always)]
unsafe fn load<S: Simd, const MASKED: bool>(s: S, p: *const f32, mask: S::Mask) -> S::Vector {
    // SAFETY: the caller's promise.
    unsafe {
        if MASKED {
            s.load_masked(p, mask)
        } else {
            s.load(p)
        }
    }
}

/// Stores a vector, all of it or its first lanes.
#[inline(always)]
unsafe fn store<S: Simd, const MASKED: bool>(s: S, p: *mut f32, v: S::Vector, mask: S::Mask) {
    // SAFETY: the caller's promise.
    unsafe {
        if MASKED {
            s.store_masked(p, v, mask);
        } else {
            s.store(p, v);
        }
    }
}

/// to = act(scale · from + shift), with the gate before or after the activation.
#[derive(Clone, Copy, Debug)]
pub struct Activate {
    /// Rows.
    pub rows: usize,
    /// Channels of `from`.
    pub channels: usize,
    /// Channels written: those behind `channels` become zero.
    pub end: usize,
    /// Source.
    pub from: *const f32,
    /// Distance between its rows.
    pub from_row: usize,
    /// Destination.
    pub to: *mut f32,
    /// Distance between its rows.
    pub to_row: usize,
    /// Per channel.
    pub scale: *const f32,
    /// Per channel.
    pub shift: *const f32,
    /// Factor per channel, or null for 1.
    pub gate: *const f32,
    /// The gate multiplies the activation instead of its input.
    pub gate_after: bool,
    /// The activation.
    pub activation: Activation,
}

impl Columns for Activate {
    const GROUP: usize = 4;

    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(&self, s: S, v: usize) {
        let read = s.mask(self.channels.saturating_sub(v));
        let write = s.mask(self.end - v);
        // SAFETY: the caller's promise.
        unsafe {
            let mut scale = [s.zero(); N];
            let mut shift = [s.zero(); N];
            let mut gate = [s.splat(1.0); N];
            each!(N, j, {
                let o = v + j * S::LANES;
                scale[j] = s.load(self.scale.add(o));
                shift[j] = s.load(self.shift.add(o));
                if !self.gate.is_null() {
                    gate[j] = s.load(self.gate.add(o));
                    if !self.gate_after {
                        scale[j] = s.mul(scale[j], gate[j]);
                        shift[j] = s.mul(shift[j], gate[j]);
                    }
                }
            });
            let multiply = self.gate_after && !self.gate.is_null();
            for r in 0..self.rows {
                let (from, to) = (
                    self.from.add(r * self.from_row + v),
                    self.to.add(r * self.to_row + v),
                );
                let mut z = [s.zero(); N];
                each!(N, j, {
                    let y = load::<S, MASKED>(s, from.add(j * S::LANES), read);
                    z[j] = s.fmadd(scale[j], y, shift[j]);
                });
                activation::apply(s, self.activation, &mut z);
                if multiply {
                    each!(N, j, { z[j] = s.mul(z[j], gate[j]) });
                }
                each!(N, j, {
                    store::<S, MASKED>(s, to.add(j * S::LANES), z[j], write);
                });
            }
        }
    }
}
sweep_kernel!(Activate);

/// Adds the column sums of act(scale · from + shift) to `sum`.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    /// Rows.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// The same number again.
    pub end: usize,
    /// Source.
    pub from: *const f32,
    /// Distance between its rows.
    pub from_row: usize,
    /// Per channel.
    pub scale: *const f32,
    /// Per channel.
    pub shift: *const f32,
    /// The activation.
    pub activation: Activation,
    /// Per channel, padded.
    pub sum: *mut f32,
}

impl Columns for Sum {
    const GROUP: usize = 4;

    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(&self, s: S, v: usize) {
        let mask = s.mask(self.channels.saturating_sub(v));
        // SAFETY: the caller's promise.
        unsafe {
            let mut scale = [s.zero(); N];
            let mut shift = [s.zero(); N];
            let mut sum = [s.zero(); N];
            each!(N, j, {
                let o = v + j * S::LANES;
                scale[j] = s.load(self.scale.add(o));
                shift[j] = s.load(self.shift.add(o));
                sum[j] = s.load(self.sum.add(o));
            });
            for r in 0..self.rows {
                let from = self.from.add(r * self.from_row + v);
                let mut z = [s.zero(); N];
                each!(N, j, {
                    let y = load::<S, MASKED>(s, from.add(j * S::LANES), mask);
                    z[j] = s.fmadd(scale[j], y, shift[j]);
                });
                activation::apply(s, self.activation, &mut z);
                each!(N, j, { sum[j] = s.add(sum[j], z[j]) });
            }
            each!(N, j, { s.store(self.sum.add(v + j * S::LANES), sum[j]) });
        }
    }
}
sweep_kernel!(Sum);

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
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(&self, s: S, v: usize) {
        let read = s.mask(self.channels.saturating_sub(v));
        let write = s.mask(self.end - v);
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
            for r in 0..self.rows {
                let o = r * self.from_row + v;
                let to = self.to.add(r * self.to_row + v);
                let [mut raw, mut out] = [[s.zero(); N]; 2];
                each!(N, j, {
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
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(&self, s: S, v: usize) {
        if self.gate_after && !self.gate.is_null() {
            // SAFETY: the caller's promise.
            unsafe { self.gate_after::<S, N, MASKED>(s, v) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.gate_before::<S, N, MASKED>(s, v) }
        }
    }
}
sweep_kernel!(GateGradient);

impl GateGradient {
    #[inline(always)]
    unsafe fn gate_before<S: Simd, const N: usize, const MASKED: bool>(&self, s: S, v: usize) {
        let mask = s.mask(self.channels.saturating_sub(v));
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
            for r in 0..self.rows {
                let row = r * self.channels + v;
                let [mut x, mut z, mut d] = [[s.zero(); N]; 3];
                each!(N, j, {
                    let o = row + j * S::LANES;
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
    unsafe fn gate_after<S: Simd, const N: usize, const MASKED: bool>(&self, s: S, v: usize) {
        let mask = s.mask(self.channels.saturating_sub(v));
        // SAFETY: the caller's promise.
        unsafe {
            each!(N, j, {
                let at = v + j * S::LANES;
                let (inverse, negative) =
                    (s.load(self.inverse.add(at)), s.load(self.negative.add(at)));
                let (gamma, beta) = (s.load(self.gamma.add(at)), s.load(self.beta.add(at)));
                let gate = s.load(self.gate.add(at));
                let mut sums = self.sums.map(|p| s.load(p.add(at)));
                for r in 0..self.rows {
                    let o = r * self.channels + at;
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

/// to = scale · from + shift, and + shortcut where there is one.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    /// Rows.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// The same number again.
    pub end: usize,
    /// Source.
    pub from: *const f32,
    /// Distance between its rows.
    pub from_row: usize,
    /// What is added, or null.
    pub shortcut: *const f32,
    /// Destination.
    pub to: *mut f32,
    /// Distance between rows of destination and shortcut.
    pub to_row: usize,
    /// Per channel.
    pub scale: *const f32,
    /// Per channel.
    pub shift: *const f32,
    /// Factor of scale and shift.
    pub factor: f32,
}

impl Columns for Affine {
    const GROUP: usize = 4;

    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(&self, s: S, v: usize) {
        let mask = s.mask(self.channels.saturating_sub(v));
        // SAFETY: the caller's promise.
        unsafe {
            let [mut scale, mut shift] = [[s.zero(); N]; 2];
            each!(N, j, {
                let (o, factor) = (v + j * S::LANES, s.splat(self.factor));
                scale[j] = s.mul(factor, s.load(self.scale.add(o)));
                shift[j] = s.mul(factor, s.load(self.shift.add(o)));
            });
            for r in 0..self.rows {
                let (from, row) = (r * self.from_row + v, r * self.to_row + v);
                each!(N, j, {
                    let o = row + j * S::LANES;
                    let y = load::<S, MASKED>(s, self.from.add(from + j * S::LANES), mask);
                    let mut z = s.fmadd(scale[j], y, shift[j]);
                    if !self.shortcut.is_null() {
                        z = s.add(z, load::<S, MASKED>(s, self.shortcut.add(o), mask));
                    }
                    store::<S, MASKED>(s, self.to.add(o), z, mask);
                });
            }
        }
    }
}
sweep_kernel!(Affine);

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
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(&self, s: S, v: usize) {
        let mask = s.mask(self.channels.saturating_sub(v));
        let active = self.activation != Activation::Identity;
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
            for r in 0..self.rows {
                let row = r * self.channels + v;
                let [mut x, mut z, mut d] = [[s.zero(); N]; 3];
                each!(N, j, {
                    let o = row + j * S::LANES;
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
    unsafe fn columns<S: Simd, const N: usize, const MASKED: bool>(&self, s: S, v: usize) {
        let mask = s.mask(self.channels.saturating_sub(v));
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
            for r in 0..self.rows {
                let row = r * self.channels + v;
                let [mut y, mut z, mut d] = [[s.zero(); N]; 3];
                each!(N, j, {
                    let o = row + j * S::LANES;
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

/// to += from, number by number.
#[derive(Clone, Copy, Debug)]
pub struct Add {
    /// Numbers.
    pub len: usize,
    /// What is added.
    pub from: *const f32,
    /// What it is added to.
    pub to: *mut f32,
}

impl Kernel for Add {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut i = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while i + S::LANES <= self.len {
                let (from, to) = (self.from.add(i), self.to.add(i));
                s.store(to, s.add(s.load(to), s.load(from)));
                i += S::LANES;
            }
            let mask = s.mask(self.len - i);
            let (from, to) = (self.from.add(i), self.to.add(i));
            let sum = s.add(s.load_masked(to, mask), s.load_masked(from, mask));
            s.store_masked(to, sum, mask);
        }
    }
}
