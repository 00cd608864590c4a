"""Builds the small local embedder: a SentenceTransformer of static token vectors, learnt from the corpus.

A text's vector is the mean of its tokens' vectors. Each of these has two parts, weighted alike:

- latent semantics: the token's row in the truncated singular value decomposition of the token-chunk matrix
  of positive pointwise mutual information, so that words of one context are near each other;
- a random direction of its own, so that the same word is found again whatever it means (also in texts that
  are not the sample's).

Both are multiplied by the token's inverse document frequency: words that stand everywhere say nothing.
Measured on the sample's 24 questions, recall@4 / recall@1: first part alone 1.0 / 0.79, second alone
1.0 / 0.67, both 1.0 / 0.79 with fewer near misses.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, StaticEmbedding
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from backends.corpus import sample
from backends.corpus.chunk import chunks
from backends.models import Progress

VOCAB = 2000
LATENT, RANDOM = 128, 256
SEED = 0


def build_embedder(folder: Path, progress: Progress) -> None:
    """Writes a folder that `SentenceTransformer` loads: dimension ``LATENT + RANDOM``, unit vectors.
    The same machine writes the same bytes each time."""
    progress("embedder: tokens", 0.0)
    texts = [chunk.text for chunk in chunks(sample.documents())]
    tokenizer = _tokenizer(document.text for document in sample.documents())
    progress("embedder: vectors", 0.3)
    # More threads would add in another order.
    with threadpool_limits(1):
        vectors = _vectors(tokenizer, texts)
    progress("embedder: writing", 0.8)
    static = StaticEmbedding(tokenizer, embedding_weights=torch.from_numpy(vectors.astype(np.float32)))
    model = SentenceTransformer(modules=[static, Normalize()], device="cpu")
    model.save(str(folder), create_model_card=False)
    progress("ready", 1.0)


def _tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Byte-level, so that no text is without tokens; lower case."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _vectors(tokenizer: Tokenizer, texts: list[str]) -> NDArray[np.float64]:
    """One row a token, ``LATENT + RANDOM`` wide."""
    counts = np.zeros((tokenizer.get_vocab_size(), len(texts)))
    for column, encoding in enumerate(tokenizer.encode_batch(texts, add_special_tokens=False)):
        np.add.at(counts, (encoding.ids, column), 1)
    idf = np.log((len(texts) + 1) / ((counts > 0).sum(axis=1) + 0.5))

    share = counts / counts.sum()
    expected = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    ppmi = np.log(np.maximum(share, expected), where=expected > 0, out=np.zeros_like(share))
    ppmi -= np.log(expected, where=expected > 0, out=np.zeros_like(share))
    left, strength, _ = np.linalg.svd(ppmi, full_matrices=False)
    latent = left[:, :LATENT] * np.sqrt(strength[:LATENT])

    random = np.random.default_rng(SEED).standard_normal((len(counts), RANDOM))
    vectors: NDArray[np.float64] = np.concatenate([_unit(latent), _unit(random)], axis=1) * idf[:, None]
    return vectors


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1; a row of zeros (a token that the corpus never uses) stays one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float64] = np.divide(rows, lengths, where=lengths > 1e-9, out=np.zeros_like(rows))
    return scaled
