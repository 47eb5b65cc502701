//! The format of event files: framed protobuf messages of TensorFlow's `Event`.
//!
//! A record is the length of the message (8 bytes), a checksum of these, the message, and a checksum of it, all
//! little-endian. The checksum is CRC-32C (Castagnoli), rotated and offset, as files hold checksums of checksums.

use crate::protobuf::Message;

/// Figures of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// Optimiser steps so far.
    pub step: u64,
    /// The figures by tag, such as `epoch/loss`.
    pub values: Vec<(String, f32)>,
}

/// Field numbers of `Event`.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;

/// What a file starts with: its version, and word that all earlier points of the stage are void.
pub(super) fn head(time: f64) -> Vec<u8> {
    let mut version = Message::default();
    version.double(WALL_TIME, time);
    version.text(FILE_VERSION, "brain.Event:2");
    let mut session = Message::default();
    session.integer(1, 1); // status: START
    let mut start = Message::default();
    start.double(WALL_TIME, time);
    start.message(SESSION_LOG, session);
    let mut bytes = frame(&version.finish());
    bytes.extend(frame(&start.finish()));
    bytes
}

/// The record of a point.
pub(super) fn scalars(time: f64, point: &Point) -> Vec<u8> {
    let mut summary = Message::default();
    for (tag, value) in &point.values {
        let mut figure = Message::default();
        figure.text(1, tag);
        figure.single(2, *value);
        summary.message(1, figure);
    }
    let mut event = Message::default();
    event.double(WALL_TIME, time);
    event.integer(STEP, point.step);
    event.message(SUMMARY, summary);
    frame(&event.finish())
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(message.len() + 16);
    bytes.extend(length);
    bytes.extend(masked(&length).to_le_bytes());
    bytes.extend(message);
    bytes.extend(masked(message).to_le_bytes());
    bytes
}

/// The checksum as records hold it.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Remainders of single bytes by the reversed polynomial 0x1EDC6F41.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let odd = remainder & 1;
            remainder >>= 1;
            if odd == 1 {
                remainder ^= 0x82f6_3b78;
            }
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
};

/// CRC-32C of `bytes`.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| TABLE[(crc as u8 ^ byte) as usize] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

/// The points of an event file with their times, up to the first record that is damaged or cut short; events of other
/// kinds are passed over.
pub fn points(bytes: &[u8]) -> Vec<(f64, Point)> {
    let (mut rest, mut points) = (bytes, Vec::new());
    while let Some((message, after)) = unframe(rest) {
        points.extend(event(message).filter(|(_, point)| !point.values.is_empty()));
        rest = after;
    }
    points
}

/// The message at the start of `bytes`, and what follows its record.
fn unframe(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    if u32::from_le_bytes(*sum) != masked(length) || size > rest.len() {
        return None;
    }
    let (message, rest) = rest.split_at(size);
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*sum) == masked(message)).then_some((message, rest))
}

/// A field of a message.
enum Field<'a> {
    Integer(u64),
    Fixed(&'a [u8]),
    Bytes(&'a [u8]),
}

/// The fields of a message by their numbers, up to the first that is not well-formed.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while let Some(field) = field(&mut bytes) {
        fields.push(field);
    }
    fields
}

fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = variable(bytes)?;
    let value = match tag & 7 {
        0 => Field::Integer(variable(bytes)?),
        1 => Field::Fixed(take(bytes, 8)?),
        5 => Field::Fixed(take(bytes, 4)?),
        2 => {
            let length = usize::try_from(variable(bytes)?).ok()?;
            Field::Bytes(take(bytes, length)?)
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn variable(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn event(message: &[u8]) -> Option<(f64, Point)> {
    let (mut time, mut point) = (0.0, Point::default());
    for (number, field) in fields(message) {
        match (number, field) {
            (WALL_TIME, Field::Fixed(bytes)) => time = f64::from_le_bytes(bytes.try_into().ok()?),
            (STEP, Field::Integer(step)) => point.step = step,
            (SUMMARY, Field::Bytes(summary)) => {
                for (_, field) in fields(summary) {
                    if let Field::Bytes(figure) = field {
                        point.values.extend(scalar(figure));
                    }
                }
            }
            _ => {}
        }
    }
    Some((time, point))
}

fn scalar(message: &[u8]) -> Option<(String, f32)> {
    let (mut tag, mut value) = (None, None);
    for (number, field) in fields(message) {
        match (number, field) {
            (1, Field::Bytes(bytes)) => tag = String::from_utf8(bytes.to_vec()).ok(),
            (2, Field::Fixed(bytes)) => value = Some(f32::from_le_bytes(bytes.try_into().ok()?)),
            _ => {}
        }
    }
    Some((tag?, value?))
}
