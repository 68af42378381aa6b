"""A picture of test images with a classifier's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmv2m.registry import HOOKS

from .figure import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['PredictionSheetHook']


class Prediction(NamedTuple):
    """One test image, (H, W, 3) uint8 in RGB, its label, the predicted label, and its score."""

    image: np.ndarray
    truth: int
    label: int
    score: float


@HOOKS.register_module()
class PredictionSheetHook(Hook):
    """Paint a sheet of test images with their predictions, the wrong ones first.

    Under test-time augmentation an image is shown as its first view, with the merged prediction.

    Args:
        num_images: Images on the sheet. Defaults to 40.
        columns: Images in a row. Defaults to 8.
        filename: Name of the picture in the work dir. Defaults to ``'predictions.png'``.

    Raises:
        ImportError: If matplotlib is missing.
    """

    def __init__(
        self, num_images: int = 40, columns: int = 8, filename: str = 'predictions.png'
    ) -> None:
        require_matplotlib('PredictionSheetHook')  # before the test, not after it
        self.num_images = num_images
        self.columns = columns
        self.filename = filename
        self._wrong: list[Prediction] = []
        self._right: list[Prediction] = []

    def before_test(self, runner: Runner) -> None:
        """Forget an earlier test."""
        self._wrong, self._right = [], []

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Keep the batch's images as long as the sheet has room for them."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        inputs = data_batch['inputs']
        if isinstance(model, BaseTTAModel):
            model, inputs = model.module, inputs[0]
        # Images are BGR if the preprocessor turns them into RGB. Other images are RGB already.
        step = -1 if getattr(model.data_preprocessor, 'to_rgb', False) else 1
        for image, sample in zip(inputs, outputs, strict=True):
            # Merged views have a merged score, but the first view's label.
            truth, label = int(sample.gt_label[0]), int(sample.pred_score.argmax())
            kept = self._right if truth == label else self._wrong
            if len(kept) < self.num_images:
                pixels = image.permute(1, 2, 0).to('cpu').numpy().astype(np.uint8)
                score = float(sample.pred_score[label])
                kept.append(Prediction(pixels[..., ::step], truth, label, score))

    @master_only
    def after_test(self, runner: Runner) -> None:
        """Paint the sheet."""
        shown = (self._wrong + self._right)[: self.num_images]
        if not shown:
            return
        classes = runner.test_dataloader.dataset.metainfo.get('classes')
        path = Path(runner.work_dir, self.filename)
        draw_sheet(shown, classes, self.columns).savefig(path)
        runner.logger.info(f'A sheet of predictions, wrong ones first, is in {path}')


def draw_sheet(
    predictions: Sequence[Prediction], classes: Sequence[str] | None, columns: int
) -> Figure:
    """Draw images in rows with predicted labels and scores. Wrong ones are red, with the truth."""
    rows = -(-len(predictions) // columns)
    figure = require_matplotlib('PredictionSheetHook')(
        figsize=(1.4 * columns, 1.75 * rows), layout='constrained', dpi=120
    )
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, p in zip(grid, predictions, strict=False):
        names = classes or [str(i) for i in range(1 + max(p.truth, p.label))]
        right = p.truth == p.label
        text = f'{names[p.label]}  {p.score:.0%}'
        axes.imshow(p.image, interpolation='nearest')
        axes.set_title(
            text if right else f'{text}\nis {names[p.truth]}',
            fontsize=9,
            color='black' if right else 'crimson',
        )
    return figure
