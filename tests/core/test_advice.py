"""Advice in Python's words, and in those of the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core import advice
from psfharvest.core.errors import FolderRefused
from psfharvest.core.reasons import REMEDY


@pytest.mark.parametrize(
    ("python", "shell"),
    [("add to it with extend=True", "add to it with --extend"),
     ('run again with via="file"', "run again with --via file"),
     ("raise Limits(timeout_s=…), please", "raise --timeout, please"), ("leave sink=… away", "leave --sink away"),
     ("a larger limit=… continues", "a larger --limit continues"), ("Archive(token=…)", "--token"),
     ("the same call continues", "the same command continues"), ("retry_states=…", "--retry"),
     ("run: Harvest('my stars').verify(repair=True)", "run: psfharvest verify 'my stars' --repair")],
)  # fmt: skip
def test_the_shell_has_its_own_words(python: str, shell: str) -> None:
    """Each phrase has one way in the shell."""
    assert shell == advice.in_shell(python)


@given(st.text(min_size=1).filter(lambda name: name.isprintable()))
def test_a_repair_names_its_folder(folder: str) -> None:
    """Whatever the folder's name."""
    assert advice.in_shell(advice.repair(folder)).startswith("psfharvest verify ")


def test_remedies_are_in_pythons_words() -> None:
    """No option of the command line stands in what Python prints."""
    assert not [words for words in REMEDY.values() if "--" in words]
    assert "--timeout" in advice.in_shell(REMEDY["timeout"])


@given(st.text())
def test_other_texts_stay_as_they_are(text: str) -> None:
    """Anything that holds no such phrase is the same in both."""
    if "=" not in text and "same call" not in text:
        assert text == advice.in_shell(text)


def test_an_error_may_bring_its_own_words_for_the_shell() -> None:
    """For messages that show what was asked for."""
    error = FolderRefused("Query('UVIS') with extend=True")
    assert "Query('UVIS') with --extend" == error.in_shell()
    error.shell = "UVIS with --extend"
    assert "UVIS with --extend" == error.in_shell()
