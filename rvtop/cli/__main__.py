"""The entry point of ``rvtop`` and of ``python -m rvtop.cli``: a Ctrl-C during the imports ends the process
at once, without a traceback."""

import _signal  # type: ignore[import-not-found]  # signal itself takes milliseconds to import

_signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # nothing is open yet that would have to be closed


def main() -> None:
    """Runs the command line; its exit code is the process's."""
    from rvtop.system.startup import collect_seldom

    collect_seldom()
    from rvtop.cli import app

    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    app.main()


if __name__ == "__main__":
    main()
