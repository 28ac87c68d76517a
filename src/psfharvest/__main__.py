"""The command ``psfharvest``, also as ``python -m psfharvest``: an interrupt while it starts ends it in silence."""

import os

try:
    import signal
except KeyboardInterrupt:
    os._exit(130)


def _leave(signum: int, frame: object) -> None:
    del frame
    os._exit(128 + signum)


def main() -> None:
    """Run the command line and leave with its exit status."""
    from psfharvest.cli import main as run  # noqa: PLC0415 - imported where an interrupt is expected

    run()


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
if __name__ == "__main__":
    main()
