//! Over-clustering on sets whose clusters are known.

use smallfry::testing::Set;

use super::*;

/// Images of four classes, each of two clusters around axes; views lie beside their images.
fn two_clusters_a_class(shift: f32) -> (Set, Set) {
    let (rows, width) = (160, 8);
    let mut random = Random::new(&[2]);
    let mut values = Vec::new();
    for row in 0..rows {
        for i in 0..width {
            let axis = f32::from(u8::from(row % width == i));
            values.push(axis + 0.1 * random.normal() as f32);
        }
    }
    let moved = values
        .iter()
        .map(|value| value + shift * random.normal() as f32)
        .collect();
    let labels = (0..rows as u32).map(|row| row % 8 / 2).collect();
    let images = Set {
        values,
        width,
        labels: Some(labels),
    };
    let views = Set {
        values: moved,
        width,
        labels: None,
    };
    (images, views)
}

fn value(scores: &[Score], name: &str) -> f64 {
    let score = scores.iter().find(|score| score.name == name);
    score.expect("it is given").value
}

#[test]
fn classes_in_two_clusters_have_two() {
    let (images, views) = two_clusters_a_class(0.001);
    let evaluation = Evaluation {
        views: &[&views],
        ..Evaluation::of(&images)
    };
    let metric = OverClustering {
        clusters: Some(8),
        ..OverClustering::default()
    };
    let scores = metric.evaluate(&evaluation).unwrap();
    assert_eq!(value(&scores, "nearest image of its class"), 100.0);
    assert_eq!(value(&scores, "own view nearest"), 100.0);
    assert_eq!(value(&scores, "over-clustering"), 0.0);
    assert!((value(&scores, "clusters of a class") - 2.0).abs() < 1e-9);
    // The entropies are ln 8 and ln 4, what they share is ln 4.
    assert!((value(&scores, "NMI") - 0.8).abs() < 1e-9);
    assert!(value(&scores, "ARI") > 0.4 && value(&scores, "ARI") < 0.8);
}

#[test]
fn features_that_only_know_images_over_cluster() {
    let mut random = Random::new(&[8]);
    let values: Vec<f32> = (0..300 * 64).map(|_| random.normal() as f32).collect();
    let views = Set {
        values: values.clone(),
        width: 64,
        labels: None,
    };
    let images = Set {
        values,
        width: 64,
        labels: Some((0..300).map(|row| row % 10).collect()),
    };
    let evaluation = Evaluation {
        views: &[&views],
        ..Evaluation::of(&images)
    };
    let scores = OverClustering::default().evaluate(&evaluation).unwrap();
    assert_eq!(value(&scores, "own view nearest"), 100.0);
    assert!(value(&scores, "over-clustering") > 70.0);
    assert!(value(&scores, "clusters of a class") > 5.0);
    assert!(value(&scores, "ARI").abs() < 0.05);
}

#[test]
fn what_is_lacking_is_named() {
    let (mut images, _) = two_clusters_a_class(0.0);
    let refusal = |images: &Set| {
        let refused = OverClustering::default().evaluate(&Evaluation::of(images));
        refused.expect_err("it cannot be computed")
    };
    images.labels = Some(vec![3; 160]);
    assert!(refusal(&images).contains("two classes"));
    images.labels = None;
    assert!(refusal(&images).contains("no classes"));
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (images, views) = two_clusters_a_class(0.3);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let evaluation = Evaluation {
            views: &[&views],
            ..Evaluation::of(&images)
        };
        pool.expect("threads start")
            .install(|| OverClustering::default().evaluate(&evaluation))
    };
    assert_eq!(run(1), run(3));
}
