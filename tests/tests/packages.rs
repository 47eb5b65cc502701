//! What `cargo package` makes of each published crate: all that its code includes, nothing large, nothing of the tests'.
//!
//! Only the lists are made here; `.ci/run` makes the packages too. Whether they build from nothing but one another takes
//! `cargo package` without `--no-verify`, as `docs/contributing.md` says.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

/// The most bytes of a package, and of a file in it: a registry takes ten megabytes.
const LARGEST: u64 = 2 << 20;
const LARGEST_FILE: u64 = 100 << 10;

/// What Cargo adds.
const ADDED: [&str; 3] = [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml.orig"];

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .arg("--offline")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("Cargo writes text")
}

/// The texts that a file of Rust includes, as paths within its package.
fn included(package: &Path, file: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(package.join(file)).expect("it is text");
    let mut paths = Vec::new();
    for word in ["include_str!(", "include_bytes!(", "include!("] {
        for after in text.split(word).skip(1) {
            let Some(path) = after.trim_start().strip_prefix('"') else {
                continue;
            };
            let path = path.split('"').next().expect("the text ends");
            let folder = file.parent().expect("it is a file");
            let mut whole = PathBuf::new();
            for part in folder.join(path).components() {
                match part {
                    Component::ParentDir => assert!(whole.pop(), "{path} leaves the package"),
                    part => whole.push(part),
                }
            }
            paths.push(whole);
        }
    }
    paths
}

#[test]
fn packages_have_what_they_need_and_no_more() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version=1"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("it is JSON");
    let packages = metadata["packages"].as_array().expect("it is a list");
    let (mut published, mut found) = (BTreeSet::new(), 0);
    for package in packages {
        let name = package["name"].as_str().expect("a text");
        if !package["publish"].is_null() {
            assert_eq!(name, "smallfry-tests", "all else is published");
            continue;
        }
        published.insert(name);
        for field in ["description", "license"] {
            assert!(package[field].is_string(), "{name} lacks its {field}");
        }
        // A registry knows no folders.
        for dependency in package["dependencies"].as_array().expect("it is a list") {
            assert_ne!(dependency["req"], "*", "{name}: {dependency}");
        }
        let folder = Path::new(package["manifest_path"].as_str().expect("a text"));
        let folder = folder.parent().expect("it is a file");
        let list = cargo(&["package", "--list", "--allow-dirty", "--package", name]);
        let files: BTreeSet<_> = (list.lines().map(PathBuf::from))
            .filter(|file| !ADDED.iter().any(|added| file.ends_with(added)))
            .collect();
        let mut total = 0;
        for file in &files {
            // The readme lies further up.
            let size = fs::metadata(folder.join(file)).map_or(0, |metadata| metadata.len());
            assert!(
                size <= LARGEST_FILE,
                "{name}: {} has {size} bytes",
                file.display()
            );
            total += size;
            if file.extension().is_some_and(|extension| extension == "rs") {
                for path in included(folder, file) {
                    assert!(files.contains(&path), "{name} lacks {}", path.display());
                    found += 1;
                }
            }
        }
        assert!(total <= LARGEST, "{name} has {total} bytes");
        let needed = match name {
            "smallfry-metric-sdk" => "include/smallfry_metric.h",
            "smallfry-experiments" => "src/main.rs",
            _ => "src/lib.rs",
        };
        assert!(files.contains(Path::new(needed)), "{name} lacks {needed}");
    }
    assert_eq!(published.len(), 13, "{published:?}");
    assert!(found > 15, "the crates include texts: {found}");
}
