//! Every command that `README.md` shows is run, or stands here with the reason why not.
//!
//! Commands in words (`smallfry run FILE [path.to.field=value ..]`) are run on files of a few images. What takes minutes runs
//! with one epoch, by a change on the command line that stands beside it.
#![cfg(unix)]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use smallfry_tests::{
    golden::repository,
    program::{program, run},
};

/// How a command of the README is run here.
enum Here {
    /// As these calls of the program, in a folder with the files of [`folder`]; each has its exit code.
    As(&'static [(i32, &'static str)]),
    /// In the repository, with its run folder elsewhere.
    InPlace(&'static str),
    /// As the program is installed from the sources.
    Install,
    /// Not, for this reason.
    Not(&'static str),
}

use Here::{As, InPlace, Install, Not};

/// The commands in the order of the README: some need what others make.
const COMMANDS: [(&str, Here); 22] = [
    // A minute with all of its 100 epochs.
    (
        "cargo run --release -- run experiments/quickstart.ron",
        InPlace("run experiments/quickstart.ron pretrain.epochs=1"),
    ),
    ("cargo test --workspace", Not("it is what runs this test")),
    (
        "smallfry run FILE [path.to.field=value ..]",
        As(&[
            (0, "run a.ron"),
            (0, "run a.ron seed=2 --output b"),
            (0, "run a.ron --resume"),
            (0, "run a.ron --output c --format reference"),
        ]),
    ),
    (
        "smallfry run FILE --sweep path=a,b ..",
        As(&[(0, "run a.ron --output d --sweep seed=1,2")]),
    ),
    (
        "smallfry check FILE [--dry-run N]",
        As(&[(0, "check a.ron"), (0, "check a.ron --dry-run 1")]),
    ),
    (
        "smallfry diff A B",
        As(&[(0, "diff a.ron a.ron"), (1, "diff a.ron wild.ron")]),
    ),
    (
        "smallfry fmt FILE ..",
        As(&[(0, "fmt a.ron wild.ron"), (0, "fmt --check a.ron wild.ron")]),
    ),
    ("smallfry compare RUN RUN", As(&[(0, "compare runs/a b/a")])),
    // Twenty kills unless told otherwise.
    (
        "smallfry verify-resume FILE",
        As(&[(0, "verify-resume a.ron --kills 1")]),
    ),
    (
        "smallfry replay RUN",
        As(&[(1, "run wild.ron"), (0, "replay runs/wild")]),
    ),
    (
        "smallfry moco FLAGS",
        As(&[(
            0,
            "moco -a mobilenetv3_small --epochs 1 --batch-size 2 --moco-k 4 --ckpt-dir moco data",
        )]),
    ),
    // Printed only: there is no set in TSV's form here, and no teacher.
    (
        "smallfry seed FLAGS",
        As(&[(
            0,
            "seed --print -a mobilenetv3_small -k resnet18 --teacher_ssl moco --distill a.pth.tar -b 2 --queue 4 --data data",
        )]),
    ),
    ("smallfry flags FILE", As(&[(0, "flags a.ron")])),
    (
        "smallfry list [KIND] [--verbose]",
        As(&[(0, "list"), (0, "list metrics --verbose")]),
    ),
    ("smallfry describe NAME", As(&[(0, "describe MoCo")])),
    (
        "smallfry convert IN OUT --to FORMAT",
        As(&[
            (
                0,
                "convert runs/a/checkpoints/pretrain/epoch-0001.safetensors a.onnx --to onnx",
            ),
            (
                0,
                "convert runs/a/checkpoints/pretrain/epoch-0001.safetensors a.pth --to backbone",
            ),
        ]),
    ),
    (
        "smallfry verify FOLDER",
        As(&[(0, "run set.ron"), (0, "verify runs/set/views/views")]),
    ),
    ("smallfry report RUN", As(&[(0, "report runs/a")])),
    (
        "smallfry new-plugin NAME",
        As(&[(0, "new-plugin my-plugins")]),
    ),
    (
        "smallfry completions SHELL",
        As(&[
            (0, "completions bash"),
            (0, "completions zsh"),
            (0, "completions fish"),
        ]),
    ),
    ("smallfry man [VERB]", As(&[(0, "man"), (0, "man run")])),
    ("cargo install --path experiments", Install),
];

/// What the commands leave, which shows that they did something.
const LEFT: [&str; 9] = [
    "elsewhere/quickstart/report.html",
    "runs/a/results.json",
    "b/a/report.html",
    "c/a/log.jsonl",
    "runs/wild/failure/failure.json",
    "runs/set/views/views/manifest.jsonl",
    "a.onnx",
    "a.pth",
    "my-plugins/Cargo.toml",
];

fn readme() -> String {
    fs::read_to_string(repository().join("README.md")).expect("it is there")
}

/// The commands in blocks and in code within lines.
fn commands(text: &str) -> Vec<String> {
    let starts = ["smallfry ", "cargo "];
    let (mut commands, mut block) = (Vec::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            block = !block;
        } else if block {
            if starts.iter().any(|start| line.starts_with(start)) {
                commands.push(line.trim().to_owned());
            }
        } else {
            let code = line.split('`').skip(1).step_by(2);
            let ours = code.filter(|code| starts.iter().any(|start| code.starts_with(start)));
            commands.extend(ours.map(str::to_owned));
        }
    }
    commands
}

/// Puts photographs of two classes at `place`, two of each.
fn photographs(place: &Path) {
    let photos = repository().join("experiments/photos/train");
    for class in ["dandelion", "monument"] {
        let entries = fs::read_dir(photos.join(class)).expect("the repository has photographs");
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("it can be read").path())
            .collect();
        files.sort();
        let to = place.join(class);
        fs::create_dir_all(&to).expect("the folder is ours");
        for file in &files[..2] {
            let name = file.file_name().expect("it is a file");
            fs::copy(file, to.join(name)).expect("it can be copied");
        }
    }
}

/// Three experiment files and four photographs, in the layout of the reference's program too.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("there is room");
    let fixtures = repository().join("tests/fixtures/diagnostics");
    for place in ["photos", "data/train"] {
        photographs(&folder.path().join(place));
    }
    let good = fs::read_to_string(fixtures.join("good.ron")).expect("it is there");
    for (name, text) in [
        ("a.ron", good.clone()),
        // The weights leave the numbers after the first step.
        (
            "wild.ron",
            good.replace("SGD", "SGD(lr: 1e30)")
                .replace("epochs: 1", "epochs: 3"),
        ),
        (
            "set.ron",
            "Views(data: ImageFolder(path: \"photos\"), per_class: 1)\n".to_owned(),
        ),
    ] {
        fs::write(folder.path().join(name), text).expect("the folder is ours");
    }
    folder
}

fn call(folder: &Path, words: &[&str], code: i32) {
    let outcome = run(folder, words);
    assert_eq!(outcome.code, Some(code), "{words:?}: {outcome:?}");
}

/// Installs the program as it was built for this test, so that nothing is compiled again.
fn install(folder: &Path) {
    let profile = program().parent().expect("it lies in a profile's folder");
    let target = profile.parent().expect("that lies in the target folder");
    let kind = if profile.ends_with("release") {
        "release"
    } else {
        "dev"
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "install",
            "--path",
            "experiments",
            "--offline",
            "--locked",
            "--profile",
            kind,
        ])
        .arg("--target-dir")
        .arg(target)
        .arg("--root")
        .arg(folder)
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    let installed = folder.join("bin/smallfry");
    let output = Command::new(installed)
        .arg("--version")
        .output()
        .expect("it starts");
    assert!(output.stdout.starts_with(b"smallfry "), "{output:?}");
}

#[test]
fn every_command_of_the_readme_is_run() {
    let shown: BTreeSet<_> = commands(&readme()).into_iter().collect();
    let known: BTreeSet<_> = COMMANDS
        .iter()
        .map(|command| command.0.to_owned())
        .collect();
    let unknown: Vec<_> = shown.symmetric_difference(&known).collect();
    assert!(
        unknown.is_empty(),
        "not both in README.md and in the table: {unknown:?}"
    );
    let folder = folder();
    let elsewhere = folder.path().join("elsewhere").display().to_string();
    for (command, here) in &COMMANDS {
        match here {
            As(calls) => {
                for (code, words) in *calls {
                    call(folder.path(), &words.split(' ').collect::<Vec<_>>(), *code);
                }
            }
            InPlace(words) => {
                let words: Vec<_> = words.split(' ').chain(["--output", &elsewhere]).collect();
                call(repository(), &words, 0);
            }
            Install => install(folder.path()),
            Not(reason) => eprintln!("left out: `{command}`: {reason}"),
        }
    }
    for path in LEFT {
        assert!(folder.path().join(path).is_file(), "{path} is missing");
    }
}

#[test]
fn the_experiment_of_the_readme_can_be_read() {
    let text = readme();
    let block = text.split("```ron\n").nth(1).expect("it shows one");
    let block = block.split("```").next().expect("it ends");
    let folder = tempfile::tempdir().expect("there is room");
    for place in ["photos/train", "photos/val"] {
        photographs(&folder.path().join(place));
    }
    fs::write(folder.path().join("a.ron"), block).expect("the folder is ours");
    // There are but four photographs.
    let arguments = ["check", "--resolved", "a.ron", "pretrain.batch=2"];
    call(folder.path(), &arguments, 0);
}
