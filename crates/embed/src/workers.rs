//! Runs pieces of work on threads of its own while the calling thread only waits and asks whether to stop.
//!
//! The caller may be a process that must not run signal handlers, or exit handlers, under foreign threads: so threads
//! are created inside a wrapper of the caller's, the caller's own thread never blocks for longer than a few
//! milliseconds without asking, and all threads have been joined before this returns, whatever happened.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use crate::EmbedError;

/// How one call of [`crate::Model::embed`] is to run.
pub struct Job<'a> {
    /// How many threads may work. At least one is started; the calling thread itself only waits.
    pub threads: usize,
    /// Asked by the calling thread every few milliseconds: is the work to be given up? Has to be quick, and must not
    /// unwind.
    pub should_stop: &'a dyn Fn() -> bool,
    /// Called, on the calling thread, around the creation of threads, with a function to call exactly once. What the
    /// thread's signal mask is meanwhile, the new threads inherit.
    pub around_spawn: &'a dyn Fn(&mut dyn FnMut()),
}

impl Job<'static> {
    /// A job that is never stopped and whose threads take any signal.
    pub fn uninterrupted(threads: usize) -> Job<'static> {
        Job { threads, should_stop: &|| false, around_spawn: &|spawn| spawn() }
    }
}

/// How often `should_stop` is asked.
const POLL: Duration = Duration::from_millis(2);

/// Raised when what is still to do is no longer wanted, be it because of an error.
pub struct StopFlag<'a> {
    raised: AtomicBool,
    on_raise: &'a (dyn Fn() + Sync),
}

impl<'a> StopFlag<'a> {
    /// `on_raise` is called once, when the flag is raised, to cut short what is running.
    pub fn new(on_raise: &'a (dyn Fn() + Sync)) -> StopFlag<'a> {
        StopFlag { raised: AtomicBool::new(false), on_raise }
    }

    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            (self.on_raise)();
        }
    }
}

/// The threads at work. Dropped, be it by a panic in the caller's own functions, it stops and joins them. The end of a
/// scope alone would not do: it waits for what the threads were to do, and not until they are gone.
struct Threads<'scope, 'a> {
    handles: Vec<ScopedJoinHandle<'scope, ()>>,
    stop: &'scope StopFlag<'a>,
}

impl Drop for Threads<'_, '_> {
    fn drop(&mut self) {
        self.stop.raise();
        for handle in self.handles.drain(..) {
            // A panic in a piece of work has become an error already.
            let _ = handle.join();
        }
    }
}

/// Calls `work` for each of `0..pieces`, in order of their numbers, on up to `threads` threads, and gives the results
/// in that order.
///
/// `work` should return early, with any error, once the flag is raised. `Stopped` if `job.should_stop` said so; else
/// the first error of a piece, a panic being turned into one by `on_panic`; `Threads` if not one thread could be
/// started. In every case all threads have ended.
pub fn run<T: Send>(
    job: &Job,
    threads: usize,
    pieces: usize,
    stop: &StopFlag,
    work: &(dyn Fn(usize) -> Result<T, EmbedError> + Sync),
    on_panic: &(dyn Fn() -> EmbedError + Sync),
) -> Result<Vec<T>, EmbedError> {
    let next = AtomicUsize::new(0);
    let worker = |results: Sender<(usize, Result<T, EmbedError>)>| {
        while !stop.is_raised() {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| work(piece))).unwrap_or_else(|_| Err(on_panic()));
            if results.send((piece, result)).is_err() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        let mut started = Threads { handles: Vec::new(), stop };
        let (sender, results) = mpsc::channel();
        let mut refused = None;
        (job.around_spawn)(&mut || {
            for _ in 0..threads.clamp(1, pieces.max(1)) {
                let sender = sender.clone();
                let thread = thread::Builder::new().name("leann-embed".to_owned());
                match thread.spawn_scoped(scope, move || worker(sender)) {
                    Ok(handle) => started.handles.push(handle),
                    Err(e) => {
                        // Fewer threads do as well.
                        refused = Some(e);
                        break;
                    }
                }
            }
        });
        // The threads hold the other senders: when they have ended, nothing more can come.
        drop(sender);
        let mut done: Vec<Option<T>> = (0..pieces).map(|_| None).collect();
        let mut error = None;
        loop {
            match results.recv_timeout(POLL) {
                Ok((piece, Ok(result))) => done[piece] = Some(result),
                Ok((_, Err(e))) => {
                    stop.raise();
                    error.get_or_insert(e);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if error.is_none() && (job.should_stop)() {
                stop.raise();
                error = Some(EmbedError::Stopped);
            }
        }
        match (error, done.into_iter().collect::<Option<Vec<T>>>()) {
            (Some(e), _) => Err(e),
            (None, Some(all)) => Ok(all),
            (None, None) => {
                let reason = refused.map_or_else(|| "none was started".to_owned(), |e| e.to_string());
                Err(EmbedError::Threads { reason })
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::AtomicU32;
    use std::time::Instant;

    fn panicked() -> EmbedError {
        EmbedError::Inference { model: "m".to_owned(), reason: "panicked".to_owned() }
    }

    fn run_on<T: Send>(
        job: &Job,
        pieces: usize,
        work: &(dyn Fn(usize, &StopFlag) -> Result<T, EmbedError> + Sync),
    ) -> Result<Vec<T>, EmbedError> {
        let stop = StopFlag::new(&|| {});
        run(job, job.threads, pieces, &stop, &|piece| work(piece, &stop), &panicked)
    }

    #[test]
    fn results_come_in_order() {
        for threads in [0, 1, 3, 50] {
            let got = run_on(&Job::uninterrupted(threads), 20, &|piece, _| {
                thread::sleep(Duration::from_micros(300 * (piece % 3) as u64));
                Ok(piece * piece)
            });
            assert_eq!(got.unwrap(), (0..20).map(|piece| piece * piece).collect::<Vec<_>>());
        }
        assert!(run_on(&Job::uninterrupted(2), 0, &|piece, _| Ok(piece)).unwrap().is_empty());
    }

    #[test]
    fn threads_work_side_by_side() {
        let (now, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let spawns = Cell::new(0);
        let around = |spawn: &mut dyn FnMut()| {
            spawns.set(spawns.get() + 1);
            spawn();
        };
        let job = Job { threads: 3, should_stop: &|| false, around_spawn: &around };
        run_on(&job, 9, &|_, _| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        assert_eq!((most.into_inner(), spawns.get()), (3, 1));
    }

    #[test]
    fn no_thread_outlives_the_call() {
        let named = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            let own: Vec<_> =
                tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect();
            own.iter().filter(|name| name.trim() == "embed-test-only").count()
        };
        // Threads of tests beside this one have the usual name.
        let rename = || std::fs::write("/proc/thread-self/comm", "embed-test-only").unwrap();
        for round in 0..200 {
            run_on(&Job::uninterrupted(3), 3, &|_, _| {
                rename();
                Ok(())
            })
            .unwrap();
            // The kernel wakes who joins a thread just before it takes that thread off its list.
            let joined = Instant::now();
            while named() > 0 {
                assert!(joined.elapsed() < Duration::from_secs(5), "round {round}");
                thread::yield_now();
            }
        }
    }

    #[test]
    fn stops_when_asked() {
        let running = AtomicU32::new(0);
        let asked = Cell::new(0);
        let should_stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 10
        };
        let job = Job { threads: 2, should_stop: &should_stop, around_spawn: &|spawn| spawn() };
        let start = Instant::now();
        let got = run_on(&job, 1000, &|_, stop| {
            running.fetch_add(1, Ordering::SeqCst);
            while !stop.is_raised() {
                thread::sleep(Duration::from_millis(1));
            }
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        });
        assert!(matches!(got, Err(EmbedError::Stopped)));
        assert_eq!(running.into_inner(), 0);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }

    #[test]
    fn the_first_error_ends_it() {
        let started = AtomicU32::new(0);
        let got = run_on(&Job::uninterrupted(2), 1000, &|piece, _| {
            started.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            if piece == 5 { Err(EmbedError::NotFinite { model: "m".to_owned() }) } else { Ok(()) }
        });
        assert!(matches!(got, Err(EmbedError::NotFinite { .. })));
        assert!(started.into_inner() < 100);
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let got = run_on(&Job::uninterrupted(2), 4, &|piece, _| {
            assert_ne!(piece, 2, "this panic is part of the test");
            Ok(())
        });
        assert!(matches!(got, Err(EmbedError::Inference { .. })));
    }

    #[test]
    fn a_panic_of_the_caller_passes_but_stops_the_threads() {
        let start = Instant::now();
        let should_stop = || panic!("this panic is part of the test");
        let job = Job { threads: 2, should_stop: &should_stop, around_spawn: &|spawn| spawn() };
        let got = catch_unwind(AssertUnwindSafe(|| {
            run_on(&job, 10_000, &|_, stop| {
                while !stop.is_raised() {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            })
        }));
        assert!(got.is_err() && start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn without_threads_there_is_an_error() {
        let job = Job { threads: 2, should_stop: &|| false, around_spawn: &|_| {} };
        assert!(matches!(run_on(&job, 3, &|_, _| Ok(())), Err(EmbedError::Threads { .. })));
    }
}
