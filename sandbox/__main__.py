"""`python -m sandbox up|down|status|code|demo|trials|chaos`."""

import sys
from typing import Annotated

import typer

from release.errors import DeployError
from sandbox.errors import SandboxError
from sandbox.layout import Sandbox
from sandbox.parts import stack

app = typer.Typer(
    help="The example backend and the real parts around it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def up() -> None:
    """Stand everything up and leave it running."""
    sandbox = Sandbox.from_environment()
    stack.up(sandbox)
    print(f"\nPrefect: {sandbox.prefect_ui_url}   in this shell, type: . {sandbox.folder}/env")


@app.command()
def down(
    keep: Annotated[bool, typer.Option("--keep", help="Keep its folder and databases.")] = False,
) -> None:
    """Take everything away."""
    stack.down(Sandbox.from_environment(), keep=keep)


@app.command()
def status() -> None:
    """Say what answers."""
    for name, state in stack.status(Sandbox.from_environment()).items():
        print(f"{name:<16} {state}")


@app.command()
def code(name: Annotated[str, typer.Argument(help="Ada or Grace.")]) -> None:
    """Say the one-time code that an approver's telephone would show."""
    from sandbox.parts import approvers

    print(approvers.code(Sandbox.from_environment(), name))


@app.command()
def demo() -> None:
    """Deploy a good release and a bad one, while a client counts failed requests."""
    from sandbox import demo as scenarios  # it brings Prefect along, which takes seconds

    sys.exit(0 if scenarios.demo(Sandbox.from_environment()) else 1)


@app.command()
def trials(
    rounds: Annotated[int, typer.Option(help="How often each.", min=1)] = 5,
    only: Annotated[str, typer.Option(help="Names, with commas; empty: all.")] = "",
) -> None:
    """Deploy good and bad releases under load and check how each one ends."""
    from sandbox.trials import play as harness  # it brings Prefect along, which takes seconds

    sys.exit(0 if harness.trials(Sandbox.from_environment(), rounds, only) else 1)


@app.command()
def chaos(
    rounds: Annotated[int, typer.Option(help="How often each.", min=1)] = 1,
    only: Annotated[str, typer.Option(help="Names, with commas; empty: all.")] = "",
    add: Annotated[bool, typer.Option(help="Keep the results of earlier calls too.")] = False,
) -> None:
    """Break something at each moment of a deployment and check how it ends."""
    from sandbox.chaos import play as harness  # it brings Prefect along, which takes seconds

    sys.exit(0 if harness.chaos(Sandbox.from_environment(), rounds, only, add) else 1)


def main() -> None:
    """Run a command; an error of the sandbox is one sentence and exit code 1."""
    try:
        app()
    except (SandboxError, DeployError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
