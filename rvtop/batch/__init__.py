"""``rvtop batch``: a file of rows through engines without a server. Reads and checks the rows, starts the
process that computes them (``python -m backends.batch``), and writes each row down as it is done."""
