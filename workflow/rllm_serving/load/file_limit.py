"""Enough open files for a load: each connection is one."""

from __future__ import annotations

import resource

from ..errors import UserError

OTHER_FILES = 64
"""Files that this process may have open besides its connections."""


class FileLimitError(UserError):
    """A load needs more connections than this process may have files open."""


def allow_connections(count: int) -> None:
    """Let this process have `count` connections at once: raise its soft limit of open files where that is too low.

    Raises:
        FileLimitError: when the hard limit, which only the system's administrator can raise, is too low as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + OTHER_FILES
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise FileLimitError(
            f"{count} requests at once need {needed} open files, the limit of this process is {hard} (`ulimit -Hn`): "
            f"raise it (`ulimit -n {needed}` as administrator, or /etc/security/limits.conf), or send fewer at once"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
