//! Files that PyTorch wrote, tensor by tensor, and files that nobody should open.
//!
//! `tests/fixtures/weights` has the small ones; the large ones are looked for beside the checkout. Numbers are compared
//! bit for bit where the reference gives them, else by norm and sum in double precision.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value as Json;
use smallfry_formats::{
    Array, Dtype,
    torch::{self, Limits, Value},
};
use smallfry_tests::golden::{Reference, floats, repository};

fn fixtures(inside: &str) -> PathBuf {
    repository().join("tests/fixtures/weights").join(inside)
}

fn json(path: &Path) -> Json {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn read(path: &Path) -> Value {
    torch::read(path, &Limits::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// The value under a path of keys and indices, such as `optimizer/state/0`.
fn descend<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('/').fold(value, |value, step| {
        let number = step.parse::<i64>().ok();
        let found = match value {
            Value::List(elements) => number.and_then(|i| elements.get(i as usize)),
            _ => value.get(step).or_else(|| {
                let mut entries = value.entries().unwrap_or_default().iter();
                entries
                    .find(|(key, _)| number.is_some() && key.as_integer() == number)
                    .map(|(_, value)| value)
            }),
        };
        found.unwrap_or_else(|| panic!("no `{step}` of `{path}`"))
    })
}

fn shape(json: &Json) -> Vec<usize> {
    floats(&json["shape"]).iter().map(|&v| v as usize).collect()
}

/// Whether a plain value is what the JSON says.
fn same(value: &Value, json: &Json) -> bool {
    match (value, json) {
        (Value::None, Json::Null) => true,
        (Value::Bool(a), Json::Bool(b)) => a == b,
        (Value::Integer(a), Json::Number(b)) => Some(*a) == b.as_i64(),
        (Value::BigInteger(bytes), Json::Number(b)) => {
            let mut digits = bytes.iter().rev();
            let sum = digits.try_fold(0f64, |sum, &byte| Some(sum * 256.0 + f64::from(byte)));
            sum == b.as_f64()
        }
        (Value::Float(a), Json::Number(b)) => Some(*a) == b.as_f64(),
        (Value::Text(a), Json::String(b)) => a == b,
        (Value::List(a) | Value::Tuple(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => false,
    }
}

fn check_array(what: &str, array: &Array, expected: &Json) {
    assert_eq!(array.shape, shape(expected), "{what}");
    assert_eq!(
        Some(array.dtype.name()),
        expected["dtype"].as_str(),
        "{what}"
    );
    let values = expected["row_major_values"].as_array().unwrap();
    assert_eq!(array.len(), values.len(), "{what}");
    match array.dtype {
        Dtype::Bool => {
            let truths: Vec<i64> = values.iter().map(|v| v.as_bool().unwrap().into()).collect();
            assert_eq!(array.to_i64().unwrap(), truths, "{what}");
        }
        Dtype::F64 => {
            // The parser of JSON rounds the last bit its own way.
            for (value, expected) in array.to_f64().unwrap().iter().zip(values) {
                let distance = (value - expected.as_f64().unwrap()).abs();
                assert!(distance <= value.abs() * f64::EPSILON, "{what}");
            }
        }
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
            for (value, expected) in array.to_f32().unwrap().iter().zip(values) {
                let expected = expected.as_f64().unwrap() as f32;
                assert_eq!(value.to_bits(), expected.to_bits(), "{what}");
            }
        }
        _ => {
            let integers: Vec<i64> = values.iter().map(|v| v.as_i64().unwrap()).collect();
            assert_eq!(array.to_i64().unwrap(), integers, "{what}");
        }
    }
}

#[test]
fn small_files_of_every_container_hold_what_pytorch_says() {
    let expected = json(&fixtures("tiny/expected.json"));
    for (file, facts) in expected.as_object().unwrap() {
        let value = read(&fixtures("tiny").join(file));
        let entries = facts["entries"].as_object().unwrap();
        assert!(!entries.is_empty());
        for (path, entry) in entries {
            let what = format!("{file}: {path}");
            match (descend(&value, path), entry.get("python")) {
                (Value::Array(array), None) => check_array(&what, array, entry),
                (value, Some(python)) => assert!(same(value, python), "{what}: {value:?}"),
                (value, None) => panic!("{what}: {value:?} is no array"),
            }
        }
    }
    let doubles = read(&fixtures("tiny/dtypes_zip.pth"));
    let doubles = doubles.get("f64").and_then(Value::as_array).unwrap();
    assert_eq!(
        doubles.to_f64().unwrap(),
        [0.04605455199877421, 0.1498790979385376, -0.0499725341796875]
    );
}

/// Compares shape, norm, sum and first numbers.
fn check_numbers(what: &str, array: &Array, expected: &Json) {
    assert_eq!(array.shape, shape(expected), "{what}");
    if let Some(dtype) = expected.get("dtype") {
        assert_eq!(Some(array.dtype.name()), dtype.as_str(), "{what}");
    }
    if let Some(values) = expected.get("values") {
        let values: Vec<i64> = values
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_i64().unwrap())
            .collect();
        assert_eq!(array.to_i64().unwrap(), values, "{what}");
        return;
    }
    let values = array.to_f32().unwrap();
    let first = floats(&expected["first4"]);
    assert_eq!(first.len(), values.len().min(4), "{what}");
    for (value, first) in values.iter().zip(first) {
        assert_eq!(value.to_bits(), (first as f32).to_bits(), "{what}");
    }
    let sum = |f: fn(f64) -> f64| values.iter().map(|&v| f(v.into())).sum::<f64>();
    let close = |measured: f64, expected: f64, scale: f64| {
        assert!(
            (measured - expected).abs() <= 1e-10 * scale.max(1e-300),
            "{what}: {measured}, not {expected}"
        );
    };
    let norm = expected["l2"].as_f64().unwrap();
    close(sum(|v| v * v).sqrt(), norm, norm);
    if let Some(expected) = expected.get("sum") {
        close(sum(|v| v), expected.as_f64().unwrap(), sum(f64::abs));
    }
}

fn arrays(value: &Value) -> Vec<(&str, &Array)> {
    let entries = value.entries().unwrap().iter();
    entries
        .map(|(key, value)| (key.as_text().unwrap(), value.as_array().unwrap()))
        .collect()
}

#[test]
fn moco_checkpoint_comes_out_whole() {
    let Some(reference) = Reference::find("the MoCo checkpoint of PyTorch") else {
        return;
    };
    let folder = "golden/g4_checkpoints";
    let expected = reference.json(&format!("{folder}/checkpoint_0000.json"));
    let value = read(&reference.path(&format!("{folder}/checkpoint_0000.pth.tar")));
    let keys = value.entries().unwrap().iter();
    let keys: Vec<Json> = keys.map(|(k, _)| k.as_text().unwrap().into()).collect();
    assert_eq!(Json::from(keys), expected["top_level_keys"]);
    assert!(same(descend(&value, "epoch"), &expected["epoch"]));
    assert!(same(descend(&value, "arch"), &expected["arch"]));

    let state = value.get("state_dict").unwrap();
    assert!(matches!(state, Value::OrderedDict(_)));
    let state = arrays(state);
    let names: Vec<&str> = state.iter().map(|(name, _)| *name).collect();
    assert_eq!(Json::from(names), expected["state_dict_order"]);
    for (name, array) in &state {
        check_numbers(name, array, &expected["state_dict"][*name]);
    }

    let optimizer = &expected["optimizer"];
    let states = descend(&value, "optimizer/state").entries().unwrap();
    assert_eq!(states.len(), optimizer["state"].as_object().unwrap().len());
    for (index, state) in states {
        let index = index.as_integer().unwrap().to_string();
        let buffer = state.get("momentum_buffer").and_then(Value::as_array);
        check_numbers(&index, buffer.unwrap(), &optimizer["state"][&index]);
    }
    let group = descend(&value, "optimizer/param_groups/0");
    let facts = optimizer["param_groups"][0].as_object().unwrap();
    assert_eq!(group.entries().unwrap().len(), facts.len());
    for (key, fact) in facts.iter().filter(|(key, _)| *key != "params") {
        assert!(same(group.get(key).unwrap(), fact), "{key}");
    }
    let parameters = group.get("params").and_then(Value::elements).unwrap();
    let indices: Vec<i64> = parameters.iter().filter_map(Value::as_integer).collect();
    assert_eq!(indices, (0..284).collect::<Vec<_>>());

    // The same query encoder in the older container.
    let legacy = read(&reference.path(&format!("{folder}/legacy_encoder_q.pth.tar")));
    let legacy = legacy.get("state_dict").unwrap_or(&legacy);
    let bare = |(name, array)| {
        let name = str::strip_prefix(name, "module.").unwrap_or(name);
        (str::strip_prefix(name, "encoder_q.").unwrap_or(name), array)
    };
    let query = state.into_iter();
    let query = query.filter(|(name, _)| name.starts_with("module.encoder_q."));
    let query: Vec<(&str, &Array)> = query.map(bare).collect();
    let legacy: Vec<(&str, &Array)> = arrays(legacy).into_iter().map(bare).collect();
    assert_eq!(legacy.len(), query.len());
    assert!(legacy == query, "the two containers differ");
}

#[test]
fn seed_checkpoint_with_repeated_storage_comes_out_whole() {
    let Some(reference) = Reference::find("the SEED checkpoint of PyTorch") else {
        return;
    };
    let folder = "golden/g4_checkpoints";
    let expected = reference.json(&format!("{folder}/seed_checkpoint.json"));
    let file = expected["file"].as_str().unwrap();
    let value = read(&reference.path(&format!("{folder}/{file}")));
    let state = arrays(value.get("state_dict").unwrap());
    let facts = expected["state_dict"].as_array().unwrap();
    assert_eq!(state.len(), facts.len());
    for ((name, array), fact) in state.iter().zip(facts) {
        assert_eq!(Some(*name), fact["name"].as_str());
        check_numbers(name, array, fact);
    }
}

#[test]
fn written_checkpoints_are_read_again_bit_for_bit() {
    let Some(reference) = Reference::find("writing the MoCo checkpoint again") else {
        return;
    };
    let value = read(&reference.path("golden/g4_checkpoints/checkpoint_0000.pth.tar"));
    let mut bytes = Vec::new();
    torch::write(&value, "checkpoint_0000", &mut bytes).unwrap();
    let again = torch::read_bytes(&bytes, &Limits::default()).unwrap();
    assert!(again == value, "a value changed on the way");
}

#[test]
fn python_objects_become_plain_values() {
    let array = |shape: &[usize], integers: &[i64]| Value::Array(Array::from_i64(shape, integers));
    let ones = Value::Array(Array::from_f32(&[2], &[1.0, 1.0]));
    let big_endian = Array {
        dtype: Dtype::I16,
        shape: vec![3],
        bytes: vec![0, 0, 1, 0, 2, 0],
    };
    let pair = |key: i64, value: Value| (Value::Integer(key), value);
    let expected = Value::dict([
        ("parameter", ones.clone()),
        ("tensor", ones),
        ("device", Value::text("cuda:0")),
        (
            "size",
            Value::Tuple(vec![Value::Integer(1), Value::Integer(2)]),
        ),
        ("scalar", Value::Float(2.5)),
        ("integer_scalar", Value::Integer(-7)),
        ("truth_scalar", Value::Bool(true)),
        (
            "array",
            Value::Array(Array::from_f32(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])),
        ),
        ("column_major", array(&[2, 3], &[0, 1, 2, 3, 4, 5])),
        ("big_endian", Value::Array(big_endian)),
        (
            "arguments",
            Value::dict([("lr", Value::Float(0.1)), ("arch", Value::text("resnet18"))]),
        ),
        ("path", Value::text("/a/b")),
        (
            "counter",
            Value::Dict(vec![pair(1, Value::Integer(2)), pair(2, Value::Integer(1))]),
        ),
        (
            "default",
            Value::Dict(vec![pair(1, Value::List(vec![Value::Integer(2)]))]),
        ),
        ("bytearray", Value::Bytes(b"ab".to_vec())),
        ("frozenset", Value::Set(vec![Value::Integer(3)])),
    ]);
    assert_eq!(read(&fixtures("objects/changed.pth")), expected);
    assert_eq!(read(&fixtures("objects/changed_legacy.pth")), expected);
    for (kind, reason) in [
        ("conjugate", "conjugation"),
        ("negative", "negation"),
        ("meta", "_rebuild_meta_tensor_no_storage"),
        ("sparse", "_rebuild_sparse_tensor"),
        ("storage", "bare storage"),
    ] {
        let path = fixtures(&format!("objects/refused_{kind}.pth"));
        let error = torch::read(&path, &Limits::default()).unwrap_err();
        assert!(error.problem().contains(reason), "{error}");
    }
}

/// What the hostile files would leave behind if their code ran.
const TRACES: [&str; 3] = ["/tmp/pwned", "/tmp/pwned_traversal", "/tmp/pwned_absolute"];

#[test]
fn hostile_files_are_refused_without_a_trace() {
    let expected = json(&fixtures("malicious/expected.json"));
    let files = expected.as_object().unwrap();
    assert!(files.len() > 30);
    for file in files.keys() {
        let path = fixtures("malicious").join(file);
        let read = torch::read(&path, &Limits::default());
        match &file[..] {
            "handmade_good.pth" => {
                let value = read.unwrap();
                let array = descend(&value, "state_dict/w").as_array().unwrap();
                assert_eq!(array, &Array::from_f32(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
            }
            // A good checkpoint beside records that would land elsewhere if they were unpacked.
            "path_traversal.zip.pth" => assert!(read.unwrap().entries().is_some()),
            _ => {
                let error = read.expect_err(file).to_string();
                assert!(error.contains(file.as_str()), "{error}");
                assert!(!error.chars().any(char::is_control), "{error:?}");
                let code = ["evil_", "whole_module"]
                    .iter()
                    .any(|p| file.starts_with(p));
                if code && file != "evil_inst_opcode.pth" {
                    assert!(error.contains("names `"), "{error}");
                }
            }
        }
    }
    for trace in TRACES {
        assert!(!Path::new(trace).exists(), "{trace} has appeared");
    }
}

/// Set in the process that reads the hostile files to be measured.
const CHILD: &str = "SMALLFRY_TEST_MEASURED_CHILD";

#[test]
fn hostile_files_take_little_memory() {
    if env::var_os(CHILD).is_some() {
        for entry in fs::read_dir(fixtures("malicious")).unwrap() {
            drop(torch::read(&entry.unwrap().path(), &Limits::default()));
        }
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
        println!("{}", peak.unwrap());
        return;
    }
    if !Path::new("/proc/self/status").exists() {
        eprintln!("LEFT OUT: the memory that hostile files take (this system does not tell)");
        return;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["hostile_files_take_little_memory", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let peak = text
        .split("VmHWM:")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let kibibytes: u64 = peak.expect("the child prints its peak").parse().unwrap();
    assert!(kibibytes < 64 << 10, "{kibibytes} KiB");
}

/// Reads files with PyTorch and says whether their tensors are those given, in the same order.
const PYTHON: &str = r#"
import collections, hashlib, sys, torch
def walk(value, path, out):
    if isinstance(value, torch.Tensor):
        dense = value.detach().contiguous().reshape(-1)
        data = dense.view(torch.uint8).numpy().tobytes() if dense.numel() else b""
        digest = hashlib.sha256(data).hexdigest()
        out.append(f"{path} {str(value.dtype)[6:]} {list(value.shape)} {digest}")
    elif isinstance(value, dict):
        for key, item in value.items():
            walk(item, f"{path}/{key}", out)
    elif isinstance(value, (list, tuple)):
        for key, item in enumerate(value):
            walk(item, f"{path}/{key}", out)
    else:
        out.append(f"{path} {value!r}")
def lines(path, weights_only):
    out = []
    walk(torch.load(path, weights_only=weights_only), "", out)
    return out
original, written = sys.argv[1:]
before = lines(original, False)
for weights_only in (True, False):
    after = lines(written, weights_only)
    assert before == after, [pair for pair in zip(before, after) if pair[0] != pair[1]][:3]
print("same", len(before))
"#;

#[test]
fn pytorch_reads_what_is_written() {
    let Some(python) = env::var_os("SMALLFRY_PYTHON") else {
        eprintln!(
            "LEFT OUT: PyTorch reading written files (set SMALLFRY_PYTHON to a Python that has torch)"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("compare.py");
    fs::write(&script, PYTHON).unwrap();
    let mut files: Vec<PathBuf> = [
        "tiny/nested_zip.pth",
        "tiny/dtypes_legacy.pth",
        "tiny/strided_zip.pth",
        "objects/exact.pth",
    ]
    .map(fixtures)
    .into();
    if let Some(reference) = Reference::find("PyTorch reading the MoCo checkpoint written again") {
        files.push(reference.path("golden/g4_checkpoints/checkpoint_0000.pth.tar"));
    }
    for file in files {
        let written = folder.path().join("written.pth.tar");
        let mut bytes = Vec::new();
        torch::write(&read(&file), "written", &mut bytes).unwrap();
        fs::write(&written, bytes).unwrap();
        let output = Command::new(&python)
            .args([&script, &file, &written])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(text.starts_with("same"), "{}: {errors}", file.display());
    }
}
