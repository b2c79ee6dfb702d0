"""Counting approvals: who fills which place, checked against every way to seat people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st
from phasegate.api.people import Approval, Approvals, GroupApprovals
from phasegate.rollout.quorum import helps, missing, missing_without_any, needed

AT = datetime(2026, 1, 1, tzinfo=UTC)
GROUPS = ("legal", "security", "product")


def approval(name: str, *groups: str) -> Approval:
    return Approval(by=name, groups=groups, at=AT)


rules = st.builds(
    lambda count, groups: Approvals(
        count=count, groups=tuple(GroupApprovals(group=g, count=n) for g, n in groups.items())
    ),
    st.integers(1, 4),
    st.dictionaries(st.sampled_from(GROUPS), st.integers(1, 2), max_size=3),
)
crowds = st.lists(st.sets(st.sampled_from(GROUPS)), max_size=5).map(
    lambda members: [approval(f"p{at}", *sorted(groups)) for at, groups in enumerate(members)]
)


def seatings(rule: Approvals, given: Sequence[Approval]) -> Iterator[int]:
    """How many places of groups are taken, for every order in which people could sit down."""
    seats = [group.group for group in rule.groups for _ in range(group.count)]
    size = max(len(seats), len(given))
    people: list[Approval | None] = [*given, *[None] * (size - len(given))]
    for order in permutations(people, len(seats)):
        yield sum(
            person is not None and group in person.groups
            for group, person in zip(seats, order, strict=True)
        )


@given(rules, crowds)
def test_as_many_places_are_taken_as_any_seating_could(
    rule: Approvals, crowd: list[Approval]
) -> None:
    seats = sum(group.count for group in rule.groups)
    taken = max(seatings(rule, crowd))
    free = max(0, needed(rule) - seats - (len(crowd) - taken))
    found = missing(rule, crowd)
    assert found.people == seats - taken + free
    assert sum(count for _, count in found.groups) == seats - taken


@given(rules, crowds)
def test_nobody_counts_twice_and_enough_is_enough(rule: Approvals, crowd: list[Approval]) -> None:
    enough = missing(rule, crowd).people == 0
    assert not enough or len(crowd) >= needed(rule)
    anybody = [approval(f"all{at}", *GROUPS) for at in range(needed(rule))]
    assert missing(rule, anybody).people == 0
    assert missing(rule, anybody[:-1]).people == 1


@given(rules, crowds, st.sets(st.sampled_from(GROUPS)))
def test_one_more_person_is_never_worth_more_than_one(
    rule: Approvals, crowd: list[Approval], groups: set[str]
) -> None:
    more = approval("more", *sorted(groups))
    before, after = missing(rule, crowd).people, missing(rule, [*crowd, more]).people
    assert before - 1 <= after <= before


@given(rules, crowds)
def test_in_doubt_it_is_enough_whoever_of_them_does_not_count(
    rule: Approvals, crowd: list[Approval]
) -> None:
    enough = missing_without_any(rule, crowd).people == 0
    each = [missing(rule, [a for a in crowd if a is not one]).people == 0 for one in crowd]
    assert enough == (bool(crowd) and all(each))
    assert not enough or len(crowd) > needed(rule)


@given(rules, crowds, crowds, st.sets(st.sampled_from(GROUPS)))
def test_who_does_not_help_never_would_have(
    rule: Approvals, crowd: list[Approval], later: list[Approval], groups: set[str]
) -> None:
    """So an approval that fills no place is refused, and nothing is lost with it."""
    more = approval("more", *sorted(groups))
    if helps(rule, crowd, more):
        return
    everybody = [*crowd, *(a.model_copy(update={"by": f"late-{a.by}"}) for a in later)]
    assert missing(rule, [*everybody, more]).people == missing(rule, everybody).people
    with_more, without = (missing_without_any(rule, c) for c in ([*everybody, more], everybody))
    assert (with_more.people == 0) == (without.people == 0)


@given(rules, crowds)
def test_what_is_missing_is_what_would_be_enough(rule: Approvals, crowd: list[Approval]) -> None:
    found = missing(rule, crowd)
    members = [group for group, count in found.groups for _ in range(count)]
    rest = found.people - len(members)
    more = [approval(f"new{at}", group) for at, group in enumerate(members)]
    more += [approval(f"any{at}") for at in range(rest)]
    assert missing(rule, [*crowd, *more]).people == 0


def test_who_is_in_two_groups_makes_room_for_who_is_in_one() -> None:
    rule = Approvals(groups=(GroupApprovals(group="legal"), GroupApprovals(group="security")))
    both, legal = approval("both", "legal", "security"), approval("legal", "legal")
    assert missing(rule, [both]).people == 1
    assert missing(rule, [both, legal]).people == 0
    assert str(missing(rule, [legal])) == "1 from group security"
    assert str(missing(Approvals(count=3, groups=rule.groups), [])) == (
        "1 from group legal, 1 from group security, 1 more"
    )
