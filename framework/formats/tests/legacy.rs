//! Files of the older container written by hand: old spellings that are read, and small files that ask for much.
//!
//! Instructions are spelt as bytes: `(` opens a mark, `t` closes it to a tuple, `q` stores and `h` fetches, `R` calls,
//! `Q` turns a tuple into an outside object, `.` ends.

use smallfry_formats::{
    Array, Error,
    torch::{self, Limits, Value},
};

/// Magic number, version and description of the machine.
const START: &[u8] =
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

/// A file whose value is `pickle` and whose storages are `storages`: name, number of elements, bytes.
fn file(pickle: &[u8], storages: &[(&str, u64, &[u8])]) -> Vec<u8> {
    let mut file = [START, b"\x80\x02", pickle, b".\x80\x02]("].concat();
    for (key, ..) in storages {
        file.extend(text(key));
    }
    file.extend(b"e.");
    for (_, elements, bytes) in storages {
        file.extend(elements.to_le_bytes());
        file.extend(*bytes);
    }
    file
}

fn read(pickle: &[u8]) -> Result<Value, Error> {
    torch::read_bytes(&file(pickle, &[]), &Limits::default())
}

/// The problem of a file, which must have one.
fn problem(pickle: &[u8]) -> String {
    read(pickle).unwrap_err().problem().to_owned()
}

fn text(text: &str) -> Vec<u8> {
    let length = (text.len() as u32).to_le_bytes();
    [b"X", &length[..], text.as_bytes()].concat()
}

fn integer(integer: i64) -> Vec<u8> {
    [b"\x8a\x08", &integer.to_le_bytes()[..]].concat()
}

fn tuple(elements: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &elements.concat()[..], b"t"].concat()
}

fn integers(integers: &[i64]) -> Vec<u8> {
    tuple(&integers.iter().map(|&i| integer(i)).collect::<Vec<_>>())
}

/// The persistent id of a float storage; `view` is its sixth part.
fn storage(key: &str, elements: i64, view: Vec<u8>) -> Vec<u8> {
    let class = b"ctorch\nFloatStorage\n".to_vec();
    let id = [
        text("storage"),
        class,
        text(key),
        text("cpu"),
        integer(elements),
        view,
    ];
    [&tuple(&id)[..], b"Q"].concat()
}

fn tensor(storage: Vec<u8>, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let arguments = [
        storage,
        integer(offset),
        integers(shape),
        integers(strides),
        b"\x89".to_vec(),
        b"ccollections\nOrderedDict\n)R".to_vec(),
    ];
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        &tuple(&arguments)[..],
        b"R",
    ]
    .concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn a_storage_can_be_a_part_of_another() {
    let whole = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    let view = |start, length| tuple(&[text("view"), integer(start), integer(length)]);
    let read = |view, shape: &[i64]| {
        let pickle = tensor(storage("s", 6, view), 1, shape, &[1]);
        let file = file(&pickle, &[("s", 6, &floats(&whole))]);
        torch::read_bytes(&file, &Limits::default())
    };
    let expected = Value::Array(Array::from_f32(&[2], &[3.0, 4.0]));
    assert_eq!(read(view(2, 3), &[2]), Ok(expected));
    for (view, shape) in [
        // Beyond the part, beyond the whole, absurd.
        (view(2, 3), [3]),
        (view(4, 3), [1]),
        (view(-1, 3), [1]),
        (view(i64::MAX, 3), [1]),
        (view(1, i64::MAX), [1]),
    ] {
        assert!(read(view, &shape).is_err());
    }
}

#[test]
fn old_spellings_are_read() {
    // Python 2 has one kind of string, and fills an `OrderedDict` from a list of pairs.
    let pickle = b"ccollections\nOrderedDict\n](](U\x01bK\x02e](U\x01aK\x01ee\x85R";
    let expected = Value::ordered_dict([("b", Value::Integer(2)), ("a", Value::Integer(1))]);
    assert_eq!(read(pickle), Ok(expected));
    let bytes = Value::Bytes(vec![0xff, 0x00]);
    assert_eq!(read(b"U\x02\xff\x00"), Ok(bytes));
    // A script's arguments, and a state dict's attribute beside its entries.
    let arguments =
        b"cargparse\nNamespace\n)\x81}(X\x02\x00\x00\x00lrG\x3f\xe0\x00\x00\x00\x00\x00\x00ub";
    assert_eq!(
        read(arguments),
        Ok(Value::dict([("lr", Value::Float(0.5))]))
    );
    let callback = b"cpytorch_lightning.callbacks.early_stopping\nEarlyStopping\n";
    let name = "pytorch_lightning.callbacks.early_stopping.EarlyStopping";
    let states = Value::dict([(name, Value::Integer(3))]);
    assert_eq!(read(&[b"}", &callback[..], b"K\x03s"].concat()), Ok(states));
    assert!(read(&[&callback[..], b")R"].concat()).is_err());
    let attributes = b"ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00_metadataNsb";
    assert_eq!(read(attributes), Ok(Value::OrderedDict(Vec::new())));
}

#[test]
fn shared_and_overlapping_tensors_are_copies() {
    let whole = floats(&[1.0, 2.0, 3.0]);
    let part = |offset| tensor(storage("s", 3, b"N".to_vec()), offset, &[2], &[1]);
    let pickle = [b"](", &part(0)[..], b"q\x05", &part(1), b"h\x05e"].concat();
    let value = torch::read_bytes(&file(&pickle, &[("s", 3, &whole)]), &Limits::default());
    let array = |values: &[f32]| Value::Array(Array::from_f32(&[2], values));
    let expected = vec![array(&[1.0, 2.0]), array(&[2.0, 3.0]), array(&[1.0, 2.0])];
    assert_eq!(value, Ok(Value::List(expected)));
}

#[test]
fn storages_must_be_as_described() {
    let whole = floats(&[1.0, 2.0]);
    let good = tensor(storage("s", 2, b"N".to_vec()), 0, &[2], &[1]);
    let read = |pickle: &[u8], storages: &[(&str, u64, &[u8])]| {
        torch::read_bytes(&file(pickle, storages), &Limits::default())
    };
    assert!(read(&good, &[("s", 2, &whole)]).is_ok());
    for storages in [
        &[][..],
        &[("t", 2, &whole[..])],
        &[("s", 1, &whole[..4])],
        &[("s", 3, &whole[..])],
        &[("s", 2, &whole[..7])],
        &[("s", u64::MAX, &whole[..])],
        &[("s", 2, &whole[..]), ("s", 2, &whole[..])],
    ] {
        assert!(read(&good, storages).is_err(), "{storages:?}");
    }
    let other = tensor(storage("s", 1, b"N".to_vec()), 0, &[1], &[1]);
    let both = [b"](", &good[..], &other, b"e"].concat();
    let error = read(&both, &[("s", 2, &whole)]).unwrap_err();
    assert!(error.problem().contains("in two ways"), "{error}");
}

#[test]
fn expanded_tensors_are_bounded_by_the_file() {
    let limits = Limits {
        expansion: 2,
        allowance: 1 << 16,
        ..Limits::default()
    };
    let read = |elements: i64| {
        let pickle = tensor(storage("s", 1, b"N".to_vec()), 0, &[elements], &[0]);
        torch::read_bytes(&file(&pickle, &[("s", 1, &floats(&[1.5]))]), &limits)
    };
    let value = read(16_000).unwrap();
    assert_eq!(value.as_array().unwrap().to_f32().unwrap(), [1.5; 16_000]);
    for elements in [17_000, 1 << 41, i64::MAX / 4] {
        assert!(read(elements).is_err());
    }
    // Not by many small ones either.
    let mut many = b"](".to_vec();
    many.extend(tensor(storage("s", 1, b"N".to_vec()), 0, &[1_000], &[0]));
    many.extend(b"q\x05");
    many.extend(b"h\x05".repeat(15));
    let fits = file(&[&many[..], b"e"].concat(), &[("s", 1, &floats(&[1.5]))]);
    assert!(torch::read_bytes(&fits, &limits).is_ok());
    many.extend(b"h\x05".repeat(15));
    let exceeds = file(&[&many[..], b"e"].concat(), &[("s", 1, &floats(&[1.5]))]);
    assert!(torch::read_bytes(&exceeds, &limits).is_err());
}

#[test]
fn shared_containers_do_not_multiply() {
    // Forty levels of a list that has the level below twice.
    let mut pickle = b"]q\x00".to_vec();
    for level in 0..40u8 {
        pickle.extend([b']', b'(', b'h', level, b'h', level, b'e', b'q', level + 1]);
    }
    assert!(problem(&pickle).contains("many times"));
}

#[test]
fn long_texts_do_not_multiply() {
    let long = text(&"x".repeat(1 << 20));
    // Named a thousand times.
    let named = [b"](", &long[..], b"q\x00", &b"h\x00".repeat(1000), b"e"].concat();
    assert!(problem(&named).contains("repeating"));
    // Turned into bytes a thousand times.
    let encode = b"c_codecs\nencode\nq\x01".to_vec();
    let call = [b"h\x01(h\x00", &text("latin1")[..], b"tR0"].concat();
    let encoded = [&long[..], b"q\x00", &encode, &call.repeat(1000)].concat();
    assert!(problem(&encoded).contains("repeats"));
    // Made a path of a thousand parts.
    let path = [
        &long[..],
        b"q\x00cpathlib\nPosixPath\n(",
        &b"h\x00".repeat(1000),
        b"tR",
    ]
    .concat();
    assert!(problem(&path).contains("repeats"));
    // Copied from one list into a thousand.
    let list = [b"](", &b"N".repeat(10_000)[..], b"eq\x00"].concat();
    let lists = [&list[..], &b"c__builtin__\nlist\nh\x00\x85R0".repeat(1000)].concat();
    assert!(problem(&lists).contains("more values"));
}

#[test]
fn cycles_and_deep_nesting_are_refused() {
    for cycle in [
        &b"]q\x00h\x00a"[..],
        b"}q\x00K\x01h\x00s",
        b"}q\x00(h\x00tK\x01s",
        b"]q\x00](h\x00eah\x00",
        b"ccollections\nOrderedDict\n)Rq\x00K\x01h\x00s",
    ] {
        assert!(problem(cycle).contains("itself"), "{cycle:?}");
    }
    let nested = |depth: usize| [&b"]".repeat(depth)[..], &b"a".repeat(depth - 1)].concat();
    assert!(read(&nested(100)).is_ok());
    assert!(problem(&nested(101)).contains("deeper"));
    assert!(problem(&nested(1_000_000)).contains("deeper"));
    let generous = Limits {
        depth: usize::MAX,
        ..Limits::default()
    };
    let deep = file(&nested(1_000_000), &[]);
    assert!(torch::read_bytes(&deep, &generous).is_err());
    assert!(torch::read_bytes(&file(&nested(1000), &[]), &generous).is_ok());
}

#[test]
fn keys_are_unique() {
    for twice in [
        &b"}(X\x01\x00\x00\x00wNX\x01\x00\x00\x00wNu"[..],
        b"}(K\x01NM\x01\x00Nu",
    ] {
        assert!(problem(twice).contains("twice"), "{twice:?}");
    }
    assert!(read(b"}(K\x01NX\x01\x00\x00\x001Nu").is_ok());
}

#[test]
fn names_are_no_values_and_calls_need_names() {
    for wrong in [
        &b"ctorch\nFloatStorage\n"[..],
        b"ctorch\nTensor\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        b"ccollections\nOrderedDict\nK\x01\x85R",
        b"cargparse\nNamespace\n)\x81Nb",
        b"ctorch._utils\n_rebuild_parameter\n(N\x88NtR",
        b"ctorch._tensor\n_rebuild_from_type_v2\n(c_codecs\nencode\nctorch\nTensor\n)NtR",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n)NtR",
        b"(X\x07\x00\x00\x00storageNNNNtQ",
        b"X\x07\x00\x00\x00storageQ",
    ] {
        assert!(read(wrong).is_err(), "{wrong:?}");
    }
    assert!(problem(b"cos\nsystem\n(X\x04\x00\x00\x00truetR").contains("`os.system`"));
    // What a file is called by goes to a terminal.
    let hidden = problem(b"cos\x1b[2J\nsystem\n");
    assert!(!hidden.chars().any(char::is_control), "{hidden:?}");
}

#[test]
fn other_files_are_recognised() {
    let mut tar = vec![b'x'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let safetensors = b"\x40\x00\x00\x00\x00\x00\x00\x00{\"w\"";
    for (bytes, expected) in [
        (&b""[..], "empty"),
        (b"<!DOCTYPE html>", "web page"),
        (b"  <html>", "web page"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (&tar, "tar"),
        (safetensors, "safetensors"),
        (b"random", "does not start like"),
        (b"\x80\x04N.", "not of `torch.save`"),
        (b"PK\x03\x04", "cut off"),
    ] {
        let error = torch::read_bytes(bytes, &Limits::default()).unwrap_err();
        assert!(error.problem().contains(expected), "{error}");
    }
    let missing = torch::read("no such file".as_ref(), &Limits::default()).unwrap_err();
    assert_eq!(missing.kind(), smallfry_formats::Kind::Disk);
    let folder = torch::read(".".as_ref(), &Limits::default()).unwrap_err();
    assert!(folder.problem().contains("no file"), "{folder}");
}
