"""
Fuzz one reader of hostile bytes by coverage: mutate real answers, follow new paths, stop at the first broken law.

::

    pip install 'psfharvest[fuzz,simulator]'
    python tests/hostile/atheris_drive.py TARGET -max_total_time=60

TARGET is ``fits``, ``tar``, ``mashup``, ``datauri`` or ``list``; whatever follows is libFuzzer's (``-runs=N``, a
folder to keep the corpus in). It begins from what the simulator sends, keeps its files in a temporary folder, and
prints there where an input that breaks a law was saved; the same command with that file's path tries it again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
TARGETS = ("fits", "tar", "mashup", "datauri", "list")
MAX_INPUT_BYTES = 2**16


def main(words: list[str]) -> int:
    """Run libFuzzer on a target; it ends the process itself."""
    if not words or words[0] not in TARGETS:
        say(f"usage: atheris_drive.py {{{','.join(TARGETS)}}} [libFuzzer's options]")
        return 2
    try:
        import atheris
    except ImportError:
        say("atheris is not installed: pip install 'psfharvest[fuzz]' (Linux, Python up to 3.13)")
        return 2
    target, *options = words
    with atheris.instrument_imports(include=["psfharvest"]):
        from hostile import laws
    from hostile import seeds

    home = Path(tempfile.mkdtemp(prefix=f"hostile-{target}-"))
    folder = home / "seeds"
    folder.mkdir()
    for n, seed in enumerate(seeds.SEEDS[target]()):
        (folder / f"{n:02}").write_bytes(seed)
    (home / "words").write_text("".join(f'"{escaped(word)}"\n' for word in seeds.WORDS[target]))
    own = [f"-dict={home / 'words'}", f"-artifact_prefix={home}/", f"-max_len={MAX_INPUT_BYTES}", "-timeout=20"]
    # A file that is given is tried alone; otherwise new inputs go to the first folder.
    given = [word for word in options if not word.startswith("-")]
    places = given if any(Path(word).is_file() for word in given) else [*given, str(folder)]
    flags = [word for word in options if word.startswith("-")]
    say(f"seeds, dictionary and findings: {home}")
    atheris.Setup([sys.argv[0], *own, *flags, *places], laws.LAWS[target])
    atheris.Fuzz()
    return 0


def say(text: str) -> None:
    """Tell whoever runs the program."""
    sys.stderr.write(f"{text}\n")


def escaped(word: bytes) -> str:
    """Write a word as a dictionary of libFuzzer's has it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
