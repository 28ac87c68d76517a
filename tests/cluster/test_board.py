"""The scheduler's plugin: what a head gets to see of the tasks, and who is woken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio

from psfharvest.cluster.board import HANDLER, NEWS, Board
from psfharvest.cluster.shares import GO, OVER, WAIT


def ask(board: Board, holder: str, seq: int, *, part: str = "d#1", **more: Any) -> dict[str, Any]:
    said = {
        "part": part, "worker": f"worker of {holder}", "slot": "1", "epoch": 1, "held": 0, "is_done": False,
        "wanted": 9, "pause_s": 0.0, "is_down": False, "trouble": "", "come": {}, "process": f"id of {holder}",
    }  # fmt: skip
    return board.handle("ask", "an archive", holder=holder, seq=seq, **{**said, **more})


def look(board: Board) -> dict[str, Any]:
    return board.handle("look", "an archive", folder="d#", ceiling=6, per_second=None, parts=["d#1", "d#2"])


def board_of(names: str, comms: dict[str, Any] | None = None) -> Board:
    """Return the board of a new scheduler that has these workers."""
    workers = {f"worker of {name}": SimpleNamespace(server_id=f"id of {name}") for name in names}
    scheduler = SimpleNamespace(
        handlers={}, stream_handlers={}, stream_comms=comms or {}, total_nthreads=len(names), workers=workers
    )
    board = Board(is_first=True)
    anyio.run(board.start, scheduler)
    assert [board.handle] * 2 == [scheduler.handlers[HANDLER], scheduler.stream_handlers[HANDLER]]
    look(board)
    return board


def test_who_waits_for_a_part_says_nothing_of_it() -> None:
    """A second head's task: the progress and the trouble of the holder stay known until that is done."""
    board = board_of("ab")
    of_holder = {"come": {"done": 3}, "trouble": "archive down"}
    assert GO == ask(board, "a", 1, **of_holder)["word"]
    assert WAIT == ask(board, "b", 1)["word"]
    assert ([{"done": 3}], "archive down") == (look(board)["come"], look(board)["trouble"])
    ask(board, "b", 2, is_done=True)
    assert [{"done": 3}] == look(board)["come"]
    assert OVER == ask(board, "a", 2, is_done=True, **of_holder)["word"]
    assert ([], "") == (look(board)["come"], look(board)["trouble"])


def test_news_go_to_the_other_workers_alone() -> None:
    """Once: they ask at once, and get the pause with their answers; who has left is not written to."""
    woken: list[tuple[str, dict[str, str]]] = []
    names = [f"worker of {name}" for name in "abc"]
    comms = {name: SimpleNamespace(send=lambda op, name=name: woken.append((name, op))) for name in names}
    board = board_of("abc", comms)
    assert 3 == look(board)["threads"]
    for name in "abc":
        ask(board, name, 1, part=f"d#{name}")
    del comms["worker of c"]
    assert not woken

    for seq in (2, 3):
        ask(board, "a", seq, part="d#a", pause_s=5.0)
    assert [("worker of b", {"op": NEWS})] == woken
    assert ask(board, "b", 2, part="d#b")["pause_s"] > 0


def test_a_message_that_comes_after_its_worker_was_lost_takes_no_part() -> None:
    """Nor that of a process whose address another one has by now: nobody would say again that it is lost."""
    board = board_of("b")
    assert OVER == ask(board, "a", 1)["word"]
    assert OVER == ask(board, "b", 1, process="one before")["word"]
    answer = ask(board, "b", 1)
    assert (GO, 6) == (answer["word"], answer["grant"])


def test_a_head_sees_which_of_its_parts_have_asked() -> None:
    """Those that wait, too."""
    board = board_of("ab")
    assert {} == look(board)["silent_s"]
    ask(board, "a", 1)
    assert ["d#1"] == list(look(board)["silent_s"])
    ask(board, "b", 1, part="d#3")
    assert ["d#1"] == list(look(board)["silent_s"])
    assert look(board)["silent_s"]["d#1"] < 60
