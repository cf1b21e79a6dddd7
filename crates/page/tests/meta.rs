//! The meta page: decode is the exact inverse of encode, and impossible values are refused by both.

mod support;

use leann_page::{HubRef, Meta, NO_PAGE, PageError, PageKind, SketchForm};
use leann_value::MAX_DIM;
use proptest::collection::vec;
use proptest::prelude::*;
use support::sample_meta;

fn encoded(meta: &Meta) -> Vec<u8> {
    let mut body = vec![0x55; 1024];
    meta.encode(&mut body).unwrap();
    body
}

#[test]
fn an_example_comes_back() {
    assert_eq!(Meta::decode(&encoded(&sample_meta())), Ok(sample_meta()));
}

#[test]
fn limits_are_kept_exactly() {
    let mut meta = sample_meta();
    meta.model = "é".repeat(63) + "x";
    meta.entry_hubs = vec![HubRef { page: NO_PAGE, slot: u16::MAX }; 64];
    meta.dim = MAX_DIM as u32;
    assert_eq!(meta.model.len(), 127);
    assert_eq!(Meta::decode(&encoded(&meta)), Ok(meta.clone()));

    let refused = |meta: Meta, what: &'static str, value: u64| {
        let mut body = vec![0x55; 1024];
        assert_eq!(meta.encode(&mut body), Err(PageError::Unstorable { what, value }));
        assert_eq!(body, vec![0x55; 1024]);
    };
    refused(Meta { model: "é".repeat(64), ..meta.clone() }, "model name length", 128);
    refused(Meta { model: "a\0b".into(), ..meta.clone() }, "byte in the model name, at", 1);
    refused(
        Meta { entry_hubs: vec![HubRef { page: 0, slot: 0 }; 65], ..meta.clone() },
        "entry hub count",
        65,
    );
    refused(Meta { dim: MAX_DIM as u32 + 1, ..meta.clone() }, "number of dimensions", MAX_DIM as u64 + 1);
    assert_eq!(meta.encode(&mut [0; 600]), Err(PageError::Short { len: 600, needed: 660 }));
}

#[test]
fn impossible_bytes_are_refused() {
    let cases: [(usize, u8, &str); 9] = [
        (4, 1, "meta page generation"),
        (74, 1, "number of dimensions"),
        (116, 4, "form of sketches"),
        (117, 128, "model name length"),
        (117, 6, "bytes after the model name"),
        (118, 65, "entry hub count"),
        (118, 1, "bytes after the entry hubs"),
        (121, 0xFF, "byte in the model name, at"),
        (122, 0, "byte in the model name, at"),
    ];
    for (at, value, expected) in cases {
        let mut body = encoded(&sample_meta());
        body[at] = value;
        let error = Meta::decode(&body).unwrap_err();
        assert!(matches!(error, PageError::Damaged { what, .. } if what == expected), "{error}");
    }
}

#[test]
fn reserved_bytes_must_be_zero() {
    for at in [247, 660, 1023] {
        let mut body = encoded(&sample_meta());
        body[at] = 1;
        assert!(matches!(Meta::decode(&body), Err(PageError::Damaged { value: 1, .. })), "byte {at}");
    }
}

#[test]
fn other_pages_are_told() {
    let wrong = PageError::WrongKind { expected: PageKind::Meta, found: PageKind::Zero };
    assert_eq!(Meta::decode(&[0; 1024]), Err(wrong));
    assert_eq!(
        Meta::decode(&encoded(&sample_meta())[..659]),
        Err(PageError::Short { len: 659, needed: 660 })
    );
    let mut body = encoded(&sample_meta());
    body[3] = 2;
    assert_eq!(Meta::decode(&body), Err(PageError::Version { found: 2, supported: 1 }));
}

prop_compose! {
    fn any_meta()(
        (index_id, seed, rows_at_build, nodes, truncated_rows) in any::<(u64, u64, u64, u64, u64)>(),
        model in "[^\\x00]{0,31}",
        (fingerprint, form) in any::<([u8; 32], u8)>(),
        dim in 0..=MAX_DIM as u32,
        (sketch_bytes, components, center_len, max_links) in any::<(u16, u16, u16, u16)>(),
        (untrained_nodes, untrained_at_build, fit_at_build) in any::<(u64, u64, u32)>(),
        (rows_trained, params_first, params_len, params_checksum) in any::<(u32, u32, u32, u32)>(),
        (hub_first, node_pages, hub_pages, free_pages) in any::<(u32, u32, u32, u32)>(),
        entry_hubs in vec(any::<(u32, u16)>(), 0..=64),
    ) -> Meta {
        let forms =
            [SketchForm::Untrained, SketchForm::Trained, SketchForm::Float16, SketchForm::TrainedInPlace];
        let sketch_form = forms[form as usize % 4];
        let entry_hubs = entry_hubs.into_iter().map(|(page, slot)| HubRef { page, slot }).collect();
        Meta {
            index_id, model, fingerprint, dim, sketch_bytes, components, center_len, max_links, sketch_form,
            seed, rows_trained, truncated_rows, params_first, params_len, params_checksum, hub_first,
            entry_hubs, rows_at_build, nodes, untrained_nodes, untrained_at_build, fit_at_build, node_pages,
            hub_pages, free_pages,
        }
    }
}

proptest! {
    #[test]
    fn decode_is_the_inverse_of_encode(meta in any_meta(), len in 1024..9000usize) {
        let mut body = vec![0x55; len];
        meta.encode(&mut body).unwrap();
        prop_assert_eq!(Meta::decode(&body), Ok(meta));
    }
}
