//! Writes small ONNX files, valid and invalid ones, in the wire format of `ModelProto` in onnx.proto.

pub const FLOAT: u64 = 1;
pub const INT32: u64 = 6;
pub const INT64: u64 = 7;
pub const FLOAT16: u64 = 10;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn text(field: u64, content: &str) -> Vec<u8> {
    bytes(field, content.as_bytes())
}

/// A dimension of a shape: fixed, or any size under a symbol.
#[derive(Clone, Copy)]
pub enum Size {
    Fixed(u64),
    Any(&'static str),
}
pub use Size::{Any, Fixed};

fn value_info(name: &str, kind: u64, shape: &[Size]) -> Vec<u8> {
    let sizes: Vec<u8> = shape
        .iter()
        .flat_map(|size| match size {
            Fixed(size) => bytes(1, &number(1, *size)),
            Any(symbol) => bytes(1, &text(2, symbol)),
        })
        .collect();
    let tensor = [number(1, kind), bytes(2, &sizes)].concat();
    [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
}

/// A graph under construction.
#[derive(Default)]
pub struct Graph {
    body: Vec<u8>,
}

impl Graph {
    pub fn new() -> Graph {
        Graph::default()
    }

    pub fn input(mut self, name: &str, kind: u64, shape: &[Size]) -> Graph {
        self.body.extend(bytes(11, &value_info(name, kind, shape)));
        self
    }

    /// Adds `input_ids` and `attention_mask` as an encoder has them.
    pub fn usual_inputs(self) -> Graph {
        let shape = [Any("batch"), Any("sequence")];
        self.input("input_ids", INT64, &shape).input("attention_mask", INT64, &shape)
    }

    pub fn output(mut self, name: &str, kind: u64, shape: &[Size]) -> Graph {
        self.body.extend(bytes(12, &value_info(name, kind, shape)));
        self
    }

    pub fn node(self, op_type: &str, inputs: &[&str], outputs: &[&str]) -> Graph {
        self.node_with(op_type, inputs, outputs, &[])
    }

    /// Adds a node with integer attributes.
    pub fn node_with(
        mut self,
        op_type: &str,
        inputs: &[&str],
        outputs: &[&str],
        ints: &[(&str, u64)],
    ) -> Graph {
        let mut node: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
        node.extend(outputs.iter().flat_map(|name| text(2, name)));
        node.extend(text(4, op_type));
        for (name, value) in ints {
            node.extend(bytes(5, &[text(1, name), number(3, *value), number(20, 2)].concat()));
        }
        self.body.extend(bytes(1, &node));
        self
    }

    fn tensor(mut self, name: &str, kind: u64, shape: &[u64], content: &[u8]) -> Graph {
        let mut tensor: Vec<u8> = shape.iter().flat_map(|&size| number(1, size)).collect();
        tensor.extend([number(2, kind), text(8, name), content.to_vec()].concat());
        self.body.extend(bytes(5, &tensor));
        self
    }

    pub fn floats(self, name: &str, shape: &[u64], values: &[f32]) -> Graph {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, FLOAT, shape, &bytes(9, &raw))
    }

    pub fn ints(self, name: &str, shape: &[u64], values: &[i64]) -> Graph {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, INT64, shape, &bytes(9, &raw))
    }

    /// Adds floats that are kept in a file of their own.
    pub fn external(self, name: &str, shape: &[u64], file: &str) -> Graph {
        let entry = bytes(13, &[text(1, "location"), text(2, file)].concat());
        self.tensor(name, FLOAT, shape, &[entry, number(14, 1)].concat())
    }

    pub fn finish(self) -> Vec<u8> {
        let graph = [self.body, text(2, "test")].concat();
        let opset = [text(1, ""), number(2, 17)].concat();
        [number(1, 8), bytes(7, &graph), bytes(8, &opset)].concat()
    }
}
