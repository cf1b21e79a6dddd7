//! Layouts are balanced, complete, near to what unlimited clusters would give, and can be stopped.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use half::f16;
use leann_graph::{F16Rows, F32Rows, PageSize, Rows, Unfinished, balanced_pages};
use proptest::prelude::*;
use support::{clustered, dot};

fn lay(rows: &dyn Rows, fill: usize, capacity: usize) -> Vec<u32> {
    balanced_pages(rows, PageSize { fill, capacity }, 1, &|| false, &|_, _| ()).unwrap()
}

/// Rows per page; fails if a page is empty, too full, or beyond the number that there may be.
fn check(pages: &[u32], fill: usize, capacity: usize) {
    let expected = pages.len().div_ceil(fill);
    let mut sizes = HashMap::new();
    for page in pages {
        *sizes.entry(*page).or_insert(0usize) += 1;
    }
    assert_eq!(sizes.len(), expected, "pages used");
    assert!(sizes.keys().all(|page| (*page as usize) < expected));
    assert!(sizes.values().all(|size| *size <= capacity.max(fill)), "{sizes:?}");
}

#[test]
fn small_and_degenerate_inputs() {
    assert!(lay(&F32Rows::new(&[], 3), 10, 10).is_empty());
    assert_eq!(lay(&F32Rows::new(&[1.0, 0.0], 2), 10, 10), [0]);
    let few = clustered(7, 4, 2, 1);
    assert_eq!(lay(&F32Rows::new(&few, 4), 10, 10), [0; 7]);
    check(&lay(&F32Rows::new(&few, 4), 1, 1), 1, 1);
    check(&lay(&F32Rows::new(&few, 4), 0, 0), 1, 1);
    let zeros = vec![0.0; 50 * 4];
    check(&lay(&F32Rows::new(&zeros, 4), 8, 9), 8, 9);
}

#[test]
fn many_identical_rows() {
    let mut vectors: Vec<f32> = std::iter::repeat_n([0.6f32, 0.8], 9000).flatten().collect();
    vectors.extend(clustered(1000, 2, 10, 5));
    let start = Instant::now();
    check(&lay(&F32Rows::new(&vectors, 2), 97, 100), 97, 100);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn f16_and_f32_rows_agree() {
    let vectors = clustered(600, 12, 9, 2);
    let halves: Vec<f16> = vectors.iter().map(|x| f16::from_f32(*x)).collect();
    let back: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    assert_eq!(lay(&F16Rows::new(&halves, 12), 30, 31), lay(&F32Rows::new(&back, 12), 30, 31));
}

#[test]
fn the_same_for_any_number_of_threads() {
    let vectors = clustered(3000, 16, 20, 8);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| lay(&F32Rows::new(&vectors, 16), 50, 52))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn neighbours_share_pages() {
    // 40 clusters of 50: a page of 50 should hold about one cluster.
    let (n, d) = (2000, 24);
    let vectors = clustered(n, d, 40, 6);
    let pages = lay(&F32Rows::new(&vectors, d), 50, 52);
    check(&pages, 50, 52);
    let mut together = 0;
    for row in (0..n).step_by(20) {
        let vector = &vectors[row * d..(row + 1) * d];
        let mut near: Vec<usize> = (0..n).filter(|other| *other != row).collect();
        near.sort_by(|a, b| {
            let similarity = |i: usize| dot(vector, &vectors[i * d..(i + 1) * d]);
            similarity(*b).total_cmp(&similarity(*a))
        });
        together += near[..10].iter().filter(|other| pages[**other] == pages[row]).count();
    }
    assert!(together >= 750, "{together} of 1000 near pairs share a page");
}

#[test]
fn stops_soon() {
    let vectors = clustered(20_000, 64, 100, 3);
    let polls = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let stop = || {
        polls.fetch_add(1, Relaxed);
        stopped.load(Relaxed)
    };
    let size = PageSize { fill: 100, capacity: 103 };
    std::thread::scope(|scope| {
        let work = scope.spawn(|| balanced_pages(&F32Rows::new(&vectors, 64), size, 1, &stop, &|_, _| ()));
        while polls.load(Relaxed) < 100 {
            std::thread::yield_now();
        }
        stopped.store(true, Relaxed);
        let since = Instant::now();
        assert_eq!(work.join().unwrap(), Err(Unfinished::Stopped));
        assert!(since.elapsed() < Duration::from_millis(500));
    });
}

#[test]
fn progress_ends_at_its_total() {
    let vectors = clustered(2000, 8, 10, 3);
    let (last, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let progress = |done, all| {
        assert!(done <= all);
        assert!(last.fetch_max(done, Relaxed) <= done);
        total.store(all, Relaxed);
    };
    balanced_pages(&F32Rows::new(&vectors, 8), PageSize { fill: 20, capacity: 21 }, 1, &|| false, &progress)
        .unwrap();
    assert_eq!(last.load(Relaxed), total.load(Relaxed));
    assert!(total.load(Relaxed) > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn always_balanced(n in 0usize..400, fill in 1usize..60, slack in 0usize..5, clusters in 1usize..9, seed in any::<u32>()) {
        let vectors = clustered(n, 6, clusters, seed.into());
        let pages = lay(&F32Rows::new(&vectors, 6), fill, fill + slack);
        prop_assert_eq!(pages.len(), n);
        check(&pages, fill, fill + slack);
    }
}
