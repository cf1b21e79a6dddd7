//! What a sketcher promises, on synthetic rows: accurate estimates, honest errors, a stable stored form.

use leann_sketch::{Estimate, MIN_TRAINING_ROWS, SketchError, Sketcher, TrainOptions};

const DIM: usize = 96;

/// Unit rows around a few centres, with variance falling over the dimensions as in real embeddings.
fn rows(count: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    let mut gaussian = move || (0..6).map(|_| uniform()).sum::<f32>() - 3.0;
    let centres: Vec<f32> = (0..8 * dim).map(|i| gaussian() / (1.0 + (i % dim) as f32 / 8.0)).collect();
    let mut out = Vec::new();
    for i in 0..count {
        let centre = &centres[i % 8 * dim..][..dim];
        let row: Vec<f32> =
            (0..dim).map(|j| 0.4 + centre[j] + gaussian() / (1.0 + ((j * 7) % dim) as f32 / 10.0)).collect();
        let norm = dot(&row, &row).sqrt();
        out.extend(row.iter().map(|value| value / norm));
    }
    out
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn never() -> bool {
    false
}

fn options(sketch_bytes: usize) -> TrainOptions {
    TrainOptions { sketch_bytes, rows: 100_000, seed: 7 }
}

fn trained(sketch_bytes: usize) -> Sketcher {
    Sketcher::train(&rows(3000, DIM, 1), DIM, &options(sketch_bytes), &never).unwrap()
}

fn encode_all(sketcher: &Sketcher, rows: &[f32]) -> Vec<u8> {
    let size = sketcher.sketch_bytes();
    let mut sketches = vec![0; rows.len() / sketcher.dim() * size];
    for (row, sketch) in rows.chunks_exact(sketcher.dim()).zip(sketches.chunks_exact_mut(size)) {
        sketcher.encode(row, sketch);
    }
    sketches
}

/// (estimate, truth) of every pair of new rows, the first fifty of them as queries.
fn pairs(sketcher: &Sketcher) -> Vec<(Estimate, f32)> {
    let dim = sketcher.dim();
    // The same centres as the training sample, other rows.
    let rows = rows(3400, dim, 1).split_off(3000 * dim);
    let sketches = encode_all(sketcher, &rows);
    let mut out = Vec::new();
    for query in rows.chunks_exact(dim).take(50) {
        let mut estimates = Vec::new();
        sketcher.query(query).score(&sketches, &mut estimates);
        let truths = rows.chunks_exact(dim).map(|row| dot(query, row));
        out.extend(estimates.into_iter().zip(truths).filter(|(_, truth)| *truth < 0.999));
    }
    out
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let values: Vec<f32> = values.collect();
    values.iter().sum::<f32>() / values.len() as f32
}

#[test]
fn estimates_are_near_the_truth_and_unbiased() {
    for (sketcher, most) in [(trained(26), 0.04), (trained(14), 0.08), (Sketcher::untrained(DIM, 3), 0.09)] {
        let pairs = pairs(&sketcher);
        let off = mean(pairs.iter().map(|(e, truth)| (e.similarity - truth).powi(2))).sqrt();
        let bias = mean(pairs.iter().map(|(e, truth)| e.similarity - truth));
        assert!(off < most, "{off} with {} bytes", sketcher.sketch_bytes());
        assert!(bias.abs() < 0.15 * most, "{bias} with {} bytes", sketcher.sketch_bytes());
    }
}

#[test]
fn more_bytes_make_better_estimates() {
    let off = |bytes| mean(pairs(&trained(bytes)).iter().map(|(e, truth)| (e.similarity - truth).powi(2)));
    let offs: Vec<f32> = [8, 14, 26, 38].into_iter().map(off).collect();
    assert!(offs.windows(2).all(|pair| pair[1] < 0.75 * pair[0]), "{offs:?}");
}

#[test]
fn errors_are_standard_errors() {
    // The untrained form takes the whole query for remainder, so it is cautious where everything is similar, as here.
    for (sketcher, least) in [(trained(26), 0.8), (trained(14), 0.8), (Sketcher::untrained(DIM, 3), 0.6)] {
        let pairs = pairs(&sketcher);
        let in_errors =
            mean(pairs.iter().map(|(e, truth)| ((e.similarity - truth) / e.error).powi(2))).sqrt();
        assert!((least..1.25).contains(&in_errors), "{in_errors} with {} bytes", sketcher.sketch_bytes());
        let outside = mean(pairs.iter().map(|(e, t)| f32::from((e.similarity - t).abs() > 3.0 * e.error)));
        assert!(outside < 0.02, "{outside} outside three errors with {} bytes", sketcher.sketch_bytes());
    }
}

#[test]
fn what_is_hopeless_is_not_looked_at_closely() {
    let sketcher = trained(26);
    let rows = rows(5000, DIM, 1).split_off(3000 * DIM);
    let sketches = encode_all(&sketcher, &rows);
    let (mut coarse, mut misjudged, mut all) = (0, 0, 0);
    for query in rows.chunks_exact(DIM).take(50) {
        let query = sketcher.query(query);
        let (mut close, mut above) = (Vec::new(), Vec::new());
        query.score(&sketches, &mut close);
        let mut best: Vec<f32> = close.iter().map(|estimate| estimate.similarity).collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let floor = best[20];
        query.score_above(floor, &sketches, &mut above);
        assert_eq!(close.len(), above.len());
        for (close, above) in close.iter().zip(&above).filter(|(close, above)| close != above) {
            assert!(above.similarity < floor && above.error > 0.0);
            coarse += 1;
            misjudged += usize::from(close.similarity > floor);
        }
        all += close.len();
    }
    println!("{coarse} of {all} looked at coarsely, {misjudged} of them wrongly");
    assert!(coarse > all / 2, "{coarse} of {all}");
    // At most one in twenty of those above the floor.
    assert!(misjudged <= 50, "{misjudged}");
}

#[test]
fn what_is_very_near_is_looked_at_closely() {
    // The nearer a row, the more of its similarity lies outside the leading directions.
    let sketcher = trained(26);
    let rows = rows(3300, DIM, 1).split_off(3000 * DIM);
    let coarse = rows.chunks_exact(DIM).filter(|row| {
        let (query, sketch) = (sketcher.query(row), encode_all(&sketcher, row));
        let (mut close, mut above) = (Vec::new(), Vec::new());
        query.score(&sketch, &mut close);
        query.score_above(close[0].similarity, &sketch, &mut above);
        close != above
    });
    assert_eq!(coarse.count(), 0);
}

#[test]
fn rows_unlike_the_corpus_get_larger_errors() {
    // A few bits for the corpus's leading directions say little of a row that lies in the others, and the sketch should know.
    let sketcher = trained(14);
    let query = sketcher.query(&rows(1, DIM, 1));
    let error = |rows: &[f32]| {
        let mut estimates = Vec::new();
        query.score(&encode_all(&sketcher, rows), &mut estimates);
        mean(estimates.iter().map(|estimate| estimate.error))
    };
    let strangers: Vec<f32> = rows(200, DIM, 99)
        .chunks_exact(DIM)
        .flat_map(|row| {
            // Ends of the row swapped: its variance lies where the corpus has little.
            let row: Vec<f32> =
                row.iter().rev().enumerate().map(|(i, v)| if i % 2 == 0 { *v } else { -v }).collect();
            row
        })
        .collect();
    let (known, strange) = (error(&rows(200, DIM, 1)), error(&strangers));
    assert!(strange > 1.2 * known, "{strange} for strangers, {known} for rows of the corpus");
}

#[test]
fn scoring_is_base_plus_inner_product_with_the_decoded_sketch() {
    for sketcher in [trained(26), trained(33), Sketcher::untrained(DIM, 3), Sketcher::untrained(101, 3)] {
        let dim = sketcher.dim();
        let rows = rows(64, dim, 5);
        let sketches = encode_all(&sketcher, &rows);
        let query = sketcher.query(&rows[..dim]);
        let mut estimates = vec![Estimate { similarity: 9.0, error: 9.0 }];
        query.score(&sketches, &mut estimates);
        assert_eq!(estimates.len(), 65);
        assert_eq!(estimates[0].similarity, 9.0, "score appends");
        let mut decoded = vec![0.0; sketcher.directions()];
        for (sketch, estimate) in sketches.chunks_exact(sketcher.sketch_bytes()).zip(&estimates[1..]) {
            sketcher.decode(sketch, &mut decoded);
            let expected = query.base() + dot(query.projected(), &decoded);
            assert!((estimate.similarity - expected).abs() < 1e-4, "{} for {expected}", estimate.similarity);
            assert!(estimate.error > 0.0 && estimate.error.is_finite());
        }
    }
}

#[test]
fn decoding_approximates_projection() {
    for (sketcher, most) in [(trained(38), 0.15), (Sketcher::untrained(DIM, 3), 0.9)] {
        let rows = rows(3100, DIM, 1).split_off(3000 * DIM);
        let sketches = encode_all(&sketcher, &rows);
        let (mut decoded, mut projected) =
            (vec![0.0; sketcher.directions()], vec![0.0; sketcher.directions()]);
        for (row, sketch) in rows.chunks_exact(DIM).zip(sketches.chunks_exact(sketcher.sketch_bytes())) {
            sketcher.project(row, &mut projected);
            sketcher.decode(sketch, &mut decoded);
            let off: f32 = projected.iter().zip(&decoded).map(|(p, d)| (p - d).powi(2)).sum();
            assert!(off / dot(&projected, &projected) < most);
        }
    }
}

#[test]
fn projections_keep_inner_products() {
    let sketcher = trained(66);
    assert_eq!(sketcher.directions(), DIM, "enough bits for every direction");
    let rows = rows(20, DIM, 1);
    let query = sketcher.query(&rows[..DIM]);
    let mut projected = vec![0.0; DIM];
    for row in rows.chunks_exact(DIM) {
        sketcher.project(row, &mut projected);
        assert!((query.base() + dot(query.projected(), &projected) - dot(&rows[..DIM], row)).abs() < 0.01);
    }
}

#[test]
fn stored_parameters_give_the_same_sketcher() {
    for sketcher in [trained(26), Sketcher::untrained(DIM, 3), Sketcher::untrained(100, u64::MAX)] {
        let bytes = sketcher.to_bytes();
        let again = Sketcher::from_bytes(&bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(again.is_trained(), sketcher.is_trained());
        assert_eq!((again.dim(), again.directions()), (sketcher.dim(), sketcher.directions()));
        let rows = rows(30, sketcher.dim(), 2);
        let sketches = encode_all(&sketcher, &rows);
        assert_eq!(encode_all(&again, &rows), sketches);
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        sketcher.query(&rows[..sketcher.dim()]).score(&sketches, &mut expected);
        again.query(&rows[..sketcher.dim()]).score(&sketches, &mut got);
        assert_eq!(got, expected);
    }
}

#[test]
fn training_is_repeatable() {
    assert_eq!(trained(26).to_bytes(), trained(26).to_bytes());
    let other = TrainOptions { seed: 8, ..options(26) };
    let sample = rows(3000, DIM, 1);
    assert_ne!(Sketcher::train(&sample, DIM, &other, &never).unwrap().to_bytes(), trained(26).to_bytes());
}

#[test]
fn a_small_sample_trains_sensibly() {
    // Fewer rows than dimensions, and errors must still be honest on rows it has not seen.
    let dim = 384;
    let sample = rows(300, dim, 1);
    let sketcher = Sketcher::train(&sample, dim, &options(50), &never).unwrap();
    let pairs = pairs(&sketcher);
    let in_errors = mean(pairs.iter().map(|(e, truth)| ((e.similarity - truth) / e.error).powi(2))).sqrt();
    assert!((0.7..1.4).contains(&in_errors), "{in_errors}");
    let off = mean(pairs.iter().map(|(e, truth)| (e.similarity - truth).powi(2))).sqrt();
    assert!(off < 0.06, "{off}");
}

#[test]
fn small_tables_get_small_parameters() {
    let sample = rows(2000, 384, 1);
    let size = |rows| {
        let options = TrainOptions { sketch_bytes: 50, rows, seed: 1 };
        Sketcher::train(&sample, 384, &options, &never).unwrap().to_bytes().len()
    };
    assert!(size(5000) <= 80_000, "{}", size(5000));
    assert!(size(300) <= size(5000) && size(5000) <= size(1_000_000));
}

#[test]
fn sizes_are_as_documented() {
    assert_eq!(Sketcher::untrained(384, 0).sketch_bytes(), 50);
    assert_eq!(Sketcher::untrained(100, 0).sketch_bytes(), 15);
    assert_eq!(Sketcher::untrained(100, 0).directions(), 100);
    for bytes in [4, 5, 26, 200] {
        assert_eq!(trained(bytes).sketch_bytes(), bytes);
    }
}

#[test]
fn bad_training_input_is_an_error() {
    let sample = rows(MIN_TRAINING_ROWS, DIM, 1);
    assert!(Sketcher::train(&sample, DIM, &options(26), &never).unwrap().is_trained());
    let error =
        |sample: &[f32], dim, bytes| Sketcher::train(sample, dim, &options(bytes), &never).unwrap_err();
    assert!(matches!(error(&sample[1..], DIM, 26), SketchError::Shape { .. }));
    assert!(matches!(error(&sample, 0, 26), SketchError::Shape { .. }));
    assert_eq!(error(&sample, DIM, 3), SketchError::SketchBytes(3));
    assert_eq!(error(&sample, DIM, 1 << 20), SketchError::SketchBytes(1 << 20));
    for bad in [f32::NAN, f32::INFINITY, 1e30] {
        let mut sample = sample.clone();
        sample[500] = bad;
        assert_eq!(error(&sample, DIM, 26), SketchError::NotFinite);
    }
}

#[test]
fn odd_embeddings_do_no_harm() {
    for sketcher in [trained(26), Sketcher::untrained(DIM, 3)] {
        for odd in
            [vec![0.0; DIM], vec![f32::NAN; DIM], vec![f32::INFINITY; DIM], vec![1e30; DIM], vec![1e-30; DIM]]
        {
            let sketches = encode_all(&sketcher, &odd);
            let mut estimates = Vec::new();
            sketcher.query(&rows(1, DIM, 1)).score(&sketches, &mut estimates);
            assert!(estimates[0].similarity.is_finite() && estimates[0].error.is_finite());
            sketcher.query(&odd).score(&sketches, &mut estimates);
        }
    }
}
