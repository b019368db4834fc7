//! A small world with workers of every temper, driven by a seeded dice: whatever happens in it, the
//! invariants of the supervisor hold. A failure names its seed; `SEED=n` plays that world alone.
use std::collections::{HashMap, HashSet};

use tricorn_supervisor::{
    Action, Cause, Input, Level, Observation, Order, Pid, Settings, Signal, Supervisor,
};

const WORLDS: u64 = 400;
const STEPS: u64 = 3_000;
const GRACE_MS: u64 = 3_000;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// One process and what will become of it.
struct Process {
    ready_at: u64,
    dies_at: Option<u64>,
    cause: Cause,
    /// Its heart stopped.
    stuck: bool,
    beat_ms: u64,
    accepting: bool,
}

struct World {
    dice: Dice,
    supervisor: Supervisor,
    now: u64,
    next_pid: Pid,
    processes: HashMap<Pid, Process>,
    dismissed: HashSet<Pid>,
    killed: HashSet<Pid>,
    dead: HashSet<Pid>,
    forgotten: HashSet<Pid>,
    most_wanted: usize,
    /// New workers fail to boot.
    broken_code: bool,
    /// Nothing bad happens any more.
    peace: bool,
    log: Vec<Action>,
    exit: Option<i32>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let workers = 1 + dice.below(5) as usize;
        World {
            supervisor: Supervisor::new(settings(workers), false),
            dice,
            now: 1,
            next_pid: 100,
            processes: HashMap::new(),
            dismissed: HashSet::new(),
            killed: HashSet::new(),
            dead: HashSet::new(),
            forgotten: HashSet::new(),
            most_wanted: workers,
            broken_code: false,
            peace: false,
            log: Vec::new(),
            exit: None,
        }
    }

    fn tell(&mut self, input: Input) {
        let mut queue = std::collections::VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            let actions = self.supervisor.handle(input, self.now);
            assert!(
                self.exit.is_none() || actions.is_empty(),
                "an action after the exit"
            );
            for action in actions {
                self.carry_out(&action, &mut queue);
                self.log.push(action);
            }
        }
    }

    fn carry_out(&mut self, action: &Action, queue: &mut std::collections::VecDeque<Input>) {
        match action {
            Action::Spawn if !self.peace && self.dice.one_in(50) => {
                queue.push_back(Input::SpawnFailed {
                    reason: "EAGAIN".to_owned(),
                });
            }
            Action::Spawn => queue.push_back(Input::Spawned { pid: self.fork() }),
            Action::Signal { pid, order } => self.deliver(*pid, *order),
            Action::Forget { pid } => {
                assert!(self.dead.contains(pid), "forgot a living worker");
                assert!(self.forgotten.insert(*pid), "forgot a worker twice");
            }
            Action::WorkersChanged { new, .. } => self.most_wanted = self.most_wanted.max(*new),
            Action::ReloadConfig if !self.peace && self.dice.one_in(4) => {
                queue.push_back(Input::ReloadFailed {
                    reason: "typo".to_owned(),
                });
            }
            Action::ReloadConfig => {
                let workers = 1 + self.dice.below(5) as usize;
                self.most_wanted = self.most_wanted.max(workers);
                queue.push_back(Input::Reloaded(settings(workers)));
            }
            Action::Exit(code) => {
                assert!(self.processes.is_empty(), "left workers behind");
                self.exit = Some(*code);
            }
            _ => {}
        }
    }

    fn fork(&mut self) -> Pid {
        let pid = self.next_pid;
        self.next_pid += 1;
        let boots_until = self.now + self.dice.below(300);
        let fate = if self.peace { 99 } else { self.dice.below(12) };
        let (dies_at, cause) = match fate {
            _ if self.broken_code && !self.peace => (Some(boots_until), Cause::Code(3)),
            0 => (
                Some(self.now + self.dice.below(400)),
                Cause::Signal("SIGSEGV".to_owned()),
            ),
            1 => (Some(self.now + self.dice.below(20_000)), Cause::Code(0)),
            2 => (Some(self.now + self.dice.below(5_000)), Cause::Code(1)),
            _ => (None, Cause::Code(0)),
        };
        let process = Process {
            ready_at: boots_until,
            dies_at,
            cause,
            stuck: fate == 3,
            beat_ms: self.now,
            accepting: false,
        };
        self.processes.insert(pid, process);
        let limit = 2 * self.most_wanted;
        let alive = self.processes.len();
        assert!(alive <= limit, "{alive} workers alive, {limit} allowed");
        pid
    }

    fn deliver(&mut self, pid: Pid, order: Order) {
        assert!(
            !self.dead.contains(&pid) || !self.forgotten.contains(&pid),
            "signalled a pid that may be anybody's"
        );
        match order {
            Order::Term => assert!(self.dismissed.insert(pid), "TERM twice"),
            Order::Kill => assert!(self.killed.insert(pid), "KILL twice"),
            _ => {}
        }
        let delay = match order {
            Order::Term if self.dice.one_in(6) => return,
            Order::Term => self.dice.below(GRACE_MS + 500),
            Order::Quit if self.dice.one_in(6) => return,
            Order::Quit | Order::Abrt => self.dice.below(200),
            Order::Kill => 0,
            Order::Usr1 => return,
        };
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        if process.stuck && order != Order::Kill {
            return;
        }
        process.accepting = false;
        process.cause = match order {
            Order::Kill => Cause::Signal("SIGKILL".to_owned()),
            _ if self.now < process.ready_at => Cause::Signal("SIGTERM".to_owned()),
            _ => Cause::Code(0),
        };
        let at = self.now + delay;
        process.dies_at = Some(process.dies_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// One stretch of time: hearts beat, processes die, and the supervisor hears of it.
    fn pass(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        let now = self.now;
        let mut deaths = Vec::new();
        for (pid, process) in &mut self.processes {
            if process.dies_at.is_some_and(|at| at <= now) {
                deaths.push((*pid, process.cause.clone()));
                continue;
            }
            if !process.stuck {
                process.beat_ms = now;
            }
            process.accepting |= process.ready_at <= now && process.dies_at.is_none();
        }
        deaths.sort_by_key(|(pid, _)| *pid);
        let observe = |(pid, process): (&Pid, &Process)| Observation {
            pid: *pid,
            beat_ms: process.beat_ms,
            ready: process.ready_at <= now,
            accepting: process.accepting,
        };
        let seen = self.processes.iter().map(observe).collect();
        self.tell(Input::Tick(seen));
        for (pid, cause) in deaths {
            self.processes.remove(&pid);
            self.dead.insert(pid);
            let served = self.dice.below(3);
            self.tell(Input::Exited { pid, cause, served });
        }
    }

    fn mischief(&mut self) {
        match self.dice.below(60) {
            0 => self.tell(Input::Signal(Signal::Hup)),
            1 => self.tell(Input::Signal(Signal::Ttin)),
            2 => self.tell(Input::Signal(Signal::Ttou)),
            3 => self.tell(Input::Signal(Signal::Usr1)),
            4 => self.tell(Input::Signal(Signal::Winch)),
            5 => self.tell(Input::Exited {
                pid: 7,
                cause: Cause::Code(4),
                served: 0,
            }),
            6 => self.broken_code = !self.broken_code,
            7 => {
                let victim = self.processes.values_mut().next();
                victim.into_iter().for_each(|process| process.stuck = true);
            }
            _ => {}
        }
    }

    fn sleep_as_told(&mut self) {
        let sleep = self.supervisor.next_look_ms(self.now) - self.now;
        assert!(sleep <= 1_000, "a look at the hearts is due every second");
        let woken = self.dice.below(300);
        self.pass(sleep.min(woken).max(1));
    }
}

fn settings(workers: usize) -> Settings {
    Settings {
        workers,
        timeout_ms: 1_500,
        graceful_timeout_ms: GRACE_MS,
        daemon: false,
        capacity: 64,
    }
}

fn assert_ends_cleanly(world: &mut World, seed: u64) {
    let deadline = world.now + GRACE_MS + 2_000;
    while world.exit.is_none() {
        assert!(
            world.now <= deadline,
            "seed {seed}: no end after {GRACE_MS} ms of grace"
        );
        world.sleep_as_told();
    }
    let tail = &world.log[world.log.len() - 3..];
    assert!(
        matches!(
            tail,
            [Action::RemovePidfile, Action::OnExit, Action::Exit(_)]
        ),
        "seed {seed}: ended with {tail:?}"
    );
    for last in [Action::RemovePidfile, Action::OnExit] {
        assert_eq!(
            world.log.iter().filter(|action| **action == last).count(),
            1
        );
    }
    assert_eq!(
        world.dead, world.forgotten,
        "seed {seed}: every worker is reaped and forgotten"
    );
}

fn play(seed: u64) {
    let mut world = World::new(seed);
    world.tell(Input::Start);
    for _ in 0..STEPS {
        if world.exit.is_some() {
            break;
        }
        world.mischief();
        world.sleep_as_told();
    }
    if world.exit.is_none() {
        let order = [Signal::Term, Signal::Int, Signal::Quit][world.dice.below(3) as usize];
        world.tell(Input::Signal(order));
        while world.dice.one_in(2) && world.exit.is_none() {
            world.pass(1);
            world.mischief();
            world.tell(Input::Signal(Signal::Int));
        }
    }
    assert_ends_cleanly(&mut world, seed);
}

#[test]
fn no_world_breaks_the_invariants() {
    if let Ok(seed) = std::env::var("SEED") {
        return play(seed.parse().expect("SEED is a number"));
    }
    for seed in 1..=WORLDS {
        let played = std::panic::catch_unwind(|| play(seed));
        assert!(
            played.is_ok(),
            "the world of SEED={seed} broke an invariant"
        );
    }
}

#[test]
fn every_world_recovers_when_peace_comes() {
    for seed in 1..=WORLDS {
        let mut world = World::new(seed);
        world.tell(Input::Start);
        for _ in 0..200 {
            world.mischief();
            world.sleep_as_told();
        }
        world.peace = true;
        let until = world.now + 60_000;
        while world.now < until && world.exit.is_none() {
            world.sleep_as_told();
        }
        if world.exit.is_some() {
            let reason = |action: &Action| matches!(action, Action::Log { level: Level::Error, text } if text.starts_with("Reason: "));
            assert!(
                world.log.iter().any(reason),
                "SEED={seed} ended without a reason"
            );
            continue;
        }
        let serving = world
            .processes
            .values()
            .filter(|process| process.accepting)
            .count();
        assert_eq!(serving, world.supervisor.wanted(), "SEED={seed}");
        assert_eq!(world.processes.len(), serving, "SEED={seed}");
    }
}
