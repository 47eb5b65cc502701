//! What to know about queues, batch statistics and slow encoders before a long training: shared by the methods.

use smallfry::{Backbone, Invalid, advice::Advice, nn::network::Role, objective::Setup};

/// Share of the queries that meet an earlier key of their own image, above which it is worth a note.
const SOME: f64 = 0.1;

/// The share above which it is worth a warning.
const MANY: f64 = 0.5;

/// Images with batch statistics in common below which these are mostly noise.
const FEW: usize = 4;

/// On a queue of `length` keys, one of every image of the data in every epoch.
pub fn on_queue(length: usize, setup: &Setup) -> Vec<Advice> {
    let Setup {
        batch,
        samples,
        epochs,
        ..
    } = *setup;
    let mut advice = Vec::new();
    let keys = samples / batch * batch * epochs;
    if length > keys {
        advice.push(Advice::warning(
            Invalid::new(
                "queue",
                format!("{length} keys are more than the {keys} of the whole training: random vectors stay in it to the end"),
            )
            .help("take a shorter queue, or train longer"),
        ));
    }
    let share = own_key(length, samples);
    if share >= SOME && epochs > 1 {
        let remark = Invalid::new(
            "queue",
            format!(
                "{length} keys reach back into the epoch before: {:.0} % of the queries meet an earlier key of their own \
                 image among the negatives",
                100.0 * share
            ),
        )
        .help(format!(
            "with {samples} images, at most {} keys keep that below {:.0} %",
            longest(samples, batch),
            100.0 * SOME
        ));
        advice.push(match share >= MANY {
            true => Advice::warning(remark),
            false => Advice::note(remark),
        });
    }
    advice
}

/// The share of images whose key of the epoch before is still among the last `length`, where every epoch has its own
/// random order. An image at place p of n in one epoch and q in the next lies n − p + q keys back.
fn own_key(length: usize, samples: usize) -> f64 {
    let reach = length as f64 / samples as f64;
    match reach {
        reach if reach <= 1.0 => reach * reach / 2.0,
        reach if reach < 2.0 => 1.0 - (2.0 - reach).powi(2) / 2.0,
        _ => 1.0,
    }
}

/// The longest queue of whole batches that [`SOME`] allows.
fn longest(samples: usize, batch: usize) -> usize {
    let keys = (2.0 * SOME).sqrt() * samples as f64;
    (keys as usize / batch * batch).max(batch)
}

/// On batch statistics that `groups` parts of a batch have in common with their keys.
pub fn on_groups(groups: usize, setup: &Setup, backbone: &dyn Backbone) -> Vec<Advice> {
    let normalised = backbone
        .tensors()
        .iter()
        .any(|spec| spec.role == Role::Statistic);
    if !normalised {
        return Vec::new();
    }
    let part = setup.batch / groups.max(1);
    if part < FEW {
        return vec![Advice::warning(
            Invalid::new(
                "groups",
                format!("{part} images have batch statistics in common, which are mostly noise"),
            )
            .help("take a larger batch or fewer groups"),
        )];
    }
    if groups > 1 {
        return Vec::new();
    }
    vec![Advice::note(
        Invalid::new(
            "groups",
            "a whole batch has its batch statistics in common, by which a query can tell its own key without looking at \
             the image",
        )
        .help("`groups: 4` or more shuffles keys between parts of the batch, as several devices do"),
    )]
}

/// On an encoder that keeps `momentum` of its weights in a step.
pub fn on_momentum(momentum: f64, setup: &Setup) -> Vec<Advice> {
    let steps = setup.samples / setup.batch * setup.epochs;
    // The start's share in the slow encoder's weights at the end.
    let left = momentum.powf(steps as f64);
    if left < 0.25 {
        return Vec::new();
    }
    let remark = Invalid::new(
        "momentum",
        format!(
            "{momentum} over {steps} steps leaves {:.0} % of its start in the key encoder",
            100.0 * left
        ),
    );
    vec![Advice::note(
        remark.help("train longer, or give less momentum"),
    )]
}

#[cfg(test)]
mod tests {
    use smallfry::{advice::Severity, data::random::Random};

    use super::*;

    fn setup(batch: usize, samples: usize, epochs: usize) -> Setup {
        Setup {
            seed: 0,
            batch,
            samples,
            epochs,
        }
    }

    #[test]
    fn the_share_of_own_keys_is_that_of_a_simulation() {
        let samples = 200;
        let mut random = Random::new(&[5]);
        let mut shuffled = || {
            let mut order: Vec<usize> = (0..samples).collect();
            random.shuffle(&mut order);
            let mut place = vec![0; samples];
            order
                .iter()
                .enumerate()
                .for_each(|(at, &image)| place[image] = at);
            place
        };
        for length in [40, 120, 200, 260, 400] {
            let (mut met, rounds) = (0, 200);
            for _ in 0..rounds {
                let (before, now) = (shuffled(), shuffled());
                met += (0..samples)
                    .filter(|&image| samples - before[image] + now[image] <= length)
                    .count();
            }
            let share = met as f64 / (rounds * samples) as f64;
            let formula = own_key(length, samples);
            assert!(
                (share - formula).abs() < 0.02,
                "{length}: {share} {formula}"
            );
        }
    }

    #[test]
    fn queues_are_measured_against_the_data() {
        let said = |length, setup: &Setup| {
            let advice = on_queue(length, setup);
            advice
                .iter()
                .map(|advice| advice.severity)
                .collect::<Vec<_>>()
        };
        // ImageNet, and the experiments that come with the program.
        assert_eq!(said(65_536, &setup(512, 1_281_167, 800)), []);
        assert_eq!(said(512, &setup(128, 60_000, 20)), []);
        assert_eq!(said(64, &setup(32, 250, 100)), []);
        assert_eq!(said(160, &setup(32, 250, 100)), [Severity::Note]);
        assert_eq!(said(512, &setup(32, 250, 100)), [Severity::Warning]);
        assert_eq!(said(512, &setup(32, 250, 2)), [Severity::Warning; 2]);
        assert_eq!(said(512, &setup(32, 250, 1)), [Severity::Warning]);
        let longest = longest(250, 32);
        assert!(own_key(longest, 250) < SOME && own_key(longest + 32, 250) > SOME);
    }

    #[test]
    fn a_slow_encoder_needs_steps() {
        assert!(on_momentum(0.999, &setup(256, 1_281_167, 200)).is_empty());
        assert!(on_momentum(0.99, &setup(32, 250, 100)).is_empty());
        // 0.999 to the 700th power is a half.
        let advice = on_momentum(0.999, &setup(32, 250, 100));
        assert!(
            advice[0].remark.reason().contains("leaves 50 %"),
            "{advice:?}"
        );
    }
}
