"""Networks as a reader may change them."""

from torch import nn

from lit_imdb.model.network import SentimentRNN


class ThreeCells(SentimentRNN):
    """One more layer, and nothing else is told of it."""

    def reset_parameters(self) -> None:
        self.cell2 = nn.RNNCell(self.cell1.hidden_size, self.cell1.hidden_size)
        super().reset_parameters()

    @property
    def cells(self) -> tuple[nn.RNNCell, ...]:
        return *super().cells, self.cell2
