"""Stands the whole sandbox up, in parallel where its parts allow it, and takes it away."""

import os
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from blocks.whole_file import replace_file
from sandbox.commands import run
from sandbox.errors import SandboxError
from sandbox.layout import BASELINE_VERSION, Environment, Sandbox
from sandbox.parts import (
    approvers,
    configuration,
    engine,
    environments,
    images,
    origin,
    postgres,
    prefect,
    prometheus,
    registry,
)
from sandbox.parts.ports import require_free_ports

PARTS = 16  # more than there are steps, so that a waiting one holds up no other
printing = threading.Lock()


def up(sandbox: Sandbox) -> None:
    """Stand the sandbox up, or complete it: what runs already is left alone.

    Raises SandboxError; what was started until then stays, for `up` to complete or `down` to end.
    """
    require_free_ports(sandbox, ours=running_parts(sandbox))
    _ = sandbox.secrets  # made once, before several threads ask for them
    with engine.engine_in_use():
        step("engine", engine.ensure_engine)
        start_parts(sandbox)
    write_shell_variables(sandbox)


@contextmanager
def standing(sandbox: Sandbox, command: str) -> Iterator[None]:
    """Stand a fresh sandbox up for ``make COMMAND``, in this process too, and take it away.

    Raises SandboxError if it is up already: its state would not be a fresh one.
    """
    if running_parts(sandbox):
        raise SandboxError(f"{sandbox.folder} is up; type: make down, then: make {command}")
    # Before anything imports Prefect, which reads the server's address once.
    os.environ.update(sandbox.variables() | configuration.secrets(sandbox))
    os.environ.update(prefect.tls_variables(sandbox))
    try:
        up(sandbox)
        yield
    finally:
        down(sandbox)


def start_parts(sandbox: Sandbox) -> None:
    """Start everything on the engine, and Prefect.

    After an error, or Ctrl-C, no further step begins, and those under way are waited for: nothing
    is started behind the back of a `down` that follows.
    """
    giving_up = threading.Event()
    with ThreadPoolExecutor(max_workers=PARTS) as pool:
        try:
            for last in schedule(sandbox, pool, giving_up):
                last.result()
        except BaseException:
            giving_up.set()
            raise


def schedule(
    sandbox: Sandbox, pool: ThreadPoolExecutor, giving_up: threading.Event
) -> list[Future[str]]:
    """Begin every step once those it needs are done, and return the last ones.

    Prefect's server takes longest to start, so PostgreSQL, which it needs, comes first.
    """

    def go(name: str, work: Callable[[], str], *after: Future[str]) -> Future[str]:
        return pool.submit(step_after, after, giving_up, name, work)

    database_image = go("PostgreSQL image", images.ensure_postgres)
    base = go("base image", images.ensure_base)
    history = go("origin", lambda: origin.ensure_origin(sandbox.origin))
    store = go("registry", lambda: registry.ensure_registry(sandbox))
    database = go("PostgreSQL", lambda: postgres.ensure_postgres(sandbox), database_image)
    server = go("Prefect server starts", lambda: prefect.start_server(sandbox), database)
    proxy = go("proxy image", images.ensure_proxy)
    metrics = go("Prometheus", lambda: prometheus.ensure_prometheus(sandbox))
    release = go(BASELINE_VERSION, lambda: ensure_release(sandbox), base, history, store)

    def stand_up(environment: Environment) -> Future[str]:
        return go(
            environment.name,
            lambda: environments.ensure_environment(
                sandbox, environment, f"{sandbox.image_repository}@{release.result()}"
            ),
            *(database, proxy, release),
        )

    serving = [stand_up(environment) for environment in sandbox.environments]
    answering = go("Prefect server", lambda: prefect.wait_for_server(sandbox, giving_up), server)
    worker = go("Prefect worker", lambda: start_pipeline(sandbox), answering, release)
    seen = go("Prometheus", lambda: prometheus.wait_for_data(sandbox), metrics, *serving)
    return [*serving, seen, worker]


def start_pipeline(sandbox: Sandbox) -> str:
    """Write the pipeline's configuration, register its deployments, and start its worker."""
    configuration.write(sandbox)
    approvers.enrol(sandbox)
    prefect.register_deployments(sandbox)
    return prefect.start_worker(sandbox)


def step(name: str, work: Callable[[], str]) -> str:
    """Do one thing and print what came of it and how many seconds it took."""
    started = time.monotonic()
    result = work()
    with printing:
        print(f"{name:<24} {time.monotonic() - started:5.1f} s  {result}", flush=True)
    return result


def step_after(
    needed: tuple[Future[str], ...],
    giving_up: threading.Event,
    name: str,
    work: Callable[[], str],
) -> str:
    """Do a step once the steps it needs are done; their errors are its own."""
    for other in needed:
        other.result()
    if giving_up.is_set():
        raise SandboxError(f"{name} was not begun: something else failed before")
    return step(name, work)


def ensure_release(sandbox: Sandbox) -> str:
    """Build the baseline release from its tag and push it. Returns its digest."""
    image = f"{sandbox.image_repository}:{BASELINE_VERSION}"
    revision = origin.revision(sandbox.origin, BASELINE_VERSION)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "backend.tar"
        tree = f"{BASELINE_VERSION}:app/backend"
        run(["git", "-C", sandbox.origin, "archive", "--output", archive, tree])
        images.build_release(archive.read_bytes(), image, BASELINE_VERSION, revision)
    return images.push(image)


def running_parts(sandbox: Sandbox) -> set[str]:
    """Which of the sandbox's ports are held by the sandbox itself."""
    held = {
        "registry": registry.is_running(sandbox),
        "postgres": postgres.is_running(sandbox),
        "prometheus": prometheus.process(sandbox).pid is not None,
        "prefect": prefect.server_process(sandbox).pid is not None,
    }
    held |= {e.name: environments.is_running(e) for e in sandbox.environments}
    return {name for name, is_running in held.items() if is_running}


def write_shell_variables(sandbox: Sandbox) -> None:
    """Write `env`, for a shell to source."""
    variables = sandbox.variables() | configuration.secrets(sandbox)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'export PATH={shlex.quote(str(sandbox.programs))}:"$PATH"')
    replace_file(sandbox.folder / "env", ("\n".join(lines) + "\n").encode())


def down(sandbox: Sandbox, *, keep: bool = False) -> None:
    """Take the sandbox away, whatever state it is in.

    ``keep`` leaves its folder and its databases for the next `up`. Images stay as a cache, and the
    engine is stopped if it is ours and nothing else uses it.
    """
    step("Prefect server", lambda: prefect.stop_prefect(sandbox))
    prometheus.stop(sandbox)
    with engine.engine_in_use():  # another sandbox that is taken away would stop it meanwhile
        if engine.engine_answers() or wake_engine(sandbox):
            for environment in sandbox.environments:
                environments.remove_environment(environment)
            postgres.remove_postgres(sandbox, keep_data=keep)
    registry.remove_registry(sandbox)
    if not keep:
        shutil.rmtree(sandbox.folder, ignore_errors=True)
    step("engine", engine.release_engine)


def wake_engine(sandbox: Sandbox) -> bool:
    """Start an engine that stopped, as in a reboot, with this sandbox's containers on it.

    Otherwise they would come back with it at the next `up`. Returns whether it was started.
    """
    if sandbox.folder.exists() and engine.DATA.exists():
        step("engine", engine.ensure_engine)
        return True
    return False


def status(sandbox: Sandbox) -> dict[str, str]:
    """What answers now, by the name of the part."""
    found = {
        "engine": "answers" if engine.engine_answers() else "does not answer",
        "registry": sandbox.registry if registry.answers(sandbox) else "does not answer",
        "PostgreSQL": "answers" if postgres.is_running(sandbox) else "does not answer",
        "Prometheus": prometheus.state(sandbox),
        "Prefect server": prefect.state(sandbox),
    }
    for environment in sandbox.environments:
        found[environment.name] = environments.state(environment)
    return found
