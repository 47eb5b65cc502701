use smallfry::cli::Foreign;

use super::*;
use crate::flags::tests::{every_flag, refused, round, settings, told, words};

/// The README's own example, with the words before the program left out.
const README: &str = "main_small-patch.py -a efficientnet_b1 -k resnet50 --teacher_ssl swav --distill swav.pth.tar --lr 0.03 \
    --batch-size 16 --temp 0.2 --workers 4 --output ./output --data tsv";

const PROGRAM: &Foreign = &SEED;

fn check(flags: &str, wanted: &[(&str, &str)]) {
    let settings = settings(PROGRAM, flags);
    for (path, value) in wanted {
        let found = settings.get(*path).map(String::as_str);
        assert_eq!(found, Some(*value), "{flags}: {path}");
    }
}

#[test]
fn the_published_command_is_six_patches_under_a_swav_teacher() {
    check(
        README,
        &[
            ("backbone", "efficientnet_b1"),
            ("data", "TSV"),
            ("data.path", "\"tsv/train.tsv\""),
            ("objective", "SEED"),
            ("objective.teacher", "swav_resnet50"),
            ("objective.weights", "File(\"swav.pth.tar\")"),
            ("objective.patches", "6"),
            ("objective.queue", "65536"),
            ("objective.temperature", "0.2"),
            ("objective.teacher_temperature", "0.0001"),
            ("objective.head", "Simple"),
            ("views.0", "[SwAV]"),
            ("schedule", "LinearWarmup"),
            ("schedule.peak", "1.0"),
            ("schedule.then", "Cosine"),
            ("epochs", "200"),
            ("batch", "16"),
        ],
    );
    let back = command(&settings(PROGRAM, README)).unwrap();
    assert_eq!(
        told(&back),
        "main_small-patch.py -a efficientnet_b1 --batch-size 16 -k swav_resnet50 --teacher_ssl swav --distill swav.pth.tar --data tsv"
    );
    let text = experiment(&words(README)).unwrap();
    assert!(text.text.contains("output: \"./output\""), "{}", text.text);
    assert_eq!(text.notes.len(), 1, "{:?}", text.notes);
}

#[test]
fn the_kind_of_teacher_decides_its_network_and_the_views() {
    for (flags, teacher, view) in [
        ("", "simclr_resnet50", "[SimCLR]"),
        ("-k simclr_resnet50", "simclr_resnet50", "[SimCLR]"),
        ("-s moco -k resnet101", "resnet101", "[MoCoV2]"),
        ("-s moco --student_mlp False", "resnet50", "[MoCoV1]"),
        ("-s swav -k resnet50w2", "swav_resnet50w2", "[SwAV]"),
        ("-s swav -k swav_resnet50w5", "swav_resnet50w5", "[SwAV]"),
        ("-s swav --student_mlp ''", "swav_resnet50", "[SwAV]"),
    ] {
        let flags = format!("{flags} --distill t.pth --data D");
        check(&flags, &[("objective.teacher", teacher), ("view", view)]);
    }
    let narrow = "-s swav --dim 64 --distill t.pth --data D";
    check(
        narrow,
        &[
            ("objective.dim", "64"),
            ("objective.teacher.output_dim", "64"),
        ],
    );
    check(
        "main_small-patch.py -k swav_resnet50w4 --distill t.pth --data D",
        &[("objective.teacher", "swav_resnet50w4")],
    );
}

#[test]
fn the_rate_rises_with_the_batch_of_several_devices_only() {
    for (flags, peak) in [
        ("-b 512 --distributed True", "2.0"),
        ("-b 64 --distributed 1", "0.25"),
        ("-b 64 --distributed False", "1.0"),
        ("-b 64", "1.0"),
    ] {
        check(
            &format!("{flags} --distill t.pth --data D"),
            &[
                ("schedule.epochs", "5"),
                ("schedule.start", "1.0"),
                ("schedule.peak", peak),
                ("schedule.shift", "false"),
            ],
        );
    }
}

#[test]
fn flags_come_back_as_they_were() {
    for flags in [
        "main.py --distill t.pth --data D",
        "main.py -a vit_tiny --dim 64 --queue 4096 --temp 0.1 --distill-t 0.01 --teacher_ssl moco --distill a/t.pth --data D",
        "main.py -a resnet18 --epochs 20 --batch-size 64 --lr 0.015 --momentum 0.5 --wd 0.001 --distill t.pth --data D",
        "main.py --batch-size 256 -k resnet101 --teacher_ssl moco --distill t.pth --distributed True --data some/where",
        "main.py --batch-size 512 -k resnet50w4 --teacher_ssl swav --distill '' --cos '' --data D --schedule 30 60",
        "main.py --teacher_ssl moco --distill t.pth --student_mlp '' --cos '' --distributed True --resume x.pth.tar --data D",
        "main_small-patch.py -k swav_resnet50w2 --teacher_ssl swav --distill t.pth --data D",
    ] {
        round(PROGRAM, flags);
    }
}

#[test]
fn every_flag_of_the_reference_is_known_by_each_of_its_names() {
    every_flag(
        PROGRAM,
        &TABLE,
        "--distill t.pth --data D",
        |name| match name {
            "--student_arch" | "--teacher_arch" => Some("resnet18"),
            "--teacher_ssl" => Some("moco"),
            "--student_mlp" | "--cos" | "--distributed" => Some("False"),
            _ => None,
        },
    );
    let both = |a: &str, b: &str| assert_eq!(experiment(&words(a)), experiment(&words(b)));
    both("--distill=t --data=D", "main.py --data D --distill t");
    both(
        "folder/main.py -b64 --distill t --data D",
        "--batch-size 64 --distill t --data D",
    );
}

#[test]
fn what_cannot_be_had_is_refused() {
    for (flags, message) in [
        (
            "--distill t",
            "no data folder is given\n  = help: give its path by --data",
        ),
        (
            "--data D",
            "no teacher is given\n  = help: give its weights by --distill",
        ),
        (
            "--distill t --data D other",
            "`other` is no flag of main.py",
        ),
        (
            "--teacher_arc resnet50 --distill t --data D",
            "main.py has no flag `--teacher_arc`\n  = help: near it are --teacher_arch",
        ),
        (
            "-s byol --distill t --data D",
            "`byol` is no method\n  = help: give `simclr`",
        ),
        (
            "-k swav_resnet50w2 --distill t --data D",
            "--teacher_arch swav_resnet50w2 is no network of --teacher_ssl simclr\n  = help: give `--teacher_ssl swav`",
        ),
        (
            "main_small-patch.py -s moco --distill t --data D",
            "main_small-patch.py is for SwAV's teachers",
        ),
        (
            "--cos perhaps --distill t --data D",
            "--cos: `perhaps` is neither true nor false",
        ),
        (
            "--start-epoch 5 --distill t --data D",
            "--start-epoch 5 cannot be had",
        ),
        (
            "--local_rank 3 --distill t --data D",
            "--local_rank 3 cannot be had",
        ),
        (
            "--temp warm --distill t --data D",
            "--temp: `warm` is no number",
        ),
        ("--distill", "--distill needs a value"),
    ] {
        refused(PROGRAM, flags, message);
    }
}

#[test]
fn what_the_reference_takes_otherwise_is_told() {
    let notes = |flags: &str| {
        let words = words(&format!("{flags} --distill t --data D"));
        experiment(&words).unwrap().notes.join("\n")
    };
    assert_eq!(notes(""), "");
    let said = notes("--cos False");
    assert!(said.contains("the reference takes it for true"), "{said}");
    assert!(notes("--distributed True").contains("one process trains here"));
    assert!(notes("--info x").contains("changes nothing"));
}

#[test]
fn other_methods_have_no_flags_of_these() {
    let other = BTreeMap::from([("objective".to_owned(), "MoCo".to_owned())]);
    assert_eq!(command(&other), None);
}
