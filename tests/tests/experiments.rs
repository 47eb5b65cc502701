//! Every experiment file that is shipped can be read: names, parameters and defaults are as the program has them.

use std::fs;

use smallfry::{experiment, plan::Stage};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::golden::repository;

#[test]
fn shipped_experiments_can_be_read() {
    let folder = repository().join("experiments");
    let mut read = 0;
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_none_or(|extension| extension != "ron") {
            continue;
        }
        let plan = experiment::load(&path, &[]);
        let plan = plan.unwrap_or_else(|errors| panic!("{}", errors[0]));
        assert!(!plan.stages.is_empty());
        read += 1;
    }
    assert!(read >= 5, "{read} files");
}

#[test]
fn both_versions_of_moco_are_those_of_their_papers() {
    for (file, parts) in [
        (
            "moco-v1.ron",
            ["temperature: 0.07", "head: None", "milestones"],
        ),
        (
            "moco-v2.ron",
            ["temperature: 0.2", "head: Simple", "Cosine"],
        ),
    ] {
        let path = repository().join("experiments").join(file);
        let plan = experiment::load(&path, &[]).unwrap_or_else(|errors| panic!("{}", errors[0]));
        for part in parts {
            assert!(plan.resolved.contains(part), "{file} has no `{part}`");
        }
        let Some(Stage::Pretrain(stage)) = plan.stages.first() else {
            panic!("{file} trains");
        };
        assert_eq!((stage.epochs, stage.batch), (200, 256));
        assert_eq!(stage.optimizer.plugin.rate(), 0.03);
    }
}
