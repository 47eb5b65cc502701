//! What a joint augmentation must do.

use smallfry_data::{random::Random, view::View};

use super::augmentation::images;
use crate::JointAugmentation;

/// What is wrong with `joint`: it must keep its promised size in every view, tell numbers, and do the same for the same
/// random key.
pub fn joint_faults(joint: &dyn JointAugmentation) -> Vec<String> {
    let count = joint.views().unwrap_or(3);
    if count == 0 {
        return vec!["takes no views".to_owned()];
    }
    let mut faults = Vec::new();
    for image in images() {
        for key in 0..16 {
            let apply = || {
                let mut views = vec![View::of(&image); count];
                let mut measures = vec![0.0; joint.measures().len()];
                joint.apply(&mut views, &mut Random::new(&[key]), &mut measures);
                let shown: Vec<_> = views
                    .iter_mut()
                    .map(|view| {
                        let image = view.image().clone();
                        (image, view.replaced().map(<[_]>::to_vec))
                    })
                    .collect();
                (shown, measures)
            };
            let (first, second) = (apply(), apply());
            let of = format!("{} x {} pixels, key {key}", image.width, image.height);
            if !first.1.iter().all(|value| value.is_finite()) {
                faults.push(format!("tells a figure that is no number ({of})"));
            } else if first != second {
                faults.push(format!("gives two results for one random key ({of})"));
            }
            for (v, (image, _)) in first.0.iter().enumerate() {
                if let Some(size) = joint.size()
                    && (image.width, image.height) != (size, size)
                {
                    faults.push(format!(
                        "promises {size} x {size} pixels and leaves {} x {} in view {} ({of})",
                        image.width,
                        image.height,
                        v + 1
                    ));
                }
            }
            if !faults.is_empty() {
                return faults;
            }
        }
    }
    faults
}
