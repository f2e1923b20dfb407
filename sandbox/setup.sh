#!/usr/bin/env bash
# Makes a machine ready for the sandbox and the tests: system packages, the virtual environment,
# the project in it. Safe to repeat: what is there is left alone, and one line says what was done.
# On Debian, as root, missing packages are installed; elsewhere a sentence says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
export UV_SYSTEM_CERTS=1 # trust what the machine trusts: a company may have an authority of its own
STAMP=.venv/.setup-stamp
POLICY=/usr/sbin/policy-rc.d
CLUSTER_CONF=/etc/postgresql-common/createcluster.conf
WORK=""
POLICY_IS_OURS=""
CLUSTER_CONF_SAVED=""

say() { printf 'setup: %s\n' "$*"; }

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

has() { command -v "$1" >/dev/null 2>&1; }

clean_up() {
    if [ -n "$CLUSTER_CONF_SAVED" ]; then cp -p "$CLUSTER_CONF_SAVED" "$CLUSTER_CONF"; fi
    if [ -n "$POLICY_IS_OURS" ]; then rm -f "$POLICY"; fi
    if [ -n "$WORK" ]; then rm -rf "$WORK"; fi
}
trap clean_up EXIT

is_debian_root() { [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && has apt-get; }

engine_answers() { timeout 10 docker info >/dev/null 2>&1; }

engine_is_there() {
    has docker && docker compose version >/dev/null 2>&1 && { has dockerd || engine_answers; }
}

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }

has_browser() { has chromium || has chromium-browser || has google-chrome; }

# Prints the Debian packages, one a line, whose commands this machine does not have.
missing_packages() {
    has git || echo git
    has busybox || echo busybox-static
    has docker-registry || echo docker-registry
    has haproxy || echo haproxy
    has pgbouncer || [ -x /usr/sbin/pgbouncer ] || echo pgbouncer
    has prometheus || echo prometheus
    has_browser || echo chromium
    has node || echo nodejs
    has npm || echo npm
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"; }

apt_install() {
    apt install -y --no-install-recommends "$@" >"$WORK/apt.log" 2>&1 || {
        tail -n 15 "$WORK/apt.log" >&2
        fail "apt-get could not install $*; type: apt-get install $*"
    }
}

# Debian starts a service when its package is installed; the sandbox starts its own parts instead.
forbid_service_starts() {
    [ -e "$POLICY" ] && return
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
    POLICY_IS_OURS=yes
}

# Debian 12's own engine (20.10) has no BuildKit and no Compose 2. Debian 13's packages need only
# libc6 2.34; its runc needs a newer libc, so runc comes from the release that is installed. The
# newer release stays out of the system's own sources.
install_engine() {
    local sources=/etc/apt/sources.list.d/debian.sources
    if [ ! -e "$sources" ] || ! grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
        apt_install docker.io docker-cli docker-buildx docker-compose containerd runc iptables
        return
    fi
    mkdir -p "$WORK/lists/partial" "$WORK/debs"
    awk 'NF==0{exit}{print}' "$sources" | sed 's/^Suites:.*/Suites: trixie/' >"$WORK/trixie.sources"
    local newer=(-o "Dir::Etc::sourcelist=$WORK/trixie.sources" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$WORK/lists")
    apt "${newer[@]}" update
    (cd "$WORK/debs" && apt "${newer[@]}" -o APT::Sandbox::User=root download \
        docker.io docker-cli docker-buildx docker-compose containerd)
    apt_install "$WORK"/debs/*.deb runc iptables
}

# Installs the server's programs without the database cluster that Debian would create with them.
install_postgres() {
    apt_install postgresql-common
    CLUSTER_CONF_SAVED="$WORK/createcluster.conf"
    cp -p "$CLUSTER_CONF" "$CLUSTER_CONF_SAVED"
    echo 'create_main_cluster = false' >>"$CLUSTER_CONF"
    apt_install postgresql-15
    cp -p "$CLUSTER_CONF_SAVED" "$CLUSTER_CONF"
    CLUSTER_CONF_SAVED=""
}

install_system_packages() {
    local packages engine=present postgres=present
    mapfile -t packages < <(missing_packages)
    engine_is_there || engine=missing
    has_postgres || postgres=missing
    if [ "${#packages[@]}" = 0 ] && [ "$engine$postgres" = presentpresent ]; then
        say "system packages: all there"
        return
    fi
    WORK=$(mktemp -d)
    chmod 755 "$WORK" # apt's download user has to read it
    forbid_service_starts
    apt update
    if [ "${#packages[@]}" != 0 ]; then
        apt_install "${packages[@]}"
        say "installed ${packages[*]}"
    fi
    if [ "$engine" = missing ]; then
        install_engine
        say "installed the container engine, BuildKit and Compose"
    fi
    if [ "$postgres" = missing ]; then
        install_postgres
        say "installed PostgreSQL's programs, without a cluster"
    fi
}

# Where packages cannot be installed, an engine that can pull replaces all other server programs.
require_programs() {
    local program
    for program in git node npm; do
        has "$program" || fail "$program is missing on this machine; install it, then: make setup"
    done
    engine_is_there ||
        fail "no container engine with Compose 2 here; install Docker, then: make setup"
    say "git, node, npm and a container engine: all there"
}

make_environment() {
    local wanted
    wanted=$(cat requirements.lock pyproject.toml sandbox/setup.sh | sha256sum)
    if [ -e "$STAMP" ] && [ "$(cat "$STAMP")" = "$wanted" ]; then
        say ".venv: up to date with requirements.lock"
        return
    fi
    if [ ! -x .venv/bin/python ]; then
        python3 -m venv .venv
        say "made .venv with $(.venv/bin/python --version)"
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
    export VIRTUAL_ENV="$PWD/.venv"
    # Compiled now: each flow run is a process of its own, and would start in twice the time.
    .venv/bin/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
    .venv/bin/uv pip install --quiet --no-deps --no-build-isolation -e .
    printf '%s\n' "$wanted" >"$STAMP"
    say "installed the packages of requirements.lock and this project into .venv"
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "python3 is older than 3.11 on this machine; install Python 3.11, then: make setup"
if is_debian_root; then install_system_packages; else require_programs; fi
make_environment
