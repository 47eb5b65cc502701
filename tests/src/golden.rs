//! Golden reference data: where it lies, how its weights and inputs are filled, how its files are read.
//!
//! The reference folder is not part of the repository. It is the folder named by the environment variable
//! `SMALLFRY_REFERENCE`, else `shared` beside the repository's root. A test that needs it starts with
//! `let Some(reference) = Reference::find("what is left out") else { return };`, which says what it leaves out.
//!
//! There are two independent fills: [`Fill`] (numbers drawn by name, of `golden/`) and [`counted`] (numbers drawn by
//! position, of `spec/values/`). Images in both are `[batch, channels, height, width]`; [`channels_last`] turns them.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use smallfry::nn::Parameters;

/// The folder of reference data.
#[derive(Clone, Debug)]
pub struct Reference {
    root: PathBuf,
}

impl Reference {
    /// The folder, or none after a printed notice that `what` is left out.
    ///
    /// # Panics
    /// If `SMALLFRY_REFERENCE` names something that is no folder: a wrong path must not pass for an absent one.
    pub fn find(what: &str) -> Option<Self> {
        if let Some(root) = env::var_os("SMALLFRY_REFERENCE") {
            let root = PathBuf::from(root);
            assert!(
                root.is_dir(),
                "SMALLFRY_REFERENCE is `{}`, which is no folder",
                root.display()
            );
            return Some(Self { root });
        }
        let root = repository().parent()?.join("shared");
        if root.is_dir() {
            return Some(Self { root });
        }
        eprintln!(
            "LEFT OUT: {what} (no reference folder; set SMALLFRY_REFERENCE or put it at `{}`)",
            root.display()
        );
        None
    }

    /// A path inside the folder, such as `golden/g1_backbones`.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// The text of a file.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn text(&self, inside: &str) -> String {
        let path = self.path(inside);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// A JSON file.
    ///
    /// # Panics
    /// If it cannot be read or parsed.
    pub fn json(&self, inside: &str) -> Value {
        serde_json::from_str(&self.text(inside)).unwrap_or_else(|e| panic!("{inside}: {e}"))
    }

    /// A safetensors file.
    ///
    /// # Panics
    /// If it cannot be read or holds an element type other than f32, f64 and i64.
    pub fn tensors(&self, inside: &str) -> BTreeMap<String, Tensor> {
        read_tensors(&self.path(inside))
    }
}

/// The root folder of this repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests package lies inside the repository")
}

/// A tensor of a safetensors file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Row-major values; f32 and i64 are widened.
    pub values: Vec<f64>,
}

impl Tensor {
    /// The values rounded to f32, which is exact for a tensor stored as such.
    pub fn floats(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }
}

/// Every tensor of a safetensors file.
///
/// # Panics
/// As [`Reference::tensors`].
pub fn read_tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file =
        SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.iter()
        .map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => numbers(data, |b| f64::from(f32::from_le_bytes(b))),
                Dtype::F64 => numbers(data, f64::from_le_bytes),
                Dtype::I64 => numbers(data, |b| i64::from_le_bytes(b) as f64),
                other => panic!(
                    "{}: `{name}` has elements of type {other:?}",
                    path.display()
                ),
            };
            let shape = view.shape().to_vec();
            (name.to_owned(), Tensor { shape, values })
        })
        .collect()
}

fn numbers<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    data.chunks_exact(N)
        .map(|b| read(b.try_into().expect("chunks have this length")))
        .collect()
}

/// The numbers of a JSON array.
///
/// # Panics
/// If `value` is no array of numbers.
pub fn floats(value: &Value) -> Vec<f64> {
    let array = value.as_array().expect("a JSON array");
    array
        .iter()
        .map(|v| v.as_f64().expect("a number"))
        .collect()
}

/// The fill of `golden/`: a tensor's numbers follow from its name and the case's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The seed of the case.
    pub seed: u64,
}

impl Fill {
    /// The fill of a case, from its JSON field `case_seed`.
    ///
    /// # Panics
    /// If the field is absent or no hexadecimal number.
    pub fn of(case: &Value) -> Self {
        let text = case["case_seed"].as_str().expect("`case_seed` is text");
        let seed = u64::from_str_radix(text.trim_start_matches("0x"), 16);
        Self {
            seed: seed.expect("`case_seed` is hexadecimal"),
        }
    }

    /// Raw number `i` of the tensor `name`.
    pub fn raw(self, name: &str, i: u64) -> u64 {
        let start = fnv1a(name.as_bytes()) ^ self.seed;
        splitmix(start.wrapping_add(i).wrapping_add(0x9E37_79B9_7F4A_7C15))
    }

    /// Number `i` of the tensor `name`, in [−1, 1).
    pub fn unit(self, name: &str, i: u64) -> f64 {
        2.0 * ((self.raw(name, i) >> 11) as f64 * 2f64.powi(-53)) - 1.0
    }

    /// A named input or other tensor of `len` numbers, uniform in ±`scale` (1.5 for inputs).
    pub fn scaled(self, name: &str, len: usize, scale: f64) -> Vec<f32> {
        (0..len as u64)
            .map(|i| (self.unit(name, i) * scale) as f32)
            .collect()
    }

    /// A state-dict entry; the prefixes `module.`, `encoder_q.`, `encoder_k.`, `student.`, `teacher.` do not count.
    pub fn parameter(self, name: &str, shape: &[usize]) -> Vec<f32> {
        let mut name = name;
        for prefix in [
            "module.",
            "encoder_q.",
            "encoder_k.",
            "student.",
            "teacher.",
        ] {
            name = name.strip_prefix(prefix).unwrap_or(name);
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        let value: Box<dyn Fn(f64) -> f64> = match last {
            "weight" if shape.len() > 1 => {
                let fan_in: usize = shape[1..].iter().product();
                let bound = (3.0 / fan_in as f64).sqrt();
                Box::new(move |v| v * bound)
            }
            "weight" => Box::new(|v| 1.0 + v * 0.2),
            "bias" | "running_mean" => Box::new(|v| v * 0.1),
            "running_var" => Box::new(|v| 1.0 + v * 0.3),
            "num_batches_tracked" => Box::new(|_| 0.0),
            _ => Box::new(|v| v),
        };
        let len = shape.iter().product::<usize>() as u64;
        (0..len).map(|i| value(self.unit(name, i)) as f32).collect()
    }
}

/// FNV-1a with 64 bits.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The output function of splitmix64.
fn splitmix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The fill of `spec/values/`: number `i` of stream `t`, in [0, 1).
pub fn counted(t: u64, i: u64) -> f64 {
    let z = (t.wrapping_add(1))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add((i.wrapping_add(1)).wrapping_mul(0xD1B5_4A32_D192_ED03));
    (splitmix(z) >> 40) as f64 / f64::from(1 << 24)
}

/// `len` numbers of stream `t`, uniform in ±`scale`.
pub fn counted_scaled(t: u64, len: usize, scale: f64) -> Vec<f32> {
    (0..len as u64)
        .map(|i| (scale * (2.0 * counted(t, i) - 1.0)) as f32)
        .collect()
}

/// A state-dict entry of `spec/values/`; `t` is its position among all entries of the state dict.
pub fn counted_parameter(t: u64, name: &str, shape: &[usize]) -> Vec<f32> {
    let len = shape.iter().product::<usize>();
    let above_half = || (0..len as u64).map(|i| (0.5 + counted(t, i)) as f32);
    match name.rsplit('.').next().unwrap_or(name) {
        "running_var" => above_half().collect(),
        "running_mean" | "bias" => counted_scaled(t, len, 0.1),
        "num_batches_tracked" => vec![0.0; len],
        "pos_embedding" | "cls_token" => counted_scaled(t, len, 0.5),
        _ if shape.len() == 1 => above_half().collect(),
        _ => {
            let fan_in: usize = shape[1..].iter().product();
            counted_scaled(t, len, (3.0 / fan_in as f64).sqrt())
        }
    }
}

/// Turns `[batch, channels, height, width]` into `[batch, height, width, channels]`.
pub fn channels_last<T: Copy>(values: &[T], channels: usize, pixels: usize) -> Vec<T> {
    let mut turned = Vec::with_capacity(values.len());
    for image in values.chunks(channels * pixels) {
        for p in 0..pixels {
            turned.extend((0..channels).map(|c| image[c * pixels + p]));
        }
    }
    turned
}

/// ‖a − b‖ / ‖b‖ in the Euclidean norm; `b` is the truth.
///
/// # Panics
/// If the lengths differ or the truth is all zero.
pub fn relative_error(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, b)| (f64::from(a) - b).powi(2))
        .sum();
    let norm: f64 = b.iter().map(|b| b * b).sum();
    assert!(norm > 0.0, "the truth is all zero");
    (difference / norm).sqrt()
}

/// Fills every tensor of `parameters` with what `fill` gives for its position, name and shape.
pub fn fill_all(parameters: &mut Parameters, fill: impl Fn(usize, &str, &[usize]) -> Vec<f32>) {
    for i in 0..parameters.specs().len() {
        let spec = parameters.specs()[i].clone();
        let values = fill(i, &spec.name, &spec.shape);
        let floats = parameters.floats_mut(i);
        floats.copy_from_slice(&values[..floats.len()]);
    }
}

/// `values`, `[dim, keys]`, with every column divided by its length.
#[must_use]
pub fn unit_columns(values: &[f32], dim: usize) -> Vec<f32> {
    let keys = values.len() / dim;
    let mut columns = values.to_vec();
    for key in 0..keys {
        let places = || (0..dim).map(|d| d * keys + key);
        let square: f64 = places().map(|place| f64::from(values[place]).powi(2)).sum();
        for place in places() {
            columns[place] = (f64::from(values[place]) / square.sqrt()) as f32;
        }
    }
    columns
}

/// The Euclidean norm.
pub fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|&v| f64::from(v).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_agrees_with_the_test_vectors() {
        let Some(reference) = Reference::find("the test vectors of the fill") else {
            return;
        };
        let vectors = reference.json("golden/fill_vectors.json");
        for case in vectors["raw"].as_array().unwrap() {
            let (fill, name) = (Fill::of(case), case["name"].as_str().unwrap());
            for (i, raw) in case["u64 element 0..3"]
                .as_array()
                .unwrap()
                .iter()
                .enumerate()
            {
                let raw = u64::from_str_radix(&raw.as_str().unwrap()[2..], 16).unwrap();
                assert_eq!(fill.raw(name, i as u64), raw, "{name}[{i}]");
            }
            for (i, v) in floats(&case["v (float64) element 0..3"]).iter().enumerate() {
                // serde_json rounds the last bit its own way.
                assert!(
                    (fill.unit(name, i as u64) - v).abs() <= f64::EPSILON,
                    "{name}[{i}]"
                );
            }
        }
        for case in vectors["tensors"].as_array().unwrap() {
            let (fill, name) = (Fill::of(case), case["name"].as_str().unwrap());
            let shape: Vec<usize> = floats(&case["shape"]).iter().map(|&v| v as usize).collect();
            let values = match case["scale"].as_f64() {
                Some(scale) => fill.scaled(name, shape.iter().product(), scale),
                None => fill.parameter(name, &shape),
            };
            for (i, bits) in case["first4_bits"].as_array().unwrap().iter().enumerate() {
                let bits = u32::from_str_radix(&bits.as_str().unwrap()[2..], 16).unwrap();
                assert_eq!(values[i].to_bits(), bits, "{name}[{i}]");
            }
            let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
            assert!(
                (sum - case["sum_float64"].as_f64().unwrap()).abs() < 1e-9,
                "{name}"
            );
        }
    }

    #[test]
    fn counted_fill_agrees_with_the_printed_numbers() {
        let close = |t, i, expected: f64| assert!((counted(t, i) - expected).abs() < 1e-9);
        close(0, 0, 0.176_012_516_0);
        close(0, 3, 0.490_871_012_2);
        close(7, 0, 0.870_846_748_4);
        close(7, 3, 0.988_854_825_5);
    }

    #[test]
    fn channels_move_to_the_end() {
        assert_eq!(channels_last(&[1, 2, 3, 4, 5, 6], 2, 3), [1, 4, 2, 5, 3, 6]);
    }
}
