//! What a layout, a hub graph and a search settings cost on real embeddings.
mod data;
mod index;
mod search;

use std::path::Path;
use std::time::Instant;

use data::Data;
use index::{Index, Shape, train};
use search::{Coverage, Settings, exhaustive, ranked_hubs, search, walked};

const SHAPE: Shape = Shape {
    sketch_bytes: 52,
    fill: 0.97,
    directions: 160,
    max_links: 24,
    entries: 16,
    place_beam: 16,
    min_share: 0.25,
    spill: (0, 0.0),
};

fn line(tag: &str, pages: usize, c: &Coverage) {
    print!("  {tag:34}");
    for b in [10, 25, 50, 100, 150, 200] {
        if b < pages {
            print!(" {b}:{:.3}", c.at(b));
        }
    }
    print!(" |");
    for s in [5, 10, 20, 30, 40] {
        print!(" {s}%:{:.3}", c.at(pages * s / 100));
    }
    println!(" | first {:.0}", c.hubs_read_for_first);
}
fn figures(index: &Index, s: Settings) {
    let t = Instant::now();
    let f = search(index, s);
    println!(
        "  ef {} patience {} z {:.2} beam {} batch {}: recall {:.3} recomputes {:.1} p95 {} pages {:.0}/{} hubs {:.0} late {:.2} [{:.1} ms/query]",
        s.ef,
        s.patience,
        s.z,
        s.beam,
        s.batch,
        f.recall,
        f.recomputes,
        f.p95,
        f.pages,
        index.pages.len(),
        f.hubs,
        f.late,
        t.elapsed().as_secs_f64() * 1e3 / index.data.truth.len() as f64
    );
}
fn head(tag: &str, i: &Index, t: Instant) {
    println!(
        "{tag}: {} rows {} pages fill {:.3} {:.1} B/row splits {} spills {} directions {} [{:.1?}]",
        i.rows(),
        i.pages.len(),
        i.fill(),
        i.bytes_per_row(),
        i.splits,
        i.spills,
        i.sketcher.directions(),
        t.elapsed()
    );
}
const S: Settings = Settings { ef: 64, patience: 32, z: 0.35, beam: 24, batch: 4 };

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mode = args[1].as_str();
    for folder in &args[2..] {
        let data = Data::open(Path::new(folder), mode.starts_with("grow")).unwrap();
        println!("# {folder} {mode}");
        let n = data.len();
        match mode {
            "walk" => {
                let sk = train(&data, n, 52).unwrap();
                let t = Instant::now();
                let i = Index::build(&data, n, sk.clone(), Shape { directions: 999, ..SHAPE });
                head("bulk", &i, t);
                let mut page_of = vec![0u32; n];
                for (b, p) in i.pages.iter().enumerate() {
                    for &k in &p.keys {
                        page_of[k as usize] = b as u32;
                    }
                }
                let np = i.pages.len();
                line("exhaustive, full mean", np, &exhaustive(&i));
                for w in [0.0, 0.05, 0.1, 0.2, 0.3] {
                    line(&format!("hubs all directions, spread*{w}"), np, &ranked_hubs(&i, w));
                }
                for d in [64, 96, 128, 160, 192, 256] {
                    let i = Index::of_pages(&data, &page_of, sk.clone(), Shape { directions: d, ..SHAPE });
                    line(
                        &format!(
                            "hubs {} directions {:.2} B/row",
                            i.shape.directions,
                            (d + 24 * 6 + 20) as f64 * np as f64 / n as f64
                        ),
                        np,
                        &ranked_hubs(&i, 0.0),
                    );
                }
                for l in [8, 12, 16, 24, 32] {
                    for beam in [4, 16, 64] {
                        let i = Index::of_pages(&data, &page_of, sk.clone(), Shape { max_links: l, ..SHAPE });
                        line(&format!("walk {l} links beam {beam}"), np, &walked(&i, beam));
                    }
                }
            }
            "search" => {
                let sk = train(&data, n, 52).unwrap();
                let t = Instant::now();
                let i = Index::build(&data, n, sk.clone(), SHAPE);
                head("bulk", &i, t);
                for (ef, patience) in [(32, 16), (64, 16), (64, 24), (64, 32), (96, 48), (128, 64)] {
                    for z in [0.0, 0.35, 0.7] {
                        figures(&i, Settings { ef, patience, z, ..S });
                    }
                }
                for batch in [1, 2, 8, 16] {
                    figures(&i, Settings { batch, ..S });
                }
            }
            "grow" => {
                for (n0, sk) in [
                    (100, train(&data, 100, 52).unwrap()),
                    (100, train(&data, n, 52).unwrap()),
                    (100, leann_sketch::Sketcher::untrained(data.dim, 1)),
                    (n * 6 / 10, train(&data, n * 6 / 10, 52).unwrap()),
                ] {
                    for (share, spill) in [
                        (0.25, (0, 0.0)),
                        (0.4, (0, 0.0)),
                        (0.25, (2, 0.02)),
                        (0.25, (4, 0.05)),
                        (0.25, (8, 0.2)),
                    ] {
                        let t = Instant::now();
                        let mut i = Index::build(
                            &data,
                            n0,
                            sk.clone(),
                            Shape {
                                min_share: share,
                                spill,
                                directions: if sk.is_trained() { 160 } else { 999 },
                                ..SHAPE
                            },
                        );
                        for k in n0..n {
                            i.insert(k as u32);
                        }
                        head(
                            &format!(
                                "grown from {n0} trained {} min_share {share} spill {spill:?}",
                                sk.is_trained()
                            ),
                            &i,
                            t,
                        );
                        let np = i.pages.len();
                        line("exhaustive, full mean", np, &exhaustive(&i));
                        line("hubs ranked", np, &ranked_hubs(&i, 0.0));
                        line("walk beam 24", np, &walked(&i, 24));
                        figures(&i, S);
                    }
                }
            }
            _ => {}
        }
    }
}
