//! What a pickle builds, before it is known to be a tree of bounded size.
//!
//! A pickle can name one object many times, also from within itself: a file of a few bytes can describe a list that is
//! infinite, or has 2^40 leaves. Objects are therefore nodes in one vector that refer to each other by number; only
//! [`super::assemble`], which counts, makes values of them. Every node and every element costs a cell of
//! [`Limits::cells`].

use std::collections::HashMap;

use super::{Limits, global::Global, tensor::View};
use crate::{
    Dtype,
    error::{Error, visible},
};

/// The number of a node.
pub(super) type Id = u32;

/// An object of the pickle.
#[derive(Clone, Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Integer(i64),
    /// Two's complement, little-endian, shortest.
    BigInteger(Vec<u8>),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    Dict(Mapping, Vec<(Id, Id)>),
    Global(Global),
    Storage(Region),
    Tensor(Box<View>),
    /// An element type of NumPy.
    NumpyType(NumpyType),
    /// An array of NumPy, empty until its state is set.
    NumpyArray(Option<Box<NumpyArray>>),
}

/// Kinds of dictionaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// A plain one, or one whose class does not matter.
    Plain,
    /// An `OrderedDict`.
    Ordered,
    /// An `argparse.Namespace`, whose entries are its state.
    Namespace,
}

/// A storage or, in the oldest files, a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// Place in [`Graph::storages`].
    pub storage: u32,
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub length: u64,
}

/// A storage that the pickle names; its bytes lie elsewhere in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    /// The name under which its bytes are found.
    pub key: String,
    /// Element type; none if it is counted in bytes.
    pub dtype: Option<Dtype>,
    /// Size that the pickle claims, in bytes.
    pub bytes: u64,
}

/// An element type of NumPy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NumpyType {
    pub dtype: Dtype,
    pub big_endian: bool,
}

/// The state of an array of NumPy.
#[derive(Clone, Debug)]
pub(super) struct NumpyArray {
    pub element: NumpyType,
    pub shape: Vec<usize>,
    /// Whether the first index varies fastest.
    pub column_major: bool,
    /// The node of its bytes, whose number has been checked.
    pub bytes: Id,
}

/// All objects of a pickle.
#[derive(Debug)]
pub(super) struct Graph {
    pub nodes: Vec<Node>,
    pub storages: Vec<Storage>,
    by_key: HashMap<String, u32>,
    cells_left: usize,
    /// Bytes that may still be copied between nodes.
    copies_left: u64,
}

impl Graph {
    pub fn new(limits: &Limits) -> Self {
        Self {
            nodes: Vec::new(),
            storages: Vec::new(),
            by_key: HashMap::new(),
            cells_left: limits.cells,
            copies_left: limits.pickle_bytes,
        }
    }

    /// Adds an object; its elements have been paid for.
    pub fn add(&mut self, node: Node) -> Result<Id, Error> {
        self.spend(1)?;
        let id = Id::try_from(self.nodes.len()).map_err(|_| too_many_values())?;
        self.nodes.push(node);
        Ok(id)
    }

    /// Pays for `cells` elements.
    pub fn spend(&mut self, cells: usize) -> Result<(), Error> {
        let left = self.cells_left.checked_sub(cells);
        self.cells_left = left.ok_or_else(too_many_values)?;
        Ok(())
    }

    /// Pays for a copy of `bytes` bytes.
    pub fn copy(&mut self, bytes: usize) -> Result<(), Error> {
        let left = self.copies_left.checked_sub(bytes as u64);
        self.copies_left = left.ok_or_else(|| {
            Error::content("repeats long texts more often than any checkpoint does")
        })?;
        Ok(())
    }

    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// The storage under a key, which must be described the same way each time.
    pub fn storage(&mut self, storage: Storage) -> Result<u32, Error> {
        if let Some(&known) = self.by_key.get(&storage.key) {
            if self.storages[known as usize] != storage {
                return Err(Error::content(format!(
                    "is damaged: it describes the storage `{}` in two ways",
                    visible(&storage.key)
                )));
            }
            return Ok(known);
        }
        self.spend(2)?;
        let number = self.storages.len() as u32;
        self.by_key.insert(storage.key.clone(), number);
        self.storages.push(storage);
        Ok(number)
    }

    pub fn storage_of_key(&self, key: &str) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn integer(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Integer(integer) => Some(*integer),
            _ => None,
        }
    }

    /// A flag, which older files write as a number.
    pub fn flag(&self, id: Id) -> Option<bool> {
        match self.node(id) {
            Node::Bool(flag) => Some(*flag),
            Node::Integer(0) => Some(false),
            Node::Integer(1) => Some(true),
            _ => None,
        }
    }

    pub fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// The bytes of a byte string, also of one that Python 2 wrote as text.
    pub fn byte_string(&self, id: Id) -> Option<&[u8]> {
        match self.node(id) {
            Node::Bytes(bytes) => Some(bytes),
            Node::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }
}

fn too_many_values() -> Error {
    Error::content("holds more values than any checkpoint does")
        .remedy("save the weights alone, such as with `torch.save(model.state_dict(), path)`")
}
