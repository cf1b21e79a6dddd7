//! Runs pieces of work on threads of its own while the calling thread only waits and asks whether to stop.
//!
//! The caller may be a process whose signal handlers and exit handlers must not run beside other threads.
//! Therefore threads are created inside a wrapper that the caller supplies, the calling thread asks every
//! [`POLL_INTERVAL`] whether to stop, and all threads have been joined before [`Work::run`] returns or
//! unwinds.
//!
//! Nothing here knows what the work is: the errors of the pieces are the caller's own type.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

/// How the calling thread and the threads that work for it get along. See [`crate::Model::embed`].
pub struct Job<'a> {
    /// Largest number of threads that work at once. At least one is started; the calling thread itself only
    /// waits.
    pub threads: usize,
    /// Returns true if the work is to be given up. Called by the calling thread every few milliseconds, so it
    /// has to be quick. If it unwinds, the threads are stopped and joined before the unwinding goes on.
    pub should_stop: &'a dyn Fn() -> bool,
    /// Called on the calling thread, around the creation of threads, with a function to call exactly once.
    /// The new threads inherit the signal mask that the calling thread has while that function runs.
    pub around_spawn: &'a dyn Fn(&mut dyn FnMut()),
}

impl Job<'static> {
    /// Makes a job that is never stopped and whose threads take any signal.
    pub fn uninterrupted(threads: usize) -> Job<'static> {
        Job { threads, should_stop: &|| false, around_spawn: &|spawn| spawn() }
    }
}

/// Time between two calls of [`Job::should_stop`], unless a result arrives earlier.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Name of the threads, as `ps -L` and a debugger show it. Linux keeps 15 bytes of it.
const THREAD_NAME: &str = "leann-embed";

/// Work that is cut into pieces, each of which any thread may do.
pub struct Work<'a, T, E> {
    /// Number of pieces.
    pub pieces: usize,
    /// Largest number of threads that are of use, at most [`Job::threads`] of the caller's job.
    pub threads: usize,
    /// Does the piece of this number. Once the flag is raised, it should return as soon as it can, with any
    /// result.
    pub run_piece: &'a (dyn Fn(usize, &StopFlag) -> Result<T, E> + Sync),
    /// Cuts short what other threads are doing. Called once, when the flag is raised.
    pub interrupt: &'a (dyn Fn() + Sync),
}

/// Why there are no results.
#[derive(Debug)]
pub enum Failure<E> {
    /// [`Job::should_stop`] returned true.
    Stopped,
    /// A piece failed.
    Piece(E),
    /// A piece panicked.
    Panicked,
    /// No thread could be started, for this reason if one is known.
    NoThread(Option<io::Error>),
}

/// Raised when the rest of the work is no longer wanted, because of an error or because the caller said so.
pub struct StopFlag<'a> {
    raised: AtomicBool,
    interrupt: &'a (dyn Fn() + Sync),
}

impl StopFlag<'_> {
    /// Returns whether the rest of the work is no longer wanted.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            (self.interrupt)();
        }
    }
}

impl<T: Send, E: Send> Work<'_, T, E> {
    /// Does all pieces, begun in the order of their numbers, and returns their results in that order.
    ///
    /// The first failure ends the work and is the one returned. All threads have ended by then.
    pub fn run(&self, job: &Job) -> Result<Vec<T>, Failure<E>> {
        let queue = Queue {
            work: self,
            next: AtomicUsize::new(0),
            stop: StopFlag { raised: AtomicBool::new(false), interrupt: self.interrupt },
        };
        thread::scope(|scope| {
            let (sender, outcomes) = mpsc::channel();
            let mut threads = Threads { handles: Vec::new(), stop: &queue.stop };
            let refused = threads.start(scope, job, &queue, sender);
            collect(job, &queue, &outcomes).map_err(|failure| match failure {
                Failure::NoThread(_) => Failure::NoThread(refused),
                other => other,
            })
        })
    }
}

/// What a thread reports about one piece: its number and its result.
type Outcome<T, E> = (usize, Result<T, Failure<E>>);

/// The pieces that no thread has begun yet.
struct Queue<'a, T, E> {
    work: &'a Work<'a, T, E>,
    next: AtomicUsize,
    stop: StopFlag<'a>,
}

impl<T, E> Queue<'_, T, E> {
    /// Does one piece after the other until none is left or the flag is raised. Runs on each of the threads.
    fn serve(&self, outcomes: Sender<Outcome<T, E>>) {
        while !self.stop.is_raised() {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.work.pieces {
                return;
            }
            let result = match catch_unwind(AssertUnwindSafe(|| (self.work.run_piece)(piece, &self.stop))) {
                Ok(result) => result.map_err(Failure::Piece),
                Err(_) => Err(Failure::Panicked),
            };
            if outcomes.send((piece, result)).is_err() {
                return;
            }
        }
    }
}

/// The threads at work. When dropped, also by a panic in one of the caller's functions, it stops and joins
/// them. The end of the scope alone would not do: it waits until the closures have returned, not until the
/// threads are gone.
struct Threads<'scope, 'a> {
    handles: Vec<ScopedJoinHandle<'scope, ()>>,
    stop: &'scope StopFlag<'a>,
}

impl<'scope> Threads<'scope, '_> {
    /// Starts the threads that serve the queue, as many as the system allows. Returns why it refused one, if
    /// it did.
    ///
    /// The threads hold the only senders, so the channel is disconnected when they have ended.
    fn start<T: Send, E: Send>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        job: &Job,
        queue: &'scope Queue<T, E>,
        outcomes: Sender<Outcome<T, E>>,
    ) -> Option<io::Error> {
        let wanted = queue.work.threads.clamp(1, queue.work.pieces.max(1));
        let mut refused = None;
        (job.around_spawn)(&mut || {
            for _ in 0..wanted {
                let outcomes = outcomes.clone();
                let thread = thread::Builder::new().name(THREAD_NAME.to_owned());
                match thread.spawn_scoped(scope, move || queue.serve(outcomes)) {
                    Ok(handle) => self.handles.push(handle),
                    Err(e) => {
                        // Fewer threads do the same work.
                        refused = Some(e);
                        break;
                    }
                }
            }
        });
        refused
    }
}

impl Drop for Threads<'_, '_> {
    fn drop(&mut self) {
        self.stop.raise();
        for handle in self.handles.drain(..) {
            // A panic of a piece has become a failure already.
            let _ = handle.join();
        }
    }
}

/// Receives outcomes until all threads have ended, and asks meanwhile whether to stop. Raises the flag at the
/// first failure and returns that one.
fn collect<T, E>(
    job: &Job,
    queue: &Queue<T, E>,
    outcomes: &Receiver<Outcome<T, E>>,
) -> Result<Vec<T>, Failure<E>> {
    let mut results: Vec<Option<T>> = (0..queue.work.pieces).map(|_| None).collect();
    let mut failure = None;
    loop {
        match outcomes.recv_timeout(POLL_INTERVAL) {
            Ok((piece, Ok(result))) => results[piece] = Some(result),
            Ok((_, Err(e))) => {
                queue.stop.raise();
                failure.get_or_insert(e);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if failure.is_none() && (job.should_stop)() {
            queue.stop.raise();
            failure = Some(Failure::Stopped);
        }
    }
    match failure {
        Some(failure) => Err(failure),
        // Every thread that started has done its share, so only a call without any thread lacks a result.
        None => results.into_iter().collect::<Option<_>>().ok_or(Failure::NoThread(None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::AtomicU32;
    use std::time::Instant;

    /// The error of a piece.
    #[derive(Debug)]
    struct Broken;

    fn run_on<T: Send>(
        job: &Job,
        pieces: usize,
        run_piece: &(dyn Fn(usize, &StopFlag) -> Result<T, Broken> + Sync),
    ) -> Result<Vec<T>, Failure<Broken>> {
        Work { pieces, threads: job.threads, run_piece, interrupt: &|| {} }.run(job)
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
        assert!(matches!(got, Err(Failure::Stopped)));
        assert_eq!(running.into_inner(), 0);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }

    #[test]
    fn the_first_error_ends_it() {
        let started = AtomicU32::new(0);
        let got = run_on(&Job::uninterrupted(2), 1000, &|piece, _| {
            started.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            if piece == 5 { Err(Broken) } else { Ok(()) }
        });
        assert!(matches!(got, Err(Failure::Piece(Broken))));
        assert!(started.into_inner() < 100);
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let got = run_on(&Job::uninterrupted(2), 4, &|piece, _| {
            assert_ne!(piece, 2, "this panic is part of the test");
            Ok(())
        });
        assert!(matches!(got, Err(Failure::Panicked)));
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
        assert!(matches!(run_on(&job, 3, &|_, _| Ok(())), Err(Failure::NoThread(_))));
    }
}
