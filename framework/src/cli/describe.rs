//! `describe NAME`: all about one plugin.

use std::{fmt::Write, path::Path};

use smallfry_nn::network::{Role, Spec};

use super::Refusal;
use crate::{
    Augmentation, Backbone, Head, JointAugmentation, Objective, Optimizer,
    failure::Failure,
    registry::{Context, Entry, Kind, entries, find, for_each_kind, one},
    source::explain::suggest,
    text::grouped,
};

/// Classes of ImageNet, which numbers of parameters in papers include a layer for.
const CLASSES: usize = 1000;

pub(super) fn describe(name: &str) -> Result<String, Refusal> {
    let texts: Vec<String> = for_each_kind!(text(name)).into_iter().flatten().collect();
    if !texts.is_empty() {
        return Ok(texts.join("\n"));
    }
    let known: Vec<_> = for_each_kind!(names()).into_iter().flatten().collect();
    let failure = Failure::mistake(format!("no plugin is named `{name}`"));
    let help = match suggest(name, &known) {
        near if near.starts_with("did") => near,
        _ => "`list` shows those there are".to_owned(),
    };
    Err(failure.help(help).into())
}

fn names<K: Kind + ?Sized>() -> Vec<&'static str> {
    entries::<K>().iter().map(|entry| entry.name).collect()
}

fn text<K: Kind + ?Sized>(name: &str) -> Option<String> {
    let entry = find::<K>(name)?;
    let mut text = format!(
        "{}: {}\n{} from the crate {} {}\n",
        entry.name,
        entry.about,
        one(K::LABEL),
        entry.origin,
        entry.version
    );
    let facts = facts(name);
    if !facts.is_empty() {
        text.push('\n');
    }
    for (heading, value) in facts {
        let _ = writeln!(text, "{heading:<12} {value}");
    }
    let _ = writeln!(text, "\n{}", (entry.defaults)());
    Some(text)
}

/// What a plugin with default parameters says of itself, by the kind that has the name.
fn facts(name: &str) -> Vec<(&'static str, String)> {
    let backbone = built::<dyn Backbone>(name).map(|backbone| backbone_facts(&*backbone));
    let augmentation = built::<dyn Augmentation>(name).and_then(|augmentation| {
        let size = augmentation.size()?;
        Some(vec![("leaves", format!("{size} × {size} pixels"))])
    });
    let joint = built::<dyn JointAugmentation>(name).map(|joint| joint_facts(&*joint));
    let objective = built::<dyn Objective>(name)
        .map(|objective| vec![("views", format!("{} of each image", objective.views()))]);
    let optimizer =
        built::<dyn Optimizer>(name).map(|optimizer| vec![("rate", optimizer.rate().to_string())]);
    [backbone, augmentation, joint, objective, optimizer]
        .into_iter()
        .flatten()
        .flatten()
        .collect()
}

fn joint_facts(joint: &dyn JointAugmentation) -> Vec<(&'static str, String)> {
    let views = (joint.views()).map_or("any number".to_owned(), |views| views.to_string());
    let mut facts = vec![("views", format!("{views} of each image"))];
    facts.extend((joint.size()).map(|size| ("leaves", format!("{size} × {size} pixels in each"))));
    if !joint.measures().is_empty() {
        facts.push(("tells", joint.measures().join(", ")));
    }
    facts
}

fn built<K: Kind + ?Sized>(name: &str) -> Option<std::sync::Arc<K>> {
    let context = Context {
        folder: Path::new("."),
    };
    let entry: &Entry<K> = find::<K>(name)?;
    Some(entry.build_default(&context).ok()?.plugin)
}

fn backbone_facts(backbone: &dyn Backbone) -> Vec<(&'static str, String)> {
    let look = backbone.preprocessing();
    let filter = match look.bicubic {
        true => "bicubic",
        false => "bilinear",
    };
    let tensors = backbone.tensors();
    let parameters = count(&tensors, &[Role::Weight, Role::Frozen]);
    let frozen = count(&tensors, &[Role::Frozen]);
    let three = |values: [f32; 3]| values.map(|value| value.to_string()).join(" ");
    let mut facts = vec![
        ("features", grouped(backbone.width())),
        (
            "parameters",
            format!("{} (without a head)", grouped(parameters)),
        ),
    ];
    if frozen > 0 {
        let text = format!(
            "{} of the parameters, which stay as they start",
            grouped(frozen)
        );
        facts.push(("frozen", text));
    }
    facts.push(head_facts(backbone, parameters));
    facts.extend(cost(backbone));
    facts.extend([
        (
            "input",
            format!(
                "{size} × {size} pixels, cropped from a shorter side of {} ({filter})",
                look.resize,
                size = look.size
            ),
        ),
        ("mean", three(look.mean)),
        ("deviation", three(look.deviation)),
    ]);
    facts
}

/// What the features of an image of the network's own size cost.
fn cost(backbone: &dyn Backbone) -> Option<(&'static str, String)> {
    let size = backbone.preprocessing().size;
    let work = backbone.network(&Head::default())?.work(size, size).ok()?;
    let sum: usize = work.iter().map(|work| work.multiply_adds).sum();
    let text = format!(
        "{} million multiply-adds an image",
        grouped(sum / 1_000_000)
    );
    Some(("cost", text))
}

/// What the network has behind its features: a head of its own, or the layer that papers count, for ImageNet's classes.
fn head_facts(backbone: &dyn Backbone, parameters: usize) -> (&'static str, String) {
    let own = backbone.own_head();
    let Some((head, network)) = own.and_then(|head| {
        let network = backbone.network(&head)?;
        Some((head, network))
    }) else {
        let with = parameters + (backbone.width() + 1) * CLASSES;
        let text = format!(
            "{} parameters with a layer for {} classes",
            grouped(with),
            grouped(CLASSES)
        );
        return ("classifier", text);
    };
    let length = match head.unit_length {
        true => " of length 1",
        false => "",
    };
    let with = count(&network.tensors(), &[Role::Weight, Role::Frozen]);
    let text = format!(
        "{} numbers{length}; {} parameters with it",
        grouped(network.width()),
        grouped(with)
    );
    ("own head", text)
}

/// Numbers in the tensors that have one of `roles`.
fn count(tensors: &[Spec], roles: &[Role]) -> usize {
    let counted = tensors.iter().filter(|spec| roles.contains(&spec.role));
    counted.map(Spec::len).sum()
}
