"""The rollback window: after the deployment's own watch, what serves is watched by schedule.

A breach rolls a young release back by itself, and alerts people for an older one.
"""

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows import outcome
from flows.once import once
from flows.rollback import roll_back
from flows.run import Run, begin, run_name
from release.errors import DeployError
from release.notice import breach_alert
from release.outcome import Ending, sentence_in
from release.rollback.window import Act, Mode, request_of
from tasks.notification import notify, page_of
from tasks.say import speaking
from tasks.serving import what_serves
from tasks.window import Situation, look_at_window, look_once, reaction_of, turn, watch_window


@flow(name="watch", flow_run_name=run_name)
@once
@speaking(heading="Window")
def watch(environment: str = "staging") -> State[Any]:
    """Watch what an environment serves, as long as it may still be rolled back by itself.

    Args:
        environment: The environment to watch.
    """
    try:
        run = begin(environment)
        due = flow_run.scheduled_start_time
        with turn(run.target, run.rules.watch, due) as mine:
            if not mine:
                why = f"another run still watches {environment}"
                return outcome.ended(run, Ending.NOTHING_TO_DO, why)
            return _watch(run, due)
    except DeployError as error:
        return outcome.refused(error)


def _watch(run: Run, due: datetime | None) -> State[Any]:
    """Watch, and act on what was seen, before the next run looks."""
    target, service, rules = run.target, run.settings.service, run.rules.watch
    try:
        before = look_at_window(target, service, rules, key="before", due=due)
        if _nothing_to_watch(run, before):
            return outcome.ended(run, Ending.NOTHING_TO_DO, before.window.sentence)
        report = watch_window(target, before, rules)
        if report.passed:
            return outcome.ended(run, Ending.WATCHED, report.decision.sentence)
        now = look_at_window(target, service, rules, key="after")
    except DeployError as error:
        return outcome.refused(error)
    why, reaction = report.decision.sentence, reaction_of(report, before, now)
    match reaction.act:
        case Act.LEAVE:
            return outcome.ended(run, Ending.NOTHING_TO_DO, f"{why}; {reaction.sentence}")
        case Act.ALERT:
            return _alert(run, why, reaction.sentence)
        case Act.ROLL_BACK:
            return _roll_back(run, why, now)


def _nothing_to_watch(run: Run, situation: Situation) -> bool:
    """Whether the run ends at once: most runs do, within a second or two."""
    mode = situation.window.mode
    if mode is Mode.GLANCE:
        return not look_once(run.target, run.rules.watch)
    return mode is Mode.SKIP


def _roll_back(run: Run, why: str, situation: Situation) -> State[Any]:
    """Roll back as a person would, in this run's name. If that is refused, people are alerted."""
    ended = roll_back(run, request_of(why, situation.facts))
    ending, sentence = outcome.ending_of(ended), sentence_in(ended.message)
    if ending is Ending.ROLLBACK_DONE:  # never green: something was wrong with the release
        return outcome.ended(run, Ending.ROLLED_BACK, sentence)
    if ending is Ending.ROLLBACK_FAILED:
        return ended
    return _alert(run, why, sentence)


def _alert(run: Run, why: str, not_rolled_back: str) -> State[Any]:
    """Tell people, and those who are woken up: nothing was done."""
    there, serves = run.environment, what_serves(run.target)
    notice = breach_alert(there, why, not_rolled_back, serves, page_of(run.id))
    names = run.settings.notify.blocks + run.settings.notify.escalation
    notify(run.target, names, notice, run.id, key="alert")
    sentence = f"{why}; it was not rolled back: {not_rolled_back}; {there} serves {serves}"
    return outcome.ended(run, Ending.NEEDS_A_PERSON, sentence, f"ignition status {there}")
