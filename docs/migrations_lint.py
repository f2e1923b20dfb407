"""Writes docs/migrations-lint.md from the rules themselves: `python -m docs.migrations_lint`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from release.migration.lint.rules import OWN_RULES, Rule, Severity
from release.migration.lint.squawk_rules import LEFT_OUT, SQUAWK_RULES

PAGE = Path(__file__).with_name("migrations-lint.md")

_EXAMPLE = {
    "table": "orders",
    "column": "total",
    "constraint": "total_positive",
    "index": "orders_total_idx",
}

_HEAD = """\
# The lint of migrations

Written by `python -m docs.migrations_lint` from
[`release/migration/lint/rules.py`](../release/migration/lint/rules.py)
and [`release/migration/lint/squawk_rules.py`](../release/migration/lint/squawk_rules.py).

Before anything is changed, every pending file is read statement by statement, with PostgreSQL's own
parser and with [squawk](https://squawkhq.com). An **error** stops the deployment, a **warning** is
shown at the gate. An *expand* file runs while the running release still serves, so it must not
remove what that release uses. A *contract* file (`-- migrate: phase=contract`) runs after the
watch, and may.

Most rules ignore a table that the file itself created a few lines above. A statement that cannot be
read is a warning; the server has the last word.

A file may allow a rule, with a reason. That rule's errors then become warnings that show the
reason:

```sql
-- migrate: allow=unbounded-write reason="currencies has 180 rows"
UPDATE currencies SET rate = 1;
```

`setting-lock-timeout` cannot be allowed: no file waits for a lock without a limit. An unneeded
allowance is a warning. An allowance for an unknown rule is an error that names the nearest rule.
`-- squawk-ignore` and `.squawk.toml` have no effect.

In the tables, `orders`, `total` and the like stand for the names in the statement.
"""


def page() -> str:
    """The whole page."""
    both = SQUAWK_RULES.values()
    parts = [
        _HEAD,
        "## Our own rules\n",
        *_table(OWN_RULES.values()),
        "\n## What squawk finds\n",
        "### Stops traffic, or worse\n",
        *_table(rule for rule in both if rule.contract is Severity.ERROR),
        "\n### Removes what the running release uses\n",
        *_table(rule for rule in both if rule.contract is None and rule.expand is Severity.ERROR),
        "\n### Worth a look\n",
        *_table(rule for rule in both if rule.expand is Severity.WARNING),
        "\n### Left out\n",
        *_left_out(LEFT_OUT),
    ]
    return "\n".join(parts) + "\n"


def _table(rules: Iterable[Rule]) -> list[str]:
    head = "| rule | expand | contract | what happens to traffic | what to write instead |"
    return [head, "|---|---|---|---|---|", *map(_row, rules)]


def _row(rule: Rule) -> str:
    traffic, recipe = (_cell(text.format_map(_EXAMPLE)) for text in (rule.traffic, rule.recipe))
    phases = " | ".join(severity or "fine" for severity in (rule.expand, rule.contract))
    return f"| `{rule.name}` | {phases} | {traffic} | {recipe} |"


def _left_out(reasons: Mapping[str, str]) -> list[str]:
    rows = [f"| `{name}` | {_cell(reason)} |" for name, reason in sorted(reasons.items())]
    return ["| squawk's rule | why |", "|---|---|", *rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
