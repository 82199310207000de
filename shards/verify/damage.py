"""Describe one thing that verification finds wrong with a file."""

from dataclasses import dataclass

from shards.format.keys import escape_control_characters


@dataclass(frozen=True, slots=True, order=True)
class Damage:
    """Something wrong with a file, named so that a person can find it."""

    file: str
    """Path below the dataset's folder."""
    key: str
    """The damaged sample; empty for the whole file."""
    what: str
    """A short fixed word: checksum_mismatch, tar_structure, missing_file, ..."""
    detail: str

    def __str__(self) -> str:
        subject = f"{self.file}: {self.key}" if self.key else self.file
        # Names and keys come from files that nothing is known of: no control character reaches a terminal.
        return escape_control_characters(f"{subject}: {self.what}: {self.detail}")
