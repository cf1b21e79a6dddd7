//! Makes a node page, appends two nodes, removes one, and reads what is left.
//! `cargo run -p leann-page --example node_page`.

use leann_page::{HeapPointer, HubRef, NodePage, NodePageMut, PageError};

fn main() -> Result<(), PageError> {
    let mut body = vec![0; 8168];
    let mut page = NodePageMut::init(&mut body, 1, 4, HubRef { page: 1, slot: 0 })?;
    page.push(HeapPointer { block: 0, offset: 1 }, b"near")?;
    page.push(HeapPointer { block: 0, offset: 2 }, b"also")?;
    page.swap_remove(0);

    // Another process reads the bytes: `parse` trusts none of them.
    let page = NodePage::parse(&body)?;
    println!("{} of {} nodes", page.count(), page.capacity());
    for (pointer, sketch) in page.heap_pointers().zip(page.sketches().chunks(page.sketch_bytes())) {
        println!("({},{}) {}", pointer.block, pointer.offset, sketch.escape_ascii());
    }
    Ok(())
}
