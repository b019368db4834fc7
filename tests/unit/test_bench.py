"""The arithmetic of the benchmark: ratios in a round, resolution, verdicts, and what is written of them."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import chart, report, scenarios, servers
from bench.results import Outcome, verdicts
from bench.scenarios import FAST, RIVALS, Scenario
from bench.servers import Shape


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
    text = report.markdown([outcome], {"machine": "here"}, ["cheroot is not installed"], 3)
    assert "| granian | 2.50 (1.00 to 2.50) | 25.0 | 0 |" in text
    assert "- m0serve: did not start" in text
    assert "- cheroot is not installed" in text
    assert "**missed**" in text and "reached" in text


def test_a_chart_is_well_formed_and_escapes_its_words(outcome):
    root = ElementTree.fromstring(chart.bars("a < b", "per second", [("tricorn", 3.0), ("x&y", 1.0)]))
    said = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert said[:2] == ["a < b", "per second"]
    assert "x&y" in said
    assert "tricorn" in report.chart(outcome) and "control" not in report.chart(outcome)


def test_names_that_nobody_has_are_refused_with_the_ones_there_are():
    with pytest.raises(ValueError, match="no scenario 'helo'; there are hello, "):
        scenarios.chosen(["helo"])
    with pytest.raises(ValueError, match="no server is called 'nginx'"):
        servers.chosen(["nginx"])
    assert [server.name for server in servers.chosen(["granian"])] == ["tricorn", "control", "granian"]
    gunicorns = [server.name for server in servers.chosen(["gunicorn"])]
    assert gunicorns == ["tricorn", "control", "gunicorn sync", "gunicorn gthread", "gunicorn gevent"]
