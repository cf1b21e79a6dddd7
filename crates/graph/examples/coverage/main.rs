//! What a layout, a hub graph and the settings of a search cost, on real embeddings.
//!
//!     cargo run --release --example coverage -- layout|search|grow|partition|scale FOLDER…
//!
//! A folder holds `embeddings.f16.npy` and `query_embeddings.f16.npy`. Prints the share of the true nearest ten on the pages
//! read, by number of pages and by share of all pages; and recall and costs of whole searches. `scale` does so for 5,000 rows
//! to a million; what the folder lacks in rows is made up by mixtures of near rows. `partition` compares pages by graph
//! partitioning.

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
use leann_sketch::Sketcher;
use partition::{Neighbours, refined};
use search::{Coverage, Settings, exhaustive, ranked_hubs, search, walked};

const SKETCH_BYTES: usize = 54;
const SHAPE: Shape = Shape {
    fill: 0.97,
    directions: 160,
    max_links: 24,
    entries: 16,
    place_beam: 16,
    min_share: 0.3,
    spill: (0, 0.0),
};
const SETTINGS: Settings = Settings { ef: 128, patience: 32, z: 1.6, beam: 24, batch: 4, top: 10 };
/// Rows of the indexes that `scale` makes.
const SIZES: [usize; 4] = [5_000, 50_000, 200_000, 1_000_000];
/// Nearest rows that `partition` wants on one page with a row, and what the cosine to the centre counts beside them.
const NEIGHBOURS: usize = 12;
const PULLS: [f32; 2] = [0.0, 30.0];
/// What `scale` multiplies the default patience by.
const PATIENCE_LADDER: [f32; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
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
    train(data, rows, SKETCH_BYTES).map_err(|error| error.to_string())
}

/// Coverage by what is ranked: full means, hubs by directions kept, walks by links and beam.
fn layout(data: &Data) -> Result<(), String> {
    let sketcher = trained(data, data.len())?;
    let start = Instant::now();
    let all_directions = Shape { directions: usize::MAX, ..SHAPE };
    let index = Index::build(data, data.len(), sketcher.clone(), all_directions);
    print_index("built", &index, start);
    print_coverage("full means", &index, &exhaustive(&index));
    print_coverage("hubs, all directions", &index, &ranked_hubs(&index));
    let page_of = index.page_of();
    for directions in [64, 96, 128, 160, 192] {
        let index = Index::of_pages(data, &page_of, sketcher.clone(), Shape { directions, ..SHAPE });
        let title = format!("hubs, {directions} directions, {:.1} B/row", index.hub_bytes_per_row());
        print_coverage(&title, &index, &ranked_hubs(&index));
    }
    for max_links in [8, 12, 16, 24] {
        let index = Index::of_pages(data, &page_of, sketcher.clone(), Shape { max_links, ..SHAPE });
        for beam in [1, 8, 32] {
            print_coverage(&format!("walk, {max_links} links, beam {beam}"), &index, &walked(&index, beam));
        }
    }
    Ok(())
}

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

/// Pages by graph partitioning, against those of balanced k-means that they start from.
fn partition(data: &Data) -> Result<(), String> {
    let sketcher = trained(data, data.len())?;
    let index = Index::build(data, data.len(), sketcher.clone(), SHAPE);
    let patience = default_patience(index.pages.len() as u32) as usize;
    let page_of = index.page_of();
    let capacity = SHAPE.capacity(SKETCH_BYTES);
    let start = Instant::now();
    let near = Neighbours::of(data, NEIGHBOURS);
    println!("{NEIGHBOURS} nearest rows of each row: {:.1?}", start.elapsed());
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
        let index = Index::of_pages(data, &refined, sketcher.clone(), SHAPE);
        print(&format!("pull {pull}"), &refined, &index);
    }
    Ok(())
}

/// Pages on which the true nearest ten of a query lie, on average.
fn pages_of_top(data: &Data, page_of: &[u32]) -> f64 {
    let of_query = |truth: &[(u32, f32)]| {
        let pages: BTreeSet<u32> = truth.iter().take(10).map(|row| page_of[row.0 as usize]).collect();
        pages.len() as f64
    };
    data.queries().map(|(_, truth)| of_query(truth)).sum::<f64>() / data.truth.len() as f64
}

/// What the walk costs in an index of so many rows, against ranking all hubs.
fn scale(folder: &Path, rows: usize) -> Result<(), String> {
    let data = Data::scaled(folder, rows)?;
    let start = Instant::now();
    let index = Index::build(&data, rows, trained(&data, rows)?, SHAPE);
    print_index("built", &index, start);
    print_coverage("hubs ranked", &index, &ranked_hubs(&index));
    print_coverage("walk", &index, &walked(&index, SETTINGS.beam));
    let patience = default_patience(index.pages.len() as u32) as usize;
    for times in PATIENCE_LADDER {
        print_search(&index, Settings { patience: (patience as f32 * times) as usize, ..SETTINGS });
    }
    print_search(&index, Settings { ef: 4 * SETTINGS.ef, patience: patience / 4, ..SETTINGS });
    Ok(())
}

/// From a few rows to all, row by row.
fn grow(data: &Data) -> Result<(), String> {
    let n = data.len();
    let sketchers = [
        ("trained on all rows", trained(data, n)?),
        ("trained on 300 rows", trained(data, 300)?),
        ("untrained", Sketcher::untrained(data.dim, 1)),
    ];
    for (title, sketcher) in sketchers {
        for spill in [(0, 0.0), (8, 0.15)] {
            let directions = if sketcher.is_trained() { SHAPE.directions } else { usize::MAX };
            let start = Instant::now();
            let mut index = Index::build(data, 300, sketcher.clone(), Shape { spill, directions, ..SHAPE });
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
        "  ef {ef} patience {patience} z {z:.2} beam {beam} batch {batch} top {top}: recall {:.3} recomputes {:.1} \
         (p95 {}) pages {:.0} of {} hubs {:.0} late {:.2}, {:.1} ms/query, {:.2} in the walk",
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
