"""Approvers and the secrets of their one-time codes, in a file that only the worker's user reads.

No Prefect block: the server keeps nothing of it, because whoever reaches the server's API could
read it there. Codes are those of RFC 6238 (TOTP): six digits, a new one every 30 s.
"""

import contextlib
import hashlib
import hmac
import json
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyotp
from pydantic import SecretStr

from blocks.own_folder import leave_out_of_git
from blocks.whole_file import replace_file
from release.errors import BadConfiguration, BadRequest
from release.gate.approvers import Approver, find, not_enrolled
from release.gate.checklist import checked_approver
from release.request import checked_name

STEP = timedelta(seconds=30)
"""How long one code is shown (RFC 6238, section 4.1: X)."""

_STEPS_BACK = 4
"""Codes before the current one that are taken. A form that was sent is read by the next free
worker: seconds when it is idle, a minute when it is busy. Each code counts once, whatever its age.
"""
_STEPS_AHEAD = 1  # a telephone's clock may run ahead (RFC 6238, section 6)
_ISSUER = "ignition-deploy"
_ADD = "ignition approvers add NAME --role ROLE"


@dataclass(frozen=True)
class Approvers:
    """The approvers of this worker. It holds where they are, never a secret."""

    file: Path
    enrolled: SecretStr = field(default=SecretStr(""), repr=False)

    def known(self) -> tuple[Approver, ...]:
        """The approvers in order of their names. Raises BadConfiguration."""
        return tuple(
            Approver(name, tuple(entry["roles"])) for name, entry in sorted(self._read().items())
        )

    def step_of(self, name: str, code: str, at: datetime) -> int | None:
        """Which 30 s since 1970 a code belongs to; None if it is not one of the approver's.

        Codes from 2 min before ``at`` to 30 s after it are known. Raises BadConfiguration.
        """
        return _step_of(self._entry(name)["secret"], code, at)

    def seal(self, name: str, text: str) -> str:
        """A seal over ``text`` that only this worker can make: HMAC-SHA-256, in hex.

        Raises BadConfiguration if ``name`` is not, or no longer, enrolled.
        """
        # Not the secret itself: what a seal gives away must not lead to a code.
        key = hashlib.sha256(
            b"seal of a signature\0" + self._entry(name)["secret"].encode()
        ).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    def draft(self, name: str, roles: tuple[str, ...]) -> "Draft":
        """A person to enrol, with a new secret; nothing is stored yet.

        Raises BadRequest for a name that is taken or not possible, BadConfiguration if the file
        could not be written.
        """
        name = checked_approver(name)
        for role in roles:
            checked_name(role, "role")
        self._refuse_taken(name)
        self._refuse_unwritable()
        return Draft(name, tuple(sorted(set(roles))), SecretStr(pyotp.random_base32()))

    def enrol(self, draft: "Draft") -> None:
        """Enrol a person, entirely or not at all.

        Raises BadRequest for a name that was taken meanwhile, BadConfiguration if the file cannot
        be written.
        """
        entries = self._refuse_taken(draft.name)
        entry = {"secret": draft.secret.get_secret_value(), "roles": list(draft.roles)}
        self._write(entries | {draft.name: entry})

    def add(self, name: str, roles: tuple[str, ...]) -> str:
        """Enrol a person and return the `otpauth://` address that their device reads.

        Raises BadRequest for a name that is taken or not possible, BadConfiguration if the file
        cannot be written.
        """
        draft = self.draft(name, roles)
        self.enrol(draft)
        return draft.address

    def remove(self, name: str) -> None:
        """Remove an approver: their signatures in runs that still wait no longer count.

        Raises BadRequest for a name that is not enrolled.
        """
        entries = self._read()
        found = find(self.known(), name)
        if found is None:
            raise BadRequest(not_enrolled(name, entries), "ignition approvers list")
        self._write({key: entry for key, entry in entries.items() if key != found.name})

    def _refuse_taken(self, name: str) -> dict[str, dict[str, Any]]:
        """The present entries. Raises BadRequest if the name is one of them."""
        entries = self._read() if self._is_there() else {}
        if find([Approver(taken) for taken in entries], name):
            raise BadRequest(
                f"{name} is enrolled already", f"ignition approvers remove {name}, then add again"
            )
        return entries

    def _refuse_unwritable(self) -> None:
        """Raise BadConfiguration if the file could not be written, before anybody sets up a device
        in vain."""
        with self._writing(), tempfile.TemporaryFile(dir=self.file.parent):
            pass

    def _is_there(self) -> bool:
        return bool(self.enrolled.get_secret_value()) or self.file.exists()

    def _entry(self, name: str) -> dict[str, Any]:
        entries = self._read()
        found = find([Approver(key) for key in entries], name)
        if found is None:
            raise BadConfiguration(not_enrolled(name, entries), _ADD)
        return entries[found.name]

    def _read(self) -> dict[str, dict[str, Any]]:
        text = self.enrolled.get_secret_value() or self._read_file()
        try:
            entries = json.loads(text)
            for name, entry in entries.items():
                checked_approver(name)
                pyotp.TOTP(entry["secret"]).at(0)
                entry["roles"] = [checked_name(role, "role") for role in entry.get("roles", ())]
        except (ValueError, TypeError, KeyError, AttributeError, BadRequest):
            # Nothing of the content is shown: it is a secret.
            raise BadConfiguration(
                f"the approvers in {self._where} cannot be read: expected JSON, a name with "
                '{"secret": …, "roles": […]} for each',
                f"move it away, then: {_ADD}",
            ) from None
        return dict(entries)

    def _read_file(self) -> str:
        try:
            mode = stat.S_IMODE(self.file.stat().st_mode)
            if mode & 0o077:
                raise BadConfiguration(
                    f"{self.file} can be read by others (mode {mode:04o}), so its codes prove "
                    "nothing; 0600 is allowed",
                    f"chmod 600 {self.file}, and enrol everybody again if others could read it",
                )
            return self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BadConfiguration(
                f"no approver is enrolled: there is no {self.file}", _ADD
            ) from None
        except (OSError, UnicodeError) as error:
            raise BadConfiguration(
                f"the approvers in {self.file} cannot be read: {type(error).__name__}",
                "run it as the worker's user",
            ) from None

    def _write(self, entries: dict[str, dict[str, Any]]) -> None:
        with self._writing():
            replace_file(self.file, json.dumps(entries, indent=2, ensure_ascii=False).encode())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Make the file's folder, ignored by git if it is ours. Raises BadConfiguration."""
        if self.enrolled.get_secret_value():
            raise BadConfiguration(
                "the approvers come from IGNITION_APPROVERS__ENROLLED, so no file is written",
                "unset IGNITION_APPROVERS__ENROLLED",
            )
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            leave_out_of_git(self.file.parent, self.file.name)
            yield
        except OSError as error:
            raise BadConfiguration(
                f"{self.file} cannot be written: {error.strerror}", "run it as the worker's user"
            ) from None

    @property
    def _where(self) -> str:
        there = self.enrolled.get_secret_value()
        return "IGNITION_APPROVERS__ENROLLED" if there else str(self.file)


@dataclass(frozen=True)
class Draft:
    """A person who is not enrolled yet, and the secret that their device reads."""

    name: str
    roles: tuple[str, ...]
    secret: SecretStr

    @property
    def address(self) -> str:
        """The `otpauth://` address of the QR code. It holds the secret."""
        totp = pyotp.TOTP(self.secret.get_secret_value())
        return totp.provisioning_uri(name=self.name, issuer_name=_ISSUER)

    def shows(self, code: str, at: datetime) -> bool:
        """Whether a code is one that the device shows now, or has just shown."""
        return _step_of(self.secret.get_secret_value(), code, at) is not None


def _step_of(secret: str, code: str, at: datetime) -> int | None:
    totp = pyotp.TOTP(secret)
    now = totp.timecode(at)
    given = code.strip().replace(" ", "")
    steps = range(now + _STEPS_AHEAD, now - _STEPS_BACK - 1, -1)
    return next(
        (s for s in steps if hmac.compare_digest(totp.generate_otp(s).encode(), given.encode())),
        None,
    )
