"""Faults on the way between an operator and the lab's API server, one request at a time.

`FaultProxy` stands between them and does what its rules say; `OperatorProcess` is an operator that
goes through it and that can be killed, stopped and started again.
"""

from __future__ import annotations

from lab.faults.actions import Action, Answer, Call, Cut, Delay, Expire, Hang, Silence
from lab.faults.operator import OperatorProcess
from lab.faults.proxy import FaultProxy
from lab.faults.requests import READS, WRITES, Match, Seen
from lab.faults.rules import Rule

__all__ = [
    "READS",
    "WRITES",
    "Action",
    "Answer",
    "Call",
    "Cut",
    "Delay",
    "Expire",
    "FaultProxy",
    "Hang",
    "Match",
    "OperatorProcess",
    "Rule",
    "Seen",
    "Silence",
]
