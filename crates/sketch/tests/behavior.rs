//! Tests on synthetic rows that estimates are accurate, errors calibrated, and the stored form stable.

mod support;

use leann_sketch::{Estimate, MIN_TRAINING_ROWS, SketchError, Sketcher, TrainOptions};
use leann_vector::{dot, normalize};
use support::gaussian;

const DIM: usize = 96;

/// Returns unit rows around eight centers, with variance that falls over the dimensions as in real
/// embeddings.
fn rows(count: usize, dim: usize, seed: u64) -> Vec<f32> {
    rows_beyond(0.4, count, dim, seed)
}

/// Returns rows as [`rows`] does, whose values have this much in common.
fn rows_beyond(common: f32, count: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut standard = gaussian(seed);
    let mut noise = || standard() / 2f32.sqrt();
    let centers: Vec<f32> = (0..8 * dim).map(|i| noise() / (1.0 + (i % dim) as f32 / 8.0)).collect();
    let mut out = Vec::new();
    for i in 0..count {
        let center = &centers[i % 8 * dim..][..dim];
        let mut row: Vec<f32> =
            (0..dim).map(|j| common + center[j] + noise() / (1.0 + ((j * 7) % dim) as f32 / 10.0)).collect();
        assert!(normalize(&mut row));
        out.append(&mut row);
    }
    out
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

/// Returns (estimate, truth) for pairs of rows that training did not see. The first fifty rows serve as
/// queries.
fn pairs(sketcher: &Sketcher) -> Vec<(Estimate, f32)> {
    // Rows around the centers of the training sample that are not in it.
    pairs_of(sketcher, &rows(3400, sketcher.dim(), 1).split_off(3000 * sketcher.dim()))
}

/// Returns (estimate, truth) for pairs of rows, of which the first fifty serve as queries.
fn pairs_of(sketcher: &Sketcher, rows: &[f32]) -> Vec<(Estimate, f32)> {
    let dim = sketcher.dim();
    let sketches = encode_all(sketcher, rows);
    let mut out = Vec::new();
    for query in rows.chunks_exact(dim).take(50) {
        let mut estimates = Vec::new();
        sketcher.query(query).score(&sketches, &mut estimates);
        let truths = rows.chunks_exact(dim).map(|row| dot(query, row));
        out.extend(estimates.into_iter().zip(truths).filter(|(_, truth)| *truth < 0.999));
    }
    out
}

/// Returns the inner product of a query with the mean of the rows that a sketcher was trained on, from the
/// stored parameters: the layout is that of `src/format.rs`. The mean of an untrained sketcher is 0.
fn mean_similarity(sketcher: &Sketcher, query: &[f32]) -> f32 {
    if !sketcher.is_trained() {
        return 0.0;
    }
    let bytes = sketcher.to_bytes();
    let components = sketcher.components();
    let step = f32::from_le_bytes(bytes[31..35].try_into().unwrap());
    let start = 75 + components + components.div_ceil(8);
    let mean = bytes[start..start + query.len()].iter().map(|byte| f32::from(*byte as i8) * step);
    query.iter().zip(mean).map(|(query, mean)| query * mean).sum()
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
    // The untrained form knows no mean, so its errors are too large where all rows are similar, as here.
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
fn sketches_below_the_floor_are_pruned() {
    let sketcher = trained(26);
    let rows = rows(5000, DIM, 1).split_off(3000 * DIM);
    let sketches = encode_all(&sketcher, &rows);
    let (mut pruned, mut wrongly, mut all) = (0, 0, 0);
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
            pruned += 1;
            wrongly += usize::from(close.similarity > floor);
        }
        all += close.len();
    }
    println!("{pruned} of {all} pruned, {wrongly} of them wrongly");
    assert!(pruned > all / 2, "{pruned} of {all}");
    // At most one in twenty of those above the floor.
    assert!(wrongly <= 50, "{wrongly}");
}

#[test]
fn sketches_of_near_rows_are_not_pruned() {
    // The nearer a row, the more of its similarity lies outside the leading components.
    let sketcher = trained(26);
    let rows = rows(3300, DIM, 1).split_off(3000 * DIM);
    let pruned = rows.chunks_exact(DIM).filter(|row| {
        let (query, sketch) = (sketcher.query(row), encode_all(&sketcher, row));
        let (mut close, mut above) = (Vec::new(), Vec::new());
        query.score(&sketch, &mut close);
        query.score_above(close[0].similarity, &sketch, &mut above);
        close != above
    });
    assert_eq!(pruned.count(), 0);
}

#[test]
fn rows_unlike_the_corpus_get_larger_errors() {
    // A few bits along the corpus's leading components say little about a row that lies along others, and its
    // error must show that.
    let sketcher = trained(14);
    let query = sketcher.query(&rows(1, DIM, 1));
    let error = |rows: &[f32]| {
        let mut estimates = Vec::new();
        query.score(&encode_all(&sketcher, rows), &mut estimates);
        mean(estimates.iter().map(|estimate| estimate.error))
    };
    let (known, strange) = (error(&rows(200, DIM, 1)), error(&strangers(200, 99)));
    assert!(strange > 1.2 * known, "{strange} for strangers, {known} for rows of the corpus");
}

#[test]
fn scoring_adds_the_mean_to_the_inner_product_with_the_decoded_sketch() {
    for sketcher in [trained(26), trained(33), Sketcher::untrained(DIM, 3), Sketcher::untrained(101, 3)] {
        let (dim, size) = (sketcher.dim(), sketcher.sketch_bytes());
        let rows = rows(64, dim, 1);
        let sketches = encode_all(&sketcher, &rows);
        let query = sketcher.query(&rows[..dim]);
        let mut estimates = vec![Estimate { similarity: 9.0, error: 9.0 }];
        query.score(&sketches, &mut estimates);
        assert_eq!(estimates.len(), 65);
        assert_eq!(estimates[0].similarity, 9.0, "score appends");
        let mean_similarity = mean_similarity(&sketcher, &rows[..dim]);
        let mut decoded = vec![0.0; sketcher.components()];
        let mut inner = |sketch: &[u8]| {
            sketcher.decode(sketch, &mut decoded);
            dot(query.projected(), &decoded)
        };
        // What lies outside the components makes the same factor for all rows.
        let factor = (estimates[1].similarity - mean_similarity) / inner(&sketches[..size]);
        assert!((1.0 - 1e-3..1.1).contains(&factor), "{factor}");
        for (sketch, estimate) in sketches.chunks_exact(size).zip(&estimates[1..]) {
            let expected = mean_similarity + factor * inner(sketch);
            assert!((estimate.similarity - expected).abs() < 1e-4, "{} for {expected}", estimate.similarity);
            assert!(estimate.error > 0.0 && estimate.error.is_finite());
        }
    }
}

/// Returns rows of the corpus turned around, so that their variance lies where the corpus has little.
fn strangers(count: usize, seed: u64) -> Vec<f32> {
    let turn = |row: &[f32]| -> Vec<f32> {
        row.iter().rev().enumerate().map(|(i, v)| if i % 2 == 0 { *v } else { -v }).collect()
    };
    rows(count, DIM, seed).chunks_exact(DIM).flat_map(turn).collect()
}

#[test]
fn each_row_takes_the_form_that_fits_it() {
    let sketcher = trained(26);
    let share = |rows: &[f32]| {
        let sketches = encode_all(&sketcher, rows);
        let sketches = sketches.chunks_exact(sketcher.sketch_bytes());
        mean(sketches.map(|sketch| f32::from(u8::from(sketcher.is_untrained_sketch(sketch)))))
    };
    let (known, strange) = (share(&rows(500, DIM, 1)), share(&strangers(500, 99)));
    assert!(known < 0.05 && strange > 0.9, "{known} of the corpus, {strange} of strangers");
    assert!(Sketcher::untrained(DIM, 1).is_untrained_sketch(&[0; 14]));
    assert!(!Sketcher::float16(2).is_untrained_sketch(&[1; 4]));
}

#[test]
fn estimates_of_rows_and_queries_unlike_the_corpus_are_honest() {
    for bytes in [14, 26] {
        let sketcher = trained(bytes);
        let (strangers, corpus) = (strangers(400, 99), rows(400, DIM, 1));
        for (rows, queries) in [(&strangers, &strangers), (&strangers, &corpus), (&corpus, &strangers)] {
            let sketches = encode_all(&sketcher, rows);
            let mut errors = Vec::new();
            for query in queries.chunks_exact(DIM).take(50) {
                let mut estimates = Vec::new();
                sketcher.query(query).score(&sketches, &mut estimates);
                let truths = rows.chunks_exact(DIM).map(|row| dot(query, row));
                let pairs = estimates.iter().zip(truths).filter(|(_, truth)| *truth < 0.999);
                errors.extend(pairs.map(|(estimate, truth)| (truth - estimate.similarity) / estimate.error));
            }
            let (bias, spread) =
                (mean(errors.iter().copied()), mean(errors.iter().map(|error| error * error)).sqrt());
            let beyond = mean(errors.iter().map(|error| f32::from(u8::from(*error > 1.6))));
            println!("{bytes} bytes: mean {bias}, spread {spread}, {beyond} beyond 1.6");
            assert!(spread < 1.3 && beyond < 0.11, "mean {bias}, spread {spread}, {beyond} beyond 1.6");
        }
    }
}

#[test]
fn decoding_approximates_projection() {
    for (sketcher, most) in [(trained(38), 0.15), (Sketcher::untrained(DIM, 3), 0.9)] {
        let rows = rows(3100, DIM, 1).split_off(3000 * DIM);
        let sketches = encode_all(&sketcher, &rows);
        let (mut decoded, mut projected) =
            (vec![0.0; sketcher.components()], vec![0.0; sketcher.components()]);
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
    assert_eq!(sketcher.components(), DIM, "enough bits for every component");
    let rows = rows(20, DIM, 1);
    let query = sketcher.query(&rows[..DIM]);
    let mut projected = vec![0.0; DIM];
    let mean_similarity = mean_similarity(&sketcher, &rows[..DIM]);
    for row in rows.chunks_exact(DIM) {
        sketcher.project(row, &mut projected);
        let product = mean_similarity + dot(query.projected(), &projected);
        assert!((product - dot(&rows[..DIM], row)).abs() < 0.01);
    }
}

#[test]
fn stored_parameters_give_the_same_sketcher() {
    let in_place = trained_in_place(&rows_beyond(0.05, 3000, DIM, 1)).1;
    for sketcher in [trained(26), Sketcher::untrained(DIM, 3), Sketcher::untrained(100, u64::MAX), in_place] {
        let bytes = sketcher.to_bytes();
        let again = Sketcher::from_bytes(&bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(again.is_trained(), sketcher.is_trained());
        assert_eq!((again.dim(), again.components()), (sketcher.dim(), sketcher.components()));
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
fn a_sample_smaller_than_the_dimension_has_calibrated_errors() {
    // With fewer rows than dimensions, errors must still be standard errors on rows that training did not
    // see.
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
    assert_eq!(Sketcher::untrained(100, 0).components(), 100);
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

/// Returns an untrained sketcher, and what it becomes when it is trained on the sketches of these rows.
fn trained_in_place(rows: &[f32]) -> (Sketcher, Sketcher) {
    let untrained = Sketcher::untrained(DIM, 3);
    let trained = untrained.train_in_place(&encode_all(&untrained, rows), 100_000, &never).unwrap().unwrap();
    (untrained, trained)
}

#[test]
fn training_in_place_keeps_what_there_is_and_serves_new_rows() {
    let sample = rows_beyond(0.05, 6000, DIM, 1);
    let (untrained, trained) = trained_in_place(&sample);
    assert!(trained.is_trained() && trained.is_trained_in_place() && !untrained.is_trained());
    assert_eq!(trained.sketch_bytes(), untrained.sketch_bytes());
    assert_eq!(trained.components(), untrained.components());
    // Old sketches mean what they meant, and new vectors lie in the same coordinates.
    let old = encode_all(&untrained, &sample[..50 * DIM]);
    let (mut before, mut after) = (vec![0.0; DIM], vec![0.0; DIM]);
    for (row, sketch) in sample.chunks_exact(DIM).zip(old.chunks_exact(untrained.sketch_bytes())) {
        assert!(trained.is_untrained_sketch(sketch));
        untrained.decode(sketch, &mut before);
        trained.decode(sketch, &mut after);
        assert_eq!(before, after);
        untrained.project(row, &mut before);
        trained.project(row, &mut after);
        assert_eq!(before, after);
    }
    let query = &sample[..DIM];
    assert_eq!(untrained.query(query).projected(), trained.query(query).projected());
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    untrained.query(query).score(&old, &mut expected);
    trained.query(query).score(&old, &mut got);
    assert_eq!(expected, got);
    // New sketches are in the trained form, better, and honest.
    let new = rows_beyond(0.05, 6300, DIM, 1).split_off(6000 * DIM);
    let sketches = encode_all(&trained, &new);
    let trained_form =
        sketches.chunks_exact(trained.sketch_bytes()).filter(|s| !trained.is_untrained_sketch(s));
    assert!(trained_form.count() > 270);
    for (row, sketch) in new.chunks_exact(DIM).zip(sketches.chunks_exact(trained.sketch_bytes())) {
        trained.project(row, &mut before);
        trained.decode(sketch, &mut after);
        assert!(dot(&before, &after) > 0.9, "the decoded vector lies where the row lies");
    }
    let errors = |sketcher: &Sketcher| {
        let pairs = pairs_of(sketcher, &new);
        let square = |error: f32| error * error;
        let off = mean(pairs.iter().map(|(e, truth)| square(e.similarity - truth))).sqrt();
        (off, mean(pairs.iter().map(|(e, truth)| square((e.similarity - truth) / e.error))).sqrt())
    };
    let ((worse, _), (better, in_errors)) = (errors(&untrained), errors(&trained));
    assert!(better < 0.7 * worse, "{better} after, {worse} before");
    assert!((0.4..1.25).contains(&in_errors), "{in_errors}");
}

#[test]
fn training_in_place_gives_up_where_there_is_nothing_to_learn() {
    let untrained = Sketcher::untrained(DIM, 3);
    let sketches = encode_all(&untrained, &rows(MIN_TRAINING_ROWS - 1, DIM, 1));
    assert!(untrained.train_in_place(&sketches, 5000, &never).unwrap().is_none());
    assert!(untrained.train_in_place(&[], 5000, &never).unwrap().is_none());
    assert!(Sketcher::untrained(8, 1).train_in_place(&[0; 900], 5000, &never).unwrap().is_none());
    assert!(trained(26).train_in_place(&[0; 2600], 5000, &never).unwrap().is_none());
    // Rows with much in common leave the same error in every sketch.
    let alike = encode_all(&untrained, &rows(2000, DIM, 1));
    assert!(untrained.train_in_place(&alike, 5000, &never).unwrap().is_none());
    let many = encode_all(&untrained, &rows_beyond(0.05, 2000, DIM, 1));
    assert_eq!(untrained.train_in_place(&many, 5000, &|| true).unwrap_err(), SketchError::Stopped);
    // Any bytes are sketches.
    let any: Vec<u8> = (0..14 * 1000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    untrained.train_in_place(&any, 5000, &never).unwrap();
}
