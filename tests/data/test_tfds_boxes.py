"""COCO and Pascal VOC as TFDS's own builders have them, of tiny images, in both file formats."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from batches import hashes
from photos import photo

from mobilenets_jax.data import Layout, create_dataset
from mobilenets_jax.data.box_classes import BOX_CLASSES
from mobilenets_jax.errors import UserError

ONE = Layout(0, 1, 1)
SIZES = {'train': 9, 'validation': 5}
HEIGHT, WIDTH = 40, 60


def objects(number):
    """Boxes in parts of the image, and labels; the first one of three is a crowd, or difficult."""
    generator = np.random.default_rng(number)
    begin = generator.uniform(0, 0.6, (number % 4, 2))
    return np.concatenate([begin, begin + 0.3], axis=1).astype(np.float32), generator.integers(0, 20, number % 4)


class Boxes(tfds.core.GeneratorBasedBuilder):
    """The features that both have."""

    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name='2017')]
    NAMES = ()
    OBJECT_FEATURES = {}
    FEATURES = {}

    def _info(self):
        boxes = {'bbox': tfds.features.BBoxFeature(), 'label': tfds.features.ClassLabel(names=self.NAMES)}
        features = {'image': tfds.features.Image(encoding_format='jpeg'), 'image/filename': tfds.features.Text()}
        features |= {'objects': tfds.features.Sequence(boxes | self.OBJECT_FEATURES)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features | self.FEATURES))

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(100 * place, count) for place, (split, count) in enumerate(SIZES.items())
        }

    def _generate_examples(self, first, count):
        for number in range(first, first + count):
            boxes, labels = objects(number)
            rows = [
                {'bbox': tfds.features.BBox(*box), 'label': label, **self.of_object(place == 0 and len(labels) == 3)}
                for place, (box, label) in enumerate(zip(boxes, labels, strict=True))
            ]
            image = np.asarray(photo(number, size=(WIDTH, HEIGHT)))
            yield number, {'image': image, 'image/filename': f'{number}.jpg', 'objects': rows} | self.of_image(number)


class Coco(Boxes):
    NAMES = BOX_CLASSES['coco']
    OBJECT_FEATURES = {'id': np.int64, 'area': np.int64, 'is_crowd': np.bool_}
    FEATURES = {'image/id': np.int64}

    def of_object(self, flag):
        return {'id': 1, 'area': 17, 'is_crowd': flag}

    def of_image(self, number):
        return {'image/id': 7 * number}


class Voc(Boxes):
    NAMES = BOX_CLASSES['voc']
    OBJECT_FEATURES = {'is_truncated': np.bool_, 'is_difficult': np.bool_}

    def of_object(self, flag):
        return {'is_truncated': False, 'is_difficult': flag}

    def of_image(self, number):
        return {}


@pytest.fixture(scope='module', params=['array_record', 'tfrecord'])
def prepared(request, tmp_path_factory):
    directory = str(tmp_path_factory.mktemp(request.param))
    for builder_class in (Coco, Voc):
        builder = builder_class(config='2017', data_dir=directory, file_format=request.param)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))
    return directory


def make(directory, name='tfds:coco/2017', **choices):
    arguments = {'image_size': (32, 48), 'batch_size': 4, 'seed': 1, 'task': 'detection'} | choices
    return create_dataset(name, directory=directory, **arguments)


def by_number(dataset):
    return {int(image.name.removesuffix('.jpg')): image for image in dataset.annotations}


def test_coco(prepared):
    dataset = make(prepared)
    assert (dataset.num_train, dataset.num_eval, dataset.class_names) == (9, 5, BOX_CLASSES['coco'])
    assert len(dataset.annotations) == 5 and sorted(by_number(dataset)) == list(range(100, 105))
    for number, image in by_number(dataset).items():
        boxes, labels = objects(number)
        np.testing.assert_allclose(image.boxes, boxes * [HEIGHT, WIDTH, HEIGHT, WIDTH], rtol=1e-5)
        np.testing.assert_array_equal(image.labels, labels)
        assert (image.height, image.width, image.image_id) == (HEIGHT, WIDTH, 7 * number)
        assert (image.area == 17).all() and not image.difficult.any()
        assert image.crowd.tolist() == [place == 0 and len(labels) == 3 for place in range(len(labels))]
    assert make(prepared, coco_ids='sparse').num_classes == 90
    chosen = make(prepared, classes='voc')
    assert chosen.class_names == BOX_CLASSES['voc']
    labels = [image.labels for image in chosen.annotations]
    known = [BOX_CLASSES['coco'][label] for number in by_number(dataset) for label in objects(number)[1]]
    not_vocs = {'truck', 'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench'}
    assert sum(map(len, labels)) == sum(name not in not_vocs for name in known)


def test_voc(prepared):
    dataset = make(prepared, 'tfds:voc/2017')
    assert (dataset.num_train, dataset.num_eval, dataset.class_names) == (9, 5, BOX_CLASSES['voc'])
    for number, image in by_number(dataset).items():
        labels = objects(number)[1]
        assert image.difficult.tolist() == [place == 0 and len(labels) == 3 for place in range(len(labels))]
        assert not image.crowd.any()


@pytest.mark.parametrize(('name', 'choices'), [('tfds:coco/2017', {}), ('tfds:voc/2017', {'train_difficult': True})])
def test_training_batches(prepared, name, choices):
    """Crowds and difficult boxes are not learnt, unless these are asked for."""
    batches = make(prepared, name, augmentation='none', random_flip=False, max_boxes=5, **choices).train_batches(ONE)
    seen = {}
    for _ in range(5):
        batch = {key: value[0] for key, value in next(batches).items()}
        for row in range(4):
            count = batch['valid'][row].sum()
            seen[int(batch['index'][row])] = (batch['boxes'][row, :count], batch['labels'][row, :count])
            assert batch['valid'].shape == (4, 5) and (batch['boxes'][row, count:] == [0, 0, 1, 1]).all()
    assert sorted(seen) == list(range(9))
    expected = [objects(number) for number in range(9)]
    if not choices:
        expected = [(boxes[1:], labels[1:]) if len(labels) == 3 else (boxes, labels) for boxes, labels in expected]
    found = sorted((boxes.tolist(), labels.tolist()) for boxes, labels in seen.values())
    wanted = sorted((boxes.tolist(), labels.tolist()) for boxes, labels in expected)
    for (boxes, labels), (other, names) in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.reshape(boxes, (-1, 4)), np.reshape(other, (-1, 4)), atol=1e-6)
        assert labels == names


def test_batches_resume_and_evaluation_has_the_order_of_the_annotations(prepared):
    expected = hashes(lambda _: make(prepared), count=4)
    assert hashes(lambda _: make(prepared), start=2 * 4, count=2, processes=2) == expected[2:]
    dataset = make(prepared, image_size=(HEIGHT, WIDTH))
    batches = list(dataset.eval_batches(ONE, with_index=True))
    for batch in batches:
        for image, index, real in zip(*(batch[key][0] for key in ('image', 'index', 'mask')), strict=True):
            if real:
                number = int(dataset.annotations[int(index)].name.removesuffix('.jpg'))
                assert np.abs(image - np.asarray(photo(number, size=(WIDTH, HEIGHT))).astype(float)).mean() < 6


def test_more_boxes_than_the_most_name_the_record(prepared):
    dataset = make(prepared, max_boxes=1)
    with pytest.raises(
        UserError, match=r'\(example \d\) cannot be read: .*it has\] \[\d\] \[boxes, more than data.max_boxes=1'
    ) as error:
        for _, _ in zip(dataset.train_batches(ONE), range(4), strict=False):
            pass
    assert '\n' not in str(error.value)


def test_a_set_without_boxes_is_refused(tmp_path):
    class Images(Coco):
        OBJECT_FEATURES = {'id': np.int64, 'area': np.int64}

        def of_object(self, flag):
            return {'id': 1, 'area': 17}

    Images(config='2017', data_dir=str(tmp_path)).download_and_prepare()
    (tmp_path / 'images').rename(tmp_path / 'coco')
    with pytest.raises(UserError, match="^data.name='tfds:coco/2017' has no feature 'objects/is_crowd'.$"):
        make(str(tmp_path))
    with pytest.raises(UserError, match="^data.name='tfds:voc/2007' is not prepared in "):
        make(str(tmp_path), 'tfds:voc/2007')
    with pytest.raises(UserError, match="^data.name='tfds:kitti' is unknown. Known: coco, tfds:coco, "):
        make(str(tmp_path), 'tfds:kitti')
