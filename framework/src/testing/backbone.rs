//! What a backbone must do.

use std::sync::Arc;

use dfdx::tensor_ops::{Backward, MeanTo};
use smallfry_nn::{network::Role, parameter::Values};

use super::{finite, noise};
use crate::{
    Backbone, Encoder, Head,
    encoder::ImageBatch,
    tensor::{Features, Plain, values},
};

/// Images in a batch of the checks; their side in pixels, where the network takes images of any size.
const BATCH: usize = 4;
const SIDE: usize = 64;
/// The most parameters of a network that is run; of a larger one, whose copies would fill the memory of a small machine,
/// only the description is checked.
const LARGEST: usize = 30_000_000;

/// A batch of noise.
pub(super) fn images(seed: u64, batch: usize) -> Arc<ImageBatch> {
    images_of(seed, batch, SIDE)
}

fn images_of(seed: u64, batch: usize, side: usize) -> Arc<ImageBatch> {
    Arc::new(ImageBatch {
        batch,
        height: side,
        width: side,
        values: noise(seed, batch * side * side * 3),
    })
}

/// What is wrong with `backbone`: widths, repeatability, gradients, and that its saved tensors are all of its state.
pub fn backbone_faults(backbone: &dyn Backbone) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |wrong: bool, text: String| {
        if wrong {
            faults.push(text);
        }
    };
    let look = backbone.preprocessing();
    fault(
        look.size == 0 || look.resize < look.size,
        format!("crops {} pixels from {}", look.size, look.resize),
    );
    let described = backbone.network(&Head::default());
    let mut side = SIDE;
    if let Some(network) = &described {
        let impossible = network.outputs(look.size, look.size).err();
        fault(
            impossible.is_some(),
            format!("cannot take images of its own size: {impossible:?}"),
        );
        fault(
            network.width() != backbone.width(),
            format!(
                "says {} features, its description {}",
                backbone.width(),
                network.width()
            ),
        );
        if let Some(head) = backbone.own_head() {
            let whole = backbone
                .network(&head)
                .map(|network| network.outputs(look.size, look.size));
            fault(
                !matches!(whole, Some(Ok(_))),
                format!("does not fit its own head: {whole:?}"),
            );
        }
        if network.outputs(SIDE, SIDE).is_err() {
            side = look.size;
        }
        let parameters: usize = network.tensors().iter().map(|spec| spec.len()).sum();
        if parameters > LARGEST {
            eprintln!("LEFT OUT: running a network of {parameters} parameters");
            return faults;
        }
    }
    let images = images_of(1, BATCH, side);
    let mut encoder = backbone.encoder(&Head::default(), 1);
    let embed = |encoder: &mut Box<dyn Encoder>| encoder.embed(&images);
    let features: Plain<Features> = embed(&mut encoder);
    let before = values(&features).into_owned();
    fault(
        encoder.width() != backbone.width() || before.len() != BATCH * backbone.width(),
        format!(
            "says {} features, its encoder {}, and gives {}",
            backbone.width(),
            encoder.width(),
            before.len() / BATCH
        ),
    );
    fault(
        !finite(&before),
        "gives features that are no numbers".to_owned(),
    );
    fault(
        encoder.specs() != encoder.parameters().specs(),
        "its encoder lists other tensors than it has".to_owned(),
    );
    fault(
        values(&embed(&mut encoder)).as_ref() != before.as_slice(),
        "gives two results for the same images".to_owned(),
    );
    let same = values(&embed(&mut backbone.encoder(&Head::default(), 1))).into_owned();
    fault(
        same != before,
        "starts differently from the same seed".to_owned(),
    );
    let mut other = backbone.encoder(&Head::default(), 2);
    fault(
        values(&embed(&mut other)).as_ref() == before.as_slice(),
        "starts the same from two seeds".to_owned(),
    );

    encoder.parameters().clear_gradients();
    let embeddings = encoder.train(&images, 1);
    drop(embeddings.square().mean::<(), _>().backward());
    let parameters = encoder.parameters().clone();
    for spec in parameters.specs() {
        if spec.role != Role::Weight {
            continue;
        }
        let gradient = parameters.gradient(&spec.name);
        fault(
            !finite(gradient),
            format!("the gradient of `{}` is no number", spec.name),
        );
        fault(
            gradient.iter().all(|value| *value == 0.0),
            format!("`{}` gets no gradient", spec.name),
        );
    }

    // Everything that matters is in the saved tensors: another encoder filled with them does the same.
    let trained = values(&embed(&mut encoder)).into_owned();
    {
        let mut filled = other.parameters();
        for i in 0..parameters.specs().len() {
            match parameters.get(i) {
                Values::Float(saved) => filled.floats_mut(i).copy_from_slice(saved),
                Values::Integer(saved) => filled.set_counter(i, saved),
            }
        }
    }
    fault(
        values(&embed(&mut other)).as_ref() != trained.as_slice(),
        "has state beside its saved tensors".to_owned(),
    );
    faults
}
