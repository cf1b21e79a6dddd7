//! Hub pages: every operation, and random sequences of them against a plain list of slots.

use leann_page::{HubEntry, HubPage, HubPageMut, HubRef, MAX_LINKS, NO_PAGE, NewHub, PageError, PageKind};
use proptest::collection::vec;
use proptest::prelude::*;

const HEADER_BYTES: usize = 20;

fn links(n: usize) -> Vec<HubRef> {
    (0..n as u32).map(|i| HubRef { page: i * 1000, slot: i as u16 }).collect()
}

fn empty() -> Vec<u8> {
    let mut body = vec![0x55; 1024];
    HubPageMut::init(&mut body, 4, 10, 5).unwrap();
    body
}

fn center(entry: &HubEntry<'_>) -> Vec<f32> {
    let mut out = vec![f32::NAN; entry.center_len()];
    entry.decode_center(&mut out);
    out
}

fn near(got: &[f32], expected: &[f32]) -> bool {
    let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
    got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| (a - b).abs() <= largest / 253.0)
}

#[test]
fn capacity_is_what_fits() {
    assert_eq!(HubPage::capacity_for(8168, 96, 32), 26);
    assert_eq!(HubPage::capacity_for(HEADER_BYTES + 16, 0, 0), 1);
    assert_eq!(HubPage::capacity_for(HEADER_BYTES + 15, 0, 0), 0);
    assert_eq!(HubPage::capacity_for(0, 10, 5), 0);
    assert_eq!(HubPage::capacity_for(1 << 24, 65_536, 0), 0);
    assert_eq!(HubPage::capacity_for(1 << 24, 10, MAX_LINKS + 1), 0);
    assert_eq!(HubPage::capacity_for(usize::MAX, 0, 0), 65_535);
}

#[test]
fn a_new_page_is_empty() {
    let body = empty();
    let page = HubPage::parse(&body).unwrap();
    assert_eq!((page.generation(), page.next(), page.center_len(), page.max_links()), (4, NO_PAGE, 10, 5));
    assert_eq!(page.capacity(), 1004 / 56);
    assert_eq!((page.entries().count(), page.free_slot()), (0, Some(0)));
    assert!(page.entry(0).is_none() && page.entry(u16::MAX).is_none());
    assert!(body[HEADER_BYTES..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_page_that_holds_nothing_is_refused() {
    for (len, center_len, max_links) in [(1024, 1000, 0), (1024, 0, 256), (1024, 65_536, 0), (10, 4, 4)] {
        let mut body = vec![0x55; len];
        let error = HubPageMut::init(&mut body, 1, center_len, max_links).unwrap_err();
        assert!(matches!(error, PageError::Unstorable { .. }), "{error}");
        assert_eq!(body, vec![0x55; len]);
    }
}

#[test]
fn an_entry_comes_back() {
    let mut body = empty();
    let mut page = HubPageMut::parse(&mut body).unwrap();
    let values: Vec<f32> = (0..10).map(|i| (i as f32 - 4.0) * 0.1).collect();
    let hub = NewHub { node_block: 77, node_generation: 3, spread: 0.3, center: &values, links: &links(4) };
    page.put(2, &hub).unwrap();

    let page = HubPage::parse(&body).unwrap();
    assert_eq!(
        (page.entries().map(|(slot, _)| slot).collect::<Vec<_>>(), page.free_slot()),
        (vec![2], Some(0))
    );
    let entry = page.entry(2).unwrap();
    assert_eq!((entry.node_block(), entry.node_generation(), entry.center_len()), (77, 3, 10));
    assert!((entry.spread() - 0.3).abs() < 0.3 / 2048.0);
    assert!(near(&center(&entry), &values));
    assert_eq!(center(&entry)[9], 0.5, "the largest magnitude is exact");
    assert_eq!(entry.links().collect::<Vec<_>>(), links(4));
    let slot = HEADER_BYTES + 2 * 56..HEADER_BYTES + 3 * 56;
    assert!((HEADER_BYTES..1024).all(|at| slot.contains(&at) || body[at] == 0));
}

#[test]
fn centers_and_links_are_cut_or_filled_up() {
    let mut body = empty();
    let mut page = HubPageMut::parse(&mut body).unwrap();
    // The eleventh value would set the scale, and is not even finite, but is cut before it counts.
    let long: Vec<f32> = (0..10).map(|_| 0.25).chain([f32::INFINITY]).collect();
    let hub = NewHub { node_block: 1, node_generation: 1, spread: 0.0, center: &long, links: &links(9) };
    page.put(0, &hub).unwrap();
    page.put(1, &NewHub { center: &[-1.0], links: &[], ..hub }).unwrap();
    let page = page.view();
    let entry = page.entry(0).unwrap();
    assert_eq!(center(&entry), [0.25; 10]);
    assert_eq!(entry.links().collect::<Vec<_>>(), links(5));
    assert_eq!(center(&page.entry(1).unwrap()), [-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);

    let (mut short, mut longer) = ([9.0; 3], [9.0; 12]);
    entry.decode_center(&mut short);
    entry.decode_center(&mut longer);
    assert_eq!(short, [0.25; 3]);
    assert_eq!(longer[9..], [0.25, 0.0, 0.0]);
}

#[test]
fn writing_an_entry_again_leaves_nothing_of_the_old() {
    let mut body = empty();
    let mut page = HubPageMut::parse(&mut body).unwrap();
    let old = NewHub { node_block: 1, node_generation: 1, spread: 2.0, center: &[1.0; 10], links: &links(5) };
    let new = NewHub { node_block: 2, node_generation: 9, spread: 0.5, center: &[0.5], links: &links(1) };
    page.put(3, &old).unwrap();
    page.put(3, &new).unwrap();
    let mut fresh = empty();
    HubPageMut::parse(&mut fresh).unwrap().put(3, &new).unwrap();
    assert_eq!(body, fresh);
}

#[test]
fn parts_of_an_entry_change_alone() {
    let mut body = empty();
    let mut page = HubPageMut::parse(&mut body).unwrap();
    let old = NewHub { node_block: 1, node_generation: 1, spread: 2.0, center: &[1.0; 10], links: &links(5) };
    page.put(3, &old).unwrap();
    page.set_links(3, &links(2)).unwrap();
    page.set_node(3, 50, 60).unwrap();
    page.set_center(3, &[0.0; 10], 0.25).unwrap();
    page.set_next(8);
    page.set_generation(99);
    let new = NewHub { node_block: 50, node_generation: 60, spread: 0.25, center: &[], links: &links(2) };
    let mut fresh = empty();
    let mut expected = HubPageMut::parse(&mut fresh).unwrap();
    expected.put(3, &new).unwrap();
    expected.set_next(8);
    expected.set_generation(99);
    assert_eq!(body, fresh);
    let page = HubPage::parse(&body).unwrap();
    assert_eq!((page.next(), page.generation()), (8, 99));
}

#[test]
fn slots_that_are_not_there_are_refused() {
    let mut body = empty();
    let before = body.clone();
    let mut page = HubPageMut::parse(&mut body).unwrap();
    let hub = NewHub { node_block: 1, node_generation: 1, spread: 2.0, center: &[1.0], links: &[] };
    for slot in [17, u16::MAX] {
        assert_eq!(page.put(slot, &hub), Err(PageError::NoEntry { slot }));
        assert_eq!(page.clear(slot), Err(PageError::NoEntry { slot }));
    }
    for slot in [0, 16, 17] {
        let error = Err(PageError::NoEntry { slot });
        assert_eq!(page.set_links(slot, &[]), error);
        assert_eq!(page.set_node(slot, 1, 1), error);
        assert_eq!(page.set_center(slot, &[], 0.0), error);
    }
    assert_eq!(body, before);
}

#[test]
fn values_that_cannot_be_stored_are_refused() {
    let mut body = empty();
    let mut page = HubPageMut::parse(&mut body).unwrap();
    let hub = NewHub { node_block: 1, node_generation: 1, spread: 2.0, center: &[1.0], links: &[] };
    page.put(0, &hub).unwrap();
    for spread in [-0.5, f32::NAN, f32::INFINITY, 70_000.0] {
        assert!(matches!(page.put(0, &NewHub { spread, ..hub }), Err(PageError::Unstorable { .. })));
        assert!(matches!(page.set_center(0, &[2.0], spread), Err(PageError::Unstorable { .. })));
    }
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let center = [0.5, value];
        assert!(matches!(page.put(0, &NewHub { center: &center, ..hub }), Err(PageError::Unstorable { .. })));
        assert!(matches!(page.set_center(0, &center, 1.0), Err(PageError::Unstorable { .. })));
    }
    let mut fresh = empty();
    HubPageMut::parse(&mut fresh).unwrap().put(0, &hub).unwrap();
    assert_eq!(body, fresh);
}

#[test]
fn extreme_centers_stay_finite() {
    let mut body = empty();
    let mut page = HubPageMut::parse(&mut body).unwrap();
    for value in [1e38, f32::MIN_POSITIVE, f32::from_bits(1), 0.0, -0.0] {
        page.put(
            0,
            &NewHub { node_block: 1, node_generation: 1, spread: -0.0, center: &[value], links: &[] },
        )
        .unwrap();
        let got = center(&page.view().entry(0).unwrap());
        assert!((got[0] - value).abs() <= value.abs() && got[1] == 0.0, "{value:e} came back as {got:?}");
    }
    HubPage::parse(&body).unwrap();
}

#[test]
fn slots_fill_and_free() {
    let mut body = empty();
    let mut page = HubPageMut::parse(&mut body).unwrap();
    let hub = NewHub { node_block: 1, node_generation: 1, spread: 2.0, center: &[1.0; 10], links: &links(5) };
    for expected in 0..17 {
        assert_eq!(page.view().free_slot(), Some(expected));
        page.put(expected, &hub).unwrap();
    }
    assert_eq!(page.view().free_slot(), None);
    page.clear(6).unwrap();
    assert_eq!(page.view().free_slot(), Some(6));
    assert!(page.view().entry(6).is_none());
    assert_eq!(page.view().entries().count(), 16);
    (0..17).for_each(|slot| page.clear(slot).unwrap());
    assert_eq!(body, empty());
}

#[test]
fn impossible_headers_are_refused() {
    // Six links instead of five, 62 bytes an entry, leave room for only 16 of the 17.
    let cases: [(usize, u16, &str); 6] = [
        (12, 0, "hub page capacity"),
        (12, 18, "hub page capacity"),
        (14, 2000, "hub page capacity"),
        (16, 6, "hub page capacity"),
        (16, 256, "hub link limit"),
        (18, 1, "reserved bytes of a hub page"),
    ];
    for (at, value, expected) in cases {
        let mut body = empty();
        body[at..at + 2].copy_from_slice(&value.to_le_bytes());
        let error = HubPage::parse(&body).unwrap_err();
        assert!(matches!(error, PageError::Damaged { what, .. } if what == expected), "{error}");
        assert_eq!(HubPageMut::parse(&mut body).unwrap_err(), error);
    }
    let wrong = PageError::WrongKind { expected: PageKind::Hub, found: PageKind::Zero };
    assert_eq!(HubPage::parse(&[0; 1024]).unwrap_err(), wrong);
    assert_eq!(HubPage::parse(&empty()[..19]).unwrap_err(), PageError::Short { len: 19, needed: 20 });
}

#[test]
fn impossible_entries_are_refused() {
    let cases: [(usize, &[u8], &str); 8] = [
        (0, &[2], "use of a hub slot"),
        (1, &[6], "hub link count"),
        (2, &[0x00, 0x7C], "hub spread"), // infinite
        (2, &[0x01, 0x7E], "hub spread"), // not a number
        (2, &[0x00, 0xBC], "hub spread"), // -1
        (12, &f32::INFINITY.to_le_bytes(), "hub scale"),
        (12, &f32::NAN.to_le_bytes(), "hub scale"),
        (12, &(-1.0f32).to_le_bytes(), "hub scale"),
    ];
    for (at, bytes, expected) in cases {
        let mut body = empty();
        let hub = NewHub { node_block: 1, node_generation: 1, spread: 2.0, center: &[1.0], links: &[] };
        HubPageMut::parse(&mut body).unwrap().put(4, &hub).unwrap();
        let at = HEADER_BYTES + 4 * 56 + at;
        body[at..at + bytes.len()].copy_from_slice(bytes);
        let error = HubPage::parse(&body).unwrap_err();
        assert!(matches!(error, PageError::Damaged { what, .. } if what == expected), "{error}");
    }
}

/// What a slot should hold.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    node: (u32, u32),
    spread: f32,
    center: Vec<f32>,
    links: Vec<HubRef>,
}

#[derive(Clone, Debug)]
enum Op {
    Put(u16, Model),
    SetLinks(u16, Vec<HubRef>),
    SetNode(u16, (u32, u32)),
    SetCenter(u16, Vec<f32>, f32),
    Clear(u16),
    SetNext(u32),
    SetGeneration(u32),
    Reparse,
}

fn refs() -> impl Strategy<Value = Vec<HubRef>> {
    vec(any::<(u32, u16)>().prop_map(|(page, slot)| HubRef { page, slot }), 0..12)
}

/// Every value is a multiple of 1/64, so that the f16 holds it exactly.
fn spread() -> impl Strategy<Value = f32> {
    (0..128u8).prop_map(|n| f32::from(n) / 64.0)
}

fn model() -> impl Strategy<Value = Model> {
    (any::<(u32, u32)>(), spread(), vec(-1.0..1.0f32, 0..30), refs())
        .prop_map(|(node, spread, center, links)| Model { node, spread, center, links })
}

fn op() -> impl Strategy<Value = Op> {
    let slot = || 0..24u16;
    prop_oneof![
        6 => (slot(), model()).prop_map(|(slot, model)| Op::Put(slot, model)),
        2 => (slot(), refs()).prop_map(|(slot, links)| Op::SetLinks(slot, links)),
        2 => (slot(), any::<(u32, u32)>()).prop_map(|(slot, node)| Op::SetNode(slot, node)),
        2 => (slot(), vec(-1.0..1.0f32, 0..30), spread()).prop_map(|(slot, c, s)| Op::SetCenter(slot, c, s)),
        3 => slot().prop_map(Op::Clear),
        1 => any::<u32>().prop_map(Op::SetNext),
        1 => any::<u32>().prop_map(Op::SetGeneration),
        1 => Just(Op::Reparse),
    ]
}

fn used(slots: &mut [Option<Model>], slot: u16) -> Option<&mut Model> {
    slots.get_mut(usize::from(slot))?.as_mut()
}

/// Does the same to both; false when only one of them has the slot.
fn apply(page: &mut HubPageMut<'_>, slots: &mut [Option<Model>], op: &Op) -> bool {
    match op {
        Op::Put(slot, model) => {
            let hub = NewHub {
                node_block: model.node.0,
                node_generation: model.node.1,
                spread: model.spread,
                center: &model.center,
                links: &model.links,
            };
            let there = slots.get_mut(usize::from(*slot)).map(|slot| *slot = Some(model.clone()));
            page.put(*slot, &hub).is_ok() == there.is_some()
        }
        Op::SetLinks(slot, links) => {
            let there = used(slots, *slot).map(|model| model.links = links.clone());
            page.set_links(*slot, links).is_ok() == there.is_some()
        }
        Op::SetNode(slot, node) => {
            let there = used(slots, *slot).map(|model| model.node = *node);
            page.set_node(*slot, node.0, node.1).is_ok() == there.is_some()
        }
        Op::SetCenter(slot, center, spread) => {
            let there =
                used(slots, *slot).map(|model| (model.center, model.spread) = (center.clone(), *spread));
            page.set_center(*slot, center, *spread).is_ok() == there.is_some()
        }
        Op::Clear(slot) => {
            let there = slots.get_mut(usize::from(*slot)).map(|slot| *slot = None);
            page.clear(*slot).is_ok() == there.is_some()
        }
        Op::SetNext(next) => {
            page.set_next(*next);
            page.view().next() == *next
        }
        Op::SetGeneration(generation) => {
            page.set_generation(*generation);
            page.view().generation() == *generation
        }
        Op::Reparse => true,
    }
}

proptest! {
    #[test]
    fn a_page_is_a_list_of_slots(
        center_len in 0..40usize, max_links in 0..10usize, len in 1024..1500usize, ops in vec(op(), 0..60),
    ) {
        let mut body = vec![0x77; len];
        let mut page = HubPageMut::init(&mut body, 5, center_len, max_links).unwrap();
        let mut slots: Vec<Option<Model>> = vec![None; HubPage::capacity_for(len, center_len, max_links)];
        for op in &ops {
            prop_assert!(apply(&mut page, &mut slots, op), "{op:?}");
            if matches!(op, Op::Reparse) {
                page = HubPageMut::parse(&mut body).unwrap();
            }
            let free = slots.iter().position(Option::is_none);
            prop_assert_eq!(page.view().free_slot().map(usize::from), free);
        }
        let page = HubPage::parse(&body).unwrap();
        prop_assert_eq!(page.capacity(), slots.len());
        prop_assert_eq!(page.entries().count(), slots.iter().flatten().count());
        for (slot, model) in slots.iter().enumerate() {
            let entry = page.entry(slot as u16);
            prop_assert_eq!(entry.is_some(), model.is_some());
            let (Some(entry), Some(model)) = (entry, model) else { continue };
            prop_assert_eq!((entry.node_block(), entry.node_generation()), model.node);
            prop_assert_eq!(entry.spread(), model.spread);
            let expected_links: Vec<_> = model.links.iter().take(max_links).copied().collect();
            prop_assert_eq!(entry.links().collect::<Vec<_>>(), expected_links);
            let mut expected = model.center.clone();
            expected.resize(center_len, 0.0);
            prop_assert!(near(&center(&entry), &expected), "{:?} for {:?}", center(&entry), expected);
        }
    }
}
