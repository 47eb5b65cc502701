//! The container of PyTorch before 1.6, and of `_use_new_zipfile_serialization=False` since.
//!
//! Five pickles one after another: a magic number, the version of the protocol, facts of the machine, the value, and
//! the names of the storages. Then for each name the number of elements with 64 bits, and the elements. The element size
//! is known from the value's pickle only.

use std::{
    collections::HashMap,
    io::{BufReader, Read, Seek},
};

use super::{
    Limits, Value,
    assemble::{Storages, assemble, wrong_size},
    graph::{Graph, Id, Node, Storage},
    pickle,
};
use crate::{
    Dtype,
    error::{Error, visible},
    zip::read_at,
};

/// The first value of a file: 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The second value, the only one there ever was.
const PROTOCOL: i64 = 1001;

/// Reads the value of a file of `length` bytes.
///
/// # Errors
/// The file is damaged, foreign, hostile or too large.
pub(super) fn read(
    mut source: impl Read + Seek,
    length: u64,
    limits: &Limits,
) -> Result<Value, Error> {
    let mut pickles = Pickles {
        source: BufReader::new(&mut source),
        position: 0,
        length,
        limits,
    };
    let foreign = || {
        Error::content("is a pickle, but not of `torch.save`")
            .remedy("save the weights with `torch.save(model.state_dict(), path)`")
    };
    let (graph, magic) = pickles.next()?;
    if !matches!(graph.node(magic), Node::BigInteger(bytes) if *bytes == MAGIC) {
        return Err(foreign());
    }
    let (graph, protocol) = pickles.next()?;
    if graph.integer(protocol) != Some(PROTOCOL) {
        return Err(foreign());
    }
    let (graph, machine) = pickles.next()?;
    check_machine(&graph, machine)?;
    let (graph, value) = pickles.next()?;
    let (keys, list) = pickles.next()?;
    let Node::List(list) = keys.node(list) else {
        return Err(damaged("has no list of its storages"));
    };
    let mut position = pickles.position;
    drop(pickles);
    let mut places = HashMap::with_capacity(list.len());
    for &key in list {
        let key = keys
            .text(key)
            .ok_or_else(|| damaged("has a storage without a name"))?;
        let number = graph
            .storage_of_key(key)
            .ok_or_else(|| damaged("has a storage that its value does not name"))?;
        let storage = &graph.storages[number as usize];
        let size = storage.dtype.map_or(1, Dtype::size) as u64;
        if length - position < 8 {
            return Err(damaged("ends before its last storage"));
        }
        let count = read_at(&mut source, position, 8)?;
        let count = u64::from_le_bytes(count.try_into().expect("8 bytes were asked for"));
        position += 8;
        if count.checked_mul(size) != Some(storage.bytes) {
            return Err(wrong_size(storage, count.saturating_mul(size)));
        }
        if length - position < storage.bytes {
            return Err(damaged("ends before its last storage"));
        }
        if places.insert(number, position).is_some() {
            return Err(damaged("has a storage twice"));
        }
        position += storage.bytes;
    }
    let mut places = Places {
        source,
        places: places
            .into_iter()
            .map(|(number, place)| (graph.storages[number as usize].key.clone(), place))
            .collect(),
    };
    assemble(graph, value, &mut places, length, limits)
}

/// The pickles at the start of a file.
struct Pickles<'a, R> {
    source: R,
    position: u64,
    length: u64,
    limits: &'a Limits,
}

impl<R: std::io::BufRead> Pickles<'_, R> {
    fn next(&mut self) -> Result<(Graph, Id), Error> {
        let mut graph = Graph::new(self.limits);
        let left = self.length - self.position;
        let (value, length) = pickle::load(&mut self.source, left, &mut graph, self.limits)?;
        self.position += length;
        Ok((graph, value))
    }
}

/// Elements are read as little-endian ones.
fn check_machine(graph: &Graph, machine: Id) -> Result<(), Error> {
    let Node::Dict(_, facts) = graph.node(machine) else {
        return Err(damaged("does not say of what machine it is"));
    };
    let little = facts
        .iter()
        .find(|(key, _)| graph.text(*key) == Some("little_endian"));
    match little.map(|(_, value)| graph.flag(*value)) {
        Some(Some(true)) | None => Ok(()),
        _ => Err(
            Error::content("was written by a big-endian machine, which is not read")
                .remedy("load it in Python on an ordinary machine and save it again"),
        ),
    }
}

struct Places<R> {
    source: R,
    /// First byte of each storage in the file, whose length has been checked.
    places: HashMap<String, u64>,
}

impl<R: Read + Seek> Storages for Places<R> {
    fn read(&mut self, storage: &Storage) -> Result<Vec<u8>, Error> {
        let place = self.places.get(&storage.key).copied();
        let place = place.ok_or_else(|| {
            damaged(&format!(
                "lacks the storage `{}` that its value names",
                visible(&storage.key)
            ))
        })?;
        read_at(&mut self.source, place, storage.bytes)
    }
}

fn damaged(reason: &str) -> Error {
    Error::content(format!("is damaged: it {reason}"))
}
