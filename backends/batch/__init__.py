"""Offline inference on one file of rows, in one of three ways: ``LLM.generate`` in this process, Ray Data's
``map_batches`` with the same synchronous engine in actors, and Ray Data LLM's asynchronous processor.

    rvtop batch ──python -P -m backends.batch HOW──▶ engines ──rows, one by one, as JSON lines──▶ rvtop batch

Whatever the way, an engine tells of each row when it is finished, not when its batch is, and of its batch four
times a second. Each module that imports vLLM or Ray does so in the process that runs it.
"""
