//! The decisions one by one: a story is told to the supervisor, and what it orders is looked at.
use tricorn_supervisor::{
    Action, Cause, Input, Level, Observation, Order, Pid, Settings, Signal, Supervisor,
};

const GRACE_MS: u64 = 30_000;

fn settings(workers: usize) -> Settings {
    Settings {
        workers,
        timeout_ms: 5_000,
        graceful_timeout_ms: GRACE_MS,
        daemon: false,
        capacity: 64,
    }
}

/// A supervisor whose spawns always succeed, numbering the workers from 101.
struct Story {
    supervisor: Supervisor,
    now_ms: u64,
    next_pid: Pid,
    alive: Vec<Pid>,
    ready: Vec<Pid>,
}

impl Story {
    fn new(settings: Settings) -> Story {
        Story {
            supervisor: Supervisor::new(settings, false),
            now_ms: 1_000,
            next_pid: 101,
            alive: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// A pool of `workers` that is up and ready.
    fn serving(workers: usize) -> Story {
        let mut story = Story::new(settings(workers));
        story.tell(Input::Start);
        story.make_all_ready();
        story
    }

    /// Feeds one input, carries out the spawns, and returns everything that was ordered.
    fn tell(&mut self, input: Input) -> Vec<Action> {
        let mut all = Vec::new();
        let mut queue = vec![input];
        while !queue.is_empty() {
            let actions = self.supervisor.handle(queue.remove(0), self.now_ms);
            for action in &actions {
                if *action == Action::Spawn {
                    queue.push(Input::Spawned { pid: self.next_pid });
                    self.alive.push(self.next_pid);
                    self.next_pid += 1;
                }
            }
            all.extend(actions);
        }
        all
    }

    fn signal(&mut self, signal: Signal) -> Vec<Action> {
        self.tell(Input::Signal(signal))
    }

    fn tick(&mut self) -> Vec<Action> {
        let observe = |pid: &Pid| Observation {
            pid: *pid,
            beat_ms: self.now_ms,
            ready: self.ready.contains(pid),
            accepting: self.ready.contains(pid),
        };
        let seen = self.alive.iter().map(observe).collect();
        self.tell(Input::Tick(seen))
    }

    fn make_all_ready(&mut self) -> Vec<Action> {
        self.ready = self.alive.clone();
        self.tick()
    }

    fn exit(&mut self, pid: Pid, code: i32) -> Vec<Action> {
        self.dies(pid, Cause::Code(code))
    }

    fn dies(&mut self, pid: Pid, cause: Cause) -> Vec<Action> {
        self.alive.retain(|known| *known != pid);
        self.ready.retain(|known| *known != pid);
        self.tell(Input::Exited {
            pid,
            cause,
            served: 0,
        })
    }
}

fn spawns(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|action| **action == Action::Spawn)
        .count()
}

fn orders(actions: &[Action]) -> Vec<(Pid, Order)> {
    let order = |action: &Action| match action {
        Action::Signal { pid, order } => Some((*pid, *order)),
        _ => None,
    };
    actions.iter().filter_map(order).collect()
}

fn lines(actions: &[Action]) -> Vec<(Level, &str)> {
    let lines = actions.iter().filter_map(|action| match action {
        Action::Log { level, text } => Some((*level, text.as_str())),
        _ => None,
    });
    lines.collect()
}

fn says(actions: &[Action], level: Level, text: &str) -> bool {
    lines(actions).contains(&(level, text))
}

#[test]
fn start_fills_the_pool_at_once() {
    assert_eq!(spawns(&Story::new(settings(4)).tell(Input::Start)), 4);
}

#[test]
fn ttin_adds_one_and_tells_the_hook() {
    let mut story = Story::serving(2);
    let actions = story.signal(Signal::Ttin);
    assert_eq!(spawns(&actions), 1);
    assert!(actions.contains(&Action::WorkersChanged { new: 3, old: 2 }));
    assert!(says(&actions, Level::Info, "Handling signal: ttin"));
}

#[test]
fn ttou_dismisses_the_oldest_and_never_the_last() {
    let mut story = Story::serving(3);
    assert_eq!(orders(&story.signal(Signal::Ttou)), [(101, Order::Term)]);
    assert_eq!(orders(&story.signal(Signal::Ttou)), [(102, Order::Term)]);
    assert_eq!(orders(&story.signal(Signal::Ttou)), []);
    assert_eq!(story.supervisor.wanted(), 1);
}

#[test]
fn ttin_stops_where_the_scoreboard_is_full() {
    let mut story = Story::serving(32);
    let actions = story.signal(Signal::Ttin);
    assert_eq!(spawns(&actions), 0);
    assert!(says(
        &actions,
        Level::Warning,
        "TTIN ignored. No room for more workers."
    ));
}

#[test]
fn hup_dismisses_the_old_only_when_all_of_the_new_are_ready() {
    let mut story = Story::serving(2);
    let actions = story.signal(Signal::Hup);
    assert!(actions.contains(&Action::ReloadConfig));
    assert_eq!(spawns(&actions), 0);
    let actions = story.tell(Input::Reloaded(settings(2)));
    assert_eq!((spawns(&actions), orders(&actions)), (2, vec![]));
    story.ready.push(103);
    assert_eq!(orders(&story.tick()), []);
    story.ready.push(104);
    assert_eq!(
        orders(&story.tick()),
        [(101, Order::Term), (102, Order::Term)]
    );
    assert_eq!(orders(&story.tick()), []);
}

#[test]
fn a_configuration_that_cannot_be_read_changes_nothing() {
    let mut story = Story::serving(2);
    story.signal(Signal::Hup);
    let reason = "no such setting".to_owned();
    let actions = story.tell(Input::ReloadFailed { reason });
    let text = "Reload failed, the old configuration and workers stay: no such setting";
    assert!(says(&actions, Level::Error, text));
    assert_eq!((spawns(&actions), orders(&actions)), (0, vec![]));
    assert!(story.signal(Signal::Hup).contains(&Action::ReloadConfig));
}

#[test]
fn a_new_generation_that_does_not_boot_leaves_the_old_one_in_place() {
    let mut story = Story::serving(2);
    story.signal(Signal::Hup);
    story.tell(Input::Reloaded(settings(2)));
    let actions = story.exit(103, 3);
    let text = "Reload failed, the old workers stay: the new worker (pid:103) did not boot";
    assert!(says(&actions, Level::Error, text));
    assert_eq!(orders(&actions), [(104, Order::Term)]);
    assert_eq!(spawns(&actions), 0);
    let actions = story.exit(104, 3);
    assert_eq!((spawns(&actions), orders(&actions)), (0, vec![]));
    // And the next attempt may succeed.
    story.signal(Signal::Hup);
    assert_eq!(spawns(&story.tell(Input::Reloaded(settings(2)))), 2);
    assert_eq!(
        orders(&story.make_all_ready()),
        [(101, Order::Term), (102, Order::Term)]
    );
}

#[test]
fn many_hups_become_one_more_reload() {
    let mut story = Story::serving(1);
    story.signal(Signal::Hup);
    story.tell(Input::Reloaded(settings(1)));
    let reloads = |actions: &[Action]| actions.contains(&Action::ReloadConfig);
    for _ in 0..100 {
        assert!(!reloads(&story.signal(Signal::Hup)));
    }
    assert!(!reloads(&story.make_all_ready()));
    assert!(reloads(&story.exit(101, 0)));
    story.tell(Input::Reloaded(settings(1)));
    story.make_all_ready();
    assert!(!reloads(&story.exit(102, 0)));
}

#[test]
fn a_silent_worker_gets_abrt_and_a_second_later_kill() {
    let mut story = Story::serving(1);
    let silent = |beat_ms| {
        let seen = Observation {
            pid: 101,
            beat_ms,
            ready: true,
            accepting: true,
        };
        Input::Tick(vec![seen])
    };
    let beat_ms = story.now_ms;
    story.now_ms += 5_000;
    assert_eq!(orders(&story.tell(silent(beat_ms))), []);
    story.now_ms += 1;
    let actions = story.tell(silent(beat_ms));
    assert!(says(&actions, Level::Critical, "WORKER TIMEOUT (pid:101)"));
    assert_eq!(orders(&actions), [(101, Order::Abrt)]);
    story.now_ms += 999;
    assert_eq!(orders(&story.tell(silent(beat_ms))), []);
    story.now_ms += 1;
    assert_eq!(orders(&story.tell(silent(beat_ms))), [(101, Order::Kill)]);
    story.now_ms += 5_000;
    assert_eq!(orders(&story.tell(silent(beat_ms))), []);
}

#[test]
fn a_worker_that_recovers_after_abrt_is_not_killed_and_costs_no_sleepless_loop() {
    let mut story = Story::serving(1);
    let seen = |beat_ms| Observation {
        pid: 101,
        beat_ms,
        ready: true,
        accepting: true,
    };
    let beat_ms = story.now_ms;
    story.now_ms += 6_000;
    assert_eq!(
        orders(&story.tell(Input::Tick(vec![seen(beat_ms)]))),
        [(101, Order::Abrt)]
    );
    story.now_ms += 2_000;
    assert_eq!(
        orders(&story.tell(Input::Tick(vec![seen(story.now_ms)]))),
        []
    );
    assert_eq!(
        story.supervisor.next_look_ms(story.now_ms),
        story.now_ms + 1_000
    );
}

#[test]
fn a_worker_that_still_boots_is_not_timed_out() {
    let mut story = Story::new(settings(1));
    story.tell(Input::Start);
    story.now_ms += 3_600_000;
    let seen = Observation {
        pid: 101,
        beat_ms: 1_000,
        ready: false,
        accepting: false,
    };
    assert_eq!(orders(&story.tell(Input::Tick(vec![seen]))), []);
}

#[test]
fn timeout_zero_spares_everybody() {
    let mut story = Story::new(Settings {
        timeout_ms: 0,
        ..settings(1)
    });
    story.tell(Input::Start);
    story.now_ms += 10_000_000;
    let seen = Observation {
        pid: 101,
        beat_ms: 1_000,
        ready: true,
        accepting: true,
    };
    assert_eq!(orders(&story.tell(Input::Tick(vec![seen]))), []);
}

#[test]
fn a_dismissed_worker_is_killed_at_graceful_timeout() {
    let mut story = Story::serving(2);
    story.signal(Signal::Ttou);
    story.now_ms += GRACE_MS - 1;
    assert_eq!(orders(&story.tick()), []);
    assert_eq!(
        story.supervisor.next_look_ms(story.now_ms),
        story.now_ms + 1
    );
    story.now_ms += 1;
    assert_eq!(orders(&story.tick()), [(101, Order::Kill)]);
}

#[test]
fn term_drains_then_closes_then_says_goodbye_in_this_order() {
    let mut story = Story::serving(2);
    let actions = story.signal(Signal::Term);
    let drain = actions
        .iter()
        .position(|action| *action == Action::StopAccepting);
    let term = actions
        .iter()
        .position(|action| matches!(action, Action::Signal { .. }));
    assert!(drain.unwrap() < term.unwrap());
    assert!(!actions.contains(&Action::CloseListeners));
    story.ready.clear();
    assert!(story.tick().contains(&Action::CloseListeners));
    assert_eq!(story.exit(101, 0), [Action::Forget { pid: 101 }]);
    let shutting_down = Action::Log {
        level: Level::Info,
        text: "Shutting down: Master".to_owned(),
    };
    let forget = Action::Forget { pid: 102 };
    let end = [
        forget,
        shutting_down,
        Action::RemovePidfile,
        Action::OnExit,
        Action::Exit(0),
    ];
    assert_eq!(story.exit(102, 0), end);
    assert_eq!(story.signal(Signal::Hup), []);
}

#[test]
fn listeners_close_after_a_second_even_if_a_worker_goes_on_accepting() {
    let mut story = Story::serving(1);
    story.signal(Signal::Term);
    story.now_ms += 999;
    assert!(!story.tick().contains(&Action::CloseListeners));
    story.now_ms += 1;
    assert!(story.tick().contains(&Action::CloseListeners));
}

#[test]
fn int_sends_quit_and_closes_at_once() {
    let mut story = Story::serving(1);
    let actions = story.signal(Signal::Int);
    assert!(actions.contains(&Action::CloseListeners));
    assert_eq!(orders(&actions), [(101, Order::Quit)]);
}

#[test]
fn a_stop_waits_for_a_fork_that_is_on_its_way() {
    let mut supervisor = Supervisor::new(settings(1), false);
    assert!(
        supervisor
            .handle(Input::Start, 1_000)
            .contains(&Action::Spawn)
    );
    let leaves = |actions: &[Action]| {
        actions
            .iter()
            .any(|action| matches!(action, Action::Exit(_)))
    };
    // The signal was queued before the answer to the fork.
    assert!(!leaves(
        &supervisor.handle(Input::Signal(Signal::Quit), 1_001)
    ));
    let actions = supervisor.handle(Input::Spawned { pid: 101 }, 1_002);
    assert_eq!(orders(&actions), [(101, Order::Term)]);
    assert!(!leaves(&actions));
    let exited = Input::Exited {
        pid: 101,
        cause: Cause::Signal("SIGTERM".into()),
        served: 0,
    };
    assert!(leaves(&supervisor.handle(exited, 1_003)));
}

#[test]
fn an_impatient_int_cuts_a_graceful_stop_to_two_seconds() {
    let mut story = Story::serving(1);
    story.signal(Signal::Term);
    assert_eq!(story.signal(Signal::Term), []);
    let actions = story.signal(Signal::Int);
    assert!(says(&actions, Level::Info, "Quick shutdown requested"));
    assert_eq!(orders(&actions), [(101, Order::Quit)]);
    story.now_ms += 1_999;
    assert_eq!(orders(&story.tick()), []);
    story.now_ms += 1;
    assert_eq!(orders(&story.tick()), [(101, Order::Kill)]);
}

#[test]
fn boot_failures_end_the_server_with_their_code_however_many_there_are() {
    for (code, reason) in [(3, "Worker failed to boot."), (4, "App failed to load.")] {
        let mut story = Story::new(settings(6));
        story.tell(Input::Start);
        let mut last = Vec::new();
        for pid in 101..107 {
            last = story.exit(pid, code);
            let text = format!("Worker (pid:{pid}) exited with code {code}.");
            assert!(says(&last, Level::Error, &text));
            assert_eq!(spawns(&last), 0);
        }
        assert!(says(&last, Level::Error, "Shutting down: Master"));
        assert!(says(&last, Level::Error, &format!("Reason: {reason}")));
        let end = [Action::RemovePidfile, Action::OnExit, Action::Exit(code)];
        assert_eq!(last[last.len() - 3..], end);
    }
}

#[test]
fn a_failed_boot_beside_workers_that_serve_is_tried_again_later() {
    let mut story = Story::serving(2);
    story.now_ms += 60_000;
    story.exit(101, 0);
    let actions = story.exit(103, 3);
    assert_eq!(spawns(&actions), 0);
    story.now_ms = story.supervisor.next_look_ms(story.now_ms);
    assert_eq!(spawns(&story.tick()), 1);
}

#[test]
fn a_failed_boot_when_nobody_serves_any_more_ends_the_server() {
    let mut story = Story::serving(1);
    story.now_ms += 60_000;
    story.exit(101, 0);
    assert!(story.exit(102, 3).contains(&Action::Exit(3)));
}

#[test]
fn workers_that_die_at_once_are_replaced_ever_more_slowly() {
    let mut story = Story::serving(1);
    let mut forks = 0;
    let begin = story.now_ms;
    while story.now_ms < begin + 10_000 {
        let victims = story.alive.clone();
        for pid in victims {
            forks += spawns(&story.dies(pid, Cause::Code(1)));
        }
        story.now_ms += 10;
        forks += spawns(&story.tick());
    }
    assert!((5..15).contains(&forks), "{forks} forks in ten seconds");
}

#[test]
fn causes_of_death_are_told_at_gunicorns_levels() {
    let table = [
        ("SIGTERM", Level::Info, "Worker (pid:101) was sent SIGTERM!"),
        (
            "SIGSEGV",
            Level::Warning,
            "Worker (pid:101) was sent SIGSEGV!",
        ),
        (
            "SIGKILL",
            Level::Error,
            "Worker (pid:101) was sent SIGKILL! Perhaps out of memory?",
        ),
    ];
    for (name, level, text) in table {
        let actions = Story::serving(1).dies(101, Cause::Signal(name.to_owned()));
        assert!(says(&actions, level, text), "{actions:?}");
        assert_eq!(spawns(&actions), 1);
    }
}

#[test]
fn our_own_kill_is_not_blamed_on_memory() {
    let mut story = Story::serving(2);
    story.signal(Signal::Ttou);
    story.now_ms += GRACE_MS;
    story.tick();
    let actions = story.dies(101, Cause::Signal("SIGKILL".to_owned()));
    assert!(says(
        &actions,
        Level::Error,
        "Worker (pid:101) was sent SIGKILL!"
    ));
}

#[test]
fn strangers_are_reaped_quietly() {
    let actions = Story::serving(1).dies(4711, Cause::Code(3));
    assert!(
        lines(&actions)
            .iter()
            .all(|(level, _)| *level == Level::Debug)
    );
    assert_eq!(actions.len(), 1);
}

#[test]
fn winch_is_for_daemons() {
    let actions = Story::serving(1).signal(Signal::Winch);
    assert!(says(
        &actions,
        Level::Debug,
        "SIGWINCH ignored. Not daemonized"
    ));
    let mut story = Story::new(Settings {
        daemon: true,
        ..settings(2)
    });
    story.tell(Input::Start);
    let actions = story.signal(Signal::Winch);
    assert!(says(&actions, Level::Info, "graceful stop of workers"));
    assert_eq!(orders(&actions).len(), 2);
    story.exit(101, 0);
    assert_eq!(spawns(&story.exit(102, 0)), 0);
    story.signal(Signal::Hup);
    assert_eq!(spawns(&story.tell(Input::Reloaded(settings(2)))), 2);
}

#[test]
fn usr1_reaches_the_logs_and_every_worker() {
    let actions = Story::serving(2).signal(Signal::Usr1);
    assert!(actions.contains(&Action::ReopenLogs));
    assert_eq!(orders(&actions), [(101, Order::Usr1), (102, Order::Usr1)]);
}

#[test]
fn one_upgrade_at_a_time() {
    let mut story = Story::serving(1);
    assert!(story.signal(Signal::Usr2).contains(&Action::Reexec));
    story.tell(Input::Reexeced { pid: 900 });
    let refused = "USR2 signal ignored. Child exists.";
    assert!(says(&story.signal(Signal::Usr2), Level::Warning, refused));
    assert_eq!(story.exit(900, 1), [Action::ForgetUpgrade]);
    assert!(story.signal(Signal::Usr2).contains(&Action::Reexec));
}

#[test]
fn the_upgraded_arbiter_is_promoted_when_its_parent_leaves() {
    let mut supervisor = Supervisor::new(settings(1), true);
    let refused = "USR2 signal ignored. Parent exists.";
    let actions = supervisor.handle(Input::Signal(Signal::Usr2), 1);
    assert!(says(&actions, Level::Warning, refused));
    let actions = supervisor.handle(Input::ParentGone, 2);
    assert!(says(&actions, Level::Info, "Master has been promoted."));
    assert!(actions.contains(&Action::Promote));
    assert_eq!(supervisor.handle(Input::ParentGone, 3), []);
}

#[test]
fn a_fork_that_fails_is_tried_again_after_a_second() {
    let mut supervisor = Supervisor::new(settings(1), false);
    assert_eq!(supervisor.handle(Input::Start, 0), [Action::Spawn]);
    let reason = "Resource temporarily unavailable".to_owned();
    assert_eq!(
        spawns(&supervisor.handle(Input::SpawnFailed { reason }, 1)),
        0
    );
    assert_eq!(supervisor.next_look_ms(1), 1_001);
    assert_eq!(
        supervisor.handle(Input::Tick(Vec::new()), 1_001),
        [Action::Spawn]
    );
}

#[test]
fn a_hook_that_fails_stops_the_server_with_255() {
    let mut story = Story::serving(1);
    let actions = story.tell(Input::Halt {
        code: 255,
        reason: None,
        graceful: false,
    });
    assert_eq!(orders(&actions), [(101, Order::Quit)]);
    assert!(story.exit(101, 0).contains(&Action::Exit(255)));
}
