"""``python -m rvtop.session``: the process of a session that a dashboard holds (see ``server.py``)."""

from rvtop.system.startup import collect_seldom, import_numpy


def main() -> None:
    """The process's entry point."""
    collect_seldom()
    import_numpy()
    from rvtop.session import server

    server.main()


if __name__ == "__main__":
    main()
