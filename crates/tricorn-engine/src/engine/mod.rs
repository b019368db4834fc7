//! The engine: listeners, connections, deadlines and draining behind one pollable descriptor.
//!
//! Whoever turns it waits in `Poller::wait` without the lock; everything else happens in short sections under one
//! mutex, so several threads may turn it or end exchanges at the same time without harm. The lock is never held
//! while Python runs, and no thread that holds it waits for the GIL.
mod accept;
mod drain;
mod flush;
mod pass;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tricorn_proto::Head;
use tricorn_proto::h1::Familiar;
use tricorn_scoreboard::Slot;

use self::pass::Siblings;
use crate::batch::Batch;
use crate::budget::Budget;
use crate::clock::{self, Stamp};
use crate::config::EngineConfig;
use crate::connection::{Awaited, Connection, Fate, Parts, Phase};
use crate::exchange::Exchange;
use crate::notice::Notice;
use crate::peer::ListenerInfo;
use crate::poller::{Events, Poller, Readiness, Token};
use crate::pool::Pool;
use crate::table::Table;
use crate::tick::Tick;

/// Deadlines are looked at this often: they are exact to a quarter of a second.
const SWEEP_MS: u64 = 250;
/// Output waits for other requests to be answered. A peer that sleeps is woken once for all of its answers then: waking
/// costs 25 to 60 us on virtual machines, as much as a JSON answer of Flask. So many is company enough.
const COMPANY: u64 = 64;
/// It waits so long at least: to send quick answers sooner measured no better.
const COMPANY_NS: u64 = 1_000_000;
/// And so long at most, which makes the waking a hundredth of the time. Quick answers would lose by it: more of them than
/// the nearest cache holds leave at once, while their peers are idle.
const LONGEST_COMPANY_NS: u64 = 4_000_000;
/// An answer waits for company if no more than this has to be copied for it: that costs nothing that can be measured.
const SMALL_COPY: u64 = 4 * 1024;
/// To copy more pays only where answers come so slowly that the peer falls asleep between two: a nanosecond a byte, and
/// not less than this.
const SLEEPY_PACE_NS: u64 = 20_000;
/// Nothing larger waits, copied or written in blocks: those of a turn are to fit into the second cache.
const LARGEST_IN_COMPANY: u64 = 32 * 1024;
/// Newcomers wait this long at most behind kept connections that always have another request.
const FAIR_NS: u64 = 20_000_000;
/// A draining worker keeps idle connections this long for a request that is on its way.
const DRAIN_LINGER_MS: u64 = 2_000;

struct Listener {
    socket: OwnedFd,
    info: Arc<ListenerInfo>,
}

/// What connections share.
pub struct Core {
    pub config: Arc<EngineConfig>,
    pub poller: Arc<Poller>,
    pub tick: Arc<Tick>,
    pub pool: Pool,
    pub batch: Batch,
    /// For what is too large for a connection's own memory.
    pub budget: Arc<Budget>,
    /// Complete requests that wait for a thread.
    pub ready: VecDeque<Box<Parts>>,
    pub notices: Vec<Notice>,
    pub stamp: Stamp,
    pub familiar: Familiar,
    pub now_ns: u64,
    pub now_ms: u64,
    /// Connections with a complete request, waiting for the application or in it. Slow uploads are not among them: they
    /// must not keep others out.
    pub in_progress: usize,
    pub draining: bool,
    /// Connections on which has come what their driver waits for.
    pub woken: Vec<u64>,
    dirty: Vec<u64>,
    /// When the first of `dirty` began to wait. Units: monotonic nanoseconds.
    dirty_since_ns: u64,
    /// The last wait came back with as many events as it may: there are likely more.
    more_events: bool,
    /// When the request before the next one went to the application, if both were ready.
    previous_ns: Option<u64>,
    /// Time from one request to the next while several are ready.
    pace_ns: u64,
}

impl Core {
    pub fn mark_dirty(&mut self, key: u64) {
        if self.dirty.is_empty() {
            self.dirty_since_ns = self.now_ns;
        }
        self.dirty.push(key);
    }

    /// Is an answer of `size` bytes, `copied` of which would have to be copied for it, better sent together with those of the
    /// requests that are next?
    pub fn company_for(&self, size: u64, copied: u64) -> bool {
        let worth_it = size <= LARGEST_IN_COMPANY
            && (copied <= SMALL_COPY || self.pace_ns >= SLEEPY_PACE_NS.max(copied));
        worth_it && (self.config.foreign_loop || !self.ready.is_empty() || self.more_events)
    }

    /// Has what waits for company done so long enough?
    fn waited_enough(&self) -> bool {
        let longest_ns = (COMPANY * self.pace_ns).clamp(COMPANY_NS, LONGEST_COMPANY_NS);
        self.now_ns.saturating_sub(self.dirty_since_ns) >= longest_ns
    }

    fn note_pace(&mut self) {
        if let Some(previous_ns) = self.previous_ns {
            self.pace_ns = self.now_ns.saturating_sub(previous_ns);
        }
        self.previous_ns = (self.ready.len() > 1).then_some(self.now_ns);
    }

    pub fn body_deadline(&self, started_ms: u64, received: u64) -> u64 {
        match self.config.client_body_min_rate {
            0 => self.now_ms + self.config.client_body_timeout_ms,
            rate => started_ms + self.config.client_body_timeout_ms + received * 1000 / rate,
        }
    }

    pub fn idle_deadline(&self, head_begun: bool) -> u64 {
        if head_begun {
            self.now_ms + self.config.client_header_timeout_ms
        } else if self.draining {
            self.now_ms + self.config.keepalive_ms.min(DRAIN_LINGER_MS)
        } else {
            self.now_ms + self.config.keepalive_ms
        }
    }
}

pub(crate) struct Inner {
    pub(crate) table: Table,
    pub(crate) core: Core,
    listeners: Vec<Listener>,
    siblings: Arc<Siblings>,
    listening: bool,
    /// The driver has a thread to spare for what would be accepted.
    slots_free: bool,
    rest_until_ms: u64,
    /// When the listeners were last looked at. Units: monotonic nanoseconds.
    listened_ns: u64,
    /// Newcomers left to the siblings at the last looks, one after the other.
    left_to_others: u32,
    /// Connections accepted so far.
    newcomers: u32,
    /// So many in a row may come without a request before they are no longer read early.
    early: u32,
    next_sweep_ms: u64,
    expired: Vec<u64>,
}

pub struct Engine {
    inner: Mutex<Inner>,
    pub(crate) config: Arc<EngineConfig>,
    poller: Arc<Poller>,
    pub(crate) tick: Arc<Tick>,
    siblings: Arc<Siblings>,
    slot: Option<&'static Slot>,
}

/// What a turn of the engine found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// Requests wait for a thread.
    pub ready: usize,
    /// The driver's own descriptor is readable.
    pub driver: bool,
    /// There are notices for the log.
    pub notices: bool,
}

impl Engine {
    /// Shape: non-blocking listeners that stay open elsewhere too; this process only takes from them.
    pub fn new(
        config: EngineConfig,
        listeners: Vec<(OwnedFd, ListenerInfo)>,
        slot: Option<&'static Slot>,
    ) -> io::Result<Arc<Engine>> {
        let poller = Arc::new(Poller::new()?);
        let tick = Arc::new(Tick::default());
        let config = Arc::new(config);
        let listeners = listeners
            .into_iter()
            .map(|(socket, info)| Listener {
                socket,
                info: Arc::new(info),
            })
            .collect();
        let now_ns = clock::now_ns();
        let (batch, notices) = batch_for(&config);
        let core = Core {
            config: config.clone(),
            poller: poller.clone(),
            tick: tick.clone(),
            pool: Pool::default(),
            batch,
            budget: Budget::new(config.worker_buffer_memory),
            ready: VecDeque::new(),
            notices,
            stamp: Stamp::new(&config.server),
            familiar: Familiar::default(),
            now_ns,
            now_ms: now_ns / 1_000_000,
            in_progress: 0,
            draining: false,
            woken: Vec::new(),
            dirty: Vec::new(),
            dirty_since_ns: 0,
            more_events: false,
            previous_ns: None,
            pace_ns: 0,
        };
        let siblings = Arc::new(Siblings::default());
        let mut inner = Inner {
            table: Table::default(),
            core,
            listeners,
            siblings: siblings.clone(),
            listening: false,
            slots_free: true,
            rest_until_ms: 0,
            listened_ns: now_ns,
            left_to_others: 0,
            newcomers: 0,
            early: 0,
            next_sweep_ms: 0,
            expired: Vec::new(),
        };
        inner.arm_listeners(slot)?;
        Ok(Arc::new(Engine {
            inner: Mutex::new(inner),
            config,
            poller,
            tick,
            siblings,
            slot,
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock is a bug of ours; the connections of the others are still in order.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readable while the engine has something to do: for loops that turn it.
    pub fn fileno(&self) -> RawFd {
        self.poller.as_raw_fd()
    }

    /// Watches a descriptor of the driver's; a turn says when it is readable.
    pub fn watch_driver(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poller.add_driver(fd)
    }

    /// Ends the wait of whichever thread turns the engine.
    pub fn wake(&self) {
        self.poller.wake();
    }

    /// Waits at most `timeout_ms` and handles what happened: accepts, reads, parses, writes, deadlines.
    ///
    /// Does not wait at all while complete requests are there for the caller.
    pub fn turn(&self, events: &mut Events, timeout_ms: u64) -> Turn {
        let wait_ms = self.lock().prepare_wait(timeout_ms, true);
        self.turn_within(events, wait_ms)
    }

    /// A turn by somebody who cannot call the application: complete requests are no reason to hurry.
    pub fn turn_aside(&self, events: &mut Events, timeout_ms: u64) -> Turn {
        let wait_ms = self.lock().prepare_wait(timeout_ms, false);
        self.turn_within(events, wait_ms)
    }

    fn turn_within(&self, events: &mut Events, wait_ms: u64) -> Turn {
        let failed = self.poller.wait(events, wait_ms).err();
        let now_ns = clock::now_ns();
        let mut turn = Turn::default();
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.core.now_ns = now_ns;
        inner.core.now_ms = now_ns / 1_000_000;
        if let Some(error) = failed {
            inner.core.notices.push(Notice::Accept(error));
        }
        inner.core.more_events = events.is_full();
        if inner.listening {
            inner.listened_ns = now_ns;
        }
        // A long turn serves many connections before the next accept: it takes as many new ones, or a queue of them
        // would wait for ever behind the busy ones. A quiet one takes the one that has woken it: to ask in vain for
        // another costs as much as half an accept, and siblings want their share.
        let batch = events.len();
        for readiness in events.iter() {
            match readiness.token {
                Token::Wake => self.poller.clear_wake(),
                Token::Driver => turn.driver = true,
                Token::Listener(index) => inner.take_newcomers(index, batch, self.slot),
                // One: another sibling may be as idle as we are.
                Token::Passage => inner.take_passed(1, self.slot),
                Token::Connection(key) => inner.on_event(key, readiness),
            }
        }
        inner.sweep();
        if inner.arm_listeners(self.slot).is_err() {
            inner.rest_listeners();
        }
        turn.ready = inner.core.ready.len();
        turn.notices = !inner.core.notices.is_empty();
        turn
    }

    /// The next complete request, oldest first. Output that has waited for it long enough is sent.
    pub fn next_ready(self: &Arc<Self>, now_ns: u64) -> Option<Exchange> {
        let mut inner = self.lock();
        inner.core.now_ns = now_ns;
        inner.core.now_ms = now_ns / 1_000_000;
        if inner.core.waited_enough() {
            inner.flush_dirty();
        }
        if now_ns.saturating_sub(inner.listened_ns) >= FAIR_NS {
            inner.listen_in_passing();
        }
        inner.core.note_pace();
        let ready = inner.core.ready.pop_front()?;
        let Inner { table, core, .. } = &mut *inner;
        if let Some(connection) = table.get_mut(ready.course.key) {
            connection.release_consumed(core);
        }
        drop(inner);
        Some(Exchange::new(self.clone(), ready))
    }

    /// The keys of exchanges for which has come what their driver waits for, since the last time.
    pub fn take_woken(&self, keys: &mut Vec<u64>) {
        keys.clear();
        keys.append(&mut self.lock().core.woken);
    }

    pub fn has_woken(&self) -> bool {
        !self.lock().core.woken.is_empty()
    }

    /// Complete requests that wait for a thread.
    pub fn ready_len(&self) -> usize {
        self.lock().core.ready.len()
    }

    /// What `look` sees in the head of the request that is next.
    pub fn peek_ready<R>(&self, look: impl FnOnce(&Head) -> R) -> Option<R> {
        self.lock()
            .core
            .ready
            .front()
            .map(|ready| look(&ready.head))
    }

    /// Sends what waits for company: called within a tick while an application runs.
    pub fn flush_waiting(&self) {
        // Whoever holds the lock is at work here, and waiting for it would cost both of us a change of threads.
        let Ok(mut inner) = self.inner.try_lock() else {
            return;
        };
        inner.core.now_ms = clock::now_ms();
        inner.flush_dirty();
    }

    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.lock().core.notices)
    }

    /// `false`: every thread is in the application, so new connections are better served by siblings.
    pub fn set_slots_free(&self, free: bool) {
        let mut inner = self.lock();
        if inner.slots_free != free {
            inner.slots_free = free;
            // A failure is tried again at the next turn.
            let _ = inner.arm_listeners(self.slot);
        }
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.lock().table.len()
    }
}

/// And what there is to say about it.
fn batch_for(config: &EngineConfig) -> (Batch, Vec<Notice>) {
    if !config.io_uring {
        return (Batch::default(), Vec::new());
    }
    let (batch, outcome) = match Batch::open() {
        Ok(batch) => (batch, Ok(())),
        Err(error) => (Batch::default(), Err(error)),
    };
    (batch, vec![Notice::Batches(outcome)])
}

impl Inner {
    /// Runs `work` on a connection that is still there and carries out its fate.
    pub(crate) fn with<R>(
        &mut self,
        key: u64,
        work: impl FnOnce(&mut Connection, &mut Core) -> (Fate, R),
    ) -> Option<R> {
        let connection = self.table.get_mut(key)?;
        let (fate, result) = work(connection, &mut self.core);
        // Mostly there is nothing to settle but the deadline.
        if fate == Fate::Keep && connection.awaited.is_empty() && !connection.needs_watch() {
            let deadline_ms = connection.deadline_ms;
            self.table.set_deadline(key, deadline_ms);
        } else {
            self.settle(key, fate);
        }
        Some(result)
    }

    fn settle(&mut self, key: u64, fate: Fate) {
        match fate {
            Fate::Keep if self.watch(key) => {
                self.table.note_deadline(key);
                self.report(key);
            }
            _ => self.close(key),
        }
    }

    /// Tells the driver that what it waits for has come.
    fn report(&mut self, key: u64) {
        if let Some(connection) = self.table.get_mut(key)
            && !connection.awaited.is_empty()
            && connection.is_due(&self.core)
        {
            connection.awaited = Awaited::default();
            self.core.woken.push(key);
        }
    }

    /// Has the poller watch a connection that waits for its peer.
    fn watch(&mut self, key: u64) -> bool {
        let Some(connection) = self.table.get_mut(key) else {
            return true;
        };
        if !connection.needs_watch() {
            return true;
        }
        match self.core.poller.add_connection(&connection.socket, key) {
            Ok(()) => {
                connection.watched = true;
                true
            }
            Err(error) => {
                self.core.notices.push(Notice::Accept(error));
                false
            }
        }
    }

    fn close(&mut self, key: u64) {
        let Some(mut connection) = self.table.remove(key) else {
            return;
        };
        // Closing the only descriptor of a socket takes it out of the poller's set.
        if let Some(parts) = connection.parts.take() {
            self.core.pool.put_parts(parts);
        }
        self.core
            .pool
            .put_input(std::mem::take(&mut connection.input));
        if self.core.draining && self.table.len() == 0 {
            // Whoever waits in the poller has nothing left to wait for.
            self.core.poller.wake();
        }
    }

    /// Lets go of a connection. Returns its socket, and what was read of it and not used.
    pub(crate) fn give_away(&mut self, key: u64) -> Option<(OwnedFd, Vec<u8>)> {
        let mut connection = self.table.remove(key)?;
        // The socket stays open, so that it would stay in our set.
        self.core.poller.remove(&connection.socket);
        if let Some(parts) = connection.parts.take() {
            self.core.pool.put_parts(parts);
        }
        if self.core.draining && self.table.len() == 0 {
            self.core.poller.wake();
        }
        let unread = connection.input.split_off(connection.consumed);
        self.core.pool.put_input(connection.input);
        Some((connection.socket, unread))
    }

    fn prepare_wait(&mut self, timeout_ms: u64, ready_hurries: bool) -> u64 {
        let more_is_near = ready_hurries && (self.core.more_events || !self.core.ready.is_empty());
        if !more_is_near || self.core.waited_enough() {
            self.flush_dirty();
        }
        if ready_hurries && !self.core.ready.is_empty() || !self.core.dirty.is_empty() {
            return 0;
        }
        let needs_sweep = self.table.len() > 0 || self.rest_until_ms > 0;
        if needs_sweep {
            timeout_ms.min(SWEEP_MS)
        } else {
            timeout_ms
        }
    }

    fn on_event(&mut self, key: u64, readiness: Readiness) {
        self.with(key, |connection, core| {
            if connection.dead {
                return (Fate::Keep, ());
            }
            connection.peer_closed |= readiness.closed;
            let mut fate = Fate::Keep;
            if readiness.broken && matches!(connection.phase, Phase::Busy) {
                fate = connection.on_broken();
            }
            if fate == Fate::Keep && readiness.writable {
                fate = connection.on_writable(core);
            }
            if fate == Fate::Keep && readiness.readable && !connection.dead {
                fate = connection.on_readable(core);
            }
            (fate, ())
        });
    }

    fn sweep(&mut self) {
        if self.core.now_ms < self.next_sweep_ms {
            return;
        }
        self.next_sweep_ms = self.core.now_ms + SWEEP_MS;
        let mut expired = std::mem::take(&mut self.expired);
        self.table.expired(self.core.now_ms, &mut expired);
        for key in expired.drain(..) {
            self.with(key, |connection, core| (connection.on_deadline(core), ()));
        }
        self.expired = expired;
    }
}
