"""Names of branches, tags and commits, as git takes them."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from release.errors import BadRequest

_NO_REF = re.compile(  # git-check-ref-format(1), by the numbers of its rules
    r"(^|/)\."  # 1
    r"|\.lock(/|$)"
    r"|\.\."  # 3
    r"|[\x00-\x20\x7f~^:]"  # 4
    r"|[?*\[]"  # 5
    r"|^/|/$|//"  # 6
    r"|\.$"  # 7
    r"|@\{"  # 8
    r"|^@$"  # 9
    r"|\\"  # 10
)
_LONGEST_PART = 250  # bytes: a file's name, of which git's lock takes five
# Line breaks and half characters of Unicode, and what makes a line be read in another order: a
# person signs what they read.
_UNREADABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def checked_ref(ref: str) -> str:
    """Return ``ref`` if git accepts it as a branch, tag or commit, and not as an option.

    Refused although git takes it: a control character beyond ASCII, and one that turns the order
    in which a line is read.
    Source: git-check-ref-format(1), for a name of one level or more.
    """
    if found := next((one for one in ref if _is_unreadable(one)), ""):
        raise BadRequest(
            f"{ref!r} is not a branch, tag or commit name: it has a character that cannot be read, "
            f"U+{ord(found):04X}"
        )
    if not ref or ref.startswith("-") or _NO_REF.search(ref):
        raise BadRequest(
            f"{ref!r} is not a branch, tag or commit name that git accepts",
            "no blank, no '..', none of ~ ^ : ? * [ \\, no '-' first, no '.' or '/' last",
        )
    if any(len(part.encode()) > _LONGEST_PART for part in ref.split("/")) or len(ref) > 1000:
        raise BadRequest(
            f"{ref[:40]!r}… is not a branch, tag or commit name: a part of it is longer than "
            f"{_LONGEST_PART} bytes"
        )
    return ref


def _is_unreadable(character: str) -> bool:
    return unicodedata.category(character) in _UNREADABLE or character in _TURNING


def _branch(name: str) -> str:
    try:
        return checked_ref(name)
    except BadRequest as error:
        raise ValueError(error.what) from None


BranchName = Annotated[str, AfterValidator(_branch)]
"""A branch, as a setting."""
