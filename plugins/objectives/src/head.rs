//! Projection heads: what stands in place of a backbone's `fc` while it learns without labels.
//!
//! Positions without parameters count in the names, as in the reference: the ReLU after `fc.0` is position 1, so the
//! next layer is `fc.2`, or `fc.3` with a dropout between. In all heads but `Wide` the last layer is the backbone's own
//! `fc` moved there, so it starts as that network starts its layers.

use smallfry::{
    backbone::{Head, HeadLayer},
    nn::network::Activation,
    serde::{Deserialize, Serialize},
};

/// Dropout before the last layer of [`Projection::Dropout`].
const DROPOUT: f32 = 0.5;

/// The shape of a projection head; d is the backbone's width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "smallfry::serde")]
pub enum Projection {
    /// d → d, ReLU, d → dim (MoCo v2).
    Simple,
    /// d → d, ReLU, d → d, ReLU, d → dim.
    Deep,
    /// d → d, ReLU, dropout 0.5, d → dim.
    Dropout,
    /// d → 2d, ReLU, 2d → dim: small networks learn best with it.
    Wide,
    /// d → dim (MoCo v1).
    None,
}

impl Projection {
    /// The layers for features of `width` and embeddings of `dim` numbers.
    pub fn head(self, width: usize, dim: usize) -> Head {
        let hidden = |name: &str, output, dropout| HeadLayer {
            name: name.into(),
            output,
            norm: None,
            activation: Activation::Relu,
            dropout,
            own_init: false,
        };
        let last = |name: &str, own_init| HeadLayer {
            name: name.into(),
            output: dim,
            norm: None,
            activation: Activation::Identity,
            dropout: 0.0,
            own_init,
        };
        let layers = match self {
            Self::Simple => vec![hidden("fc.0", width, 0.0), last("fc.2", true)],
            Self::Deep => vec![
                hidden("fc.0", width, 0.0),
                hidden("fc.2", width, 0.0),
                last("fc.4", true),
            ],
            Self::Dropout => vec![hidden("fc.0", width, DROPOUT), last("fc.3", true)],
            Self::Wide => vec![hidden("fc.0", 2 * width, 0.0), last("fc.2", false)],
            Self::None => vec![last("fc", true)],
        };
        Head {
            layers,
            ..Head::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_widths_are_those_of_the_reference() {
        let shape = |projection: Projection| {
            let layers = projection.head(512, 128).layers;
            let shape = layers
                .iter()
                .map(|layer| format!("{} {}", layer.name, layer.output));
            shape.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(shape(Projection::Simple), "fc.0 512, fc.2 128");
        assert_eq!(shape(Projection::Deep), "fc.0 512, fc.2 512, fc.4 128");
        assert_eq!(shape(Projection::Dropout), "fc.0 512, fc.3 128");
        assert_eq!(shape(Projection::Wide), "fc.0 1024, fc.2 128");
        assert_eq!(shape(Projection::None), "fc 128");
    }

    #[test]
    fn only_the_wide_head_starts_wholly_anew() {
        use Projection::*;
        for projection in [Simple, Deep, Dropout, Wide, None] {
            let layers = projection.head(8, 4).layers;
            let (last, others) = layers.split_last().expect("a head has a layer");
            assert_eq!(last.own_init, projection != Wide);
            assert_eq!(last.activation, Activation::Identity);
            assert!(others.iter().all(|layer| !layer.own_init));
            assert_eq!(
                others.iter().any(|layer| layer.dropout > 0.0),
                projection == Dropout
            );
        }
    }
}
