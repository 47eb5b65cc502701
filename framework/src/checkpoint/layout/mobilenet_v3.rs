//! MobileNetV3 of the libraries, which is not the reference's.
//!
//! All have the widths of the paper. The reference gates channels between the depthwise batch norm and the activation,
//! as its port did; the libraries gate behind the activation, so the same weights give other features.

use super::{Library, Stranger};

/// A tensor that every MobileNetV3 has.
const FAMILY: &str = "features.0.0.weight";

/// torchvision's.
pub(super) const TORCHVISION: Stranger = Stranger {
    library: Library::Torchvision,
    family: FAMILY,
    marks: &["features.0.0.weight", "features.1.block.0.0.weight"],
    differs: "has squeeze-excite behind the activation where the reference has it before, and takes epsilon 1e-3 in \
              place of 1e-5",
};

/// timm's.
pub(super) const TIMM: Stranger = Stranger {
    library: Library::Timm,
    family: FAMILY,
    marks: &["conv_stem.weight", "blocks.0.0.conv_dw.weight"],
    differs: "has squeeze-excite behind the activation where the reference has it before",
};
