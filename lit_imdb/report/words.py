"""What the embedding has learned: neighbours, polarity, and files for TensorBoard's projector.

Shapes: N reviews, T tokens, V words, W the most frequent of them, E embedding.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lit_imdb.data.encoded import Part
from lit_imdb.report.board import write
from lit_imdb.report.tables import clean

FIRST = 2  # behind padding and unknown
FREQUENT = 2000  # W
PROBES = (
    *("great", "wonderful", "funny", "love", "good", "best"),
    *("bad", "awful", "boring", "worst", "actor", "music"),
)
_CHUNK = 8192  # reviews counted at once


def polarity(part: Part, vocab_size: int) -> Tensor:
    """For each word (V,) the share of positive reviews among its occurrences, as the network
    reads them; the prior of one in each class keeps rare words near 0.5."""
    counts = torch.ones(2, vocab_size, dtype=torch.float64)
    chunks = torch.split(part.ids, _CHUNK), torch.split(part.labels, _CHUNK)
    for ids, labels in zip(*chunks, strict=True):
        for label in (0, 1):
            found = ids[labels == label].flatten().int()
            counts[label] += torch.bincount(found, minlength=vocab_size)
    return counts[1] / counts.sum(0)


def neighbours(vectors: Tensor, vocabulary: list[str], count: int) -> dict[str, list[str]]:
    """The `count` frequent words nearest to each probe word, by cosine, nearest first."""
    frequent = vocabulary[FIRST : FIRST + FREQUENT]
    known = [probe for probe in PROBES if probe in frequent]
    if not known:
        return {}
    units = normalize(vectors[FIRST : FIRST + FREQUENT].float())  # (W, E)
    cosines = units[[frequent.index(probe) for probe in known]] @ units.t()
    nearest = cosines.topk(min(count + 1, len(frequent))).indices.tolist()
    found = [[frequent[index] for index in row] for row in nearest]
    return {
        probe: [word for word in row if word != probe][:count]
        for probe, row in zip(known, found, strict=True)
    }


def plane(vectors: Tensor) -> Tensor:
    """The frequent words (W, 2) on the two directions in which they differ most."""
    centred = vectors[FIRST : FIRST + FREQUENT].double()
    centred = centred - centred.mean(0)  # (W, E)
    _, directions = torch.linalg.eigh(centred.t() @ centred)  # ascending
    points: Tensor = centred @ directions[:, -2:].flip(1)
    return points


def write_projector(folder: Path, vectors: Tensor, vocabulary: list[str], shares: Tensor) -> None:
    """Leaves what the projector reads; `add_embedding` would take three times as long.

    Raises:
        OSError: The folder cannot be written.
    """
    rows = (1000 * vectors[FIRST : FIRST + FREQUENT]).round().int().tolist()  # only angles matter
    tensors = "\n".join("\t".join(map(str, row)) for row in rows)
    lines = ["word\tpolarity\tleaning"]
    for word, share in zip(
        vocabulary[FIRST : FIRST + FREQUENT], shares[FIRST:].tolist(), strict=False
    ):
        leaning = "positive" if share > 0.6 else "negative" if share < 0.4 else "neutral"
        lines.append(f"{clean(word)}\t{share:.3f}\t{leaning}")
    write(folder / "projector" / "words.tsv", f"{tensors}\n".encode())
    write(folder / "projector" / "words_metadata.tsv", ("\n".join(lines) + "\n").encode())
    config = (
        'embeddings {\n  tensor_name: "words"\n  tensor_path: "projector/words.tsv"\n'
        '  metadata_path: "projector/words_metadata.tsv"\n}\n'
    )
    write(folder / "projector_config.pbtxt", config.encode())
