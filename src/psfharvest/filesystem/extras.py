"""The command that installs what an extra needs, for the way in which this package was installed."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from psfharvest.core.errors import BadInput


def require(what: str, extra: str, *modules: str) -> None:
    """Raise `BadInput` when a module of an extra is absent; the message is that of `needs`."""
    missing = needs(what, extra, *modules)
    if missing is not None:
        raise BadInput(missing)


def needs(what: str, extra: str, *modules: str) -> str | None:
    """
    Return a message when a module of an extra is absent: what needs it, and how to install it; else None.

    Parameters
    ----------
    what
        What the user wanted, as a subject in the singular.
    extra
        The extra's name.
    *modules
        Names under which it is imported.
    """
    absent = [name for name in modules if find_spec(name) is None]
    return f"{what} needs {' and '.join(absent)}: {command(extra, absent)}" if absent else None


def command(extra: str, absent: list[str]) -> str:
    """
    Return a command line that installs an extra's packages beside this one, into the same Python.

    The packages themselves are named, not the extra: this one may come from a folder, a repository or an index.
    """
    packages = shlex.join(_packages(extra) or absent)
    prefix = Path(sys.prefix)
    if prefix.parent.name == "venvs" and prefix.parent.parent.name == "pipx" and shutil.which("pipx"):
        return f"pipx inject {shlex.quote(prefix.name)} {packages}"
    python = shlex.quote(sys.executable or "python")
    if find_spec("pip") is not None:
        return f"{python} -m pip install {packages}"
    if shutil.which("uv"):
        return f"uv pip install --python {python} {packages}"
    return f"{python} -m ensurepip && {python} -m pip install {packages}"


def _packages(extra: str) -> list[str]:
    """Return the requirements of an extra without markers, as the installed metadata has them."""
    import importlib.metadata  # noqa: PLC0415 - heavy, for a message only

    try:
        every = importlib.metadata.requires("psfharvest") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for line in every:
        requirement, _, marker = line.partition(";")
        named = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if named is not None and named[1] == extra and "sys_platform" not in marker:
            found.append(requirement.replace(" ", "").strip())
    return found
