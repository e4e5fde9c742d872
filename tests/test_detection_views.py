"""How people see a batch of images with boxes."""

import pathlib
import sys

import numpy as np
import pytest

sys.path += [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parent / 'data')]

from boxes import CLASSES, write_coco  # noqa: E402

from configs import base  # noqa: E402
from mobilenets_jax.config import ConfigView  # noqa: E402
from mobilenets_jax.data import Layout  # noqa: E402
from mobilenets_jax.experiment import dataset_of  # noqa: E402
from mobilenets_jax.report.boxes import COLOURS  # noqa: E402
from mobilenets_jax.tasks.detection import Detection  # noqa: E402

ALONE = Layout(process_index=0, process_count=1, local_device_count=1)


@pytest.fixture(scope='module')
def seen(tmp_path_factory):
    """The config and the data set: nine images to learn, of which one has no box, and five to measure."""
    config = base.get_config('detection')
    config.image_size = (80, 120)
    config.data.name, config.data.dir = 'coco', str(write_coco(tmp_path_factory.mktemp('coco') / 'coco'))
    config.data.augmentation, config.data.random_flip = 'none', False
    view = ConfigView(config.to_dict())
    return view, dataset_of(view, batch_size=9)


def test_training_batch_has_its_boxes_and_the_anchors_that_they_match(seen):
    config, dataset = seen
    batch = {name: leaf[0] for name, leaf in next(dataset.train_batches(ALONE)).items()}
    view = Detection().view_batch(config, dataset, batch, train=True)
    assert view.images.shape == view.pictures.shape == (9, 80, 120, 3) and view.images.min() >= -1
    counts = batch['valid'].sum(axis=1)
    for title, count in zip(view.titles, counts, strict=True):
        boxes, anchors = (int(part.split()[0]) for part in title.split(', '))
        assert boxes == count and (anchors > 0) == (count > 0)
    assert f'none in 1 of 9 images; anchors: {dataset_anchors(config, dataset)},' in view.lines[0]
    listed = ', '.join(
        f'{name} {(batch["labels"][batch["valid"]] == n).sum()}' for n, name in enumerate(dataset.class_names)
    )
    assert view.lines[1] == f'boxes of: {listed}'
    first = int(np.flatnonzero(counts == 1)[0])
    box, label = batch['boxes'][first, 0], batch['labels'][first, 0]
    row, column = round((box[0] + box[2]) / 2 * 80), round(box[1] * 120)  # of the left edge
    assert view.pictures[first, row, column].tolist() == list(COLOURS[label])


def dataset_anchors(config, dataset):
    return len(Detection().create_model(config, dataset).anchors((80, 120)))


def test_evaluation_batch_has_the_objects_of_its_images_and_no_padding(seen):
    config, dataset = seen
    batch = {name: leaf[0] for name, leaf in next(dataset.eval_batches(ALONE, with_index=True)).items()}
    assert batch['mask'].sum() == 5 < len(batch['mask'])
    view = Detection().view_batch(config, dataset, batch, train=False)
    assert len(view.images) == len(view.pictures) == len(view.titles) == 5
    assert view.titles == [f'{len(image.labels)} objects' for image in dataset.annotations]
    assert CLASSES[0] in dataset.class_names and (view.pictures != batch['image'][:5]).any()
