"""What every classification data set offers to training and evaluation."""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from mobilenets_jax.data import augmentation, mixing, order
from mobilenets_jax.data.fingerprint import Fingerprint
from mobilenets_jax.data.options import Options
from mobilenets_jax.data.order import Layout
from mobilenets_jax.errors import UserError

# What the keys of an example are for: each kind of choice has its own.
AUGMENTATION, ERASING, MIXING = range(3)


class Dataset(abc.ABC):
    """A training and an evaluation split that are read in exact, resumable batches.

    A batch is a dict of NumPy arrays with leading [local_devices, per_device]: 'image' uint8 [..., H, W, 3] and 'label'
    int32; in training also 'epoch' and 'index' (the example within the training set), both int32; in evaluation also
    'mask', float32, 1 for an example and 0 for padding.

    Attributes:
        name: as given to `create_dataset`.
        class_names: label to name, in label order.
        num_classes: how many labels there are.
        num_train: examples in the training split; 0 if there is only an evaluation split.
        num_eval: examples in the evaluation split.
        image_size: height and width of the images, in pixels.
        fingerprints: of the splits that there are, by `fingerprint.TRAIN` and `EVALUATION`; {} where there are no data.
        eval_names: what the evaluation examples are called, such as the paths of their files, in their order; None:
            they have an index alone.
    """

    eval_names: Sequence[str] | None = None

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        num_train: int,
        num_eval: int,
        options: Options,
        fingerprints: Mapping[str, Fingerprint] | None = None,
    ):
        self.name = name
        self.class_names = class_names
        self.num_classes = len(class_names)
        self.num_train = num_train
        self.num_eval = num_eval
        self.image_size = options.image_size
        self.fingerprints = dict(fingerprints or {})
        self._options = options

    def train_batches(self, layout: Layout, *, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Yields this process's part of the global batches, for ever.

        Args:
            layout: who reads which rows.
            start: position in the training stream of the first example: a run that has consumed `start` examples goes
                on with exactly the batches it would have seen.

        Raises:
            UserError: there is no training split, or batch_size does not divide over all devices.
        """
        if not self.num_train:
            raise UserError(f'data.name={self.name!r} has no training split: it can only be evaluated.')
        layout.rows(self._options.batch_size)  # Raises here rather than at the first batch.
        return map(layout.split_over_devices, self._train_rows(layout, start))

    def eval_batches(self, layout: Layout, *, with_index: bool = False) -> Iterator[dict[str, np.ndarray]]:
        """Yields every evaluation example exactly once, in order, in as many batches on every process.

        Args:
            layout: who reads which rows.
            with_index: whether the batches have the field 'index', int32: the example within the evaluation set.

        Raises:
            UserError: batch_size does not divide over all devices.
            RuntimeError: the source gave more or fewer examples than it has.
        """
        layout.rows(self._options.batch_size)
        return map(layout.split_over_devices, self._padded_eval_rows(layout, with_index))

    def device_preprocess(self, batch: dict[str, jax.Array], *, train: bool) -> jax.Array:
        """Normalised images, float32 [n, H, W, 3], of one device's batch; pure JAX, to be called inside the step."""
        options = self._options
        images = batch['image']
        if not train:
            return augmentation.normalize(images, options.normalization)
        images = augmentation.normalize(self._device_augment(batch), options.normalization)
        if options.random_erasing:
            keys, noise = self._keys(batch, ERASING), options.random_erasing_fill == 'noise'
            images = augmentation.random_erasing(keys, images, probability=options.random_erasing, noise=noise)
        return images

    @property
    def device_mix(self) -> Callable[[dict[str, jax.Array], jax.Array], tuple[jax.Array, jax.Array, jax.Array]] | None:
        """From a device's training batch and its preprocessed images to what `mixing.mix` returns; None: no mixing."""
        options = self._options
        if not options.mixup_alpha and not options.cutmix_alpha:
            return None

        return lambda batch, images: mixing.mix(self._keys(batch, MIXING), images, batch['label'], options)

    def _keys(self, batch: dict[str, jax.Array], purpose: int) -> jax.Array:
        """One key per example, [n], for what `purpose` says."""
        keys = augmentation.example_keys(self._options.seed, batch['epoch'], batch['index'])
        return keys if purpose == AUGMENTATION else jax.vmap(jax.random.fold_in, (0, None))(keys, purpose)

    def _device_augment(self, batch: dict[str, jax.Array]) -> jax.Array:
        """The training images augmented on the device, still in [0, 255]; those from the host are augmented already."""
        return batch['image']

    def _padded_eval_rows(self, layout: Layout, with_index: bool) -> Iterator[dict[str, np.ndarray]]:
        size, batch_size = self.image_size, self._options.batch_size
        rows = len(layout.rows(batch_size))
        nothing = {'image': np.zeros((0, size, size, 3), np.uint8), 'label': np.zeros(0, np.int32)}
        batches = self._eval_rows(layout)
        for index in order.eval_rows(self.num_eval, batch_size, layout):
            batch = next(batches, nothing) if len(index) else nothing
            if len(batch['label']) != len(index):
                raise RuntimeError(f'{self.name}: expected {len(index)} evaluation examples, got {len(batch["label"])}')
            yield order.pad(batch | {'index': index} if with_index else batch, rows)

    @abc.abstractmethod
    def _train_rows(self, layout: Layout, start: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields for ever this process's rows [rows, ...] of each global training batch from position `start` on."""

    @abc.abstractmethod
    def _eval_rows(self, layout: Layout) -> Iterator[dict[str, np.ndarray]]:
        """Yields this process's real rows, 'image' and 'label' [<= rows, ...], of each global evaluation batch."""
