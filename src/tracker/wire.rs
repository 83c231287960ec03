//! TensorBoard's event files: records of TFRecord, each an `Event` as protobuf.
//!
//! Field numbers are those of `tensorboard/compat/proto/{event,summary,tensor,tensor_shape}.proto`,
//! `tensorboard/plugins/hparams/plugin_data.proto` and `google/protobuf/struct.proto`. Of the messages only what is written here.

use crc::{CRC_32_ISCSI, Crc};
use prost::{Message, Oneof};
use std::collections::BTreeMap;

/// CRC-32C, as TFRecord has it.
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Appends one record: the length (8 bytes, little-endian) and its checksum, the bytes and theirs.
pub(super) fn record(event: &Event, out: &mut Vec<u8>) {
    let bytes = event.encode_to_vec();
    let length = (bytes.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked(&length).to_le_bytes());
    out.extend_from_slice(&bytes);
    out.extend_from_slice(&masked(&bytes).to_le_bytes());
}

/// A checksum is stored turned by 15 bits and moved, so that checksums of data that holds checksums stay sound.
fn masked(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// With [`SessionLog::START`], what was told of this event's step and later ones is told again.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionLog {
    #[prost(int32, tag = "1")]
    pub status: i32,
}

impl SessionLog {
    pub const START: i32 = 1;
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(oneof = "Held", tags = "2, 8")]
    pub held: Option<Held>,
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Held {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

/// A tensor of texts, or one without elements: what a value holds whose metadata says all.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    /// 1 is a float of 32 bits, 7 bytes of any length.
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub texts: Vec<Vec<u8>>,
}

impl Tensor {
    /// Of bytes.
    pub fn of(texts: Vec<Vec<u8>>) -> Self {
        let size = i64::try_from(texts.len()).unwrap_or(i64::MAX);
        Self { dtype: 7, shape: Some(Shape { dim: vec![Dim { size }] }), texts }
    }
    /// Of no element.
    pub fn empty() -> Self {
        Self { dtype: 1, shape: Some(Shape { dim: vec![Dim { size: 0 }] }), texts: Vec::new() }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Dim {
    #[prost(int64, tag = "1")]
    pub size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub plugin: Option<Plugin>,
    /// Markdown.
    #[prost(string, tag = "3")]
    pub description: String,
    /// 3 is a sequence of blobs, such as images.
    #[prost(int32, tag = "4")]
    pub class: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Plugin {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HParams {
    #[prost(oneof = "Session", tags = "3, 4")]
    pub session: Option<Session>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Session {
    #[prost(message, tag = "3")]
    Start(SessionStart),
    #[prost(message, tag = "4")]
    End(SessionEnd),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionStart {
    #[prost(btree_map = "string, message", tag = "1")]
    pub hparams: BTreeMap<String, Param>,
    #[prost(double, tag = "5")]
    pub start_time: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionEnd {
    #[prost(int32, tag = "1")]
    pub status: i32,
    #[prost(double, tag = "2")]
    pub end_time: f64,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Param {
    #[prost(oneof = "ParamKind", tags = "2, 3, 4")]
    pub kind: Option<ParamKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ParamKind {
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_tensorflow_writes() {
        // The check value of CRC-32C (RFC 3720): 32 bytes of zeros.
        assert_eq!(CRC.checksum(&[0; 32]), 0x8a91_36aa);
        // The first record of every event file, as TensorFlow writes it, with the time 0 left out.
        let event = Event { what: Some(What::FileVersion("brain.Event:2".into())), ..Event::default() };
        let mut bytes = Vec::new();
        record(&event, &mut bytes);
        assert_eq!(&bytes[..8], &15_u64.to_le_bytes());
        assert_eq!(&bytes[12..27], b"\x1a\x0dbrain.Event:2");
        assert_eq!(bytes.len(), 8 + 4 + 15 + 4);
        assert_eq!(Event::decode(&bytes[12..27]).unwrap(), event);
    }
}
