"""What the garbage collector of a worker is kept away from (`gc_freeze`)."""

import json
import signal

import pytest
from harness.paste import RUNNER, answer
from harness.servers import FIXTURES

pytestmark = pytest.mark.servers("tricorn")


def facts(running):
    return json.loads(running.request().body)


@pytest.mark.parametrize("how", [(), ("--preload",)])
def test_what_was_loaded_is_not_looked_through_again(server, worker, how):
    running = server.start("heap_app:app", *how, worker=worker)
    assert facts(running) == {"looked_through": False, "garbage": False, "enabled": True}


@pytest.mark.parametrize("how", [(), ("--preload",)])
def test_nor_is_what_an_asgi_application_makes_in_its_startup(server, how):
    running = server.start("heap_app:asgi", *how)
    assert facts(running) == {"looked_through": False, "garbage": False, "enabled": True}


@pytest.mark.parametrize("app", ["app", "asgi"])
@pytest.mark.parametrize("how", [("--no-gc-freeze",), ("--preload", "--no-gc-freeze")])
def test_without_it_the_collector_sees_everything(server, app, how):
    running = server.start(f"heap_app:{app}", *how)
    assert facts(running)["looked_through"] is True


def test_it_holds_after_a_reload(server):
    running = server.start("heap_app:app", "--preload")
    running.wait_for_workers(1)
    running.send_signal(signal.SIGHUP)
    running.wait_for_line("Worker exiting")
    assert facts(running) == {"looked_through": False, "garbage": False, "enabled": True}


def test_what_a_hook_makes_is_kept_out_as_well(server, tmp_path):
    hook = (
        "def post_worker_init(worker):\n    import heap_app\n    heap_app.LOADED = made = heap_app.Node()\n"
        "    made.myself = made\n"
    )
    running = server.start("heap_app:app", config=hook, env={"PYTHONPATH": str(FIXTURES)})
    assert facts(running)["looked_through"] is False


def test_a_runner_gets_its_heap_back_when_the_server_has_ended(paste):
    running = paste("", runner=RUNNER)
    assert answer(running)["frozen"] == "True"
    assert running.stop() == 0
    assert f"runner {running.pid} has 0 frozen objects" in running.log.text()


def test_a_runner_that_has_frozen_its_heap_itself_keeps_it_so(paste):
    running = paste("gc_freeze = off", runner=RUNNER, arguments=("freeze",))
    assert answer(running)["frozen"] == "True"
    assert running.stop() == 0
    assert f"runner {running.pid} has 0 frozen objects" not in running.log.text()
