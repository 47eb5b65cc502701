//! Named plugins: what a plugin crate registers, and how a RON value becomes a trait object.

use std::{collections::BTreeMap, fmt};

use ron::{
    ser::{PrettyConfig, path_meta::Field},
    value::RawValue,
};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, Deserializer, MapAccess, Visitor},
};

use crate::{diagnostic::Diagnostic, source::Source};

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
pub trait Plugin<K: Kind + ?Sized>: Default + Serialize + DeserializeOwned {
    const NAME: &'static str;
    const ABOUT: &'static str;
    /// One line for each parameter, shown by `list --verbose`.
    const PARAMS: &'static [(&'static str, &'static str)];

    fn build(self, context: &Context) -> Result<Box<K>, Invalid>;
}

/// What a plugin may need to know when it is built.
pub struct Context<'a> {
    /// The folder of the experiment file; relative paths start here.
    pub folder: &'a std::path::Path,
}

/// A parameter value that a plugin refuses.
#[derive(Debug)]
pub struct Invalid {
    field: &'static str,
    reason: String,
}

impl Invalid {
    pub fn new(field: &'static str, reason: impl fmt::Display) -> Self {
        Self {
            field,
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.field, self.reason)
    }
}

type Build<K> = fn(&Context, &Source, &str, &str) -> Result<Built<K>, Diagnostic>;

/// A plugin in a registry. `inventory` collects these at link time.
pub struct Entry<K: Kind + ?Sized> {
    pub name: &'static str,
    pub about: &'static str,
    pub origin: &'static str,
    pub defaults: fn() -> String,
    build: Build<K>,
}

/// A plugin object together with all its parameters, defaults filled in.
pub struct Built<K: ?Sized> {
    pub plugin: Box<K>,
    pub resolved: String,
}

impl<K: Kind + ?Sized> Entry<K> {
    /// The entry of plugin `P`, registered by the crate named `origin`.
    pub const fn of<P: Plugin<K>>(origin: &'static str) -> Self {
        Self {
            name: P::NAME,
            about: P::ABOUT,
            origin,
            defaults: pretty_defaults::<K, P>,
            build: build::<K, P>,
        }
    }
}

fn build<K: Kind + ?Sized, P: Plugin<K>>(
    context: &Context,
    source: &Source,
    whole: &str,
    arguments: &str,
) -> Result<Built<K>, Diagnostic> {
    let params: P = match arguments {
        "" => P::default(),
        text => source.parse_slice(text)?,
    };
    let resolved = pretty::<K, P>(&params);
    let plugin = params.build(context).map_err(|invalid| {
        let place = field_of(arguments, invalid.field).unwrap_or(whole);
        source.error(
            place,
            format!("`{}` of {}: {}", invalid.field, P::NAME, invalid.reason),
        )
    })?;
    Ok(Built { plugin, resolved })
}

fn pretty_defaults<K: Kind + ?Sized, P: Plugin<K>>() -> String {
    pretty::<K, P>(&P::default())
}

fn pretty<K: Kind + ?Sized, P: Plugin<K>>(params: &P) -> String {
    let mut config = PrettyConfig::new().struct_names(true);
    config
        .path_meta
        .get_or_insert_with(Field::empty)
        .build_fields(|fields| {
            for (name, doc) in P::PARAMS {
                let doc: Vec<_> = doc.lines().map(str::trim).collect();
                fields.field(*name).with_doc(doc.join("\n"));
            }
        });
    let text = crate::source::dialect()
        .to_string_pretty(params, config)
        .expect("plugin parameters are plain data");
    // Serde knows the struct by its Rust name; the experiment file knows the plugin by its own.
    let rest = text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    format!("{}{rest}", P::NAME)
}

/// The text of one field's value within the struct text `(field: value, ..)`.
fn field_of<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = BTreeMap<String, &'de RawValue>;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a struct")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = BTreeMap::new();
            while let Some(entry) = map.next_entry()? {
                fields.insert(entry.0, entry.1);
            }
            Ok(fields)
        }
    }
    let mut deserializer =
        ron::Deserializer::from_str_with_options(text, &crate::source::dialect()).ok()?;
    let fields = (&mut deserializer)
        .deserialize_struct("", &[], Fields)
        .ok()?;
    fields.get(field).map(|value| value.trim().get_ron())
}

/// A plugin named in an experiment file, `Name` or `Name(parameter: value, ..)`, not yet looked up.
#[derive(Deserialize, Clone, Copy)]
#[serde(transparent)]
pub struct PluginRef<'a>(#[serde(borrow)] &'a RawValue);

impl PluginRef<'_> {
    /// Looks the plugin up in the registry of `K` and builds it.
    pub fn build<K: Kind + ?Sized>(
        self,
        context: &Context,
        source: &Source,
    ) -> Result<Built<K>, Diagnostic> {
        let text = self.0.trim().get_ron();
        let end = text
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(text.len());
        let (name, arguments) = text.split_at(end);
        if name.is_empty() {
            return Err(source.error(
                text,
                format!(
                    "expected the name of a plugin, as `Name` or `Name(..)`, for the {}",
                    K::LABEL
                ),
            ));
        }
        match entries::<K>().into_iter().find(|entry| entry.name == name) {
            Some(entry) => (entry.build)(context, source, text, arguments.trim_start()),
            None => {
                let mut error = source.error(name, format!("no {} is named `{name}`", K::LABEL));
                let names: Vec<_> = entries::<K>().iter().map(|entry| entry.name).collect();
                error.help = Some(match nearest(name, &names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("registered: {}", names.join(", ")),
                });
                Err(error)
            }
        }
    }
}

/// All plugins of kind `K` linked into this program, by name.
pub fn entries<K: Kind + ?Sized>() -> Vec<&'static Entry<K>> {
    let mut entries: Vec<_> = K::collected().collect();
    entries.sort_by_key(|entry| entry.name);
    entries
}

/// Refuses two plugins of one kind under one name.
pub fn check<K: Kind + ?Sized>() -> Result<(), String> {
    match entries::<K>()
        .windows(2)
        .find(|pair| pair[0].name == pair[1].name)
    {
        None => Ok(()),
        Some(pair) => Err(format!(
            "two {}s are named `{}`: one from {}, one from {}",
            K::LABEL,
            pair[0].name,
            pair[0].origin,
            pair[1].origin
        )),
    }
}

/// The name most like `name`, if any is like it.
pub(crate) fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &str| {
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, a) in name.bytes().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], i + 1);
            for (j, b) in other.bytes().enumerate() {
                let cost = usize::from(!a.eq_ignore_ascii_case(&b));
                let next = (diagonal + cost).min(row[j] + 1).min(row[j + 1] + 1);
                diagonal = std::mem::replace(&mut row[j + 1], next);
            }
        }
        row[other.len()]
    };
    names
        .iter()
        .copied()
        .map(|n| (distance(n), n))
        .min()
        .filter(|(d, n)| *d <= n.len() / 3 + 1)
        .map(|(_, n)| n)
}
