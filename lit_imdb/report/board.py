"""Where the review goes: TensorBoard's events and the files beside them."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from lit_imdb.report.figures import HEIGHT, WIDTH

LAYOUT = {
    "Training": {
        "loss": ["Multiline", ["train/loss", "val/loss"]],
        "accuracy": ["Multiline", ["train/acc", "val/acc"]],
        "learning rate": ["Multiline", ["train/lr"]],
        "reviews per second": ["Multiline", ["train/reviews_per_second"]],
    },
    "Can it learn": {
        "gradient norm before clipping": ["Multiline", ["train/gradient_norm"]],
        "spectral norm of W_hh": ["Multiline", ["trainability/spectral_norm_cell."]],
        "first hidden gradient / last": ["Multiline", ["trainability/first_to_last_cell."]],
        "saturated units": ["Multiline", ["trainability/saturation_cell."]],
    },
    "Held-out reviews": {
        "calibration error": ["Multiline", ["(val|test)/calibration_error"]],
        "area under the ROC curve": ["Multiline", ["(val|test)/roc_auc"]],
        "written sentences": ["Multiline", ["sentences/.*"]],
    },
}


class Board:
    """A run's TensorBoard writer and folder.

    Args:
        writer: The logger's.
        folder: The run folder.

    Attributes:
        step: The training step that everything is logged at; the owner keeps it up to date.
        pictures: The last PNG of each figure, by its tag.
    """

    def __init__(self, writer: SummaryWriter, folder: Path) -> None:
        self.writer = writer
        self.folder = folder
        self.step = 0
        self.pictures: dict[str, bytes] = {}

    def layout(self) -> None:
        self.writer.add_custom_scalars(LAYOUT)

    def scalar(self, tag: str, value: float) -> None:
        self.writer.add_scalar(tag, value, self.step)

    def text(self, tag: str, markdown: str) -> None:
        self.writer.add_text(tag, markdown, self.step)

    def picture(self, tag: str, png: bytes) -> None:
        """Logs a figure and writes it to `figures/`; `add_image` would encode it once more."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(height=HEIGHT, width=WIDTH, colorspace=3, encoded_image_string=png)
        events: Any = self.writer._get_file_writer  # what `add_image` itself calls
        events().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), self.step)
        self.pictures[tag] = png
        write(self.folder / "figures" / f"{tag.replace('/', '_')}_{self.step:06d}.png", png)


def write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    if not path.parent.is_dir():  # mkdir takes 3 ms even where there is nothing to make
        path.parent.mkdir(parents=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
