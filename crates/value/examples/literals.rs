//! Reads a vector, a text and a structured literal, and writes each as a literal and as bytes.
//! `cargo run -p leann-value --example literals`.

use leann_value::{Value, ValueError};

fn main() -> Result<(), ValueError> {
    for literal in ["[3, 4]", "how do vaccines work?", r#"leann:{"text":"a row","role":"passage"}"#] {
        let value = Value::parse(literal)?;
        let mut bytes = vec![0; value.encoded_len()];
        value.encode(&mut bytes);
        println!("{literal} is {} in {} bytes", value.literal(), bytes.len());
        assert_eq!(Value::decode(&bytes), Ok(value));
    }
    Ok(())
}
