//! The inner loop of scoring: for each direction find its state in the bits of a sketch, look its value up, and add it to three sums.
//!
//! Portable code, and the same with AVX2 and with NEON where the processor has them (found out when a query is made).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;

use crate::lookup::{self, ENTRIES, Lookup};
use crate::trellis::{PADDING, UNIT, Window};

/// Look-ups are made so many at a time; the last group is filled up with ones that add nothing.
const LANES: usize = 8;

/// What a direction's value adds to each sum, and where the value is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) window: Window,
    pub(crate) width: u8,
    /// Factor of the value in the inner product with the query.
    pub(crate) query: f32,
    /// Factor of the value's square in the squared length.
    pub(crate) squared: f32,
    /// Factor of the value in the inner product with the mean.
    pub(crate) mean: f32,
}

/// The sums that a sketch is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) query: f32,
    pub(crate) squared: f32,
    pub(crate) mean: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// One factor per lane for the first values of its look-ups, and one for the second values.
type Factors = [[f32; LANES]; 2];

/// Look-ups and what their values add, in the form that vector registers are loaded from.
#[derive(Clone, Debug)]
#[repr(C, align(32))]
struct Group {
    /// For each byte of each lane, the byte after `base` that it takes: a word's four bytes, the first one highest.
    shuffle: [u8; 4 * LANES],
    shifts: [u32; LANES],
    masks: [u32; LANES],
    tables: [u32; LANES],
    query: Factors,
    squared: Factors,
    mean: Factors,
    /// The first byte of the first look-up.
    base: usize,
    /// The first direction after those of this group.
    end: usize,
}

/// Bytes that a shuffle chooses from.
const REACH: usize = 16;

impl Group {
    /// Of at most [`LANES`] look-ups, each with the one or two terms that it serves; `end` is the first direction after these.
    ///
    /// # Panics
    ///
    /// If a look-up leaves the tables, or they do not rise, or do not lie within [`REACH`] bytes: the vector code relies on it.
    fn new(members: &[(Lookup, &[Term])], end: usize) -> Group {
        let base = members[0].0.offset;
        let last = members[members.len() - 1].0.offset;
        let mut group = Group {
            shuffle: [0; 4 * LANES],
            shifts: [0; LANES],
            masks: [0; LANES],
            tables: [0; LANES],
            query: [[0.0; LANES]; 2],
            squared: [[0.0; LANES]; 2],
            mean: [[0.0; LANES]; 2],
            base,
            end,
        };
        for lane in 0..LANES {
            let idle = (Lookup::idle(last), [].as_slice());
            let (lookup, terms) = members.get(lane).copied().unwrap_or(idle);
            let first = lookup.offset.checked_sub(base).expect("look-ups of a group rise");
            assert!(first + 4 <= REACH, "look-ups of a group are near each other");
            assert!(lookup.is_inside(), "a look-up lies within the tables");
            for place in 0..4 {
                group.shuffle[4 * lane + place] = (first + 3 - place) as u8;
            }
            (group.shifts[lane], group.masks[lane]) = (lookup.shift, lookup.mask);
            group.tables[lane] = lookup.table as u32;
            for (which, term) in terms.iter().enumerate() {
                group.query[which][lane] = term.query / UNIT;
                group.squared[which][lane] = term.squared / (UNIT * UNIT);
                group.mean[which][lane] = term.mean / UNIT;
            }
        }
        group
    }

    /// The two values of each look-up.
    fn values(&self, padded: &[u8]) -> [[f32; 2]; LANES] {
        std::array::from_fn(|lane| {
            let offset = self.base + usize::from(self.shuffle[4 * lane + 3]);
            let (shift, mask, table) = (self.shifts[lane], self.masks[lane], self.tables[lane] as usize);
            lookup::values(ENTRIES[Lookup { offset, shift, mask, table }.place(padded)]).map(f32::from)
        })
    }
}

/// All directions' terms.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    groups: Vec<Group>,
    /// Length of a sketch with its padding; every group's base is at most this minus [`PADDING`].
    padded_bytes: usize,
    kernel: Kernel,
}

impl Terms {
    /// # Panics
    ///
    /// If a term lies outside the sketch or the tables, or the windows do not rise: the vector code relies on it.
    pub(crate) fn new(terms: &[Term], sketch_bytes: usize) -> Terms {
        let mut lookups = Vec::with_capacity(terms.len());
        let mut rest = terms;
        while let [first, after @ ..] = rest {
            let pair =
                |second: &Term| Lookup::pair((first.window, first.width), (second.window, second.width));
            let (lookup, count) = match after.first().and_then(pair) {
                Some(pair) => (pair, 2),
                None => (Lookup::single(first.window, first.width), 1),
            };
            assert!(lookup.offset <= sketch_bytes, "a window lies within the sketch");
            lookups.push((lookup, &rest[..count]));
            rest = &rest[count..];
        }
        let mut end = 0;
        let groups = lookups.chunks(LANES).map(|members| {
            end += members.iter().map(|(_, terms)| terms.len()).sum::<usize>();
            Group::new(members, end)
        });
        Terms { groups: groups.collect(), padded_bytes: sketch_bytes + PADDING, kernel: fastest() }
    }

    pub(crate) fn padded_bytes(&self) -> usize {
        self.padded_bytes
    }

    /// For each group of look-ups the directions it brings.
    pub(crate) fn groups(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.groups.iter().map(|group| group.end));
        starts.zip(&self.groups).map(|(start, group)| start..group.end)
    }

    /// The sums over all directions, for a sketch, which is followed by [`PADDING`] bytes of any value.
    ///
    /// # Panics
    ///
    /// If `padded` is not [`Terms::padded_bytes`] long.
    pub(crate) fn sums(&self, padded: &[u8]) -> Sums {
        self.require_padding(padded);
        match self.kernel {
            Kernel::Portable => sums_portable(&self.groups, padded),
            // SAFETY: `fastest` chose the kernel because this processor has its instructions; `new` and `require_padding` have seen to
            // the lengths.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::sums(&self.groups, padded) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => unsafe { neon::sums(&self.groups, padded) },
        }
    }

    /// The first of the sums alone, over the directions of the first `count` groups.
    ///
    /// # Panics
    ///
    /// If `padded` is not [`Terms::padded_bytes`] long, or there are no such groups.
    pub(crate) fn query_sum(&self, padded: &[u8], count: usize) -> f32 {
        self.require_padding(padded);
        let groups = &self.groups[..count];
        match self.kernel {
            Kernel::Portable => query_sum_portable(groups, padded),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::query_sum(groups, padded) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => unsafe { neon::query_sum(groups, padded) },
        }
    }

    fn require_padding(&self, padded: &[u8]) {
        const { assert!(PADDING >= REACH) };
        assert_eq!(padded.len(), self.padded_bytes, "a sketch and its padding");
    }
}

fn sums_portable(groups: &[Group], padded: &[u8]) -> Sums {
    // A sum per lane: additions need not wait for each other.
    let (mut query, mut squared, mut mean) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    for group in groups {
        for (lane, [first, second]) in group.values(padded).into_iter().enumerate() {
            query[lane] += group.query[0][lane] * first + group.query[1][lane] * second;
            squared[lane] +=
                group.squared[0][lane] * first * first + group.squared[1][lane] * second * second;
            mean[lane] += group.mean[0][lane] * first + group.mean[1][lane] * second;
        }
    }
    Sums { query: query.iter().sum(), squared: squared.iter().sum(), mean: mean.iter().sum() }
}

fn query_sum_portable(groups: &[Group], padded: &[u8]) -> f32 {
    let mut query = [0f32; LANES];
    for group in groups {
        for (lane, [first, second]) in group.values(padded).into_iter().enumerate() {
            query[lane] += group.query[0][lane] * first + group.query[1][lane] * second;
        }
    }
    query.iter().sum()
}

fn fastest() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return Kernel::Avx2;
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return Kernel::Neon;
    }
    Kernel::Portable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trellis::{self, MAX_WIDTH, table_start, tables};
    use proptest::prelude::*;

    fn sums_one_by_one(terms: &[Term], padded: &[u8]) -> Sums {
        let mut sums = Sums::default();
        for term in terms {
            let value = tables()[table_start(term.width) + term.window.state(padded)];
            sums.query += term.query * value;
            sums.squared += term.squared * value * value;
            sums.mean += term.mean * value;
        }
        sums
    }

    proptest! {
        #[test]
        fn every_kernel_gives_the_sums_of_the_directions(
            widths in prop::collection::vec(1u8..=MAX_WIDTH, 0..300),
            bytes in prop::collection::vec(any::<u8>(), 300),
            seed in any::<u64>(),
        ) {
            let sketch_bytes = trellis::bits(&widths).div_ceil(8);
            let mut random = crate::random::Random::new(seed);
            let mut factor = || (random.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
            let term = |(window, width): (Window, &u8)| Term {
                window,
                width: *width,
                query: factor(),
                squared: factor(),
                mean: factor(),
            };
            let directions: Vec<Term> = trellis::windows(&widths).into_iter().zip(&widths).map(term).collect();
            let mut terms = Terms::new(&directions, sketch_bytes);
            let padded = &bytes[..terms.padded_bytes()];
            let expected = sums_one_by_one(&directions, padded);
            let half = terms.groups.len() / 2;
            let covered = terms.groups().nth(half).map_or(0, |directions| directions.start);
            let expected_half = sums_one_by_one(&directions[..covered], padded).query;
            for kernel in [Kernel::Portable, fastest()] {
                terms.kernel = kernel;
                let got = terms.sums(padded);
                let got_half = terms.query_sum(padded, half);
                prop_assert!((got_half - expected_half).abs() < 1e-3, "{kernel:?}: {got_half} for {expected_half}");
                for (got, expected) in
                    [(got.query, expected.query), (got.squared, expected.squared), (got.mean, expected.mean)]
                {
                    prop_assert!((got - expected).abs() < 1e-3, "{kernel:?}: {got} for {expected}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "within the sketch")]
    fn a_window_outside_the_sketch_is_refused() {
        let window = Window { offset: 9, shift: 0 };
        Terms::new(&[Term { window, width: 1, query: 0.0, squared: 0.0, mean: 0.0 }], 8);
    }
}
