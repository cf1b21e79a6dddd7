//! The default patience grows with the index, more slowly the larger that is.

use leann_graph::default_patience;

#[test]
fn by_the_number_of_pages() {
    let expected =
        [(0, 8), (49, 8), (110, 9), (383, 31), (1536, 128), (7416, 281), (74_160, 889), (u32::MAX, 214_039)];
    for (pages, patience) in expected {
        assert_eq!(default_patience(pages), patience, "{pages} pages");
    }
}

#[test]
fn never_shrinks() {
    for pages in 1..100_000 {
        assert!(default_patience(pages) >= default_patience(pages - 1), "{pages} pages");
    }
}
