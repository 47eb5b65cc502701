//! Programs that train encoders, and where their files keep them.

use std::collections::BTreeMap;

/// A program whose files are known.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in messages; empty for a bare state dict.
    pub name: &'static str,
    /// Where its encoders stand.
    pub places: &'static [Place],
    /// Modules that only its files have, where the places alone do not tell.
    pub marks: &'static [&'static str],
}

/// Where one encoder stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// What stands before its names, after any of the `WRAPPERS`.
    pub prefix: &'static str,
    /// What the encoder is called; empty where there is only one.
    pub encoder: &'static str,
    /// Taken unless another is asked for.
    pub evaluated: bool,
}

impl Program {
    /// Whether `names` have all the marks.
    pub(super) fn marked<T>(&self, names: &BTreeMap<String, T>) -> bool {
        let has = |mark: &&str| {
            names
                .keys()
                .any(|name| name.split('.').any(|part| part == *mark))
        };
        self.marks.iter().all(has)
    }
}

/// What PyTorch's wrappers (data parallelism, compilation) put before every name.
pub(super) const WRAPPERS: [&str; 7] = [
    "",
    "module.",
    "module.module.",
    "module.module.module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
];

const fn evaluated(prefix: &'static str, encoder: &'static str) -> Place {
    Place {
        prefix,
        encoder,
        evaluated: true,
    }
}

const fn other(prefix: &'static str, encoder: &'static str) -> Place {
    Place {
        prefix,
        encoder,
        evaluated: false,
    }
}

/// The programs, the most wanted first: of two that find equally many tensors the first is taken.
pub(super) const KNOWN: [Program; 9] = [
    Program {
        name: "MoCo",
        places: &[
            evaluated("encoder_q.", "encoder_q"),
            other("encoder_k.", "encoder_k"),
        ],
        marks: &[],
    },
    Program {
        name: "SEED",
        places: &[
            evaluated("student.", "student"),
            other("teacher.", "teacher"),
        ],
        marks: &[],
    },
    Program {
        name: "SwAV",
        places: &[evaluated("", "")],
        marks: &["prototypes"],
    },
    Program {
        name: "DINO",
        places: &[
            evaluated("teacher.backbone.", "teacher"),
            other("student.backbone.", "student"),
            other("student.module.backbone.", "student"),
            evaluated("teacher_backbone.", "teacher"),
            other("student_backbone.", "student"),
        ],
        marks: &[],
    },
    Program {
        name: "solo-learn or lightly",
        places: &[
            evaluated("backbone.", ""),
            evaluated("encoder.", ""),
            other("momentum_backbone.", "momentum"),
            other("momentum_encoder.", "momentum"),
            other("backbone_momentum.", "momentum"),
        ],
        marks: &[],
    },
    Program {
        name: "VISSL",
        places: &[
            evaluated(
                "classy_state_dict.base_model.model.trunk._feature_blocks.",
                "",
            ),
            evaluated("classy_state_dict.base_model.model.trunk.", ""),
            evaluated("model_state_dict.trunk._feature_blocks.", ""),
            evaluated("trunk._feature_blocks.", ""),
            evaluated("_feature_blocks.", ""),
        ],
        marks: &[],
    },
    Program {
        name: "",
        places: &[evaluated("", "")],
        marks: &[],
    },
    Program {
        name: "Lightning",
        places: &[evaluated("model.", ""), evaluated("net.", "")],
        marks: &[],
    },
    Program {
        name: "BYOL",
        places: &[
            evaluated("online_network.", "online"),
            evaluated("online_encoder.", "online"),
            other("target_network.", "target"),
            other("target_encoder.", "target"),
        ],
        marks: &[],
    },
];
