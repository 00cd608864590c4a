"""Incremental detokenising: any split of a text into tokens gives the text back, never half a character."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from backends.engines.detokenize import REPLACEMENT, Detokenizer, StopStrings

CORPUS = [
    "직원은 매년 15일의 연차를 받는다. 휴가는 며칠입니까?",
    "Every employee gets 15 days of leave. 🙂 naïve",
]


def pieces(decode: Callable[[list[int]], str], ids: list[int], prompt: tuple[int, ...] = ()) -> list[str]:
    detokenizer = Detokenizer(decode, prompt)
    return [detokenizer.add(token) for token in ids]


def decoder_of(vocabulary: list[bytes]) -> Callable[[list[int]], str]:
    """A byte-level tokenizer whose tokens are any byte strings."""
    return lambda ids: b"".join(vocabulary[token] for token in ids).decode("utf-8", "replace")


@st.composite
def splits(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    text = draw(st.text(min_size=1, max_size=30))
    data = text.encode()
    cuts = sorted(draw(st.sets(st.integers(0, len(data)), max_size=len(data))))
    edges = [0, *cuts, len(data)]
    return text, [data[a:b] for a, b in itertools.pairwise(edges)]


@given(splits())
def test_any_split_of_a_text_gives_the_text(case: tuple[str, list[bytes]]) -> None:
    text, tokens = case
    out = pieces(decoder_of(tokens), list(range(len(tokens))))
    assert "".join(out) == text.rstrip(REPLACEMENT)
    if REPLACEMENT not in text:
        assert not any(REPLACEMENT in piece for piece in out)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=20))
def test_any_bytes_give_what_decoding_all_gives(tokens: list[bytes]) -> None:
    decode = decoder_of(tokens)
    ids = list(range(len(tokens)))
    assert "".join(pieces(decode, ids)) == decode(ids).rstrip(REPLACEMENT)


@given(splits(), st.lists(st.binary(max_size=4), max_size=6))
def test_a_prompt_does_not_leak_into_the_text(case: tuple[str, list[bytes]], prompt: list[bytes]) -> None:
    text, tokens = case
    vocabulary = [*prompt, "끝".encode(), *tokens]
    start = len(prompt) + 1
    out = pieces(decoder_of(vocabulary), list(range(start, len(vocabulary))), tuple(range(start)))
    assert "".join(out) == text.rstrip(REPLACEMENT)


def test_text_comes_with_the_token_that_completes_it() -> None:
    tokens = [b"A", *(bytes([byte]) for byte in "한".encode()), b"B"]
    assert pieces(decoder_of(tokens), list(range(5))) == ["A", "", "", "한", "B"]


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@given(data=st.data())
def test_real_byte_level_tokenizer(byte_level: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, byte_level.get_vocab_size() - 1), max_size=30))
    prompt = tuple(byte_level.encode("질문: 며칠?\n").ids)
    assert "".join(pieces(byte_level.decode, ids, prompt)) == byte_level.decode(ids).rstrip(REPLACEMENT)


def test_tokenizer_that_drops_the_first_space() -> None:
    """SentencePiece style: words begin with ▁, the very first space of a text is dropped, and unknown
    characters fall back to one token per byte."""
    words = ["▁the", "▁days", "▁of", "leave", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {word: number for number, word in enumerate(["<unk>", *words])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    ids = [vocabulary["▁of"], vocabulary["leave"]]
    ids += [vocabulary[f"<0x{byte:02X}>"] for byte in "휴가".encode()]
    ids += [vocabulary["▁days"]]
    prompt = (vocabulary["▁the"], vocabulary["▁days"])
    assert "".join(pieces(tokenizer.decode, ids, prompt)) == " ofleave휴가 days"
    assert "".join(pieces(tokenizer.decode, ids)) == "ofleave휴가 days"


TEXT = st.text(alphabet="ab한", max_size=12)


@given(st.lists(TEXT, max_size=8), st.lists(st.text(alphabet="ab한", min_size=1, max_size=4), max_size=3))
def test_stop_strings_end_the_text_before_their_first_occurrence(parts: list[str], stops: list[str]) -> None:
    finder = StopStrings(stops)
    out, found = "", None
    for part in parts:
        text, found = finder.feed(part)
        out += text
        assert not any(stop in out for stop in stops)
        if found is not None:
            break
    if found is None:
        out += finder.flush()
    whole = "".join(parts)
    at = min((whole.find(stop) for stop in stops if stop in whole), default=None)
    assert out == (whole if at is None else whole[:at])
    assert (found is None) == (at is None)


def test_only_a_possible_start_of_a_stop_string_is_held_back() -> None:
    finder = StopStrings(["\n\nQ:"])
    assert finder.feed("answer\n") == ("answer", None)
    assert finder.feed("more\n\nQ") == ("\nmore", None)
    assert finder.feed(": next") == ("", "\n\nQ:")
