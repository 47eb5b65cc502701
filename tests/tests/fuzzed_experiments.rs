//! Experiment files that the fuzz target `experiment` came by: `fixtures/fuzzed_experiments`, each as the target takes it.

use std::{fs, path::Path};

use smallfry_plugins as _; // links the stock plugins

#[path = "../../fuzz/experiment.rs"]
mod experiment;

#[test]
fn what_fuzzing_found_stays_found() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut checked = 0;
    for folder in ["fuzzed_experiments", "diagnostics"] {
        for entry in fs::read_dir(fixtures.join(folder)).expect("it is there") {
            let path = entry.expect("it can be read").path();
            let ours = path.extension().is_none_or(|extension| extension == "ron");
            if path.is_file() && ours {
                eprintln!("{}", path.display());
                let bytes = fs::read(&path).expect("it can be read");
                experiment::check(&String::from_utf8_lossy(&bytes));
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "{checked} files");
}
