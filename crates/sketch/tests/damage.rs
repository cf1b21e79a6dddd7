//! Property tests: whatever bytes a page holds, reading and using them is safe.

mod drive;

use drive::exercise;
use leann_sketch::{Sketcher, TrainOptions};
use proptest::prelude::*;
use std::sync::OnceLock;

const DIM: usize = 40;

fn sample() -> Vec<f32> {
    (0..200 * DIM).map(|i| ((i * i + i / 7) % 101) as f32 / 300.0 - 0.15 + (i % DIM) as f32 / 400.0).collect()
}

fn sketcher() -> &'static Sketcher {
    static SKETCHER: OnceLock<Sketcher> = OnceLock::new();
    SKETCHER.get_or_init(|| {
        let options = TrainOptions { sketch_bytes: 12, rows: 1000, seed: 1 };
        Sketcher::train(&sample(), DIM, &options, &|| false).unwrap()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_safely(bytes in prop::collection::vec(any::<u8>(), 0..300), sketches in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(sketcher) = Sketcher::from_bytes(&bytes) {
            exercise(&sketcher, &sketches);
        }
    }

    #[test]
    fn any_bytes_after_a_sound_header_are_read_safely(
        form in 0u8..3, dim in 1u32..20, bytes in prop::collection::vec(any::<u8>(), 0..600)
    ) {
        let whole = [b"LSK\x01".as_slice(), &[form], &dim.to_le_bytes(), &bytes].concat();
        if let Ok(sketcher) = Sketcher::from_bytes(&whole) {
            exercise(&sketcher, &bytes);
        }
    }

    #[test]
    fn damaged_parameters_are_refused_or_safe(
        // Mostly near the front, where the structure is.
        damage in prop::collection::vec((prop_oneof![0usize..600, 0usize..100_000], any::<u8>()), 1..4),
        sketches in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut bytes = sketcher().to_bytes();
        let length = bytes.len();
        for (at, value) in damage {
            bytes[at % length] = value;
        }
        if let Ok(sketcher) = Sketcher::from_bytes(&bytes) {
            exercise(&sketcher, &sketches);
        }
    }

    #[test]
    fn shortened_or_lengthened_parameters_are_refused(cut in 0usize..100_000, extra in prop::collection::vec(any::<u8>(), 1..20)) {
        for bytes in [sketcher().to_bytes(), Sketcher::untrained(DIM, 1).to_bytes()] {
            prop_assert!(Sketcher::from_bytes(&bytes[..cut % bytes.len()]).is_err());
            prop_assert!(Sketcher::from_bytes(&[bytes, extra.clone()].concat()).is_err());
        }
    }

    #[test]
    fn any_sketch_is_valid(sketches in prop::collection::vec(any::<u8>(), 0..500)) {
        for sketcher in [sketcher().clone(), Sketcher::untrained(DIM, 1)] {
            let query = sketcher.query(&sample()[..DIM]);
            let mut estimates = Vec::new();
            query.score(&sketches, &mut estimates);
            prop_assert!(estimates.iter().all(|e| e.similarity.is_finite() && e.error > 0.0 && e.error.is_finite()));
        }
    }

    #[test]
    fn any_dimension_and_seed_rotate(dim in 1usize..300, seed in any::<u64>()) {
        let sketcher = Sketcher::untrained(dim, seed);
        prop_assert_eq!(sketcher.sketch_bytes(), dim.div_ceil(8) + 2);
        exercise(&sketcher, &[7; 200]);
    }
}
