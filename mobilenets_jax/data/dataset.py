"""What every data set offers to training and evaluation."""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from mobilenets_jax.data import augmentation, mixing, order
from mobilenets_jax.data.annotations import Annotations
from mobilenets_jax.data.example_format import (
    EVAL_FIELDS,
    TRAIN_FIELDS,
    Signature,
    classification_signature,
    no_examples,
)
from mobilenets_jax.data.fingerprint import Fingerprint
from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.data.order import Layout
from mobilenets_jax.errors import UserError

# The purposes of the random keys of an example: each kind of choice has its own key.
AUGMENTATION, ERASING, MIXING = range(3)


class Dataset(abc.ABC):
    """A training and an evaluation split that are read in exact, resumable batches.

    A batch is a dict of NumPy arrays with leading [local_devices, per_device]: 'image' uint8 [..., H, W, 3], and what
    the task learns from it, such as 'label' int32; in training also 'epoch' and 'index' (the example within the
    training set), both int32; in evaluation also 'mask', float32, 1 for an example and 0 for padding.

    Attributes:
        name: as given to `create_dataset`.
        class_names: label to name, in label order.
        num_classes: how many labels there are.
        num_train: examples in the training split; 0 if there is only an evaluation split.
        num_eval: examples in the evaluation split.
        image_size: as in `DataOptions`.
        train_signature: shape and dtype of the fields of a training example, without the leading axes of a batch.
        eval_signature: the same of an evaluation example; images may have another size than in training.
        fingerprints: of the existing splits, by `fingerprint.TRAIN` and `EVALUATION`; {} if there are no data.
        eval_names: what the evaluation examples are called, such as the paths of their files, in their order; None:
            they have an index alone.
        annotations: of sets of boxes, the objects of each evaluation example, in their order; None of other sets.
        numbered_classes: whether the names of the classes are the labels themselves, '0', '1', ..., of a network whose
            classes have other names.
        real_labels: ReaL's labels of each evaluation example, in their order; None: they were not asked for.
        palette: of classes of pixels, the colour that each is drawn in, RGB in 0 .. 255; None of classes of images.
    """

    eval_names: Sequence[str] | None = None
    annotations: Sequence[Annotations] | None = None
    numbered_classes: bool = False
    real_labels: Sequence[frozenset[int]] | None = None
    palette: Sequence[tuple[int, int, int]] | None = None

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        num_train: int,
        num_eval: int,
        options: DataOptions,
        fingerprints: Mapping[str, Fingerprint] | None = None,
        signature: Callable[[bool], Signature] | None = None,
    ):
        """Stores its arguments.

        Args:
            name: see the class, as for all that is not said here.
            class_names: as well.
            num_train: as well.
            num_eval: as well.
            options: the choices that hold for every source.
            fingerprints: None: there are no data.
            signature: the fields of an example that the source gives in training (True) and in evaluation, as in
                `ExampleFormat`; None: those of a classified image.
        """
        signature = signature or (lambda train: classification_signature(options.image_size))
        self.train_signature = signature(True) | TRAIN_FIELDS
        self._eval_fields = signature(False)
        self.eval_signature = self._eval_fields | EVAL_FIELDS
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
                on with exactly the batches of an uninterrupted run.

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

    def holding_out(self, percent: float) -> 'Dataset':
        """The same data with this percentage of the training examples as the evaluation set.

        Which ones depends on the seed alone. They are prepared as evaluation examples are.

        Raises:
            UserError: the source cannot, or it would leave one of both sets empty.
        """
        raise UserError(
            f'data.name={self.name!r} cannot hold training images out. Take search.held_out_percent=0, and for '
            "data.train_split and data.eval_split two parts of them, such as 'train[:95%]' and 'train[95%:]' of TFDS."
        )

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
        batch_size = self._options.batch_size
        rows = len(layout.rows(batch_size))
        nothing = no_examples(self._eval_fields)
        batches = self._eval_rows(layout)
        for index in order.eval_rows(self.num_eval, batch_size, layout):
            batch = next(batches, nothing) if len(index) else nothing
            count = len(next(iter(batch.values())))
            if count != len(index):
                raise RuntimeError(f'{self.name}: expected {len(index)} evaluation examples, got {count}')
            yield order.pad(batch | {'index': index} if with_index else batch, rows)

    @abc.abstractmethod
    def _train_rows(self, layout: Layout, start: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields for ever this process's rows [rows, ...] of each global training batch from position `start` on."""

    @abc.abstractmethod
    def _eval_rows(self, layout: Layout) -> Iterator[dict[str, np.ndarray]]:
        """Yields this process's real rows [<= rows, ...] of each global evaluation batch, without a 'mask'."""
