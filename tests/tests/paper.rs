//! The experiment files of the small models' paper: they read, resolve to themselves, lack nothing but data and weights,
//! and are the released command.

use std::{
    fs,
    path::{Path, PathBuf},
};

use smallfry::{experiment, preflight, source::Source};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::program;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments/paper")
}

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).expect("the folder is there");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ron"));
    files.sort();
    files
}

#[test]
fn nothing_is_missing_but_data_and_weights() {
    let files = files();
    assert_eq!(files.len(), 16);
    for path in files {
        let name = path.display();
        let plan =
            experiment::load(&path, &[]).unwrap_or_else(|errors| panic!("{name}: {}", errors[0]));
        let again = experiment::parse(
            Source::new("again", plan.resolved.clone()),
            &folder(),
            "again",
            &[],
        );
        let again = again.unwrap_or_else(|errors| panic!("{name}: {}", errors[0]));
        assert_eq!(again.resolved, plan.resolved, "{name}");
        let trains = plan.stages.iter().any(|stage| stage.training().is_some());
        assert_eq!(trains, !path.ends_with("evaluate.ron"), "{name}");
        // With the data beside them the files would run; here what they lack is named.
        if folder().join("imagenet").exists() {
            continue;
        }
        let errors = preflight::check(&plan).expect_err("there are no data");
        for error in errors {
            let text = error.to_string();
            let lacking = [
                "imagenet/train",
                "imagenet/val",
                "moco_v2_800ep_pretrain",
                "checkpoint.pth.tar",
            ];
            assert!(
                lacking.iter().any(|what| text.contains(what)),
                "{name}: {text}"
            );
        }
    }
}

#[test]
fn the_improved_recipe_is_the_released_command() {
    for model in [
        "mobilenetv3_small",
        "mobilenetv3_large",
        "efficientnet_b0",
        "resnet18",
        "vit_tiny",
    ] {
        let file = format!("{model}-improved.ron");
        let outcome = program::run(&folder(), &["flags", &file]);
        assert_eq!(
            (outcome.code, outcome.errors.as_str()),
            (Some(0), ""),
            "{file}"
        );
        let command = format!(
            "pretrain\n  main_moco_final.py -a {model} --epochs 800 --batch-size 512 --lr 0.06 --cj 1 --cos --resume \
             distil.pth.tar --restart imagenet\n"
        );
        assert!(outcome.output.contains(&command), "{}", outcome.output);
        let groups = "no flag: objective.groups = 8 (the flags give 1)";
        assert_eq!(
            outcome.output.contains(groups),
            model != "vit_tiny",
            "{}",
            outcome.output
        );
    }
}

#[test]
fn flags_make_an_experiment_file() {
    let flags = "-a mobilenetv3_large --lr 0.06 --batch-size 512 --epochs 800 --cj 1 --cos --aug-plus photos";
    let words: Vec<_> = std::iter::once("moco").chain(flags.split(' ')).collect();
    let outcome = program::run(&folder(), &[&words[..], &["--print"]].concat());
    assert_eq!((outcome.code, outcome.errors.as_str()), (Some(0), ""));
    assert!(
        outcome.output.starts_with("// --aug-plus changes nothing"),
        "{}",
        outcome.output
    );
    let place = tempfile::tempdir().expect("there is room");
    fs::write(place.path().join("a.ron"), &outcome.output).expect("the folder is ours");
    let told = program::run(place.path(), &["flags", "a.ron"]);
    let wanted = flags.replace("--aug-plus ", "").replace(
        "--lr 0.06 --batch-size 512 --epochs 800",
        "--epochs 800 --batch-size 512 --lr 0.06",
    );
    assert_eq!(
        told.output,
        format!("pretrain\n  main_moco_final.py {wanted}\n"),
        "{told:?}"
    );
    // Nothing is run without data, and an unknown flag is a mistake.
    let outcome = program::run(place.path(), &["moco", "--epochs", "1", "nowhere"]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.errors.contains("nowhere/train"), "{outcome:?}");
    let outcome = program::run(place.path(), &["moco", "--epoch", "1", "nowhere"]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(
        outcome.errors.contains("near it are --epochs"),
        "{outcome:?}"
    );
}
