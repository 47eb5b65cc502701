//! What a result depends on, as text: hashed to recognise it, compared line by line to show what changed.

use std::fmt::Write;

use smallfry_data::Dataset;

use crate::plan::{Evaluate, Extent, Pretrain, Probe, StepRule, Subject};

/// The text of everything that training depends on. Number of checkpoints kept and places of output are left out.
pub fn pretrain(stage: &Pretrain, seed: u64, data: &dyn Dataset) -> String {
    let mut text = String::new();
    field(&mut text, "seed", &seed.to_string());
    field(&mut text, "data", &stage.data.resolved);
    field(&mut text, "manifest", &manifest(data));
    field(&mut text, "backbone", &stage.backbone.resolved);
    field(&mut text, "objective", &stage.objective.resolved);
    if let Some(joint) = &stage.joint {
        field(&mut text, "joint", &joint.resolved);
    }
    for (i, view) in stage.views.iter().enumerate() {
        for augmentation in view {
            field(
                &mut text,
                &format!("view {}", i + 1),
                &augmentation.resolved,
            );
        }
    }
    field(&mut text, "optimizer", &stage.optimizer.resolved);
    field(&mut text, "schedule", &stage.schedule.resolved);
    field(&mut text, "epochs", &stage.epochs.to_string());
    field(&mut text, "batch", &stage.batch.to_string());
    let StepRule { accumulate, clip } = stage.step;
    if accumulate != 1 {
        field(&mut text, "accumulate", &accumulate.to_string());
    }
    if let Some(clip) = clip {
        field(&mut text, "clip", &format!("{clip:?}"));
    }
    text
}

/// The line of what training starts from, where not from random weights; `identity` identifies its content.
pub fn initial(extent: Extent, identity: &str) -> String {
    let mut text = String::new();
    let value = format!("{:?} of {identity}", extent);
    field(&mut text, "initial", &value);
    text
}

/// The text of everything that an evaluation depends on; `weights` identifies the weights by their contents, `train` and
/// `test` the images.
pub fn evaluate(
    stage: &Evaluate,
    seed: u64,
    weights: &str,
    train: Option<String>,
    test: String,
) -> String {
    let mut text = String::new();
    field(&mut text, "seed", &seed.to_string());
    text += &subject(&stage.subject, weights);
    if let Some(train) = train {
        field(&mut text, "train", &train);
    }
    field(&mut text, "test", &test);
    field(&mut text, "size", &format!("{:?}", stage.size));
    field(&mut text, "resize", &format!("{:?}", stage.resize));
    for metric in &stage.metrics {
        field(&mut text, "metric", &metric.resolved);
        if let Some(identity) = metric.identity() {
            field(&mut text, "by", &identity);
        }
    }
    text
}

/// The lines that identify a judged network; `weights` identifies the weights by their contents.
pub fn subject(subject: &Subject, weights: &str) -> String {
    let mut text = String::new();
    field(&mut text, "backbone", &subject.backbone.resolved);
    field(&mut text, "weights", weights);
    if let Some(encoder) = &subject.encoder {
        field(&mut text, "encoder", encoder);
    }
    text
}

/// The text of everything that classifiers depend on; `weights`, `train` and `test` identify those by their contents.
pub fn probe(stage: &Probe, seed: u64, weights: &str, train: &str, test: &str) -> String {
    let mut text = String::new();
    field(&mut text, "seeds", &format!("{:?}", stage.seeds.of(seed)));
    text += &subject(&stage.subject, weights);
    field(&mut text, "train", train);
    field(&mut text, "test", test);
    field(&mut text, "mode", &format!("{:?}", stage.mode));
    field(&mut text, "normalize", &stage.normalize.to_string());
    field(
        &mut text,
        "learning_rates",
        &format!("{:?}", stage.learning_rates),
    );
    field(&mut text, "momentum", &format!("{:?}", stage.momentum));
    field(
        &mut text,
        "weight_decay",
        &format!("{:?}", stage.weight_decay),
    );
    field(&mut text, "schedule", &stage.schedule.resolved);
    for augmentation in &stage.view {
        field(&mut text, "view", &augmentation.resolved);
    }
    field(&mut text, "size", &format!("{:?}", stage.size));
    field(&mut text, "resize", &format!("{:?}", stage.resize));
    field(&mut text, "bicubic", &format!("{:?}", stage.bicubic));
    field(&mut text, "epochs", &stage.epochs.to_string());
    field(&mut text, "batch", &stage.batch.to_string());
    text
}

/// Number of samples, and a hash of their names and labels in order.
pub fn manifest(data: &dyn Dataset) -> String {
    let mut hasher = blake3::Hasher::new();
    for sample in 0..data.len() {
        let label = data.label(sample).map_or(-1, i64::from);
        hasher.update(&label.to_le_bytes());
        let name = data.name(sample);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    format!(
        "{} samples, {}",
        data.len(),
        &hasher.finalize().to_hex()[..16]
    )
}

/// The hash of a fingerprint, as 64 hexadecimal digits.
pub fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Adds a line.
pub fn field(text: &mut String, name: &str, value: &str) {
    writeln!(text, "{name}: {value}").expect("a string takes any text");
}

/// The fields of a fingerprint in order, with their values: the rest of the line, and the indented lines after.
pub fn fields(config: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in config.lines() {
        match (fields.last_mut(), line.split_once(": ")) {
            (Some((_, value)), _) if line.starts_with([' ', ')', '}', ']']) => {
                value.push('\n');
                value.push_str(line);
            }
            (_, Some((name, value))) => fields.push((name.to_owned(), value.to_owned())),
            _ => {}
        }
    }
    fields
}

/// What a fingerprint, as checkpoints keep it, says of `field`, where it stands first.
pub fn configured(config: &str, field: &str) -> Option<String> {
    let mut all = fields(config).into_iter();
    all.find_map(|(name, value)| (name == field).then_some(value))
}

/// The lines that differ, `-` those of `before` and `+` those of `after`, in order.
pub fn difference(before: &str, after: &str) -> String {
    let (a, b): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    // Lengths of the longest common subsequences of the tails.
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("- {}", a[i].trim_end()));
            i += 1;
        } else {
            lines.push(format!("+ {}", b[j].trim_end()));
            j += 1;
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_field_by_field() {
        let text = "seed: 1\nbackbone: resnet18\nobjective: MoCo(\n    dim: 128,\n)\nbatch: 8\n";
        for (name, value) in [
            ("seed", Some("1")),
            ("backbone", Some("resnet18")),
            ("objective", Some("MoCo(\n    dim: 128,\n)")),
            ("batch", Some("8")),
            ("dim", None),
        ] {
            assert_eq!(configured(text, name).as_deref(), value, "{name}");
        }
    }

    #[test]
    fn differences_are_shown_line_by_line() {
        for (before, after, shown) in [
            ("a\nb\nc", "a\nb\nc", ""),
            ("a\nb\nc", "a\nB\nc", "- b\n+ B"),
            ("a\nc", "a\nb\nc\nd", "+ b\n+ d"),
            ("a\nb", "", "- a\n- b"),
        ] {
            assert_eq!(difference(before, after), shown);
        }
    }
}
