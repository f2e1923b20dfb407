"""The runbook, top to bottom. A change of the runbook is a change of this file."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows import outcome
from flows.gate import Opened, Subject, sign_off
from flows.logs import say_unexpected
from flows.once import once
from flows.rollback import rollback
from flows.run import Run, begin, load_target, run_name
from release.errors import DeployError, EnvironmentLocked
from release.gate.checklist import Item
from release.gate.evidence import Evidence, say_evidence
from release.ledger import EventKind
from release.migration.contract import least_release
from release.migration.files import MigrationFile, Stamp
from release.migration.rehearsal.outcome import Rehearsal
from release.model import Baseline, Instance, Release, Step, image_of
from release.notice import Asked, gate_answered, gate_opened
from release.outcome import (
    Conclusion,
    Ending,
    after_failure,
    ending_of_failure,
    explain,
    hint_after_rollback,
    hint_of,
    one_line,
    sentence_in,
)
from release.plan import Plan
from release.request import DeployRequest, RollbackRequest, checked
from release.rollback.baseline import baseline_address
from release.rollback.recovery import planned_baseline
from release.watch.report import WatchReport
from release.watch.restored import said_after_rollback
from tasks.alarm import listening
from tasks.baseline import measure_baseline, record_baseline
from tasks.checklist import GateRound
from tasks.environment import hold_environment, patient
from tasks.evidence import collect_evidence, questions_about
from tasks.hand_over import refuse_after_p0
from tasks.image import build_image
from tasks.migration import apply_migrations, plan_schema, refuse_older_releases
from tasks.notification import notify, page_of
from tasks.page import show_version
from tasks.plan import Survey, make_plan, resolve_release
from tasks.rehearsal import old_release, rehearse_migrations
from tasks.release import prepare_release
from tasks.remains import keep_evidence
from tasks.restore import find_baseline, serve_baseline
from tasks.rollout import (
    admit_instances,
    await_healthy,
    bake,
    drain_baseline,
    pin_release,
    pull_image,
    record_instances,
    remove_baseline,
    restart_in_place,
    start_new_instances,
    stop_baseline,
)
from tasks.say import speaking
from tasks.step import putting_off
from tasks.systems import check_systems
from tasks.ticket import close_ticket
from tasks.verification import verify_instances, verify_public
from tasks.watch import watch_release


@flow(name="deploy", flow_run_name=run_name)
@once
def deploy(request: DeployRequest, environment: str = "staging") -> State[Any]:
    """Deploy a release by the runbook: plan, sign, build, migrate, roll out, verify, watch.

    Args:
        request: What to deploy.
        environment: Where to deploy it.
    """
    try:
        run = begin(environment)
        checked(request)
    except DeployError as error:
        return outcome.refused(error)
    show_version(run.environment, request.version or request.ref)
    with run.alive():
        return carry_out(run, request)


def carry_out(run: Run, request: DeployRequest) -> State[Any]:
    """The runbook, from its plan to its end."""
    try:
        plan = plan_deployment(run, request)
        if plan.nothing_to_do:
            why = plan.nothing_to_do
            return end(run, request, Conclusion(Ending.NOTHING_TO_DO, why, plan.release))
        if request.dry_run:
            sentence = f"{plan.version} was planned, nothing was changed"
            return end(run, request, Conclusion(Ending.PLANNED, sentence, plan.release))
        sign_checklist(run, request, plan)
        release = make_release(run, plan)
    except Exception as error:  # nothing that users meet was changed
        return give_up(run, request, error)
    with putting_off() as write_reports:
        try:
            live = go_live(run, plan, release)
        except EnvironmentLocked as error:  # taken over: what serves is another run's affair
            return outcome.lost(error)
        except Exception as error:  # whatever it was, the baseline has to serve again
            serve_again(run, plan, error)
            write_reports()
            return roll_back(run, request, plan, release, error)
    return finish(run, request, plan, live)


def plan_deployment(run: Run, request: DeployRequest) -> Plan:
    """Plan: reach every system, take the lock, record the baseline, say what will happen."""
    target, service = run.target, run.settings.service
    with run.step(Step.PLAN):
        answers = check_systems(target, run.rules.rollout)
        who, why, wait = request.started_by, request.notes, run.rules.wait_for_others
        hold = hold_environment.with_options(timeout_seconds=patient(wait))
        hold(target, run.id, who, why, wait)
        baseline = baseline_of(run)
        revision = resolve_release(target, request, service)
        schema = plan_schema(target, revision, baseline, service)
        rehearsal = rehearse(run, schema.expand, baseline)
        survey = Survey(answers, revision, baseline, schema, rehearsal)
        plan = make_plan(target, request, survey, service, run.rules.watch)
        where = {
            "baseline": baseline_address(baseline),
            "to": baseline.version,
            "instances": len(baseline.instances),
            "pin": baseline.pin,
        }
        # From which a recovery knows the way back, and a later rollback how to check this release.
        run.record(EventKind.PLAN_MADE, payload=where | run.deployed_with().payload())
        return plan


def baseline_of(run: Run) -> Baseline:
    """What served before this run.

    A run that continues after it has changed what serves, and whose results are lost, would measure
    its own release; so what its first plan recorded counts.
    """
    baseline = record_baseline(run.target, run.rules.watch)
    planned = planned_baseline(run.target.ledger.run_events(run.id, EventKind.PLAN_MADE))
    if planned in ("", baseline_address(baseline)):
        return baseline
    service, rules = run.settings.service, run.rules.rollout
    return find_baseline(run.target, planned, service, rules, as_planned=True)


def rehearse(run: Run, files: Sequence[MigrationFile], baseline: Baseline) -> Rehearsal:
    """What the expand migrations do to a copy of the schema, and to the release that serves."""
    rules, service = run.rules, run.settings.service
    smoke, healthy = rules.verify.smoke_timeout, rules.rollout.healthy_within
    old = old_release(run.target, baseline, service, smoke, healthy)
    return rehearse_migrations(run.target, files, old)


def sign_checklist(run: Run, request: DeployRequest, plan: Plan) -> None:
    """Pre-Deployment Checklist: the run is suspended until every item is signed."""
    items = run.runbook.gates(Step.CHECKLIST)
    staging = load_target(run.rules.staging) if run.rules.staging else None
    gate = run.rules.gate
    questions = questions_about(items, plan, run.target, staging)

    def collect(round: int) -> tuple[Evidence, ...]:
        return collect_evidence(questions, gate, key=f"round-{round}")

    with run.step(Step.CHECKLIST):
        tell = telling(run, plan)
        sign_off(run, subject(plan, request, items), gate, collect, tell)
        run.confirm_hold()


def telling(run: Run, plan: Plan) -> Opened:
    """What tells people that a gate of this run waits for them."""

    names, where = run.settings.notify.blocks, page_of(run.id)

    def tell(gate: GateRound, until: datetime, said: str) -> tuple[str, ...]:
        serves = plan.version if gate.section == Step.POST else plan.baseline.version
        evidence = say_evidence(gate.checklist.evidence)
        asked = Asked(run.environment, gate.about, gate.checklist.open, serves, evidence, until)
        notice = gate_answered(asked, said, where) if said else gate_opened(asked, where)
        return notify(run.target, names, notice, run.id, key=gate.key)

    return tell


def subject(plan: Plan, request: DeployRequest, items: tuple[Item, ...]) -> Subject:
    """What is signed at a gate of this run."""
    return Subject(items, plan.lines(), plan.fingerprint, request.started_by)


def make_release(run: Run, plan: Plan) -> Release:
    """Steps 1 to 3: the tag, the image, the schema. The old release serves all the while."""
    target = run.target
    with run.step(Step.PREPARE):
        release = prepare_release(target, plan)
    with run.step(Step.BUILD):
        release = build_image(target, release, run.settings.service)
    with run.step(Step.MIGRATE):
        stamp = Stamp(run.id, release.revision, release.version)
        apply_migrations(target, plan.expand, stamp, key="expand")
    run.confirm_hold()
    refuse_after_p0(target, plan.baseline.taken_at)
    return release


@dataclass(frozen=True)
class Live:
    """A release that users meet, and that has passed its watch."""

    release: Release
    instances: tuple[Instance, ...]
    watched: WatchReport


def go_live(run: Run, plan: Plan, release: Release) -> Live:
    """Steps 4 and 5 and the watch: until it has passed, the baseline is one command away."""
    target, rules = run.target, run.rules
    with listening(target.ledger, run.environment, plan.baseline.taken_at):
        with run.step(Step.DEPLOY):
            run.confirm_hold()
            pull_image(target, image_of(release))
            baseline = measured_until_now(run, plan)
            replace = roll_out if target.router else restart
            new, cutover = replace(run, plan, release)
            # What is written about the instances decides nothing, so it may fail.
            record_instances(target, new, rules.rollout, return_state=True)
        with run.step(Step.VERIFY):
            verify_public(target, release, run.settings.service, rules.verify)
            run.confirm_hold()
            stop_baseline(target, new, rules.rollout)
    with run.step(Step.POST):
        watched = watch_release(target, release, baseline, rules.watch, cutover)
    return Live(release, new, watched)


def measured_until_now(run: Run, plan: Plan) -> Baseline:
    """The baseline as it was from the plan until now or, if that fails, in the plan.

    Measured before anything of the new release runs, which slows what serves if it starts on the
    same machine.
    """
    rules = run.rules.watch
    found = measure_baseline(run.target, plan.baseline, rules, return_state=True)
    baseline = found.result(raise_on_failure=False)
    return baseline if isinstance(baseline, Baseline) else plan.baseline


def roll_out(
    run: Run, plan: Plan, release: Release
) -> tuple[tuple[Instance, ...], datetime | None]:
    """The rolling restart: users meet the new instances only after they were verified.

    Returns the new instances, and when users met them first.
    """
    target, rules, image = run.target, run.rules, image_of(release)
    started = start_new_instances(target, image, plan.baseline, rules.rollout)
    new = await_healthy(target, started, rules.rollout)
    verify_instances(target, new, release, run.settings.service, rules.verify)
    run.confirm_hold()
    cutover = admit_instances(target, new, rules.rollout)
    bake(target, cutover, rules.rollout, rules.watch.error_rate_ceiling)
    run.confirm_hold()
    pin_release(target, image)
    drain_baseline(target, new, rules.rollout)
    return new, cutover.at


def restart(run: Run, plan: Plan, release: Release) -> tuple[tuple[Instance, ...], datetime | None]:
    """The runbook's plain restart, where no router stands before the service."""
    return restart_in_place(run.target, image_of(release), run.rules.rollout), None


def finish(run: Run, request: DeployRequest, plan: Plan, live: Live) -> State[Any]:
    """After the watch: what had to wait for it, the ticket, the log. Nothing is rolled back."""
    target, release = run.target, live.release
    try:
        run.confirm_hold()  # nobody has rolled it back in the last moment
        with speaking(heading=Step.POST.short):
            remove_baseline(target, live.instances, run.rules.rollout)
        if plan.contract:
            remove_old_schema(run, plan, release)
        later = run.runbook.gates(Step.POST)  # items that the pipeline does not do itself
        rules, tell = run.rules.gate, telling(run, plan)
        sign_off(run, subject(plan, request, later), rules, lambda round: (), tell)
        with speaking(heading=Step.POST.short):
            close_ticket(target, request.ticket, f"{release.version} is deployed ({run.label})")
    except Exception as error:  # the release stays: it has passed its watch
        say_unexpected(error)
        sentence = f"{release.version} passed its watch, then: {explain(error)}"
        return end(run, request, Conclusion(Ending.FAILED, sentence, release, hint_of(error)))
    replaced = f"{release.version} replaced {plan.baseline.version}"
    sentence = "; ".join((replaced, *live.watched.gist))
    return end(run, request, Conclusion(Ending.DEPLOYED, sentence, release))


def remove_old_schema(run: Run, plan: Plan, release: Release) -> None:
    """Contract migrations: the release that a rollback would bring back does not need the old
    schema."""
    least = least_release(plan.baseline.release, release)
    stamp = Stamp(run.id, release.revision, release.version, min_app=least)
    with speaking(heading=Step.MIGRATE.short):
        refuse_older_releases(run.target, plan.contract, release)
        apply_migrations(run.target, plan.contract, stamp, key="contract")


def give_up(run: Run, request: DeployRequest, error: Exception) -> State[Any]:
    """End a run that failed before users could meet the new release."""
    say_unexpected(error)
    ending = ending_of_failure(error, after_failure(run.steps_begun()))
    asked_for = Release(request.version or request.ref, revision="")
    return end(run, request, Conclusion(ending, explain(error), asked_for, hint_of(error)))


def serve_again(run: Run, plan: Plan, error: Exception) -> None:
    """Before anything else, every request goes to the baseline: the rollback does the rest.

    What fails here is retried and reported there.
    """
    address = baseline_address(plan.baseline)
    payload = {"reason": one_line(explain(error)), "to": plan.baseline.version, "by": "pipeline"}
    run.record_soon(
        (EventKind.STEP_BEGUN, Step.ROLLBACK, {}), (EventKind.ROLLBACK_STARTED, "", payload)
    )
    target, baseline, rules = run.target, plan.baseline, run.rules.rollout
    with speaking(heading=Step.ROLLBACK.short):
        serving = serve_baseline(
            target, baseline, run.settings.service, rules, key=address, return_state=True
        )
        # The rollback removes the instances, and is a run of its own. Nobody waits for what is
        # known of them while the baseline does not serve; in place they are gone by now, and it was
        # kept before.
        if serving.is_completed() and target.router:
            keep_evidence(target, baseline, rules, return_state=True)


def roll_back(
    run: Run, request: DeployRequest, plan: Plan, release: Release, error: Exception
) -> State[Any]:
    """Restore the baseline by the rollback subflow, and end accordingly."""
    say_unexpected(error)
    why = explain(error)
    wanted = RollbackRequest(
        reason=one_line(why), to=baseline_address(plan.baseline), started_by="pipeline"
    )
    restored = rollback(wanted, run.environment, return_state=True)
    hint = hint_after_rollback(error, run.environment)
    if outcome.ending_of(restored) is Ending.ROLLBACK_DONE:
        seen = said_after_rollback(run.target.ledger.run_events(run.id, EventKind.VERDICT))
        back = f"{plan.baseline.version} ({seen})" if seen else plan.baseline.version
        sentence = f"{release.version} was rolled back to {back}: {why}"
        return end(run, request, Conclusion(Ending.ROLLED_BACK, sentence, release, hint))
    sentence = f"{why}; then the rollback failed: {sentence_in(restored.message)}"
    return end(run, request, Conclusion(Ending.ROLLBACK_FAILED, sentence, release, hint))


def end(run: Run, request: DeployRequest, found: Conclusion) -> State[Any]:
    """End the run in the name of the person who asked for it."""
    return outcome.close(
        run,
        found,
        deployer=request.started_by,
        notes=request.notes,
        dry_run=request.dry_run,
    )
