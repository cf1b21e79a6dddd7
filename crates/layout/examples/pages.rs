//! Builds an index of a thousand rows in memory and prints what its pages hold.
//! `cargo run -p leann-layout --example pages`.

use half::f16;
use leann_graph::F16Vectors;
use leann_layout::{BuildOptions, Image, SourceRows, Training, lay_out, train};
use leann_page::{HeapPointer, HubPage, NodePage, PageKind, kind};
use leann_vector::{Rng, normalize};

const DIM: usize = 64;
const ROWS: usize = 1_000;
const BODY_BYTES: usize = 8_168;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Where a table has texts and a model makes vectors of them, this has random ones.
    let mut rng = Rng::new(3);
    let mut values: Vec<f16> = Vec::with_capacity(ROWS * DIM);
    for _ in 0..ROWS {
        let mut row: Vec<f32> = (0..DIM).map(|_| rng.below(2_001) as f32 - 1_000.0).collect();
        assert!(normalize(&mut row), "the row has a direction");
        values.extend(row.into_iter().map(f16::from_f32));
    }
    let pointers: Vec<HeapPointer> =
        (0..ROWS).map(|row| HeapPointer { block: row as u32 / 50, offset: 1 + row as u16 % 50 }).collect();

    let embeddings = F16Vectors::new(&values, DIM);
    let rows = SourceRows { embeddings: &embeddings, dim: DIM, pointers: &pointers };
    let options = BuildOptions {
        sketch_bytes: 16,
        fill_percent: 97,
        store_embeddings: false,
        body_bytes: BODY_BYTES,
        seed: 1,
    };
    let Training { sketcher, rows: rows_trained } = train(rows, &options, &|| false)?;
    let planned = lay_out(rows, &sketcher, &options, &|| false)?;
    let image = Image {
        model: "some-model",
        fingerprint: [0; 32],
        sketcher: &sketcher,
        seed: options.seed,
        index_id: 1,
        rows_trained,
        truncated_rows: 0,
        embeddings: &embeddings,
        pointers: &pointers,
        planned: &planned,
        body_bytes: BODY_BYTES,
    };
    let mut block = 0;
    image.write(&mut |body| {
        match kind(body) {
            Ok(PageKind::Node) => {
                println!("{block:3} {} nodes", NodePage::parse(body).map_or(0, |page| page.count()))
            }
            Ok(PageKind::Hub) => {
                println!("{block:3} {} hubs", HubPage::parse(body).map_or(0, |page| page.entries().count()))
            }
            other => println!("{block:3} {other:?}"),
        }
        block += 1;
    })?;
    Ok(())
}
