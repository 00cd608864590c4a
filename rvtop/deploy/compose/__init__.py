"""``rvtop deploy compose``: images of rvtop, and a stack of containers on one machine."""
