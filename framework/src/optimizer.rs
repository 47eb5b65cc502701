//! Optimisers: how gradients change weights, and which weights decay.

use std::{collections::BTreeSet, ops::Range};

use serde::{Deserialize, Serialize};
use smallfry_nn::{Parameters, network::Role};

use crate::{
    registry::{Invalid, kind},
    source::nearest,
};

/// A rule of descent with its constants.
pub trait Optimizer: Send + Sync {
    /// The learning rate that a schedule scales.
    fn rate(&self) -> f64;

    /// A learning rate and the batch that it is known to suit: advice on others follows in proportion. None where there
    /// is no such rule.
    fn reference_rate(&self) -> Option<(f64, usize)> {
        None
    }

    /// Whether it fits the parameters of an encoder; called before training starts.
    ///
    /// # Errors
    /// Names the parameter at fault, such as a list of tensors of which one does not exist.
    fn check(&self, _: &Parameters) -> Result<(), Invalid> {
        Ok(())
    }

    /// The rule's state for parameters like these.
    fn start(&self, parameters: &Parameters) -> Box<dyn Descent>;
}

kind!(Optimizer, "optimizer");

/// An optimiser at work on the parameters of one encoder.
pub trait Descent: Send {
    /// Changes the trained values along their gradients.
    fn step(&mut self, parameters: &mut Parameters, rate: f64);

    /// State arenas by name, each laid out as the parameters' values, to save.
    fn state(&self) -> Vec<(&'static str, &[f32])>;

    /// State arenas by name, to restore.
    fn state_mut(&mut self) -> Vec<(&'static str, &mut Vec<f32>)>;

    /// Steps so far, where the rule depends on their number, to save.
    fn steps(&self) -> Option<u64> {
        None
    }

    /// Puts a saved number of steps back.
    fn set_steps(&mut self, _: u64) {}
}

/// Tensors that weight decay leaves alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exempt {
    /// Every tensor whose name ends in `bias`, those of norms included.
    Biases,
    /// Scales and shifts of batch and layer norms: one-dimensional tensors named `weight`, and the `bias` beside each.
    Norms,
    /// Tensors whose dotted name has this part, such as `pos_embed`, `conv_stem.weight` or `blocks.0`.
    Named(String),
}

impl Exempt {
    /// Whether the tensor at position `i` of `parameters` is one of these.
    fn covers(&self, parameters: &Parameters, i: usize) -> bool {
        let spec = &parameters.specs()[i];
        let (path, last) = spec.name.rsplit_once('.').unwrap_or(("", &spec.name));
        let scale = |i: usize| {
            let spec = &parameters.specs()[i];
            spec.shape.len() == 1 && spec.role == Role::Weight
        };
        match self {
            Self::Biases => last == "bias",
            Self::Norms => match last {
                "weight" => scale(i),
                "bias" => parameters
                    .position(&format!("{path}.weight"))
                    .is_some_and(scale),
                _ => false,
            },
            Self::Named(part) => format!(".{}.", spec.name).contains(&format!(".{part}.")),
        }
    }
}

/// The places of trained tensors in [`Parameters::values`], in order, by whether they decay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Those that decay, a range each.
    pub decayed: Vec<Range<usize>>,
    /// Those that do not, a range each.
    pub exempt: Vec<Range<usize>>,
}

impl Shares {
    /// The trained tensors of `parameters`; those that `exempt` covers do not decay.
    pub fn of(parameters: &Parameters, exempt: &[Exempt]) -> Self {
        let mut shares = Self::default();
        for (i, spec) in parameters.specs().iter().enumerate() {
            if spec.role == Role::Weight {
                let place = parameters.weight_place(&spec.name);
                match exempt.iter().any(|exempt| exempt.covers(parameters, i)) {
                    true => shares.exempt.push(place),
                    false => shares.decayed.push(place),
                }
            }
        }
        shares
    }

    /// Refuses a name in the list `field` that no trained tensor has; networks without biases or norms are none's
    /// mistake.
    ///
    /// # Errors
    /// Says which name.
    pub fn check(
        field: &'static str,
        parameters: &Parameters,
        exempt: &[Exempt],
    ) -> Result<(), Invalid> {
        let trained = |i: usize| parameters.specs()[i].role == Role::Weight;
        let unused = exempt.iter().find_map(|exempt| match exempt {
            Exempt::Named(part) => {
                let mut all = 0..parameters.specs().len();
                let found = all.any(|i| trained(i) && exempt.covers(parameters, i));
                (!found).then_some(part)
            }
            Exempt::Biases | Exempt::Norms => None,
        });
        match unused {
            None => Ok(()),
            Some(part) => Err(
                Invalid::new(field, format!("no trained tensor is named `{part}`"))
                    .help(remedy(part, parameters)),
            ),
        }
    }
}

/// What may have been meant by `part`, which is no part of the name of a trained tensor.
fn remedy(part: &str, parameters: &Parameters) -> String {
    let trained = || {
        let specs = parameters.specs().iter();
        specs
            .filter(|spec| spec.role == Role::Weight)
            .map(|spec| spec.name.as_str())
    };
    let mut names = BTreeSet::new();
    for name in trained() {
        let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
        for start in starts {
            let rest = &name[start..];
            let ends = rest.match_indices('.').map(|(at, _)| at);
            names.extend(ends.chain([rest.len()]).map(|end| &rest[..end]));
        }
    }
    match nearest(part, &Vec::from_iter(names)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let first = |name: &'_ str| name.split('.').next().unwrap_or_default().to_owned();
            let mut starts: Vec<_> = trained().map(first).collect();
            starts.dedup();
            starts.truncate(STARTS);
            format!(
                "give whole parts of a dotted name, such as `blocks.0`; names here start with `{}`",
                starts.join("`, `")
            )
        }
    }
}

/// First parts of names that a message shows.
const STARTS: usize = 8;

#[cfg(test)]
mod tests {
    use smallfry_nn::{init::Init, network::Spec};

    use super::*;

    fn parameters() -> Parameters {
        let tensor = |name: &str, shape: &[usize], role| Spec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            role,
            init: Init::Constant(0.0),
        };
        Parameters::new(vec![
            tensor("pos_embed", &[1, 2, 2], Role::Weight),
            tensor("conv.weight", &[2, 1, 1, 1], Role::Weight),
            tensor("conv.bias", &[2], Role::Weight),
            tensor("bn.weight", &[2], Role::Weight),
            tensor("bn.bias", &[2], Role::Weight),
            tensor("bn.running_mean", &[2], Role::Statistic),
            tensor("patch.weight", &[3, 1], Role::Frozen),
            tensor("fc.0.weight", &[1, 2], Role::Weight),
        ])
    }

    #[test]
    fn tensors_are_exempt_by_role_and_by_name() {
        let starts = |exempt: &[Exempt]| -> Vec<usize> {
            let shares = Shares::of(&parameters(), exempt);
            assert_eq!(shares.exempt.len() + shares.decayed.len(), 6);
            shares.exempt.iter().map(|range| range.start).collect()
        };
        let named = |part: &str| Exempt::Named(part.to_owned());
        // Places: pos_embed 0, conv 4 and 6, bn 8 and 10, patch 12, fc 15.
        for (exempt, expected) in [
            (&[][..], &[][..]),
            (&[Exempt::Biases], &[6, 10]),
            (&[Exempt::Norms], &[8, 10]),
            (&[Exempt::Biases, Exempt::Norms], &[6, 8, 10]),
            (&[named("pos_embed")], &[0]),
            (&[named("conv")], &[4, 6]),
            (&[named("fc.0"), named("conv.bias")], &[6, 15]),
            (&[named("f"), named("patch")], &[]),
        ] {
            assert_eq!(starts(exempt), expected, "{exempt:?}");
        }
    }

    #[test]
    fn a_name_that_no_trained_tensor_has_is_refused() {
        let check = |part: &str| {
            let exempt = [Exempt::Norms, Exempt::Named(part.to_owned())];
            Shares::check("no_decay", &parameters(), &exempt)
        };
        assert_eq!(check("bn"), Ok(()));
        let refusal = check("patch").expect_err("it is frozen");
        assert_eq!(refusal.field(), "no_decay");
        assert!(refusal.reason().contains("`patch`"));
        for (wrong, help) in [
            ("posembed", "did you mean `pos_embed`?"),
            ("conv.wieght", "did you mean `conv.weight`?"),
            ("fc.1", "did you mean `fc.0`?"),
            (
                "patch",
                "names here start with `pos_embed`, `conv`, `bn`, `fc`",
            ),
        ] {
            let said = remedy(wrong, &parameters());
            assert!(said.contains(help), "{wrong}: {said}");
        }
    }
}
