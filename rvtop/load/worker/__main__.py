"""``python -m rvtop.load.worker``: a load worker's process (see ``process.py``)."""

from rvtop.system.startup import collect_seldom


def main() -> None:
    """The process's entry point."""
    collect_seldom()
    from rvtop.load.worker import process

    process.main()


if __name__ == "__main__":
    main()
