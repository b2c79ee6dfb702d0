"""The operator's wall clock: it does not jump, unless the machine's does and the API server agrees."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from phasegate.adapters.server_clock import QUICK, TELL_EVERY, TOLERANCE, ServerClock

START = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0


class Machine:
    """True time, and how wrong the machine's and the API server's clocks are."""

    def __init__(self) -> None:
        self.true = START
        self.wall_off = self.server_off = 0.0
        self.clock = ServerClock(lambda: self.true + self.wall_off, lambda: self.true - START)

    def off(self) -> float:
        """Seconds by which the operator's clock is ahead."""
        return self.clock.now().timestamp() - self.true

    def answer(self, took: float = 0.01, times: int = 1) -> None:
        for _ in range(times):
            self.true += 1
            at = datetime.fromtimestamp(self.true + self.server_off, UTC).replace(microsecond=0)
            self.clock.heard(format_datetime(at, usegmt=True), took)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_of_the_machines_clock_is_no_jump_of_the_operators(
    machine: Machine, jump: float
) -> None:
    machine.wall_off = jump
    assert machine.off() == 0
    machine.true += 600
    machine.answer(times=20)
    assert machine.off() == 0
    machine.wall_off = 0
    machine.answer(times=20)
    assert machine.off() == 0


@pytest.mark.parametrize("wrong", [HOUR, -HOUR])
def test_an_api_server_with_another_time_is_told_again_and_again_and_changes_nothing(
    machine: Machine, wrong: float, caplog: pytest.LogCaptureFixture
) -> None:
    machine.server_off = wrong
    machine.answer(times=int(2 * TELL_EVERY))
    assert machine.off() == 0
    assert machine.clock.ahead == pytest.approx(wrong, abs=1)
    told = [entry for entry in caplog.records if entry.levelname == "ERROR"]
    assert len(told) == 2
    assert "set the wrong one right" in told[0].message
    machine.server_off = 0
    machine.answer()
    assert (machine.off(), machine.clock.ahead) == (0, 0)


def test_a_machine_that_was_wrong_from_the_beginning_is_told_and_followed_once_it_is_set_right() -> (
    None
):
    machine = Machine()
    machine.wall_off = HOUR
    machine.clock = ServerClock(
        lambda: machine.true + machine.wall_off, lambda: machine.true - START
    )
    machine.answer(times=10)
    assert machine.off() == HOUR
    assert machine.clock.ahead == pytest.approx(-HOUR, abs=1)
    machine.wall_off = 0
    machine.answer()
    assert (machine.off(), machine.clock.ahead) == (0, 0)


def test_a_jump_that_the_api_server_confirms_is_followed_at_once(machine: Machine) -> None:
    machine.wall_off = machine.server_off = 600.0
    machine.answer()
    assert machine.off() == 600


def test_one_of_several_api_servers_with_a_wrong_clock_is_not_believed(machine: Machine) -> None:
    for _ in range(20):
        machine.server_off = HOUR
        machine.answer(times=10)
        machine.server_off = 0
        machine.answer()
        assert machine.off() == 0


def test_answers_that_waited_for_a_stopped_process_say_nothing(machine: Machine) -> None:
    machine.server_off = -600
    machine.answer(took=QUICK + 1, times=10)
    assert machine.off() == 0


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 99:99:99 GMT"])
def test_a_date_that_cannot_be_read_says_nothing(machine: Machine, date: str) -> None:
    machine.clock.heard(date, 0.01)
    assert (machine.off(), machine.clock.ahead) == (0, 0)


def test_small_corrections_by_the_time_service_are_followed(machine: Machine) -> None:
    for _ in range(10):
        machine.true += 60
        machine.wall_off += TOLERANCE / 4
        assert machine.off() == machine.wall_off
