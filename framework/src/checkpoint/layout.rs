//! How other programs lay encoders out in their files, and what they call the tensors.
//!
//! Two questions are independent. A [`Program`] puts an encoder behind a prefix (`module.encoder_q.`), whatever its
//! architecture; a [`Naming`] calls the tensors of one architecture otherwise than the reference does, whatever stands
//! before them. Both are tables, and `find` tries all pairs: the one under which most tensors of the wanted network
//! are found is taken, the first of equals. Plugins add to either table by `inventory::submit!`.
//!
//! Equal shapes are not equal networks. Where a library's network of the same name computes something else, it stands
//! in the table of [`Stranger`]s, and its files are refused with the reason.

mod efficientnet;
mod mobilenet_v3;
mod program;
mod resnet;
mod rule;

use std::{collections::BTreeMap, ops::Bound};

use smallfry_nn::network::Spec;

pub use program::{Place, Program};
pub use rule::{CountBlocks, Naming, Stages};

/// A library whose names a network can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// torchvision.
    Torchvision,
    /// timm, PyTorch Image Models.
    Timm,
}

impl Library {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
        }
    }
}

/// A network of a library that has the shapes of one of ours but computes something else.
#[derive(Clone, Copy, Debug)]
pub struct Stranger {
    /// Whose it is.
    pub library: Library,
    /// A tensor that every network of ours in this family has.
    pub family: &'static str,
    /// Tensors by which files of the stranger are known.
    pub marks: &'static [&'static str],
    /// What is different, after "whose networks of this kind".
    pub differs: &'static str,
}

inventory::collect!(Program);
inventory::collect!(Naming);

/// The networks that are not what they look like.
const STRANGERS: [Stranger; 3] = [
    mobilenet_v3::TORCHVISION,
    mobilenet_v3::TIMM,
    efficientnet::TORCHVISION,
];

/// The reference's own names.
const REFERENCE: Naming = Naming {
    name: "",
    family: "",
    libraries: &[],
    rules: &[],
    stages: None,
    remark: None,
};

/// All namings, the reference's first.
fn namings() -> impl Iterator<Item = &'static Naming> {
    let known = [
        &REFERENCE,
        &resnet::LIBRARIES,
        &resnet::SIMCLR,
        &resnet::SEQUENTIAL,
    ];
    let added = sorted(inventory::iter::<Naming>.into_iter(), |naming| naming.name);
    known.into_iter().chain([&efficientnet::TIMM]).chain(added)
}

/// All programs, the most wanted first.
fn programs() -> impl Iterator<Item = &'static Program> {
    let added = sorted(inventory::iter::<Program>.into_iter(), |program| {
        program.name
    });
    program::KNOWN.iter().chain(added)
}

/// Plugins come in no order; by name they come in the same at every start.
fn sorted<T>(
    items: impl Iterator<Item = &'static T>,
    name: impl Fn(&T) -> &'static str,
) -> Vec<&'static T> {
    let mut items: Vec<_> = items.collect();
    items.sort_by_key(|item| name(item));
    items
}

/// Where a network was found in a file.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The program that wrote it, as far as can be told; empty for a bare state dict.
    pub program: String,
    /// What the encoder is called there, such as `teacher`; empty where there is only one.
    pub encoder: String,
    /// What stands before the network's names.
    pub prefix: String,
    /// How the names of the network go on.
    pub naming: &'static Naming,
    /// The stages of the network, where the naming counts by them.
    pub stages: Stages,
    /// Tensors of the network that are there.
    pub matches: usize,
}

impl Found {
    /// The file's name of the reference's tensor `name`.
    pub fn file_name(&self, name: &str) -> String {
        self.prefix.clone() + &self.naming.write(name, &self.stages)
    }

    /// The reference's name of a tensor that stands behind the prefix.
    pub fn reference_name(&self, inner: &str) -> String {
        self.naming.read(inner, &self.stages)
    }
}

/// Looks for the network with the tensors `specs` among `names`.
///
/// Of a program with several encoders the one that it evaluates is taken, and that called `wanted` where one is asked
/// for. `evaluated` is what the file itself says of that.
pub(super) fn find<T>(
    names: &BTreeMap<String, T>,
    specs: &[Spec],
    wanted: Option<&str>,
    evaluated: Option<&str>,
) -> Option<Found> {
    if wanted.is_some() {
        return search(names, specs, wanted);
    }
    evaluated
        .and_then(|evaluated| search(names, specs, Some(evaluated)))
        .or_else(|| search(names, specs, None))
}

fn search<T>(names: &BTreeMap<String, T>, specs: &[Spec], wanted: Option<&str>) -> Option<Found> {
    let mut best: Option<Found> = None;
    let mut consider = |program: &str, encoder: &str, prefix: String| {
        if !is_prefix(names, &prefix) {
            return;
        }
        for naming in namings().filter(|naming| naming.suits(specs)) {
            let stages = naming.stages_of(specs);
            let matches = count(names, specs, &prefix, naming, &stages);
            if matches > best.as_ref().map_or(0, |best| best.matches) {
                best = Some(Found {
                    program: program.to_owned(),
                    encoder: encoder.to_owned(),
                    prefix: prefix.clone(),
                    naming,
                    stages,
                    matches,
                });
            }
        }
    };
    for program in programs().filter(|program| program.marked(names)) {
        for place in program.places {
            let asked = match wanted {
                Some(wanted) => place.encoder == wanted,
                None => place.evaluated,
            };
            if asked {
                for wrapper in program::WRAPPERS {
                    let prefix = format!("{wrapper}{}", place.prefix);
                    consider(program.name, place.encoder, prefix);
                }
            }
        }
    }
    if let Some(wanted) = wanted {
        // An encoder that no table knows, of a method that came later.
        for wrapper in program::WRAPPERS {
            consider("", wanted, format!("{wrapper}{wanted}."));
        }
    }
    best
}

/// The encoders besides the one that is evaluated under which the whole network can be found.
pub(super) fn alternatives<T>(names: &BTreeMap<String, T>, specs: &[Spec]) -> Vec<&'static str> {
    let mut encoders: Vec<&str> = Vec::new();
    let places = programs().flat_map(|program| program.places);
    for place in places.filter(|place| !place.evaluated) {
        let found = find(names, specs, Some(place.encoder), None);
        let weights = specs.iter().filter(|spec| !spec.shape.is_empty()).count();
        if found.is_some_and(|found| found.matches >= weights) && !encoders.contains(&place.encoder)
        {
            encoders.push(place.encoder);
        }
    }
    encoders
}

/// The stranger whose file this is, if the wanted network could be mistaken for it.
pub(super) fn stranger<T>(
    names: &BTreeMap<String, T>,
    specs: &[Spec],
) -> Option<&'static Stranger> {
    STRANGERS.iter().find(|stranger| {
        let has_mark = |mark: &&str| names.keys().any(|name| is_end(name, mark));
        has_family(specs, stranger.family) && stranger.marks.iter().all(has_mark)
    })
}

/// The naming of `library` for the network with the tensors `specs`.
///
/// # Errors
/// Says why the library has none.
pub(crate) fn naming_of(library: Library, specs: &[Spec]) -> Result<&'static Naming, String> {
    let named = |naming: &&Naming| naming.libraries.contains(&library) && naming.suits(specs);
    if let Some(naming) = namings().find(named) {
        return Ok(naming);
    }
    let stranger = STRANGERS
        .iter()
        .find(|stranger| stranger.library == library && has_family(specs, stranger.family));
    Err(match stranger {
        Some(stranger) => format!(
            "{} has no such network: its own of this kind {}",
            library.name(),
            stranger.differs
        ),
        None => format!("{} has no such network", library.name()),
    })
}

/// What stands before `name` in a file: a whole name, or the start of names where it ends in a dot.
pub(crate) fn wrapper<T>(names: &BTreeMap<String, T>, name: &str) -> Option<&'static str> {
    let there = |wrapper: &&str| {
        let full = format!("{wrapper}{name}");
        match name.ends_with('.') {
            true => is_prefix(names, &full),
            false => names.contains_key(&full),
        }
    };
    program::WRAPPERS.iter().copied().find(there)
}

/// A name without what wrappers put before it.
pub(crate) fn bare(name: &str) -> &str {
    let inner = |wrapper: &&str| name.strip_prefix(*wrapper);
    let inner = program::WRAPPERS.iter().filter_map(inner);
    inner.min_by_key(|inner| inner.len()).unwrap_or(name)
}

fn has_family(specs: &[Spec], family: &str) -> bool {
    specs.iter().any(|spec| spec.name == family)
}

fn is_end(name: &str, end: &str) -> bool {
    name.strip_suffix(end)
        .is_some_and(|start| start.is_empty() || start.ends_with('.'))
}

fn is_prefix<T>(names: &BTreeMap<String, T>, prefix: &str) -> bool {
    let mut from = names.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
    from.next()
        .is_some_and(|(name, _)| name.starts_with(prefix))
}

fn count<T>(
    names: &BTreeMap<String, T>,
    specs: &[Spec],
    prefix: &str,
    naming: &Naming,
    stages: &Stages,
) -> usize {
    let found = |spec: &&Spec| {
        let name = prefix.to_owned() + &naming.write(&spec.name, stages);
        names.contains_key(&name)
    };
    specs.iter().filter(found).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(names: &[&str]) -> Vec<Spec> {
        names
            .iter()
            .map(|name| Spec {
                name: (*name).to_owned(),
                shape: vec![1],
                role: smallfry_nn::network::Role::Weight,
                init: smallfry_nn::init::Init::Constant(0.0),
            })
            .collect()
    }

    fn names(names: &[&str]) -> BTreeMap<String, ()> {
        names.iter().map(|name| ((*name).to_owned(), ())).collect()
    }

    #[test]
    fn every_program_is_found_by_itself() {
        let specs = specs(&["conv1.weight", "layer1.0.conv1.weight"]);
        for (prefix, program, encoder) in [
            ("module.encoder_q.", "MoCo", "encoder_q"),
            ("encoder_q.", "MoCo", "encoder_q"),
            ("module.student.", "SEED", "student"),
            ("module.", "", ""),
            ("", "", ""),
            ("backbone.", "solo-learn or lightly", ""),
            ("encoder.", "solo-learn or lightly", ""),
            (
                "classy_state_dict.base_model.model.trunk._feature_blocks.",
                "VISSL",
                "",
            ),
            ("teacher.backbone.", "DINO", "teacher"),
        ] {
            let names = names(&specs.iter().map(|s| s.name.as_str()).collect::<Vec<_>>())
                .into_keys()
                .map(|name| (format!("{prefix}{name}"), ()))
                .collect();
            let found = find(&names, &specs, None, None).expect(prefix);
            assert_eq!(
                (
                    found.prefix.as_str(),
                    found.program.as_str(),
                    found.encoder.as_str()
                ),
                (prefix, program, encoder)
            );
            assert_eq!(found.matches, 2);
        }
    }

    #[test]
    fn other_encoders_are_for_those_who_ask() {
        let specs = specs(&["conv1.weight"]);
        let names = names(&["module.teacher.conv1.weight", "module.queue"]);
        assert!(find(&names, &specs, None, None).is_none());
        let found = find(&names, &specs, Some("teacher"), None).expect("it is there");
        assert_eq!(found.prefix, "module.teacher.");
        assert_eq!(alternatives(&names, &specs), ["teacher"]);
        assert!(find(&names, &specs, Some("encoder_k"), None).is_none());
    }

    #[test]
    fn prototypes_tell_swav() {
        let specs = specs(&["conv1.weight"]);
        let names = names(&["module.conv1.weight", "module.prototypes.weight"]);
        let found = find(&names, &specs, None, None).expect("it is there");
        assert_eq!(found.program, "SwAV");
        assert_eq!(found.prefix, "module.");
    }

    #[test]
    fn a_stranger_is_known_by_its_marks() {
        let specs = specs(&["features.0.0.weight", "features.1.conv.0.weight"]);
        let torchvision = names(&["features.0.0.weight", "features.1.block.0.0.weight"]);
        let stranger = stranger(&torchvision, &specs).expect("it is torchvision's");
        assert_eq!(stranger.library, Library::Torchvision);
        let refusal = naming_of(Library::Torchvision, &specs).unwrap_err();
        assert!(refusal.contains("squeeze-excite"), "{refusal}");
    }
}
