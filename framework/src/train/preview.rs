//! Sample views: pictures of some images and of what augmentation makes of them, for the report.
//!
//! They are read back from the normalised floats of the first batch, so they show what the network is given.

use std::{fs, sync::Arc};

use smallfry_data::{
    Dataset, Image, View,
    encode::jpeg,
    loader::{Cursor, Part},
    operation::resize::Filter,
};

use super::{Training, batches::Batches};
use crate::{
    backbone::Preprocessing,
    checkpoint::write_atomically,
    encoder::ImageBatch,
    failure::{Failure, disk},
    workplace::Workplace,
};

/// Images shown.
const SHOWN: usize = 8;

/// The longer side of an original in the report, in pixels.
const LONGER: usize = 256;

/// Writes `samples/<stage>/<row>-original.jpg` and `<row>-view-<v>.jpg`, unless they exist.
///
/// # Errors
/// No image can be read, or the folder cannot be written.
pub fn write(
    training: &Training,
    data: &Arc<dyn Dataset>,
    workplace: &Workplace,
) -> Result<(), Failure> {
    let folder = workplace.folder.path("samples").join(&training.stage.name);
    if folder.exists() {
        return Ok(());
    }
    let Some(batch) = Batches::start(
        training.stage,
        training.setup.seed,
        data.clone(),
        Cursor::default(),
        Part::WHOLE,
    )?
    .next()
    .transpose()?
    else {
        return Ok(());
    };
    // Pictures of a run that was killed here are made again: the folder gets its name when it is whole.
    let partial = folder.with_file_name(format!("{}.partial", training.stage.name));
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).map_err(|error| disk("make", &partial, &error))?;
    let preprocessing = training.stage.backbone.plugin.preprocessing();
    for (row, &sample) in batch.samples.iter().take(SHOWN).enumerate() {
        for (v, view) in batch.views.iter().enumerate() {
            let path = partial.join(format!("{row}-view-{}.jpg", v + 1));
            write_atomically(&path, &jpeg(&picture(view, row, &preprocessing)))?;
        }
        let Ok(image) = data.load(sample) else {
            continue;
        };
        let mut view = View::of(&image);
        let longer = image.width.max(image.height);
        if longer > LONGER {
            let scaled = |side: usize| (side * LONGER / longer).max(1);
            view.resize(scaled(image.width), scaled(image.height), Filter::Bilinear);
        }
        let path = partial.join(format!("{row}-original.jpg"));
        write_atomically(&path, &jpeg(view.image()))?;
    }
    fs::rename(&partial, &folder).map_err(|error| disk("make", &folder, &error))
}

/// Row `row` of a batch as pixels again.
fn picture(batch: &ImageBatch, row: usize, preprocessing: &Preprocessing) -> Image {
    let length = 3 * batch.height * batch.width;
    let values = &batch.values[row * length..(row + 1) * length];
    let pixels = values
        .iter()
        .enumerate()
        .map(|(i, value)| {
            let full = value * preprocessing.deviation[i % 3] + preprocessing.mean[i % 3];
            (255.0 * full).round().clamp(0.0, 255.0) as u8
        })
        .collect();
    Image {
        width: batch.width,
        height: batch.height,
        pixels,
    }
}
