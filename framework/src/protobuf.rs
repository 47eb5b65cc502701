//! Writing protobuf: a message is a sequence of fields, each a number, a wire type and a value.
//!
//! Names are no part of the format, only field numbers are; a nested message stands behind its length. Fields that a
//! message leaves out have their default on the reader's side.

/// A message under construction.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    fn variable(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, field: u64, wire_type: u64) {
        self.variable(field << 3 | wire_type);
    }

    pub(crate) fn integer(&mut self, field: u64, value: u64) {
        self.tag(field, 0);
        self.variable(value);
    }

    pub(crate) fn single(&mut self, field: u64, value: f32) {
        self.tag(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn double(&mut self, field: u64, value: f64) {
        self.tag(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, 2);
        self.variable(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    pub(crate) fn message(&mut self, field: u64, message: Message) {
        self.bytes(field, &message.0);
    }

    /// Its bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let mut message = Message::default();
        message.integer(1, 150);
        assert_eq!(message.0, [0x08, 0x96, 0x01]);
        let mut negative = Message::default();
        negative.integer(3, -1i64 as u64);
        assert_eq!(negative.0.len(), 11);
        assert_eq!(negative.0[10], 1);
    }
}
