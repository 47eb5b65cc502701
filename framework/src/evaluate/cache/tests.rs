//! What is written comes back; what is damaged in any way does not.

use smallfry_nn::{
    init::Init,
    network::{Role, Spec},
};

use super::*;
use crate::{evaluate::unread::Unread, metric::FeatureSet, tensor};

fn preprocessing(size: usize) -> Preprocessing {
    Preprocessing {
        size,
        resize: size,
        bicubic: false,
        mean: [0.0; 3],
        deviation: [1.0; 3],
    }
}

fn parameters(value: f32) -> Parameters {
    let spec = Spec {
        name: "fc.weight".to_owned(),
        shape: vec![2],
        role: Role::Weight,
        init: Init::Constant(0.0),
    };
    let mut parameters = Parameters::new(vec![spec]);
    parameters.values_mut()[1] = value;
    parameters
}

fn cache(run: &Path, backbone: &str, value: f32, size: usize) -> Cache {
    Cache::new(run, backbone, &parameters(value), &preprocessing(size)).unwrap()
}

fn set() -> Arc<dyn Dataset> {
    Arc::new(Unread::stamped(5, "as it was"))
}

/// The place of a view of three rows, one sample being left out; it is written.
fn written(folder: &Path) -> Place {
    let cache = cache(&folder.join("run"), "Tiny()", 1.0, 8);
    let place = cache.places(&*set(), 1).unwrap().remove(0);
    let mut writer = place.write(2).unwrap();
    writer.push(&[1.0, -2.0]).unwrap();
    writer.push(&[3.0, 4.5, f32::NAN, 0.0]).unwrap();
    let left_out = [("1.png".to_owned(), "is damaged".to_owned())];
    writer.finish(&[0, 2, 4], &left_out).unwrap();
    place
}

#[test]
fn what_is_written_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let place = written(folder.path());
    for views in [1, usize::MAX] {
        // So many views leave no memory for any: rows come from the file.
        let found = place.read(&set(), 2, views).unwrap().unwrap();
        assert_eq!((found.rows(), found.name(1)), (3, "2.png".to_owned()));
        assert_eq!(found.left_out()[0].1, "is damaged");
        let rows = found.read(1..3);
        let values: Vec<u32> = tensor::values(&rows).iter().map(|v| v.to_bits()).collect();
        let expected = [3.0, 4.5, f32::NAN, 0.0].map(f32::to_bits);
        assert_eq!(values, expected);
    }
    let files = fs::read_dir(folder.path().join(FOLDER)).unwrap().count();
    assert_eq!(files, 1);
}

#[test]
fn what_is_cut_short_or_changed_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let place = written(folder.path());
    let whole = fs::read(&place.path).unwrap();
    for size in 0..whole.len() {
        fs::write(&place.path, &whole[..size]).unwrap();
        assert!(place.read(&set(), 2, 1).is_err(), "cut to {size}");
    }
    for at in 0..whole.len() {
        for bit in [0, 7] {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            fs::write(&place.path, &changed).unwrap();
            assert!(place.read(&set(), 2, 1).is_err(), "bit {bit} of byte {at}");
        }
    }
    fs::write(&place.path, [&whole[..], &[0]].concat()).unwrap();
    assert!(place.read(&set(), 2, 1).is_err(), "one byte more");
    fs::write(&place.path, &whole).unwrap();
    assert!(place.read(&set(), 3, 1).is_err(), "another width");
    assert!(place.read(&set(), 2, 1).unwrap().is_some());
}

#[test]
fn an_interrupted_writer_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder.path().join("run"), "Tiny()", 1.0, 8);
    let place = cache.places(&*set(), 1).unwrap().remove(0);
    let mut writer = place.write(2).unwrap();
    writer.push(&[1.0, 2.0]).unwrap();
    drop(writer);
    assert!(place.read(&set(), 2, 1).unwrap().is_none());
    let files = fs::read_dir(folder.path().join(FOLDER)).unwrap().count();
    assert_eq!(files, 0);
}

#[test]
fn everything_that_decides_the_numbers_decides_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let name = |backbone: &str, value: f32, size: usize, stamp: &'static str, views: usize| {
        let cache = cache(&run, backbone, value, size);
        cache
            .places(&Unread::stamped(5, stamp), views)
            .unwrap()
            .remove(0)
            .path
    };
    let first = name("Tiny()", 1.0, 8, "a", 1);
    assert_eq!(name("Tiny()", 1.0, 8, "a", 1), first);
    for other in [
        name("Other()", 1.0, 8, "a", 1),
        name("Tiny()", 1.5, 8, "a", 1),
        name("Tiny()", 1.0, 9, "a", 1),
        name("Tiny()", 1.0, 8, "b", 1),
        name("Tiny()", 1.0, 8, "a", 2),
    ] {
        assert_ne!(other, first);
    }
    let views = cache(&run, "Tiny()", 1.0, 8).places(&*set(), 2).unwrap();
    assert_ne!(views[0].path, views[1].path);
}
