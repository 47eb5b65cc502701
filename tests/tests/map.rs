//! Maps by the whole program: what a stage writes, that it writes the same again, and what it refuses.

use std::{fs, path::Path};

use smallfry::data::{Image, encode::jpeg, random::Random};
use smallfry_tests::program::{self, Outcome};

/// Classes of the set, and samples of each.
const CLASSES: usize = 3;
const EACH: usize = 14;

/// A set of plain colours with noise, each sample with two views that are noisier.
fn write_views(folder: &Path) {
    for class in 0..CLASSES {
        let classes = folder.join(format!("views/class-{class}"));
        fs::create_dir_all(&classes).unwrap();
        for sample in 0..EACH {
            for view in 0..3 {
                let mut random = Random::new(&[class as u64, sample as u64, view]);
                let mut image = Image::black(40, 32);
                for pixel in image.pixels.chunks_exact_mut(3) {
                    for (channel, value) in pixel.iter_mut().enumerate() {
                        let colour = if channel == class { 200.0 } else { 60.0 };
                        let noise = 20.0 * random.normal() * (1 + view) as f64;
                        *value = (colour + noise).clamp(0.0, 255.0) as u8;
                    }
                }
                let name = classes.join(format!("{sample:02}-{view}.jpeg"));
                fs::write(name, jpeg(&image)).unwrap();
            }
        }
    }
}

/// An experiment with one map.
fn write_experiment(folder: &Path, data: &str, fields: &str) {
    let text = format!(
        "Experiment(name: \"maps\", seed: 5, stages: [Map(backbone: mobilenetv3_small, weights: Untrained, data: {data}, \
         size: 32, perplexity: 6, iterations: 120, {fields})])"
    );
    fs::write(folder.join("maps.ron"), text).unwrap();
}

const VIEWS: &str = "StaticViews(path: \"views\")";

fn run(folder: &Path, arguments: &[&str]) -> Outcome {
    program::run(folder, &[&["run", "maps.ron"], arguments].concat())
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder.join("runs/maps/maps/map"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_map_has_its_arrays_figures_and_page_and_comes_out_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_views(folder);
    write_experiment(folder, VIEWS, "pairs: 10");
    let outcome = run(folder, &[]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    assert!(outcome.output.contains("divergence"), "{}", outcome.output);
    let first = files(folder);
    let names: Vec<_> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Y0.npy",
            "Y1.npy",
            "Y2.npy",
            "auged_rep.pdf",
            "auged_rep.png",
            "auged_rep.svg",
            "full_rep.pdf",
            "full_rep.png",
            "full_rep.svg",
            "map.html",
            "samples.csv"
        ]
    );
    let file = |name: &str| &first[names.iter().position(|n| *n == name).unwrap()].1;
    for array in ["Y0.npy", "Y1.npy", "Y2.npy"] {
        let bytes = file(array);
        let header = String::from_utf8_lossy(&bytes[..128]).into_owned();
        assert!(header.contains("'shape': (42, 2)"), "{header}");
        assert_eq!(bytes.len(), 128 + 42 * 16);
        let numbers = bytes[128..].chunks(8);
        assert!(
            numbers
                .map(|word| f64::from_le_bytes(word.try_into().unwrap()))
                .all(|number| number.is_finite())
        );
    }
    let table = String::from_utf8(file("samples.csv").clone()).unwrap();
    assert_eq!(table.lines().count(), 43);
    assert!(
        table.lines().last().unwrap().ends_with(",2,class-2"),
        "{table}"
    );
    let page = String::from_utf8(file("map.html").clone()).unwrap();
    assert_eq!(page.matches("data-class=").count(), CLASSES);
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 3 * 42);
    let report = fs::read_to_string(folder.join("runs/maps/report.html")).unwrap();
    assert!(report.contains("href=\"maps/map/map.html\""));
    assert_eq!(report.matches("data:image/png;base64,").count(), 2);
    assert!(!report.contains("<script"));

    // Other threads, same bytes; the page and the figures too.
    let again = program::command(folder, &["run", "maps.ron", "--overwrite"])
        .env("RAYON_NUM_THREADS", "1")
        .status()
        .unwrap();
    assert!(again.success());
    assert!(files(folder) == first, "another map of the same");
    // A file that is gone is made again.
    fs::remove_file(folder.join("runs/maps/maps/map/Y1.npy")).unwrap();
    let resumed = run(folder, &["--resume"]);
    assert_eq!(resumed.code, Some(0));
    assert!(files(folder) == first);
}

/// The files of kept features by name: which file that is, and when it was last used.
#[cfg(unix)]
fn kept(folder: &Path) -> Vec<(String, u64, std::time::SystemTime)> {
    use std::os::unix::fs::MetadataExt;

    let entries = fs::read_dir(folder.join("runs/.features")).into_iter();
    let mut kept: Vec<_> = entries
        .flatten()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".features"))
        .map(|entry| {
            let about = entry.metadata().unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, about.ino(), about.modified().unwrap())
        })
        .collect();
    kept.sort();
    kept
}

const EVALUATE: &str = "Evaluate(backbone: mobilenetv3_small, weights: Untrained, test: StaticViews(path: \"views\"), size: 32, \
     metrics: [Alignment()])";

#[cfg(unix)]
#[test]
fn a_map_behind_an_evaluation_takes_its_features() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_views(folder);
    let text = format!("Experiment(name: \"first\", seed: 5, stages: [{EVALUATE}])");
    fs::write(folder.join("first.ron"), text).unwrap();
    let outcome = program::run(folder, &["run", "first.ron"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    let before = kept(folder);
    assert_eq!(before.len(), 2, "originals and their first views");
    write_experiment(folder, VIEWS, "views: 1");
    let outcome = run(folder, &[]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    let after = kept(folder);
    // Features that are worked out are written to files of their own.
    let same = |(a, b): (&(String, u64, _), &(String, u64, _))| (&a.0, a.1) == (&b.0, b.1);
    assert_eq!(after.len(), 2);
    assert!(before.iter().zip(&after).all(same), "they were made again");
    assert!(
        before.iter().zip(&after).all(|(a, b)| a.2 < b.2),
        "they were not used"
    );

    // With no room, what another stage writes takes their place.
    fs::write(
        folder.join("views/class-0/00-0.jpeg"),
        fs::read(folder.join("views/class-0/01-0.jpeg")).unwrap(),
    )
    .unwrap();
    let limited = |limit: &str| {
        let arguments = ["run", "maps.ron", "--overwrite"];
        let mut command = program::command(folder, &arguments);
        command.env("SMALLFRY_CACHE", limit).output().unwrap()
    };
    let output = limited("much");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("`SMALLFRY_CACHE` is `much`"), "{errors}");
    assert!(limited("0").status.success());
    let last = kept(folder);
    assert_eq!(last.len(), 2);
    assert!(!last.iter().zip(&after).any(same));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_metrics_and_maps() {
    for endless in [
        // So many starts and steps take days.
        EVALUATE.replace("Alignment()", "OverClustering(starts: 100000000)"),
        "Map(backbone: mobilenetv3_small, weights: Untrained, data: StaticViews(path: \"views\"), size: 32, \
         perplexity: 6, iterations: 1000000000)"
            .to_owned(),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_views(folder);
        let text = format!("Experiment(name: \"endless\", seed: 5, stages: [{endless}])");
        fs::write(folder.join("endless.ron"), text).unwrap();
        let child = program::command(folder, &["run", "endless.ron"])
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let id = child.id().to_string();
        // Once features are written, the long work begins.
        while kept(folder).is_empty() {
            assert!(folder.exists());
            std::thread::yield_now();
        }
        let kill = std::process::Command::new("kill").args(["-INT", &id]).status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{errors}");
        assert!(errors.contains("--resume goes on with this stage"), "{errors}");
    }
}

#[test]
fn images_without_views_are_mapped_alone_and_unreadable_ones_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_views(folder);
    fs::write(folder.join("views/class-1/03-0.jpeg"), b"no image").unwrap();
    write_experiment(
        folder,
        "ImageFolder(path: \"views\")",
        "samples: 60, algorithm: BarnesHut(theta: 0.5), initial: Principal",
    );
    let outcome = run(folder, &[]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    let files = files(folder);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Y0.npy",
            "full_rep.pdf",
            "full_rep.png",
            "full_rep.svg",
            "map.html",
            "samples.csv"
        ]
    );
    assert!(files[0].1.len() == 128 + 59 * 16);
    let results = fs::read_to_string(folder.join("runs/maps/results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&results).unwrap();
    let stage = &results["stages"][0];
    assert_eq!(stage["kind"], "map");
    assert_eq!(stage["data"]["samples"], 59);
    assert_eq!(stage["data"]["left_out"][0][0], "class-1/03-0.jpeg");
}

#[test]
fn mistakes_are_told_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_views(folder);
    for (data, fields, message) in [
        (
            VIEWS,
            "samples: 5, views: 0",
            "`perplexity` of Map: 6 needs more than 18 points, and there are 5",
        ),
        (
            VIEWS,
            "views: 3",
            "`views` of Map: 3 are wanted, the images have 2",
        ),
        (
            "ImageFolder(path: \"views\")",
            "views: 1",
            "the images have 0",
        ),
        (
            VIEWS,
            "algorithm: BarnesHut(theta: 2)",
            "`theta` must be from 0 to 1",
        ),
        (
            VIEWS,
            "exaggeration: 0",
            "`exaggeration` of Map: must be above 0",
        ),
        (
            VIEWS,
            "learning_rate: -1",
            "`learning_rate` of Map: must be above 0",
        ),
        (
            VIEWS,
            "zoom: Window(x: (1, 0), y: (0, 1))",
            "each range must go from a number to a larger one",
        ),
        (VIEWS, "samples: 0", "`samples` of Map: must be above 0"),
        (
            VIEWS,
            "resize: 16",
            "`resize` of Map: 16 is less than the 32 pixels",
        ),
        (VIEWS, "colour: red", "Map has no field `colour`"),
    ] {
        write_experiment(folder, data, fields);
        let outcome = run(folder, &[]);
        assert_eq!(outcome.code, Some(2), "{fields}: {}", outcome.errors);
        assert!(
            outcome.errors.contains(message),
            "{fields}: {}",
            outcome.errors
        );
        assert!(!folder.join("runs").exists());
    }
    write_experiment(folder, VIEWS, "zoom: Window(x: (-10, -8), y: (41, 43))");
    let checked = program::run(folder, &["check", "maps.ron"]);
    assert_eq!(checked.code, Some(0), "{}", checked.errors);
    assert!(
        checked
            .output
            .contains("42 images, 2 views each: 126 points"),
        "{}",
        checked.output
    );
}
