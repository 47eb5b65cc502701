//! Instance discrimination against a full ranking, by hand, with ties and in the reference's ways.

use std::path::Path;

use smallfry::{Plugin, data::random::Random, metric::FeatureSet, testing::Set};

use super::*;

fn set(values: Vec<f32>, width: usize) -> Set {
    Set {
        values,
        width,
        labels: None,
    }
}

fn noise(seed: u64, rows: usize, width: usize) -> Vec<f32> {
    let mut random = Random::new(&[seed]);
    (0..rows * width).map(|_| random.normal() as f32).collect()
}

fn evaluate(metric: &InstanceDiscrimination, views: &[&dyn FeatureSet], data: &str) -> Vec<Score> {
    let evaluation = Evaluation {
        views: &views[1..],
        data,
        ..Evaluation::of(views[0])
    };
    metric.evaluate(&evaluation).expect("the sets are sound")
}

/// Every rank in double precision, by comparing with all others.
fn slowly(queries: &Set, positives: &Set) -> Vec<Rank> {
    let unit = |set: &Set| {
        let rows = set.values.chunks(set.width).map(|row| {
            let row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.iter().map(|v| v / length).collect::<Vec<f64>>()
        });
        rows.collect::<Vec<_>>()
    };
    let (queries, positives) = (unit(queries), unit(positives));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    (0..queries.len())
        .map(|i| {
            let own = product(&queries[i], &positives[i]);
            let others = (0..queries.len()).filter(|&j| j != i);
            let nearer = others.filter(|&j| product(&queries[i], &queries[j]) > own);
            Rank {
                nearer: nearer.count() as u32,
                equal: 0,
            }
        })
        .collect()
}

#[test]
fn ranks_are_those_of_comparing_with_all_others() {
    for (rows, width) in [(2, 3), (83, 5), (300, 17), (700, 40)] {
        let first = noise(1, rows, width);
        let moved: Vec<f32> = first
            .iter()
            .zip(noise(2, rows, width))
            .map(|(a, b)| a + 0.9 * b)
            .collect();
        let (queries, positives) = (set(first, width), set(moved, width));
        let found = ranks(&queries, &positives, Default::default());
        assert_eq!(found, Ok(slowly(&queries, &positives)), "{rows} × {width}");
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (queries, positives) = (set(noise(5, 600, 9), 9), set(noise(6, 600, 9), 9));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads start")
            .install(|| ranks(&queries, &positives, Default::default()))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn ties_stand_behind_or_share() {
    let same = set([0.6, 0.8].repeat(50), 2);
    let table = |ties| {
        let metric = InstanceDiscrimination {
            ties,
            ..Default::default()
        };
        evaluate(&metric, &[&same, &same], "")[0].table.clone()
    };
    let (behind, shared) = (table(Ties::Behind), table(Ties::Shared));
    assert_eq!(behind[0], ("k = 1".to_owned(), 100.0));
    assert_eq!(behind[5], ("tied".to_owned(), 100.0));
    assert!((shared[0].1 - 2.0).abs() < 1e-9 && (shared[4].1 - 10.0).abs() < 1e-9);
}

#[test]
fn chunks_weigh_alike_and_every_second_may_be_left_out() {
    // Five images on the axes; the views of images 2 and 4 point elsewhere, nearer to nothing.
    let axes: Vec<f32> = (0..25).map(|i| f32::from(u8::from(i % 6 == 0))).collect();
    let mut turned = axes.clone();
    for image in [2, 4] {
        let view = &mut turned[image * 5..][..5];
        view.fill(0.0);
        view[image] = -1.0;
    }
    let (axes, turned) = (set(axes, 5), set(turned, 5));
    let value = |metric: InstanceDiscrimination, data: &str| {
        evaluate(&metric, &[&axes, &turned], data)[0].value
    };
    let plain = InstanceDiscrimination::default;
    assert_eq!(value(plain(), ""), 60.0);
    let chunked = |chunk| InstanceDiscrimination {
        chunk: Some(chunk),
        ..plain()
    };
    // Chunks of hits 2/2, 1/2 and 0/1.
    assert_eq!(value(chunked(2), ""), 50.0);
    let strided = InstanceDiscrimination {
        query_stride: 2,
        ..chunked(2)
    };
    assert_eq!(value(strided, ""), 50.0);
    let compatible = |chunk| InstanceDiscrimination {
        chunk,
        compatible: true,
        ..plain()
    };
    assert_eq!(compatible(None).chunks("x"), (Some(100), 1));
    assert_eq!(compatible(Some(50)).chunks("a/auged-train"), (Some(50), 2));
    assert_eq!(compatible(Some(50)).chunks("a/auged-val"), (Some(50), 1));
    assert_eq!(compatible(Some(40)).chunks("a/auged-train"), (Some(40), 1));
    assert_eq!(chunked(50).chunks("a/auged-train"), (Some(50), 1));
}

#[test]
fn classes_of_different_size_count_alike() {
    let axes: Vec<f32> = (0..9).map(|i| f32::from(u8::from(i % 4 == 0))).collect();
    let mut turned = axes.clone();
    turned[8] = -1.0;
    let mut axes = set(axes, 3);
    axes.labels = Some(vec![0, 0, 2]);
    let scores = evaluate(
        &InstanceDiscrimination::default(),
        &[&axes, &set(turned, 3)],
        "",
    );
    assert_eq!(scores[1].value, 50.0);
    let table = [("`0`".to_owned(), 100.0), ("`2`".to_owned(), 0.0)];
    assert_eq!(scores[1].table, table);
}

#[test]
fn what_is_lacking_is_named() {
    let one = set(noise(1, 6, 4), 4);
    let refusal = InstanceDiscrimination::default().evaluate(&Evaluation::of(&one));
    assert!(refusal.unwrap_err().contains("2 views"));
    let mut broken = set(noise(1, 6, 4), 4);
    broken.values[9] = f32::NAN;
    let evaluation = Evaluation {
        views: &[&broken],
        ..Evaluation::of(&one)
    };
    let refusal = InstanceDiscrimination::default().evaluate(&evaluation);
    assert!(refusal.unwrap_err().contains("`row 2`"));
}

#[test]
fn parameters_are_checked() {
    let context = Context {
        folder: Path::new("."),
    };
    let wrong = |change: fn(&mut InstanceDiscrimination)| {
        let mut metric = InstanceDiscrimination::default();
        change(&mut metric);
        metric.build(&context).err().map(|invalid| invalid.field())
    };
    assert_eq!(wrong(|_| ()), None);
    assert_eq!(wrong(|metric| metric.topk = 0), Some("topk"));
    assert_eq!(wrong(|metric| metric.chunk = Some(0)), Some("chunk"));
    assert_eq!(
        wrong(|metric| metric.query_stride = 2),
        Some("query_stride")
    );
}
