"""The pieces that hook into Hugging Face `generate`: streamer, stopping criterion, seeded sampling."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch
from transformers import DynamicCache, LogitsProcessor, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from backends.engines.detokenize import Detokenizer, StopStrings
from backends.engines.protocol import Delta, Finish, GenerateRequest, Timings, TokenLogprobs
from backends.errors import EngineError

# Below this temperature sampling is greedy, as in vLLM.
GREEDY_BELOW = 1e-5


class Sequence:
    """One live generation: decides about each token as it is made, and hands deltas to ``emit``.

    `generate` asks the stopping criterion about a token first and gives it to the streamer next; both end
    here, so the delta that carries the last token also says why it is the last. All of it runs in the
    generating thread, except ``cancel``. ``emit`` takes deltas and, at most once and last, an EngineError.
    """

    def __init__(
        self,
        request: GenerateRequest,
        *,
        eos_ids: frozenset[int],
        eos_id: int | None,
        decode: Callable[[list[int]], str],
        spell: Callable[[int], str],
        emit: Callable[[Delta | EngineError], None],
    ) -> None:
        self.request = request
        self.distribution: torch.Tensor | None = None  # log probabilities of the token that is chosen next
        self._spell = spell
        self.finished = False
        self.done: Future[None] = Future()  # done when no more is computed for it
        self._cancelled: EngineError | None = None
        self._end = threading.Lock()  # taken once, by who ends it
        self._emit = emit
        self._eos_id = eos_id
        ends = frozenset() if request.ignore_eos else eos_ids
        self._ends = ends | frozenset(request.stop_token_ids)
        self._text = Detokenizer(decode, request.prompt_ids)
        self._stops = StopStrings(request.stop) if request.stop else None
        self._made = 0
        self._pending: deque[Delta] = deque()
        self._t_submit = self._t_start = time.perf_counter()
        self._t_first = 0.0

    def begin(self) -> None:
        """Called in the generating thread when computing begins."""
        self._t_start = time.perf_counter()

    def cancel(self, reason: EngineError | None = None) -> None:
        """Ends the generation after the step that is being computed. Safe from any thread."""
        self._cancelled = self._cancelled or reason or EngineError("cancelled")

    @property
    def cancelled(self) -> bool:
        return self._cancelled is not None

    def end(self, error: EngineError | None = None) -> None:
        """Nothing more is computed. ``error`` says why, unless it was cancelled or reached its last token."""
        if not self._end.acquire(blocking=False):  # the first one counts: the reader that left, or the engine
            return
        if self.finished:
            self._publish_all()  # a failure after the last token changes nothing for the reader
        else:
            self._emit(self._cancelled or error or EngineError("the generation ended early"))
        self.done.set_result(None)

    def accept(self, token_id: int) -> bool:
        """Takes a new token; True when the generation ends with it (or has ended)."""
        if self.finished:
            return True
        if self._cancelled is not None:
            self.end()
            return True
        now = time.perf_counter()
        self._made += 1
        if self._made == 1:
            self._t_first = now
        reason, stop_reason, text, shown = self._judge(token_id)
        finish = None
        if reason is not None:
            self.finished = True
            timings = Timings(
                queue_ms=(self._t_start - self._t_submit) * 1e3,
                prefill_ms=(self._t_first - self._t_start) * 1e3,
                decode_ms=(now - self._t_first) * 1e3,
            )
            finish = Finish(reason, stop_reason, timings)
        self._pending.append(Delta(text, (token_id,), finish, self._logprobs(token_id, shown)))
        return self.finished

    def _judge(self, token_id: int) -> tuple[str | None, str | int | None, str, str]:
        """``(finish reason or None, stop reason, text that may go out, text of this token)``."""
        if token_id in self._ends:
            text = self._stops.flush() if self._stops else ""
            return "stop", None if token_id == self._eos_id else token_id, text, ""
        text = shown = self._text.add(token_id)
        if self._stops is not None:
            text, found = self._stops.feed(text)
            if found is not None:
                return "stop", found, text, shown
        if self._made >= self.request.max_tokens:
            return "length", None, text + (self._stops.flush() if self._stops else ""), shown
        return None, None, text, shown

    def _logprobs(self, token_id: int, shown: str) -> tuple[TokenLogprobs, ...] | None:
        """What is told of a token; None where nothing was asked. A token that is a part of a character has
        the text that it completes, as vLLM has it."""
        if self.distribution is None or self.request.logprobs is None:
            return None
        spelled = self._spell(token_id)
        pairs = [(shown if "\ufffd" in spelled else spelled, float(self.distribution[token_id]))]
        if self.request.logprobs:
            values, ids = self.distribution.topk(min(self.request.logprobs, len(self.distribution)))
            others = zip(ids.tolist(), values.tolist(), strict=True)
            pairs += [(self._spell(other), value) for other, value in others if other != token_id]
        return (tuple(pairs),)

    def publish(self) -> None:
        """Hands out the oldest accepted delta, if any (after a cancel there is none)."""
        if self._pending:
            self._emit(self._pending.popleft())
            if self.finished and not self._pending:
                self.end()

    def _publish_all(self) -> None:
        while self._pending:
            self._emit(self._pending.popleft())


class Stopper(StoppingCriteria):
    """Asks each sequence of a batch whether its newest token is its last."""

    def __init__(self, sequences: list[Sequence], device: torch.device) -> None:
        self._sequences = sequences
        # Nearly every step ends all or none: no new tensor goes to the device for that.
        self._all = torch.ones(len(sequences), dtype=torch.bool, device=device)
        self._none = torch.zeros_like(self._all)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        newest = input_ids[:, -1].tolist()
        ends = [sequence.accept(token) for sequence, token in zip(self._sequences, newest, strict=True)]
        if all(ends):
            return self._all
        return torch.tensor(ends, device=self._all.device) if any(ends) else self._none


class TokenStreamer(BaseStreamer):
    """Publishes each token when it is made. (Transformers' own streamers wait for whole words, which moves
    TTFT and ITL.)"""

    def __init__(self, sequences: list[Sequence]) -> None:
        self._sequences = sequences
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:  # `generate` puts the prompt first
            self._prompt_seen = True
            return
        for sequence in self._sequences:
            sequence.publish()

    def end(self) -> None:
        return None


class Distributions(LogitsProcessor):
    """Keeps what the model said of the next token, before any sampling, for the sequences that tell it."""

    def __init__(self, sequences: list[Sequence]) -> None:
        self._sequences = sequences

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for sequence, row in zip(self._sequences, scores, strict=True):
            if sequence.request.logprobs is not None:
                sequence.distribution = torch.log_softmax(row.float(), dim=-1)
        return scores


class SeededSampler(LogitsProcessor):
    """Samples with a generator of its own, and leaves only the sampled token possible.

    `generate` samples with torch's global generator, which threads share: a request's seed would not repeat.
    Here the choice is made as a logits processor, and greedy search takes the only token left.
    """

    def __init__(self, temperature: float, top_p: float, seed: int, device: torch.device) -> None:
        self._temperature = temperature
        self._top_p = top_p
        self._generator = torch.Generator(device=device)
        self._generator.manual_seed(seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        probs = torch.softmax(scores.float() / self._temperature, dim=-1)
        if self._top_p < 1.0:
            ranked, order = probs.sort(dim=-1, descending=True)
            # A token stays while the mass before it is below top_p, so at least one does.
            outside = ranked.cumsum(dim=-1) - ranked >= self._top_p
            probs = torch.zeros_like(probs).scatter_(1, order, ranked.masked_fill(outside, 0.0))
        choice = torch.multinomial(probs, 1, generator=self._generator)
        return torch.full_like(scores, float("-inf")).scatter_(1, choice, 0.0)


class PerSequence(LogitsProcessor):
    """Gives each sequence of a batch its own sampler; None leaves greedy search alone."""

    def __init__(self, samplers: list[SeededSampler | None]) -> None:
        self._samplers = samplers

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        rows = [
            scores[i : i + 1] if sampler is None else sampler(input_ids[i : i + 1], scores[i : i + 1])
            for i, sampler in enumerate(self._samplers)
        ]
        return torch.cat(rows)


def left_padded(
    prompts: list[tuple[int, ...]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts as one (batch, longest) tensor, padded in front, and the mask of what is no padding."""
    longest = max(map(len, prompts))
    ids = [[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def cache_bytes(cache: DynamicCache) -> int:
    """Bytes of all tensors in a cache, whatever its layers call them (keys and values, or an SSM's
    states)."""
    return sum(
        value.nbytes
        for layer in list(cache.layers)
        for value in list(vars(layer).values())
        if isinstance(value, torch.Tensor)
    )
