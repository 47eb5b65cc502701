//! Passes over tensors whose rows are pixels, with one set of numbers for each channel: batch norm and what follows it.
//!
//! Rows are taken in groups, and within a group the channels in columns of up to four vectors, so that channel sums stay
//! in registers. Sums of a group are taken in `f32` and added to `f64` totals: a plain `f32` sum over a hundred thousand
//! pixels would lose the digits that a variance needs.

use crate::{
    kernel::{
        Level,
        activation::{apply, gradient},
        simd::{Kernel, Simd},
    },
    network::Activation,
};

/// Rows of a group.
const GROUP: usize = 256;
/// Most vectors of a column.
const COLUMN: usize = 4;
/// Most numbers of a column.
const NUMBERS: usize = COLUMN * 16;

/// A factor and a start value for each channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine<'a> {
    /// Factors.
    pub scale: &'a [f32],
    /// Start values.
    pub shift: &'a [f32],
}

/// A tensor to be added, after its own affine map where it has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addend<'a> {
    /// The tensor.
    pub values: &'a [f32],
    /// Its map.
    pub affine: Option<Affine<'a>>,
}

/// Count, mean and sum of squared deviations of every channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// Nothing seen yet, of `n` channels.
    pub fn new(n: usize) -> Self {
        Self {
            count: 0.0,
            mean: vec![0.0; n],
            squares: vec![0.0; n],
        }
    }

    /// Forgets what was seen.
    pub fn clear(&mut self) {
        self.count = 0.0;
        self.mean.fill(0.0);
        self.squares.fill(0.0);
    }

    /// Takes in all rows of `values`.
    pub fn add(&mut self, level: Level, values: &[f32]) {
        let n = self.mean.len();
        let rows = values.len() / n;
        assert_eq!(values.len(), rows * n, "rows are incomplete");
        for group in values.chunks(GROUP * n) {
            let count = (group.len() / n) as f64;
            let total = self.count + count;
            let kernel = MomentsOf {
                values: group.as_ptr(),
                rows: group.len() / n,
                n,
                old: self.count / total * count,
                share: count / total,
                mean: &mut self.mean,
                squares: &mut self.squares,
            };
            // SAFETY: the group has that many rows of n numbers.
            unsafe { level.run(kernel) };
            self.count = total;
        }
    }

    /// Takes in what `other` saw.
    pub fn merge(&mut self, other: &Self) {
        let total = self.count + other.count;
        if other.count == 0.0 {
            return;
        }
        let pairs = other.mean.iter().zip(&other.squares);
        for ((mean, squares), (m, s)) in self.mean.iter_mut().zip(&mut self.squares).zip(pairs) {
            let difference = m - *mean;
            *mean += difference * (other.count / total);
            *squares += s + difference * difference * (self.count / total * other.count);
        }
        self.count = total;
    }

    /// Number of rows seen.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Mean of every channel.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Sum of squared deviations from the mean of every channel.
    pub fn squares(&self) -> &[f64] {
        &self.squares
    }
}

/// y = activation(scale · x + shift + addend) for rows of n numbers; x is `y` itself where absent.
pub(crate) fn normalise(
    level: Level,
    x: Option<&[f32]>,
    affine: Affine<'_>,
    addend: Option<Addend<'_>>,
    activation: Activation,
    y: &mut [f32],
) {
    let n = affine.scale.len();
    let rows = y.len() / n;
    assert!(y.len() == rows * n && x.is_none_or(|x| x.len() == y.len()));
    check(affine, addend, y.len());
    let out = y.as_mut_ptr();
    let kernel = Normalise {
        x: x.map_or(out.cast_const(), <[f32]>::as_ptr),
        y: out,
        n,
        rows,
        affine,
        addend,
        activation,
    };
    // SAFETY: all lengths were checked; x may be y because every number is read before it is written.
    unsafe { level.run(kernel) }
}

fn check(affine: Affine<'_>, addend: Option<Addend<'_>>, len: usize) {
    let n = affine.scale.len();
    assert_eq!(affine.shift.len(), n);
    if let Some(addend) = addend {
        assert_eq!(addend.values.len(), len);
        if let Some(affine) = addend.affine {
            assert!(affine.scale.len() == n && affine.shift.len() == n);
        }
    }
}

/// Sums over rows that the backward pass of a batch norm needs, of every channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GradientSums {
    /// Σ dz.
    pub plain: Vec<f64>,
    /// Σ dz · (x − mean) / deviation.
    pub normalised: Vec<f64>,
}

impl GradientSums {
    /// Zeros for `n` channels.
    pub fn new(n: usize) -> Self {
        Self {
            plain: vec![0.0; n],
            normalised: vec![0.0; n],
        }
    }

    /// Sets all to zero.
    pub fn clear(&mut self) {
        self.plain.fill(0.0);
        self.normalised.fill(0.0);
    }

    /// Adds those of another part of the batch.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.plain.iter_mut().zip(&other.plain) {
            *a += b;
        }
        for (a, b) in self.normalised.iter_mut().zip(&other.normalised) {
            *a += b;
        }
    }
}

/// Multiplies the gradient `d` by the activation's derivative at scale · x + shift + addend, and adds channel sums of
/// the result, `standard` being the map from x to mean 0 and deviation 1.
#[expect(
    clippy::too_many_arguments,
    reason = "every operand is a tensor or a channel array of its own"
)]
pub(crate) fn activation_gradient(
    level: Level,
    x: &[f32],
    affine: Affine<'_>,
    addend: Option<Addend<'_>>,
    activation: Activation,
    standard: Affine<'_>,
    d: &mut [f32],
    sums: &mut GradientSums,
) {
    let n = affine.scale.len();
    let rows = d.len() / n;
    assert!(d.len() == rows * n && x.len() == d.len());
    check(affine, addend, d.len());
    check(standard, None, d.len());
    assert!(standard.scale.len() == n && sums.plain.len() == n && sums.normalised.len() == n);
    let kernel = ActivationGradient {
        x: x.as_ptr(),
        d: d.as_mut_ptr(),
        n,
        rows,
        affine,
        addend,
        activation,
        standard,
        sums,
    };
    // SAFETY: all lengths were checked.
    unsafe { level.run(kernel) }
}

/// d = factor · d + slope · x + shift with one of each for every channel: the backward pass of a batch norm. The result
/// goes to `out`, or stays in `d`.
pub(crate) fn norm_gradient(level: Level, coefficients: [&[f32]; 3], x: &[f32], d: Source<'_>) {
    let n = coefficients[0].len();
    let (from, to, len) = match d {
        Source::InPlace(d) => (d.as_ptr(), d.as_mut_ptr(), d.len()),
        Source::To(d, out) => {
            assert_eq!(d.len(), out.len());
            (d.as_ptr(), out.as_mut_ptr(), out.len())
        }
    };
    assert!(coefficients.iter().all(|c| c.len() == n) && len % n == 0 && x.len() == len);
    let kernel = NormGradient {
        x: x.as_ptr(),
        from,
        to,
        n,
        rows: len / n,
        coefficients,
    };
    // SAFETY: all lengths were checked; `from` may be `to` because every number is read before it is written.
    unsafe { level.run(kernel) }
}

/// Where a pass reads and writes.
pub(crate) enum Source<'a> {
    /// One tensor is changed.
    InPlace(&'a mut [f32]),
    /// The first is read, the second written.
    To(&'a [f32], &'a mut [f32]),
}

/// A column of up to [`COLUMN`] vectors; only the last may be incomplete.
#[derive(Clone, Copy)]
struct Lanes<S: Simd> {
    s: S,
    mask: Option<S::Mask>,
}

impl<S: Simd> Lanes<S> {
    #[inline(always)]
    unsafe fn load<const Q: usize>(self, p: *const f32) -> [S::Vector; Q] {
        let mut v = [self.s.zero(); Q];
        // SAFETY: the caller's promise.
        unsafe {
            match self.mask {
                Some(mask) => v[0] = self.s.load_masked(p, mask),
                None => {
                    for (q, v) in v.iter_mut().enumerate() {
                        *v = self.s.load(p.add(q * S::LANES));
                    }
                }
            }
        }
        v
    }

    #[inline(always)]
    unsafe fn store<const Q: usize>(self, p: *mut f32, v: [S::Vector; Q]) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.mask {
                Some(mask) => self.s.store_masked(p, v[0], mask),
                None => {
                    for (q, v) in v.iter().enumerate() {
                        self.s.store(p.add(q * S::LANES), *v);
                    }
                }
            }
        }
    }

    /// scale · x + shift (+ addend), for the columns from `c` of the row that starts at number `at`.
    #[inline(always)]
    unsafe fn map<const Q: usize>(
        self,
        x: [S::Vector; Q],
        affine: [[S::Vector; Q]; 2],
        addend: Option<(Addend<'_>, [[S::Vector; Q]; 2])>,
        at: usize,
    ) -> [S::Vector; Q] {
        let mut z = x;
        for q in 0..Q {
            z[q] = self.s.fmadd(affine[0][q], x[q], affine[1][q]);
        }
        if let Some((addend, own)) = addend {
            // SAFETY: the addend is as long as x.
            let other: [S::Vector; Q] = unsafe { self.load(addend.values.as_ptr().add(at)) };
            for q in 0..Q {
                let other = if addend.affine.is_some() {
                    self.s.fmadd(own[0][q], other[q], own[1][q])
                } else {
                    other[q]
                };
                z[q] = self.s.add(z[q], other);
            }
        }
        z
    }

    #[inline(always)]
    unsafe fn affine<const Q: usize>(self, affine: Affine<'_>, c: usize) -> [[S::Vector; Q]; 2] {
        // SAFETY: both arrays have a number for every channel.
        unsafe {
            [
                self.load(affine.scale.as_ptr().add(c)),
                self.load(affine.shift.as_ptr().add(c)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn addend<const Q: usize>(
        self,
        addend: Option<Addend<'_>>,
        c: usize,
    ) -> Option<(Addend<'_>, [[S::Vector; Q]; 2])> {
        addend.map(|addend| {
            let own = match addend.affine {
                // SAFETY: as above.
                Some(affine) => unsafe { self.affine(affine, c) },
                None => [[self.s.zero(); Q]; 2],
            };
            (addend, own)
        })
    }
}

/// Work on one column of a group of rows.
trait Columns {
    /// Rows from `first` to before `last`, channels from `c` to before `c + width`.
    ///
    /// # Safety
    /// The rows and channels must exist.
    unsafe fn column<S: Simd, const Q: usize>(
        &mut self,
        lanes: Lanes<S>,
        first: usize,
        last: usize,
        c: usize,
        width: usize,
    );
}

/// Cuts rows into groups and channels into columns.
///
/// # Safety
/// As [`Columns::column`].
#[inline(always)]
unsafe fn sweep<S: Simd>(s: S, rows: usize, n: usize, work: &mut impl Columns) {
    let full = Lanes { s, mask: None };
    let mut first = 0;
    while first < rows {
        let last = (first + GROUP).min(rows);
        let mut c = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while c + COLUMN * S::LANES <= n {
                work.column::<S, COLUMN>(full, first, last, c, COLUMN * S::LANES);
                c += COLUMN * S::LANES;
            }
            while c + S::LANES <= n {
                work.column::<S, 1>(full, first, last, c, S::LANES);
                c += S::LANES;
            }
            if c < n {
                let mask = Some(s.mask(n - c));
                work.column::<S, 1>(Lanes { s, mask }, first, last, c, n - c);
            }
        }
        first = last;
    }
}

/// The numbers of a column in memory.
#[inline(always)]
fn spill<S: Simd, const Q: usize>(s: S, v: [S::Vector; Q]) -> [f32; NUMBERS] {
    let mut numbers = [0.0; NUMBERS];
    for (q, v) in v.iter().enumerate() {
        // SAFETY: a column has at most `NUMBERS` numbers.
        unsafe { s.store(numbers.as_mut_ptr().add(q * S::LANES), *v) };
    }
    numbers
}

struct MomentsOf<'a> {
    values: *const f32,
    rows: usize,
    n: usize,
    /// Rows seen before · rows of this group / rows of both.
    old: f64,
    /// Rows of this group / rows of both.
    share: f64,
    mean: &'a mut [f64],
    squares: &'a mut [f64],
}

impl Kernel for MomentsOf<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        // SAFETY: the caller's promise.
        unsafe { sweep(s, self.rows, self.n, &mut self) }
    }
}

impl Columns for MomentsOf<'_> {
    #[inline(always)]
    unsafe fn column<S: Simd, const Q: usize>(
        &mut self,
        lanes: Lanes<S>,
        first: usize,
        last: usize,
        c: usize,
        width: usize,
    ) {
        let s = lanes.s;
        let mut sum = [s.zero(); Q];
        let mut squares = [s.zero(); Q];
        let inverse = s.splat(1.0 / (last - first) as f32);
        // SAFETY: rows and channels exist.
        unsafe {
            for row in first..last {
                let x: [S::Vector; Q] = lanes.load(self.values.add(row * self.n + c));
                for q in 0..Q {
                    sum[q] = s.add(sum[q], x[q]);
                }
            }
            for sum in &mut sum {
                *sum = s.mul(*sum, inverse);
            }
            for row in first..last {
                let x: [S::Vector; Q] = lanes.load(self.values.add(row * self.n + c));
                for q in 0..Q {
                    let d = s.sub(x[q], sum[q]);
                    squares[q] = s.fmadd(d, d, squares[q]);
                }
            }
        }
        let (m, v) = (spill(s, sum), spill(s, squares));
        let (mean, squares) = (
            &mut self.mean[c..c + width],
            &mut self.squares[c..c + width],
        );
        for i in 0..width {
            let difference = f64::from(m[i]) - mean[i];
            mean[i] += difference * self.share;
            squares[i] += f64::from(v[i]) + difference * difference * self.old;
        }
    }
}

struct Normalise<'a> {
    x: *const f32,
    y: *mut f32,
    n: usize,
    rows: usize,
    affine: Affine<'a>,
    addend: Option<Addend<'a>>,
    activation: Activation,
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        // SAFETY: the caller's promise.
        unsafe { sweep(s, self.rows, self.n, &mut self) }
    }
}

impl Columns for Normalise<'_> {
    #[inline(always)]
    unsafe fn column<S: Simd, const Q: usize>(
        &mut self,
        lanes: Lanes<S>,
        first: usize,
        last: usize,
        c: usize,
        _: usize,
    ) {
        // SAFETY: rows and channels exist.
        unsafe {
            let affine = lanes.affine::<Q>(self.affine, c);
            let addend = lanes.addend::<Q>(self.addend, c);
            for row in first..last {
                let at = row * self.n + c;
                let x = lanes.load::<Q>(self.x.add(at));
                let mut z = lanes.map(x, affine, addend, at);
                apply(lanes.s, self.activation, &mut z);
                lanes.store(self.y.add(at), z);
            }
        }
    }
}

struct ActivationGradient<'a> {
    x: *const f32,
    d: *mut f32,
    n: usize,
    rows: usize,
    affine: Affine<'a>,
    addend: Option<Addend<'a>>,
    activation: Activation,
    standard: Affine<'a>,
    sums: &'a mut GradientSums,
}

impl Kernel for ActivationGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        // SAFETY: the caller's promise.
        unsafe { sweep(s, self.rows, self.n, &mut self) }
    }
}

impl Columns for ActivationGradient<'_> {
    #[inline(always)]
    unsafe fn column<S: Simd, const Q: usize>(
        &mut self,
        lanes: Lanes<S>,
        first: usize,
        last: usize,
        c: usize,
        width: usize,
    ) {
        let s = lanes.s;
        let mut plain = [s.zero(); Q];
        let mut normalised = [s.zero(); Q];
        // SAFETY: rows and channels exist.
        unsafe {
            let affine = lanes.affine::<Q>(self.affine, c);
            let standard = lanes.affine::<Q>(self.standard, c);
            let addend = lanes.addend::<Q>(self.addend, c);
            for row in first..last {
                let at = row * self.n + c;
                let x = lanes.load::<Q>(self.x.add(at));
                let mut d = lanes.load::<Q>(self.d.add(at));
                if self.activation != Activation::Identity {
                    let mut z = lanes.map(x, affine, addend, at);
                    gradient(s, self.activation, &mut z, &mut d);
                    lanes.store(self.d.add(at), d);
                }
                for q in 0..Q {
                    let standard = s.fmadd(standard[0][q], x[q], standard[1][q]);
                    plain[q] = s.add(plain[q], d[q]);
                    normalised[q] = s.fmadd(d[q], standard, normalised[q]);
                }
            }
        }
        let (p, m) = (spill(s, plain), spill(s, normalised));
        for i in 0..width {
            self.sums.plain[c + i] += f64::from(p[i]);
            self.sums.normalised[c + i] += f64::from(m[i]);
        }
    }
}

struct NormGradient<'a> {
    x: *const f32,
    from: *const f32,
    to: *mut f32,
    n: usize,
    rows: usize,
    coefficients: [&'a [f32]; 3],
}

impl Kernel for NormGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        // SAFETY: the caller's promise.
        unsafe { sweep(s, self.rows, self.n, &mut self) }
    }
}

impl Columns for NormGradient<'_> {
    #[inline(always)]
    unsafe fn column<S: Simd, const Q: usize>(
        &mut self,
        lanes: Lanes<S>,
        first: usize,
        last: usize,
        c: usize,
        _: usize,
    ) {
        let s = lanes.s;
        // SAFETY: rows and channels exist.
        unsafe {
            let [factor, slope, shift] = self.coefficients;
            let p: [[S::Vector; Q]; 3] = [
                lanes.load(factor.as_ptr().add(c)),
                lanes.load(slope.as_ptr().add(c)),
                lanes.load(shift.as_ptr().add(c)),
            ];
            for row in first..last {
                let at = row * self.n + c;
                let x = lanes.load::<Q>(self.x.add(at));
                let mut d = lanes.load::<Q>(self.from.add(at));
                for q in 0..Q {
                    d[q] = s.fmadd(p[0][q], d[q], s.fmadd(p[1][q], x[q], p[2][q]));
                }
                lanes.store(self.to.add(at), d);
            }
        }
    }
}
