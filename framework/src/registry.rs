//! Registries of plugins: what a plugin crate registers, and how a name finds it.
//!
//! `inventory` collects the entries of every linked crate before `main`. A plugin counts exactly when its crate is in
//! the link: a dependency that no code names is not, so programs say `use some_plugins as _;`. Tests of registries
//! therefore live outside this crate, which links no plugin.

mod built;
mod nested;
mod reference;
mod used;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use ron::ser::{PrettyConfig, path_meta::Field};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    diagnostic::Diagnostic,
    source::{Source, dialect, syntax::Value},
};

pub use built::Built;
pub use nested::Nested;
pub use reference::parse;
pub(crate) use reference::{build_at, build_in, no_plugins};
pub use used::Used;
pub(crate) use used::using;

/// A kind of plugin, implemented for the trait objects `dyn Objective`, `dyn Metric` and so on.
pub trait Kind: 'static {
    /// The kind's name in listings and messages.
    const LABEL: &'static str;

    /// All plugins of this kind linked into the program, in no order.
    fn collected() -> impl Iterator<Item = &'static Entry<Self>>;
}

/// Opens the registry of a trait's objects.
macro_rules! kind {
    ($kind:ident, $label:literal) => {
        impl $crate::registry::Kind for dyn $kind {
            const LABEL: &'static str = $label;

            fn collected() -> impl Iterator<Item = &'static $crate::registry::Entry<Self>> {
                inventory::iter::<$crate::registry::Entry<Self>>.into_iter()
            }
        }

        inventory::collect!($crate::registry::Entry<dyn $kind>);
    };
}
pub(crate) use kind;

/// The parameters of a plugin, as written in an experiment file, and how to build it from them.
///
/// [`plugin!`](crate::plugin!) implements it.
pub trait Plugin<K: Kind + ?Sized>: Default + Serialize + DeserializeOwned {
    /// The word in experiment files.
    const NAME: &'static str;

    /// What it is, in one line without a full stop.
    const ABOUT: &'static str;

    /// Name and documentation of each parameter.
    const PARAMS: &'static [(&'static str, &'static str)];

    /// Makes the plugin.
    ///
    /// # Errors
    /// Names the parameter that has an impossible value.
    fn build(self, context: &Context) -> Result<Box<K>, Invalid>;
}

/// What a plugin may need to know when it is built.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The folder that relative paths start from, that of the experiment file.
    pub folder: &'a Path,
}

impl Context<'_> {
    /// Where a path from an experiment file leads.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        reference::path_asked();
        self.folder.join(path)
    }
}

/// A parameter value that a plugin refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    field: &'static str,
    reason: String,
    help: Option<String>,
}

impl Invalid {
    /// Refuses the value of parameter `field`; the reason follows its name: `must be above 0`.
    pub fn new(field: &'static str, reason: impl fmt::Display) -> Self {
        Self {
            field,
            reason: reason.to_string(),
            help: None,
        }
    }

    /// Refuses the plugin as a whole.
    pub fn whole(reason: impl fmt::Display) -> Self {
        Self::new("", reason)
    }

    /// The same with a remedy.
    pub fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string());
        self
    }

    /// The parameter at fault; empty where the plugin as a whole is.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// What is wrong with it.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            "" => f.write_str(&self.reason),
            field => write!(f, "`{field}`: {}", self.reason),
        }
    }
}

impl std::error::Error for Invalid {}

type Build<K> = fn(&Context, &Arc<Source>, &Value) -> Result<Built<K>, Vec<Diagnostic>>;

/// A plugin in a registry. `inventory` collects these at link time.
pub struct Entry<K: Kind + ?Sized> {
    /// The word in experiment files.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// The crate that registered it.
    pub origin: &'static str,
    /// That crate's version.
    pub version: &'static str,
    /// Name and documentation of each parameter.
    pub parameters: &'static [(&'static str, &'static str)],
    /// All parameters with their documentation and defaults, as RON that can be pasted.
    pub defaults: fn() -> String,
    build: Build<K>,
}

impl<K: Kind + ?Sized> Entry<K> {
    /// The entry of plugin `P`, registered by the crate named `origin` of this `version`.
    pub const fn of<P: Plugin<K>>(origin: &'static str, version: &'static str) -> Self {
        Self {
            name: P::NAME,
            about: P::ABOUT,
            origin,
            version,
            parameters: P::PARAMS,
            defaults: documented_defaults::<K, P>,
            build: built::build::<K, P>,
        }
    }

    /// Builds the plugin with the default of every parameter.
    ///
    /// # Errors
    /// The plugin has a parameter that must be given.
    pub fn build_default(&self, context: &Context) -> Result<Built<K>, Vec<Diagnostic>> {
        let source = Arc::new(Source::new(self.name, self.name));
        let value = Value::parse(source.text(), source.all());
        (self.build)(context, &source, &value)
    }
}

fn documented_defaults<K: Kind + ?Sized, P: Plugin<K>>() -> String {
    print::<K, P>(&P::default(), Layout::Documented)
}

/// How parameters are printed.
#[derive(Clone, Copy)]
enum Layout {
    /// A line for each field, its documentation above it.
    Documented,
    /// A line for each field.
    Lines,
    /// All on one line.
    Line,
}

/// A plugin's parameters as RON that gives the same plugin again.
fn print<K: Kind + ?Sized, P: Plugin<K>>(params: &P, layout: Layout) -> String {
    let mut config = PrettyConfig::new().struct_names(true).new_line("\n");
    match layout {
        Layout::Documented => {
            let meta = config.path_meta.get_or_insert_with(Field::empty);
            meta.build_fields(|fields| {
                for (name, doc) in P::PARAMS {
                    let doc: Vec<_> = doc.lines().map(str::trim).collect();
                    fields.field(*name).with_doc(doc.join("\n"));
                }
            });
        }
        Layout::Lines => {}
        Layout::Line => config = config.depth_limit(0),
    }
    let text = dialect()
        .to_string_pretty(params, config)
        .expect("plugin parameters are plain data");
    let text = plain::<K, P>(text);
    // Serde knows the struct by its Rust name, the experiment file knows the plugin by its own.
    let rest = text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    format!("{}{rest}", P::NAME)
}

/// A choice that is called `None`, such as that of no head, is written `r#None` by the library; the plain word is what people
/// write, and taken wherever it is read as the same.
fn plain<K: Kind + ?Sized, P: Plugin<K>>(text: String) -> String {
    if !text.contains("r#None") {
        return text;
    }
    let compact = |text: &str| {
        let params: P = dialect().from_str(text).ok()?;
        dialect().to_string(&params).ok()
    };
    let plain = text.replace("r#None", "None");
    match compact(&plain) {
        Some(same) if Some(&same) == compact(&text).as_ref() => plain,
        _ => text,
    }
}

/// All plugins of kind `K` linked into this program, by name; numbers in names count as such, so that `resnet18` comes
/// before `resnet101`.
pub fn entries<K: Kind + ?Sized>() -> Vec<&'static Entry<K>> {
    let mut entries: Vec<_> = K::collected().collect();
    entries.sort_by_cached_key(|entry| (reading_order(entry.name), entry.origin));
    entries
}

/// The runs of digits and of other characters in a name: a run of digits compares by its length first.
fn reading_order(name: &str) -> Vec<(usize, &str)> {
    let mut runs = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits);
        let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
        runs.push((if digits { run.len() } else { 0 }, run));
        rest = after;
    }
    runs
}

/// The plugin of kind `K` named `name`.
pub fn find<K: Kind + ?Sized>(name: &str) -> Option<&'static Entry<K>> {
    K::collected().find(|entry| entry.name == name)
}

/// Refuses two plugins of one kind under one name.
///
/// # Errors
/// Names both crates.
pub fn check<K: Kind + ?Sized>() -> Result<(), String> {
    match entries::<K>()
        .windows(2)
        .find(|pair| pair[0].name == pair[1].name)
    {
        None => Ok(()),
        Some(pair) => Err(format!(
            "two {}s are named `{}`: one from the crate {} {}, one from the crate {} {}",
            K::LABEL,
            pair[0].name,
            pair[0].origin,
            pair[0].version,
            pair[1].origin,
            pair[1].version
        )),
    }
}

/// Calls `$do::<dyn Kind>(arguments)` for every kind of plugin, in the order of listings, and gives the results.
macro_rules! for_each_kind {
    ($do:ident($($argument:expr),*)) => {
        [
            $do::<dyn $crate::DataSet>($($argument),*),
            $do::<dyn $crate::Backbone>($($argument),*),
            $do::<dyn $crate::Augmentation>($($argument),*),
            $do::<dyn $crate::JointAugmentation>($($argument),*),
            $do::<dyn $crate::Objective>($($argument),*),
            $do::<dyn $crate::Optimizer>($($argument),*),
            $do::<dyn $crate::Schedule>($($argument),*),
            $do::<dyn $crate::Metric>($($argument),*),
        ]
    };
}
pub(crate) use for_each_kind;

/// The kind that has a plugin named `name`, if one has.
pub(crate) fn kind_of(name: &str) -> Option<&'static str> {
    fn label<K: Kind + ?Sized>(name: &str) -> Option<&'static str> {
        find::<K>(name).map(|_| K::LABEL)
    }
    for_each_kind!(label(name)).into_iter().flatten().next()
}

/// The label of a kind with its article: `an objective`.
pub(crate) fn one(label: &str) -> String {
    match label.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {label}"),
        false => format!("a {label}"),
    }
}
