//! A crate's modules with their items, and what a path in one of them leads to.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, ItemMacro, UseTree, Visibility};

use super::expansion;

/// The number of a module; the root is 0.
pub type Place = usize;

/// A crate.
pub struct Krate {
    /// Its name in code.
    pub name: String,
    /// All modules, also private ones.
    pub modules: Vec<Module>,
}

/// A module.
pub struct Module {
    /// Its path in the crate, without the crate's name.
    pub path: Vec<String>,
    /// Whether it is public where it stands.
    pub visible: bool,
    /// Whether it and all around it are public.
    pub open: bool,
    /// What stands in it, what macros make included, without modules and imports.
    pub items: Vec<Item>,
    /// The modules in it.
    pub children: BTreeMap<String, Place>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// The module around it; the root's is itself.
    pub parent: Place,
}

/// One name of a `use`.
pub struct Import {
    /// Whether it is exported again.
    pub open: bool,
    /// The name that it gets here; `*` for all.
    pub name: String,
    /// Where it comes from.
    pub path: Vec<String>,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A module of the crate.
    Module(Place),
    /// An item of the crate: its module and name.
    Item(Place, String),
    /// Something of another crate, or of the language.
    Elsewhere(Vec<String>),
}

/// Whether anybody sees it.
pub fn open(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Whether it is for tests only.
fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && super::text::line(&attribute.meta) == "cfg(test)"
    })
}

impl Krate {
    /// Reads the crate `name` from its `lib.rs`.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read(name: &str, library: &Path) -> Self {
        let mut krate = Self {
            name: name.to_owned(),
            modules: Vec::new(),
        };
        let folder = library.parent().expect("it is a file");
        krate.module(Vec::new(), (0, true, true), parsed(library), folder);
        for place in 0..krate.modules.len() {
            krate.expand(place);
        }
        krate
    }

    /// Adds a module whose files lie in `folder`.
    fn module(
        &mut self,
        path: Vec<String>,
        (parent, visible, open_here): (Place, bool, bool),
        items: Vec<Item>,
        folder: &Path,
    ) -> Place {
        let place = self.modules.len();
        self.modules.push(Module {
            path: path.clone(),
            visible,
            open: open_here,
            items: Vec::new(),
            children: BTreeMap::new(),
            imports: Vec::new(),
            parent,
        });
        for item in items {
            match item {
                Item::Mod(inner) if for_tests(&inner.attrs) => {}
                Item::Mod(inner) => {
                    let name = inner.ident.to_string();
                    let within = folder.join(&name);
                    let items = match inner.content {
                        Some((_, items)) => items,
                        None => parsed(&module_file(&within)),
                    };
                    let path = [path.clone(), vec![name.clone()]].concat();
                    let visible = open(&inner.vis);
                    let standing = (place, visible, open_here && visible);
                    let child = self.module(path, standing, items, &within);
                    self.modules[place].children.insert(name, child);
                }
                Item::Use(import) => {
                    let mut imports = Vec::new();
                    flatten(&import.tree, &mut Vec::new(), &mut |name, path| {
                        imports.push(Import {
                            open: open(&import.vis),
                            name,
                            path,
                        });
                    });
                    self.modules[place].imports.extend(imports);
                }
                other => self.modules[place].items.push(other),
            }
        }
        place
    }

    /// Puts what macros make into the place of their calls.
    fn expand(&mut self, place: Place) {
        let items = std::mem::take(&mut self.modules[place].items);
        // Definitions are looked up while the items are away.
        let own: Vec<ItemMacro> = items.iter().filter_map(definition).cloned().collect();
        let mut expanded = Vec::new();
        for item in items {
            match item {
                Item::Macro(call) if call.ident.is_none() => {
                    let made = expansion::items(&call, |name| {
                        let of = |item: &&ItemMacro| item.ident.as_ref().is_some_and(|i| i == name);
                        let all = self.modules.iter().flat_map(|module| &module.items);
                        let found = own
                            .iter()
                            .find(of)
                            .or_else(|| all.filter_map(definition).find(of));
                        found.map(|item| item.mac.tokens.clone())
                    });
                    for item in made {
                        match item {
                            // `plugin!` within a macro.
                            Item::Macro(call) => expanded.extend(expansion::items(&call, |_| None)),
                            other => expanded.push(other),
                        }
                    }
                }
                other => expanded.push(other),
            }
        }
        self.modules[place].items = expanded;
    }

    /// What `path`, written in module `from`, leads to.
    pub fn resolve(&self, from: Place, path: &[String]) -> Target {
        self.follow(from, path, 0)
    }

    fn follow(&self, from: Place, path: &[String], depth: usize) -> Target {
        let elsewhere = || Target::Elsewhere(path.to_vec());
        let Some((first, rest)) = path.split_first() else {
            return Target::Module(from);
        };
        // Imports that go in a circle do not compile; those of this length are not written.
        if depth > 32 {
            return elsewhere();
        }
        let target = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(from),
            "super" => Target::Module(self.modules[from].parent),
            name if name == self.name => Target::Module(0),
            name => match self.named(from, name, depth) {
                Some(target) => target,
                None => return elsewhere(),
            },
        };
        match (target, rest) {
            (target, []) => target,
            (Target::Module(place), rest) => match self.named(place, &rest[0], depth) {
                Some(Target::Module(inner)) => self.follow(inner, &rest[1..], depth + 1),
                // What comes after an item is its own: a variant, an associated item.
                Some(Target::Item(place, name)) => Target::Item(place, name),
                Some(Target::Elsewhere(start)) => Target::Elsewhere([&start, &rest[1..]].concat()),
                None if rest[0] == "super" || rest[0] == "self" => {
                    self.follow(place, rest, depth + 1)
                }
                None => elsewhere(),
            },
            (Target::Item(place, name), _) => Target::Item(place, name),
            (Target::Elsewhere(start), rest) => Target::Elsewhere([&start, rest].concat()),
        }
    }

    /// What `name` is in a module.
    fn named(&self, place: Place, name: &str, depth: usize) -> Option<Target> {
        let module = &self.modules[place];
        if let Some(&child) = module.children.get(name) {
            return Some(Target::Module(child));
        }
        if module
            .items
            .iter()
            .any(|item| item_name(item).is_some_and(|own| own == name))
        {
            return Some(Target::Item(place, name.to_owned()));
        }
        let import = module.imports.iter().find(|import| import.name == name);
        if let Some(import) = import {
            // `use crate::x::x` must not find itself.
            return Some(self.follow_import(place, import, depth));
        }
        let globs = module.imports.iter().filter(|import| import.name == "*");
        for glob in globs {
            if let Target::Module(inner) = self.follow_import(place, glob, depth)
                && inner != place
                && depth < 32
                && let Some(target) = self.named(inner, name, depth + 1)
            {
                return Some(target);
            }
        }
        None
    }

    /// Where an import comes from. Its first name may be another crate's of the same name as the import itself.
    fn follow_import(&self, place: Place, import: &Import, depth: usize) -> Target {
        match import.path.as_slice() {
            [first, ..]
                if *first == import.name && !self.modules[place].children.contains_key(first) =>
            {
                Target::Elsewhere(import.path.clone())
            }
            path => self.follow(place, path, depth + 1),
        }
    }
}

fn definition(item: &Item) -> Option<&ItemMacro> {
    match item {
        Item::Macro(item) if item.ident.is_some() => Some(item),
        _ => None,
    }
}

/// The name of an item, if it has one.
pub fn item_name(item: &Item) -> Option<&syn::Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

fn parsed(file: &Path) -> Vec<Item> {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = syn::parse_file(&text);
    parsed
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        .items
}

/// The file of the module that lies at `within`, as `within.rs` or `within/mod.rs`.
fn module_file(within: &Path) -> PathBuf {
    let beside = within.with_extension("rs");
    match beside.exists() {
        true => beside,
        false => within.join("mod.rs"),
    }
}

/// Calls `each` with name and path of all that a `use` brings.
fn flatten(tree: &UseTree, before: &mut Vec<String>, each: &mut impl FnMut(String, Vec<String>)) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, each);
            before.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            let name = before.last().cloned().unwrap_or_default();
            each(name, before.clone());
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            each(name.clone(), [before.as_slice(), &[name]].concat());
        }
        UseTree::Rename(rename) => {
            let mut path = before.clone();
            if rename.ident != "self" {
                path.push(rename.ident.to_string());
            }
            each(rename.rename.to_string(), path);
        }
        UseTree::Glob(_) => each("*".to_owned(), before.clone()),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, each);
            }
        }
    }
}
