//! Times of the operations that scans and inserts repeat: parsing a node page, parsing a hub page, and
//! appending a node. `cargo bench -p leann-page`.

use divan::{Bencher, black_box};
use leann_page::{HeapPointer, HubPage, HubPageMut, HubRef, NewHub, NodePage, NodePageMut};

/// Length in bytes of the body of a page of 8 KiB.
const BODY_BYTES: usize = 8168;

/// Length of a sketch in bytes, as for a model of 384 dimensions.
const SKETCH_BYTES: usize = 56;

/// Number of components of a center.
const CENTER_LEN: usize = 160;

/// Number of links of a hub.
const MAX_LINKS: usize = 24;

fn main() {
    divan::main();
}

/// Returns a full node page without its last node.
fn node_page() -> Vec<u8> {
    let mut body = vec![0; BODY_BYTES];
    let hub = HubRef { page: 1, slot: 0 };
    let mut page = NodePageMut::init(&mut body, 1, SKETCH_BYTES, hub).expect("a sketch fits");
    for block in 0..page.view().capacity() as u32 - 1 {
        page.push(HeapPointer { block, offset: 1 }, &[block as u8; SKETCH_BYTES]).expect("there is room");
    }
    body
}

/// Returns a full hub page.
fn hub_page() -> Vec<u8> {
    let mut body = vec![0; BODY_BYTES];
    let mut page = HubPageMut::init(&mut body, 0, CENTER_LEN, MAX_LINKS).expect("an entry fits");
    let center: Vec<f32> = (0..CENTER_LEN).map(|i| (i as f32).sin()).collect();
    let links = [HubRef { page: 2, slot: 3 }; MAX_LINKS];
    for slot in 0..page.view().capacity() as u16 {
        let node_block = 100 + u32::from(slot);
        let hub = NewHub { node_block, node_generation: 1, spread: 0.5, center: &center, links: &links };
        page.put(slot, &hub).expect("the slot is there");
    }
    body
}

#[divan::bench]
fn parse_node_page(bencher: Bencher) {
    let body = node_page();
    bencher.bench_local(|| NodePage::parse(black_box(&body)).map(|page| page.count()));
}

#[divan::bench]
fn parse_hub_page(bencher: Bencher) {
    let body = hub_page();
    bencher.bench_local(|| HubPage::parse(black_box(&body)).map(|page| page.capacity()));
}

/// Includes the check of the page, as an insert parses the page that it changes.
#[divan::bench]
fn append_node(bencher: Bencher) {
    let body = node_page();
    let pointer = HeapPointer { block: 7, offset: 1 };
    bencher.with_inputs(|| body.clone()).bench_local_refs(|body| {
        NodePageMut::parse(body).and_then(|mut page| page.push(black_box(pointer), &[1; SKETCH_BYTES]))
    });
}
