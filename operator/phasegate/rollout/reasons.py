"""Reasons of conditions and events: a documented list, part of the API (docs/conditions.md)."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """CamelCase reasons. Each value is stable: people alert on it."""

    # Ready
    STABLE = "Stable"
    CREATING = "Creating"
    ROLLING_OUT = "RollingOut"
    ROLLED_BACK = "RolledBack"
    DELETING = "Deleting"
    STABLE_UNAVAILABLE = "StableUnavailable"
    DEACTIVATED = "Deactivated"
    REACTIVATING = "Reactivating"
    # Stalled: a person has to change something
    INVALID_SPEC = "InvalidSpec"
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    TEMPLATE_REFUSED = "TemplateRefused"
    POLICY_NOT_FOUND = "PolicyNotFound"
    POLICY_INVALID = "PolicyInvalid"
    FALLBACK_INVALID = "FallbackInvalid"
    ROUTER_CANNOT_MIRROR = "RouterCannotMirror"
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    CANDIDATE_NOT_READY = "CandidateNotReady"
    # Progressing
    WAITING_FOR_PODS = "WaitingForPods"
    WAITING_FOR_ROUTE = "WaitingForRoute"
    READ_FAILED = "ReadFailed"
    COLLECTING_EVIDENCE = "CollectingEvidence"
    HELD_BY_PERSON = "Paused"
    HELD_BY_EVIDENCE = "Holding"
    ALERT_BREACHED = "AlertBreached"
    BUDGET_REACHED = "BudgetReached"
    NO_DATA = "NoData"
    PAUSED_WITHOUT_DATA = "PausedWithoutData"
    MAX_DURATION = "MaxDurationExceeded"
    AWAITING_APPROVAL = "AwaitingApproval"
    OUTSIDE_WINDOW = "OutsideWindow"
    FROZEN = "Frozen"
    SHARE_MISMATCH = "ShareMismatch"
    GATE_PASSED = "GatePassed"
    # TrafficProgrammed
    PROGRAMMED = "Programmed"
    NOT_PROGRAMMED = "NotProgrammed"
    ROUTE_CONTESTED = "RouteContested"
    NOT_AWAITING = "NotAwaitingApproval"
    NOT_ROLLED_BACK = "NotRolledBack"
    # IdentityEnforced
    IDENTITY_NOT_ENFORCED = "AdmissionPolicyMissing"
    # EarlyWarning
    WORSENING = "Worsening"
    NOTHING_WORSENS = "NothingWorsens"
    LATE_EVIDENCE = "LateEvidence"
    # UnknownNotifier
    UNKNOWN_NOTIFIER = "UnknownNotifier"
    # events
    EARLY_WARNING = "EarlyWarning"
    WARNING_OVER = "EarlyWarningOver"
    ALERT_OVER = "AlertOver"
    STARTED = "RolloutStarted"
    ADVANCED = "PhaseAdvanced"
    PROMOTED = "Promoted"
    CANCELLED = "RolloutCancelled"
    SUPERSEDED = "RolloutSuperseded"
    SAFE = "TrafficSafe"
    REACTIVATED = "Reactivated"
    ROUTE_RESTORED = "RouteRestored"
    ACTION_ACCEPTED = "ActionAccepted"
    ACTION_REFUSED = "ActionRefused"
    ACTION_EXPIRED = "ActionExpired"
