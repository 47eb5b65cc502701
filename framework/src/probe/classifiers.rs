//! What the loop of training asks of the classifiers that it trains, whatever lies below them.

use std::collections::BTreeMap;

use smallfry_data::loader::Cursor;

use super::figures::Figures;
use crate::{
    checkpoint::{Tensor, Values},
    failure::Failure,
    results::SetRecord,
    workplace::Workplace,
};

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Step of the epoch, from 0.
    pub index: usize,
    /// Steps before it, over all epochs.
    pub step: u64,
    /// Factor on all learning rates.
    pub factor: f64,
}

/// What a step came to.
#[derive(Debug, Default)]
pub struct Step {
    /// Figures of each classifier before the step.
    pub figures: Vec<Figures>,
    /// Images of the step.
    pub images: usize,
    /// Seconds that were spent waiting for them.
    pub waited: f64,
    /// Images that others stand in for: name and reason.
    pub replaced: Vec<(String, String)>,
}

/// Classifiers that learn side by side from the same images.
pub trait Classifiers {
    /// Gets ready to go on at `begin`.
    ///
    /// # Errors
    /// Images cannot be loaded.
    fn begin(&mut self, begin: Cursor) -> Result<(), Failure>;

    /// Samples of an epoch.
    fn samples(&self) -> usize;

    /// Takes the next step.
    ///
    /// # Errors
    /// Images cannot be loaded, or features are no numbers.
    fn step(&mut self, moment: Moment) -> Result<Step, Failure>;

    /// The figures of each classifier on the test images.
    ///
    /// # Errors
    /// The user stops, or no image can be read.
    fn judge(&mut self, workplace: &mut Workplace) -> Result<Vec<Figures>, Failure>;

    /// Makes sure that what is frozen is unchanged.
    ///
    /// # Errors
    /// It is not.
    fn check_frozen(&self) -> Result<(), Failure>;

    /// Whether the loss of classifier `i` was no number in some step; it takes no steps since.
    fn failed(&self, i: usize) -> bool;

    /// The tensors that classifier `i` has for itself, under the reference's names.
    fn own(&self, i: usize) -> Tensors;

    /// The tensors that all classifiers share, under the reference's names; none where each has its own backbone.
    fn shared(&self) -> Tensors;

    /// The velocities of the trained tensors of classifier `i`, under the tensors' names.
    fn velocity(&self, i: usize) -> Tensors;

    /// Gives classifier `i` what [`own`](Self::own), [`velocity`](Self::velocity) and [`failed`](Self::failed) gave.
    ///
    /// # Errors
    /// Says which tensor is missing or of another shape.
    fn restore(
        &mut self,
        i: usize,
        own: &Tensors,
        velocity: &Tensors,
        failed: bool,
    ) -> Result<(), String>;

    /// The training images and the test images that took part.
    fn records(&self) -> [SetRecord; 2];
}

/// The numbers of the tensor `name` of `tensors`, where it has `shape`.
///
/// # Errors
/// Says what is wrong.
pub(super) fn take<'a>(
    tensors: &'a Tensors,
    name: &str,
    shape: &[usize],
) -> Result<&'a [f32], String> {
    match tensors.get(name) {
        None => Err(format!("`{name}` is missing")),
        Some(Tensor {
            shape: own,
            values: Values::Float(values),
        }) if own == shape => Ok(values),
        Some(tensor) => Err(format!(
            "`{name}` is {}, not F32 {shape:?}",
            tensor.describe()
        )),
    }
}
