//! The stage `Probe(..)`: classifiers on the features of an encoder.
//!
//! Numbers are the reference's (`main_lincls.py`, `main_transfer.py`); its learning rate of 30 is a default of linear
//! classifiers alone, since the reference's own runs of whole networks give another.

use serde::Deserialize;

use super::{
    Stages,
    fields::{Fields, Reader, example},
    images, layout, pretrain, subject,
};
use crate::{
    Augmentation,
    checkpoint::cadence::Save,
    plan::{FeatureSource, Normalize, Probe, ProbeMode, Seeds, Stage, TrainMode},
    registry::Built,
    source::quoted,
};

/// Images in a batch.
const BATCH: usize = 256;

/// Passes over the training images.
const EPOCHS: usize = 100;

/// Learning rate of linear classifiers.
const RATE: f64 = 30.0;

/// Share of the velocity that is kept.
const MOMENTUM: f64 = 0.9;

/// Reads stage `i`; gives it with its resolved text.
pub(super) fn read(reader: &mut Reader, stages: &Stages, i: usize) -> Option<(Stage, String)> {
    let mut fields = stages.open(reader, &stages.outlines[i], "Probe");
    let site = fields.site();
    let name = fields.name("probe");
    let subject = subject::read(&mut fields, stages, i);
    let train = images::required(&mut fields, stages, i, "train");
    let test = images::required(&mut fields, stages, i, "test");
    let mode = mode(&mut fields);
    let normalize = normalize(&mut fields, mode);
    let learning_rates = learning_rates(&mut fields, mode);
    let momentum = number(&mut fields, "momentum", MOMENTUM, 0.0..1.0);
    let weight_decay = number(&mut fields, "weight_decay", 0.0, 0.0..f64::INFINITY);
    let schedule = fields.plugin("schedule");
    let view = view(&mut fields, mode);
    let size = fields.optional_count("size", "224");
    let resize = fields.optional_count("resize", "256");
    let bicubic = fields.optional::<Option<bool>>("bicubic", "true").flatten();
    let seeds = seeds(&mut fields);
    let epochs = fields.count("epochs", Some(EPOCHS), "100");
    let batch = fields.count("batch", Some(BATCH), "256");
    let save = fields
        .optional::<Save>("save", "Save(minutes: 10)")
        .unwrap_or_default();
    if let Err(reason) = save.check() {
        fields.refuse("save", reason);
    }
    fields.finish();
    let (subject, written) = subject?;
    let stage = Probe {
        name,
        subject,
        train: train?,
        test: test?,
        mode: mode?,
        normalize: normalize?,
        learning_rates: learning_rates?,
        momentum: momentum?,
        weight_decay: weight_decay?,
        schedule: schedule?,
        view: view?,
        size,
        resize,
        bicubic,
        seeds: seeds?,
        batch,
        epochs,
        save,
        site,
    };
    let lines = resolved(&stage, written);
    Some((Stage::Probe(stage), layout::block("Probe", &lines)))
}

/// The stage with every default filled in; `subject` is how its network is written.
fn resolved(stage: &Probe, subject: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    let mut lines = vec![("name", quoted(&stage.name))];
    lines.extend(subject);
    lines.push(("train", stage.train.resolved()));
    lines.push(("test", stage.test.resolved()));
    match stage.mode {
        ProbeMode::Linear(source) => {
            lines.push(("mode", "Linear".to_owned()));
            lines.push(("features", format!("{source:?}")));
        }
        ProbeMode::Finetune(mode) => {
            lines.push(("mode", "Finetune".to_owned()));
            lines.push(("train_mode", format!("{mode:?}")));
        }
    }
    let rates: Vec<_> = stage
        .learning_rates
        .iter()
        .map(|r| format!("{r:?}"))
        .collect();
    lines.extend([
        ("normalize", stage.normalize.to_string()),
        ("learning_rates", format!("[{}]", rates.join(", "))),
        ("momentum", format!("{:?}", stage.momentum)),
        ("weight_decay", format!("{:?}", stage.weight_decay)),
        ("schedule", stage.schedule.resolved.clone()),
    ]);
    if !stage.view.is_empty() {
        let view = stage.view.iter().map(|built| built.resolved.as_str());
        lines.push(("view", layout::list(view)));
    }
    for (name, value) in [("size", stage.size), ("resize", stage.resize)] {
        lines.extend(value.map(|value| (name, value.to_string())));
    }
    lines.extend(
        stage
            .bicubic
            .map(|bicubic| ("bicubic", bicubic.to_string())),
    );
    lines.push(match &stage.seeds {
        Seeds::Repeats(repeats) => ("repeats", repeats.to_string()),
        Seeds::Given(seeds) => ("seeds", format!("{seeds:?}")),
    });
    lines.extend([
        ("epochs", stage.epochs.to_string()),
        ("batch", stage.batch.to_string()),
        ("save", pretrain::written_save(&stage.save)),
    ]);
    lines
}

/// What is trained: `mode`, and the field that belongs to it.
fn mode(fields: &mut Fields<'_>) -> Option<ProbeMode> {
    #[derive(Default, Deserialize)]
    #[serde(rename = "mode")]
    enum Written {
        #[default]
        Linear,
        Finetune,
    }
    let mode = match fields.field("mode") {
        Some(_) => fields.optional::<Written>("mode", "Linear")?,
        None => Written::default(),
    };
    let (source, train_mode) = (fields.field("features"), fields.field("train_mode"));
    match mode {
        Written::Linear => {
            if train_mode.is_some() {
                fields.refuse("train_mode", "is for `mode: Finetune`");
            }
            let source = match source {
                Some(_) => fields.optional::<FeatureSource>("features", "Passes(4)")?,
                None => FeatureSource::default(),
            };
            if source == FeatureSource::Passes(0) {
                fields.refuse("features", "must be at least one pass");
            }
            Some(ProbeMode::Linear(source))
        }
        Written::Finetune => {
            if source.is_some() {
                fields.refuse("features", "is for `mode: Linear`").help =
                    Some("a network that learns gives other features in every step".to_owned());
            }
            let train_mode = match train_mode {
                Some(_) => fields.optional::<TrainMode>("train_mode", "Proper")?,
                None => TrainMode::default(),
            };
            Some(ProbeMode::Finetune(train_mode))
        }
    }
}

/// `normalize: true`, `false` or `Both`.
fn normalize(fields: &mut Fields<'_>, mode: Option<ProbeMode>) -> Option<Normalize> {
    let Some(field) = fields.field("normalize") else {
        return Some(Normalize::default());
    };
    let word = fields.reader.source.slice(&field.value).to_owned();
    match (word.as_str(), mode) {
        ("false", _) => Some(Normalize::No),
        ("true", _) => Some(Normalize::Yes),
        ("Both", Some(ProbeMode::Finetune(_))) => {
            fields.refuse(
                "normalize",
                "must be `true` or `false` for `mode: Finetune`",
            );
            None
        }
        ("Both", _) => Some(Normalize::Both),
        _ => {
            fields.refuse("normalize", "must be `true`, `false` or `Both`");
            None
        }
    }
}

/// At least one number above 0, each once.
fn learning_rates(fields: &mut Fields<'_>, mode: Option<ProbeMode>) -> Option<Vec<f64>> {
    let name = "learning_rates";
    if fields.field(name).is_none() && matches!(mode, Some(ProbeMode::Linear(_))) {
        return Some(vec![RATE]);
    }
    let rates = fields.required::<Vec<f64>>(name, "[0.01]")?;
    let wrong = if rates.is_empty() {
        "needs at least one rate"
    } else if rates.iter().any(|rate| !(*rate > 0.0 && rate.is_finite())) {
        "must be above 0"
    } else if (1..rates.len()).any(|i| rates[..i].contains(&rates[i])) {
        "has the same rate twice"
    } else {
        return Some(rates);
    };
    fields.refuse(name, wrong);
    None
}

/// A number within `range`.
fn number(
    fields: &mut Fields<'_>,
    name: &'static str,
    default: f64,
    range: std::ops::Range<f64>,
) -> Option<f64> {
    let value = match fields.field(name) {
        Some(_) => fields.optional::<f64>(name, &format!("{default:?}"))?,
        None => default,
    };
    if range.contains(&value) {
        return Some(value);
    }
    let reason = match range.end.is_finite() {
        true => format!("must be at least {} and below {}", range.start, range.end),
        false => format!("must be at least {}", range.start),
    };
    fields.refuse(name, &reason);
    None
}

/// The augmentations of training images, where there are some.
fn view(fields: &mut Fields<'_>, mode: Option<ProbeMode>) -> Option<Vec<Built<dyn Augmentation>>> {
    let plain = mode == Some(ProbeMode::Linear(FeatureSource::Centre));
    let Some(field) = fields.field("view") else {
        if !plain {
            fields.missing("view", &example::<dyn Augmentation>());
        }
        return plain.then(Vec::new);
    };
    if plain {
        fields.refuse(
            "view",
            "is not for `features: Centre`, which augments nothing",
        );
        return None;
    }
    let items = fields.items(&field, "augmentations")?;
    let built: Vec<_> = items.iter().map(|item| fields.reader.build(item)).collect();
    built.into_iter().collect()
}

/// `seeds: [1, 2]` or `repeats: 2`; one start where neither is given.
fn seeds(fields: &mut Fields<'_>) -> Option<Seeds> {
    let (seeds, repeats) = (fields.field("seeds"), fields.field("repeats"));
    match (seeds, repeats) {
        (Some(_), Some(_)) => {
            fields.refuse(
                "repeats",
                "is given beside `seeds`, which says how many already",
            );
            None
        }
        (Some(_), None) => {
            let seeds = fields.optional::<Vec<u64>>("seeds", "[1, 2, 3]")?;
            let wrong = if seeds.is_empty() {
                "needs at least one seed"
            } else if (1..seeds.len()).any(|i| seeds[..i].contains(&seeds[i])) {
                "has the same seed twice"
            } else {
                return Some(Seeds::Given(seeds));
            };
            fields.refuse("seeds", wrong);
            None
        }
        (None, _) => Some(Seeds::Repeats(fields.count("repeats", Some(1), "5"))),
    }
}
