//! Property tests: reading and using any bytes that a page may hold is safe.

mod drive;

use drive::exercise;
use leann_sketch::{Sketcher, TrainOptions};
use proptest::prelude::*;
use std::sync::OnceLock;

const DIM: usize = 40;

/// Returns 400 rows of no particular structure.
fn sample() -> Vec<f32> {
    let mut rng = leann_vector::Rng::new(6);
    let mut value = |i: usize| (rng.below(2001) as f32 / 1000.0 - 1.0) / (1 + i % DIM / 4) as f32;
    let mut rows: Vec<f32> = (0..400 * DIM).map(&mut value).collect();
    rows.chunks_exact_mut(DIM).for_each(|row| assert!(leann_vector::normalize(row)));
    rows
}

/// Returns trained sketchers: on rows, and in place.
fn sketchers() -> &'static [Sketcher; 2] {
    static SKETCHERS: OnceLock<[Sketcher; 2]> = OnceLock::new();
    SKETCHERS.get_or_init(|| {
        let options = TrainOptions { sketch_bytes: 12, rows: 1000, seed: 1 };
        let trained = Sketcher::train(&sample(), DIM, &options, &|| false).unwrap();
        let untrained = Sketcher::untrained(DIM, 1);
        let mut sketches = vec![0; 400 * untrained.sketch_bytes()];
        let places = sketches.chunks_exact_mut(untrained.sketch_bytes());
        sample().chunks_exact(DIM).zip(places).for_each(|(row, sketch)| untrained.encode(row, sketch));
        let in_place = untrained.train_in_place(&sketches, 1000, &|| false).unwrap().expect("enough rows");
        assert!(trained.is_trained() && in_place.is_trained_in_place());
        [trained, in_place]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_safely(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        sketches in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        if let Ok(sketcher) = Sketcher::from_bytes(&bytes) {
            exercise(&sketcher, &sketches);
        }
    }

    #[test]
    fn any_bytes_after_a_sound_header_are_read_safely(
        form in 0u8..4, dim in 1u32..20, bytes in prop::collection::vec(any::<u8>(), 0..600)
    ) {
        let whole = [b"LSK\x01".as_slice(), &[form], &dim.to_le_bytes(), &bytes].concat();
        if let Ok(sketcher) = Sketcher::from_bytes(&whole) {
            exercise(&sketcher, &bytes);
        }
    }

    #[test]
    fn damaged_parameters_are_refused_or_safe(
        // Half of the damage is near the start, where the structure is.
        damage in prop::collection::vec((prop_oneof![0usize..600, 0usize..100_000], any::<u8>()), 1..4),
        sketches in prop::collection::vec(any::<u8>(), 0..100),
        which in 0usize..2,
    ) {
        let mut bytes = sketchers()[which].to_bytes();
        let length = bytes.len();
        for (at, value) in damage {
            bytes[at % length] = value;
        }
        if let Ok(sketcher) = Sketcher::from_bytes(&bytes) {
            exercise(&sketcher, &sketches);
        }
    }

    #[test]
    fn shortened_or_lengthened_parameters_are_refused(
        cut in 0usize..100_000,
        extra in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let [trained, in_place] = sketchers();
        for sketcher in [trained, in_place, &Sketcher::untrained(DIM, 1)] {
            let bytes = sketcher.to_bytes();
            prop_assert!(Sketcher::from_bytes(&bytes[..cut % bytes.len()]).is_err());
            prop_assert!(Sketcher::from_bytes(&[bytes, extra.clone()].concat()).is_err());
        }
    }

    #[test]
    fn any_sketch_is_valid(sketches in prop::collection::vec(any::<u8>(), 0..500)) {
        let [trained, in_place] = sketchers();
        for sketcher in [trained, in_place, &Sketcher::untrained(DIM, 1)] {
            let query = sketcher.query(&sample()[..DIM]);
            let mut estimates = Vec::new();
            query.score(&sketches, &mut estimates);
            for estimate in estimates {
                prop_assert!(estimate.similarity.is_finite());
                prop_assert!(estimate.error > 0.0 && estimate.error.is_finite());
            }
        }
    }

    #[test]
    fn any_dimension_and_seed_rotate(dim in 1usize..300, seed in any::<u64>()) {
        let sketcher = Sketcher::untrained(dim, seed);
        prop_assert_eq!(sketcher.sketch_bytes(), dim.div_ceil(8) + 2);
        exercise(&sketcher, &[7; 200]);
    }
}

#[test]
fn the_seeds_of_the_fuzz_target_are_sound_sketchers() {
    let dim = 16;
    let short: Vec<f32> = sample().chunks_exact(DIM).flat_map(|row| row[..dim].to_vec()).collect();
    let options = TrainOptions { sketch_bytes: 8, rows: 1000, seed: 1 };
    let trained = Sketcher::train(&short, dim, &options, &|| false).unwrap();
    let untrained = Sketcher::untrained(dim, 1);
    let mut sketches = vec![0; 400 * untrained.sketch_bytes()];
    let places = sketches.chunks_exact_mut(untrained.sketch_bytes());
    short.chunks_exact(dim).zip(places).for_each(|(row, sketch)| untrained.encode(row, sketch));
    let in_place = untrained.train_in_place(&sketches, 1000, &|| false).unwrap().expect("enough rows");
    for (name, sketcher) in [("trained", trained), ("in_place", in_place), ("untrained", untrained)] {
        let path = format!("{}/../../fuzz/corpus/sketcher/{name}", env!("CARGO_MANIFEST_DIR"));
        let seed = [&[16u8][..], &sketcher.to_bytes(), &[0x5A; 16]].concat();
        // LEANN_WRITE_SEEDS=1 rewrites the seeds, which is due after a change of the format. What is trained
        // differs by machine in the last bits, so only the structure is compared.
        if std::env::var_os("LEANN_WRITE_SEEDS").is_some() {
            std::fs::write(&path, &seed).unwrap();
        }
        let stored = std::fs::read(&path).unwrap();
        let parameters = &stored[1..stored.len() - 16];
        let read = Sketcher::from_bytes(parameters).unwrap();
        assert_eq!(read.is_trained_in_place(), sketcher.is_trained_in_place(), "{name}");
        assert_eq!((read.is_trained(), read.dim()), (sketcher.is_trained(), dim), "{name}");
    }
}
