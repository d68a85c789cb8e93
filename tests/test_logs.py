"""Lines of log: one object each, with ids, without secrets, and the same of both programs."""

import json
import logging
from typing import Any

import pytest

from sidemeter import logs as of_the_agent
from sidemeter_control import logs as of_the_control_plane
from sidemeter_control.logs import about

SECRET = "a-secret-of-the-tests"
KEY = "smk_0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(params=[of_the_agent, of_the_control_plane], ids=["agent", "control plane"])
def logs(request: pytest.FixtureRequest) -> Any:
    return request.param


def record(message: str = "batch %d", *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("sidemeter.forward", logging.WARNING, "x.py", 1, message, arguments or (7,), None)
    vars(made).update(extra)
    return made


def test_a_line_of_json_has_time_level_message_and_what_it_is_about(logs: Any) -> None:
    line = json.loads(logs.Formatter("json").format(record(agent_id="a1", epoch=3, batch_no=7)))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "sidemeter.forward",
        "message": "batch 7",
        "agent_id": "a1",
        "epoch": 3,
        "batch_no": 7,
    }


def test_a_line_of_text_has_the_same(logs: Any) -> None:
    line = logs.Formatter("text").format(record(agent_id="a1", epoch=3))
    assert line.endswith(" WARNING batch 7 agent_id=a1 epoch=3")


def test_the_ids_of_the_current_span_are_in_the_line(logs: Any) -> None:
    line = json.loads(logs.Formatter("json", ids=lambda: {"trace_id": "0af7"}).format(record()))
    assert line["trace_id"] == "0af7"


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_is_blotted_out_wherever_it_is(logs: Any, form: str) -> None:
    made = record("refused: %s", f"Bearer {SECRET}", detail=f"key={SECRET}")
    error = ValueError(f"no key like {SECRET}")
    made.exc_info = (ValueError, error, None)
    line = logs.Formatter(form, [SECRET]).format(made)
    assert SECRET not in line
    assert line.count("[secret]") >= 3


@pytest.mark.parametrize("name", ["a\nERROR forged", "a\x1b[2Jb", "a\rb"])
def test_a_name_makes_no_line_of_its_own(logs: Any, name: str) -> None:
    for form in ("json", "text"):
        assert logs.Formatter(form).format(record("of %s", name, subject=name)).isprintable()


def test_what_is_said_of_a_request_is_in_every_line_of_it_and_in_none_after() -> None:
    form = of_the_control_plane.Formatter("json")
    with about(agent_id="a1", request_id=None):
        with about(epoch=3):
            assert {"agent_id": "a1", "epoch": 3}.items() <= json.loads(form.format(record())).items()
        inside = json.loads(form.format(record(agent_id="a2")))
        assert (inside["agent_id"], "epoch" in inside, "request_id" in inside) == ("a2", False, False)
    assert "agent_id" not in json.loads(form.format(record()))


def test_the_control_plane_blots_out_keys_that_it_was_never_told() -> None:
    line = of_the_control_plane.Formatter("text").format(record("given %s, not smk_short", KEY))
    assert KEY not in line
    assert "given [secret], not smk_short" in line
