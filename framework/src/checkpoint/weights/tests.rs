//! Finding a backbone in a checkpoint, and what is said where it is not there.

use smallfry_nn::{init::Init, parameter};

use super::*;
use crate::{checkpoint::Tensor, failure::Cause};

fn specs() -> Vec<Spec> {
    let spec = |name: &str, shape: &[usize], role| Spec {
        name: name.to_owned(),
        shape: shape.to_vec(),
        role,
        init: Init::Constant(0.0),
    };
    vec![
        spec("conv.weight", &[2, 1], Role::Weight),
        spec("bn.running_mean", &[2], Role::Statistic),
        spec("bn.num_batches_tracked", &[], Role::Counter),
    ]
}

fn filled(prefix: &str) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    let mut insert = |name: &str, tensor| {
        checkpoint.tensors.insert(format!("{prefix}{name}"), tensor);
    };
    insert("conv.weight", Tensor::float(vec![2, 1], vec![1.0, 2.0]));
    insert("bn.running_mean", Tensor::float(vec![2], vec![3.0, 4.0]));
    insert("bn.num_batches_tracked", Tensor::integer(vec![], vec![5]));
    insert("fc.0.weight", Tensor::float(vec![1, 2], vec![0.0; 2]));
    checkpoint
}

#[test]
fn the_query_encoder_is_found_by_itself() {
    for prefix in [
        "encoder_q.",
        "module.encoder_q.",
        "",
        "module.",
        "student.",
        "module.student.",
    ] {
        let mut checkpoint = filled(prefix);
        checkpoint.tensors.extend(filled("encoder_k.").tensors);
        checkpoint
            .tensors
            .insert("queue".to_owned(), Tensor::float(vec![1], vec![0.0]));
        let mut parameters = Parameters::new(specs());
        let loaded = take_backbone(&checkpoint, "a", None, &mut parameters).unwrap();
        assert_eq!(
            (loaded.prefix.as_str(), loaded.taken, loaded.head),
            (prefix, 3, 1)
        );
        assert_eq!(parameters.weight("conv.weight"), [1.0, 2.0]);
        assert_eq!(parameters.statistics(), [3.0, 4.0]);
        assert_eq!(parameters.get(2), parameter::Values::Integer(5));
    }
}

#[test]
fn the_file_may_say_which_encoder_counts() {
    let mut checkpoint = filled("pupil.");
    checkpoint.tensors.extend(filled("encoder_q.").tensors);
    checkpoint
        .metadata
        .insert("evaluated".to_owned(), "pupil".to_owned());
    let loaded = take_backbone(&checkpoint, "a", None, &mut Parameters::new(specs())).unwrap();
    assert_eq!(loaded.prefix, "pupil.");
}

#[test]
fn every_difference_is_named() {
    let mut checkpoint = filled("encoder_q.");
    let tensors = &mut checkpoint.tensors;
    tensors.remove("encoder_q.bn.running_mean");
    tensors.insert(
        "encoder_q.conv.weight".to_owned(),
        Tensor::float(vec![1, 2], vec![0.0; 2]),
    );
    tensors.insert(
        "encoder_q.bn2.weight".to_owned(),
        Tensor::float(vec![1], vec![0.0]),
    );
    let failure = take_backbone(
        &checkpoint,
        "x.safetensors",
        None,
        &mut Parameters::new(specs()),
    )
    .unwrap_err();
    assert_eq!(failure.cause, Cause::Mistake);
    assert_eq!(
        failure.message,
        "x.safetensors does not fit this backbone\
         \n  1 missing:\n    encoder_q.bn.running_mean\
         \n  1 of another shape:\n    encoder_q.conv.weight: F32 [1, 2] instead of F32 [2, 1]\
         \n  1 left over:\n    encoder_q.bn2.weight"
    );
}

#[test]
fn a_foreign_file_is_told_from_a_damaged_one() {
    let mut checkpoint = Checkpoint::default();
    checkpoint
        .tensors
        .insert("wte".to_owned(), Tensor::float(vec![1], vec![0.0]));
    let failure = take_backbone(
        &checkpoint,
        "gpt.safetensors",
        None,
        &mut Parameters::new(specs()),
    )
    .unwrap_err();
    assert!(
        failure.message.starts_with(
            "gpt.safetensors holds no weights of this backbone: it has tensors such as `wte`"
        ),
        "{failure}"
    );
}

#[test]
fn another_encoder_is_taken_on_request_only() {
    let mut checkpoint = filled("module.teacher.");
    let mut parameters = Parameters::new(specs());
    let failure = take_backbone(&checkpoint, "a", None, &mut parameters).unwrap_err();
    assert!(
        failure
            .message
            .starts_with("a holds no weights of this backbone")
    );
    let help = failure.help.expect("the teacher is there");
    assert!(help.contains("`encoder: \"teacher\"`"), "{help}");
    checkpoint.tensors.extend(filled("module.student.").tensors);
    let loaded = take_backbone(&checkpoint, "a", None, &mut parameters).unwrap();
    assert_eq!((loaded.encoder.as_str(), loaded.others), ("student", 4));
    let loaded = take_backbone(&checkpoint, "a", Some("teacher"), &mut parameters).unwrap();
    assert_eq!(loaded.prefix, "module.teacher.");
    assert_eq!(
        loaded.summary(),
        "3 tensors of `module.teacher` (SEED), 1 of the head left off, 4 others not needed"
    );
    let failure = take_backbone(&checkpoint, "a", Some("tutor"), &mut parameters).unwrap_err();
    assert!(
        failure
            .message
            .starts_with("a holds no weights of an encoder `tutor`"),
        "{failure}"
    );
}
