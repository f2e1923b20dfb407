"""Words that depend on numbers, and the nearest known name."""

import difflib
from collections.abc import Iterable


def count_of(number: int, word: str) -> str:
    """``0 commits``, ``1 commit``, ``2 commits``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that was probably meant: one that begins alike, or is spelled alike; else "".

    Capitals do not count.
    """
    names = {name.casefold(): name for name in known}
    wanted = word.strip().casefold()
    begun = [name for name in names if wanted and name.startswith(wanted)]
    near = begun if len(begun) == 1 else difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    return names[near[0]] if near else ""


def there_is(word: str, known: Iterable[str]) -> str:
    """What follows on an unknown name: ``; did you mean production?`` and all that there are."""
    names = sorted(known)
    near = nearest(word, names)
    listed = f"there is: {', '.join(names) or 'none'}"
    return f"; did you mean {near}? {listed[0].upper()}{listed[1:]}" if near else f"; {listed}"
