//! Who turns the engine while applications run: leader, followers and stand-in.
//!
//! One thread at a time holds the helm. It turns the engine and calls the application itself, so a quick call costs no
//! hand-off. A monitor, a native thread that never needs the GIL, notices a call that outlasts a tick and passes the helm
//! to a parked thread of the pool; when there is none it turns the engine itself, so that bytes are read, deadlines fire,
//! output leaves and idle siblings get the requests that would wait here while Python is busy. Paths that were slow before are handed off before the call.
//!
//! The helm decides who waits in the poller, nothing else: the engine is safe to turn from several threads, so a helm
//! that changes hands late costs time and never correctness.
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};

use tricorn_scoreboard::Slot;

use crate::clock;
use crate::engine::Engine;
use crate::exchange::Exchange;
use crate::load::Load;
use crate::poller::Events;
use crate::predictor::{Predictor, Waits, place};
use crate::tick::{self, Calm, Tick};

/// A call longer than this is slow, and loses the helm when the monitor sees it, but for what `look_at_load` says.
const SLOW_NS: u64 = 1_000_000;
/// A call that is over sooner leaves no time for another thread to get to work.
const WAIT_NS: u64 = 200_000;
/// Between this and `SLOW_NS` calls are no reason for a hand-over while the process has no CPU to spare: they wait for
/// the GIL, each for the others. Source: `sys.getswitchinterval()`.
const GIL_INTERVAL_NS: u64 = 5_000_000;
/// Answers do not wait for the end of a longer call: they leave before it, as parts of answers leave in the midst of it.
const LENGTHY_NS: u64 = tick::SHORT.as_nanos() as u64;
/// The monitor parks after this many ticks without a call.
const QUIET_TICKS: u32 = 10;
/// Longest wait of the stand-in.
const STAND_IN_MS: u64 = 100;
const STAND_IN: u32 = u16::MAX as u32;

pub type OnTick = Box<dyn Fn(&Engine) + Send + Sync>;

/// What a thread of the pool is to do.
pub enum Next {
    Call(Exchange, Call),
    /// Look after signals, notices, the worker's own state; then come again.
    Attend,
    Stop,
}

/// Goes with an exchange from `Next` to [`Helm::end_call`].
#[derive(Clone, Copy, Debug)]
pub struct Call {
    started_ns: u64,
    path: usize,
    /// Of the thread, where the call may turn out to wait.
    cpu_ns: Option<u64>,
}

/// leader (16 bits) | number of the call (47) | in a call (1)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Word(u64);

impl Word {
    fn new(leader: u32, number: u64, in_call: bool) -> Word {
        Word(u64::from(leader) << 48 | (number & 0x7fff_ffff_ffff) << 1 | u64::from(in_call))
    }

    fn leader(self) -> u32 {
        (self.0 >> 48) as u32
    }

    fn number(self) -> u64 {
        self.0 >> 1 & 0x7fff_ffff_ffff
    }

    fn in_call(self) -> bool {
        self.0 & 1 == 1
    }
}

struct Seat {
    thread: OnceLock<Thread>,
    woken: AtomicBool,
}

pub struct Helm {
    engine: Arc<Engine>,
    /// Beaten at each sign of life of the only thread (sync); None where the driver beats itself (gthread).
    slot: Option<&'static Slot>,
    word: AtomicU64,
    /// When the leader's call began. Units: monotonic nanoseconds.
    call_started_ns: AtomicU64,
    /// Ids of parked threads, the last one parked on top: its caches are warm.
    parked: Mutex<Vec<u32>>,
    seats: Vec<Seat>,
    next_seat: AtomicU32,
    /// Paths whose calls are lengthy: what waits for company leaves before them.
    lengthy: Predictor,
    /// Paths whose calls leave room for another thread: the helm is passed on before them.
    roomy: Predictor,
    /// The least time of such a call.
    roomy_ns: AtomicU64,
    /// Paths whose calls leave the GIL to others: however full the CPU is, as many of them run as there are threads.
    waits: Waits,
    /// The leader's call is expected to be one of them.
    leader_waits: AtomicBool,
    /// A call that lasts longer loses the helm.
    overdue_ns: AtomicU64,
    tick: Arc<Tick>,
    /// The stand-in has met what a thread of the pool has to look after.
    attend_due: AtomicBool,
    stopped: AtomicBool,
    /// Longest wait of a thread at the helm: heartbeats and the driver's own checks come this often.
    turn_ms: u64,
    /// Called without the GIL at each turn and tick: what must not wait for the application (the access log, a stop).
    on_tick: OnTick,
}

impl Helm {
    /// `threads`: threads that will take a seat; `turn_ms`: the longest they wait. Starts the monitor.
    pub fn start(
        engine: Arc<Engine>,
        threads: usize,
        slot: Option<&'static Slot>,
        turn_ms: u64,
        on_tick: OnTick,
    ) -> std::io::Result<Arc<Helm>> {
        let seats = (0..threads)
            .map(|_| Seat {
                thread: OnceLock::new(),
                woken: AtomicBool::new(false),
            })
            .collect();
        let tick = engine.tick.clone();
        let helm = Arc::new(Helm {
            engine,
            slot,
            word: AtomicU64::new(Word::new(0, 0, false).0),
            call_started_ns: AtomicU64::new(0),
            parked: Mutex::new(Vec::with_capacity(threads)),
            seats,
            next_seat: AtomicU32::new(0),
            lengthy: Predictor::new(),
            roomy: Predictor::new(),
            roomy_ns: AtomicU64::new(SLOW_NS),
            waits: Waits::new(WAIT_NS),
            leader_waits: AtomicBool::new(false),
            overdue_ns: AtomicU64::new(SLOW_NS),
            tick,
            attend_due: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            turn_ms,
            on_tick,
        });
        let monitor = helm.clone();
        thread::Builder::new()
            .name("tricorn-monitor".into())
            .spawn(move || monitor.watch())?;
        Ok(helm)
    }

    /// Takes a seat for the calling thread. Shape: an id from 1.
    pub fn take_seat(&self) -> u32 {
        let index = self.next_seat.fetch_add(1, Ordering::Relaxed);
        let _ = self.seats[index as usize].thread.set(thread::current());
        index + 1
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Every thread comes back from `next` with `Stop`, and the monitor ends.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.engine.flush_waiting();
        for seat in &self.seats {
            seat.woken.store(true, Ordering::SeqCst);
            if let Some(thread) = seat.thread.get() {
                thread.unpark();
            }
        }
        self.tick.wake();
        self.engine.wake();
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn word(&self) -> Word {
        Word(self.word.load(Ordering::SeqCst))
    }

    fn exchange_word(&self, from: Word, to: Word) -> bool {
        self.word
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// What can be done now, without waiting: the caller may keep the GIL.
    pub fn try_next(&self, me: u32, now_ns: u64) -> Option<Next> {
        // Before the requests: while the stand-in finds more of them than we answer, there is no other moment.
        if self.attend_due.load(Ordering::Relaxed) && self.attend_due.swap(false, Ordering::Relaxed)
        {
            return Some(Next::Attend);
        }
        if self.is_crowded() && self.is_left_to_others(me) && !self.next_waits() {
            return None;
        }
        let exchange = self.engine.next_ready(now_ns)?;
        let call = self.begin_call(me, &exchange, now_ns);
        Some(Next::Call(exchange, call))
    }

    /// Waits for something to do. To be called without the GIL.
    pub fn next(&self, me: u32, events: &mut Events) -> Next {
        loop {
            if self.is_stopped() {
                return Next::Stop;
            }
            if let Some(next) = self.try_next(me, clock::now_ns()) {
                return next;
            }
            if self.engine.is_drained() {
                self.stop();
                continue;
            }
            let word = self.word();
            if word.leader() == me {
                if let Some(next) = self.turn(events) {
                    return next;
                }
            } else if self.is_free(word) {
                if self.exchange_word(word, Word::new(me, word.number() + 1, false))
                    && word.leader() == STAND_IN
                {
                    self.engine.set_slots_free(true);
                    self.engine.wake();
                }
            } else {
                self.park(me);
            }
        }
    }

    fn turn(&self, events: &mut Events) -> Option<Next> {
        (self.on_tick)(&self.engine);
        let turn = self.engine.turn(events, self.turn_ms);
        self.beat();
        if turn.ready > 0 && !turn.driver && !turn.notices {
            return None;
        }
        Some(Next::Attend)
    }

    fn beat(&self) {
        if let Some(slot) = self.slot {
            slot.beat(clock::now_ms());
        }
    }

    /// Parks until somebody passes the helm, or until it lies free.
    fn park(&self, me: u32) {
        let seat = &self.seats[me as usize - 1];
        seat.woken.store(false, Ordering::SeqCst);
        self.parked().push(me);
        // Between the look at the helm and the parking it may have come free: look again now that we can be found.
        let word = self.word();
        if self.is_free(word) || word.leader() == me || self.is_stopped() {
            self.parked().retain(|&id| id != me);
            return;
        }
        while !seat.woken.load(Ordering::SeqCst) {
            thread::park();
        }
        self.parked().retain(|&id| id != me);
    }

    fn parked(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpark(&self, id: u32) {
        let seat = &self.seats[id as usize - 1];
        seat.woken.store(true, Ordering::SeqCst);
        if let Some(thread) = seat.thread.get() {
            thread.unpark();
        }
    }

    /// Passes the helm from `word` to a parked thread. False when there is none, or the helm has moved meanwhile.
    fn pass_to_parked(&self, word: Word) -> bool {
        let Some(follower) = self.parked().pop() else {
            return false;
        };
        if self.exchange_word(word, Word::new(follower, word.number() + 1, false)) {
            self.unpark(follower);
            return true;
        }
        self.parked().push(follower);
        false
    }

    fn begin_call(&self, me: u32, exchange: &Exchange, started_ns: u64) -> Call {
        let path = place(exchange.head().path());
        if self.lengthy.expects(path) {
            self.engine.flush_waiting();
        }
        let several = self.seats.len() > 1;
        let waits = several && self.waits.expects(path);
        let word = self.word();
        if word.leader() == me {
            // A short one is worth another thread only when that has something to do.
            let makes_room =
                several && self.roomy.expects(path) || waits && self.engine.ready_len() > 0;
            if !makes_room || !self.pass_to_parked(word) {
                self.leader_waits.store(waits, Ordering::Relaxed);
                self.call_started_ns.store(started_ns, Ordering::Relaxed);
                self.word
                    .swap(Word::new(me, word.number() + 1, true).0, Ordering::SeqCst);
                self.tick.call_begins();
            }
        }
        Call {
            started_ns,
            path,
            cpu_ns: if several {
                self.waits.begin(path)
            } else {
                None
            },
        }
    }

    /// The application has answered. Returns the current time.
    pub fn end_call(&self, me: u32, call: Call) -> u64 {
        let word = self.word();
        if word.leader() == me && word.in_call() {
            // Fails when the monitor takes the helm this very moment; then it is no longer ours to put back.
            self.exchange_word(word, Word::new(me, word.number(), false));
        }
        let now_ns = clock::now_ns();
        let took_ns = now_ns.saturating_sub(call.started_ns);
        self.lengthy.note(call.path, took_ns > LENGTHY_NS);
        if self.seats.len() > 1 {
            let least = self.roomy_ns.load(Ordering::Relaxed);
            self.roomy.note(call.path, took_ns > least);
            self.waits
                .note(call.path, took_ns, call.cpu_ns, self.is_contended());
        }
        if let Some(slot) = self.slot {
            slot.beat(now_ns / 1_000_000);
        }
        now_ns
    }

    // ---- a loop of somebody else's

    /// The loop's thread begins something that may call the application: from here on output waits for `end_step`, and
    /// when that does not come within a tick, the monitor stands in.
    pub fn begin_step(&self, me: u32) {
        self.call_started_ns
            .store(clock::now_ns(), Ordering::Relaxed);
        let number = self.word().number() + 1;
        self.word
            .swap(Word::new(me, number, true).0, Ordering::SeqCst);
        self.tick.call_begins();
    }

    /// Another call of the same step begins: many quick ones are not a slow one, and behind a slow one nobody has to stand
    /// in any more.
    pub fn go_on(&self, me: u32, now_ns: u64) {
        self.call_started_ns.store(now_ns, Ordering::Relaxed);
        if self.word().leader() == STAND_IN {
            self.take_back(me, true);
        }
    }

    /// The loop goes on to its other business.
    pub fn end_step(&self, me: u32) {
        self.take_back(me, false);
    }

    /// The helm is the loop's thread's, whoever had it.
    fn take_back(&self, me: u32, in_call: bool) {
        let to = Word::new(me, self.word().number(), in_call);
        let before = Word(self.word.swap(to.0, Ordering::SeqCst));
        if before.leader() == STAND_IN {
            self.engine.set_slots_free(true);
            self.engine.wake();
        }
    }

    // ---- the monitor

    fn watch(&self) {
        // Signals are for the main thread: it alone runs Python's handlers.
        crate::sys::block_all_signals();
        self.tick.attach();
        let mut events = Events::new();
        let mut last = self.word();
        let mut calm = Calm::default();
        let mut load = Load::default();
        let mut quiet = 0;
        while !self.is_stopped() {
            if quiet > QUIET_TICKS {
                self.tick
                    .rest(|| self.word().in_call() || self.is_stopped());
                quiet = 0;
            }
            let parts_wait = self.tick.pause(&mut calm);
            self.look_at_load(&mut load);
            (self.on_tick)(&self.engine);
            let word = self.word();
            if parts_wait || !self.is_quick(word) {
                self.engine.flush_waiting();
            }
            if word.in_call() && self.is_overdue(word) {
                if !self.pass_to_parked(word)
                    && self.exchange_word(word, Word::new(STAND_IN, word.number() + 1, false))
                {
                    self.stand_in(&mut events, &mut load);
                }
                // With siblings there is more to it: what waits here goes to them at the next look.
                match self.engine.has_siblings() {
                    true => calm.disturb(),
                    false => calm.note_slow_call(),
                }
                quiet = 0;
            } else if word.number() == last.number() {
                quiet += 1;
            } else {
                quiet = 0;
            }
            last = word;
        }
    }

    /// Calls that hold each other up look slow, and passing the helm on for that brings more of the same: four threads
    /// in calls of 0.4 ms cost 15 % more than one. Where the CPU is used up, nobody else would come to it sooner, except
    /// siblings: for them a busy worker's only thread is replaced early. Without them only the stand-in could follow it,
    /// and what that does can wait: two changes of threads cost a tenth of a call of 1.1 ms.
    fn look_at_load(&self, load: &mut Load) {
        let full = load.is_full(clock::now_ns(), clock::process_ns);
        let (mut overdue_ns, mut roomy_ns) = (SLOW_NS, SLOW_NS);
        if self.may_be_patient() {
            if load.is_mostly_full() {
                roomy_ns = GIL_INTERVAL_NS.max(SLOW_NS * self.seats.len() as u64);
            }
            if full || self.seats.len() == 1 {
                overdue_ns = GIL_INTERVAL_NS;
            }
        }
        self.overdue_ns.store(overdue_ns, Ordering::Relaxed);
        self.roomy_ns.store(roomy_ns, Ordering::Relaxed);
    }

    fn may_be_patient(&self) -> bool {
        !self.engine.config.parallel_calls && (self.seats.len() > 1 || !self.engine.has_siblings())
    }

    /// May a thread that has nothing to do take the helm?
    fn is_free(&self, word: Word) -> bool {
        word.leader() == 0
            || word.leader() == STAND_IN
            || word.in_call() && self.leader_waits.load(Ordering::Relaxed)
    }

    /// A leader in a call comes back for what is ready, unless it waits there, and one in the poller does not know of it. Under
    /// the stand-in one has to lead first.
    fn is_left_to_others(&self, me: u32) -> bool {
        let word = self.word();
        let comes_back = word.in_call() && !self.leader_waits.load(Ordering::Relaxed);
        word.leader() != me && (comes_back || word.leader() == STAND_IN)
    }

    /// Will the next request wait, so that whoever takes it leaves the GIL to others?
    fn next_waits(&self) -> bool {
        let path = self.engine.peek_ready(|head| place(head.path()));
        path.is_some_and(|path| self.waits.expects(path))
    }

    /// A CPU is used up at the moment: what several calls take tells how much they hold each other up.
    fn is_contended(&self) -> bool {
        self.overdue_ns.load(Ordering::Relaxed) > SLOW_NS
    }

    /// One thread more would only wait for the GIL: whoever comes back from a call leaves the next one to the leader.
    fn is_crowded(&self) -> bool {
        self.roomy_ns.load(Ordering::Relaxed) > SLOW_NS
    }

    /// May the call that `word` tells of still be a quick one? Then the next one is near, and whoever asks for it sends
    /// what has waited long enough: we would only get in the way.
    fn is_quick(&self, word: Word) -> bool {
        word.in_call() && self.lasted_ns() < SLOW_NS
    }

    /// Has the call that `word` tells of lasted too long?
    fn is_overdue(&self, word: Word) -> bool {
        let least = match self.leader_waits.load(Ordering::Relaxed) {
            true => SLOW_NS,
            false => self.overdue_ns.load(Ordering::Relaxed),
        };
        // Still the same call: the time belongs to it.
        self.lasted_ns() > least && self.word() == word
    }

    fn lasted_ns(&self) -> u64 {
        let started_ns = self.call_started_ns.load(Ordering::Relaxed);
        clock::now_ns().saturating_sub(started_ns)
    }

    /// Every thread is in the application: the engine goes on without them.
    fn stand_in(&self, events: &mut Events, load: &mut Load) {
        self.engine.set_slots_free(false);
        while self.word().leader() == STAND_IN && !self.is_stopped() {
            self.engine.pass_on();
            let turn = self.engine.turn_aside(events, STAND_IN_MS);
            self.look_at_load(load);
            (self.on_tick)(&self.engine);
            if turn.driver || turn.notices {
                self.attend_due.store(true, Ordering::Relaxed);
            }
            if turn.driver {
                // It stays readable until the call is over: no reason to run in circles.
                thread::park_timeout(tick::SHORT);
            }
        }
        // Who took the helm has said so as well, but perhaps before we said the contrary.
        self.engine.set_slots_free(true);
        // What this turn found belongs to a leader that may already wait in the poller.
        if self.engine.ready_len() > 0 || self.engine.has_woken() {
            self.engine.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::EngineConfig;

    #[test]
    fn a_loop_that_goes_on_behind_a_slow_call_needs_no_stand_in_any_more() {
        let engine = Engine::new(EngineConfig::default(), Vec::new(), None).expect("an engine");
        let helm = Helm::start(engine, 1, None, 100, Box::new(|_| {})).expect("a helm");
        let me = helm.take_seat();
        let deadline = Instant::now() + Duration::from_secs(20);
        let until = |reached: &dyn Fn() -> bool| {
            while !reached() {
                assert!(Instant::now() < deadline, "{:?}", helm.word());
                thread::yield_now();
            }
        };
        helm.begin_step(me);
        until(&|| helm.word().leader() == STAND_IN);
        // Again, because on a busy machine the next call may look slow at once.
        until(&|| {
            helm.go_on(me, clock::now_ns());
            helm.word().leader() == me && helm.word().in_call()
        });
        helm.end_step(me);
        assert!(helm.word().leader() == me && !helm.word().in_call());
        helm.stop();
    }
}
