//! `new-plugin NAME`: a crate with a plugin of each kind to begin from, and a program that has them beside the stock ones.
//!
//! Its files lie in `template` beside this package's manifest, as they are but for four names. The crate depends on this
//! framework by its folder, the one that this program was built from unless another is given, or by its version where this
//! program was built from a registry's packages, which lie each by itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Refusal;
use crate::failure::{Failure, disk};

/// Where this framework was when the program was built.
const BUILT_FROM: &str = env!("CARGO_MANIFEST_DIR");

/// The folder that Cargo unpacks this package into when it comes from a registry.
const PACKAGE: &str = concat!(env!("CARGO_PKG_NAME"), "-", env!("CARGO_PKG_VERSION"));

/// How the crate depends on smallfry.
enum Sources {
    /// By the folder of all its sources.
    Folder(PathBuf),
    /// By its version.
    Registry,
}

/// The files of the crate and their contents. The manifest has another name here, or this folder would be a package of its
/// own and be left out of this one.
const FILES: [(&str, &str); 15] = [
    ("Cargo.toml", include_str!("../../template/manifest.toml")),
    (".gitignore", include_str!("../../template/gitignore")),
    ("README.md", include_str!("../../template/README.md")),
    (
        "experiment.ron",
        include_str!("../../template/experiment.ron"),
    ),
    ("src/lib.rs", include_str!("../../template/src/lib.rs")),
    ("src/main.rs", include_str!("../../template/src/main.rs")),
    (
        "src/centroid.rs",
        include_str!("../../template/src/centroid.rs"),
    ),
    (
        "src/inverse_root.rs",
        include_str!("../../template/src/inverse_root.rs"),
    ),
    ("src/lion.rs", include_str!("../../template/src/lion.rs")),
    (
        "src/nt_xent.rs",
        include_str!("../../template/src/nt_xent.rs"),
    ),
    (
        "src/patch_net.rs",
        include_str!("../../template/src/patch_net.rs"),
    ),
    (
        "src/same_crop.rs",
        include_str!("../../template/src/same_crop.rs"),
    ),
    (
        "src/shapes.rs",
        include_str!("../../template/src/shapes.rs"),
    ),
    (
        "src/solarize.rs",
        include_str!("../../template/src/solarize.rs"),
    ),
    (
        "tests/plugins.rs",
        include_str!("../../template/tests/plugins.rs"),
    ),
];

/// Names that Rust or this framework has for something else.
const TAKEN: [&str; 12] = [
    "alloc",
    "build",
    "core",
    "crate",
    "deps",
    "examples",
    "proc_macro",
    "self",
    "std",
    "super",
    "test",
    "plugins",
];

pub(super) fn new_plugin(
    name: &str,
    folder: Option<&Path>,
    sources: Option<&Path>,
) -> Result<String, Refusal> {
    check_name(name)?;
    let sources = find_sources(sources)?;
    let parent = folder.unwrap_or(Path::new("."));
    let root = parent.join(name);
    write(&root, name, &sources)?;
    let place = root.display();
    Ok(format!(
        "{place}: a plugin of each kind, and a program\n\nnext:\n  cd {place}\n  cargo run --release -- list\n  cargo run \
         --release -- run experiment.ron\n  cargo test\n"
    ))
}

/// Refuses what cannot be the name of a crate.
fn check_name(name: &str) -> Result<(), Failure> {
    let refuse = |reason: &str| {
        let message = format!("a crate cannot be named `{name}`: {reason}");
        Err(Failure::mistake(message).help("give it a name such as `my-plugins`"))
    };
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(letters) {
        return refuse("a name has small letters, digits, `-` and `_`, and begins with a letter");
    }
    if name.len() > 64 {
        return refuse("it is longer than 64 letters");
    }
    if TAKEN.contains(&name) || name == "smallfry" || name.starts_with("smallfry-") {
        return refuse("the name is taken");
    }
    Ok(())
}

/// Smallfry's sources: the `given` folder, made absolute, or those of this program.
fn find_sources(given: Option<&Path>) -> Result<Sources, Failure> {
    let built_from = Path::new(BUILT_FROM);
    let checkout = match given {
        Some(given) => given,
        None if built_from.ends_with(PACKAGE) => return Ok(Sources::Registry),
        None => built_from.parent().unwrap_or(built_from),
    };
    let whole = ["framework", "plugins"].map(|part| checkout.join(part).join("Cargo.toml"));
    match whole.iter().find(|manifest| !manifest.is_file()) {
        None => fs::canonicalize(checkout)
            .map(Sources::Folder)
            .map_err(|error| disk("read", checkout, &error)),
        Some(missing) => Err(Failure::mistake(format!(
            "these are not smallfry's sources: there is no {}",
            missing.display()
        ))
        .help("name their folder by `--sources DIR`")),
    }
}

/// Writes all files into a folder beside `root` first, so that a crate is there wholly or not at all.
fn write(root: &Path, name: &str, sources: &Sources) -> Result<(), Failure> {
    if root.symlink_metadata().is_ok() {
        return Err(Failure::mistake(format!("{} exists", root.display()))
            .help("choose another name, or another folder by `--folder DIR`"));
    }
    let unfinished = root.with_file_name(format!(".{name}.unfinished"));
    let written = write_files(&unfinished, name, sources)
        .and_then(|()| fs::rename(&unfinished, root).map_err(|error| (root.to_owned(), error)));
    written.map_err(|(path, error)| {
        // What is left of it is of no use; why it cannot be removed is the same reason most likely.
        let _ = fs::remove_dir_all(&unfinished);
        disk("write", &path, &error)
    })
}

fn write_files(root: &Path, name: &str, sources: &Sources) -> Result<(), (PathBuf, io::Error)> {
    for (path, text) in FILES {
        let path = root.join(path);
        let folder = path.parent().unwrap_or(root);
        fs::create_dir_all(folder).map_err(|error| (folder.to_owned(), error))?;
        fs::write(&path, filled(text, name, sources)).map_err(|error| (path.clone(), error))?;
    }
    Ok(())
}

fn filled(text: &str, name: &str, sources: &Sources) -> String {
    let dependency = |part: &str| match sources {
        Sources::Folder(folder) => {
            let path = quoted(&folder.join(part).to_string_lossy());
            format!("{{ path = {path} }}")
        }
        Sources::Registry => quoted(env!("CARGO_PKG_VERSION")),
    };
    text.replace("{{name}}", name)
        .replace("{{crate}}", &name.replace('-', "_"))
        .replace("{{framework}}", &dependency("framework"))
        .replace("{{plugins}}", &dependency("plugins"))
}

/// A text as a manifest writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            _ if letter.is_control() => quoted.push_str(&format!("\\u{:04X}", letter as u32)),
            _ => quoted.push(letter),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_crates() {
        for name in ["my-plugins", "a", "x2_y"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "2x",
            "My",
            "a b",
            "a/b",
            "..",
            "é",
            "test",
            "smallfry-more",
            &"x".repeat(65),
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn every_name_is_filled_in() {
        let folder = Sources::Folder("/a \"b\"".into());
        for (path, text) in FILES {
            let text = filled(text, "my-plugins", &folder);
            assert!(!text.contains("{{"), "{path}");
        }
        for (sources, framework, plugins) in [
            (
                &folder,
                r#"{ path = "/a \"b\"/framework" }"#,
                r#"{ path = "/a \"b\"/plugins" }"#,
            ),
            (
                &Sources::Registry,
                concat!('"', env!("CARGO_PKG_VERSION"), '"'),
                concat!('"', env!("CARGO_PKG_VERSION"), '"'),
            ),
        ] {
            let manifest = filled(FILES[0].1, "my-plugins", sources);
            let wanted = format!("\nsmallfry = {framework}\nsmallfry-plugins = {plugins}\n");
            assert!(manifest.contains(&wanted), "{manifest}");
        }
        let main = filled(FILES[5].1, "my-plugins", &folder);
        assert!(main.contains("use my_plugins as _;"), "{main}");
    }

    /// One file and one `mod` line are all there is to a plugin.
    #[test]
    fn a_plugin_is_named_by_one_line() {
        let plugins: Vec<_> = FILES
            .iter()
            .filter(|(_, text)| text.contains("plugin! {"))
            .collect();
        assert_eq!(plugins.len(), 8);
        for (path, _) in plugins {
            let module = path.trim_start_matches("src/").trim_end_matches(".rs");
            let lines = FILES
                .iter()
                .filter(|(other, _)| other.ends_with(".rs") && other != path);
            let naming: Vec<_> = lines
                .flat_map(|(_, text)| text.lines())
                // Another crate may have a module of that name.
                .filter(|line| {
                    let names = ["mod ", "crate::", "super::", "self::"];
                    names
                        .iter()
                        .any(|name| line.contains(&format!("{name}{module}")))
                })
                .collect();
            assert_eq!(naming, [format!("mod {module};")], "{path}");
        }
    }
}
