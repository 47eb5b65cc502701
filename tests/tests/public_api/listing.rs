//! From a crate's modules to the lines of its listing.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Fields, FnArg, GenericParam, Generics, ImplItem, Item, ItemImpl, Pat, Signature,
    TraitItem, Type, TypeParamBound, parse_quote,
};

use super::{
    krate::{Krate, Place, Target, item_name, open},
    text::line,
};

/// Everything that a third party can name in `krate`, a line each, by path.
pub fn of(krate: &Krate) -> String {
    let mut reach = Reach {
        krate,
        items: BTreeMap::new(),
        lines: BTreeSet::new(),
    };
    reach.module(0, &krate.name);
    reach.macros();
    let mut listing = Listing {
        krate,
        paths: BTreeMap::new(),
        traits: BTreeMap::new(),
        lines: reach.lines,
    };
    for ((place, name), paths) in &reach.items {
        let own = path_of(krate, *place, name);
        let first = paths.get(&own).or_else(|| paths.first());
        let first = first.expect("what is reached has a path").clone();
        for other in paths.iter().filter(|&path| *path != first) {
            listing
                .lines
                .insert((other.clone(), 0, format!("use {other} = {first}")));
        }
        listing.paths.insert((*place, name.clone()), first);
    }
    for ((place, name), path) in listing.paths.clone() {
        for item in &krate.modules[place].items {
            if item_name(item).is_some_and(|own| *own == name) {
                listing.item(item, &path);
            }
        }
    }
    for (place, module) in krate.modules.iter().enumerate() {
        for item in &module.items {
            if let Item::Impl(item) = item {
                listing.implementation(place, item);
            }
        }
    }
    for (path, traits) in std::mem::take(&mut listing.traits) {
        let traits: Vec<_> = traits.into_iter().collect();
        listing.add(&path, 1, format!("traits {path}: {}", traits.join(", ")));
    }
    listing
        .lines
        .into_iter()
        .map(|(_, _, line)| line + "\n")
        .collect()
}

/// A line, behind the path and the rank that it is sorted by.
type Line = (String, u8, String);

fn path_of(krate: &Krate, place: Place, name: &str) -> String {
    let module = krate.modules[place].path.iter().map(String::as_str);
    let parts: Vec<_> = std::iter::once(krate.name.as_str())
        .chain(module)
        .chain([name])
        .collect();
    parts.join("::")
}

/// Finds the items that can be reached from the root, with all paths to them.
struct Reach<'a> {
    krate: &'a Krate,
    items: BTreeMap<(Place, String), BTreeSet<String>>,
    lines: BTreeSet<Line>,
}

impl Reach<'_> {
    fn module(&mut self, place: Place, path: &str) {
        let module = &self.krate.modules[place];
        for item in &module.items {
            if let (Some(name), true) = (item_name(item), is_open(item)) {
                self.item(place, &name.to_string(), format!("{path}::{name}"));
            }
        }
        for (name, &child) in &module.children {
            if self.krate.modules[child].visible {
                let path = format!("{path}::{name}");
                self.line(&path, format!("mod {path}"));
                self.module(child, &path);
            }
        }
        for import in module.imports.iter().filter(|import| import.open) {
            let here = format!("{path}::{}", import.name);
            match self.krate.resolve(place, &import.path) {
                Target::Elsewhere(from) => {
                    let all = if import.name == "*" { "::*" } else { "" };
                    self.line(&here, format!("use {here} = {}{all}", from.join("::")));
                }
                Target::Item(place, name) => self.item(place, &name, here),
                Target::Module(inner) => self.exported(inner, path, &import.name),
            }
        }
    }

    /// A module of the crate, or all that is in it, which is exported again in the module at `path`.
    fn exported(&mut self, place: Place, path: &str, name: &str) {
        let module = &self.krate.modules[place];
        if name == "*" {
            return self.module(place, path);
        }
        let path = format!("{path}::{name}");
        // A function may have the name of a module.
        if let Some(own) = module.path.last() {
            self.item_if_there(module.parent, own, &path);
        }
        if module.open {
            let own = [std::slice::from_ref(&self.krate.name), &module.path].concat();
            return self.line(&path, format!("use {path} = {}", own.join("::")));
        }
        self.line(&path, format!("mod {path}"));
        self.module(place, &path);
    }

    fn item_if_there(&mut self, place: Place, name: &str, path: &str) {
        let mut items = self.krate.modules[place].items.iter();
        if items.any(|item| is_open(item) && item_name(item).is_some_and(|own| own == name)) {
            self.item(place, name, path.to_owned());
        }
    }

    fn item(&mut self, place: Place, name: &str, path: String) {
        let paths = self.items.entry((place, name.to_owned())).or_default();
        paths.insert(path);
    }

    /// Macros are exported at the root, wherever they stand.
    fn macros(&mut self) {
        for module in &self.krate.modules {
            for item in &module.items {
                if let Item::Macro(item) = item
                    && item
                        .attrs
                        .iter()
                        .any(|attribute| attribute.path().is_ident("macro_export"))
                    && let Some(name) = &item.ident
                {
                    let path = format!("{}::{name}", self.krate.name);
                    let rules = matchers(&item.mac.tokens);
                    self.line(&path, format!("macro {path}! {rules}"));
                }
            }
        }
    }

    fn line(&mut self, path: &str, line: String) {
        self.lines.insert((path.to_owned(), 0, line));
    }
}

/// What the rules of a macro take, without what they make of it.
fn matchers(rules: &TokenStream) -> String {
    let groups = rules.clone().into_iter().filter_map(|token| match token {
        TokenTree::Group(group) => Some(line(&group)),
        _ => None,
    });
    groups.step_by(2).collect::<Vec<_>>().join(" ")
}

fn is_open(item: &Item) -> bool {
    match item {
        Item::Const(item) => open(&item.vis),
        Item::Enum(item) => open(&item.vis),
        Item::Fn(item) => open(&item.vis),
        Item::Static(item) => open(&item.vis),
        Item::Struct(item) => open(&item.vis),
        Item::Trait(item) => open(&item.vis),
        Item::Type(item) => open(&item.vis),
        Item::Union(item) => open(&item.vis),
        _ => false,
    }
}

struct Listing<'a> {
    krate: &'a Krate,
    /// The items that can be reached, with the path that each is listed under.
    paths: BTreeMap<(Place, String), String>,
    /// The traits of each type, by its path.
    traits: BTreeMap<String, BTreeSet<String>>,
    lines: BTreeSet<Line>,
}

impl Listing<'_> {
    fn add(&mut self, path: &str, rank: u8, line: String) {
        self.lines.insert((path.to_owned(), rank, line));
    }

    fn item(&mut self, item: &Item, path: &str) {
        if !is_open(item) {
            return;
        }
        match item {
            Item::Const(item) => {
                let text = format!("const {path}: {}", line(&item.ty));
                self.add(path, 0, marked(&item.attrs, text));
            }
            Item::Static(item) => {
                let text = format!("static {path}: {}", line(&item.ty));
                self.add(path, 0, marked(&item.attrs, text));
            }
            Item::Type(item) => {
                let (generics, bounds) = generics(&item.generics);
                let text = format!("type {path}{generics} = {}{bounds}", line(&item.ty));
                self.add(path, 0, marked(&item.attrs, text));
            }
            Item::Fn(item) => {
                let text = function(&item.sig, path);
                self.add(path, 0, marked(&item.attrs, text));
            }
            Item::Struct(item) => {
                let (generics, bounds) = generics(&item.generics);
                let whole = item.fields.iter().all(|field| open(&field.vis));
                let body = match &item.fields {
                    Fields::Unnamed(_) => places(&item.fields),
                    _ if whole => String::new(),
                    _ => " { .. }".to_owned(),
                };
                let text = format!("struct {path}{generics}{body}{bounds}");
                self.add(path, 0, marked(&item.attrs, text));
                self.fields(&item.fields, path);
                self.derived(&item.attrs, path);
            }
            Item::Union(item) => {
                let (generics, bounds) = generics(&item.generics);
                let text = format!("union {path}{generics}{bounds}");
                self.add(path, 0, marked(&item.attrs, text));
                self.fields(&Fields::Named(item.fields.clone()), path);
                self.derived(&item.attrs, path);
            }
            Item::Enum(item) => {
                let (generics, bounds) = generics(&item.generics);
                let text = format!("enum {path}{generics}{bounds}");
                self.add(path, 0, marked(&item.attrs, text));
                for variant in &item.variants {
                    let path = format!("{path}::{}", variant.ident);
                    let mut bare = variant.clone();
                    bare.attrs.clear();
                    bare.fields.iter_mut().for_each(|field| field.attrs.clear());
                    let shape = line(&bare).split_off(variant.ident.to_string().len());
                    self.add(
                        &path,
                        0,
                        marked(&variant.attrs, format!("variant {path}{shape}")),
                    );
                }
                self.derived(&item.attrs, path);
            }
            Item::Trait(item) => {
                let (generics, bounds) = generics(&item.generics);
                let supers = match item.supertraits.is_empty() {
                    true => String::new(),
                    false => format!(": {}", line(&item.supertraits)),
                };
                let word = if item.unsafety.is_some() {
                    "unsafe trait"
                } else {
                    "trait"
                };
                let text = format!("{word} {path}{generics}{supers}{bounds}");
                self.add(path, 0, marked(&item.attrs, text));
                for item in &item.items {
                    self.trait_item(item, path);
                }
            }
            _ => {}
        }
    }

    fn fields(&mut self, fields: &Fields, path: &str) {
        for field in fields.iter().filter(|field| open(&field.vis)) {
            if let Some(name) = &field.ident {
                let path = format!("{path}::{name}");
                let text = format!("field {path}: {}", line(&field.ty));
                self.add(&path, 0, marked(&field.attrs, text));
            }
        }
    }

    fn trait_item(&mut self, item: &TraitItem, path: &str) {
        // What has a default need not be given by a plugin.
        match item {
            TraitItem::Fn(item) => {
                let path = format!("{path}::{}", item.sig.ident);
                let given = if item.default.is_some() {
                    " { .. }"
                } else {
                    ""
                };
                let text = function(&item.sig, &path) + given;
                self.add(&path, 0, marked(&item.attrs, text));
            }
            TraitItem::Const(item) => {
                let path = format!("{path}::{}", item.ident);
                let given = if item.default.is_some() { " = .." } else { "" };
                let text = format!("const {path}: {}{given}", line(&item.ty));
                self.add(&path, 0, marked(&item.attrs, text));
            }
            TraitItem::Type(item) => {
                let path = format!("{path}::{}", item.ident);
                let (generics, bounds) = generics(&item.generics);
                let is = match item.bounds.is_empty() {
                    true => String::new(),
                    false => format!(": {}", line(&item.bounds)),
                };
                let text = format!("type {path}{generics}{is}{bounds}");
                self.add(&path, 0, marked(&item.attrs, text));
            }
            _ => {}
        }
    }

    fn derived(&mut self, attributes: &[Attribute], path: &str) {
        for attribute in attributes {
            if !attribute.path().is_ident("derive") {
                continue;
            }
            let _ = attribute.parse_nested_meta(|meta| {
                let name = meta.path.segments.last().map(line).unwrap_or_default();
                self.traits.entry(path.to_owned()).or_default().insert(name);
                Ok(())
            });
        }
    }

    /// What `target` is listed under, if it is.
    fn path(&self, target: &Target) -> Option<&String> {
        match target {
            Target::Item(place, name) => self.paths.get(&(*place, name.clone())),
            _ => None,
        }
    }

    fn implementation(&mut self, place: Place, item: &ItemImpl) {
        let resolved = |path: &syn::Path| {
            let path: Vec<_> = path
                .segments
                .iter()
                .map(|part| part.ident.to_string())
                .collect();
            self.krate.resolve(place, &path)
        };
        let (object, own) = match &*item.self_ty {
            Type::Path(own) if own.qself.is_none() => ("", Some(resolved(&own.path))),
            Type::TraitObject(own) => {
                let first = own.bounds.iter().find_map(|bound| match bound {
                    TypeParamBound::Trait(bound) => Some(resolved(&bound.path)),
                    _ => None,
                });
                ("dyn ", first)
            }
            _ => ("", None),
        };
        let path = own.as_ref().and_then(|own| self.path(own)).cloned();
        let hidden = path.is_none() && matches!(own, Some(Target::Item(..)));
        let Some((_, implemented, _)) = &item.trait_ else {
            if let Some(path) = path {
                self.inherent(item, &path);
            }
            return;
        };
        let target = resolved(implemented);
        let (local, listed) = (
            matches!(target, Target::Item(..)),
            self.path(&target).cloned(),
        );
        if hidden || local && listed.is_none() {
            return;
        }
        let last = implemented.segments.last().map(line).unwrap_or_default();
        match (path, listed) {
            (Some(path), _) => {
                let text = match header(&item.generics) {
                    Some(header) => format!("{header} {last}"),
                    None => last,
                };
                let traits = self.traits.entry(format!("{object}{path}")).or_default();
                traits.insert(text);
            }
            (None, Some(path)) => {
                let (generics, bounds) = generics(&item.generics);
                let own = line(&item.self_ty);
                self.add(&path, 1, format!("impl{generics} {path} for {own}{bounds}"));
            }
            (None, None) => {}
        }
    }

    fn inherent(&mut self, implementation: &ItemImpl, path: &str) {
        let only = match (header(&implementation.generics), &*implementation.self_ty) {
            (Some(header), own) => format!(" in impl{header} {}", line(own)),
            // Of one sort of a generic type only.
            (None, Type::Path(own))
                if implementation.generics.params.is_empty()
                    && own
                        .path
                        .segments
                        .iter()
                        .any(|part| !part.arguments.is_none())
                    && !line(own).contains("<'_") =>
            {
                format!(" in impl {}", line(own))
            }
            _ => String::new(),
        };
        for item in &implementation.items {
            let (path, text, attributes) = match item {
                ImplItem::Fn(item) if open(&item.vis) => {
                    let path = format!("{path}::{}", item.sig.ident);
                    (path.clone(), function(&item.sig, &path), &item.attrs)
                }
                ImplItem::Const(item) if open(&item.vis) => {
                    let path = format!("{path}::{}", item.ident);
                    let text = format!("const {path}: {}", line(&item.ty));
                    (path, text, &item.attrs)
                }
                _ => continue,
            };
            self.add(&path, 0, marked(attributes, text + &only));
        }
    }
}

/// The generics of an implementation, if they narrow it.
fn header(generics_: &Generics) -> Option<String> {
    let bound = |param: &GenericParam| match param {
        GenericParam::Type(param) => !param.bounds.is_empty(),
        _ => false,
    };
    let narrows = generics_.params.iter().any(bound) || generics_.where_clause.is_some();
    let (generics, bounds) = generics(generics_);
    narrows.then(|| generics + &bounds)
}

/// Generics as they stand behind a name, and the bounds that stand last.
fn generics(generics: &Generics) -> (String, String) {
    let bounds = match &generics.where_clause {
        Some(bounds) => format!(" {}", line(bounds).trim_end_matches(',')),
        None => String::new(),
    };
    (line(generics), bounds)
}

/// The fields of a tuple.
fn places(fields: &Fields) -> String {
    let places = fields.iter().map(|field| match open(&field.vis) {
        true => format!("pub {}", line(&field.ty)),
        false => "_".to_owned(),
    });
    format!("({})", places.collect::<Vec<_>>().join(", "))
}

/// A signature with a path in the place of the name.
fn function(signature: &Signature, path: &str) -> String {
    let mut signature = signature.clone();
    // Whether an argument is changed within is nobody's business.
    for argument in &mut signature.inputs {
        match argument {
            FnArg::Receiver(receiver) => {
                if receiver.reference.is_none() {
                    receiver.mutability = None;
                }
            }
            FnArg::Typed(typed) => match &mut *typed.pat {
                Pat::Ident(name) => name.mutability = None,
                Pat::Wild(_) => {}
                other => *other = parse_quote!(_),
            },
        }
    }
    let name = signature.ident.to_string();
    let text = line(&signature);
    text.trim_end_matches(',')
        .replacen(&format!("fn {name}"), &format!("fn {path}"), 1)
}

/// A line with those of its attributes that others may depend on.
fn marked(attributes: &[Attribute], text: String) -> String {
    let told = ["cfg", "deprecated", "non_exhaustive", "repr"];
    let mut marks = String::new();
    for attribute in attributes {
        let meta = line(&attribute.meta);
        let told = told.iter().any(|told| attribute.path().is_ident(told));
        if told || meta == "doc(hidden)" {
            marks += &format!("#[{meta}] ");
        }
    }
    marks + &text
}
