//! Experiments that have a base: what counts where both say something, and where paths start.

use std::{fs, path::Path};

use smallfry::{
    checkpoint::Weights,
    diagnostic::Diagnostic,
    experiment,
    plan::{Origin, Plan, Stage},
    preflight,
};
use smallfry_plugins as _; // links the stock plugins

const BASE: &str = r#"// What all have in common.
Experiment(
    name: "common",
    seed: 3,
    stages: [
        Pretrain(
            data: ImageFolder(path: "photos"),
            backbone: mobilenetv3_small,
            objective: MoCo(queue: 8, temperature: 0.2),
            view: [RandomResizedCrop(size: 64), HorizontalFlip],
            optimizer: SGD(lr: 0.5),
            schedule: Cosine,
            epochs: 1,
            batch: 2,
        ),
        Evaluate(
            weights: Stage("pretrain"),
            train: ImageFolder(path: "photos"),
            test: ImageFolder(path: "photos"),
            metrics: [BestNN(k: 1)],
        ),
    ],
)
"#;

/// A folder with files; `common/photos` and `own/photos` hold images.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("there is room");
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/diagnostics/photos");
    for set in ["common/photos", "own/photos"] {
        for class in ["cat", "dog"] {
            let to = root.path().join(set).join(class);
            fs::create_dir_all(&to).expect("the folder is ours");
            for name in ["1.png", "2.png"] {
                let from = images.join(class).join(name);
                fs::copy(from, to.join(name)).expect("it can be copied");
            }
        }
    }
    for (name, text) in files {
        fs::write(root.path().join(name), text).expect("the folder is ours");
    }
    root
}

fn load(root: &Path, file: &str, overrides: &[&str]) -> Result<Plan, Vec<Diagnostic>> {
    let overrides: Vec<_> = overrides.iter().map(|&text| text.to_owned()).collect();
    experiment::load(&root.join(file), &overrides)
}

fn good(root: &Path, file: &str, overrides: &[&str]) -> Plan {
    let plan = load(root, file, overrides).unwrap_or_else(|errors| panic!("{}", errors[0]));
    preflight::check(&plan).unwrap_or_else(|errors| panic!("{}", errors[0]));
    plan
}

#[test]
fn a_file_that_changes_nothing_is_its_base() {
    let root = folder(&[
        ("common/a.ron", BASE),
        ("common/b.ron", "Experiment(base: \"a.ron\")"),
    ]);
    let (a, b) = (
        good(root.path(), "common/a.ron", &[]),
        good(root.path(), "common/b.ron", &[]),
    );
    assert_eq!((a.name.as_str(), b.name.as_str()), ("common", "b"));
    assert_eq!(a.essence, b.essence);
    assert_eq!(a.resolved.replace("\"common\"", "\"b\""), b.resolved);
}

#[test]
fn the_nearer_word_counts() {
    let middle = r#"Experiment(
        base: "a.ron",
        seed: 4,
        changes: ["pretrain.objective.temperature=0.3", "pretrain.view.RandomResizedCrop.size=32"],
        stages: [Pretrain(epochs: 2, optimizer: SGD)],
    )"#;
    let last = r#"Experiment(
        base: "b.ron",
        changes: ["pretrain.epochs=5", r"pretrain.view.0.size=48"],
        stages: [
            Evaluate(name: "again", weights: Untrained, train: ImageFolder(path: "photos"), test: ImageFolder(path: "photos"), metrics: [BestNN(k: 1)]),
            Pretrain(epochs: 4),
        ],
    )"#;
    let root = folder(&[
        ("common/a.ron", BASE),
        ("common/b.ron", middle),
        ("common/c.ron", last),
    ]);
    let plan = good(root.path(), "common/c.ron", &["seed=9"]);
    let says = |text: &str| assert!(plan.resolved.contains(text), "{text}\n{}", plan.resolved);
    // The command line, the last file's changes, its fields, the middle file's changes and fields, the base.
    says("seed: 9,");
    says("epochs: 5,");
    says("size: 48,");
    says("temperature: 0.3,");
    says("queue: 8,");
    // A plugin is one value: nothing of `lr: 0.5` is left.
    says("lr: 0.03,");
    let names: Vec<_> = plan.stages.iter().map(|stage| stage.name()).collect();
    assert_eq!(names, ["pretrain", "evaluate", "again"]);
}

#[test]
fn views_for_each_take_the_place_of_a_view_for_all() {
    let own = "Experiment(base: \"a.ron\", stages: [Pretrain(views: [[RandomResizedCrop(size: 32)], [RandomResizedCrop(size: 32)]])])";
    let root = folder(&[("common/a.ron", BASE), ("common/b.ron", own)]);
    let plan = good(root.path(), "common/b.ron", &[]);
    assert!(
        !plan.resolved.contains("HorizontalFlip"),
        "{}",
        plan.resolved
    );
}

#[test]
fn a_stage_alone_has_a_base_too() {
    let start = BASE.find("Pretrain(").expect("it is there");
    let end = BASE.find("        Evaluate(").expect("it is there");
    let alone = BASE[start..end].trim().trim_end_matches(',');
    let root = folder(&[
        ("common/a.ron", alone),
        (
            "common/b.ron",
            "Pretrain(base: \"a.ron\", epochs: 7, seed: 2)",
        ),
    ]);
    let plan = good(root.path(), "common/b.ron", &["epochs=8"]);
    assert_eq!(plan.seed, 2);
    assert!(plan.resolved.contains("epochs: 8,"), "{}", plan.resolved);
}

#[test]
fn paths_start_in_the_folder_of_their_file() {
    let own = r#"Experiment(
        base: "../common/a.ron",
        stages: [Evaluate(test: ImageFolder(path: "photos"))],
    )"#;
    let root = folder(&[("common/a.ron", BASE), ("own/b.ron", own)]);
    fs::remove_dir_all(root.path().join("own/photos/dog")).expect("it is there");
    let plan = good(root.path(), "own/b.ron", &[]);
    let said = "ImageFolder(path: \"photos\", upright: false, cache: 512)";
    let facts = preflight::check(&plan).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let set = |stage: usize, name: &str| {
        let mut lines = facts[stage].lines.iter();
        let line = lines.find(|line| line.0 == name).expect("it is told");
        line.1.clone()
    };
    assert_eq!(
        set(0, "data"),
        format!("In(\"../common\", {said}): 4 images, 2 classes")
    );
    assert!(set(1, "train").contains("4 images"), "{}", set(1, "train"));
    assert!(
        set(1, "test").starts_with(&format!("{said}: 2 images")),
        "{}",
        set(1, "test")
    );
    // What has no path is written as ever.
    assert!(
        plan.resolved.contains("optimizer: SGD("),
        "{}",
        plan.resolved
    );
    // The resolved file stands for itself, wherever it lies.
    let elsewhere = root.path().join("resolved.ron");
    fs::write(&elsewhere, &plan.resolved).expect("the folder is ours");
    let again = good(root.path(), "resolved.ron", &[]);
    assert_eq!(again.resolved, plan.resolved);
    assert_eq!(again.essence, plan.essence);
}

/// Paths of every sort, written in a base that lies elsewhere.
#[test]
fn all_paths_of_a_base_start_in_its_folder() {
    let base = r#"Experiment(
        output: "runs",
        weights: File("all.pth"),
        backbone: mobilenetv3_small,
        stages: [
            Views(data: ImageFolder(path: "photos"), folder: "set"),
            Pretrain(
                data: ImageFolder(path: "photos"),
                backbone: mobilenetv3_small,
                objective: SEED(queue: 8, teacher: resnet18, weights: File("teacher.pth")),
                view: [RandomResizedCrop(size: 64)],
                initial: Backbone(File("start.pth")),
                optimizer: SGD,
                schedule: Cosine,
                epochs: 1,
                batch: 2,
            ),
            Evaluate(test: ImageFolder(path: "photos"), metrics: [BestNN(k: 1)]),
        ],
    )"#;
    let own = "Experiment(base: \"../common/a.ron\")";
    let root = folder(&[("common/a.ron", base), ("own/b.ron", own)]);
    for name in ["all.pth", "teacher.pth", "start.pth", "set", "runs"] {
        fs::write(root.path().join("common").join(name), "").expect("the folder is ours");
    }
    let plan = load(root.path(), "own/b.ron", &[]).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let common = fs::canonicalize(root.path().join("common")).expect("it is there");
    let same = |path: &Path, name: &str| {
        let path = fs::canonicalize(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_eq!(path, common.join(name));
    };
    same(&plan.output, "runs");
    let [
        Stage::Views(views),
        Stage::Pretrain(training),
        Stage::Evaluate(evaluation),
    ] = plan.stages.as_slice()
    else {
        panic!("there are three stages");
    };
    same(views.folder.as_deref().expect("it is given"), "set");
    match training.initial.as_ref().map(|initial| &initial.origin) {
        Some(Origin::File(path)) => same(path, "start.pth"),
        other => panic!("{other:?}"),
    }
    match &evaluation.subject.weights {
        Weights::File(path) => same(path, "all.pth"),
        other => panic!("{other:?}"),
    }
    match training
        .objective
        .sources()
        .first()
        .map(|source| &source.weights)
    {
        Some(Weights::File(path)) => same(path, "teacher.pth"),
        other => panic!("{other:?}"),
    }
    for data in [&views.data, &training.data] {
        assert_eq!(data.plugin.open().expect("it is there").len(), 4);
    }
    // Nor does the resolved text, wherever it lies, lead anywhere else.
    let elsewhere = root.path().join("resolved.ron");
    fs::write(&elsewhere, &plan.resolved).expect("the folder is ours");
    let again =
        load(root.path(), "resolved.ron", &[]).unwrap_or_else(|errors| panic!("{}", errors[0]));
    assert_eq!(again.resolved, plan.resolved);
    match &again.stages[0] {
        Stage::Views(views) => same(views.folder.as_deref().expect("it is given"), "set"),
        _ => panic!("it begins with views"),
    }
}

/// Where a file is static views and nothing else, `folder` is where they are written.
#[test]
fn static_views_alone_have_their_folder() {
    let base = "Views(data: ImageFolder(path: \"photos\"), folder: \"set\")";
    let root = folder(&[
        ("common/a.ron", base),
        ("own/b.ron", "Views(base: \"../common/a.ron\", seed: 2)"),
        (
            "own/c.ron",
            "Views(base: \"../common/a.ron\", folder: \"other\")",
        ),
    ]);
    for (file, folder) in [
        ("common/a.ron", "common/set"),
        ("own/b.ron", "common/set"),
        ("own/c.ron", "own/other"),
    ] {
        let plan = load(root.path(), file, &[]).unwrap_or_else(|errors| panic!("{}", errors[0]));
        let Stage::Views(views) = &plan.stages[0] else {
            panic!("it is static views");
        };
        let written = views.folder.as_deref().expect("it is given");
        fs::create_dir_all(written).expect("the folder is ours");
        assert!(
            root.path().join(folder).is_dir(),
            "{file}: {}",
            written.display()
        );
        assert_eq!(views.data.plugin.open().expect("it is there").len(), 4);
    }
}

#[test]
fn mistakes_stand_in_the_file_they_come_from() {
    let root = folder(&[
        ("common/a.ron", &BASE.replace("lr: 0.5", "lr: -1")),
        ("own/b.ron", "Experiment(base: \"../common/a.ron\", sed: 1)"),
    ]);
    let errors = load(root.path(), "own/b.ron", &[])
        .err()
        .expect("it is wrong");
    let places: Vec<_> = errors
        .iter()
        .map(|error| {
            let place = error.place().expect("it stands somewhere");
            let file = error.path.rsplit('/').next().unwrap_or_default();
            (
                file.to_owned(),
                place.line,
                place.column,
                error.note.is_some(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("b.ron".to_owned(), 1, 37, false),
            ("a.ron".to_owned(), 11, 32, true)
        ]
    );
    let note = errors[1].note.as_deref().unwrap_or_default();
    assert!(
        note.starts_with("it is the base of ") && note.ends_with("own/b.ron"),
        "{note}"
    );
}

#[test]
fn a_circle_ends() {
    let root = folder(&[
        ("own/a.ron", "Experiment(base: \"b.ron\")"),
        ("own/b.ron", "Experiment(base: \"../own/a.ron\")"),
        ("own/c.ron", "Experiment(base: \"c.ron\")"),
    ]);
    for file in ["own/a.ron", "own/c.ron"] {
        let errors = load(root.path(), file, &[]).err().expect("it has no end");
        assert_eq!(errors.len(), 1);
        assert_eq!(
            errors[0].message,
            "`base`: the file comes to be its own base"
        );
        let help = errors[0].help.as_deref().unwrap_or_default();
        assert!(help.matches("has the base").count() >= 1, "{help}");
    }
}
