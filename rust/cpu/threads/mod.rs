//! The one thread pool. `parallel` splits a loop over it; which thread runs which chunk is left open,
//! so a kernel whose chunks depend on shapes only computes the same bits with any number of threads.
//!
//! Each thread begins with a run of neighbouring chunks of its own, the same in every region of as many
//! chunks, so that a network that fits the cores' second levels of cache is read from there step after
//! step; then it helps the others. The caller works like anybody and leaves when all chunks are done
//! without waiting for workers that never came: a worker that the system holds back costs its share of
//! the work, never a stall. Idle workers spin for some microseconds, since the next region usually
//! follows at once and waking a sleeper costs more than most regions, and then park.

mod fork;
mod place;

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::place::Place;
use super::even::Even;

/// How long an idle worker, or a caller whose last chunk runs elsewhere, spins before it parks.
const SPIN: Duration = Duration::from_micros(30);

/// Asked for, or 0 before the first question.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is a worker or inside `parallel`, where further regions run inline.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// How many threads share the work of a region: `OXON_NUM_THREADS`, else the processors that this
/// process may use (affinity and cgroups included).
pub fn num_threads() -> usize {
    match THREADS.load(Relaxed) {
        0 => {
            let asked = std::env::var("OXON_NUM_THREADS").ok().and_then(|v| v.trim().parse().ok());
            let n = asked.filter(|&n| n > 0);
            let n = n.unwrap_or_else(|| thread::available_parallelism().map_or(1, |n| n.get()));
            // A `set_num_threads` that came in between wins.
            match THREADS.compare_exchange(0, n, Relaxed, Relaxed) {
                Ok(_) => n,
                Err(set) => set,
            }
        }
        n => n,
    }
}

/// Sets it for the regions to come; 0 counts as 1. Workers are started when first needed, and those
/// that are no longer wanted stay parked.
pub fn set_num_threads(n: usize) {
    THREADS.store(n.max(1), Relaxed);
}

/// Runs `f(0)`, …, `f(chunks - 1)`, each once, on the pool and the calling thread, and returns when
/// all are done. Runs them in order on this thread alone if there is one chunk or one thread, inside
/// another region, and while another thread uses the pool. A panic of `f` goes on to the caller after
/// the chunks that had begun have ended.
pub fn parallel<F: Fn(usize) + Sync>(chunks: usize, f: F) {
    let threads = if chunks <= 1 || INSIDE.get() { 1 } else { num_threads().min(chunks) };
    if threads > 1
        && let Some(mut crew) = pool().crew.try_lock()
    {
        pool().grow(&mut crew, threads);
        return pool().run(&crew, Even::new(chunks, threads), &f);
    }
    (0..chunks).for_each(f);
}

/// Whether the calling thread runs a chunk of a region.
pub fn inside() -> bool {
    INSIDE.get()
}

/// How many threads a region that began here would have, if nobody else uses the pool.
pub fn available() -> usize {
    if INSIDE.get() { 1 } else { num_threads() }
}

// The pool --------------------------------------------------------------------------------------

/// `Pool::state` packs the number of the region (upper half), whether workers may still join it, and
/// how many have joined and not left (lower bits).
const OPEN: u64 = 1 << 31;
const JOINED: u64 = OPEN - 1;

fn region(state: u64) -> u64 {
    state >> 32
}

struct Pool {
    state: Line<AtomicU64>,
    /// How many threads the open region wants, the caller included.
    wanted: AtomicUsize,
    /// Written by the caller while the region is closed and empty, read by those who have joined.
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Locked by the caller for as long as its region runs.
    crew: Mutex<Crew>,
}

#[derive(Default)]
struct Crew {
    workers: Vec<Worker>,
    /// For each thread of the region, the caller first, the next chunk of its own that nobody has taken.
    next: Vec<Line<AtomicUsize>>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written only by the holder of
// `crew` while `state` is closed with nobody joined, and read only between joining and leaving.
unsafe impl Sync for Pool {}

struct Job {
    f: *const (dyn Fn(usize) + Sync),
    chunks: Even,
    crew: *const Crew,
    caller: Thread,
}

struct Worker {
    thread: Thread,
    sleep: Arc<Sleep>,
}

#[derive(Default)]
struct Sleep {
    /// Set by the worker before it parks, cleared by whoever wakes it.
    parked: AtomicBool,
    place: Place,
}

/// Keeps a hot atomic alone on its cache lines (two, for the prefetcher that fetches pairs).
#[repr(align(128))]
struct Line<T>(T);

static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());

/// The pool of this process. It lives for ever: its workers hold references to it.
fn pool() -> &'static Pool {
    let mut at = POOL.load(Acquire);
    if at.is_null() {
        let new = Box::into_raw(Box::new(Pool {
            state: Line(AtomicU64::new(0)),
            wanted: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            crew: Mutex::default(),
        }));
        at = match POOL.compare_exchange(at, new, AcqRel, Acquire) {
            Ok(_) => {
                fork::watch();
                new
            }
            Err(other) => {
                // SAFETY: `new` came from `Box::into_raw` and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
                other
            }
        };
    }
    // SAFETY: `at` is a pool that was leaked on purpose and is never freed.
    unsafe { &*at }
}

impl Pool {
    /// Starts workers until a region can have so many threads. If the system refuses, the pool makes do with
    /// fewer.
    fn grow(&'static self, crew: &mut Crew, threads: usize) {
        crew.next.resize_with(threads.max(crew.next.len()), || Line(AtomicUsize::new(0)));
        while crew.workers.len() + 1 < threads {
            let index = crew.workers.len() + 1;
            let sleep = Arc::<Sleep>::default();
            let own = sleep.clone();
            let started =
                thread::Builder::new().name(format!("oxon-{index}")).spawn(move || self.work(index, &own));
            match started {
                Ok(handle) => crew.workers.push(Worker { thread: handle.thread().clone(), sleep }),
                Err(_) => return set_num_threads(index),
            }
        }
    }

    /// The caller's side of a region.
    fn run(&self, crew: &Crew, chunks: Even, f: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. The job is read by those who have joined only, and this
        // function does not return before all of them have left.
        let f = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(f) };
        let job = Job { f, chunks, crew, caller: thread::current() };
        // SAFETY: the region is closed, nobody has joined, and the lock on `crew` keeps other callers
        // away.
        unsafe { *self.job.get() = Some(job) };
        for (next, own) in crew.next.iter().zip(chunks.iter()) {
            next.0.store(own.start, Relaxed);
        }
        self.wanted.store(chunks.parts, Relaxed);
        let opened = ((region(self.state.0.load(Relaxed)) + 1) << 32) | OPEN;
        // Sequentially consistent, like every look at `parked`: see `Pool::wait`.
        self.state.0.store(opened, SeqCst);

        self.wake_below(crew, 0);
        INSIDE.set(true);
        self.take_chunks(crew, 0, f, chunks);
        INSIDE.set(false);

        self.state.0.fetch_and(!OPEN, AcqRel);
        let mut spin = Spin::new();
        while self.state.0.load(Acquire) & JOINED != 0 {
            if !spin.once() {
                thread::park();
            }
        }
        if let Some(payload) = self.panic.lock().take() {
            resume_unwind(payload);
        }
    }

    /// A worker's life; the caller counts as thread 0 and workers from 1.
    fn work(&self, index: usize, sleep: &Sleep) {
        INSIDE.set(true);
        let mut seen = 0;
        loop {
            let state = self.wait(index, seen, sleep);
            seen = region(state);
            if !self.join(seen) {
                continue;
            }
            // SAFETY: after `join` and before `leave` the caller stays in `run`, so that the job is
            // not written and what it points to lives.
            let (f, chunks, crew) = unsafe {
                let job = (*self.job.get()).as_ref().expect("an open region has a job");
                (&*job.f, job.chunks, &*job.crew)
            };
            self.wake_below(crew, index);
            self.take_chunks(crew, index, f, chunks);
            self.leave();
        }
    }

    /// Until a region opens that is not `seen` and wants this worker.
    ///
    /// The worker says that it parks and then looks at the state; the waker writes the state and then
    /// looks who is parked. All four are sequentially consistent, so one of them sees the other.
    fn wait(&self, index: usize, seen: u64, sleep: &Sleep) -> u64 {
        let ready = || {
            let state = self.state.0.load(SeqCst);
            (state & OPEN != 0 && region(state) != seen && index < self.wanted.load(Relaxed)).then_some(state)
        };
        let mut spin = Spin::new();
        loop {
            if let Some(state) = ready() {
                return state;
            }
            if !spin.once() {
                sleep.place.leave();
                sleep.parked.store(true, SeqCst);
                if ready().is_none() {
                    thread::park();
                }
                sleep.parked.store(false, SeqCst);
                sleep.place.arrive();
            }
        }
    }

    /// Enters region `number`, or returns false if it has closed.
    fn join(&self, number: u64) -> bool {
        let mut state = self.state.0.load(Relaxed);
        while state & OPEN != 0 && region(state) == number {
            match self.state.0.compare_exchange_weak(state, state + 1, SeqCst, Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Leaves; the last to leave a closed region wakes the caller, who may have parked.
    fn leave(&self) {
        let mut state = self.state.0.load(Relaxed);
        loop {
            // The job may be gone as soon as the state says that this worker has left.
            let last = state & (OPEN | JOINED) == 1;
            // SAFETY: as in `work`, this worker has not left yet.
            let caller = last.then(|| unsafe { (*self.job.get()).as_ref().map(|job| job.caller.clone()) });
            match self.state.0.compare_exchange_weak(state, state - 1, AcqRel, Relaxed) {
                Ok(_) => return caller.flatten().iter().for_each(Thread::unpark),
                Err(now) => state = now,
            }
        }
    }

    /// Wakes this thread's two children in the tree of wanted threads, so that waking many takes
    /// logarithmic time and no thread's share of it is long.
    fn wake_below(&self, crew: &Crew, index: usize) {
        for child in [2 * index + 1, 2 * index + 2] {
            if child < self.wanted.load(Relaxed)
                && let Some(worker) = crew.workers.get(child - 1)
                && worker.sleep.parked.load(SeqCst)
                && worker.sleep.parked.swap(false, SeqCst)
            {
                worker.sleep.place.keep_off_mine();
                worker.thread.unpark();
            }
        }
    }

    /// Runs chunks until none is left: this thread's own, then what the next threads have left of theirs.
    /// After a panic the chunks that nobody has begun are dropped.
    fn take_chunks(&self, crew: &Crew, index: usize, f: &(dyn Fn(usize) + Sync), chunks: Even) {
        let run = AssertUnwindSafe(|| {
            for of in (index..chunks.parts).chain(0..index) {
                let (next, end) = (&crew.next[of].0, chunks.part(of).end);
                // Looking costs less than taking where there is nothing left.
                while next.load(Relaxed) < end {
                    let chunk = next.fetch_add(1, Relaxed);
                    if chunk < end {
                        f(chunk);
                    }
                }
            }
        });
        if let Err(payload) = catch_unwind(run) {
            for (next, own) in crew.next.iter().zip(chunks.iter()) {
                next.0.store(own.end, Relaxed);
            }
            self.panic.lock().get_or_insert(payload);
        }
    }
}

/// Spins for `SPIN` in all.
struct Spin {
    since: Option<Instant>,
    turns: u32,
    yielded: bool,
}

impl Spin {
    fn new() -> Spin {
        Spin { since: None, turns: 0, yielded: false }
    }

    /// Passes a moment, or returns false once the time is up.
    fn once(&mut self) -> bool {
        self.turns = self.turns.wrapping_add(1);
        std::hint::spin_loop();
        // Reading the clock costs about as much as a pause on some processors: do it now and then.
        if !self.turns.is_multiple_of(16) {
            return true;
        }
        let spent = self.since.get_or_insert_with(Instant::now).elapsed();
        // Whoever is waited for may need this very processor. Only once: the system puts threads that
        // keep yielding behind all others.
        if spent > SPIN / 8 && !self.yielded {
            self.yielded = true;
            thread::yield_now();
        }
        spent < SPIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(chunks: usize) -> usize {
        let hits: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
        parallel(chunks, |i| {
            hits[i].fetch_add(1, Relaxed);
        });
        assert!(hits.iter().all(|h| h.load(Relaxed) == 1), "each chunk runs once");
        hits.len()
    }

    #[test]
    fn every_chunk_runs_once() {
        for threads in [1, 2, 4, 3] {
            set_num_threads(threads);
            for chunks in [0, 1, 2, 3, 7, 64, 1000] {
                assert_eq!(sum(chunks), chunks);
            }
        }
    }

    #[test]
    fn several_callers_share_the_pool() {
        set_num_threads(4);
        thread::scope(|scope| {
            for caller in 0..4 {
                scope.spawn(move || {
                    for round in 0..2000 {
                        sum((round * 7 + caller) % 40);
                        if round % 500 == 0 {
                            // Long enough for the workers to park.
                            thread::sleep(Duration::from_millis(2));
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn nested_regions_run_inline() {
        set_num_threads(4);
        let count = AtomicUsize::new(0);
        parallel(8, |_| {
            let me = thread::current().id();
            parallel(8, |_| {
                assert_eq!(thread::current().id(), me);
                count.fetch_add(1, Relaxed);
            });
        });
        assert_eq!(count.into_inner(), 64);
    }

    #[test]
    fn results_are_visible_to_the_caller() {
        set_num_threads(4);
        let mut data = vec![0u64; 4096];
        for round in 1..200u64 {
            let base = data.as_mut_ptr() as usize;
            parallel(64, |i| {
                // SAFETY: chunk i owns 64 elements that no other chunk touches.
                let part = unsafe { std::slice::from_raw_parts_mut((base as *mut u64).add(64 * i), 64) };
                part.iter_mut().for_each(|x| *x += round);
            });
        }
        assert!(data.iter().all(|&x| x == 199 * 200 / 2));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        set_num_threads(4);
        for bad in [0, 5, 99] {
            let payload = catch_unwind(|| {
                parallel(100, |i| {
                    if i == bad {
                        resume_unwind(Box::new(i));
                    }
                    thread::sleep(Duration::from_micros(20));
                })
            })
            .unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&bad));
            assert_eq!(sum(50), 50);
        }
    }

    #[test]
    fn work_is_shared() {
        set_num_threads(4);
        // Other tests may hold the pool at a given moment, not at every one.
        let shared = (0..1000).any(|_| {
            let me = thread::current().id();
            let elsewhere = AtomicBool::new(false);
            parallel(16, |_| {
                if thread::current().id() != me {
                    elsewhere.store(true, Relaxed);
                }
                thread::sleep(Duration::from_micros(100));
            });
            elsewhere.into_inner()
        });
        assert!(shared);
    }

    #[cfg(unix)]
    #[test]
    fn a_forked_child_has_a_pool_of_its_own() {
        set_num_threads(4);
        sum(50);
        // SAFETY: the child only runs the pool and leaves without unwinding or destructors; a hang
        // ends by SIGALRM, which the parent sees as a bad status.
        unsafe {
            let pid = libc::fork();
            assert!(pid >= 0);
            if pid == 0 {
                libc::alarm(20);
                let fine = catch_unwind(|| (0..100).all(|_| sum(50) == 50)).unwrap_or(false);
                libc::_exit(if fine { 0 } else { 1 });
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
            assert_eq!(status, 0);
        }
    }
}
