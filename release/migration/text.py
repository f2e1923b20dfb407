"""A migration file's bytes as text, and its checksum. A large file is not copied a second time."""

import hashlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterable, Iterator
from io import IncrementalNewlineDecoder

from release.errors import MigrationRefused

LARGEST_FILE = 64 * 1024 * 1024  # bytes; PostgreSQL closes the connection above 1 GB
_PIECE = 1024 * 1024  # bytes that are decoded at once


def _in_pieces(content: bytes) -> Iterator[bytes]:
    return (content[start : start + _PIECE] for start in range(0, len(content), _PIECE))


def decode(filename: str, content: bytes | Iterable[bytes]) -> str:
    """A file's text with LF line ends, given whole or in pieces.

    Raises MigrationRefused for what is not UTF-8, or larger than LARGEST_FILE, with the line.

    It grows by ``+=``, which CPython does in place: joining the pieces, or a StringIO, would hold a
    large file twice.
    """
    save_as = "save it as UTF-8 without a byte order mark"
    decoder = IncrementalNewlineDecoder(getincrementaldecoder("utf-8")(), translate=True)
    text, size, lines = "", 0, 0
    for piece in _in_pieces(content) if isinstance(content, bytes) else content:
        if size == 0:
            _refuse_other_encodings(filename, piece, save_as)
        size += len(piece)
        if size > LARGEST_FILE:
            raise MigrationRefused(
                f"{filename}: it is larger than the {LARGEST_FILE // 1024**2} MB allowed",
                "split it, or load the data",
            )
        nul = piece.find(b"\0")
        if nul >= 0:
            raise MigrationRefused(
                f"{filename}:{lines + piece.count(10, 0, nul) + 1}: a NUL byte, behind which "
                "PostgreSQL would drop the rest of the file without an error",
                save_as,
            )
        text += _decoded(filename, decoder, piece, lines, save_as)
        lines += piece.count(10)
    text += _decoded(filename, decoder, b"", lines, save_as)
    return text


def _refuse_other_encodings(filename: str, beginning: bytes, save_as: str) -> None:
    if beginning.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise MigrationRefused(f"{filename}:1: it is UTF-16", save_as)
    if beginning.startswith(BOM_UTF8):
        raise MigrationRefused(f"{filename}:1: it begins with a byte order mark", save_as)


def _decoded(
    filename: str, decoder: IncrementalNewlineDecoder, piece: bytes, lines: int, save_as: str
) -> str:
    """``piece`` as text; an empty one ends the text. ``lines`` are those before it."""
    try:
        return decoder.decode(piece, final=not piece)
    except UnicodeDecodeError as error:
        line = lines + error.object.count(10, 0, error.start) + 1
        raise MigrationRefused(
            f"{filename}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8", save_as
        ) from None


def checksum_of(sql: str) -> str:
    """sha256 of a text with LF line ends, without trailing blanks and lines."""
    digest, blank = hashlib.sha256(), 0
    begun = False
    for line in _lines(sql):
        kept = line.rstrip()
        if not kept:
            blank += begun
            continue
        digest.update(b"\n" * (blank + begun) + kept.encode())
        begun, blank = True, 0
    return digest.hexdigest()


def _lines(sql: str) -> Iterator[str]:
    """The lines, one at a time: a list of them would hold a large file twice."""
    start = 0
    while start <= len(sql):
        end = sql.find("\n", start)
        end = len(sql) if end < 0 else end
        yield sql[start:end]
        start = end + 1
