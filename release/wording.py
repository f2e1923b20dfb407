"""Words that depend on numbers."""


def count_of(number: int, word: str) -> str:
    """``0 commits``, ``1 commit``, ``2 commits``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
