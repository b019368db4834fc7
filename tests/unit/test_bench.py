"""The benchmark: who takes part, ratios in a round, resolution, verdicts, and what is written of them.

Of its loads those that count by themselves, against our own server: they must count what came, and no more.
"""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from harness.websocket import frame_bytes

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import chart, figures, measure, report, scenarios, servers, slices
from bench.load import frames
from bench.results import Outcome, verdicts
from bench.scenarios import FAST, RIVALS, Scenario
from bench.servers import BENCH, Server, Shape

FORGETFUL = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client = listener.accept()[0]
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\nConnection: close\\r\\n\\r\\n0")
    client.close()
"""
MORTAL = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
client = listener.accept()[0]
client.recv(65536)
client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
client.close()
listener.accept()[0].recv(65536)
print("that was all", flush=True)
# At once, so that whoever finds it silent finds it ended.
os._exit(1)
"""


def rounds(*costs, errors=0):
    return [{"cpu_us": cost, "errors": errors} for cost in costs]


@pytest.fixture
def outcome():
    scenario = Scenario(
        "x", "a title", Shape("hello:app"), targets={RIVALS: 1.2, FAST: 1.3, "granian": 2.0, "uwsgi": 9}
    )
    return Outcome(
        scenario,
        rounds={
            "tricorn": rounds(10, 20, 10),
            "control": rounds(10, 21, 9),
            "floor": rounds(5, 5, 5),
            "granian": rounds(25, 50, 10),
            "bjoern": rounds(12, 24, 12),
            "waitress": rounds(1, 1, 1, errors=3),
        },
        failed={"m0serve": "did not start"},
    )


def test_ratios_are_taken_within_a_round(outcome):
    assert outcome.ratios("granian") == [2.5, 2.5, 1.0]
    assert outcome.ratio("granian") == 2.5
    assert outcome.ratio("uwsgi") is None


def test_the_resolution_is_what_the_control_is_away_from_itself(outcome):
    assert outcome.resolution() == pytest.approx(0.1)
    assert Outcome(outcome.scenario).resolution() is None


def test_a_verdict_names_the_rival_that_comes_nearest(outcome):
    found = {verdict.about: verdict for verdict in verdicts(outcome)}
    assert (found[RIVALS].nearest, found[RIVALS].ratio, found[RIVALS].reached) == ("bjoern", 1.2, True)
    assert (found[FAST].nearest, found[FAST].reached) == ("bjoern", False)
    assert found["granian"].reached
    # Nobody measured it, so nothing is said about it; and who answers with errors is not compared.
    assert "uwsgi" not in found


def test_the_report_shows_every_server_and_why_one_is_missing(outcome):
    outcome.origin = {"left out": "cheroot is not installed"}
    text = report.markdown([outcome])
    assert "| granian | 2.50 (1.00 to 2.50) | 25.0 | 0 |" in text
    assert "- m0serve: did not start" in text
    assert "- left out: cheroot is not installed" in text
    assert "**missed**" in text and "reached" in text


def test_the_report_says_where_figures_come_from_and_which_are_from_elsewhere(outcome):
    outcome.origin = {"machine": "here", "commit": "abc"}
    other = Outcome(named(), rounds={"tricorn": rounds(1)}, origin={"machine": "here", "commit": "def"})
    other.scenario = replace(other.scenario, name="y")
    lines = report.markdown([outcome, other]).splitlines()
    start = lines.index("- machine: here")
    assert lines[start : start + 5] == [
        "- machine: here",
        "- commit: abc (x)",
        "- commit: def (y)",
        "- rounds: 3 (x)",
        "- rounds: 1 (y)",
    ]


def test_figures_are_read_as_they_were_written(outcome, tmp_path):
    outcome.origin = {"commit": "abc"}
    outcome.remiss = {"bjoern": "never closes"}
    outcome.rounds["granian"] = [{"cpu_us": 1 / 3}, {}, {"cpu_us": 2.0, "kib_per_idle_connection": 0.5}]
    figures.save(outcome, tmp_path)
    other = named()
    read = figures.load([replace(other, name="never measured"), outcome.scenario], tmp_path)
    outcome.rounds["granian"][0]["cpu_us"] = 0.333333
    assert read == [outcome]


def test_figures_of_a_scenario_that_failed_everywhere_are_kept_too(tmp_path):
    outcome = Outcome(named(), failed={"tricorn": "did not start"})
    figures.save(outcome, tmp_path)
    assert figures.load([outcome.scenario], tmp_path) == [outcome]


def test_the_results_are_those_of_the_figures_that_are_kept():
    known = {scenario.name for scenario in scenarios.SCENARIOS}
    assert {path.stem for path in figures.FOLDER.glob("*.json")} <= known
    outcomes = figures.load()
    findings = (BENCH / "findings.md").read_text()
    assert (BENCH / "results.md").read_text() == report.markdown(outcomes, findings)
    charts = {path.name: path.read_text() for path in (BENCH / "charts").iterdir()}
    assert charts == report.charts(outcomes)


def test_a_chart_is_well_formed_and_escapes_its_words(outcome):
    root = ElementTree.fromstring(chart.bars("a < b", "per second", [("tricorn", 3.0), ("x&y", 1.0)]))
    said = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert said[:2] == ["a < b", "per second"]
    assert "x&y" in said
    assert "tricorn" in report.chart(outcome) and "control" not in report.chart(outcome)


def named(shape="wsgi", **more):
    return Scenario("x", "a title", Shape("x:app", interface=shape), **more)


def takers(scenario):
    return {server.name for server in servers.SERVERS if scenario.takes(server)}


def test_an_interface_brings_its_own_servers():
    wsgi, asgi, websocket = takers(named()), takers(named("asgi")), takers(named("websocket"))
    assert {"gunicorn sync", "gunicorn gevent", "bjoern", "tricorn gthread"} <= wsgi
    assert {"uvicorn", "hypercorn", "gunicorn asgi", "tricorn asyncio", "freastal"} <= asgi
    assert not wsgi & {"uvicorn", "hypercorn", "gunicorn asgi", "tricorn asyncio"}
    assert not asgi & {"bjoern", "gunicorn sync", "tricorn gthread"}
    assert websocket == asgi - {"fastpysgi", "freastal"}
    assert "floor" in takers(named("asgi", floor=True)) - asgi


def test_servers_on_request_take_part_only_where_they_are_named():
    on_request = {"tricorn gevent", "tricorn eventlet", "tricorn asgi"}
    assert not on_request & (takers(named()) | takers(named("asgi")) | takers(named("websocket")))
    assert takers(named(servers=("tricorn", "tricorn gevent"))) == {"tricorn", "tricorn gevent"}


def test_every_name_in_a_scenario_is_that_of_a_server():
    known = {server.name for server in servers.SERVERS}
    for scenario in scenarios.SCENARIOS:
        about = {name for target in scenario.targets if target != RIVALS for name in target.split(", ")}
        assert about | set(scenario.servers) <= known, scenario.name


def test_a_server_gets_the_application_of_its_own_interface():
    by_name = {server.name: server for server in servers.SERVERS}
    shape = Shape("asgi_x:app", interface="asgi", other="x:app", connections=2500)
    for name, kind, app in [
        ("tricorn", "asgi", "asgi_x:app"),
        ("tricorn gevent", "gevent", "x:app"),
        ("gunicorn gevent", "gevent", "x:app"),
    ]:
        words = by_name[name].command(8000, shape)
        assert words[words.index("-k") + 1] == kind and words[-1] == app
        assert words[words.index("--worker-connections") + 1] == "2500"
    assert "sync" in by_name["tricorn"].command(8000, Shape("x:app"))
    assert by_name["tricorn asgi"].command(8000, Shape("x:app", other="asgi_x:app"))[-1] == "asgi_x:app"


def test_worker_classes_are_compared_with_each_other_and_are_no_rivals():
    outcome = Outcome(
        named(targets={RIVALS: 1.0}),
        rounds={
            "tricorn": rounds(10, 10),
            "tricorn gevent": rounds(13, 13),
            "tricorn eventlet": rounds(15, 15),
            "gunicorn gevent": rounds(130, 260),
        },
    )
    outcome.scenario = next(scenario for scenario in scenarios.SCENARIOS if scenario.name == "classes")
    assert outcome.ratios("gunicorn gevent", base="tricorn gevent") == [10, 20]
    text = report.markdown([outcome])
    assert "| CPU of tricorn gevent / sync on hello | 1.30 | <= 1.2 | **missed** |" in text
    assert "| CPU of tricorn eventlet / sync on hello | 1.50 | <= 1.6 | reached |" in text
    assert "| CPU of gunicorn gevent / tricorn gevent on hello | 15.0 | >= 12 | reached |" in text
    assert "tricorn asgi" not in text
    assert [verdict.nearest for verdict in verdicts(Outcome(named(targets={RIVALS: 1}), outcome.rounds))] == [
        "gunicorn gevent"
    ]


def test_the_latest_event_of_any_round_counts_and_so_does_a_stream_that_broke_off():
    scenario = next(scenario for scenario in scenarios.SCENARIOS if scenario.name == "streams")
    late = [{"late_max_ms": 20, "errors": 0}, {"late_max_ms": 260, "errors": 0}]
    broken = [{"late_max_ms": 20, "errors": 1}]
    outcome = Outcome(scenario, rounds={"tricorn": late, "tricorn gevent": broken, "granian": late})
    text = report.markdown([outcome])
    assert "the latest of tricorn asgi | 260 ms | <= 250 ms | **missed** |" in text
    assert "the latest of tricorn gevent | 20 ms | <= 250 ms | **missed** |" in text
    assert "the latest of granian" not in text
    assert "tricorn" in report.chart(outcome)


def test_memory_of_an_idle_websocket_is_judged():
    scenario = next(scenario for scenario in scenarios.SCENARIOS if scenario.name == "websockets")
    outcome = Outcome(scenario, rounds={"tricorn": [{"kib_per_idle_websocket": 8.5}]})
    text = report.markdown([outcome])
    assert "| KiB per idle WebSocket | 8.50 | <= 8 | **missed** |" in text


@pytest.mark.parametrize("size", [20, 125, 126, 65535, 65536])
def test_frames_are_those_of_the_specification(size):
    opcode, payload = frames.message(size)
    plain, masked = frames.frame(opcode, payload, masked=False), frames.frame(opcode, payload)
    assert plain == frame_bytes(opcode, payload, masked=False)
    mask = masked[len(plain) - size : len(plain) - size + 4]
    assert masked[0] == plain[0] and masked[1] == plain[1] | 0x80
    assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked[-size:])) == payload


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("size, in_flight", [(20, 8), (65536, 1), (200_000, 4)])
def test_the_load_counts_what_an_echo_sends_back(server, size, in_flight):
    running = server.start("echo:app", "--chdir", str(BENCH / "apps"), worker="asgi")
    words = [sys.executable, "load/echo.py", str(running.port), "4", str(size), str(in_flight)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=BENCH, stdin=pipe, stdout=pipe, text=True) as load:
        counts = []
        while len(counts) < 2 or counts[-1] < counts[0] + 100:
            load.stdin.write("\n")
            load.stdin.flush()
            counts.append(json.loads(load.stdout.readline())["messages"])
        load.stdin.close()
        assert load.wait(10) == 0
    assert counts == sorted(counts)


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("kind, app", [("asgi", "asgi_events:app"), ("gevent", "events:app")])
def test_the_load_of_streams_counts_every_event(server, kind, app):
    running = server.start(app, "--chdir", str(BENCH / "apps"), worker=kind)
    words = [sys.executable, "load/streams.py", str(running.port), "20", "4", "own"]
    said = json.loads(subprocess.run(words, cwd=BENCH, capture_output=True, check=True, timeout=60).stdout)
    assert said["events"] == 80 and said["errors"] == 0
    assert 0 <= said["late_p50_ms"] <= said["late_p99_ms"] <= said["late_max_ms"]


def test_a_rival_that_leaves_work_out_is_shown_and_not_compared(outcome):
    outcome.remiss = {"bjoern": "never closes"}
    found = {verdict.about: verdict for verdict in verdicts(outcome)}
    assert (found[RIVALS].nearest, found[RIVALS].ratio) == ("granian", 2.5) and FAST not in found
    text = report.markdown([outcome])
    assert "- bjoern: never closes" in text and "| bjoern | 1.20" in text


@pytest.mark.parametrize(
    "name, figure, wanted", [("slowmix", "kept_percent", 80), ("sleep3ms", "of_bare_percent", 95)]
)
def test_what_is_left_of_a_rate_is_judged_by_the_rounds_own_measure(name, figure, wanted):
    scenario = scenarios.chosen([name])[0]
    for share, word in ((wanted - 1.0, "**missed**"), (wanted + 1.0, "reached")):
        rounds = [{"rps": 50.0, figure: share}, {"rps": 90.0, figure: share}]
        text = report.markdown([Outcome(scenario, {"tricorn": rounds})])
        assert f"| {share:.0f} % | >= {wanted} % | {word} |" in text


def test_whether_a_server_closes_what_it_sends_is_asked_of_itself():
    def tricorn(port, _):
        return [sys.executable, "-m", "tricorn", "closing:app", "-b", f"127.0.0.1:{port}"]

    def forgetful(port, _):
        return [sys.executable, "-c", FORGETFUL, str(port)]

    assert measure.closes(Server("tricorn", tricorn))
    assert not measure.closes(Server("forgetful", forgetful))


@pytest.mark.skipif(
    not (shutil.which("wrk") and shutil.which("taskset") and len(os.sched_getaffinity(0)) > 1),
    reason="needs wrk, taskset and two cores",
)
@pytest.mark.parametrize("name, sliced", [("hello", True), ("slowmix", False)])
def test_a_round_measures_who_serves_and_says_why_another_does_not(name, sliced):
    scenario = next(scenario for scenario in scenarios.SCENARIOS if scenario.name == name)
    assert scenario.sliced == sliced
    tricorn = ["-m", "tricorn", scenario.shape.app, "-b"]
    takers = [
        Server("tricorn", lambda port, _: [sys.executable, *tricorn, f"127.0.0.1:{port}"]),
        Server("absent", lambda port, _: [sys.executable, "-c", "exit('no such thing')"]),
        # Its first answer is the one that it is awaited with.
        Server("mortal", lambda port, _: [sys.executable, "-c", MORTAL, str(port)]),
    ]
    found = (slices if sliced else measure).round_of(takers, scenario)
    assert found["tricorn"]["errors"] == 0
    assert 1 < found["tricorn"]["cpu_us"] < 10_000 and 0 < found["tricorn"]["p50_ms"] < 1000
    # One thread, which the slow calls beside it have nearly always.
    assert sliced or 0 < found["tricorn"]["kept_percent"] < 50
    assert str(found["absent"]) == "ended with code 1: no such thing"
    assert str(found["mortal"]) == "ended with code 1: that was all"


def test_names_that_nobody_has_are_refused_with_the_ones_there_are():
    with pytest.raises(ValueError, match="no scenario 'helo'; there are hello, "):
        scenarios.chosen(["helo"])
    with pytest.raises(ValueError, match="no server is called 'nginx'"):
        servers.chosen(["nginx"])
    assert [server.name for server in servers.chosen(["granian"])] == ["tricorn", "control", "granian"]
    gunicorns = [server.name for server in servers.chosen(["gunicorn"])]
    classes = ["gunicorn sync", "gunicorn gthread", "gunicorn gevent", "gunicorn asgi"]
    assert gunicorns == ["tricorn", "control", *classes]
