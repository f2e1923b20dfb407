"""The part of another tool's migration file that undoes it.

dbmate, goose, sql-migrate and node-pg-migrate keep both ways in one file, parted by a comment. Run
from end to end, as a migration is here, such a file would make a table and drop it again.
"""

import re

from release.errors import MigrationRefused

_DOWN = re.compile(
    r"^[ \t]*(--[ \t]*(?:migrate:[ \t]*down|\+goose[ \t]+down|\+migrate[ \t]+down"
    r"|-*[ \t]*down[ \t]+migration)\b)",
    re.IGNORECASE | re.MULTILINE,
)


def refuse_down_section(filename: str, sql: str) -> None:
    """Raise MigrationRefused, with the line, for a file that holds what undoes it."""
    found = _DOWN.search(sql)
    if found is None:
        return
    line = sql.count("\n", 0, found.start(1)) + 1
    raise MigrationRefused(
        f"{filename}:{line}: '{found[1]}' begins what undoes the file, and a file is run from end "
        "to end here",
        "delete this line and all below it, and the line that begins the way up; what undoes a "
        "file is a new, higher number",
    )
