"""Each request has a task of its own, as far as anybody can tell; also when it needs one step only."""

import pytest
from harness.asgi import literal, wait_for_seen
from harness.http import request_bytes


@pytest.fixture(params=["auto", "asyncio"])
def looped(request, server):
    arguments = () if request.param == "auto" else ("--asgi-loop", request.param)
    return server.shared("asgi_app:app", *arguments, worker="asgi")


def ask(client, target):
    response = client.request("GET", target)
    assert response.status == 200, response.body
    return response


def test_a_task_that_is_held_belongs_to_one_request(looped):
    with looped.connect() as client:
        counts = [literal(ask(client, f"/hold?mark={number}")) for number in range(5)]
    assert [one for one, _ in counts] == [1] * 5
    held = [held for _, held in counts]
    assert held == list(range(held[0], held[0] + 5))


def test_a_task_that_is_watched_by_a_weak_reference_belongs_to_one_request(looped):
    with looped.connect() as client:
        assert [ask(client, "/watch").body for _ in range(5)] == [b"1"] * 5


def test_the_name_of_a_task_is_its_own(looped):
    with looped.connect() as client:
        names = [ask(client, "/name").body for _ in range(3)]
    assert b"mine" not in names


def test_a_callback_of_the_task_comes_with_its_end(looped, request):
    mark = f"callback-{request.node.callspec.id}"
    with looped.connect() as client:
        assert ask(client, f"/callback?mark={mark}").body == b"added"
        seen = wait_for_seen(looped, mark, "done")
        assert seen == ["done True False"]
        assert ask(client, "/pid").status == 200


@pytest.mark.parametrize("wait", ["nothing", "sleep", "turn", "task"])
def test_a_task_may_cancel_itself_in_its_first_step(looped, server, wait):
    if wait == "nothing" and server.name == "gunicorn":
        pytest.skip("Gunicorn's own coroutine waits once more, and hears of it instead")
    expected = b"went on" if wait == "nothing" else b"cancelled"
    with looped.connect() as client:
        for _ in range(3):
            assert ask(client, f"/cancel?wait={wait}").body == expected
            # Nothing of it reaches the next one.
            assert literal(ask(client, "/current"))["cancelling"] == 0
            assert ask(client, "/sleep?ms=1").body == b"ms=1"


def test_a_request_that_waits_keeps_its_task_and_context(looped):
    with looped.connect() as client:
        for _ in range(3):
            assert literal(ask(client, "/same")) == [(True, "set", True, False)] * 3
            assert ask(client, "/context?mark=x").body == b"fresh x"


@pytest.mark.servers("tricorn")
def test_others_see_where_a_request_waits(looped):
    """The outermost frame, as with every task that waits: the application's, where Gunicorn has its own."""
    assert literal(looped.request("GET", "/stack")) == ["app", True]


def test_a_sleep_of_no_time_lets_others_run(looped):
    with looped.connect() as client:
        for _ in range(3):
            assert literal(ask(client, "/order")) == ["scheduled", "slept"]


def test_requests_that_wait_and_such_that_do_not_take_turns(looped):
    targets = ["/pid", "/same", "/order", "/pid", "/sleep?ms=1", "/pid"] * 20
    with looped.connect() as client:
        client.send(b"".join(request_bytes("GET", target) for target in targets))
        answers = [client.read_response() for _ in targets]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers[0::6] + answers[3::6] + answers[5::6]}) == 1
