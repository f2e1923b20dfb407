"""Where a sandbox is and what its parts are called."""

import stat
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.layout import Ports, Sandbox, Secrets


def sandbox_in(folder: Path, **environ: str) -> Sandbox:
    """A sandbox in a folder, with some variables set."""
    return Sandbox.from_environment({"IGNITION_SANDBOX": str(folder), **environ})


@pytest.mark.parametrize(
    ("folder", "network", "project", "container"),
    [
        (
            ".sandbox",
            "ignition-sandbox",
            "ignition-sandbox-production",
            "ignition-sandbox-postgres",
        ),
        (
            ".sandbox-test",
            "ignition-sandbox-test",
            "ignition-sandbox-test-production",
            "ignition-sandbox-test-postgres",
        ),
    ],
)
def test_all_names_come_from_the_folder(
    tmp_path: Path, folder: str, network: str, project: str, container: str
) -> None:
    sandbox = sandbox_in(tmp_path / folder)

    assert sandbox.network == network
    assert sandbox.production.project == project
    assert sandbox.postgres_container == container


def test_ports_stand_at_fixed_offsets_from_their_base() -> None:
    ports = Ports.from_environment({"IGNITION_SANDBOX_PORTS": "20000"})

    assert ports == Ports(
        registry=20050,
        postgres=20054,
        production=20080,
        staging=20081,
        prometheus=20090,
        prefect=20200,
    )


def test_one_port_can_be_moved_alone() -> None:
    ports = Ports.from_environment({"IGNITION_SANDBOX_PREFECT_PORT": "4200"})

    assert (ports.prefect, ports.registry) == (4200, 18050)


@pytest.mark.parametrize("value", ["", "0", "65536", "-1", "80a"])
def test_a_port_that_is_none_is_refused_by_its_variables_name(value: str) -> None:
    with pytest.raises(SandboxError, match=r"IGNITION_SANDBOX_STAGING_PORT is '.*', not a port"):
        Ports.from_environment({"IGNITION_SANDBOX_STAGING_PORT": value})


def test_passwords_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secrets.json"

    made = Secrets.load_or_create(path)

    assert Secrets.load_or_create(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.staging != made.production


def test_containers_and_this_machine_reach_the_same_database(tmp_path: Path) -> None:
    production = sandbox_in(tmp_path / ".sandbox").production

    user_and_password = production.database_url.removeprefix("postgresql://").split("@")[0]
    assert production.database_url.endswith("@127.0.0.1:18054/production")
    assert production.container_database_url == (
        f"postgresql://{user_and_password}@postgres:5432/production"
    )
