"""Snakemake's lock on a folder: one that a killed call has left is told apart from one that is in use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import psutil

LOCKS = Path(".snakemake/locks")
_UNLOCKED = ("--unlock", "--nolock", "--dry-run", "--dryrun", "--mode", "--version", "--help", "-h", "-v")
"""Options under which Snakemake takes no lock."""


def lock_note(folder: Path, arguments: Sequence[str]) -> str | None:
    """What to do about the lock of a folder; None where there is none, or the call takes none.

    Args:
        folder: where Snakemake is to work.
        arguments: the words of the call.
    """
    short = [word for word in arguments if word.startswith("-") and not word.startswith("--")]
    names = {word.partition("=")[0] for word in arguments}
    if not names.isdisjoint(_UNLOCKED) or any("n" in word for word in short) or not _is_locked(folder):
        return None
    if working := _working_in(folder):
        return (
            f"{folder.absolute()} is locked: another call of Snakemake is at work there (process {working[0]}); "
            "wait for it, or end it"
        )
    return (
        f"{folder.absolute()} is locked, and no call of Snakemake on this machine is at work there: the last one was "
        "killed (kill -9, a power loss). Call `snakemake --unlock` once, then call again: what is finished is kept"
    )


def _is_locked(folder: Path) -> bool:
    locks = folder / LOCKS
    return locks.is_dir() and any(locks.iterdir())


def _working_in(folder: Path) -> list[int]:
    """Processes of other calls of Snakemake that work in a folder."""
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    place = os.path.realpath(folder)
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()[:4] if process.pid not in own else []
            if any(Path(word).name.startswith("snakemake") for word in words) and process.cwd() == place:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found
