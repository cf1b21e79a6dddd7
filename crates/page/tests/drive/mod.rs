//! Calls every accessor and every change of every view on arbitrary bytes. The damage tests and the fuzz
//! targets share it: nothing here may panic, and a page must still parse after any change.

// Each user calls the functions for the kinds that it tests.
#![allow(dead_code)]

use leann_page::{
    FORMAT_VERSION, FreePage, HeapPointer, HubPage, HubPageMut, HubRef, MAX_ENTRY_HUBS, Meta, NewHub,
    NodePage, NodePageMut, PageError, ParamsPage, kind,
};
use leann_value::MAX_MODEL_NAME_BYTES;

/// The byte of a meta page in the header.
pub const META: u8 = 1;
/// The byte of a params page in the header.
pub const PARAMS: u8 = 2;
/// The byte of a hub page in the header.
pub const HUB: u8 = 3;
/// The byte of a node page in the header.
pub const NODE: u8 = 4;

/// Returns the bytes with a header of the given kind, so that they pass the first check.
pub fn with_header(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut body = bytes.to_vec();
    for (byte, header) in body.iter_mut().zip([b'L', b'N', kind, FORMAT_VERSION]) {
        *byte = header;
    }
    body
}

/// Reads a body as every kind and changes it; `ops` selects the changes.
pub fn all(body: &[u8], ops: &[u8]) {
    let _ = (kind(body), FreePage::parse(body).map(|page| page.generation()));
    node(body, ops);
    hub(body, ops);
    meta(body);
    params(body);
}

/// Reads a body as a node page and changes it; `ops` has three bytes for each change.
pub fn node(body: &[u8], ops: &[u8]) {
    if let Ok(page) = NodePage::parse(body) {
        read_node(&page);
    }
    let mut copy = body.to_vec();
    let Ok(mut page) = NodePageMut::parse(&mut copy) else {
        assert!(NodePage::parse(body).is_err(), "the two views disagree");
        return;
    };
    for op in ops.chunks(3) {
        let at = u16::from_le_bytes([op.get(1).copied().unwrap_or(0), op.get(2).copied().unwrap_or(0)]);
        change_node(&mut page, op[0], at);
        read_node(&page.view());
    }
    NodePage::parse(&copy).expect("a changed node page parses");
}

fn read_node(page: &NodePage<'_>) {
    assert!(page.count() <= page.capacity());
    assert_eq!(page.sketches().len(), page.count() * page.sketch_bytes());
    assert_eq!(page.heap_pointers().len(), page.count());
    let _ = (page.generation(), page.hub());
    for (i, pointer) in page.heap_pointers().enumerate() {
        assert_ne!(pointer.offset, 0);
        assert_eq!(page.heap_pointer(i), Some(pointer));
    }
    for i in [page.count(), page.capacity(), usize::MAX] {
        assert!(i < page.count() || page.heap_pointer(i).is_none());
    }
}

fn change_node(page: &mut NodePageMut<'_>, op: u8, at: u16) {
    match op % 5 {
        0 => {
            let sketch = vec![op; page.view().sketch_bytes()];
            let _ = page.push(HeapPointer { block: u32::from(op) << (at % 32), offset: at }, &sketch);
        }
        1 => drop(page.push(HeapPointer { block: 1, offset: 1 }, &vec![1; usize::from(at)])),
        2 => drop(page.swap_remove(usize::from(at))),
        3 => drop(page.remove_where(|pointer| pointer.offset & 7 == at & 7)),
        _ => page.set_generation(u32::from(at)),
    }
}

/// Reads a body as a hub page and changes it; `ops` has seven bytes for each change.
pub fn hub(body: &[u8], ops: &[u8]) {
    if let Ok(page) = HubPage::parse(body) {
        read_hub(&page);
    }
    let mut copy = body.to_vec();
    let Ok(mut page) = HubPageMut::parse(&mut copy) else {
        assert!(HubPage::parse(body).is_err(), "the two views disagree");
        return;
    };
    for op in ops.chunks(7) {
        let byte = |i: usize| op.get(i).copied().unwrap_or(0);
        let value = f32::from_le_bytes([byte(3), byte(4), byte(5), byte(6)]);
        change_hub(&mut page, op[0], u16::from_le_bytes([byte(1), byte(2) & 1]), value);
        read_hub(&page.view());
    }
    HubPage::parse(&copy).expect("a changed hub page parses");
}

fn read_hub(page: &HubPage<'_>) {
    let _ = (page.generation(), page.next());
    let mut center = vec![f32::NAN; page.center_len() + 1];
    for (slot, entry) in page.entries() {
        assert!(usize::from(slot) < page.capacity() && page.entry(slot).is_some());
        let _ = (entry.node_block(), entry.node_generation());
        assert!(entry.spread() >= 0.0 && entry.spread().is_finite());
        assert_eq!(entry.center_len(), page.center_len());
        entry.decode_center(&mut center);
        assert!(center.iter().all(|value| value.is_finite()));
        entry.decode_center(&mut []);
        assert!(entry.links().len() <= page.max_links());
        assert_eq!(entry.links().count(), entry.links().len());
    }
    assert!(page.entry(u16::MAX).is_none() || page.capacity() > usize::from(u16::MAX));
    match page.free_slot() {
        Some(slot) => assert!(usize::from(slot) < page.capacity() && page.entry(slot).is_none()),
        None => assert_eq!(page.entries().count(), page.capacity()),
    }
}

fn change_hub(page: &mut HubPageMut<'_>, op: u8, slot: u16, value: f32) {
    let links = [HubRef { page: value.to_bits(), slot }; 9];
    let links = &links[..usize::from(op >> 3) % 10];
    let center = [value, -0.5, 0.25, value / 3.0];
    let spread = if op & 0x80 == 0 { 0.5 } else { value };
    let hub = NewHub { node_block: value.to_bits(), node_generation: 2, spread, center: &center, links };
    let result = match op % 8 {
        0 | 1 => page.put(slot, &hub),
        2 => page.set_links(slot, links),
        3 => page.set_node(slot, value.to_bits(), 3),
        4 => page.set_center(slot, &center, spread),
        5 => page.clear(slot),
        6 => {
            page.set_next(value.to_bits());
            Ok(())
        }
        _ => {
            page.set_generation(value.to_bits());
            Ok(())
        }
    };
    assert!(matches!(result, Ok(()) | Err(PageError::NoEntry { .. } | PageError::Unstorable { .. })));
}

/// Decodes a body as a meta page; what was decoded must encode to the same bytes.
pub fn meta(body: &[u8]) {
    let Ok(meta) = Meta::decode(body) else { return };
    assert!(meta.model.len() <= MAX_MODEL_NAME_BYTES && meta.entry_hubs.len() <= MAX_ENTRY_HUBS);
    let mut again = vec![0xFF; body.len()];
    meta.encode(&mut again).expect("what was decoded can be encoded");
    assert_eq!(again, body, "two different pages mean the same");
}

/// Reads a body as a params page; what was read must be writable.
pub fn params(body: &[u8]) {
    let Ok(page) = ParamsPage::parse(body) else { return };
    assert!(page.chunk().len() <= ParamsPage::chunk_capacity(body.len()));
    let _ = (page.next(), format!("{page:?}"));
    let mut again = vec![0xFF; body.len()];
    ParamsPage::init(&mut again, page.next(), page.chunk()).expect("what was read can be written");
    let again = ParamsPage::parse(&again).expect("what was written can be read");
    assert_eq!((again.next(), again.chunk()), (page.next(), page.chunk()));
}
