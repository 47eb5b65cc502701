//! The machine that a pickle is a program for, without the parts that reach outside it.
//!
//! Protocols 2 to 5 as Python and PyTorch write them; the text instructions of protocol 0 are left out, since no file of
//! `torch.save` has them. A length that an instruction claims is compared with what is left of the file before memory is
//! taken. Nothing recurses.

use std::{collections::HashMap, io::BufRead};

use super::{
    Limits, call,
    global::{self, Global},
    graph::{Graph, Id, Mapping, Node},
    input::{Input, NAME_LIMIT, damaged},
};
use crate::error::Error;

/// Runs one pickle from `input`, of which at most `available` bytes may be read, and gives its value and its length.
///
/// # Errors
/// The pickle is damaged, names what is not on the list, or is larger than `limits`.
pub(super) fn load(
    input: impl BufRead,
    available: u64,
    graph: &mut Graph,
    limits: &Limits,
) -> Result<(Id, u64), Error> {
    let mut machine = Machine {
        input: Input::new(input, available, limits.pickle_bytes),
        graph,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        room: limits.cells,
    };
    let value = machine.run()?;
    Ok((value, machine.input.position()))
}

struct Machine<'a, R> {
    input: Input<R>,
    graph: &'a mut Graph,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// The most entries of stack, marks and memo each.
    room: usize,
}

impl<R: BufRead> Machine<'_, R> {
    fn run(&mut self) -> Result<Id, Error> {
        loop {
            let [instruction] = self.input.bytes()?;
            match instruction {
                b'.' => return self.pop(),
                0x80 => {
                    let [protocol] = self.input.bytes()?;
                    if protocol > 5 {
                        return Err(damaged(format!("it claims protocol {protocol}")));
                    }
                }
                // The length of the frame that follows; instructions do not cross frames, but need not be held to it.
                0x95 => drop(self.input.bytes::<8>()?),
                b'(' => {
                    self.check_room(self.marks.len())?;
                    self.marks.push(self.stack.len());
                }
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.push(top)?;
                }
                b'N' => self.push_node(Node::None)?,
                0x88 => self.push_node(Node::Bool(true))?,
                0x89 => self.push_node(Node::Bool(false))?,
                b'K' | b'M' | b'J' | 0x8a | 0x8b => self.integer(instruction)?,
                b'G' => {
                    let float = f64::from_be_bytes(self.input.bytes()?);
                    self.push_node(Node::Float(float))?;
                }
                b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => {
                    self.string(instruction)?;
                }
                b')' | 0x85 | 0x86 | 0x87 | b't' | b']' | b'l' | 0x8f | 0x91 | b'}' | b'd' => {
                    self.container(instruction)?;
                }
                b'a' | b'e' | 0x90 | b's' | b'u' => self.extend(instruction)?,
                b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(instruction)?,
                b'c' => {
                    let (module, name) = (self.input.line()?, self.input.line()?);
                    self.push_global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let text = |id| self.graph.text(id).map(str::to_owned);
                    let names = text(module).zip(text(name)).filter(|(module, name)| {
                        module.len() <= NAME_LIMIT && name.len() <= NAME_LIMIT
                    });
                    let (module, name) =
                        names.ok_or_else(|| damaged("it names what is no name".to_owned()))?;
                    self.push_global(&module, &name)?;
                }
                b'R' | 0x81 | 0x92 => self.call(instruction)?,
                b'b' => {
                    let (state, object) = (self.pop()?, self.top()?);
                    call::set_state(self.graph, object, state)?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    let region = call::persistent(self.graph, id)?;
                    self.push_node(Node::Storage(region))?;
                }
                b'i' => {
                    let (module, name) = (self.input.line()?, self.input.line()?);
                    global::find(&module, &name)?;
                    return Err(damaged("it has an instruction of protocol 0".to_owned()));
                }
                other => {
                    return Err(damaged(format!(
                        "it has the instruction {other:#04x}, which `torch.save` never writes"
                    )));
                }
            }
        }
    }

    /// Instructions that push an integer.
    fn integer(&mut self, instruction: u8) -> Result<(), Error> {
        let integer = match instruction {
            b'K' => self.input.bytes::<1>()?[0].into(),
            b'M' => u16::from_le_bytes(self.input.bytes()?).into(),
            b'J' => i32::from_le_bytes(self.input.bytes()?).into(),
            _ => {
                let length = match instruction {
                    0x8a => self.input.bytes::<1>()?[0].into(),
                    _ => self.input.signed_length()?,
                };
                let bytes = self.input.take(length)?;
                return self.push_node(long_integer(bytes));
            }
        };
        self.push_node(Node::Integer(integer))
    }

    /// Instructions that push a string or bytes.
    fn string(&mut self, instruction: u8) -> Result<(), Error> {
        let length = match instruction {
            0x8c | b'U' | b'C' => self.input.bytes::<1>()?[0].into(),
            b'X' | b'B' => u32::from_le_bytes(self.input.bytes()?).into(),
            b'T' => self.input.signed_length()?,
            _ => u64::from_le_bytes(self.input.bytes()?),
        };
        let bytes = self.input.take(length)?;
        let node = match (instruction, String::from_utf8(bytes)) {
            (b'B' | b'C' | 0x8e | 0x96, Ok(text)) => Node::Bytes(text.into_bytes()),
            (b'B' | b'C' | 0x8e | 0x96, Err(e)) => Node::Bytes(e.into_bytes()),
            (_, Ok(text)) => Node::Text(text),
            // Python 2 does not tell text from bytes.
            (b'T' | b'U', Err(e)) => Node::Bytes(e.into_bytes()),
            (_, Err(_)) => return Err(damaged("it has text that is no UTF-8".to_owned())),
        };
        self.push_node(node)
    }

    /// Instructions that push a container.
    fn container(&mut self, instruction: u8) -> Result<(), Error> {
        let elements = match instruction {
            0x85..=0x87 => {
                let count = usize::from(instruction - 0x84);
                let mut elements = vec![0; count];
                for element in elements.iter_mut().rev() {
                    *element = self.pop()?;
                }
                elements
            }
            b't' | b'l' | 0x91 | b'd' => self.pop_mark()?,
            _ => Vec::new(),
        };
        self.graph.spend(elements.len())?;
        let node = match instruction {
            b')' | 0x85..=0x87 | b't' => Node::Tuple(elements),
            b']' | b'l' => Node::List(elements),
            0x8f | 0x91 => Node::Set(elements),
            _ => Node::Dict(Mapping::Plain, pairs(&elements)?),
        };
        self.push_node(node)
    }

    /// Instructions that add elements to the container below them.
    fn extend(&mut self, instruction: u8) -> Result<(), Error> {
        let elements = match instruction {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        self.graph.spend(elements.len())?;
        let container = self.top()?;
        match (instruction, self.graph.node_mut(container)) {
            (b'a' | b'e', Node::List(list)) => list.extend(elements),
            (0x90, Node::Set(set)) => set.extend(elements),
            (b's' | b'u', Node::Dict(_, entries)) => entries.extend(pairs(&elements)?),
            _ => return Err(damaged("it adds elements to what holds none".to_owned())),
        }
        Ok(())
    }

    /// Instructions that store the top of the stack, or push what was stored.
    fn memo(&mut self, instruction: u8) -> Result<(), Error> {
        let index = match instruction {
            b'q' | b'h' => self.input.bytes::<1>()?[0].into(),
            b'r' | b'j' => u32::from_le_bytes(self.input.bytes()?),
            _ => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
        };
        if let b'h' | b'j' = instruction {
            let stored = self.memo.get(&index).copied();
            let missing = || damaged(format!("it fetches object {index}, which it never stored"));
            return self.push(stored.ok_or_else(missing)?);
        }
        self.check_room(self.memo.len())?;
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    /// Instructions that call what was named.
    fn call(&mut self, instruction: u8) -> Result<(), Error> {
        if instruction == 0x92 {
            let named = self.pop()?;
            match self.graph.node(named) {
                Node::Dict(_, entries) if entries.is_empty() => {}
                _ => return Err(damaged("it calls a class with named arguments".to_owned())),
            }
        }
        let (arguments, function) = (self.pop()?, self.pop()?);
        let &Node::Global(function) = self.graph.node(function) else {
            return Err(damaged("it calls what is no function".to_owned()));
        };
        let result = call::call(self.graph, function, arguments)?;
        self.push(result)
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), Error> {
        match global::find(module, name)? {
            Global::Key => {
                let full = format!("{module}.{name}");
                self.graph.copy(full.len())?;
                self.push_node(Node::Text(full))
            }
            global => self.push_node(Node::Global(global)),
        }
    }

    fn push_node(&mut self, node: Node) -> Result<(), Error> {
        let id = self.graph.add(node)?;
        self.push(id)
    }

    fn push(&mut self, id: Id) -> Result<(), Error> {
        self.check_room(self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    fn check_room(&self, entries: usize) -> Result<(), Error> {
        if entries >= self.room {
            return Err(damaged(
                "its stack grows beyond that of any checkpoint".to_owned(),
            ));
        }
        Ok(())
    }

    /// The lowest height of the stack that the innermost mark leaves.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, Error> {
        let above = &self.stack[self.floor()..];
        above.last().copied().ok_or_else(underflow)
    }

    fn pop(&mut self) -> Result<Id, Error> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Everything above the innermost mark, which is removed too.
    fn pop_mark(&mut self) -> Result<Vec<Id>, Error> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark))
    }
}

/// Keys and values that alternate.
fn pairs(elements: &[Id]) -> Result<Vec<(Id, Id)>, Error> {
    if !elements.len().is_multiple_of(2) {
        return Err(damaged("it has a key without a value".to_owned()));
    }
    Ok(elements.chunks_exact(2).map(|p| (p[0], p[1])).collect())
}

/// An integer in two's complement, little-endian.
fn long_integer(mut bytes: Vec<u8>) -> Node {
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    while let [.., before, last] = bytes[..] {
        if last != fill || (before & 0x80 != 0) != negative {
            break;
        }
        bytes.pop();
    }
    if bytes.len() > 8 {
        return Node::BigInteger(bytes);
    }
    bytes.resize(8, fill);
    let bytes: [u8; 8] = bytes.try_into().expect("resized to 8 bytes");
    Node::Integer(i64::from_le_bytes(bytes))
}

fn underflow() -> Error {
    damaged("it takes more from its stack than it has put there".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pickle: &[u8]) -> Result<Node, Error> {
        let limits = Limits::default();
        let mut graph = Graph::new(&limits);
        let (id, length) = load(pickle, pickle.len() as u64, &mut graph, &limits)?;
        assert_eq!(length, pickle.len() as u64);
        Ok(graph.node(id).clone())
    }

    #[test]
    fn integers_have_their_sign_and_size() {
        for (pickle, expected) in [
            (&b"K\xff."[..], 255),
            (b"M\xff\xff.", 65_535),
            (b"J\xff\xff\xff\xff.", -1),
            (b"\x8a\x00.", 0),
            (b"\x8a\x01\xff.", -1),
            (b"\x8a\x02\xff\x00.", 255),
            (b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x40\x00.", 1 << 62),
            (b"\x8b\x01\x00\x00\x00\x80.", -128),
        ] {
            let node = run(pickle).unwrap();
            assert!(
                matches!(node, Node::Integer(i) if i == expected),
                "{node:?}"
            );
        }
        let big = run(b"\x8a\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x40\x00.").unwrap();
        assert!(matches!(big, Node::BigInteger(bytes) if bytes == [0, 0, 0, 0, 0, 0, 0, 0, 0x40]));
    }

    #[test]
    fn broken_programs_are_errors() {
        for pickle in [
            &b""[..],
            b".",
            b"ss.",
            b"h\x05.",
            b"t.",
            b"(.",
            b"N(0.",
            b"]N(s.",
            b"}(Nu.",
            b"NNa.",
            b"N)R.",
            b"\x80\x06N.",
            b"X\xff\xff\xff\x7fabc.",
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
            b"\x8b\xff\xff\xff\x7f\x01.",
            b"\x8b\xff\xff\xff\xff\x01.",
            b"X\x01\x00\x00\x00\xff.",
            b"(S'x'\n.",
            b"NQ.",
            b"NNb.",
        ] {
            assert!(run(pickle).is_err(), "{pickle:?}");
        }
    }

    #[test]
    fn a_name_outside_the_list_is_named() {
        for pickle in [
            &b"cposix\nsystem\n."[..],
            b"\x8c\x05posix\x8c\x06system\x93.",
            b"(iposix\nsystem\n.",
        ] {
            let error = run(pickle).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Code);
            assert!(error.problem().contains("`posix.system`"), "{error}");
        }
    }

    #[test]
    fn stack_and_memo_are_bounded() {
        let limits = Limits {
            cells: 1000,
            ..Limits::default()
        };
        for pickle in [
            "(".repeat(2000),
            format!("N{}", "2".repeat(2000)),
            "]".repeat(2000),
        ] {
            let mut graph = Graph::new(&limits);
            let loaded = load(pickle.as_bytes(), pickle.len() as u64, &mut graph, &limits);
            let error = loaded.unwrap_err();
            assert!(!error.problem().contains("ends too early"), "{error}");
        }
    }
}
