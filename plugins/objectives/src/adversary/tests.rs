//! The attack on a small network: its gradients, its bounds, what it comes to.

use smallfry::{
    Head,
    backbone::HeadLayer,
    executed::{Classifier, Executed},
    nn::{
        init::Init,
        network::{Activation, Block, ConvNorm, Convolution, Network, Norm, Padding},
    },
};

use super::*;

/// A convolution, a pool and a head; smooth, so that differences are gradients.
fn encoder(seed: u64) -> Executed {
    let conv = ConvNorm {
        convolution: Convolution {
            name: "conv".into(),
            input: 3,
            output: 8,
            kernel: 3,
            stride: 2,
            padding: Padding::even(1),
            groups: 1,
            init: Init::FanOut,
        },
        norm: Norm::new("norm"),
        activation: Activation::Swish,
    };
    let body = Network {
        blocks: vec![
            Block::ConvNorm(conv),
            Block::GlobalAveragePool { dropout: 0.0 },
        ],
    };
    let classifier = Classifier {
        weight: Init::Normal(0.5),
        bias: Init::Normal(0.5),
    };
    let head = Head {
        layers: vec![HeadLayer {
            name: "fc".into(),
            output: 5,
            norm: None,
            activation: Activation::Identity,
            dropout: 0.0,
            own_init: true,
        }],
        ..Head::default()
    };
    Executed::new(body, classifier, &head, seed)
}

/// Images of bytes, normalised as the networks of ImageNet take them.
fn images(seed: u64, batch: usize) -> Arc<ImageBatch> {
    let mut random = Random::new(&[seed]);
    let Preprocessing {
        mean, deviation, ..
    } = Preprocessing::IMAGENET;
    let value = |i: usize| {
        let byte = (random.unit() * 256.0).floor() as f32;
        (byte / 255.0 - mean[i % 3]) / deviation[i % 3]
    };
    Arc::new(ImageBatch {
        batch,
        height: 6,
        width: 5,
        values: (0..batch * 90).map(value).collect(),
    })
}

/// What the two encoders make of the two views; the key is left as it was.
fn alike(encoders: &mut [Executed; 2], views: &[Arc<ImageBatch>; 2], groups: usize) -> f64 {
    let [query, key] = encoders;
    let (statistics, counters) = {
        let parameters = key.parameters();
        (
            parameters.statistics().to_vec(),
            parameters.counters().to_vec(),
        )
    };
    let mean = likeness(
        query,
        key,
        views,
        &Groups::of(groups),
        &mut Random::new(&[0]),
    )
    .0;
    let mut parameters = key.parameters();
    parameters.statistics_mut().copy_from_slice(&statistics);
    parameters.counters_mut().copy_from_slice(&counters);
    mean
}

fn attacked(adversary: Adversary, groups: usize) -> ([Arc<ImageBatch>; 2], [f64; 2]) {
    let mut encoders = [encoder(1), encoder(2)];
    let views = [images(3, 6), images(4, 6)];
    let before = alike(&mut encoders, &views, groups);
    let attack = Attack::new(adversary, &Preprocessing::IMAGENET);
    let [query, key] = &mut encoders;
    let statistics = query.parameters().statistics().to_vec();
    let (given, mut draws) = (views.each_ref(), Random::new(&[5]));
    let out = attack.run(query, key, given, &Groups::of(groups), &mut draws);
    assert_eq!(query.parameters().statistics(), statistics);
    let passes = key.parameters().counters().to_vec();
    assert_eq!(passes, [adversary.steps as u64]);
    for encoder in [query, key] {
        assert!(encoder.parameters().gradients().iter().all(|g| *g == 0.0));
    }
    let after = alike(&mut encoders, &out, groups);
    (out, [before, after])
}

#[test]
fn the_gradient_of_likeness_is_its_difference() {
    for groups in [1, 2] {
        let mut encoders = [encoder(1), encoder(2)];
        let views = [images(3, 4), images(4, 4)];
        let [query, key] = &mut encoders;
        let (_, gradients) = likeness(
            query,
            key,
            &views,
            &Groups::of(groups),
            &mut Random::new(&[0]),
        );
        let step = 1e-2;
        for view in [0, 1] {
            for place in [0, 101, 222, 359] {
                let mut at = |by: f32| {
                    let mut moved = views.clone();
                    Arc::make_mut(&mut moved[view]).values[place] += by;
                    alike(&mut encoders, &moved, groups)
                };
                let difference = (at(step) - at(-step)) / f64::from(2.0 * step);
                let own = f64::from(gradients[view][place]);
                let bound = 2e-6 + 0.01 * own.abs();
                assert!(
                    (difference - own).abs() < bound,
                    "view {view}, {groups} groups: {difference} {own}"
                );
            }
        }
    }
}

#[test]
fn views_become_less_alike_within_the_box_and_the_range_of_pixels() {
    let adversary = Adversary::default();
    for groups in [1, 3] {
        let (out, [before, after]) = attacked(adversary, groups);
        assert!(after < before - 1e-3, "{before} {after}");
        let Preprocessing {
            mean, deviation, ..
        } = Preprocessing::IMAGENET;
        for (view, origin) in out.iter().zip([images(3, 6), images(4, 6)]) {
            let mut furthest = 0.0f32;
            for (i, (value, origin)) in view.values.iter().zip(&origin.values).enumerate() {
                let (mean, deviation) = (mean[i % 3], deviation[i % 3]);
                furthest = furthest.max((value - origin).abs());
                assert!(*value >= (0.0 - mean) / deviation && *value <= (1.0 - mean) / deviation);
            }
            // 5 steps of 0.008 would reach 0.04.
            assert!((0.0156..0.01571).contains(&furthest), "{furthest}");
        }
    }
}

#[test]
fn each_image_of_each_view_has_a_direction_of_its_own() {
    let one = Adversary {
        steps: 1,
        ..Adversary::default()
    };
    let (out, _) = attacked(one, 1);
    let mut signs: Vec<Vec<bool>> = Vec::new();
    for (view, origin) in out.iter().zip([images(3, 6), images(4, 6)]) {
        let up = view.values.iter().zip(&origin.values).map(|(v, o)| v > o);
        let up: Vec<bool> = up.collect();
        signs.extend(up.chunks(90).map(<[bool]>::to_vec));
    }
    assert_eq!(signs.len(), 12);
    for (i, a) in signs.iter().enumerate() {
        assert!(signs[..i].iter().all(|b| a != b), "image {i}");
    }
}

#[test]
fn the_same_attack_gives_the_same_bytes() {
    let (first, _) = attacked(Adversary::default(), 2);
    let (second, _) = attacked(Adversary::default(), 2);
    assert_eq!(first, second);
}

#[test]
fn black_and_white_stay_in_range_and_no_gradient_moves_nothing() {
    let preprocessing = Preprocessing::IMAGENET;
    let attack = Attack::new(Adversary::default(), &preprocessing);
    let [black, white] = [0.0, 1.0].map(|v| {
        let at = |c: usize| (v - preprocessing.mean[c]) / preprocessing.deviation[c];
        [at(0), at(1), at(2)]
    });
    let origin = ImageBatch {
        batch: 1,
        height: 3,
        width: 1,
        values: [black, white, black].concat(),
    };
    let mut view = origin.clone();
    // Down from black, up from white, and nowhere.
    let gradient = [1.0, 1.0, 1.0, -1.0, -1.0, -1.0, 0.0, -0.0, 0.0];
    attack.step(&mut view, &origin, &gradient);
    assert_eq!(view, origin);
    attack.step(&mut view, &origin, &gradient.map(|g| -g));
    for c in 0..3 {
        assert!((view.values[c] - black[c] - 0.008).abs() < 1e-6);
        assert!((white[c] - view.values[3 + c] - 0.008).abs() < 1e-6);
    }
    assert_eq!(view.values[6..], origin.values[6..]);
}

#[test]
fn an_attack_without_steps_or_size_is_refused() {
    let refused = |change: fn(&mut Adversary)| {
        let mut adversary = Adversary::default();
        change(&mut adversary);
        adversary
            .check()
            .map_err(|invalid| invalid.reason().to_owned())
    };
    assert_eq!(refused(|_| ()), Ok(()));
    assert_eq!(
        refused(|a| a.steps = 0),
        Err("`steps` must be at least 1".into())
    );
    let size = Err("`step_size` must be above 0".into());
    assert_eq!(refused(|a| a.step_size = f64::NAN), size);
    let epsilon = Err("`epsilon` must be above 0".into());
    assert_eq!(refused(|a| a.epsilon = -0.1), epsilon);
}
