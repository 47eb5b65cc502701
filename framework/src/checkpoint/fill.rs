//! Tensors into and out of parameters, and a list of all that does not fit.

use smallfry_nn::{Parameters, network::Role, parameter};

use super::{Tensor, Values};
use crate::failure::Failure;

/// Names that a list in a message shows of each kind: all of any network, and an end for a hostile file.
const SHOWN: usize = 1000;

/// How the tensors of a file differ from those that are needed.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// Needed and not in the file.
    pub missing: Vec<String>,
    /// In the file and not needed.
    pub unexpected: Vec<String>,
    /// In the file with another shape or element type.
    pub reshaped: Vec<String>,
}

impl Differences {
    /// Nothing, or a message that lists all differences between `origin` and `needed`.
    pub(crate) fn check(&self, origin: &str, needed: &str) -> Result<(), Failure> {
        let mut message = format!("{origin} does not fit {needed}");
        let mut fits = true;
        for (names, what) in [
            (&self.missing, "missing"),
            (&self.reshaped, "of another shape"),
            (&self.unexpected, "left over"),
        ] {
            if names.is_empty() {
                continue;
            }
            fits = false;
            message.push_str(&format!("\n  {} {what}:", names.len()));
            for name in names.iter().take(SHOWN) {
                message.push_str(&format!("\n    {name}"));
            }
            if names.len() > SHOWN {
                message.push_str(&format!("\n    and {} more", names.len() - SHOWN));
            }
        }
        if fits {
            Ok(())
        } else {
            Err(Failure::mistake(message))
        }
    }
}

/// Puts `tensor` into entry `i`, or says how it differs from what the entry is.
pub(crate) fn fill(parameters: &mut Parameters, i: usize, tensor: &Tensor) -> Result<(), String> {
    let spec = &parameters.specs()[i];
    let wanted = match spec.role {
        Role::Counter => "I64",
        _ => "F32",
    };
    // PyTorch writes a counter with no sizes, some converters with one of 1.
    let same = match spec.role {
        Role::Counter => tensor.shape.iter().product::<usize>() == 1,
        _ => tensor.shape == spec.shape,
    };
    let differs = format!("{} instead of {wanted} {:?}", tensor.describe(), spec.shape);
    if !same {
        return Err(differs);
    }
    match (&tensor.values, spec.role) {
        (Values::Integer(values), Role::Counter) => {
            let value = u64::try_from(values[0]).map_err(|_| "a negative counter".to_owned())?;
            parameters.set_counter(i, value);
        }
        (Values::Float(values), Role::Weight | Role::Frozen | Role::Statistic) => {
            parameters.floats_mut(i).copy_from_slice(values);
        }
        _ => return Err(differs),
    }
    Ok(())
}

/// Every tensor of `parameters` under its name, in state-dict order.
pub(crate) fn tensors(parameters: &Parameters) -> impl Iterator<Item = (String, Tensor)> + '_ {
    parameters.specs().iter().enumerate().map(|(i, spec)| {
        let tensor = match parameters.get(i) {
            parameter::Values::Float(values) => Tensor::float(spec.shape.clone(), values.to_vec()),
            parameter::Values::Integer(value) => {
                // A count of batches stays far below 2⁶³.
                Tensor::integer(spec.shape.clone(), vec![value as i64])
            }
        };
        (spec.name.clone(), tensor)
    })
}
