"""The answers to a gate's form, as the command line gives them."""

from typing import Any

from release.checklist import ALL_OPEN, Decision


def approval(approver: str, item: str, comment: str) -> dict[str, Any]:
    """Sign one item, or all that are open."""
    return _answer(Decision.APPROVE, item or ALL_OPEN, approver, comment)


def rejection(approver: str, reason: str) -> dict[str, Any]:
    """Say no to the whole run."""
    return _answer(Decision.REJECT, ALL_OPEN, approver, reason)


def _answer(decision: Decision, signs: str, approver: str, comment: str) -> dict[str, Any]:
    return {
        "decision": decision.value,
        "signs": signs,
        "approver": approver,
        "comment": comment,
    }
