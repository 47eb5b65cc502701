//! What a third party can name in the library crates, held to `docs/public-api/*.txt`: a change of the interface shows as
//! a change of these files.
//!
//! The sources are read, nothing is compiled. A listing has every item with its signature, the traits of each type and
//! what is exported again; it has no automatic traits (`Send`, `Sync`), no meaning and no numbers. `SMALLFRY_BLESS=1 cargo
//! test -p smallfry-tests --test public_api` writes the listings anew; `docs/writing-plugins.md` says what their changes
//! mean for a version.

mod expansion;
mod krate;
mod listing;
mod text;

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use smallfry_tests::golden::repository;

/// The published libraries: names, and their `lib.rs`.
fn libraries() -> Vec<(String, PathBuf)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("Cargo writes JSON");
    let mut libraries = Vec::new();
    for package in metadata["packages"].as_array().expect("it is a list") {
        let published = package["publish"].is_null();
        let targets = package["targets"].as_array().expect("it is a list");
        let library = targets.iter().find(|target| target["kind"][0] == "lib");
        if let (true, Some(library)) = (published, library) {
            let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
            libraries.push((text(&package["name"]), text(&library["src_path"]).into()));
        }
    }
    libraries
}

/// The lines that one of two texts has more often than the other, with their sign.
fn differences(old: &str, new: &str) -> String {
    let sets = [old, new].map(|text| text.lines().collect::<BTreeSet<_>>());
    let gone = sets[0]
        .difference(&sets[1])
        .map(|line| format!("- {line}\n"));
    let come = sets[1]
        .difference(&sets[0])
        .map(|line| format!("+ {line}\n"));
    gone.chain(come).collect()
}

#[test]
fn the_interface_is_as_listed() {
    let folder = repository().join("docs/public-api");
    let bless = std::env::var_os("SMALLFRY_BLESS").is_some();
    let (mut wrong, mut names) = (String::new(), BTreeSet::new());
    for (name, library) in libraries() {
        let listing = listing::of(&krate::Krate::read(&name.replace('-', "_"), &library));
        let file = format!("{name}.txt");
        let path = folder.join(&file);
        if bless {
            fs::create_dir_all(&folder).expect("it can be made");
            fs::write(&path, &listing).expect("it can be written");
        }
        let listed = fs::read_to_string(&path).unwrap_or_default();
        if listed != listing {
            wrong += &format!("{file}\n{}", differences(&listed, &listing));
        }
        names.insert(file);
    }
    assert!(names.len() >= 12, "{names:?}");
    assert!(
        wrong.is_empty(),
        "the interface is another; bless it if it is meant\n{wrong}"
    );
    for entry in fs::read_dir(folder).expect("it is there") {
        let name = entry.expect("it can be read").file_name();
        assert!(
            names.contains(&*name.to_string_lossy()),
            "{name:?} is of no crate"
        );
    }
}

/// A crate with everything that listings must tell apart.
const SAMPLE: &str = r#"
mod hidden;
pub mod open {
    use super::hidden::Shown;
    pub trait Draws: Send + 'static {
        const SIDES: usize;
        type Ink: Clone;
        fn draw(&self, ink: &Self::Ink) -> Result<(), String>;
        fn twice<T: ?Sized>(&mut self, _: &T) where T: Draws<Ink = Self::Ink> {}
    }
    pub enum Choice<'a, T> { None, Some(&'a T), Both { left: [T; 2], right: T } }
    pub struct Whole { pub x: f64 }
    pub struct Part { pub x: f64, y: f64 }
    #[derive(Clone, Debug)]
    pub struct Pair(pub u8, u8);
    impl Draws for Shown { const SIDES: usize = 3; type Ink = u8; fn draw(&self, _: &u8) -> Result<(), String> { Ok(()) } }
    impl super::Renamed { pub const fn made(side: usize,) -> Self { Self } fn own(&self) {} }
    impl From<u8> for Pair { fn from(x: u8) -> Self { Self(x, x) } }
    pub(crate) struct Inside;
    impl Draws for Inside {}
    impl<T: Clone> Draws for Vec<T> {}
    pub type Callback = Box<dyn for<'a> Fn(&'a [f32], &mut [f32]) -> bool + Send>;
    pub const MOST: usize = 3;
    #[cfg(feature = "more")]
    pub fn more() -> ! { loop {} }
    macro_rules! square { ($name:ident: $type:ty) => { pub struct $name(pub $type); impl $name { pub fn area(&self) -> $type { self.0 } } } }
    square!(Square: Option<u8>);
    #[cfg(test)]
    pub mod tests {}
}
pub use hidden::{Shown as Renamed, inner::*};
pub use open::Whole;
pub use std::sync::Arc;
smallfry::plugin! {
    /// A line
    pub struct Level as level: Schedule {
        /// A number.
        at: f64 = 2.0,
    }
    fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> { Ok(Box::new(self)) }
}
"#;

const HIDDEN: &str =
    "pub struct Shown; pub struct Unseen; pub mod inner { pub fn deep() {} fn own() {} }";

const LISTED: &str = "\
use sample::Arc = std::sync::Arc
struct sample::Level
traits sample::Level: Clone, Debug, Default, Deserialize, Plugin<dyn Schedule>, Serialize
field sample::Level::at: f64
struct sample::Renamed
traits sample::Renamed: Draws
const fn sample::Renamed::made(side: usize) -> Self
use sample::Whole = sample::open::Whole
fn sample::deep()
mod sample::open
type sample::open::Callback = Box<dyn for<'a> Fn(&'a [f32], &mut [f32]) -> bool + Send>
enum sample::open::Choice<'a, T>
variant sample::open::Choice::Both { left: [T; 2], right: T }
variant sample::open::Choice::None
variant sample::open::Choice::Some(&'a T)
trait sample::open::Draws: Send + 'static
impl<T: Clone> sample::open::Draws for Vec<T>
type sample::open::Draws::Ink: Clone
const sample::open::Draws::SIDES: usize
fn sample::open::Draws::draw(&self, ink: &Self::Ink) -> Result<(), String>
fn sample::open::Draws::twice<T: ?Sized>(&mut self, _: &T) where T: Draws<Ink = Self::Ink> { .. }
const sample::open::MOST: usize
struct sample::open::Pair(pub u8, _)
traits sample::open::Pair: Clone, Debug, From<u8>
struct sample::open::Part { .. }
field sample::open::Part::x: f64
struct sample::open::Square(pub Option<u8>)
fn sample::open::Square::area(&self) -> Option<u8>
struct sample::open::Whole
field sample::open::Whole::x: f64
#[cfg(feature = \"more\")] fn sample::open::more() -> !
";

#[test]
fn listings_tell_everything_apart() {
    let folder = tempfile::tempdir().expect("there is room");
    let library = folder.path().join("lib.rs");
    fs::write(folder.path().join("hidden.rs"), HIDDEN).expect("the folder is ours");
    let list = |source: &str| {
        fs::write(&library, source).expect("the folder is ours");
        listing::of(&krate::Krate::read("sample", &library))
    };
    assert_eq!(
        list(SAMPLE),
        LISTED,
        "{}",
        differences(LISTED, &list(SAMPLE))
    );
    // Each of these is a change that plugins could break on.
    for (old, new) in [
        ("side: usize,", "side: u32"),
        ("(&mut self, _: &T)", "(&self, _: &T)"),
        ("type Ink: Clone;", "type Ink;"),
        ("{ None, Some", "{ Some"),
        ("pub x: f64, y: f64", "pub x: f32, y: f64"),
        (
            "pub struct Whole { pub x: f64 }",
            "pub struct Whole { pub x: f64, y: f64 }",
        ),
        ("#[derive(Clone, Debug)]", "#[derive(Debug)]"),
        ("inner::*", "inner::deep as deeper"),
        ("at: f64 = 2.0", "at: f32 = 2.0"),
        ("pub const MOST", "const MOST"),
        ("pub fn area(&self)", "pub fn area(self)"),
    ] {
        assert_eq!(SAMPLE.matches(old).count(), 1, "{old}");
        assert_ne!(list(&SAMPLE.replace(old, new)), LISTED, "{old}");
    }
    // And these are none.
    for (old, new) in [
        ("Self { Self } fn own", "Self { todo!() } fn other"),
        ("(u8, x)", "(x, u8)"),
        ("mod hidden;", "// Another place.\nmod hidden;"),
        ("pub(crate) struct Inside;", "struct Inside(u8);"),
    ] {
        assert_eq!(list(&SAMPLE.replace(old, new)), LISTED, "{old}");
    }
}
