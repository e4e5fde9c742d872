"""Data sets small enough to live in memory: read without TensorFlow, augmented on the device."""

from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from mobilenets_jax.data import order
from mobilenets_jax.data.dataset import AUGMENTATION, Dataset
from mobilenets_jax.data.fingerprint import Fingerprint
from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.data.order import Layout
from mobilenets_jax.errors import check

Arrays = tuple[np.ndarray, np.ndarray]

_HELD_OUT = 2**31  # an epoch that no run reaches: its permutation selects the held-out examples


class MemoryDataset(Dataset):
    """Two splits given as arrays."""

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        train: Arrays,
        evaluation: Arrays,
        augment: Callable[[jax.Array, jax.Array], jax.Array],
        options: DataOptions,
        fingerprints: Mapping[str, Fingerprint] | None = None,
    ):
        """Keeps the arrays.

        Args:
            name: as given to `create_dataset`.
            class_names: label to name.
            train: images uint8 [num_train, H, W, 3] and labels int32 [num_train].
            evaluation: the same for the evaluation split.
            augment: maps keys [n] and images uint8 [n, H, W, 3] to augmented images float32 [n, H, W, 3], still in
                [0, 255]; example i may depend on key i and image i alone.
            options: the choices that hold for every source.
            fingerprints: as of `Dataset`.
        """
        super().__init__(name, class_names, len(train[1]), len(evaluation[1]), options, fingerprints)
        self._train = train
        self._evaluation = evaluation
        self._augment = augment

    def holding_out(self, percent: float) -> 'MemoryDataset':
        """See `Dataset`."""
        images, labels = self._train
        count = round(percent / 100 * len(labels))
        check(0 < count < len(labels), 'search.held_out_percent', percent, f'are {count} of {len(labels)} images')
        drawn = order.permutation(self._options.seed, _HELD_OUT, len(labels))
        held_out, others = np.sort(drawn[:count]), np.sort(drawn[count:])
        return MemoryDataset(
            name=self.name,
            class_names=self.class_names,
            train=(images[others], labels[others]),
            evaluation=(images[held_out], labels[held_out]),
            augment=self._augment,
            options=self._options,
            fingerprints=self.fingerprints,
        )

    def _train_rows(self, layout: Layout, start: int) -> Iterator[dict[str, np.ndarray]]:
        images, labels = self._train
        options = self._options
        for epoch, index in order.train_rows(self.num_train, options, layout, start):
            yield {'image': images[index], 'label': labels[index], 'epoch': epoch, 'index': index}

    def _eval_rows(self, layout: Layout) -> Iterator[dict[str, np.ndarray]]:
        images, labels = self._evaluation
        for index in order.eval_rows(self.num_eval, self._options.batch_size, layout):
            yield {'image': images[index], 'label': labels[index]}

    def _device_augment(self, batch: dict[str, jax.Array]) -> jax.Array:
        return self._augment(self._keys(batch, AUGMENTATION), batch['image'])
