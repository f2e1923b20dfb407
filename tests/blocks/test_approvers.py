"""Approvers in their file: whose codes are whose, and what nobody else can read or make."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from pydantic import SecretStr

from blocks.approvers import Approvers
from release.errors import BadConfiguration, BadRequest
from release.gate.approvers import Approver

NOW = datetime(2026, 11, 3, 14, 2, 11, tzinfo=UTC)
STEP = int(NOW.timestamp() // 30)


@pytest.fixture
def approvers(tmp_path: Path) -> Approvers:
    made = Approvers(tmp_path / "private" / "approvers.json")
    made.add("Ada", ("release-manager", "on-call"))
    made.add("Grace", ())
    return made


def secret(approvers: Approvers, name: str) -> str:
    return str(json.loads(approvers.file.read_text())[name]["secret"])


def test_who_is_enrolled_is_known_without_their_secrets(approvers: Approvers) -> None:
    assert approvers.known() == (
        Approver("Ada", ("on-call", "release-manager")),
        Approver("Grace"),
    )
    assert secret(approvers, "Ada") not in repr(approvers) + repr(approvers.known())
    assert stat.S_IMODE(approvers.file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("steps", "taken"), [(-5, False), (-4, True), (-1, True), (0, True), (1, True), (2, False)]
)
def test_codes_are_taken_from_two_minutes_ago_to_half_a_minute_ahead(
    approvers: Approvers, steps: int, taken: bool
) -> None:
    """A code of RFC 6238, by another implementation's clock."""
    code = pyotp.TOTP(secret(approvers, "Ada")).at(NOW + timedelta(seconds=30 * steps))

    assert approvers.step_of("ada", code, NOW) == (STEP + steps if taken else None)
    assert approvers.step_of("Ada", f" {code[:3]} {code[3:]}\n", NOW) == (
        STEP + steps if taken else None
    )
    assert approvers.step_of("Grace", code, NOW) is None


@pytest.mark.parametrize("code", ["", "000000", "12345", "abcdef", "１２３４５６", "é"])
def test_what_is_no_code_belongs_to_nobody(approvers: Approvers, code: str) -> None:
    assert approvers.step_of("Ada", code, NOW) is None


def test_the_code_of_the_rfcs_own_example_is_known(tmp_path: Path) -> None:
    """RFC 6238, appendix B: at 59 s, 94287082 in eight digits."""
    entry = {"secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "roles": []}
    enrolled = SecretStr(json.dumps({"Ada": entry}))
    approvers = Approvers(tmp_path / "none", enrolled)

    assert approvers.step_of("Ada", "287082", datetime.fromtimestamp(59, UTC)) == 1


def test_a_seal_belongs_to_one_text_and_one_person(approvers: Approvers) -> None:
    seals = {approvers.seal(name, text) for name in ("Ada", "Grace") for text in ("a", "b")}

    assert len(seals) == 4
    assert approvers.seal("ada", "a") == approvers.seal("Ada", "a")
    assert all(len(seal) == 64 and secret(approvers, "Ada") not in seal for seal in seals)


def test_a_name_is_enrolled_once_whatever_its_capitals(approvers: Approvers) -> None:
    before = approvers.file.read_text()

    with pytest.raises(BadRequest, match="ADA is enrolled already"):
        approvers.add("ADA", ())
    assert approvers.file.read_text() == before


@pytest.mark.parametrize(("name", "role"), [("", "x"), ("7", "x"), ("Ada L.", "On Call")])
def test_a_name_or_role_that_cannot_stand_in_a_record_is_refused(
    approvers: Approvers, name: str, role: str
) -> None:
    with pytest.raises(BadRequest):
        approvers.add(name, (role,))
    assert len(approvers.known()) == 2


def test_an_address_is_what_a_device_reads(approvers: Approvers) -> None:
    address = approvers.add("Łucja Nowak", ("on-call",))

    read = pyotp.parse_uri(address)
    assert (read.name, read.issuer) == ("Łucja Nowak", "ignition-deploy")
    assert read.secret == secret(approvers, "Łucja Nowak")


def test_who_was_removed_can_neither_prove_nor_seal(approvers: Approvers) -> None:
    approvers.remove("ada")

    with pytest.raises(BadConfiguration, match="'Ada' is not enrolled"):
        approvers.seal("Ada", "a")
    with pytest.raises(BadConfiguration, match="; there is: Grace"):
        approvers.step_of("Ada", "123456", NOW)
    with pytest.raises(BadRequest, match="'ada' is not enrolled"):
        approvers.remove("ada")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_proves_nothing(approvers: Approvers, mode: int) -> None:
    approvers.file.chmod(mode)

    with pytest.raises(BadConfiguration) as refused:
        approvers.known()
    assert f"mode {mode:04o}" in refused.value.what
    assert refused.value.hint.startswith(f"chmod 600 {approvers.file}")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"Ada": {}}', '{"Ada": {"secret": "§§"}}', '{"7": {"secret": "GEZDGNBV"}}'],
)
def test_a_file_that_cannot_be_read_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "approvers.json"
    file.touch(mode=0o600)
    file.write_text(text)

    with pytest.raises(BadConfiguration) as refused:
        Approvers(file).known()
    assert str(file) in refused.value.what
    assert "GEZDGNBV" not in str(refused.value)


def test_nobody_is_enrolled_before_somebody_is(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="no approver is enrolled"):
        Approvers(tmp_path / "none").known()


def test_a_variable_holds_the_same_and_is_never_written(
    approvers: Approvers, tmp_path: Path
) -> None:
    enrolled = SecretStr(approvers.file.read_text())
    elsewhere = Approvers(tmp_path / "none", enrolled)

    assert elsewhere.known() == approvers.known()
    assert elsewhere.seal("Ada", "a") == approvers.seal("Ada", "a")
    assert secret(approvers, "Ada") not in repr(elsewhere)
    with pytest.raises(BadConfiguration, match="so no file is written"):
        elsewhere.add("Edsger", ())
