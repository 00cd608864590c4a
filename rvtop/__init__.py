"""rvtop: a live load tester and dashboard for LLM serving on Ray and vLLM."""

__version__ = "0.1.0"
