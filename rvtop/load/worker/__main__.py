"""``python -m rvtop.load.worker``: a load worker's process (see ``process.py``)."""

from rvtop.load.worker.process import main

if __name__ == "__main__":
    main()
