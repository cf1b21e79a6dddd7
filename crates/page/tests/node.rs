//! Node pages: every operation, and random sequences of them against a plain list.

use leann_page::{HeapPointer, HubRef, NodePage, NodePageMut, PageError, PageKind, PointerForm};
use proptest::collection::vec;
use proptest::prelude::*;

const HUB: HubRef = HubRef { page: 3, slot: 9 };

fn pointer(n: u32) -> HeapPointer {
    HeapPointer { block: n, offset: (n % 200) as u16 + 1 }
}

fn sketch(n: u32, len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (n * 7 + i) as u8).collect()
}

/// A page of 1 KiB with sketches of 20 bytes and the first `n` nodes.
fn filled(n: u32) -> Vec<u8> {
    let mut body = vec![0x55; 1024];
    let mut page = NodePageMut::init(&mut body, 1, 20, HUB).unwrap();
    for i in 0..n {
        page.push(pointer(i), &sketch(i, 20)).unwrap();
    }
    body
}

fn nodes(body: &[u8]) -> Vec<(HeapPointer, Vec<u8>)> {
    let page = NodePage::parse(body).unwrap();
    assert_eq!(page.sketches().len(), page.count() * page.sketch_bytes());
    page.heap_pointers().zip(page.sketches().chunks(page.sketch_bytes()).map(<[u8]>::to_vec)).collect()
}

/// The sketch of node `i`.
fn sketch_of<'a>(page: &NodePage<'a>, i: usize) -> Option<&'a [u8]> {
    page.sketches().chunks_exact(page.sketch_bytes()).nth(i)
}

/// Offsets of the bytes in which two bodies differ.
fn changed(before: &[u8], after: &[u8]) -> Vec<usize> {
    (0..before.len()).filter(|&i| before[i] != after[i]).collect()
}

fn narrow() -> PointerForm {
    PointerForm::holding_all([])
}

#[test]
fn capacity_is_what_fits() {
    assert_eq!(NodePage::capacity_for(8168, 56, narrow()), 138);
    assert_eq!(NodePage::capacity_for(8168, 52, narrow()), 148);
    assert_eq!(NodePage::capacity_for(8168, 56, PointerForm::WIDEST), 131);
    assert_eq!(NodePage::capacity_for(22 + 59, 56, narrow()), 1);
    assert_eq!(NodePage::capacity_for(22 + 58, 56, narrow()), 0);
    assert_eq!(NodePage::capacity_for(0, 56, narrow()), 0);
    assert_eq!(NodePage::capacity_for(8168, 0, narrow()), 0);
    assert_eq!(NodePage::capacity_for(1 << 20, 65_536, narrow()), 0);
    assert_eq!(NodePage::capacity_for(1 << 20, 1, narrow()), 65_535);
}

#[test]
fn a_new_page_is_empty() {
    let body = filled(0);
    let page = NodePage::parse(&body).unwrap();
    assert_eq!((page.generation(), page.count(), page.hub(), page.sketch_bytes()), (1, 0, HUB, 20));
    assert_eq!(page.capacity(), NodePage::capacity_for(1024, 20, narrow()));
    assert!(page.sketches().is_empty());
    assert_eq!((page.heap_pointer(0), sketch_of(&page, 0)), (None, None));
    assert!(body[22..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_page_that_holds_nothing_is_refused() {
    for (len, sketch_bytes) in [(1024, 0), (1024, 1000), (1024, 997), (1024, 70_000), (10, 4)] {
        let mut body = vec![0x55; len];
        let error = NodePageMut::init(&mut body, 1, sketch_bytes, HUB).unwrap_err();
        assert!(matches!(error, PageError::Unstorable { .. }), "{error}");
        assert_eq!(body, vec![0x55; len]);
    }
}

#[test]
fn the_largest_and_smallest_bodies_fill() {
    for len in [1024, 8168, 65_536] {
        let mut body = vec![1; len];
        let mut page = NodePageMut::init(&mut body, 0, 56, HUB).unwrap();
        let capacity = NodePage::capacity_for(len, 56, narrow()) as u32;
        for i in 0..capacity {
            page.push(pointer(i), &sketch(i, 56)).unwrap();
        }
        assert_eq!(page.push(pointer(capacity), &sketch(0, 56)), Err(PageError::Full));
        let expected: Vec<_> = (0..capacity).map(|i| (pointer(i), sketch(i, 56))).collect();
        assert_eq!(nodes(&body), expected);
    }
}

#[test]
fn push_appends_and_touches_only_its_slot() {
    let before = filled(5);
    let after = filled(6);
    let capacity = NodePage::capacity_for(1024, 20, narrow());
    let slots = [8..10, 22 + 5 * 3..22 + 6 * 3, 22 + capacity * 3 + 100..22 + capacity * 3 + 120];
    assert!(changed(&before, &after).iter().all(|at| slots.iter().any(|slot| slot.contains(at))));

    let page = NodePage::parse(&after).unwrap();
    assert_eq!(page.heap_pointer(5), Some(pointer(5)));
    assert_eq!(sketch_of(&page, 5), Some(&sketch(5, 20)[..]));
    assert_eq!((page.heap_pointer(6), sketch_of(&page, 6)), (None, None));
}

#[test]
fn push_refuses_what_cannot_be_stored() {
    let mut body = filled(2);
    let before = body.clone();
    let mut page = NodePageMut::parse(&mut body).unwrap();
    let zero = HeapPointer { block: 4, offset: 0 };
    let what = "heap pointer offset";
    assert_eq!(page.push(zero, &sketch(1, 20)), Err(PageError::Unstorable { what, value: 0 }));
    for len in [0, 19, 21] {
        let error = PageError::Unstorable { what: "sketch length", value: len as u64 };
        assert_eq!(page.push(pointer(1), &sketch(1, len)), Err(error));
    }
    assert_eq!(body, before);
}

#[test]
fn swap_remove_fills_the_gap_and_zeroes_the_last_slot() {
    let mut body = filled(5);
    let mut page = NodePageMut::parse(&mut body).unwrap();
    assert_eq!(page.swap_remove(5), None);
    assert_eq!(page.swap_remove(usize::MAX), None);
    assert_eq!(page.swap_remove(1), Some(pointer(1)));
    assert_eq!(page.view().heap_pointer(1), Some(pointer(4)));
    assert_eq!(page.swap_remove(3), Some(pointer(3)));
    let expected: Vec<_> = [0, 4, 2].map(|i| (pointer(i), sketch(i, 20))).into();
    assert_eq!(nodes(&body), expected);

    // The page is now, byte for byte, one on which nothing was ever removed.
    let mut fresh = filled(0);
    let mut page = NodePageMut::parse(&mut fresh).unwrap();
    expected.iter().for_each(|(pointer, sketch)| page.push(*pointer, sketch).unwrap());
    assert_eq!(body, fresh);
}

#[test]
fn remove_where_asks_of_every_node_once() {
    let mut body = filled(20);
    let mut page = NodePageMut::parse(&mut body).unwrap();
    let mut asked = Vec::new();
    let removed = page.remove_where(|pointer| {
        asked.push(pointer.block);
        pointer.block >= 13 || pointer.block % 3 == 0
    });
    asked.sort_unstable();
    assert_eq!(asked, (0..20).collect::<Vec<_>>());
    assert_eq!(removed, 12);
    let mut left: Vec<u32> = nodes(&body).iter().map(|(pointer, _)| pointer.block).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 2, 4, 5, 7, 8, 10, 11]);
}

#[test]
fn the_generation_changes_alone() {
    let before = filled(3);
    let mut body = before.clone();
    let mut page = NodePageMut::parse(&mut body).unwrap();
    page.set_generation(77);
    assert_eq!((page.view().generation(), page.view().hub()), (77, HUB));
    assert_eq!(nodes(&body), nodes(&before));
    assert!(changed(&before, &body).iter().all(|at| (4..8).contains(at)));
}

#[test]
fn impossible_headers_are_refused() {
    let capacity = NodePage::capacity_for(1024, 20, narrow()) as u64;
    let cases: [(usize, u16, &str); 8] = [
        (8, capacity as u16 + 1, "node count"),
        (10, capacity as u16 + 1, "node page capacity"),
        (10, 0, "node page capacity"),
        (12, 0, "sketch bytes"),
        (12, 1000, "node page capacity"),
        (20, 0x0C02, "bytes of a heap pointer"),
        (20, 0x0003, "offset bits of a heap pointer"),
        (20, 0x1103, "offset bits of a heap pointer"),
    ];
    for (at, value, expected) in cases {
        let mut body = filled(3);
        body[at..at + 2].copy_from_slice(&value.to_le_bytes());
        let error = NodePage::parse(&body).unwrap_err();
        assert!(matches!(error, PageError::Damaged { what, .. } if what == expected), "{error}");
        assert_eq!(NodePageMut::parse(&mut body).unwrap_err(), error);
    }
    let body = filled(3);
    assert!(NodePage::parse(&body[..1023]).is_ok(), "the last bytes are not in use");
    assert!(NodePage::parse(&body[..1000]).is_err(), "the capacity no longer fits");
    assert_eq!(NodePage::parse(&body[..17]).unwrap_err(), PageError::Short { len: 17, needed: 22 });
}

#[test]
fn impossible_pointers_are_refused() {
    let mut body = filled(3);
    body[22 + 2 * 3..22 + 3 * 3].fill(0);
    let error = PageError::Damaged { what: "heap pointer offset", value: 0 };
    assert_eq!(NodePage::parse(&body).unwrap_err(), error);

    // Six bytes with eight of their bits for the offset: forty are left for a block number of at most 32.
    let mut body = filled(0);
    let mut page = NodePageMut::init(&mut body, 1, 20, HUB).unwrap();
    page.push(HeapPointer { block: u32::MAX, offset: 1 }, &sketch(0, 20)).unwrap();
    assert_eq!(body[20..22], [5, 4], "33 bits in five bytes, three of the seven to spare for the offset");
    body[22..27].fill(0xFF);
    let error = PageError::Damaged { what: "heap pointer block", value: (1 << 36) - 1 };
    assert_eq!(NodePage::parse(&body).unwrap_err(), error);
}

/// A page widens its pointers when it must, keeps what it has, and is full when that leaves no room.
#[test]
fn a_pointer_that_needs_more_bytes_lays_the_page_out_anew() {
    let far = HeapPointer { block: 1 << 23, offset: 3 };
    let narrow_capacity = NodePage::capacity_for(1024, 20, narrow()) as u32;
    let wider = PointerForm::holding(far.block, narrow_capacity as u16);
    let capacity = NodePage::capacity_for(1024, 20, wider) as u32;
    assert!(wider.bytes() == 4 && capacity < narrow_capacity);

    let mut body = filled(capacity - 1);
    let mut page = NodePageMut::parse(&mut body).unwrap();
    assert!(page.view().has_room_for(far));
    page.push(far, &sketch(77, 20)).unwrap();
    assert_eq!((page.view().count(), page.view().capacity()), (capacity as usize, capacity as usize));
    let mut expected: Vec<_> = (0..capacity - 1).map(|i| (pointer(i), sketch(i, 20))).collect();
    expected.push((far, sketch(77, 20)));
    assert_eq!(nodes(&body), expected);

    for count in [capacity, narrow_capacity] {
        let mut body = filled(count);
        let before = body.clone();
        let mut page = NodePageMut::parse(&mut body).unwrap();
        assert!(!page.view().has_room_for(far));
        assert_eq!(page.push(far, &sketch(77, 20)), Err(PageError::Full));
        assert_eq!(body, before);
    }
}

#[test]
fn other_kinds_are_told() {
    let wrong = PageError::WrongKind { expected: PageKind::Node, found: PageKind::Zero };
    assert_eq!(NodePage::parse(&[0; 1024]).unwrap_err(), wrong);
    assert_eq!(NodePageMut::parse(&mut [0; 1024]).unwrap_err(), wrong);
}

#[derive(Clone, Debug)]
enum Op {
    Push(u32, u16, u8),
    SwapRemove(usize),
    RemoveWhere(u16),
    SetGeneration(u32),
    Reparse,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (any::<u32>(), 0..32u32, any::<u16>(), 8..16u32, any::<u8>())
            .prop_map(|(block, right, offset, down, fill)| Op::Push(block >> right, offset >> down, fill)),
        4 => (0..40usize).prop_map(Op::SwapRemove),
        1 => (0..5u16).prop_map(Op::RemoveWhere),
        1 => any::<u32>().prop_map(Op::SetGeneration),
        2 => Just(Op::Reparse),
    ]
}

proptest! {
    #[test]
    fn a_page_is_a_list(sketch_bytes in 1..80usize, len in 1024..2048usize, ops in vec(op(), 0..120)) {
        let mut body = vec![0x77; len];
        let mut list: Vec<(HeapPointer, Vec<u8>)> = Vec::new();
        let mut generation = 5;
        let mut page = NodePageMut::init(&mut body, generation, sketch_bytes, HUB).unwrap();
        for op in ops {
            match op {
                Op::Push(block, offset, fill) => {
                    let pointer = HeapPointer { block, offset };
                    let sketch = vec![fill; sketch_bytes];
                    let pointers = list.iter().map(|(pointer, _)| *pointer);
                    let all = PointerForm::holding_all(pointers.chain([pointer]));
                    let room = page.view().has_room_for(pointer);
                    let capacity = |form| NodePage::capacity_for(len, sketch_bytes, form);
                    prop_assert!(room || list.len() >= capacity(PointerForm::WIDEST));
                    prop_assert!(!room || list.len() < capacity(all));
                    let pushed = page.push(pointer, &sketch);
                    prop_assert_eq!(pushed.is_ok(), offset != 0 && room);
                    if pushed.is_ok() {
                        list.push((pointer, sketch));
                    }
                }
                Op::SwapRemove(i) => {
                    let expected = (i < list.len()).then(|| list.swap_remove(i).0);
                    prop_assert_eq!(page.swap_remove(i), expected);
                }
                Op::RemoveWhere(rest) => {
                    let before = list.len();
                    let dead = |pointer: HeapPointer| pointer.offset % 5 == rest;
                    list.retain(|(pointer, _)| !dead(*pointer));
                    prop_assert_eq!(page.remove_where(dead), before - list.len());
                    // The order in which gaps are filled is the page's own; only the set is promised.
                    let node = |(i, pointer)| (pointer, sketch_of(&page.view(), i).unwrap().to_vec());
                    let mut left: Vec<_> = page.view().heap_pointers().enumerate().map(node).collect();
                    let order = left.clone();
                    left.sort();
                    list.sort();
                    prop_assert_eq!(&left, &list);
                    list = order;
                }
                Op::SetGeneration(value) => { generation = value; page.set_generation(value) }
                Op::Reparse => page = NodePageMut::parse(&mut body).unwrap(),
            }
            let view = page.view();
            prop_assert_eq!(view.count(), list.len());
            prop_assert!(view.capacity() >= list.len());
            prop_assert_eq!((view.generation(), view.hub()), (generation, HUB));
        }
        prop_assert_eq!(nodes(&body), list.clone());

        // Nothing of what was removed stays behind.
        let (count, bytes) = (list.len(), usize::from(body[20]));
        let capacity = NodePage::parse(&body).unwrap().capacity();
        prop_assert_eq!(capacity, (len - 22) / (bytes + sketch_bytes));
        let (slots, sketches) = body[22..].split_at(capacity * bytes);
        let unused = slots[count * bytes..].iter().chain(&sketches[count * sketch_bytes..]);
        prop_assert!(unused.into_iter().all(|&byte| byte == 0));
    }
}
