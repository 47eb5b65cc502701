//! Linear classifiers against the reference's trajectories: linear evaluation and transfer of `g7_optim`.

use serde_json::Value;
use smallfry::probe::bank::{Bank, Head, Rule, State};
use smallfry_tests::golden::{Fill, Reference, floats, norm};

const FILE: &str = "golden/g7_optim/optim.json";

fn number(case: &Value, key: &str) -> f64 {
    case[key]
        .as_f64()
        .unwrap_or_else(|| panic!("`{key}` is no number"))
}

/// Relative difference, in units of 1 for numbers below.
#[track_caller]
fn close(found: f64, wanted: f64, tolerance: f64, what: &str) {
    let gap = (found - wanted).abs() / wanted.abs().max(1e-3);
    assert!(gap < tolerance, "{what}: {found} for {wanted}");
}

#[test]
fn probes_follow_the_reference() {
    let Some(reference) = Reference::find("trajectories of linear probes") else {
        return;
    };
    let file = reference.json(FILE);
    let cases = file["linear_probe"].as_object().expect("cases by name");
    assert_eq!(cases.len(), 4);
    for (name, case) in cases {
        let fill = Fill::of(case);
        let [width, samples, classes] = ["nf", "ns", "nc"].map(|key| number(case, key) as usize);
        let features = fill.scaled("features", samples * width, number(case, "feat_scale"));
        let labels: Vec<u32> = (0..samples).map(|i| (i % classes) as u32).collect();
        let head = Head {
            rate: number(case, "lr"),
            unit_length: case["normed"] == true,
        };
        let rule = Rule {
            momentum: number(case, "mom"),
            decay: number(case, "wd"),
        };
        // Beside heads of other rates and features, which must not show.
        let others = [0.1, 1e30].map(|rate| Head {
            rate,
            unit_length: !head.unit_length,
        });
        let mut bank = Bank::new(classes, width, rule, &[others[0], head, others[1]], 0);
        let start = State {
            weight: fill.scaled("fc.weight", classes * width, 0.01 * 3f64.sqrt()),
            bias: vec![0.0; classes],
            weight_velocity: vec![0.0; classes * width],
            bias_velocity: vec![0.0; classes],
        };
        bank.set_state(1, &start, false);
        let (losses, accuracies) = (floats(&case["losses"]), floats(&case["acc1"]));
        for (step, (&loss, &accuracy)) in losses.iter().zip(&accuracies).enumerate() {
            let figures = bank.step(&features, &labels, 1.0)[1];
            let what = format!("loss of {name}, step {step}");
            close(figures.mean_loss().unwrap(), loss, 1e-4, &what);
            assert_eq!(figures.top1(), Some(accuracy), "{name}, step {step}");
        }
        let state = bank.state(1);
        let length = number(case, "final_weight_l2");
        close(
            norm(&state.weight),
            length,
            1e-5,
            &format!("weights of {name}"),
        );
        let first = floats(&case["final_weight_first8"]);
        for (i, wanted) in first.into_iter().enumerate() {
            close(
                state.weight[i].into(),
                wanted,
                1e-4,
                &format!("weight {i} of {name}"),
            );
        }
        for (i, wanted) in floats(&case["final_bias"]).into_iter().enumerate() {
            let found = f64::from(state.bias[i]);
            assert!(
                (found - wanted).abs() < 2e-5,
                "bias {i} of {name}: {found} for {wanted}"
            );
        }
    }
}
