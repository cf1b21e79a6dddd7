//! Looks through an ONNX file for the two things that must be known before it is run: which other files hold its
//! weights, and whether it quantises while it runs.
//!
//! An ONNX file is one protobuf message, `ModelProto` in onnx.proto of the ONNX project. This walks its wire format and
//! skips over the weights, so a model of gigabytes takes a few milliseconds and a few kB.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// `location` of every tensor kept outside, as written: relative to the folder of the ONNX file.
    pub external: BTreeSet<String>,
    /// The graph chooses quantisation scales from the numbers it is run on, so that a row's vector depends on the rows
    /// it shares a run with.
    pub dynamic_quantisation: bool,
}

/// `Err` says why this is not an ONNX file.
pub fn scan<R: Read + Seek>(reader: R, size: u64) -> Result<Scan, String> {
    let mut walk = Walk { reader, at: 0, scan: Scan::default(), graphs: 0 };
    walk.message(Message::Model, size, 0)?;
    match walk.graphs {
        0 => Err("it holds no graph".to_owned()),
        _ => Ok(walk.scan),
    }
}

/// The messages that lead to what is looked for. Names and field numbers are those of onnx.proto.
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

/// What a field of a message holds.
enum Field {
    Message(Message),
    OpType,
    Key,
    Value,
    Other,
}

impl Message {
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
}

/// Graphs nest through the attributes of control-flow nodes; nobody nests them deeper than this.
const MAX_DEPTH: usize = 64;
const MAX_STRING: u64 = 4096;

struct Walk<R> {
    reader: R,
    at: u64,
    scan: Scan,
    graphs: usize,
}

impl<R: Read + Seek> Walk<R> {
    fn message(&mut self, message: Message, end: u64, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("its graphs are nested too deeply".to_owned());
        }
        let (mut key, mut value) = (String::new(), String::new());
        while self.at < end {
            let tag = self.varint(end)?;
            match tag & 7 {
                0 => {
                    self.varint(end)?;
                }
                1 => self.skip(8, end)?,
                5 => self.skip(4, end)?,
                2 => {
                    let length = self.varint(end)?;
                    let Some(inner_end) = self.at.checked_add(length).filter(|&inner| inner <= end) else {
                        return Err("it is cut short or damaged".to_owned());
                    };
                    match message.field(tag >> 3) {
                        Field::Message(inner) => {
                            self.graphs += usize::from(matches!(inner, Message::Graph));
                            self.message(inner, inner_end, depth + 1)?;
                        }
                        Field::OpType => self.op_type(length, end)?,
                        Field::Key => key = self.string(length, end)?,
                        Field::Value => value = self.string(length, end)?,
                        Field::Other => self.skip(length, end)?,
                    }
                }
                _ => return Err("it is not a protobuf message".to_owned()),
            }
        }
        if key == "location" {
            self.scan.external.insert(value);
        }
        Ok(())
    }

    fn op_type(&mut self, length: u64, end: u64) -> Result<(), String> {
        let name = self.string(length, end)?;
        self.scan.dynamic_quantisation |= matches!(
            name.as_str(),
            "DynamicQuantizeLinear" | "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM"
        );
        Ok(())
    }

    fn varint(&mut self, end: u64) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.bytes(&mut byte, end)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err("it is not a protobuf message".to_owned())
    }

    fn string(&mut self, length: u64, end: u64) -> Result<String, String> {
        if length > MAX_STRING {
            return Err(format!("it holds a name of {length} bytes"));
        }
        let mut bytes = vec![0; length as usize];
        self.bytes(&mut bytes, end)?;
        String::from_utf8(bytes).map_err(|_| "it holds a name that is not UTF-8".to_owned())
    }

    fn bytes(&mut self, out: &mut [u8], end: u64) -> Result<(), String> {
        if end - self.at < out.len() as u64 {
            return Err("it is cut short or damaged".to_owned());
        }
        self.reader.read_exact(out).map_err(|e| e.to_string())?;
        self.at += out.len() as u64;
        Ok(())
    }

    fn skip(&mut self, length: u64, end: u64) -> Result<(), String> {
        if end - self.at < length {
            return Err("it is cut short or damaged".to_owned());
        }
        let offset = i64::try_from(length).map_err(|e| e.to_string())?;
        self.reader.seek_relative(offset).map_err(|e| e.to_string())?;
        self.at += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{BufReader, Cursor};

    fn scan_bytes(bytes: &[u8]) -> Result<Scan, String> {
        scan(BufReader::with_capacity(16, Cursor::new(bytes)), bytes.len() as u64)
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

    /// One length-delimited field.
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
        assert!(!found.dynamic_quantisation);
    }

    #[test]
    fn dynamic_quantisation_is_seen() {
        let model = |op: &[u8]| field(7, &field(1, &field(4, op)));
        assert!(scan_bytes(&model(b"DynamicQuantizeLinear")).unwrap().dynamic_quantisation);
        assert!(!scan_bytes(&model(b"QuantizeLinear")).unwrap().dynamic_quantisation);
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

    #[test]
    fn endless_nesting_is_refused() {
        let nested = |levels: usize| {
            let graph = (0..levels).fold(Vec::new(), |graph, _| field(1, &field(5, &field(6, &graph))));
            scan_bytes(&field(7, &graph))
        };
        assert!(nested(10).is_ok());
        assert!(nested(1000).unwrap_err().contains("nested"));
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
