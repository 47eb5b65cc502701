//! The few messages of ONNX's protobuf that a network needs, and their bytes.
//!
//! A message is a sequence of fields in any order, each a number, a wire type and a value; a nested message stands
//! behind its length. Field numbers are those of `onnx.proto3`, and unlike names they are what makes the format.

use crate::protobuf::Message;

/// Element types, as ONNX numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float = 1,
    Int64 = 7,
}

/// A constant of the graph.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub element: Element,
    /// Row-major, little-endian.
    pub bytes: Vec<u8>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attribute {
    Float(f32),
    Integer(i64),
    Integers(Vec<i64>),
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub operation: &'static str,
    pub inputs: Vec<String>,
    pub output: String,
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// A dimension of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    Fixed(usize),
    /// Any size; equal names are equal sizes.
    Named(&'static str),
}

/// An input or output of the graph, of single precision.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub name: &'static str,
    pub shape: Vec<Dimension>,
}

/// A whole model.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub name: String,
    pub nodes: Vec<Node>,
    pub tensors: Vec<Tensor>,
    pub input: Port,
    pub output: Port,
    /// Free texts by key.
    pub metadata: Vec<(String, String)>,
    /// Version of the operators.
    pub opset: u64,
}

/// Version of the file format: that of the first release with opset 17.
const IR_VERSION: u64 = 8;

impl Model {
    /// Size of all constants in bytes, nearly that of the file.
    pub fn weight_bytes(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.bytes.len()).sum()
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut model = Message::with_capacity(self.weight_bytes() + (1 << 16));
        model.integer(1, IR_VERSION);
        model.text(2, "smallfry");
        model.text(3, env!("CARGO_PKG_VERSION"));
        model.message(7, self.graph());
        let mut opset = Message::default();
        opset.integer(2, self.opset);
        model.message(8, opset);
        for (key, value) in &self.metadata {
            let mut entry = Message::default();
            entry.text(1, key);
            entry.text(2, value);
            model.message(14, entry);
        }
        model.finish()
    }

    fn graph(&self) -> Message {
        let mut graph = Message::with_capacity(self.weight_bytes() + (1 << 16));
        for node in &self.nodes {
            graph.message(1, node.message());
        }
        graph.text(2, &self.name);
        for tensor in &self.tensors {
            graph.message(5, tensor.message());
        }
        graph.message(11, self.input.message());
        graph.message(12, self.output.message());
        graph
    }
}

impl Node {
    fn message(&self) -> Message {
        let mut node = Message::default();
        for input in &self.inputs {
            node.text(1, input);
        }
        node.text(2, &self.output);
        // A node is called after its only output.
        node.text(3, &self.output);
        node.text(4, self.operation);
        for (name, value) in &self.attributes {
            let mut attribute = Message::default();
            attribute.text(1, name);
            let kind = match value {
                Attribute::Float(value) => {
                    attribute.single(2, *value);
                    1
                }
                Attribute::Integer(value) => {
                    attribute.integer(3, *value as u64);
                    2
                }
                Attribute::Integers(values) => {
                    for value in values {
                        attribute.integer(8, *value as u64);
                    }
                    7
                }
            };
            attribute.integer(20, kind);
            node.message(5, attribute);
        }
        node
    }
}

impl Tensor {
    fn message(&self) -> Message {
        let mut tensor = Message::with_capacity(self.bytes.len() + 64);
        for &length in &self.shape {
            tensor.integer(1, length as u64);
        }
        tensor.integer(2, self.element as u64);
        tensor.text(8, &self.name);
        tensor.bytes(9, &self.bytes);
        tensor
    }
}

impl Port {
    fn message(&self) -> Message {
        let mut shape = Message::default();
        for dimension in &self.shape {
            let mut length = Message::default();
            match dimension {
                Dimension::Fixed(n) => length.integer(1, *n as u64),
                Dimension::Named(name) => length.text(2, name),
            }
            shape.message(1, length);
        }
        let mut tensor = Message::default();
        tensor.integer(1, Element::Float as u64);
        tensor.message(2, shape);
        let mut kind = Message::default();
        kind.message(1, tensor);
        let mut port = Message::default();
        port.text(1, self.name);
        port.message(2, kind);
        port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_its_fields_in_order() {
        let node = Node {
            operation: "Relu",
            inputs: vec!["x".into()],
            output: "y".into(),
            attributes: vec![("a", Attribute::Float(1.0))],
        };
        assert_eq!(
            node.message().finish(),
            [
                0x0a, 1, b'x', // input
                0x12, 1, b'y', // output
                0x1a, 1, b'y', // name
                0x22, 4, b'R', b'e', b'l', b'u', // operation
                0x2a, 11, 0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f, 0xa0, 0x01, 1, // attribute
            ]
        );
    }
}
