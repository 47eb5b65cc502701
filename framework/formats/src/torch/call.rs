//! What the listed names do when a pickle calls them.
//!
//! Nothing here has an effect beyond the graph: a call makes a node of its arguments, or is an error. Whatever copies an
//! argument pays for the copy, since a pickle can name the same argument again and again.

use super::{
    global::Global,
    graph::{Graph, Id, Mapping, Node, NumpyArray, NumpyType, Region, Storage},
    input::damaged,
    numpy,
    tensor::View,
};
use crate::{Dtype, error::Error};

/// The node that `function` makes of the tuple `arguments`.
///
/// # Errors
/// The arguments are not such as PyTorch, NumPy or Python write.
pub(super) fn call(graph: &mut Graph, function: Global, arguments: Id) -> Result<Id, Error> {
    let arguments = graph
        .tuple(arguments)
        .ok_or_else(|| wrong(function))?
        .to_vec();
    graph.spend(arguments.len())?;
    let node = match (function, &arguments[..]) {
        (Global::OrderedDict, _) => Node::Dict(Mapping::Ordered, content(graph, &arguments)?),
        (Global::Dict, _) => Node::Dict(Mapping::Plain, content(graph, &arguments)?),
        (Global::DefaultDict, [_, rest @ ..]) => Node::Dict(Mapping::Plain, content(graph, rest)?),
        (Global::DefaultDict, []) => Node::Dict(Mapping::Plain, Vec::new()),
        (Global::Namespace, []) => Node::Dict(Mapping::Namespace, Vec::new()),
        (Global::List | Global::Set | Global::Tuple, [] | [_]) => {
            let elements = match arguments[..] {
                [elements] => copied(graph, elements)?,
                _ => Vec::new(),
            };
            match function {
                Global::List => Node::List(elements),
                Global::Set => Node::Set(elements),
                _ => Node::Tuple(elements),
            }
        }
        (Global::Bytes, []) => Node::Bytes(Vec::new()),
        (Global::Bytes, &[bytes]) => {
            // `bytearray` of bytes; of text it would need an encoding.
            let Node::Bytes(bytes) = graph.node(bytes) else {
                return Err(wrong(function));
            };
            let bytes = bytes.clone();
            graph.copy(bytes.len())?;
            Node::Bytes(bytes)
        }
        (Global::Bytes | Global::Encode, &[text, encoding]) => encode(graph, text, encoding)?,
        (Global::Path, parts) => path(graph, parts)?,
        (Global::Tensor, &[storage, offset, shape, strides, ref rest @ ..]) => {
            // Of version 2: whether it needs a gradient, hooks, and flags of lazy operations.
            if rest.len() > 3 {
                return Err(wrong(function));
            }
            plain(graph, rest.get(2).copied())?;
            tensor(graph, storage, None, [offset, shape, strides])?
        }
        (Global::TypedTensor, &[storage, offset, shape, strides, _, _, dtype, ref rest @ ..]) => {
            let &Node::Global(Global::Dtype(dtype)) = graph.node(dtype) else {
                return Err(wrong(function));
            };
            plain(graph, rest.first().copied())?;
            tensor(graph, storage, Some(dtype), [offset, shape, strides])?
        }
        // The tensor itself; whether it needs a gradient, hooks and attributes are dropped.
        (Global::Parameter, &[tensor, _, _] | &[tensor, _, _, _]) => match graph.node(tensor) {
            Node::Tensor(_) => return Ok(tensor),
            _ => return Err(wrong(function)),
        },
        (Global::TensorWithAttributes, &[rebuild, class, arguments, _]) => {
            match (graph.node(rebuild), graph.node(class)) {
                (
                    &Node::Global(
                        rebuild @ (Global::Tensor | Global::TypedTensor | Global::Parameter),
                    ),
                    Node::Global(Global::TensorClass),
                ) => return call(graph, rebuild, arguments),
                _ => return Err(wrong(function)),
            }
        }
        (Global::Size, &[lengths]) => Node::Tuple(copied(graph, lengths)?),
        (Global::Device, &[kind]) => match graph.text(kind) {
            Some(kind) => Node::Text(kind.to_owned()),
            None => return Err(wrong(function)),
        },
        (Global::Device, &[kind, number]) => match (graph.text(kind), graph.integer(number)) {
            (Some(kind), Some(number)) => Node::Text(format!("{kind}:{number}")),
            _ => return Err(wrong(function)),
        },
        (Global::NumpyDtype, &[code, _, _]) => {
            let code = graph.text(code).ok_or_else(|| wrong(function))?;
            Node::NumpyType(numpy::element(code)?)
        }
        (Global::NumpyScalar, &[element, bytes]) => {
            let &Node::NumpyType(element) = graph.node(element) else {
                return Err(wrong(function));
            };
            let bytes = graph.byte_string(bytes).ok_or_else(|| wrong(function))?;
            numpy::scalar(element, bytes)?
        }
        (Global::NumpyArray, &[class, _, _]) => match graph.node(class) {
            Node::Global(Global::NumpyArrayClass) => Node::NumpyArray(None),
            _ => return Err(wrong(function)),
        },
        _ => return Err(wrong(function)),
    };
    if let Node::Text(text) = &node {
        graph.copy(text.len())?;
    }
    graph.add(node)
}

/// Gives `object` the state that the pickle sets.
///
/// # Errors
/// `object` has no state that can be set.
pub(super) fn set_state(graph: &mut Graph, object: Id, state: Id) -> Result<(), Error> {
    let unfit = || damaged("it sets a state that its object cannot have".to_owned());
    let replacement = match graph.node(object) {
        // Attributes beside the entries, such as `_metadata` of a state dict.
        Node::Dict(Mapping::Plain | Mapping::Ordered, _) => return Ok(()),
        Node::Dict(Mapping::Namespace, entries) => {
            let Node::Dict(_, attributes) = graph.node(state) else {
                return Err(unfit());
            };
            let entries = [&entries[..], attributes].concat();
            graph.spend(entries.len())?;
            Node::Dict(Mapping::Namespace, entries)
        }
        &Node::NumpyType(element) => {
            // Version, byte order, and parts of compound types.
            let order = graph.tuple(state).and_then(|state| state.get(1));
            let order = order.and_then(|&order| graph.text(order));
            let big_endian = match order {
                Some("<" | "=" | "|") => false,
                Some(">") => true,
                _ => return Err(unfit()),
            };
            Node::NumpyType(NumpyType {
                big_endian,
                ..element
            })
        }
        Node::NumpyArray(None) => {
            let array = numpy_state(graph, state)?.ok_or_else(unfit)?;
            graph.spend(array.shape.len())?;
            Node::NumpyArray(Some(Box::new(array)))
        }
        _ => return Err(unfit()),
    };
    *graph.node_mut(object) = replacement;
    Ok(())
}

/// The state of an array: version, shape, element type, column-major or not, bytes.
fn numpy_state(graph: &Graph, state: Id) -> Result<Option<NumpyArray>, Error> {
    let Some(&[_, shape, element, column_major, bytes]) = graph.tuple(state) else {
        return Ok(None);
    };
    let (Some(shape), Some(column_major), Some(data), &Node::NumpyType(element)) = (
        integers(graph, shape),
        graph.flag(column_major),
        graph.byte_string(bytes),
        graph.node(element),
    ) else {
        return Ok(None);
    };
    let shape = numpy::shape(&shape, element, data.len())?;
    Ok(Some(NumpyArray {
        element,
        shape,
        column_major,
        bytes,
    }))
}

/// The storage that a persistent id of the pickle stands for.
///
/// # Errors
/// The id is not such as PyTorch writes.
pub(super) fn persistent(graph: &mut Graph, id: Id) -> Result<Region, Error> {
    let unfit = || damaged("it refers to an outside object that is no storage".to_owned());
    let (&[kind, class, key, _device, numel] | &[kind, class, key, _device, numel, _]) =
        graph.tuple(id).ok_or_else(unfit)?
    else {
        return Err(unfit());
    };
    let view = graph.tuple(id).and_then(|id| id.get(5)).copied();
    let (Some("storage"), &Node::Global(Global::Storage(dtype)), Some(key), Some(numel)) = (
        graph.text(kind),
        graph.node(class),
        graph.text(key),
        graph.integer(numel),
    ) else {
        return Err(unfit());
    };
    let key = key.to_owned();
    graph.copy(key.len())?;
    let size = dtype.map_or(1, Dtype::size) as u64;
    let bytes = |elements: i64| {
        let elements = u64::try_from(elements).ok()?;
        elements.checked_mul(size)
    };
    let absurd = || damaged(format!("the storage `{key}` has {numel} elements"));
    let total = bytes(numel).ok_or_else(absurd)?;
    let storage = graph.storage(Storage {
        key: key.clone(),
        dtype,
        bytes: total,
    })?;
    let whole = Region {
        storage,
        start: 0,
        length: total,
    };
    let Some(view) = view.filter(|&view| !matches!(graph.node(view), Node::None)) else {
        return Ok(whole);
    };
    // In the oldest files a storage can be a part of another: its name, first element, number of elements.
    let Some(&[_, start, length]) = graph.tuple(view) else {
        return Err(unfit());
    };
    let place = |id| graph.integer(id).and_then(bytes);
    let (start, length) = place(start).zip(place(length)).ok_or_else(absurd)?;
    match start.checked_add(length) {
        Some(end) if end <= total => Ok(Region {
            storage,
            start,
            length,
        }),
        _ => Err(absurd()),
    }
}

fn tensor(
    graph: &mut Graph,
    storage: Id,
    dtype: Option<Dtype>,
    [offset, shape, strides]: [Id; 3],
) -> Result<Node, Error> {
    let unfit = || damaged("it makes a tensor of what is no tensor's parts".to_owned());
    let &Node::Storage(region) = graph.node(storage) else {
        return Err(unfit());
    };
    let stored = graph.storages[region.storage as usize].dtype;
    let (Some(offset), Some(shape), Some(strides), Some(dtype)) = (
        graph.integer(offset),
        integers(graph, shape),
        integers(graph, strides),
        dtype.or(stored),
    ) else {
        return Err(unfit());
    };
    graph.spend(shape.len() + strides.len())?;
    let view = View::new(region, dtype, offset, &shape, &strides)?;
    Ok(Node::Tensor(Box::new(view)))
}

/// Refuses tensors that are to be conjugated or negated when used.
fn plain(graph: &Graph, flags: Option<Id>) -> Result<(), Error> {
    let Some(flags) = flags else {
        return Ok(());
    };
    match graph.node(flags) {
        Node::Dict(_, entries) if entries.is_empty() => Ok(()),
        Node::None => Ok(()),
        _ => Err(Error::content(
            "holds a tensor whose conjugation or negation is still to be done",
        )
        .remedy("call `.resolve_conj().resolve_neg()` on it before saving")),
    }
}

/// The entries that a dictionary class is called with: none, those of a dictionary, or pairs.
fn content(graph: &mut Graph, arguments: &[Id]) -> Result<Vec<(Id, Id)>, Error> {
    let unfit = || damaged("it makes a dictionary of what has no entries".to_owned());
    let entries = match arguments {
        [] => Vec::new(),
        &[content] => match graph.node(content) {
            Node::Dict(_, entries) => entries.clone(),
            Node::List(pairs) | Node::Tuple(pairs) => pairs
                .iter()
                .map(|&pair| match graph.node(pair) {
                    Node::List(pair) | Node::Tuple(pair) => match pair[..] {
                        [key, value] => Some((key, value)),
                        _ => None,
                    },
                    _ => None,
                })
                .collect::<Option<_>>()
                .ok_or_else(unfit)?,
            _ => return Err(unfit()),
        },
        _ => return Err(unfit()),
    };
    graph.spend(2 * entries.len())?;
    Ok(entries)
}

/// The elements of a list, tuple or set, for another container.
fn copied(graph: &mut Graph, elements: Id) -> Result<Vec<Id>, Error> {
    let elements = match graph.node(elements) {
        Node::List(elements) | Node::Tuple(elements) | Node::Set(elements) => elements.clone(),
        _ => {
            return Err(damaged(
                "it makes a container of what has no elements".to_owned(),
            ));
        }
    };
    graph.spend(elements.len())?;
    Ok(elements)
}

/// The integers of a tuple, list or `torch.Size`, of at most 64.
fn integers(graph: &Graph, id: Id) -> Option<Vec<i64>> {
    match graph.node(id) {
        Node::Tuple(elements) | Node::List(elements) if elements.len() <= 64 => {
            elements.iter().map(|&e| graph.integer(e)).collect()
        }
        _ => None,
    }
}

/// Bytes spelt as text, one character each.
fn encode(graph: &mut Graph, text: Id, encoding: Id) -> Result<Node, Error> {
    let unfit = || damaged("it spells bytes in an unknown way".to_owned());
    let text = graph.text(text).ok_or_else(unfit)?;
    if !matches!(
        graph.text(encoding),
        Some("latin1" | "latin-1" | "iso-8859-1")
    ) {
        return Err(unfit());
    }
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    let length = text.len();
    graph.copy(length)?;
    Ok(Node::Bytes(bytes.ok_or_else(unfit)?))
}

fn path(graph: &mut Graph, parts: &[Id]) -> Result<Node, Error> {
    let unfit = || damaged("it makes a path of what is no text".to_owned());
    // Paid for before it is made: the same long part can be named many times.
    for &part in parts {
        let length = graph.text(part).ok_or_else(unfit)?.len();
        graph.copy(length + 1)?;
    }
    let parts: Option<Vec<&str>> = parts.iter().map(|&part| graph.text(part)).collect();
    Ok(Node::Text(match &parts.ok_or_else(unfit)?[..] {
        ["/", rest @ ..] => format!("/{}", rest.join("/")),
        parts => parts.join("/"),
    }))
}

fn wrong(function: Global) -> Error {
    damaged(format!("it calls {function:?} with the wrong arguments"))
}
