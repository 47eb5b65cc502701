//! From the graph of a pickle to a value: counting first, then reading storages, then building.
//!
//! The first walk visits the value as a tree, so that whatever is named twice counts twice. It refuses cycles, too deep
//! nesting and too large a total before a byte of a tensor is read. Each storage is then read once, whatever the number
//! of tensors in it, and given up when they are made.

use std::collections::{HashMap, HashSet};

use super::{
    Limits, Value,
    global::Global,
    graph::{Graph, Id, Mapping, Node, Storage},
    numpy,
};
use crate::{
    Array,
    error::{Error, visible},
};

/// The deepest nesting whatever [`Limits::depth`] says, since the walks recurse.
const DEPTH_LIMIT: usize = 1000;

/// Where the bytes of storages lie.
pub(super) trait Storages {
    /// The bytes of a storage; exactly `storage.bytes` of them.
    ///
    /// # Errors
    /// They are missing, damaged, or of another number.
    fn read(&mut self, storage: &Storage) -> Result<Vec<u8>, Error>;
}

/// The value of the node `root` of `graph`, in a file of `file_bytes` bytes.
///
/// # Errors
/// The graph is no tree of bounded size, or a storage cannot be read.
pub(super) fn assemble(
    graph: Graph,
    root: Id,
    storages: &mut impl Storages,
    file_bytes: u64,
    limits: &Limits,
) -> Result<Value, Error> {
    let mut survey = Survey {
        graph: &graph,
        limits,
        cells: limits.cells,
        bytes: file_bytes
            .saturating_mul(limits.expansion)
            .saturating_add(limits.allowance),
        open: vec![false; graph.nodes.len()],
        tensors: HashMap::new(),
    };
    survey.visit(root, 0)?;
    let uses = survey.tensors;
    let arrays = read_tensors(&graph, &uses, storages)?;
    let mut builder = Builder {
        graph,
        uses,
        arrays,
    };
    builder.build(root)
}

struct Survey<'a> {
    graph: &'a Graph,
    limits: &'a Limits,
    /// Cells and bytes that may still be taken.
    cells: usize,
    bytes: u64,
    /// The nodes that the walk is within.
    open: Vec<bool>,
    /// How often each tensor occurs.
    tensors: HashMap<Id, usize>,
}

impl Survey<'_> {
    fn visit(&mut self, id: Id, depth: usize) -> Result<(), Error> {
        self.spend(1)?;
        let graph = self.graph;
        match graph.node(id) {
            Node::List(elements) | Node::Tuple(elements) | Node::Set(elements) => {
                self.enter(id, depth)?;
                for &element in elements {
                    self.visit(element, depth + 1)?;
                }
                self.open[id as usize] = false;
            }
            Node::Dict(_, entries) => {
                self.enter(id, depth)?;
                self.check_keys(entries)?;
                for &(key, value) in entries {
                    self.visit(key, depth + 1)?;
                    self.visit(value, depth + 1)?;
                }
                self.open[id as usize] = false;
            }
            Node::Text(text) => self.take(text.len())?,
            Node::Bytes(bytes) | Node::BigInteger(bytes) => self.take(bytes.len())?,
            Node::Tensor(view) => {
                self.spend(view.shape.len())?;
                self.take(view.bytes)?;
                *self.tensors.entry(id).or_default() += 1;
            }
            Node::NumpyArray(Some(array)) => {
                let bytes = graph.byte_string(array.bytes).map_or(0, <[u8]>::len);
                self.spend(array.shape.len())?;
                self.take(bytes)?;
            }
            Node::None
            | Node::Bool(_)
            | Node::Integer(_)
            | Node::Float(_)
            | Node::Global(Global::Dtype(_)) => {}
            Node::Global(_) | Node::NumpyType(_) | Node::NumpyArray(None) => {
                return Err(Error::content(
                    "holds a class or an unfinished object where a value is wanted",
                ));
            }
            Node::Storage(_) => {
                return Err(
                    Error::content("holds a bare storage where a tensor is wanted").remedy(
                        "save tensors, such as with `torch.save(model.state_dict(), path)`",
                    ),
                );
            }
        }
        Ok(())
    }

    fn spend(&mut self, cells: usize) -> Result<(), Error> {
        let left = self.cells.checked_sub(cells);
        self.cells = left.ok_or_else(|| {
            Error::content(
                "describes more values than any checkpoint has, by naming the same ones many times",
            )
        })?;
        Ok(())
    }

    fn enter(&mut self, id: Id, depth: usize) -> Result<(), Error> {
        if std::mem::replace(&mut self.open[id as usize], true) {
            return Err(Error::content("holds a container that contains itself"));
        }
        if depth >= self.limits.depth.min(DEPTH_LIMIT) {
            return Err(Error::content(format!(
                "nests containers deeper than {} levels",
                depth
            )));
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), Error> {
        let left = self.bytes.checked_sub(bytes as u64);
        self.bytes = left.ok_or_else(|| {
            Error::content(format!(
                "describes far more than it holds, by repeating its bytes: over {} times its size and {} MiB",
                self.limits.expansion,
                self.limits.allowance >> 20
            ))
            .remedy("save dense tensors, such as those that `.clone()` makes")
        })?;
        Ok(())
    }

    /// A key that occurs twice would mean different weights to different programs.
    fn check_keys(&self, entries: &[(Id, Id)]) -> Result<(), Error> {
        let mut texts = HashSet::new();
        let mut integers = HashSet::new();
        for &(key, _) in entries {
            let fresh = match self.graph.node(key) {
                Node::Text(text) => texts.insert(text.as_str()),
                Node::Integer(integer) => integers.insert(*integer),
                _ => true,
            };
            if !fresh {
                let key = match self.graph.node(key) {
                    Node::Text(text) => visible(text),
                    Node::Integer(integer) => integer.to_string(),
                    _ => String::new(),
                };
                return Err(Error::content(format!(
                    "is damaged: a dictionary has the key `{key}` twice"
                )));
            }
        }
        Ok(())
    }
}

/// The arrays of all tensors in `uses`.
fn read_tensors(
    graph: &Graph,
    uses: &HashMap<Id, usize>,
    storages: &mut impl Storages,
) -> Result<HashMap<Id, Array>, Error> {
    let mut tensors: Vec<(u32, Id)> = uses
        .keys()
        .filter_map(|&id| match graph.node(id) {
            Node::Tensor(view) => Some((view.storage, id)),
            _ => None,
        })
        .collect();
    // In the order of the storages, which is that of the file.
    tensors.sort_unstable();
    let mut arrays = HashMap::with_capacity(tensors.len());
    for group in tensors.chunk_by(|a, b| a.0 == b.0) {
        let storage = &graph.storages[group[0].0 as usize];
        let mut bytes = storages.read(storage)?;
        if bytes.len() as u64 != storage.bytes {
            return Err(wrong_size(storage, bytes.len() as u64));
        }
        for &(_, id) in group {
            let Node::Tensor(view) = graph.node(id) else {
                continue;
            };
            let dense = if group.len() == 1 && view.is_whole(bytes.len()) {
                std::mem::take(&mut bytes)
            } else {
                view.gather(&bytes)
            };
            let array = Array {
                dtype: view.dtype,
                shape: view.shape.clone(),
                bytes: dense,
            };
            arrays.insert(id, array);
        }
    }
    Ok(arrays)
}

/// The error for a storage of which the file has another number of bytes than its pickle claims.
pub(super) fn wrong_size(storage: &Storage, found: u64) -> Error {
    Error::content(format!(
        "is damaged: the storage `{}` has {found} bytes instead of {}",
        visible(&storage.key),
        storage.bytes
    ))
}

struct Builder {
    graph: Graph,
    /// How often each tensor is still needed.
    uses: HashMap<Id, usize>,
    arrays: HashMap<Id, Array>,
}

impl Builder {
    /// The value of a node that the survey has visited.
    fn build(&mut self, id: Id) -> Result<Value, Error> {
        Ok(match self.graph.node(id) {
            Node::None => Value::None,
            Node::Bool(b) => Value::Bool(*b),
            Node::Integer(integer) => Value::Integer(*integer),
            Node::BigInteger(bytes) => Value::BigInteger(bytes.clone()),
            Node::Float(float) => Value::Float(*float),
            Node::Text(text) => Value::Text(text.clone()),
            Node::Bytes(bytes) => Value::Bytes(bytes.clone()),
            Node::List(elements) => Value::List(self.build_all(&elements.clone())?),
            Node::Tuple(elements) => Value::Tuple(self.build_all(&elements.clone())?),
            Node::Set(elements) => Value::Set(self.build_all(&elements.clone())?),
            Node::Dict(mapping, entries) => {
                let (mapping, entries) = (*mapping, entries.clone());
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| Ok((self.build(key)?, self.build(value)?)))
                    .collect::<Result<_, Error>>()?;
                match mapping {
                    Mapping::Ordered => Value::OrderedDict(entries),
                    Mapping::Plain | Mapping::Namespace => Value::Dict(entries),
                }
            }
            Node::Global(Global::Dtype(dtype)) => Value::Dtype(*dtype),
            Node::Tensor(_) => Value::Array(self.array(id)?),
            Node::NumpyArray(Some(array)) => {
                let bytes = self.graph.byte_string(array.bytes).unwrap_or_default();
                Value::Array(numpy::array(array, bytes))
            }
            Node::Global(_) | Node::Storage(_) | Node::NumpyType(_) | Node::NumpyArray(None) => {
                return Err(Error::content("holds what is no value"));
            }
        })
    }

    fn build_all(&mut self, elements: &[Id]) -> Result<Vec<Value>, Error> {
        elements
            .iter()
            .map(|&element| self.build(element))
            .collect()
    }

    /// The array of a tensor: a copy, or itself the last time.
    fn array(&mut self, id: Id) -> Result<Array, Error> {
        let left = self.uses.get_mut(&id).map(|uses| {
            *uses = uses.saturating_sub(1);
            *uses
        });
        let array = match left {
            Some(0) | None => self.arrays.remove(&id),
            Some(_) => self.arrays.get(&id).cloned(),
        };
        array.ok_or_else(|| Error::content("holds a tensor that was not read"))
    }
}
