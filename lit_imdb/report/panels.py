"""The panels of the review: each looks at the model or at its answers, and logs what it sees."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.encoded import Part
from lit_imdb.model.attribution import influences
from lit_imdb.model.network import SentimentRNN
from lit_imdb.report import attribution, drawings, trainability, words
from lit_imdb.report.board import Board
from lit_imdb.report.evaluation import Evaluation
from lit_imdb.report.figures import Sheet
from lit_imdb.report.guard import Guard
from lit_imdb.report.sentences import SENTENCES
from lit_imdb.report.tables import (
    html_cell,
    html_table,
    markdown_cell,
    markdown_table,
)

EXTREMES = 10  # worst mistakes, and most confident right answers
_LABEL = ("neg", "pos")


class Panels:
    """Draws and logs; a panel that fails is left out and the others go on.

    Args:
        board: Where everything goes.
        net: The network.
        data: Parts and vocabulary.

    Attributes:
        tables: The last HTML table of each name.
        sentences: What the network said of the written sentences, by `epochs_trained`.
    """

    def __init__(self, board: Board, net: SentimentRNN, data: ImdbDataModule, guard: Guard) -> None:
        self.board, self.net, self.data, self.guard = board, net, data, guard
        self.tables: dict[str, str] = {}
        self.encoder = data.encoder
        self.sentences: dict[float, list[float]] = {}

    def prepare(self) -> None:
        """Draws what is the same in every epoch: 0.2 s, with the import of matplotlib."""
        with self.guard("the empty figures"):
            self._evaluation_sheet.begin("")
            self._trainability_sheet.begin("")

    def held_out(self, name: str, epoch: float, evaluation: Evaluation) -> None:
        """What the answers of one part say; `name` is val or test."""
        heading = f"{name}, epoch {epoch}: {len(evaluation.rows):,} reviews"
        with self.guard("curves"):
            self._curves(name, evaluation)
        with self.guard("the evaluation figure"):
            png = drawings.draw_evaluation(self._evaluation_sheet, heading, evaluation)
            self.board.picture(f"{name}/evaluation", png)
        with self.guard("the tables of reviews"):
            self._reviews(name, evaluation, self.data.parts[name])

    def validated(self, epoch: float) -> None:
        """What the weights of one validation say."""
        with self.guard("the written sentences"):
            self._written_sentences(epoch)
        with self.guard("the neighbours of words"):
            self._neighbours()
        with self.guard("the trainability figure"):
            self._trainability(epoch)
        with self.guard("the histograms of weights"):
            cells = enumerate(self.net.cells)
            weights = {f"cell{layer}.weight_hh": cell.weight_hh for layer, cell in cells}
            weights["head.weight"] = self.net.head.weight
            for name, weight in weights.items():
                values = weight.detach()
                self.board.writer.add_histogram(f"weights/{name}", values, self.board.step)

    def word_space(self) -> None:
        """The projector's files and a flat picture of the same words."""
        vectors, vocabulary = self._vectors, self.encoder.vocabulary
        shares = words.polarity(self.data.parts["train"], len(vocabulary))
        words.write_projector(self.board.folder, vectors, list(vocabulary), shares)
        frequent = slice(words.FIRST, words.FIRST + words.FREQUENT)
        id_of = self.encoder.id_of
        last = min(len(vocabulary), frequent.stop)
        names = {id_of[p] - words.FIRST: p for p in words.PROBES if id_of.get(p, last) < last}
        png = drawings.draw_words(words.plane(vectors), shares[frequent], names)
        self.board.picture("words/space", png)

    def _curves(self, name: str, evaluation: Evaluation) -> None:
        board, probabilities, labels = self.board, evaluation.probabilities, evaluation.labels
        board.writer.add_pr_curve(f"{name}/precision_recall", labels, probabilities, board.step)
        for label, word in enumerate(_LABEL):
            chosen = probabilities[labels == label]
            if len(chosen):
                board.writer.add_histogram(f"{name}/probability_{word}", chosen, board.step)
        board.scalar(f"{name}/calibration_error", evaluation.calibration_error())
        board.scalar(f"{name}/roc_auc", evaluation.roc_auc())

    def _reviews(self, name: str, evaluation: Evaluation, part: Part) -> None:
        """Tables of the worst mistakes and the surest right answers; HTML for the test part."""
        tables = {
            "mistakes": evaluation.extremes(EXTREMES, right=False),
            "confident": evaluation.extremes(EXTREMES, right=True),
        }
        chosen = [position for positions in tables.values() for position in positions]
        ids = evaluation.ids[chosen].int()  # (20, T)
        influence = influences(self.net, ids.to(self._device)).cpu()  # (20, T)
        each = dict(zip(chosen, zip(ids, influence, strict=True), strict=True))
        header = ["label", "said"]  # the probability of positive
        for title, positions in tables.items():
            plain, bold, coloured = [], [], []
            for position in positions:
                text = part.text(int(evaluation.rows[position]))
                read = attribution.words_of(self.encoder, text, *each[position])
                label = _LABEL[int(evaluation.labels[position])]
                start = [label, f"{evaluation.probabilities[position]:.3f}"]
                plain.append([*start, markdown_cell(text)])
                bold.append([*start, attribution.markdown_words(read)])
                if name == "test":
                    coloured.append([*start, attribution.html_words(read), html_cell(text)])
            tag = f"{name}/{title}"
            self.board.text(tag, markdown_table([*header, "end of the text"], plain))
            self.board.text(f"{tag}_influence", markdown_table([*header, "words read"], bold))
            wide = [*header, "words read, by influence", "end of the text"]
            self.tables[tag] = html_table(wide, coloured)

    def _written_sentences(self, epoch: float) -> None:
        ids = torch.from_numpy(self.encoder.encode([text for *_, text in SENTENCES])).int()
        with torch.no_grad():
            logits = self.net(ids.to(self._device), [None] * len(self.net.cells))
        self.sentences[epoch] = torch.sigmoid(logits.float()).tolist()
        shown = sorted(self.sentences)[-8:]
        header = ["label", *(f"ep {number}" for number in shown), "text"]
        rows: list[list[str]] = []
        for index, (kind, label, _) in enumerate(SENTENCES):
            said = [self.sentences[number][index] for number in shown]
            self.board.scalar(f"sentences/{index + 1}_{kind}_{_LABEL[label]}", said[-1])
            rows.append([_LABEL[label], *(f"{probability:.0%}" for probability in said)])
        texts = [f"{text} ({kind})" for kind, _, text in SENTENCES]
        self._log_table("sentences/probability_of_positive", header, rows, texts)

    def _neighbours(self) -> None:
        found = words.neighbours(self._vectors, list(self.encoder.vocabulary), count=6)
        rows = [[word] for word in found]
        nearest = [", ".join(near) for near in found.values()]
        self._log_table("words/neighbours", ["word", "nearest by cosine"], rows, nearest)

    def _log_table(
        self, tag: str, header: Sequence[str], rows: list[list[str]], texts: Sequence[str]
    ) -> None:
        """Logs one table in both notations; `texts` is its last column."""
        pairs = list(zip(rows, texts, strict=True))
        self.board.text(tag, markdown_table(header, [[*r, markdown_cell(t)] for r, t in pairs]))
        self.tables[tag] = html_table(header, [[*r, html_cell(t)] for r, t in pairs])

    def _trainability(self, epoch: float) -> None:
        ids, labels = self._fixed_batch
        found = trainability.look(self.net, ids.to(self._device), labels.to(self._device))
        for cell, norm in enumerate(trainability.spectral_norms(self.net)):
            self.board.scalar(f"trainability/spectral_norm_cell{cell}", norm)
        ratios = found.first_to_last()
        for cell, (ratio, flat) in enumerate(zip(ratios, found.saturated.mean(1), strict=True)):
            self.board.scalar(f"trainability/first_to_last_cell{cell}", ratio)
            self.board.scalar(f"trainability/saturation_cell{cell}", float(flat))
        heading = f"Trainability, epoch {epoch}: first gradient / last = " + " and ".join(
            f"{ratio:.2g}" for ratio in ratios
        )
        png = drawings.draw_trainability(self._trainability_sheet, heading, found)
        self.board.picture("trainability/through_time", png)

    @property
    def _device(self) -> torch.device:
        return self.net.head.weight.device

    @property
    def _vectors(self) -> Tensor:
        """The vectors of the vocabulary's words; the embedding may have rows to spare."""
        return self.net.embedding.weight[: len(self.encoder.vocabulary)].detach().cpu()

    @cached_property
    def _fixed_batch(self) -> tuple[Tensor, Tensor]:
        return trainability.fixed_batch(self.data.parts["val"])

    @cached_property
    def _evaluation_sheet(self) -> Sheet:
        return drawings.evaluation_sheet()

    @cached_property
    def _trainability_sheet(self) -> Sheet:
        return drawings.trainability_sheet(self.encoder.max_length)
