//! What must hold for every plugin of every kind, checked over the registries: a plugin is tested by existing.
//!
//! A crate of plugins has one test, `#[test] fn plugins() { smallfry::testing::check_plugins() }`, in its folder
//! `tests/` with `use my_plugins as _;` at the top. Checks of single objects are public for plugins with parameters
//! that only their own tests know.

mod augmentation;
mod backbone;
mod joint;
mod metric;
mod objective;
mod optimizer;

use std::{
    collections::BTreeSet,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Arc,
};

pub use augmentation::augmentation_faults;
pub use backbone::backbone_faults;
pub use joint::joint_faults;
pub use metric::{Set, metric_faults};
pub use objective::objective_faults;
pub use optimizer::{optimizer_faults, schedule_faults};

use crate::{
    Augmentation, Backbone, DataSet, JointAugmentation, Metric, Objective, Optimizer, Schedule,
    registry::{self, Context, Entry, Kind, entries},
};

/// Checks every plugin that is linked into the test.
///
/// # Panics
/// With a list of everything that is wrong; if no plugin is linked at all.
pub fn check_plugins() {
    let (plugins, faults) = faults();
    assert!(
        plugins > 0,
        "no plugin is linked; add `use my_plugins as _;`"
    );
    assert!(
        faults.is_empty(),
        "{} faults in {plugins} plugins:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// The number of linked plugins, and what is wrong with them.
pub fn faults() -> (usize, Vec<String>) {
    let mut walk = Walk::default();
    walk.kind::<dyn DataSet>(|_, set| {
        // The default path leads nowhere or to something; either way the answer is a value.
        let _ = set.open();
        Vec::new()
    });
    walk.kind::<dyn Backbone>(|_, backbone| backbone_faults(backbone));
    walk.kind::<dyn Augmentation>(|entry, augmentation| {
        let mut faults = augmentation_faults(augmentation);
        if let Some(never) = with(entry, "p", "0.0") {
            faults.extend(augmentation::identity_faults(&*never));
        }
        faults
    });
    walk.kind::<dyn JointAugmentation>(|_, joint| joint_faults(joint));
    walk.kind::<dyn Objective>(|_, objective| {
        let backbones = entries::<dyn Backbone>();
        let built = backbones
            .first()
            .and_then(|entry| entry.build_default(&here()).ok());
        match built {
            Some(backbone) => objective_faults(objective, &*backbone.plugin),
            None => Vec::new(),
        }
    });
    walk.kind::<dyn Optimizer>(|_, optimizer| optimizer_faults(optimizer));
    walk.kind::<dyn Schedule>(|_, schedule| schedule_faults(schedule));
    walk.kind::<dyn Metric>(|_, metric| metric_faults(metric));
    (walk.plugins, walk.faults)
}

/// The context of a plugin without a file: the current folder.
fn here() -> Context<'static> {
    Context {
        folder: Path::new("."),
    }
}

#[derive(Default)]
struct Walk {
    plugins: usize,
    faults: Vec<String>,
}

impl Walk {
    /// Checks the plugins of one kind: what holds for all, and `more`.
    fn kind<K: Kind + ?Sized>(&mut self, more: impl Fn(&'static Entry<K>, &K) -> Vec<String>) {
        self.faults.extend(registry::check::<K>().err());
        for entry in entries::<K>() {
            self.plugins += 1;
            let found = caught(|| {
                let mut faults = entry_faults(entry);
                // A plugin that cannot be built without a parameter is checked by its own crate.
                if let Ok(built) = entry.build_default(&here()) {
                    faults.extend(more(entry, &*built.plugin));
                }
                faults
            });
            let name = |fault| format!("{} ({}, {}): {fault}", entry.name, K::LABEL, entry.origin);
            self.faults.extend(found.into_iter().map(name));
        }
    }
}

/// Runs a check; a panic in it is a fault.
fn caught(check: impl FnOnce() -> Vec<String>) -> Vec<String> {
    panic::catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        vec![format!("panicked: {}", text.unwrap_or("no message"))]
    })
}

/// The plugin with one parameter given, if it has that parameter.
fn with<K: Kind + ?Sized>(entry: &Entry<K>, parameter: &str, value: &str) -> Option<Arc<K>> {
    let known = entry.parameters.iter().any(|(name, _)| *name == parameter);
    let text = format!("{}({parameter}: {value})", entry.name);
    let built = known.then(|| registry::parse::<K>(&here(), &text));
    Some(built?.ok()?.plugin)
}

/// What is wrong with the entry itself: its name, its documentation, its printed defaults.
fn entry_faults<K: Kind + ?Sized>(entry: &Entry<K>) -> Vec<String> {
    let mut faults = Vec::new();
    let letters = |c: char| c.is_alphanumeric() || c == '_';
    if entry.name.is_empty() || !entry.name.chars().all(letters) {
        faults.push("its name cannot be written in an experiment file".to_owned());
    }
    if entry.about.is_empty() || entry.about.ends_with('.') || entry.about.contains('\n') {
        faults.push("its first doc line must be one line without a full stop".to_owned());
    }
    let names: BTreeSet<_> = entry.parameters.iter().map(|param| param.0).collect();
    if names.len() != entry.parameters.len() {
        faults.push("two parameters have the same name".to_owned());
    }
    for (name, doc) in entry.parameters {
        if doc.is_empty() {
            faults.push(format!("parameter `{name}` has no documentation"));
        }
    }
    let printed = (entry.defaults)();
    match (
        registry::parse::<K>(&here(), &printed),
        entry.build_default(&here()),
    ) {
        (Ok(parsed), Ok(default)) => {
            if parsed.resolved != default.resolved {
                faults.push(format!(
                    "its printed defaults\n{printed}\nare read as\n{}",
                    parsed.resolved
                ));
            }
            match registry::parse::<K>(&here(), &parsed.resolved) {
                Ok(again) if again.resolved == parsed.resolved => {}
                _ => faults.push("its resolved text does not give the same text again".to_owned()),
            }
        }
        // A parameter that must be given refuses in both.
        (Err(parsed), Err(default)) => {
            let message = |errors: &[crate::diagnostic::Diagnostic]| errors[0].message.clone();
            if parsed.len() != 1 || message(&parsed) != message(&default) {
                faults.push(format!(
                    "its printed defaults are refused: {}",
                    message(&parsed)
                ));
            }
        }
        (Err(parsed), Ok(_)) => {
            faults.push(format!(
                "its printed defaults are refused: {}",
                parsed[0].message
            ));
        }
        (Ok(_), Err(default)) => {
            faults.push(format!("its defaults are refused: {}", default[0].message));
        }
    }
    faults
}

/// Numbers that look like normalised pixels, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<f32> {
    let mut random = smallfry_data::random::Random::new(&[seed]);
    (0..length)
        .map(|_| random.unit() as f32 * 4.0 - 2.0)
        .collect()
}

fn finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}
