//! Plans which rows share a run of the model.
//!
//! A row costs as much as its length, padding included, so rows of similar length belong together. On a CPU a
//! larger run is no faster per row. It is slower once the activations between the layers outgrow the core's
//! cache, and it takes more memory and notices later that it is to stop. Measured with all-MiniLM-L6-v2, in
//! rows per second of one core's time:
//!
//! | tokens per row | 1 row per run | 2 | 4 | 8 | 16 |
//! |---|---|---|---|---|---|
//! | 32 | 222 | 235 | 217 | 230 | 223 |
//! | 128 | 49 | 53 | 53 | 50 | 47 |
//! | 256 | 25 | 23 | 21 | 20 | |
//!
//! So runs are small. The longest are handed out first, which keeps all threads busy to the end (Graham 1969,
//! "Bounds on multiprocessing timing anomalies").

/// Upper bounds on a run.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Number of rows.
    pub rows: usize,
    /// Rows times the length of the longest, in tokens. A single row that is longer gets a run of its own.
    pub tokens: usize,
}

impl BatchLimits {
    /// About 40 ms on one core for a model of 22 million weights.
    pub const CPU: BatchLimits = BatchLimits { rows: 64, tokens: 256 };
    /// Large enough to keep an accelerator busy.
    pub const ACCELERATOR: BatchLimits = BatchLimits { rows: 256, tokens: 32_768 };
    /// For models whose vectors depend on the rows they share a run with.
    pub const ONE_ROW: BatchLimits = BatchLimits { rows: 1, tokens: 0 };
}

/// Groups rows, given by their lengths in tokens, into runs, and returns the numbers of each run's rows.
/// Every row is in one run, and no later run holds a longer row.
///
/// A small job is cut finer than the limits ask for, so that each of `threads` gets about the same share of
/// it.
pub fn plan(lengths: &[usize], limits: BatchLimits, threads: usize) -> Vec<Vec<usize>> {
    let mut rows: Vec<usize> = (0..lengths.len()).collect();
    rows.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    let total: usize = lengths.iter().sum();
    let share = total.div_ceil(threads.max(1));
    let tokens = limits.tokens.min(share);
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for row in rows {
        match runs.last_mut() {
            Some(run) if run.len() < limits.rows && (run.len() + 1) * longest <= tokens => run.push(row),
            _ => {
                longest = lengths[row];
                runs.push(vec![row]);
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the time, in tokens, padding included, until the last thread ends if each takes the next run
    /// when free.
    fn finish(lengths: &[usize], runs: &[Vec<usize>], threads: usize) -> usize {
        let mut busy = vec![0; threads];
        for run in runs {
            let next = busy.iter_mut().min().unwrap();
            *next += run.len() * lengths[run[0]];
        }
        busy.into_iter().max().unwrap()
    }

    #[test]
    fn like_lengths_share_a_run() {
        let runs = plan(&[10, 120, 10, 110, 11, 300], BatchLimits::CPU, 1);
        assert_eq!(runs, [vec![5], vec![1, 3], vec![4, 0, 2]]);
    }

    #[test]
    fn a_small_batch_occupies_every_thread() {
        for (lengths, best) in
            [(vec![100; 4], 200), (vec![250, 200, 50, 40], 300), (vec![30; 2], 30), (vec![5; 4], 10)]
        {
            let runs = plan(&lengths, BatchLimits::CPU, 2);
            assert!(runs.len() >= 2, "{runs:?}");
            assert!(finish(&lengths, &runs, 2) <= best, "{runs:?}");
        }
        assert_eq!(plan(&[50; 4], BatchLimits::CPU, 1).len(), 1);
        assert_eq!(plan(&[100; 4], BatchLimits::CPU, 16).len(), 4);
    }

    #[test]
    fn one_row_per_run_means_that() {
        assert!(plan(&[5; 40], BatchLimits::ONE_ROW, 1).iter().all(|run| run.len() == 1));
        assert!(plan(&[], BatchLimits::CPU, 3).is_empty());
    }

    proptest! {
        #[test]
        fn every_row_once_within_limits(
            lengths in prop::collection::vec(1usize..600, 0..200),
            threads in 1usize..9,
        ) {
            let runs = plan(&lengths, BatchLimits::CPU, threads);
            let mut seen: Vec<usize> = runs.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for run in &runs {
                let longest = run.iter().map(|&row| lengths[row]).max().unwrap();
                prop_assert!(run.len() <= BatchLimits::CPU.rows);
                prop_assert!(run.len() == 1 || run.len() * longest <= BatchLimits::CPU.tokens);
            }
        }

        #[test]
        fn little_is_padded_and_no_thread_waits_long(
            lengths in prop::collection::vec(1usize..257, 100..400),
            threads in 1usize..9,
        ) {
            let runs = plan(&lengths, BatchLimits::CPU, threads);
            let total: usize = lengths.iter().sum();
            let padded: usize = runs.iter().map(|run| run.len() * lengths[run[0]]).sum();
            prop_assert!(padded <= total + total / 5, "{} for {}", padded, total);
            let most = padded.div_ceil(threads) + BatchLimits::CPU.tokens;
            prop_assert!(finish(&lengths, &runs, threads) <= most);
        }
    }
}
