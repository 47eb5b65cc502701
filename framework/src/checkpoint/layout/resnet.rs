//! Names of ResNets: those of torchvision are the reference's, and nearly everyone's.

use super::{Library, Naming};

/// torchvision's and timm's ResNets, the reference's under the same names.
pub(super) const LIBRARIES: Naming = Naming {
    name: "",
    family: "layer1.0.conv1.weight",
    libraries: &[Library::Torchvision, Library::Timm],
    rules: &[],
    stages: None,
    remark: None,
};

/// The same for the reference's SimCLR teacher, which has its network in a module of its own.
pub(super) const SIMCLR: Naming = Naming {
    name: "torchvision",
    family: "module.layer1.0.conv1.weight",
    rules: &[("", "module")],
    ..LIBRARIES
};

/// `torch.nn.Sequential` over the children of a ResNet, with which lightly and many tutorials leave off the head.
pub(super) const SEQUENTIAL: Naming = Naming {
    name: "numbered",
    libraries: &[],
    rules: &[
        ("0", "conv1"),
        ("1", "bn1"),
        ("4", "layer1"),
        ("5", "layer2"),
        ("6", "layer3"),
        ("7", "layer4"),
    ],
    ..LIBRARIES
};
