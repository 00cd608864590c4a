"""A one-shot timer that is true to well under a millisecond.

asyncio's own timers are only as fine as the loop's clock; uvloop's are whole milliseconds, and the
half millisecond they are late on average would be added to every TTFT. Linux's timerfd fires at an
absolute nanosecond of CLOCK_MONOTONIC, which is the clock of ``time.perf_counter_ns``.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from time import perf_counter_ns

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Timer:
    """Calls ``fire`` (may be replaced) once after each ``arm``; a later ``arm`` replaces the earlier."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        self._loop = loop
        self.fire = fire
        self._handle: asyncio.TimerHandle | None = None
        self._fd = _timerfd()
        self._closed = False
        if self._fd >= 0:
            loop.add_reader(self._fd, self._readable)

    def arm(self, at_ns: int) -> None:
        """Fire at ``at_ns`` of ``perf_counter_ns``, or soon if that is past; after ``close`` never."""
        if self._closed:
            return
        if self._fd >= 0:
            at_ns = max(at_ns, 1)  # zero would disarm it
            spec = _Itimerspec(value=_Timespec(at_ns // 1_000_000_000, at_ns % 1_000_000_000))
            _LIBC.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
            return
        self.disarm()
        self._handle = self._loop.call_later(max(0.0, (at_ns - perf_counter_ns()) / 1e9), self.fire)

    def disarm(self) -> None:
        """Take back the last ``arm``."""
        if self._fd >= 0:
            _LIBC.timerfd_settime(self._fd, 0, ctypes.byref(_Itimerspec()), None)
        elif self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        """Ends the timer; it can't be armed again."""
        self.disarm()
        self._closed = True
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was armed anew in between
        self.fire()


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else ctypes.CDLL(None)


def _timerfd() -> int:
    """A timerfd, or -1 where there is none (then asyncio's own timers serve)."""
    if sys.platform != "linux":
        return -1
    return int(_LIBC.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
