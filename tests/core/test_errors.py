"""The tree of exceptions: as drawn, and able to cross processes."""

import inspect
import pickle
import re

import pytest

from psfharvest.core import errors
from psfharvest.core.errors import (
    AllRefused,
    ArchiveDown,
    ArchiveError,
    BadInput,
    BadQuery,
    BadURI,
    CutoutFailed,
    CutoutMissing,
    DeadlinePassed,
    FolderRefused,
    LocalError,
    ManifestError,
    PsfharvestError,
    SinkError,
)

EXAMPLES = [
    PsfharvestError("words"),
    BadInput("words"),
    BadURI("x" * 300, "why"),
    BadQuery("words", field="qfit"),
    FolderRefused("words"),
    ArchiveError("words", uri="mast:x", reason="reset"),
    CutoutMissing("words", uri="mast:x", reason="not_found"),
    CutoutFailed("words", uri="mast:x", reason="timeout"),
    DeadlinePassed("words", uri="mast:x", reason="timeout"),
    AllRefused("words", uri="mast:x", reason="wrong_shape"),
    ArchiveDown("words", uri="https://mast.stsci.edu", reason="archive_down"),
    LocalError("words"),
    SinkError("words"),
    ManifestError("words"),
]


def defined() -> dict[str, type[PsfharvestError]]:
    """Give the classes of the module by name."""
    return {name: c for name, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__}


def test_every_class_is_tried():
    """The examples below leave out no class."""
    assert set(defined().values()) == {type(error) for error in EXAMPLES}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_errors_pickle_with_their_attributes(error, protocol):
    """An exception that crosses to another process keeps its class, words and attributes."""
    error.__dict__["more"] = ["anything"]
    copy = pickle.loads(pickle.dumps(error, protocol))

    assert type(error) is type(copy)
    assert (str(error), error.args, error.__dict__) == (str(copy), copy.args, copy.__dict__)
    assert error.exit_status == copy.exit_status


def drawn() -> dict[str, str]:
    """Read the tree in the module's docstring: class to base."""
    bases: dict[str, str] = {}
    line_of: list[str] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ((?:[│ ]  )*(?:[├└]─ )?)([A-Z]\w+)", line)
        if found and (found[1] or found[2] == "PsfharvestError"):
            depth = len(found[1]) // 3
            del line_of[depth:]
            bases[found[2]] = line_of[-1] if line_of else ""
            line_of.append(found[2])
    return bases


def test_the_drawn_tree_is_the_real_one():
    """The docstring draws each class under its base, and no other."""
    real = {name: c.__mro__[1].__name__ for name, c in defined().items()}

    assert real | {"PsfharvestError": ""} == drawn()


def test_exit_statuses_are_the_drawn_ones():
    """The exit status drawn beside a class is the class's; those without one have their base's."""
    shown = dict(re.findall(r"([A-Z]\w+)(?:\(ValueError\))? .* exit (\d+)$", errors.__doc__, re.MULTILINE))

    assert {"BadInput", "CutoutMissing", "CutoutFailed", "AllRefused", "ArchiveDown", "LocalError"} == set(shown)
    assert {name: int(status) for name, status in shown.items()} == {
        name: defined()[name].exit_status for name in shown
    }
    assert 2 == BadURI("", "").exit_status == BadQuery("").exit_status == FolderRefused("").exit_status
    assert 74 == SinkError("").exit_status == ManifestError("").exit_status


def test_bad_input_is_a_value_error():
    """Whoever catches ValueError catches what is wrong with the call."""
    assert issubclass(BadInput, ValueError)
    assert not issubclass(ArchiveError, ValueError)


def test_a_long_text_is_shown_cut_and_kept_whole():
    """A BadURI's message is short, and its text is all of it."""
    error = BadURI("x" * 5000, "too long")

    assert len(str(error)) < 300
    assert 5000 == len(error.text)
