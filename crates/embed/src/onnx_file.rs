//! Scans an ONNX file for the two things that must be known before it is run: which other files hold its
//! weights, and whether it quantizes while it runs.
//!
//! An ONNX file is one protobuf message, `ModelProto` in onnx.proto of the ONNX project. The scanner reads
//! the wire format itself and seeks past the weights, so a model of gigabytes takes a few milliseconds and a
//! few kB. A protobuf library would read the whole file into memory.
//!
//! A file that is not such a message is refused at its first impossible field. That matters most for a file
//! of zeros, which an interrupted download leaves if it reserved its space: a reader that does not look at
//! field numbers finds billions of fields in it.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek};

use crate::store::ShouldStop;

/// What a scan found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The `location` of every tensor that is kept in another file, as written: relative to the folder of the
    /// ONNX file.
    pub external: BTreeSet<String>,
    /// Whether the graph computes quantization scales from its input, so that a row's vector depends on the
    /// rows it shares a run with.
    pub dynamic_quantization: bool,
}

/// Why a file could not be scanned. The messages complete "model file "x": ...".
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("it is cut short or damaged")]
    CutShort,
    #[error("it is not a protobuf message")]
    NotProtobuf,
    #[error("it is not an ONNX file")]
    NotOnnx,
    #[error("it holds no graph")]
    NoGraph,
    #[error("its graphs are nested too deeply")]
    NestedTooDeeply,
    #[error("it holds a name of {0} bytes")]
    LongName(u64),
    #[error("it holds a name that is not UTF-8")]
    NotUtf8,
    #[error(transparent)]
    Io(#[from] io::Error),
    /// `should_stop` returned true.
    #[error("it was not read to its end")]
    Stopped,
}

/// Scans an ONNX file of `size` bytes. Reads at most [`MAX_FIELDS`] fields, whatever the file holds.
pub fn scan<R: Read + Seek>(reader: R, size: u64, should_stop: ShouldStop) -> Result<Scan, ScanError> {
    let scan = Scan::default();
    let mut scanner = Scanner { reader, at: 0, scan, graphs: 0, fields: 0, unknown: 0, should_stop };
    scanner.message(Message::Model, size, 0)?;
    if scanner.graphs == 0 { Err(ScanError::NoGraph) } else { Ok(scanner.scan) }
}

/// The messages on the way to external data and operators. Names and field numbers are those of onnx.proto.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Entry,
}

/// What the scanner does with a field of a message.
enum Field {
    Message(Message),
    OpType,
    Key,
    Value,
    Other,
}

// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    /// Returns what a field of this number holds.
    fn field(self, number: u64) -> Field {
        use Message::*;
        match (self, number) {
            (Model, 7) | (Attribute, 6 | 11) => Field::Message(Graph),
            (Model, 25) => Field::Message(Function),
            (Graph, 1) | (Function, 7) => Field::Message(Node),
            (Node, 5) => Field::Message(Attribute),
            (Graph, 5) | (Attribute, 5 | 10) | (SparseTensor, 1 | 2) => Field::Message(Tensor),
            (Graph, 15) | (Attribute, 22 | 23) => Field::Message(SparseTensor),
            (Tensor, 13) => Field::Message(Entry),
            (Node, 4) => Field::OpType,
            (Entry, 1) => Field::Key,
            (Entry, 2) => Field::Value,
            _ => Field::Other,
        }
    }

    /// Returns the wire types that onnx.proto allows for a field, repeated numbers packed or not, or None if
    /// it has no such field.
    fn wire_types(self, number: u64) -> Option<&'static [u64]> {
        use Message::*;
        Some(match (self, number) {
            (Model, 1 | 5) | (Attribute, 3 | 20) | (Tensor, 2 | 14) | (Function, 2 | 3) => &[VARINT],
            (Attribute, 2) => &[FIXED32],
            (Attribute, 7) | (Tensor, 4) => &[FIXED32, BYTES],
            (Attribute, 8) | (Tensor, 1 | 5 | 7 | 11) | (SparseTensor, 3) => &[VARINT, BYTES],
            (Tensor, 10) => &[FIXED64, BYTES],
            (Model, 2..=4 | 6..=8 | 14 | 20 | 25 | 26)
            | (Graph, 1 | 2 | 5 | 10..=16)
            | (Function, 1 | 4..=14)
            | (Node, 1..=10)
            | (Attribute, 1 | 4..=6 | 9..=11 | 13..=15 | 21..=23)
            | (Tensor, 3 | 6 | 8 | 9 | 12 | 13 | 16)
            | (SparseTensor, 1 | 2)
            | (Entry, 1 | 2) => &[BYTES],
            _ => return None,
        })
    }
}

/// Largest number of fields in a row that onnx.proto does not have. Later versions may add a few.
const MAX_UNKNOWN_FIELDS: usize = 100;
/// Largest number of fields in a file. The largest graphs have some hundred thousand.
const MAX_FIELDS: usize = 4_000_000;
/// Largest depth of messages. Graphs nest through the attributes of control-flow nodes, a few levels in
/// practice.
const MAX_NESTING: usize = 64;
/// Largest length of a name or a path in bytes.
const MAX_STRING_BYTES: u64 = 4096;

/// Number of fields between two calls of `should_stop`.
const FIELDS_PER_POLL: usize = 4096;

/// A scan under way.
struct Scanner<'a, R> {
    reader: R,
    /// Bytes read or skipped.
    at: u64,
    scan: Scan,
    graphs: usize,
    fields: usize,
    /// How many of the latest fields onnx.proto does not have.
    unknown: usize,
    should_stop: ShouldStop<'a>,
}

/// An entry of a tensor's `external_data`: a key and a value.
#[derive(Default)]
struct EntryStrings {
    key: String,
    value: String,
}

impl<R: Read + Seek> Scanner<'_, R> {
    /// Reads one message, which ends at `end`, and the messages in it.
    fn message(&mut self, message: Message, end: u64, depth: usize) -> Result<(), ScanError> {
        if depth > MAX_NESTING {
            return Err(ScanError::NestedTooDeeply);
        }
        let mut entry = EntryStrings::default();
        while self.at < end {
            let tag = self.varint(end)?;
            let (number, wire_type) = (tag >> 3, tag & 7);
            self.admit(message, number, wire_type)?;
            match wire_type {
                VARINT => drop(self.varint(end)?),
                FIXED64 => self.skip(8, end)?,
                FIXED32 => self.skip(4, end)?,
                BYTES => self.bytes_field(message.field(number), &mut entry, end, depth)?,
                _ => return Err(ScanError::NotProtobuf),
            }
        }
        if entry.key == "location" {
            self.scan.external.insert(entry.value);
        }
        Ok(())
    }

    /// Reads a field that begins with its length: a message, a string, or bytes that are skipped.
    fn bytes_field(
        &mut self,
        field: Field,
        entry: &mut EntryStrings,
        end: u64,
        depth: usize,
    ) -> Result<(), ScanError> {
        let length = self.varint(end)?;
        let inner_end =
            self.at.checked_add(length).filter(|&inner| inner <= end).ok_or(ScanError::CutShort)?;
        match field {
            Field::Message(inner) => {
                self.graphs += usize::from(matches!(inner, Message::Graph));
                self.message(inner, inner_end, depth + 1)?;
            }
            Field::OpType => self.op_type(length, end)?,
            Field::Key => entry.key = self.string(length, end)?,
            Field::Value => entry.value = self.string(length, end)?,
            Field::Other => self.skip(length, end)?,
        }
        Ok(())
    }

    /// Counts a field, and refuses one that an ONNX file cannot have at this place.
    fn admit(&mut self, message: Message, number: u64, wire_type: u64) -> Result<(), ScanError> {
        self.fields += 1;
        match message.wire_types(number) {
            Some(allowed) if allowed.contains(&wire_type) => self.unknown = 0,
            None if number > 0 => self.unknown += 1,
            _ => return Err(ScanError::NotOnnx),
        }
        if self.unknown > MAX_UNKNOWN_FIELDS || self.fields > MAX_FIELDS {
            return Err(ScanError::NotOnnx);
        }
        if self.fields.is_multiple_of(FIELDS_PER_POLL) && (self.should_stop)() {
            return Err(ScanError::Stopped);
        }
        Ok(())
    }

    /// Reads the name of a node's operator.
    fn op_type(&mut self, length: u64, end: u64) -> Result<(), ScanError> {
        let name = self.string(length, end)?;
        self.scan.dynamic_quantization |= matches!(
            name.as_str(),
            "DynamicQuantizeLinear" | "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM"
        );
        Ok(())
    }

    fn varint(&mut self, end: u64) -> Result<u64, ScanError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.bytes(&mut byte, end)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(ScanError::NotProtobuf)
    }

    fn string(&mut self, length: u64, end: u64) -> Result<String, ScanError> {
        if length > MAX_STRING_BYTES {
            return Err(ScanError::LongName(length));
        }
        let mut bytes = vec![0; length as usize];
        self.bytes(&mut bytes, end)?;
        String::from_utf8(bytes).map_err(|_| ScanError::NotUtf8)
    }

    fn bytes(&mut self, out: &mut [u8], end: u64) -> Result<(), ScanError> {
        if end - self.at < out.len() as u64 {
            return Err(ScanError::CutShort);
        }
        self.reader.read_exact(out)?;
        self.at += out.len() as u64;
        Ok(())
    }

    fn skip(&mut self, length: u64, end: u64) -> Result<(), ScanError> {
        if end - self.at < length {
            return Err(ScanError::CutShort);
        }
        let offset = i64::try_from(length).map_err(|_| ScanError::CutShort)?;
        self.reader.seek_relative(offset)?;
        self.at += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{BufReader, Cursor};

    fn scan_bytes(bytes: &[u8]) -> Result<Scan, ScanError> {
        scan(BufReader::with_capacity(16, Cursor::new(bytes)), bytes.len() as u64, &|| false)
    }

    fn varint(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 128 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    /// Encodes a length-delimited field.
    fn field(number: usize, content: &[u8]) -> Vec<u8> {
        [varint(number << 3 | 2), varint(content.len()), content.to_vec()].concat()
    }

    fn external(name: &str) -> Vec<u8> {
        let entry = [field(1, b"location"), field(2, name.as_bytes())].concat();
        let length = [field(1, b"length"), field(2, b"12")].concat();
        [field(8, b"weight"), field(13, &entry), field(13, &length)].concat()
    }

    #[test]
    fn weights_kept_outside_are_found_wherever_they_hang() {
        let inner_graph = field(5, &external("inner.bin"));
        let branch = field(6, &inner_graph);
        let constant = field(5, &external("constant.bin"));
        let node = [field(4, b"If"), field(5, &branch), field(5, &constant)].concat();
        let graph =
            [field(1, &node), field(5, &external("outer.bin")), field(5, &external("outer.bin"))].concat();
        let model = [vec![8, 9], field(7, &graph)].concat();
        let found = scan_bytes(&model).unwrap();
        assert_eq!(
            found.external.into_iter().collect::<Vec<_>>(),
            ["constant.bin", "inner.bin", "outer.bin"]
        );
        assert!(!found.dynamic_quantization);
    }

    #[test]
    fn dynamic_quantization_is_seen() {
        let model = |op: &[u8]| field(7, &field(1, &field(4, op)));
        assert!(scan_bytes(&model(b"DynamicQuantizeLinear")).unwrap().dynamic_quantization);
        assert!(!scan_bytes(&model(b"QuantizeLinear")).unwrap().dynamic_quantization);
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let model = field(7, &field(1, &field(4, b"MatMul")));
        assert!(scan_bytes(&model).is_ok());
        for cut in 0..model.len() {
            assert!(scan_bytes(&model[..cut]).is_err(), "cut at {cut}");
        }
        assert!(scan_bytes(b"this is text, not a model").is_err());
        assert!(scan_bytes(b"").is_err());
    }

    /// A file without end in which one byte is repeated. Counts the bytes that are read.
    struct Endless(u8, u64);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            buffer.fill(self.0);
            self.1 += buffer.len() as u64;
            Ok(buffer.len())
        }
    }

    impl Seek for Endless {
        fn seek(&mut self, _: std::io::SeekFrom) -> std::io::Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn a_file_of_one_byte_is_refused_soon() {
        for byte in 0..=255 {
            let mut file = Endless(byte, 0);
            assert!(scan(&mut file, 64 << 30, &|| false).is_err(), "{byte}");
            // Some bytes are valid fields of a model, over and over. They end when there are too many.
            let most = if byte == 0 { 100 } else { 2 * MAX_FIELDS as u64 + 100 };
            assert!(file.1 < most, "{byte}: {} bytes read", file.1);
        }
    }

    #[test]
    fn what_follows_the_graph_is_looked_at_too() {
        let graph = field(7, &field(1, &field(4, b"MatMul")));
        assert!(scan_bytes(&[graph.clone(), vec![0; 64]].concat()).is_err());
        // Fields of a later onnx.proto, but not any number of them.
        let later = |times| [graph.clone(), [0x90, 0x03, 1].repeat(times)].concat();
        assert!(scan_bytes(&later(50)).is_ok());
        assert!(scan_bytes(&later(200)).is_err());
        // A name where a number belongs.
        assert!(scan_bytes(&[graph, field(1, b"x")].concat()).is_err());
    }

    #[test]
    fn the_work_is_bounded() {
        let node = field(1, &[]).repeat(MAX_FIELDS + 1);
        let model = field(7, &node);
        assert!(scan_bytes(&model).is_err());
        let stopped = scan(BufReader::new(Cursor::new(&model)), model.len() as u64, &|| true);
        assert!(matches!(stopped, Err(ScanError::Stopped)), "{stopped:?}");
    }

    #[test]
    fn endless_nesting_is_refused() {
        let nested = |levels: usize| {
            let graph = (0..levels).fold(Vec::new(), |graph, _| field(1, &field(5, &field(6, &graph))));
            scan_bytes(&field(7, &graph))
        };
        assert!(nested(10).is_ok());
        assert!(nested(1000).unwrap_err().to_string().contains("nested"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = scan_bytes(&bytes);
        }

        #[test]
        fn a_damaged_model_is_survived(at in 0usize..100, byte in any::<u8>()) {
            let node = [field(4, b"If"), field(5, &field(6, &field(5, &external("inner.bin"))))].concat();
            let mut model = field(7, &field(1, &node));
            let at = at % model.len();
            model[at] = byte;
            let _ = scan_bytes(&model);
        }
    }
}
