"""Offline inference on one file of rows, in one of three ways: ``LLM.generate`` in this process, Ray Data's
``map_batches`` with the same synchronous engine in actors, and Ray Data LLM's asynchronous processor.

    rvtop batch ──python -P -m backends.batch HOW──▶ engines ──rows as they end, JSON lines──▶ rvtop batch

Whatever the way, an engine tells of each row when it is finished, not when its batch is, and four times a
second how full its batch is. Modules that import vLLM or Ray do so in the process that runs them.
"""
