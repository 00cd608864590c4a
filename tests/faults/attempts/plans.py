"""Plans at their extremes: phases, rates, seeds, prompts and traces."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from tests.faults.attempts import attempt
from tests.faults.attempts.cli import Done, folder, mock, ran, scenario

SMALL = "workload: {kind: synthetic, prompt_tokens: 5, output_tokens: 4}\n"


def planned(phases: str, head: str = SMALL, *words: object, limit_s: float = 60, **mocked: Any) -> Done:
    """A run of these phases; all answered."""
    with mock(**mocked) as server:
        done = ran(server.url, scenario(f"name: plan\n{head}phases:\n{phases}"), *words, limit_s=limit_s)
    assert not done.errors, done.errors
    return done


@attempt("phases of 1 ms, of rates from 1 to 1000")
def plans_phases_of_1ms() -> None:
    done = planned("".join(f"  - {{name: p{i}, rate: {10 ** (i % 4)}, duration: 1ms}}\n" for i in range(20)))
    assert len(done.summary["phases"]) == 20


@attempt("500 phases of 10 ms")
def plans_500_phases() -> None:
    done = planned(
        "".join(f"  - {{name: p{i}, rate: 100, duration: 10ms}}\n" for i in range(500)), limit_s=85
    )
    assert len(done.summary["phases"]) == 500
    assert done.ok > 200


@attempt("a rate of 0.001")
def plans_rate_0_001() -> None:
    done = planned("  - {name: p, rate: 0.001, duration: 1s, arrivals: constant}\n")
    assert done.summary["requests"]["planned"] <= 1


@attempt("a rate of 5000 for half a second")
def plans_rate_5000() -> None:
    with mock(ttft_ms=1, step_ms=1) as server:
        done = ran(server.url, "--rate", 5000, "--duration", "500ms", "--arrivals", "constant", limit_s=80)
    assert done.summary["requests"]["planned"] in range(2490, 2511)
    assert set(done.errors) <= {"client_limit"}


@attempt("max_in_flight 1 at 50 a second: one at a time, the others dropped")
def plans_max_in_flight_1() -> None:
    with mock(ttft_ms=100) as server:
        done = ran(
            server.url,
            scenario(f"name: plan\n{SMALL}phases: [{{name: p, rate: 50, duration: 2s, max_in_flight: 1}}]\n"),
        )
    assert set(done.errors) == {"dropped"} and done.errors["dropped"] > 30
    rows = sorted((row for row in done.rows() if not row["error"]), key=lambda row: row["sent_ns"])
    assert all(a["last_token_ns"] <= b["sent_ns"] for a, b in itertools.pairwise(rows))


@attempt("gamma arrivals of burstiness 0.01 and 1000")
def plans_gamma() -> None:
    planned(
        "  - {name: a, rate: 50, duration: 1s, arrivals: gamma, burstiness: 0.01}\n"
        "  - {name: b, rate: 50, duration: 1s, arrivals: gamma, burstiness: 1000}\n"
    )


@attempt("rounds of 1 and of 200")
def plans_rounds() -> None:
    done = planned("  - {name: r, rounds: {sizes: [1, 200], repeat: 2}}\n")
    assert done.ok == 402


@attempt("a closed loop of 200 for a second")
def plans_closed_200() -> None:
    done = planned("  - {name: c, concurrency: 200, duration: 1s}\n")
    assert done.ok >= 200


@attempt("half of the requests are given up after 1 ms")
def plans_cancel() -> None:
    with mock(ttft_ms=50) as server:
        text = "phases: [{name: p, rate: 50, duration: 1s, cancel: {share: 0.5, after: 1ms}}]\n"
        done = ran(server.url, scenario(f"name: plan\n{SMALL}{text}"))
    assert set(done.errors) == {"cancelled"} and done.ok > 5, done.errors


@attempt("seeds 0, 2^63 - 1, and the same arrivals for the same seed")
def plans_seeds() -> None:
    with mock() as server:
        times = []
        for seed in (0, 2**63 - 1, 2**63 - 1):
            done = ran(server.url, "--rate", 30, "--duration", "1s", "--seed", seed)
            times.append(sorted(row["intended_ns"] for row in done.rows()))
    relative = [[t - one[0] for t in one] for one in times]
    assert len(times[1]) == len(times[2]) and times[0] != times[1]
    assert all(abs(a - b) < 5_000 for a, b in zip(relative[1], relative[2], strict=True)), "not the same plan"


@attempt("seeds -1 and 2^63 and a million digits: refused in one line, or run")
def plans_seeds_beyond() -> None:
    with mock() as server:
        for seed in ("-1", str(2**63), str(2**64), "9" * 4000):
            from tests.faults.attempts.cli import check, ended, rvtop

            run = folder() / "run"
            done = ended(
                rvtop(
                    "run",
                    "--rate",
                    10,
                    "--duration",
                    "500ms",
                    "--seed",
                    seed,
                    "--output-tokens",
                    4,
                    "--target",
                    server.url,
                    "--out",
                    run,
                    "--ui",
                    "none",
                ),
                run,
            )
            if done.code == 0:
                check(done, 0)
            else:
                assert done.code == 2 and len(done.err.strip().splitlines()) <= 4, (done.code, done.err)


def prompted(prompts: list[Any], **mocked: Any) -> Done:
    place = folder()
    (place / "p.jsonl").write_text("".join(json.dumps(one) + "\n" for one in prompts))
    workload = f"workload: {{kind: prompts, file: {place / 'p.jsonl'}, max_tokens: 4}}\n"
    return planned("  - {name: p, rate: 10, duration: 1s, arrivals: constant}\n", workload, **mocked)


@attempt("prompts of emoji, NUL, bidi and half surrogates")
def plans_odd_prompts() -> None:
    done = prompted(
        [{"prompt": p} for p in ("👩‍👩‍👧" * 50, "a\0b", "\u202eabc", "\u0085\u2028", "\\ud83d", " ")]
    )
    assert done.ok == 10


@attempt("a prompt of 10 MB")
def plans_prompt_of_10mb() -> None:
    done = prompted([{"prompt": "word " * 2_000_000}])
    assert done.ok == 10


@attempt("an empty prompt is refused in one line, or sent")
def plans_empty_prompt() -> None:
    place = folder()
    (place / "p.jsonl").write_text('{"prompt": ""}\n')
    text = f"name: plan\nworkload: {{kind: prompts, file: {place / 'p.jsonl'}, max_tokens: 4}}\n"
    path = scenario(text + "phases: [{name: p, rate: 10, duration: 500ms}]\n")
    with mock() as server:
        from tests.faults.attempts.cli import ended, rvtop

        run = folder() / "run"
        done = ended(rvtop("run", path, "--target", server.url, "--out", run, "--ui", "none"), run)
    assert done.code in (0, 2), (done.code, done.err)
    assert done.code == 0 or "p.jsonl" in done.err, done.err


def traced(times: list[Any]) -> Path:
    place = folder()
    rows = [
        {"timestamp": t, "input_length": 20, "output_length": 4, "hash_ids": [i]} for i, t in enumerate(times)
    ]
    (place / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return scenario(
        f"name: plan\nworkload: {{kind: trace, file: {place / 't.jsonl'}}}\n"
        "phases: [{name: p, trace: {speed: 1}}]\n"
    )


@attempt("a trace of 50 requests at the same time")
def plans_trace_equal() -> None:
    with mock() as server:
        done = ran(server.url, traced([1000] * 50))
    assert done.ok == 50 and not done.errors


@attempt("a trace whose times descend: refused in one line, or put in order")
def plans_trace_descending() -> None:
    with mock() as server:
        from tests.faults.attempts.cli import check, ended, rvtop

        run = folder() / "run"
        done = ended(
            rvtop("run", traced([900, 600, 300, 0]), "--target", server.url, "--out", run, "--ui", "none"),
            run,
        )
        check(done, done.code if done.code in (0, 2) else 0)
        assert done.code == 2 or done.ok == 4


@attempt("a trace with times of NaN, below 0, in words, of 10^300: one line each")
def plans_trace_impossible() -> None:
    with mock() as server:
        for times in ([0, float("nan")], [0, "soon"], [0, 1e300], [0, None], [0, True]):
            ran(server.url, traced(times), code=2, says="t.jsonl")


@attempt("8 workers share a load of 40 a second, and 3 workers one of three requests")
def plans_workers_8() -> None:
    with mock() as server:
        done = ran(server.url, "--workers", 8, "--rate", 40, "--duration", "1s", limit_s=80)
        assert not done.errors and done.ok > 20
        assert len({row["worker"] for row in done.rows()}) == 8
        few = ran(
            server.url, "--workers", 3, "--rate", 3, "--duration", "1s", "--arrivals", "constant", limit_s=80
        )
        assert few.ok == few.summary["requests"]["planned"] > 1


@attempt("connect and TTFT timeouts of a nanosecond")
def plans_timeouts_tiny() -> None:
    with mock(ttft_ms=500) as server:
        done = ran(server.url, "--ttft-timeout", "0.000000001", "--connect-timeout", 5, code=1)
    assert set(done.errors) == {"timeout_ttft"}, done.errors
