"""The images that the sandbox is built on, and the registry for the backend's images.

Where Debian's packages are installed they are made from this machine's own files, in seconds and
without a hub; elsewhere the ordinary images are pulled. Either way they have the same names here.
"""

import fcntl
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox.commands import run
from sandbox.errors import CommandFailed, SandboxError
from sandbox.parts.engine import lock_file

BASE = "ignition-base:host"
PROXY = "ignition-proxy:host"
POSTGRES = "ignition-postgres:host"
HUB = {BASE: "python:3.11-slim", PROXY: "haproxy:2.8", POSTGRES: "postgres:15"}

RECIPE_LABEL = "ignition.recipe"
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEBIAN_PYTHON = Path("/usr/bin/python3.11")
BUSYBOX = Path("/bin/busybox")
HAPROXY = Path("/usr/sbin/haproxy")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
WHEEL_LIBRARIES = (
    *("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libresolv.so.2"),
    *("libgcc_s.so.1", "libstdc++.so.6"),
)
ZONES = Path("/usr/share/zoneinfo")
POSTGRES_USER = 70  # as in /etc/passwd of the base image
POSTGRES_PROGRAMS = ("postgres", "initdb", "pg_ctl", "psql", "pg_isready", "pg_dump")
# What a server needs of Python: no test suite, no editor, no compiler's files.
LEFT_OUT = frozenset(
    {"test", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "config-3.11",
     "config-3.11-x86_64-linux-gnu", "site-packages", "EXTERNALLY-MANAGED"}
)  # fmt: skip

POSTGRES_ENTRYPOINT = """\
#!/bin/sh
# Makes the cluster at the first start, then becomes the server. POSTGRES_PASSWORD: of `postgres`.
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
    initdb --no-sync --username=postgres --pwfile=/tmp/password --auth=scram-sha-256 \\
        --locale=C --encoding=UTF8 >/dev/null
    rm /tmp/password
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
fi
exec postgres -c listen_addresses='*' "$@"
"""


@dataclass(frozen=True)
class Interpreter:
    """The Python that the base image gets: this machine's own."""

    program: Path
    version: str
    standard_library: Path
    packages: Path  # where it looks for installed packages


class Tree:
    """A file system to make an image of: files of this machine, at the same places."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()
        self.archive = tarfile.TarFile(fileobj=self.buffer, mode="w")
        self.added: set[str] = set()

    def add(self, path: Path, at: Path | None = None) -> None:
        """Add one file, behind its links, with the shared libraries that it names."""
        target = str(at or path).lstrip("/")
        if target in self.added:
            return
        self.added.add(target)
        info = self.archive.gettarinfo(str(path.resolve()), target)
        info.uid = info.gid = 0
        with path.open("rb") as content:
            is_program = content.read(4) == b"\x7fELF"
            content.seek(0)
            self.archive.addfile(info, content)
        if is_program:
            for library in shared_libraries(path):
                self.add(library)

    def add_folder(
        self, folder: Path, at: Path | None = None, leave_out: Iterable[str] = ()
    ) -> None:
        """Add a folder's files, without those whose own or whose folder's name is left out."""
        left_out = set(leave_out)
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_file() and left_out.isdisjoint(inside.parts):
                self.add(path, (at or folder) / inside)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Add a file with this text."""
        info = tarfile.TarInfo(path.lstrip("/"))
        info.size, info.mode = len(text.encode()), mode
        self.archive.addfile(info, io.BytesIO(text.encode()))

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.linkname = tarfile.SYMTYPE, target
        self.archive.addfile(info)

    def make_folder(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        """Add an empty folder. ``owner`` is a user's and group's id."""
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.mode = tarfile.DIRTYPE, mode
        info.uid = info.gid = owner
        self.archive.addfile(info)

    def content(self) -> bytes:
        """The finished archive."""
        self.archive.close()
        return self.buffer.getvalue()


def shared_libraries(program: Path) -> list[Path]:
    """The libraries, and the loader, that a program or library needs; none if it is static."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    return [Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed.stdout, re.M)]


def ensure_base() -> str:
    """The image that the backend is built from: Python, pip, a shell, CA certificates."""
    if not BUSYBOX.exists():
        return pull(BASE)
    python = find_interpreter()
    # pip brings certificates of its own, and would not know those that this machine trusts.
    instructions = [f"ENV PIP_CERT={CA_BUNDLE} SSL_CERT_FILE={CA_BUNDLE}"]
    recipe = fingerprint(python.version, python.program, BUSYBOX, CA_BUNDLE)
    return ensure_made(BASE, recipe, lambda: base_tree(python), instructions)


def ensure_proxy() -> str:
    """The image of the proxy in front of the backend: HAProxy."""
    if not (HAPROXY.exists() and BUSYBOX.exists()):
        return pull(PROXY)
    recipe = fingerprint(HAPROXY, BUSYBOX)
    return ensure_made(PROXY, recipe, proxy_tree, ["STOPSIGNAL SIGUSR1"])


def ensure_postgres() -> str:
    """The image of PostgreSQL. It answers to the ordinary image's variables."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not (found and BUSYBOX.exists()):
        return pull(POSTGRES)
    home = found[-1].parent.parent
    instructions = [
        f"ENV PATH={home}/bin:{SEARCH_PATH} PGDATA=/var/lib/postgresql/data",
        f"USER {POSTGRES_USER}",
        "STOPSIGNAL SIGINT",
        'ENTRYPOINT ["/entrypoint.sh"]',
    ]
    recipe = fingerprint(found[-1], BUSYBOX)
    return ensure_made(POSTGRES, recipe, lambda: postgres_tree(home), instructions)


def ensure_made(
    image: str, recipe: str, tree: Callable[[], Tree], instructions: Iterable[str]
) -> str:
    """Make an image of a tree, unless it exists and was made by the same recipe.

    A caller that wants it while another program of this checkout makes it waits, and then uses it.
    """
    with lock_file(f"{image.partition(':')[0]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if recipe_of(image) == recipe:
            return "there already"
        every = [f"ENV PATH={SEARCH_PATH}", f"LABEL {RECIPE_LABEL}={recipe}", *instructions]
        changes = [argument for line in every for argument in ("--change", line)]
        run(["docker", "import", *changes, "-", image], stdin=tree().content())
        return "made from this machine's files"


def system_tree() -> Tree:
    """What every image has: a shell and its tools, users, folders, and how names are found."""
    tree = Tree()
    for folder in ("/root", "/var/lib", "/run", "/etc/ssl/certs", "/usr/local/bin"):
        tree.make_folder(folder)
    tree.make_folder("/tmp", 0o1777)
    user = f"postgres:x:{POSTGRES_USER}"
    tree.write("/etc/passwd", f"root:x:0:0::/root:/bin/sh\n{user}:{POSTGRES_USER}::/:/bin/sh\n")
    tree.write("/etc/group", f"root:x:0:\n{user}:\n")
    tree.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    tree.add(BUSYBOX)
    for applet in run([BUSYBOX, "--list"]).split():
        if applet != "busybox":
            tree.link(f"/bin/{applet}", "busybox")
    return tree


def base_tree(interpreter: Interpreter) -> Tree:
    """The files of the image that the backend is built from."""
    tree = system_tree()
    tree.add(CA_BUNDLE)
    add_wheel_libraries(tree, interpreter)
    add_python(tree, interpreter)
    return tree


def proxy_tree() -> Tree:
    """HAProxy and its libraries."""
    tree = system_tree()
    tree.add(HAPROXY)
    return tree


def add_wheel_libraries(tree: Tree, interpreter: Interpreter) -> None:
    """Add what a binary wheel may expect of any Linux, whether Python itself needs it or not."""
    libraries = shared_libraries(interpreter.program)
    folder = next(path.parent for path in libraries if path.name.startswith("libc."))
    for name in WHEEL_LIBRARIES:
        if (folder / name).exists():
            tree.add(folder / name)


def add_python(tree: Tree, interpreter: Interpreter) -> None:
    """Add Python, its standard library, and pip."""
    import pip

    tree.add(interpreter.program)
    tree.link("/usr/local/bin/python3", str(interpreter.program))
    tree.add_folder(interpreter.standard_library, leave_out=LEFT_OUT)
    tree.add_folder(
        Path(pip.__file__).parent, interpreter.packages / "pip", leave_out=["__pycache__"]
    )


def find_interpreter() -> Interpreter:
    """Debian's Python 3.11 where it is installed, else the one that runs this."""
    program = DEBIAN_PYTHON if DEBIAN_PYTHON.exists() else Path(sys.executable).resolve()
    question = (
        "import json, platform, site, sysconfig;"
        "print(json.dumps([platform.python_version(), sysconfig.get_path('stdlib'),"
        " site.getsitepackages()[0]]))"
    )
    version, library, packages = json.loads(run([program, "-I", "-c", question]))
    return Interpreter(program, version, Path(library), Path(packages))


def postgres_tree(home: Path) -> Tree:
    """PostgreSQL's programs, libraries and shared files, without its just-in-time compiler."""
    tree = system_tree()
    for program in POSTGRES_PROGRAMS:
        tree.add(home / "bin" / program)
    for library in sorted((home / "lib").glob("*.so")):
        if not library.name.startswith("llvmjit"):
            tree.add(library)
    tree.add_folder(Path("/usr/share/postgresql") / home.name, leave_out=["man"])
    tree.add_folder(ZONES, leave_out=["right", "posix"])
    for folder in ("/var/lib/postgresql", "/var/lib/postgresql/data", "/var/run/postgresql"):
        tree.make_folder(folder, 0o700, POSTGRES_USER)
    tree.write("/entrypoint.sh", POSTGRES_ENTRYPOINT, 0o755)
    return tree


def pull(image: str) -> str:
    """Pull the ordinary image and give it the sandbox's name for it."""
    ordinary = HUB[image]
    if recipe_of(image) is not None:
        return "there already"
    try:
        run(["docker", "pull", "--quiet", ordinary])
    except CommandFailed as error:
        raise SandboxError(
            f"{ordinary} cannot be pulled and Debian's packages to make it are not here; "
            f"on Debian, as root, type: make setup\n{error}"
        ) from None
    run(["docker", "tag", ordinary, image])
    return f"pulled {ordinary}"


def recipe_of(image: str) -> str | None:
    """The fingerprint on a local image, '' when it has none; None when there is no such image."""
    template = f'{{{{index .Config.Labels "{RECIPE_LABEL}"}}}}'
    try:
        return run(["docker", "image", "inspect", "--format", template, image]).strip()
    except CommandFailed:
        return None


def fingerprint(*parts: str | Path) -> str:
    """A short hash of what an image is made from: this file, and the files' sizes and times."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for part in parts:
        status = part.stat() if isinstance(part, Path) else None
        digest.update(str((status.st_size, status.st_mtime_ns) if status else part).encode())
    return digest.hexdigest()[:16]


def build_release(archive: bytes, image: str, version: str, revision: str) -> None:
    """Build one release of the backend from an archive of its `app/backend`."""
    labels = "org.opencontainers.image"
    run(
        [
            *("docker", "build", "--tag", image),
            *("--build-arg", f"VERSION={version}", "--build-arg", f"REVISION={revision}"),
            *("--label", f"{labels}.version={version}"),
            *("--label", f"{labels}.revision={revision}"),
            "-",
        ],
        stdin=archive,
    )


def push(image: str) -> str:
    """Push an image and return its digest in the registry, `sha256:…`."""
    run(["docker", "push", "--quiet", image])
    repository = image.rpartition(":")[0]
    names: list[str] = json.loads(
        run(["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image])
    )
    return next(name.partition("@")[2] for name in names if name.startswith(f"{repository}@"))
