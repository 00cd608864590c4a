"""``python -m rvtop.web``: the process that serves the web view (see ``client.py`` for its messages)."""

from rvtop.system.startup import collect_seldom


def main() -> None:
    """The process's entry point."""
    collect_seldom()
    from rvtop.web import process

    process.main()


if __name__ == "__main__":
    main()
