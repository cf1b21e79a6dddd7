//! Measures what a clustering, a hub graph and the settings of a search cost, on real embeddings.
//!
//! ```text
//! cargo bench -p leann-graph --bench coverage -- layout|search|grow|partition|scale FOLDER…
//! ```
//!
//! A folder holds `embeddings.f16.npy` and `query_embeddings.f16.npy`: two-dimensional, one row each per
//! text.
//!
//! - `layout` prints the share of the true nearest ten on the pages visited, by number of pages and by share
//!   of all pages, for various components, links and beams.
//! - `search` prints recall and costs of whole searches under various settings.
//! - `grow` builds an index of 300 rows and inserts the others.
//! - `partition` compares pages by graph partitioning with those by clustering.
//! - `scale` does `layout` and `search` for 5,000 rows to a million; mixtures of near rows make up for what
//!   the folder lacks.

mod data;
mod index;
mod partition;
mod search;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use data::Data;
use index::{Index, Shape, train};
use leann_graph::default_patience;
use leann_graph::tuning::{self, DEFAULT_SKETCH_BYTES};
use leann_sketch::Sketcher;
use partition::{Neighbors, refined};
use search::{Coverage, Settings, exhaustive, ranked_hubs, search, walked};

/// The index that the extension builds.
const SHAPE: Shape = Shape {
    fill: tuning::DEFAULT_FILL_PERCENT as f32 / 100.0,
    components: tuning::CENTER_COMPONENTS,
    max_links: tuning::MAX_LINKS,
    entries: tuning::ENTRY_HUBS,
    place_beam: tuning::PLACE_BEAM,
    min_share: tuning::MIN_SPLIT_SHARE,
    spill: (0, 1.0),
};
/// The search that the extension does, except for patience.
const SETTINGS: Settings = Settings {
    ef: tuning::DEFAULT_EF_SEARCH,
    patience: 32,
    z: tuning::DEFAULT_RERANK_Z as f32,
    beam: tuning::SEARCH_BEAM,
    batch: tuning::DEFAULT_RECOMPUTE_BATCH,
    top: tuning::DEFAULT_EXPECTED_ROWS,
};
/// Rows of the indexes that `scale` makes.
const SIZES: [usize; 4] = [5_000, 50_000, 200_000, 1_000_000];
/// Nearest rows that `partition` wants on one page with a row.
const NEIGHBORS: usize = 12;
/// What the cosine to the center of a row's page counts, in edges: at 0 `partition` sees edges only.
const PULLS: [f32; 2] = [0.0, 30.0];
/// What `scale` multiplies the default patience by.
const PATIENCE_LADDER: [f32; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

fn main() -> Result<(), String> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some((mode, folders)) = arguments.split_first() else {
        return Err("usage: coverage layout|search|grow|partition|scale FOLDER…".into());
    };
    for folder in folders {
        println!("# {mode} {folder}");
        if mode == "scale" {
            SIZES.into_iter().try_for_each(|rows| scale(Path::new(folder), rows))?;
            continue;
        }
        let data = Data::open(Path::new(folder), mode == "grow")?;
        match mode.as_str() {
            "layout" => layout(&data)?,
            "search" => searches(&data)?,
            "grow" => grow(&data)?,
            "partition" => partition(&data)?,
            _ => return Err(format!("unknown mode {mode}")),
        }
    }
    Ok(())
}

fn trained(data: &Data, rows: usize) -> Result<Sketcher, String> {
    train(data, rows, DEFAULT_SKETCH_BYTES).map_err(|error| error.to_string())
}

/// Prints coverage by what is ranked: full means, hubs by components kept, walks by links and beam.
fn layout(data: &Data) -> Result<(), String> {
    let sketcher = trained(data, data.len())?;
    let start = Instant::now();
    let all_components = Shape { components: usize::MAX, ..SHAPE };
    let index = Index::build(data, data.len(), sketcher.clone(), all_components);
    print_index("built", &index, start);
    print_coverage("full means", &index, &exhaustive(&index));
    print_coverage("hubs, all components", &index, &ranked_hubs(&index));
    let page_of = index.page_of();
    for components in [64, 96, 128, 160, 192] {
        let index = Index::from_pages(data, &page_of, sketcher.clone(), Shape { components, ..SHAPE });
        let title = format!("hubs, {components} components, {:.1} B/row", index.hub_bytes_per_row());
        print_coverage(&title, &index, &ranked_hubs(&index));
    }
    for max_links in [8, 12, 16, 24] {
        let index = Index::from_pages(data, &page_of, sketcher.clone(), Shape { max_links, ..SHAPE });
        for beam in [1, 8, tuning::SEARCH_BEAM, 32] {
            print_coverage(&format!("walk, {max_links} links, beam {beam}"), &index, &walked(&index, beam));
        }
    }
    Ok(())
}

/// Prints recall and costs by settings.
fn searches(data: &Data) -> Result<(), String> {
    let start = Instant::now();
    let index = Index::build(data, data.len(), trained(data, data.len())?, SHAPE);
    print_index("built", &index, start);
    for (ef, patience) in [(64, 16), (64, 24), (64, 32), (128, 64)] {
        for z in [0.0, 0.35, 0.7] {
            print_search(&index, Settings { ef, patience, z, ..SETTINGS });
        }
    }
    for batch in [1, 8, 16] {
        print_search(&index, Settings { batch, ..SETTINGS });
    }
    for top in [1, 3, 20, 50] {
        print_search(&index, Settings { top, ..SETTINGS });
    }
    Ok(())
}

/// Compares pages by graph partitioning with those of balanced k-means that they start from.
fn partition(data: &Data) -> Result<(), String> {
    let sketcher = trained(data, data.len())?;
    let index = Index::build(data, data.len(), sketcher.clone(), SHAPE);
    let patience = default_patience(index.pages.len() as u32, 1.0) as usize;
    let page_of = index.page_of();
    let capacity = SHAPE.capacity(DEFAULT_SKETCH_BYTES);
    let start = Instant::now();
    let near = Neighbors::new(data, NEIGHBORS);
    println!("{NEIGHBORS} nearest rows of each row: {:.1?}", start.elapsed());
    let print = |title: &str, page_of: &[u32], index: &Index| {
        let title =
            format!("{title}, {:.3} of edges, {:.2} pages", near.kept(page_of), pages_of_top(data, page_of));
        print_coverage(&title, index, &ranked_hubs(index));
        print_search(index, Settings { patience, ..SETTINGS });
    };
    print("k-means", &page_of, &index);
    for pull in PULLS {
        let start = Instant::now();
        let refined = refined(data, &near, &page_of, capacity, pull);
        println!("refined with pull {pull}: {:.1?}", start.elapsed());
        let index = Index::from_pages(data, &refined, sketcher.clone(), SHAPE);
        print(&format!("pull {pull}"), &refined, &index);
    }
    Ok(())
}

/// Returns on how many pages the true nearest ten of a query lie, on average.
fn pages_of_top(data: &Data, page_of: &[u32]) -> f64 {
    let of_query = |truth: &[(u32, f32)]| {
        let pages: BTreeSet<u32> = truth.iter().take(10).map(|row| page_of[row.0 as usize]).collect();
        pages.len() as f64
    };
    data.queries().map(|(_, truth)| of_query(truth)).sum::<f64>() / data.truth.len() as f64
}

/// Prints what the walk costs in an index of `rows` rows, and what ranking all hubs would find.
fn scale(folder: &Path, rows: usize) -> Result<(), String> {
    let data = Data::scaled(folder, rows)?;
    let start = Instant::now();
    let index = Index::build(&data, rows, trained(&data, rows)?, SHAPE);
    print_index("built", &index, start);
    print_coverage("hubs ranked", &index, &ranked_hubs(&index));
    print_coverage("walk", &index, &walked(&index, SETTINGS.beam));
    let patience = default_patience(index.pages.len() as u32, 1.0) as usize;
    for times in PATIENCE_LADDER {
        print_search(&index, Settings { patience: (patience as f32 * times) as usize, ..SETTINGS });
    }
    print_search(&index, Settings { ef: 4 * SETTINGS.ef, patience: patience / 4, ..SETTINGS });
    Ok(())
}

/// Grows an index from a few rows to all, row by row.
fn grow(data: &Data) -> Result<(), String> {
    let n = data.len();
    let sketchers = [
        ("trained on all rows", trained(data, n)?),
        ("trained on 300 rows", trained(data, 300)?),
        ("untrained", Sketcher::untrained(data.dim, 1)),
    ];
    for (title, sketcher) in sketchers {
        for spill in [(0, 1.0), (tuning::SPILL_PAGES, tuning::MAX_SPILL_RATIO)] {
            let components = if sketcher.is_trained() { SHAPE.components } else { usize::MAX };
            let start = Instant::now();
            let mut index = Index::build(data, 300, sketcher.clone(), Shape { spill, components, ..SHAPE });
            (300..n).for_each(|key| index.insert(key as u32));
            print_index(&format!("grown from 300, {title}, spill {spill:?}"), &index, start);
            print_coverage("full means", &index, &exhaustive(&index));
            print_coverage("hubs ranked", &index, &ranked_hubs(&index));
            print_coverage("walk", &index, &walked(&index, SETTINGS.beam));
            print_search(&index, SETTINGS);
        }
    }
    Ok(())
}

fn print_index(title: &str, index: &Index, since: Instant) {
    println!(
        "{title}: {} rows, {} pages, fill {:.3}, {:.1} B/row, {} splits, {} spills, {:.1?}",
        index.rows(),
        index.pages.len(),
        index.fill(),
        index.bytes_per_row(),
        index.splits,
        index.spills,
        since.elapsed()
    );
}

fn print_coverage(title: &str, index: &Index, coverage: &Coverage) {
    let pages = index.pages.len();
    let by_pages: Vec<String> = [10, 25, 50, 100, 150, 200]
        .into_iter()
        .filter(|read| *read < pages)
        .map(|read| format!("{read}: {:.3}", coverage.at(read)))
        .collect();
    let by_share: Vec<String> = [5, 10, 20, 30, 40]
        .into_iter()
        .map(|share| format!("{share}%: {:.3}", coverage.at(pages * share / 100)))
        .collect();
    let first = coverage.hubs_read_for_first;
    println!(
        "  {title:34} {} | {} | hubs read for the first page {first:.0}",
        by_pages.join(" "),
        by_share.join(" ")
    );
}

fn print_search(index: &Index, settings: Settings) {
    let start = Instant::now();
    let figures = search(index, settings);
    let Settings { ef, patience, z, beam, batch, top } = settings;
    println!(
        "  ef {ef} patience {patience} z {z:.2} beam {beam} batch {batch} top {top}: \
         recall {:.3} recomputes {:.1} (p95 {}) pages {:.0} of {} hubs {:.0} late {:.2}, \
         {:.1} ms/query, {:.2} in the walk",
        figures.recall,
        figures.recomputes,
        figures.p95,
        figures.pages,
        index.pages.len(),
        figures.hubs,
        figures.late,
        start.elapsed().as_secs_f64() * 1e3 / index.data.truth.len() as f64,
        figures.walk_ms
    );
}
