//! The crate that `new-plugin` makes: outside the workspace it builds, its plugins do what they must and train, and more
//! plugins come and go by one file and one line.

use std::{
    fs,
    path::{Path, PathBuf},
};

use smallfry_tests::{
    outside::{cargo, line, program, run},
    program,
};

const NAME: &str = "my-plugins";

/// Its folder, at a place that stays the same, so that what is compiled of it can be used again.
fn made() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let root = parent.join(NAME);
    if root.exists() {
        fs::remove_dir_all(&root).expect("the folder is ours");
    }
    let folder = parent.to_string_lossy();
    let outcome = program::run(parent, &["new-plugin", NAME, "--folder", &folder]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    assert!(
        outcome.output.contains("cargo run --release -- list"),
        "{}",
        outcome.output
    );
    root
}

/// The plugins of the crate, with what listings say of their kinds.
const PLUGINS: [(&str, &str); 8] = [
    ("Shapes", "a data set"),
    ("PatchNet", "a backbone"),
    ("Solarize", "an augmentation"),
    ("SameCrop", "a joint augmentation"),
    ("NTXent", "an objective"),
    ("Lion", "an optimizer"),
    ("InverseRoot", "a schedule"),
    ("Centroid", "a metric"),
];

/// In one test, as every part changes the one crate.
#[test]
fn the_crate_builds_trains_and_grows() {
    let root = made();
    let program = program(&root, NAME);
    they_are_known_by_their_crate(&program, &root);
    they_train(&program, &root);
    let tested = cargo(&root, &["test", "--lib", "--test", "plugins"]);
    assert!(tested.success, "{}", tested.messages);
    a_plugin_is_one_file_and_one_line(&root);
    names_are_given_once(&root);
    nothing_linked_is_told(&root);
}

fn they_are_known_by_their_crate(program: &Path, root: &Path) {
    let (code, list) = run(program, root, &["list"]);
    assert_eq!(code, Some(0), "{list}");
    assert!(
        line(&list, "MoCo").ends_with("[smallfry-objectives 0.1.0]"),
        "{list}"
    );
    for (name, kind) in PLUGINS {
        assert!(line(&list, name).ends_with("[my-plugins 0.1.0]"), "{list}");
        let (code, text) = run(program, root, &["describe", name]);
        assert_eq!(code, Some(0), "{text}");
        let origin = format!("{kind} from the crate my-plugins 0.1.0\n");
        assert!(text.contains(&origin), "{text}");
    }
    let (code, text) = run(
        program,
        root,
        &["check", "experiment.ron", "pretrain.optimizer=Lyon"],
    );
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("did you mean `Lion`?"), "{text}");
}

fn they_train(program: &Path, root: &Path) {
    let (code, text) = run(program, root, &["run", "experiment.ron", "--json"]);
    assert_eq!(code, Some(0), "{text}");
    let read = |name: &str| {
        let path = root.join("runs/experiment").join(name);
        let text = fs::read_to_string(path).expect("the run has it");
        serde_json::from_str::<serde_json::Value>(&text).expect("it is JSON")
    };
    let results = read("results.json");
    let score = |stage: usize| results["stages"][stage]["scores"][0]["value"].as_f64();
    for stage in [0, 2] {
        assert!(score(stage).is_some_and(|value| value > 40.0), "{results}");
    }
    // An untaught guess is ln 50.
    let loss = results["stages"][1]["loss"].as_f64().expect("a number");
    assert!(loss < 3.0, "{loss}");

    let receipt = read("receipt.json");
    let plugins = receipt["plugins"].as_array().expect("it is a list");
    for (name, kind) in PLUGINS {
        let plugin = plugins.iter().find(|plugin| plugin["name"] == name);
        let plugin = plugin.unwrap_or_else(|| panic!("{name} is missing: {receipt}"));
        assert_eq!(plugin["crate"], "my-plugins");
        assert_eq!(plugin["version"], "0.1.0");
        assert!(kind.ends_with(plugin["kind"].as_str().expect("it is a text")));
    }
    let stock = plugins
        .iter()
        .find(|plugin| plugin["name"] == "HorizontalFlip");
    assert_eq!(
        stock.map(|plugin| &plugin["crate"]),
        Some(&"smallfry-augmentations".into())
    );
}

/// The change that `docs/writing-plugins.md` shows, carried out.
fn a_plugin_is_one_file_and_one_line(root: &Path) {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/writing-plugins.md");
    let guide = fs::read_to_string(guide).expect("the guide is there");
    let after = guide.split("```diff\n").nth(1).expect("it shows a change");
    let change = after.split("```").next().expect("the change ends");
    let mut files = 0;
    for part in change.split("--- ").skip(1) {
        let mut lines = part.lines();
        let old = lines.next().expect("it names a file");
        let path = lines.next().and_then(|line| line.strip_prefix("+++ b/"));
        let path = root.join(path.expect("it names a file"));
        let (mut removed, mut kept) = (String::new(), String::new());
        for line in lines.filter(|line| !line.starts_with("@@")) {
            let (sign, text) = line.split_at(line.len().min(1));
            assert_ne!(sign, "-", "a plugin that is added takes nothing away");
            kept += &format!("{text}\n");
            if sign != "+" {
                removed += &format!("{text}\n");
            }
        }
        let text = match old {
            "/dev/null" => kept,
            _ => {
                let before = fs::read_to_string(&path).expect("the file is there");
                assert_eq!(before.matches(&removed).count(), 1, "{removed}");
                let added = kept.lines().count() - removed.lines().count();
                assert_eq!(added, 1, "one line is added: {kept}");
                before.replace(&removed, &kept)
            }
        };
        fs::write(path, text).expect("the folder is ours");
        files += 1;
    }
    assert_eq!(files, 2, "a file and a line in another");
    let program = program(root, NAME);
    let (code, list) = run(&program, root, &["list", "schedules"]);
    assert_eq!(code, Some(0), "{list}");
    assert!(
        line(&list, "Warmup").ends_with("[my-plugins 0.1.0]"),
        "{list}"
    );
}

fn names_are_given_once(root: &Path) {
    let library = root.join("src/lib.rs");
    let before = fs::read_to_string(&library).expect("it is there");
    let source = "use smallfry::{Context, Invalid, Schedule, plugin};\n\nplugin! {\n    /// Another\n    pub struct Cosine: \
                  Schedule {}\n\n    fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {\n        \
                  Ok(Box::new(self))\n    }\n}\n\nimpl Schedule for Cosine {\n    fn factor(&self, _: usize, _: usize) -> \
                  f64 {\n        1.0\n    }\n}\n";
    fs::write(root.join("src/cosine.rs"), source).expect("the folder is ours");
    fs::write(&library, format!("{before}mod cosine;\n")).expect("the folder is ours");
    let (code, text) = run(&program(root, NAME), root, &["list"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.starts_with(
            "error: two schedules are named `Cosine`: one from the crate my-plugins 0.1.0, one from the crate \
             smallfry-optimizers 0.1.0\n"
        ),
        "{text}"
    );
    fs::write(&library, before).expect("the folder is ours");
}

/// A dependency that no code names is left out by Rust, and its plugins with it.
fn nothing_linked_is_told(root: &Path) {
    let main = "fn main() -> std::process::ExitCode {\n    smallfry::cli::main()\n}\n";
    fs::write(root.join("src/main.rs"), main).expect("the folder is ours");
    let program = program(root, NAME);
    let (code, text) = run(&program, root, &["list", "schedules"]);
    assert_eq!(code, Some(0), "{text}");
    let told =
        "no schedules are linked into this program; add `use some_plugins as _;` to its `main.rs`";
    assert!(text.contains(told), "{text}");
    let (code, text) = run(&program, root, &["check", "experiment.ron"]);
    assert_eq!(code, Some(2), "{text}");
    for told in [
        "no schedule is named `InverseRoot`",
        "no schedules are linked into this program",
        "no backbones are linked into this program",
    ] {
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn a_crate_that_cannot_be_made_is_refused() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    fs::create_dir(folder.path().join("there")).expect("the folder is ours");
    for (arguments, message) in [
        (&["new-plugin", "there"][..], "error: ./there exists"),
        (
            &["new-plugin", "Not-A-Crate"],
            "a crate cannot be named `Not-A-Crate`",
        ),
        (&["new-plugin", "smallfry-more"], "the name is taken"),
        (
            &["new-plugin", "fine", "--sources", "."],
            "these are not smallfry's sources: there is no ./framework/Cargo.toml",
        ),
        (
            &["new-plugin", "fine", "--folder", "there/file"],
            "cannot write ",
        ),
    ] {
        fs::write(folder.path().join("there/file"), "").expect("the folder is ours");
        let outcome = program::run(folder.path(), arguments);
        assert_eq!(outcome.code, Some(2), "{}", outcome.errors);
        assert!(outcome.errors.contains(message), "{}", outcome.errors);
    }
    let left = fs::read_dir(folder.path()).expect("it is ours").count();
    assert_eq!(left, 1, "nothing is left of what failed");
}
