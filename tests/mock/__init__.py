"""Fake OpenAI-compatible servers for benchmarks and fault tests.

``fast.FastMock`` (C) and ``process.PythonMock`` (the same without a compiler) answer like vLLM with known
timings and keep a log that clients are checked against; ``faulty.FaultyServer`` misbehaves on demand.
"""
