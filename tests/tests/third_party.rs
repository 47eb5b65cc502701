//! A third party's program with plugins of its own, outside the workspace.

use std::{fs, path::Path};

use smallfry_tests::outside::{cargo, line, program, run};

#[test]
fn their_plugins_stand_beside_ours() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/third_party");
    let program = program(&folder, "third-party");
    let run = |arguments: &[&str]| run(&program, &folder, arguments);
    let (code, list) = run(&["list"]);
    assert_eq!(code, Some(0), "{list}");
    for (name, end) in [
        ("Warmup", "Rises in a line, then stays [third-party 0.1.0]"),
        ("Invert", "[third-party 0.1.0]"),
        ("MoCo", "[smallfry-objectives 0.1.0]"),
    ] {
        assert!(line(&list, name).ends_with(end), "{list}");
    }

    let (code, text) = run(&["describe", "Warmup"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("a schedule from the crate third-party 0.1.0\n"),
        "{text}"
    );

    let (code, text) = run(&["check", "experiment.ron"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("schedule   Warmup(epochs: 3)"), "{text}");

    let (code, text) = run(&["check", "experiment.ron", "schedule.epochs=0"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.starts_with("error: `epochs` of Warmup: must be above 0"),
        "{text}"
    );
}

/// Each version would have registries of its own, and plugins of one would be missing in the other without a word.
#[test]
fn two_versions_of_the_framework_are_refused() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let framework = Path::new(env!("CARGO_MANIFEST_DIR")).join("../framework");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("it is a file")).expect("the folder is ours");
        fs::write(path, text).expect("the folder is ours");
    };
    write(
        "other/Cargo.toml",
        "[package]\nname = \"smallfry\"\nversion = \"0.2.0\"\nedition = \"2024\"\nlinks = \"smallfry-framework\"\n",
    );
    write("other/build.rs", "fn main() {}");
    write("other/src/lib.rs", "");
    let manifest = format!(
        "[package]\nname = \"both\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         smallfry = {{ path = {framework:?} }}\nother = {{ package = \"smallfry\", path = \"other\" }}\n"
    );
    write("Cargo.toml", &manifest);
    write("src/main.rs", "fn main() {}");
    let built = cargo(folder.path(), &["check"]);
    assert!(!built.success, "{}", built.messages);
    for part in [
        "links to the native library `smallfry-framework`",
        "smallfry v0.2.0",
    ] {
        assert!(built.messages.contains(part), "{}", built.messages);
    }
}
