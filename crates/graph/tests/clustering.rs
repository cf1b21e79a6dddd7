//! Pages are balanced, complete, near to what unlimited clusters would give; clustering can be stopped.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use half::f16;
use leann_graph::{F16Vectors, F32Vectors, PageSize, Unfinished, Vectors, balanced_pages};
use leann_vector::dot;
use proptest::prelude::*;
use support::clustered;

fn cluster(vectors: &dyn Vectors, fill: usize, capacity: usize) -> Vec<u32> {
    balanced_pages(vectors, PageSize { fill, capacity }, 1, &|| false, &|_, _| ()).unwrap()
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
    assert!(cluster(&F32Vectors::new(&[], 3), 10, 10).is_empty());
    assert_eq!(cluster(&F32Vectors::new(&[1.0, 0.0], 2), 10, 10), [0]);
    let few = clustered(7, 4, 2, 1);
    assert_eq!(cluster(&F32Vectors::new(&few, 4), 10, 10), [0; 7]);
    check(&cluster(&F32Vectors::new(&few, 4), 1, 1), 1, 1);
    check(&cluster(&F32Vectors::new(&few, 4), 0, 0), 1, 1);
    let zeros = vec![0.0; 50 * 4];
    check(&cluster(&F32Vectors::new(&zeros, 4), 8, 9), 8, 9);
}

#[test]
fn many_identical_rows() {
    let mut vectors: Vec<f32> = std::iter::repeat_n([0.6f32, 0.8], 9000).flatten().collect();
    vectors.extend(clustered(1000, 2, 10, 5));
    let start = Instant::now();
    check(&cluster(&F32Vectors::new(&vectors, 2), 97, 100), 97, 100);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn f16_and_f32_rows_agree() {
    let vectors = clustered(600, 12, 9, 2);
    let halves: Vec<f16> = vectors.iter().map(|x| f16::from_f32(*x)).collect();
    let back: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    assert_eq!(cluster(&F16Vectors::new(&halves, 12), 30, 31), cluster(&F32Vectors::new(&back, 12), 30, 31));
}

#[test]
fn the_same_for_any_number_of_threads() {
    let vectors = clustered(3000, 16, 20, 8);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| cluster(&F32Vectors::new(&vectors, 16), 50, 52))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn neighbors_share_pages() {
    // 40 clusters of 50: a page of 50 should hold about one cluster.
    let (n, d) = (2000, 24);
    let vectors = clustered(n, d, 40, 6);
    let pages = cluster(&F32Vectors::new(&vectors, d), 50, 52);
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
        let work = scope.spawn(|| balanced_pages(&F32Vectors::new(&vectors, 64), size, 1, &stop, &|_, _| ()));
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
    balanced_pages(
        &F32Vectors::new(&vectors, 8),
        PageSize { fill: 20, capacity: 21 },
        1,
        &|| false,
        &progress,
    )
    .unwrap();
    assert_eq!(last.load(Relaxed), total.load(Relaxed));
    assert!(total.load(Relaxed) > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn always_balanced(
        n in 0usize..400,
        fill in 1usize..60,
        slack in 0usize..5,
        clusters in 1usize..9,
        seed in any::<u32>(),
    ) {
        let vectors = clustered(n, 6, clusters, seed.into());
        let pages = cluster(&F32Vectors::new(&vectors, 6), fill, fill + slack);
        prop_assert_eq!(pages.len(), n);
        check(&pages, fill, fill + slack);
    }
}

/// Returns rows that differ from one another, around some centers.
fn noisy(rows: usize, d: usize) -> Vec<f32> {
    clustered(rows, d, 40, 3)
}

#[test]
fn rows_of_few_texts_among_different_ones() {
    // Most rows are one of a few: of one a hundred pages, of others some pages, of many less than a page.
    let (d, fill, capacity) = (8, 20, 22);
    let mut vectors = noisy(600, d);
    for (copies, of) in [(2000, 0), (70, 1), (40, 2), (19, 3), (19, 4), (20, 5), (21, 6)] {
        let row = vectors[of * d..(of + 1) * d].to_vec();
        vectors.extend(std::iter::repeat_n(row, copies - 1).flatten());
    }
    let pages = cluster(&F32Vectors::new(&vectors, d), fill, capacity);
    check(&pages, fill, capacity);
    // Copies fill pages of their own.
    let of_copies: std::collections::HashSet<u32> = pages[600..2599].iter().copied().collect();
    assert!(of_copies.len() <= 102, "{}", of_copies.len());
}

proptest! {
    #[test]
    fn any_multiplicities_are_balanced(
        values in prop::collection::vec(0usize..30, 0..600),
        fill in 1usize..12,
        slack in 0usize..3,
    ) {
        let different = noisy(30, 6);
        let vectors: Vec<f32> = values.iter().flat_map(|v| different[v * 6..(v + 1) * 6].to_vec()).collect();
        check(&cluster(&F32Vectors::new(&vectors, 6), fill, fill + slack), fill, fill + slack);
    }
}

/// Returns how long it takes to cluster so many rows of 64 dimensions, of which a share is one vector, and to
/// link the pages.
fn time_to_lay_out(rows: usize, copies: usize, spread: f32) -> Duration {
    let d = 64;
    let mut vectors = noisy(rows - copies, d);
    let first: Vec<f32> = vectors[..d].to_vec();
    let mut rng = leann_vector::Rng::new(4);
    for _ in 0..copies {
        vectors.extend(first.iter().map(|x| x + spread * (rng.below(2001) as f32 / 1000.0 - 1.0)));
    }
    let start = Instant::now();
    let pages = cluster(&F32Vectors::new(&vectors, d), 100, 104);
    check(&pages, 100, 104);
    start.elapsed()
}

#[test]
fn equal_and_nearly_equal_rows_take_no_longer_than_others() {
    // 300 pages per auction in one group, so few rows suffice to tell linear from quadratic time.
    let rows = 40_000;
    let different = time_to_lay_out(rows, 0, 0.0);
    for (copies, spread) in [(39_900, 0.0), (20_000, 0.0), (39_900, 1e-3), (39_900, 1e-6)] {
        let time = time_to_lay_out(rows, copies, spread);
        println!("{copies} copies give or take {spread}: {time:?}, different ones {different:?}");
        assert!(time < 3 * different + Duration::from_secs(1), "{copies}, {spread}: {time:?}, {different:?}");
    }
}
