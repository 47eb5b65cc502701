//! Static views from experiment file to files and back: what is written, for any number of threads and after kills; what the
//! record says; what is refused.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use smallfry::{
    data::{
        Dataset, Image,
        dataset::views::{Selection, StaticViews},
        decode::{Orientation, read},
        encode::jpeg,
        random::Random,
    },
    failure::Failure,
    plan::{Plan, Stage},
    preflight,
    results::StageOutcome,
    run, statics,
    workplace::Existing,
};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::{
    golden::Reference,
    program,
    run_folder::{self, options},
};

/// Seven images of two classes, one of them no image, two with troublesome names.
fn images(folder: &Path) {
    let mut random = Random::new(&[4]);
    for (path, width, height) in [
        ("b/one.jpg", 70, 50),
        ("b/two.x.jpg", 33, 80),
        ("b/two.jpg", 64, 64),
        ("a/with-dash.jpg", 90, 41),
        ("a/grey.jpg", 50, 50),
        ("a/third.jpg", 50, 60),
    ] {
        let mut image = Image::black(width, height);
        let row = 3 * width;
        for (at, byte) in image.pixels.iter_mut().enumerate() {
            *byte = (at % row + at / row + random.below(60) as usize) as u8;
        }
        let path = folder.join("images").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, jpeg(&image)).unwrap();
    }
    fs::write(folder.join("images/a/broken.jpg"), "no image").unwrap();
}

fn text(fields: &str) -> String {
    format!(
        "Experiment(name: \"set\", seed: 5, stages: [Views(data: ImageFolder(path: \"images\"), {fields})])"
    )
}

fn plan(folder: &Path, fields: &str) -> Plan {
    run_folder::plan(&folder.join("set.ron"), &text(fields))
}

fn written(folder: &Path) -> PathBuf {
    folder.join("runs/set/views/views")
}

/// Runs the stage on some threads; gives its outcome.
fn write(
    plan: &Plan,
    threads: usize,
    existing: Existing,
) -> Result<smallfry::results::views::Outcome, Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    let pool = pool.build().unwrap();
    let summary = pool.install(|| run::run(plan, &options(existing)))?;
    match &summary.results.stages[0].outcome {
        StageOutcome::Views(outcome) => Ok(outcome.clone()),
        other => panic!("{other:?}"),
    }
}

/// All files below a folder by path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn a_set_is_written_with_its_record_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    for (mode, count) in [("MoCo", 3), ("NoInter", 3), ("Hard", 11)] {
        let plan = plan(folder.path(), &format!("mode: {mode}"));
        let outcome = write(&plan, 2, Existing::Overwrite).unwrap();
        assert_eq!((outcome.samples, outcome.files), (6, 6 * count));
        assert_eq!(outcome.left_out.len(), 1);
        assert_eq!(outcome.left_out[0].0, "a/broken.jpg");
        let root = written(folder.path());
        let all = files(&root);
        assert_eq!(all.len(), 6 * count + 1);
        let bytes: usize = all.values().map(Vec::len).sum();
        assert_eq!(outcome.bytes as usize, bytes - all["manifest.jsonl"].len());

        // What was expected before anything was written is what is there, but for the image that cannot be read.
        let facts = preflight::check(&plan).unwrap();
        let about = facts[0].lines.iter().find(|(name, _)| *name == "views");
        assert!(
            about
                .unwrap()
                .1
                .contains(&format!("{} files of 7 images", 7 * count))
        );
        let Stage::Views(stage) = &plan.stages[0] else {
            panic!("a stage of views");
        };
        let data = stage.data.open().unwrap();
        let run = folder.path().join("runs/set");
        let (planned, _) = statics::planned(stage, &*data, &run).unwrap();
        let names = |set: &dyn Dataset| -> Vec<_> {
            let all = 0..set.len();
            all.map(|i| (set.name(i), set.label(i))).collect()
        };
        let mut expected = names(&*planned);
        expected.retain(|(name, _)| name != "a/broken");
        let set = StaticViews::open(&root, Selection::Normal).unwrap();
        assert_eq!(names(&set), expected);
        assert_eq!(
            expected
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>(),
            [
                "a/grey",
                "a/third",
                "a/with_dash",
                "b/one",
                "b/two",
                "b/two_2"
            ]
        );
        assert_eq!(planned.classes(), set.classes());
        for sample in 0..set.len() {
            for view in 1..3 {
                let image = set.load_view(sample, view).unwrap();
                assert_eq!((image.width, image.height), (224, 224));
            }
        }
        let source = read(
            &folder.path().join("images/b/one.jpg"),
            Orientation::AsStored,
        )
        .unwrap();
        assert_eq!(all["b/one-0.jpeg"], jpeg(&source));

        let lines = String::from_utf8(all["manifest.jsonl"].clone()).unwrap();
        let lines: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["mode"], mode);
        assert_eq!(lines[3]["source"], "a/with-dash.jpg");
        assert_eq!(lines[3]["recipe"]["views"].as_array().unwrap().len(), 2);
        assert_eq!(lines[7]["line"], "left_out");
        assert_eq!(lines[8]["files"], 6 * count);
        for line in &lines[1..7] {
            for (number, file) in line["files"].as_array().unwrap().iter().enumerate() {
                let path = format!("{}-{number}.jpeg", line["image"].as_str().unwrap());
                let hash = blake3_of(&all[&path]);
                assert_eq!(
                    (&file[0], &file[1]),
                    (&all[&path].len().into(), &hash.into())
                );
            }
        }
        let page = fs::read_to_string(run.join("report.html")).unwrap();
        assert_eq!(page.matches("title=\"original\"").count(), 4);
    }
}

fn blake3_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[test]
fn any_number_of_threads_and_any_interruption_give_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    let plan = plan(folder.path(), "mode: Easy");
    write(&plan, 1, Existing::Refuse).unwrap();
    let root = written(folder.path());
    let expected = files(&root);
    write(&plan, 5, Existing::Overwrite).unwrap();
    assert!(files(&root) == expected);

    // As a kill leaves it: a record of some images, its last line cut short, a file half-written, one lost.
    let manifest = String::from_utf8(expected["manifest.jsonl"].clone()).unwrap();
    let lines: Vec<&str> = manifest.lines().collect();
    for (kept, cut) in [(0, 0), (0, 20), (1, 0), (1, 50), (4, 300)] {
        let mut record: String = lines[..=kept].join("\n") + "\n";
        record += &lines[kept + 1][..cut];
        if kept == 0 && cut > 0 {
            record = lines[0][..cut].to_owned();
        }
        fs::remove_file(root.join("manifest.jsonl")).unwrap();
        if kept == 0 && cut > 0 {
            // Killed before the first line was whole, there is nothing else yet.
            fs::remove_dir_all(&root).unwrap();
            fs::create_dir_all(&root).unwrap();
        } else {
            fs::write(
                root.join("a/grey-2.jpeg"),
                &expected["a/grey-2.jpeg"][..100],
            )
            .unwrap();
            fs::remove_file(root.join("b/two-7.jpeg")).unwrap();
        }
        fs::write(root.join("manifest.unfinished.jsonl"), record).unwrap();
        write(&plan, 3, Existing::Resume).unwrap();
        assert!(files(&root) == expected, "{kept} {cut}");
    }

    // A finished set that lost or gained something since is mended, and a whole one left alone.
    fs::remove_file(root.join("b/one-3.jpeg")).unwrap();
    write(&plan, 2, Existing::Resume).unwrap();
    assert!(files(&root) == expected);
    let before = fs::metadata(root.join("b/one-3.jpeg"))
        .unwrap()
        .modified()
        .unwrap();
    write(&plan, 2, Existing::Resume).unwrap();
    let after = fs::metadata(root.join("b/one-3.jpeg"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(before, after);
}

#[test]
fn views_of_an_image_do_not_depend_on_the_others() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    write(&plan(folder.path(), "mode: MoCo"), 2, Existing::Refuse).unwrap();
    let all = files(&written(folder.path()));
    let outcome = write(&plan(folder.path(), "per_class: 1"), 2, Existing::Resume).unwrap();
    // Of class `a` the first by name cannot be read.
    assert_eq!((outcome.samples, outcome.left_out.len()), (1, 1));
    let few = files(&written(folder.path()));
    let paths: Vec<_> = few.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "b/one-0.jpeg",
            "b/one-1.jpeg",
            "b/one-2.jpeg",
            "manifest.jsonl"
        ]
    );
    for path in &paths[..3] {
        assert!(few[*path] == all[*path]);
    }
}

#[test]
fn what_cannot_be_written_is_not_counted_as_done() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    let plan = plan(folder.path(), "mode: MoCo");
    write(&plan, 1, Existing::Refuse).unwrap();
    let root = written(folder.path());
    let expected = files(&root);
    fs::remove_file(root.join("b/one-1.jpeg")).unwrap();
    fs::create_dir(root.join("b/one-1.jpeg")).unwrap();
    let failure = write(&plan, 2, Existing::Resume).unwrap_err();
    assert!(failure.message.contains("b/one-1.jpeg"), "{failure}");
    assert!(!root.join("manifest.jsonl").exists());
    fs::remove_dir(root.join("b/one-1.jpeg")).unwrap();
    write(&plan, 2, Existing::Resume).unwrap();
    assert!(files(&root) == expected);
}

#[test]
fn mistakes_are_told_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    fs::create_dir(folder.path().join("taken")).unwrap();
    fs::write(folder.path().join("taken/thesis.tex"), "").unwrap();
    fs::create_dir(folder.path().join("flat")).unwrap();
    fs::write(folder.path().join("flat/x.jpg"), jpeg(&Image::black(9, 9))).unwrap();
    for (fields, expected) in [
        (
            "mode: Contain",
            "`mode` of Views: the reference names `contain`, but says nowhere what it is",
        ),
        ("mode: Hardest", "Hardest"),
        ("per_class: 0", "`per_class` of Views: must be above 0"),
        ("folder: \"taken\"", "holds files that are no static views"),
    ] {
        fs::write(folder.path().join("set.ron"), text(fields)).unwrap();
        let outcome = program::run(folder.path(), &["check", "set.ron"]);
        assert_eq!(outcome.code, Some(2), "{fields}");
        assert!(outcome.errors.contains(expected), "{}", outcome.errors);
    }
    fs::write(
        folder.path().join("set.ron"),
        text("").replace("images", "flat"),
    )
    .unwrap();
    let outcome = program::run(folder.path(), &["check", "set.ron"]);
    assert!(
        outcome
            .errors
            .contains("static views lie in one folder a class"),
        "{}",
        outcome.errors
    );

    // A folder of its own is only ever gone on with.
    fs::write(folder.path().join("set.ron"), text("folder: \"own\"")).unwrap();
    assert_eq!(
        program::run(folder.path(), &["run", "set.ron"]).code,
        Some(0)
    );
    let before = files(&folder.path().join("own"));
    let arguments = ["run", "set.ron", "seed=6", "name=other"];
    let outcome = program::run(folder.path(), &arguments);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.errors.contains("holds another set of static views"),
        "{}",
        outcome.errors
    );
    assert!(files(&folder.path().join("own")) == before);
}

#[test]
fn a_folder_is_verified_against_its_record() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    fs::write(folder.path().join("set.ron"), text("mode: SuperHard")).unwrap();
    let call = |arguments: &[&str]| program::run(folder.path(), arguments);
    assert_eq!(call(&["run", "set.ron"]).code, Some(0));
    let set = "runs/set/views/views";
    for arguments in [
        &["verify", set][..],
        &["verify", set, "--remake", "set.ron"],
    ] {
        let outcome = call(arguments);
        assert_eq!(outcome.output, "6 images, 66 files: all as recorded\n");
        assert_eq!(outcome.code, Some(0));
    }
    let found = |outcome: &program::Outcome| -> Value {
        assert_eq!(outcome.errors, "");
        serde_json::from_str(&outcome.output).unwrap()
    };
    let outcome = call(&["verify", set, "--json"]);
    assert_eq!(outcome.code, Some(0));
    let expected = json!({
        "images": 6, "files": 66, "missing": [], "changed": [], "extra": [], "unequal": [],
    });
    assert_eq!(found(&outcome), expected);
    let outcome = call(&["verify", set, "--remake", "set.ron", "--set", "seed=6"]);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.errors.contains("seed 6, where the set has 5"),
        "{}",
        outcome.errors
    );

    let root = folder.path().join(set);
    fs::remove_file(root.join("a/grey-4.jpeg")).unwrap();
    let mut changed = fs::read(root.join("b/two-0.jpeg")).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(root.join("b/two-0.jpeg"), changed).unwrap();
    fs::write(root.join("b/more.jpeg"), "").unwrap();
    let source = folder.path().join("images/b/one.jpg");
    fs::write(&source, jpeg(&Image::black(70, 50))).unwrap();
    let outcome = call(&["verify", set, "--remake", "set.ron"]);
    assert_eq!(outcome.code, Some(1));
    for line in [
        "missing  a/grey-4.jpeg",
        "changed  b/two-0.jpeg",
        "extra    b/more.jpeg",
        "unequal  b/one-1.jpeg",
        "6 images, 66 files: 1 missing, 1 changed, 1 extra, 11 unequal",
    ] {
        assert!(outcome.errors.contains(line), "{}", outcome.errors);
    }
    let outcome = call(&["verify", set, "--remake", "set.ron", "--json"]);
    assert_eq!(outcome.code, Some(1));
    let all = found(&outcome);
    assert_eq!(all["missing"], json!(["a/grey-4.jpeg"]));
    assert_eq!(all["changed"], json!(["b/two-0.jpeg"]));
    assert_eq!(all["extra"], json!(["b/more.jpeg"]));
    assert_eq!(all["unequal"].as_array().unwrap().len(), 11);
    for (path, expected) in [
        ("images", "holds no record of static views"),
        ("none", "holds no record of static views"),
    ] {
        let outcome = call(&["verify", path]);
        assert_eq!(outcome.code, Some(2));
        assert!(outcome.errors.contains(expected), "{}", outcome.errors);
    }
    let manifest = fs::read_to_string(root.join("manifest.jsonl")).unwrap();
    fs::write(root.join("manifest.jsonl"), &manifest[..manifest.len() / 2]).unwrap();
    let outcome = call(&["verify", set]);
    assert!(
        outcome.errors.contains("has a manifest that is cut short"),
        "{}",
        outcome.errors
    );
    // Paths that lead out of the folder are none.
    let out = manifest.replace("\"image\":\"a/grey\"", "\"image\":\"../../grey\"");
    assert_ne!(out, manifest);
    fs::write(root.join("manifest.jsonl"), out).unwrap();
    let outcome = call(&["verify", set]);
    assert!(
        outcome.errors.contains("has a manifest that is cut short"),
        "{}",
        outcome.errors
    );
}

/// The set that the published script wrote.
#[test]
fn a_set_of_the_reference_is_read() {
    let Some(reference) = Reference::find("the reference's static views") else {
        return;
    };
    let root = reference.path("golden/g5_eval/static");
    let set = StaticViews::open(&root, Selection::Normal).unwrap();
    assert_eq!((set.len(), set.classes().len(), set.views()), (80, 8, 3));
    for sample in 0..set.len() {
        for view in 0..3 {
            let image = set.load_view(sample, view).unwrap();
            assert!(view == 0 || (image.width, image.height) == (224, 224));
        }
    }
    let masked = StaticViews::open(&root, Selection::GMask).unwrap_err();
    assert!(masked.name.ends_with("-3.jpeg"), "{masked}");
    // `file_order` gives the paths of the images in the order of the reference's features.
    let evaluation = reference.json("golden/g5_eval/evaluation.json");
    let order = evaluation["file_order"].as_array().unwrap();
    let names: Vec<_> = (0..set.len()).map(|sample| set.name(sample)).collect();
    for (name, expected) in names.iter().zip(order) {
        let expected = expected.as_str().unwrap();
        assert!(expected.contains(name.as_str()), "{name} {expected}");
    }
}
