"""A question and what was found for it, as chat messages. Pure, stdlib only.

The experiment's shape: a fixed system message, then one user message with the context block and the
question. The system message comes first and never changes within a language, so an engine's prefix
cache can share it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")

_WORDS = {
    "ko": (
        "당신은 문서를 근거로 질문에 답하는 안내원입니다. "
        "아래 문맥에 있는 내용만 써서 짧고 정확하게 답하세요. 문맥에 답이 없으면 모른다고 말하세요.",
        "문맥",
        "질문",
    ),
    "en": (
        "You answer questions about documents. Use only the context below and be short and exact. "
        "If the answer is not in the context, say that you do not know.",
        "Context",
        "Question",
    ),
}


def language(text: str) -> str:
    """``ko`` when the text has any Hangul, else ``en``."""
    return "ko" if _HANGUL.search(text) else "en"


def build_messages(question: str, contexts: Sequence[str]) -> list[dict[str, str]]:
    """System and user message for a question over the found texts (best first; may be empty)."""
    system, context_word, question_word = _WORDS[language(question)]
    block = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(contexts, 1))
    head = f"{context_word}:\n{block}\n\n" if block else ""
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": f"{head}{question_word}: {question}"},
    ]
