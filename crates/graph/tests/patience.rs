//! The default patience grows with the index, more slowly the larger that is.

use leann_graph::default_patience;

#[test]
fn by_the_number_of_pages() {
    let expected =
        [(0, 8), (49, 8), (110, 9), (383, 31), (1536, 128), (7416, 281), (74_160, 889), (u32::MAX, 214_039)];
    for (pages, patience) in expected {
        assert_eq!(default_patience(pages, 1.0), patience, "{pages} pages");
    }
}

#[test]
fn never_shrinks() {
    for pages in 1..100_000 {
        assert!(default_patience(pages, 1.0) >= default_patience(pages - 1, 1.0), "{pages} pages");
    }
}

#[test]
fn grows_with_the_strangeness_of_the_query() {
    for (strangeness, patience) in [(0.0, 31), (f32::NEG_INFINITY, 31), (1.0, 31), (4.0, 248), (1e9, 248)] {
        assert_eq!(default_patience(383, strangeness), patience, "{strangeness}");
    }
    assert_eq!(default_patience(383, f32::NAN), 0, "which no query has");
}
