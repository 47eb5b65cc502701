//! Names of EfficientNets.
//!
//! The reference's are those of the port that came first. timm counts blocks within stages and starts the batch norms
//! of a block anew; the first stage does not expand, so its names are shifted.

use smallfry_nn::network::Spec;

use super::{Library, Naming, Stranger};

/// A tensor that every EfficientNet has.
const FAMILY: &str = "_conv_stem.weight";
/// Number of stages in every member of the family (Tan and Le, 2019, table 1).
const STAGES: usize = 7;

/// timm's `tf_efficientnet_…` and `tf_efficientnet_lite…`, also Lite0 of geffnet.
pub(super) const TIMM: Naming = Naming {
    name: "timm",
    family: FAMILY,
    libraries: &[Library::Timm],
    rules: &[
        ("conv_stem", "_conv_stem"),
        ("bn1", "_bn0"),
        ("blocks.0+.conv_dw", "_blocks.0+._depthwise_conv"),
        ("blocks.0+.bn1", "_blocks.0+._bn1"),
        ("blocks.0+.se.conv_reduce", "_blocks.0+._se_reduce"),
        ("blocks.0+.se.conv_expand", "_blocks.0+._se_expand"),
        ("blocks.0+.conv_pw", "_blocks.0+._project_conv"),
        ("blocks.0+.bn2", "_blocks.0+._bn2"),
        ("blocks.+.conv_pw", "_blocks.+._expand_conv"),
        ("blocks.+.bn1", "_blocks.+._bn0"),
        ("blocks.+.conv_dw", "_blocks.+._depthwise_conv"),
        ("blocks.+.bn2", "_blocks.+._bn1"),
        ("blocks.+.se.conv_reduce", "_blocks.+._se_reduce"),
        ("blocks.+.se.conv_expand", "_blocks.+._se_expand"),
        ("blocks.+.conv_pwl", "_blocks.+._project_conv"),
        ("blocks.+.bn3", "_blocks.+._bn2"),
        ("conv_head", "_conv_head"),
        ("bn2", "_bn1"),
        ("classifier", "fc"),
    ],
    stages: Some(stages),
    remark: Some(
        "timm's names that start with `tf_` are this network (epsilon 1e-3, padding at the far side); its others \
         pad evenly with epsilon 1e-5 and have other features",
    ),
};

/// torchvision's.
pub(super) const TORCHVISION: Stranger = Stranger {
    library: Library::Torchvision,
    family: FAMILY,
    marks: &["features.0.0.weight", "features.1.0.block.0.0.weight"],
    differs: "pads evenly where the reference pads at the far side, and takes epsilon 1e-5 in place of 1e-3",
};

/// Blocks of each stage: the first of a stage is the one that changes the number of channels.
fn stages(specs: &[Spec]) -> Option<Vec<usize>> {
    let mut blocks: Vec<usize> = Vec::new();
    let mut channels = None;
    for i in 0.. {
        let name = format!("_blocks.{i}._project_conv.weight");
        let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
            break;
        };
        if channels != Some(spec.shape[0]) {
            blocks.push(0);
            channels = Some(spec.shape[0]);
        }
        *blocks.last_mut()? += 1;
    }
    (blocks.len() == STAGES).then_some(blocks)
}

#[cfg(test)]
mod tests {
    use smallfry_nn::{init::Init, network::Role};

    use super::*;

    fn b0() -> Vec<Spec> {
        let spec = |name: String, channels| Spec {
            name,
            shape: vec![channels, 8, 1, 1],
            role: Role::Weight,
            init: Init::Constant(0.0),
        };
        let channels = [
            16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320,
        ];
        let mut specs = vec![spec(FAMILY.to_owned(), 32)];
        specs.extend(
            channels
                .iter()
                .enumerate()
                .map(|(i, &channels)| spec(format!("_blocks.{i}._project_conv.weight"), channels)),
        );
        specs
    }

    #[test]
    fn blocks_are_counted_within_stages() {
        let specs = b0();
        assert_eq!(stages(&specs), Some(vec![1, 2, 2, 3, 3, 4, 1]));
        assert!(TIMM.suits(&specs) && !TIMM.suits(&specs[..9]));
        let stages = TIMM.stages_of(&specs);
        for (ours, theirs) in [
            ("_bn0.weight", "bn1.weight"),
            ("_bn1.weight", "bn2.weight"),
            ("_blocks.0._bn1.bias", "blocks.0.0.bn1.bias"),
            (
                "_blocks.0._project_conv.weight",
                "blocks.0.0.conv_pw.weight",
            ),
            (
                "_blocks.2._project_conv.weight",
                "blocks.1.1.conv_pwl.weight",
            ),
            ("_blocks.14._bn0.bias", "blocks.5.3.bn1.bias"),
            ("_blocks.15._bn2.bias", "blocks.6.0.bn3.bias"),
            (
                "_blocks.8._se_reduce.bias",
                "blocks.4.0.se.conv_reduce.bias",
            ),
            ("fc.weight", "classifier.weight"),
        ] {
            assert_eq!(TIMM.write(ours, &stages), theirs);
            assert_eq!(TIMM.read(theirs, &stages), ours);
        }
    }
}
