"""Keep text in a temporary file until it is known what comes before it."""

import tempfile
from typing import IO

_PIECE_CHARACTERS = 1024 * 1024


class Spool:
    """Text that is written piece by piece and copied once."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (closed when it is copied)
        self.num_pieces = 0

    def write(self, text: str) -> None:
        """Add a piece."""
        self._file.write(text)
        self.num_pieces += 1

    def copy_to(self, out: IO[bytes]) -> None:
        """Write all of it."""
        with self._file as file:
            file.seek(0)
            while text := file.read(_PIECE_CHARACTERS):
                out.write(text.encode())
