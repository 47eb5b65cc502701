use smallfry::cli::Foreign;

use super::*;
use crate::flags::tests::{every_flag, refused, round, settings, told, words};

const PROGRAM: &Foreign = &MOCO;

/// The paper's recipe, as its README has it, flag by flag.
const PAPER: &str = "-a mobilenetv3_large --lr 0.06 --batch-size 512 -j 64 --epochs 800 --mlp wide --moco-t 0.1 \
    --moco-k 65536 --cj 1 --grey-scale 0.5 --gaussian-blur 0.5 --cos --aug-plus --dist-url tcp://localhost:10001 \
    --multiprocessing-distributed --world-size 1 --rank 0 --resume seed.pth.tar --restart imagenet";

#[test]
fn the_papers_command_is_the_papers_recipe() {
    let settings = settings(PROGRAM, PAPER);
    for (path, value) in [
        ("backbone", "mobilenetv3_large"),
        ("data.path", "\"imagenet/train\""),
        ("objective.temperature", "0.1"),
        ("objective.queue", "65536"),
        ("objective.head", "Wide"),
        (
            "view",
            "[RandomResizedCrop, ColorJitter, Grayscale, GaussianBlur, HorizontalFlip]",
        ),
        ("view.ColorJitter.brightness", "0.8"),
        ("view.ColorJitter.hue", "0.4"),
        ("optimizer.lr", "0.06"),
        ("optimizer.weight_decay", "0.0001"),
        ("schedule", "Cosine"),
        ("initial", "Restart(File(\"seed.pth.tar\"))"),
        ("epochs", "800"),
        ("batch", "512"),
    ] {
        assert_eq!(
            settings.get(path).map(String::as_str),
            Some(value),
            "{path}"
        );
    }
    let back = told(&command(&settings).unwrap());
    assert_eq!(
        back,
        "main_moco_final.py -a mobilenetv3_large --epochs 800 --batch-size 512 --lr 0.06 --cj 1 --cos --resume seed.pth.tar --restart imagenet"
    );
    let notes = experiment(&words(PAPER)).unwrap().notes;
    assert_eq!(notes.len(), 3, "{notes:?}");
}

#[test]
fn flags_come_back_as_they_were() {
    for flags in [
        "DATA",
        "-a vit_tiny --moco-dim 64 --moco-k 4096 --moco-m 0.99 --moco-t 0.07 DATA",
        "-a resnet18 --epochs 20 --batch-size 64 --lr 0.015 --momentum 0.5 --wd 0.001 DATA",
        "--gaussian-blur 0.1 --grey-scale 0.2 --mlp simple --cj 0.25 --aug-has DATA",
        "--mlp deep --cj 0.5 --cos DATA",
        "--mlp none --schedule 30 60 90 --resume a/b.pth.tar DATA",
        "--mlp dropout --cj 2 --resume x.pth.tar --restart some/where",
    ] {
        round(PROGRAM, &format!("main_moco_final.py {flags}"));
    }
}

#[test]
fn every_flag_of_the_reference_is_known_by_each_of_its_names() {
    every_flag(PROGRAM, &TABLE, "DATA", |name| {
        (name == "--arch").then_some("resnet18")
    });
    let both = |a: &str, b: &str| assert_eq!(experiment(&words(a)), experiment(&words(b)));
    both("--lr=0.06 DATA", "DATA --learning-rate 0.06");
    both("-b512 DATA", "--batch-size 512 DATA");
    both("a/main_moco_final.py DATA", "DATA");
}

#[test]
fn what_cannot_be_had_is_refused() {
    for (flags, message) in [
        ("", "no data folder"),
        ("DATA other", "there is a data folder already, `DATA`"),
        (
            "--moco-tt 0.1 DATA",
            "has no flag `--moco-tt`\n  = help: near it are --moco-t",
        ),
        (
            "--world-size 4 DATA",
            "--world-size 4 cannot be had\n  = help: one process trains here",
        ),
        ("--start-epoch 5 DATA", "--start-epoch 5 cannot be had"),
        ("--lr fast DATA", "--learning-rate: `fast` is no number"),
        ("--cos=1 DATA", "--cos takes no value"),
        ("DATA --lr", "--lr needs a value"),
    ] {
        refused(PROGRAM, flags, message);
    }
    let notes = experiment(&words("--mlp huge DATA")).unwrap().notes;
    assert!(notes[0].contains("no head that there is"), "{notes:?}");
}

#[test]
fn hue_is_capped_and_other_methods_have_no_flags() {
    assert_eq!(
        settings(PROGRAM, "--cj 1.5 DATA")["view.ColorJitter.hue"],
        "0.5"
    );
    assert_eq!(
        settings(PROGRAM, "--cj 1.5 DATA")["view.ColorJitter.contrast"],
        "1.2"
    );
    let other = BTreeMap::from([("objective".to_owned(), "SEED".to_owned())]);
    assert_eq!(command(&other), None);
}
