use std::path::Path;

use smallfry::{compare, experiment as file, source::Source};

use super::*;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The settings of the stage that flags come to, after the whole way through an experiment file.
fn settings(flags: &str) -> BTreeMap<String, String> {
    let text = experiment(&words(flags))
        .unwrap_or_else(|failure| panic!("{failure}"))
        .text;
    let plan = file::parse(
        Source::new("moco.ron", text.clone()),
        Path::new("."),
        "moco",
        &[],
    );
    let plan = plan.unwrap_or_else(|errors| panic!("{}\n{text}", errors[0]));
    let settings = compare::settings(&plan.resolved).unwrap_or_else(|failure| panic!("{failure}"));
    let own = settings
        .into_iter()
        .filter_map(|(path, value)| Some((path.strip_prefix("pretrain.")?.to_owned(), value)));
    own.collect()
}

/// The paper's recipe, as its README has it, flag by flag.
const PAPER: &str = "-a mobilenetv3_large --lr 0.06 --batch-size 512 -j 64 --epochs 800 --mlp wide --moco-t 0.1 \
    --moco-k 65536 --cj 1 --grey-scale 0.5 --gaussian-blur 0.5 --cos --aug-plus --dist-url tcp://localhost:10001 \
    --multiprocessing-distributed --world-size 1 --rank 0 --resume seed.pth.tar --restart imagenet";

#[test]
fn the_papers_command_is_the_papers_recipe() {
    let settings = settings(PAPER);
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
    let back = arguments(&settings).unwrap().join(" ");
    assert_eq!(
        back,
        "-a mobilenetv3_large --epochs 800 --batch-size 512 --lr 0.06 --cj 1 --cos --resume seed.pth.tar --restart imagenet"
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
        let settings = settings(flags);
        let back = arguments(&settings).unwrap();
        assert_eq!(back.join(" "), flags);
        assert_eq!(self::settings(&back.join(" ")), settings);
    }
}

#[test]
fn every_flag_of_the_reference_is_known_by_each_of_its_names() {
    // Every value but the default, each alone.
    for (names, takes, default, meaning) in &FLAGS {
        for name in *names {
            let value = match (takes, meaning) {
                (Takes::Nothing, _) => "",
                (_, Meaning::Only(value, _)) => value,
                (Takes::Numbers, _) => "3 5",
                _ if *name == "-a" || *name == "--arch" => "resnet18",
                _ if default.parse::<f64>().is_ok() => "1",
                _ => "7",
            };
            experiment(&words(&format!("{name} {value} DATA")))
                .unwrap_or_else(|failure| panic!("{name}: {failure}"));
        }
    }
    let both = |a: &str, b: &str| assert_eq!(experiment(&words(a)), experiment(&words(b)));
    both("--lr=0.06 DATA", "DATA --learning-rate 0.06");
    both("-b512 DATA", "--batch-size 512 DATA");
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
        let failure = experiment(&words(flags)).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains(message), "{flags}: {failure}");
    }
    let notes = experiment(&words("--mlp huge DATA")).unwrap().notes;
    assert!(notes[0].contains("no head that there is"), "{notes:?}");
}

#[test]
fn hue_is_capped_and_other_methods_have_no_flags() {
    assert_eq!(settings("--cj 1.5 DATA")["view.ColorJitter.hue"], "0.5");
    assert_eq!(
        settings("--cj 1.5 DATA")["view.ColorJitter.contrast"],
        "1.2"
    );
    let other = BTreeMap::from([("objective".to_owned(), "SEED".to_owned())]);
    assert_eq!(arguments(&other), None);
}
