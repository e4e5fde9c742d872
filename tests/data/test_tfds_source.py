"""TFDS sets prepared in both file formats, from a builder of 103 tiny images."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from covering import covering

from mobilenets_jax.data import Layout, create_dataset, record_stream
from mobilenets_jax.data.fingerprint import TRAIN, difference
from mobilenets_jax.errors import UserError

ONE = Layout(0, 1, 1)
NUM_EXAMPLES = {'train': 103, 'validation': 7, 'test': 8}
NUM_SHARDS = 7  # In every split.
FORMATS = ('array_record', 'tfrecord')


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """Plain images whose red value is their number; green tells the split."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        features = {'label': tfds.features.ClassLabel(names=['a', 'b', 'c']), 'image': tfds.features.Image()}
        features['file_name'] = tfds.features.Text()
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=('image', 'label'))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in NUM_EXAMPLES}

    def _generate_examples(self, split):
        for number in range(NUM_EXAMPLES[split]):
            image = np.zeros((8, 8, 3), np.uint8)
            image[..., 0], image[..., 1] = number, len(split)
            yield number, {'image': image, 'label': number % 3, 'file_name': f'{number}.png'}


class OnlyTrain(TinyImages):
    """One split, and no word about which feature is the image."""

    FEATURES = {'image': tfds.features.Image(), 'id': tfds.features.Text()}
    LABEL = 'class'

    def _info(self):
        features = self.FEATURES | {self.LABEL: tfds.features.ClassLabel(names=['a', 'b', 'c'])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples('train')}

    def _generate_examples(self, split):
        for number, example in super()._generate_examples(split):
            fields = dict.fromkeys(self.FEATURES, example['image'])
            yield number, fields | {self.LABEL: example['label']} | ({'id': 'x'} if 'id' in fields else {})


class TwoImages(OnlyTrain):
    """Nothing says which image is meant."""

    FEATURES = {'image': tfds.features.Image(), 'thumbnail': tfds.features.Image()}


class TinyText(tfds.core.GeneratorBasedBuilder):
    """No image classification set."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({'text': tfds.features.Text()}))

    def _split_generators(self, dl_manager):
        return {'test': iter([(0, {'text': 'x'})])}

    def _generate_examples(self):
        raise NotImplementedError


@pytest.fixture(scope='session')
def prepared(tmp_path_factory):
    """File format -> TFDS data directory."""
    directories = {}
    for file_format in FORMATS:
        directories[file_format] = str(tmp_path_factory.mktemp(file_format))
        for builder_class, num_shards in (
            (TinyImages, NUM_SHARDS),
            (OnlyTrain, NUM_SHARDS),
            (TwoImages, 1),
            (TinyText, 1),
        ):
            builder = builder_class(data_dir=directories[file_format], file_format=file_format)
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=num_shards))
    return directories


def make(directory, batch_size=16, seed=0, **kwargs):
    arguments = {'color_distortion': 'none', 'train_crop': 'resize'} | kwargs
    return create_dataset(
        'tfds:tiny_images', directory=directory, image_size=8, batch_size=batch_size, seed=seed, **arguments
    )


def take(batches, count):
    """The first batches' rows, joined, without the two leading axes."""
    rows = [{key: value.reshape(-1, *value.shape[2:]) for key, value in next(batches).items()} for _ in range(count)]
    return {key: np.concatenate([batch[key] for batch in rows]) for key in rows[0]}


@pytest.mark.parametrize('file_format', FORMATS)
def test_dataset_describes_itself(prepared, file_format):
    dataset = make(prepared[file_format])
    assert (dataset.name, dataset.num_classes, dataset.class_names) == ('tfds:tiny_images', 3, ('a', 'b', 'c'))
    assert (dataset.num_train, dataset.num_eval) == (103, 7)
    assert make(prepared[file_format], eval_split='test').num_eval == 8


@pytest.mark.parametrize('file_format', FORMATS)
def test_every_epoch_holds_every_example_once_in_its_own_order(prepared, file_format):
    rows = take(make(prepared[file_format]).train_batches(ONE), 20)
    red, index = rows['image'][:, 0, 0, 0].astype(int), rows['index']
    assert np.array_equal(rows['label'], red % 3)
    number_of_index = {}
    orders = []
    for epoch in range(3):
        own = slice(epoch * 103, (epoch + 1) * 103)
        assert (rows['epoch'][own] == epoch).all()
        assert np.array_equal(np.sort(red[own]), np.arange(103))
        assert np.array_equal(np.sort(index[own]), np.arange(103))
        orders.append(index[own].tolist())
        for key, number in zip(index[own], red[own], strict=True):
            assert number_of_index.setdefault(key, number) == number  # The index stands for the example.
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize(
    ('file_format', 'processes', 'devices', 'start'), covering(FORMATS, [(1, 8, 0), (2, 2, 48), (4, 1, 101)])
)
def test_layout_and_restart_change_nothing(prepared, file_format, processes, devices, start):
    straight = take(make(prepared[file_format], train_crop='inception').train_batches(ONE), 16)
    parts = [
        take(
            make(prepared[file_format], train_crop='inception', num_threads=p + 1).train_batches(
                Layout(p, processes, devices), start=start
            ),
            8,
        )
        for p in range(processes)
    ]
    for key, value in straight.items():
        joined = np.stack([part[key].reshape(8, 16 // processes, *value.shape[1:]) for part in parts], axis=1)
        assert np.array_equal(joined.reshape(-1, *value.shape[1:]), value[start : start + 8 * 16]), key


@pytest.mark.parametrize(
    ('file_format', 'processes', 'devices', 'eval_split'),
    covering(FORMATS, [(1, 1), (4, 2), (2, 2)], ['train', 'validation', 'test']),
)
def test_evaluation_is_exact(prepared, file_format, eval_split, processes, devices):
    dataset = make(prepared[file_format], eval_split=eval_split)
    batches = [list(dataset.eval_batches(Layout(p, processes, devices))) for p in range(processes)]
    rows = [batch for step in zip(*batches, strict=True) for batch in step]
    mask = np.concatenate([batch['mask'].ravel() for batch in rows]) == 1
    images = np.concatenate([batch['image'].reshape(-1, 8, 8, 3) for batch in rows])[mask]
    label = np.concatenate([batch['label'].ravel() for batch in rows])[mask]
    red = images[:, 4, 4, 0].astype(int)
    assert np.array_equal(np.sort(red), np.arange(NUM_EXAMPLES[eval_split]))
    assert np.array_equal(label, red % 3)
    assert (images[:, 4, 4, 1] == len(eval_split)).all()


def test_stream_does_not_keep_the_order_of_the_shards(prepared, monkeypatch):
    """With a buffer smaller than the set, examples still come from several shards at a time."""
    monkeypatch.setattr(record_stream, 'SHUFFLE_BUFFER', 8)
    index = take(make(prepared['tfrecord']).train_batches(ONE), 2)['index']
    assert len(set(index // 15)) >= 6


def test_seed_changes_the_stream(prepared):
    first, second = (take(make(prepared['tfrecord'], seed=seed).train_batches(ONE), 2)['index'] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_unprepared_set_is_named_with_the_command(tmp_path):
    with pytest.raises(UserError) as error:
        create_dataset('tfds:imagenet2012', directory=str(tmp_path), image_size=8, batch_size=8, seed=0)
    assert str(error.value) == (
        f"data.name='tfds:imagenet2012' is not prepared in {tmp_path}. "
        f'To prepare it: tfds build imagenet2012 --data_dir={tmp_path} --file_format=array_record'
    )


def test_unknown_split_is_refused(prepared):
    with pytest.raises(UserError) as error:
        make(prepared['tfrecord'], eval_split='dev')
    assert str(error.value) == "data.eval_split='dev' is unknown. Known: test, train, validation."


def test_set_without_images_is_refused(prepared):
    with pytest.raises(UserError) as error:
        create_dataset('tfds:tiny_text', directory=prepared['tfrecord'], image_size=8, batch_size=8, seed=0)
    assert str(error.value) == (
        "data.name='tfds:tiny_text' is no set of images with one label each: it has text (Text)."
    )


def test_set_with_two_images_is_refused(prepared):
    with pytest.raises(UserError) as error:
        create_dataset('tfds:two_images', directory=prepared['tfrecord'], image_size=8, batch_size=8, seed=0)
    assert str(error.value) == (
        "data.name='tfds:two_images' is no set of images with one label each: "
        'it has class (ClassLabel), image (Image), thumbnail (Image).'
    )


def make_only_train(directory, **kwargs):
    arguments = {'image_size': 8, 'batch_size': 8, 'seed': 0, 'train_crop': 'resize', 'color_distortion': 'none'}
    return create_dataset('tfds:only_train', directory=directory, **(arguments | kwargs))


def numbers(batches, count=None):
    """The examples' numbers, which are their red values, in order."""
    rows = []
    for batch, _ in zip(batches, range(count or 1000), strict=False):
        mask = batch.get('mask', np.ones(batch['label'].shape)) == 1
        rows += batch['image'][..., 0, 0, 0][mask].tolist()
        assert (batch['label'][mask] == batch['image'][..., 0, 0, 0][mask] % 3).all()
    return rows


@pytest.mark.parametrize(
    ('file_format', 'train_split', 'eval_split', 'num_train'),
    covering(FORMATS, [('train[:80%]', 'train[80%:]', 82), ('train[10:20]+train[70:]', 'train[:10]+train[20:70]', 43)]),
)
def test_parts_of_a_split_are_trained_and_evaluated_on(
    prepared, file_format, train_split, eval_split, num_train, capsys
):
    dataset = make_only_train(prepared[file_format], train_split=train_split, eval_split=eval_split)
    assert (dataset.num_train, dataset.num_eval) == (num_train, 103 - num_train)
    assert capsys.readouterr().err == ''
    evaluated = numbers(dataset.eval_batches(ONE))
    epochs = -(-2 * num_train // 8)
    trained = numbers(dataset.train_batches(ONE), epochs)[: 2 * num_train]
    for epoch in (trained[:num_train], trained[num_train:]):
        assert sorted(epoch + evaluated) == list(range(103))
    assert trained[:num_train] != trained[num_train:]
    resumed = numbers(dataset.train_batches(ONE, start=num_train + 5), 3)
    assert resumed == numbers(dataset.train_batches(ONE), epochs + 4)[num_train + 5 :][:24]
    builder = tfds.builder('only_train', data_dir=prepared[file_format])
    if file_format == 'tfrecord':
        expected = builder.as_dataset(split=eval_split).as_numpy_iterator()
    else:
        expected = builder.as_data_source(split=eval_split)
    assert evaluated == [example['image'][0, 0, 0] for example in expected]


@pytest.mark.parametrize('file_format', FORMATS)
def test_broken_example_of_a_part_is_named(prepared, file_format):
    split = make_only_train(prepared[file_format], train_split='train[20:90]', eval_split='train[90:]')._train
    whole = make_only_train(prepared[file_format], eval_split='train').evaluation
    index_of = {whole.describe({'index': index}).partition(' (')[0]: index for index in range(103)}
    for index in (0, 12, 69):
        same = index_of[split.describe({'index': index}).partition(' (')[0]]
        assert same == index + 20
        images = [part.read(part.element(0, number))[0].numpy() for part, number in ((split, index), (whole, same))]
        assert images[0] == images[1]


def test_overlap_of_training_and_evaluation_is_said(prepared, capsys):
    make_only_train(prepared['tfrecord'], train_split='train[:60]', eval_split='train[40:]')
    assert capsys.readouterr().err == (
        "data.eval_split='train[40:]' and data.train_split='train[:60]' have 20 examples in common\n"
    )
    make_only_train(prepared['array_record'], eval_split='train[90:]')
    assert "data.train_split='train' have 13 examples in common" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('splits', 'message'),
    [
        (
            {},
            "data.name='tfds:only_train' has no split validation or test, only train: "
            "set e.g. data.train_split='train[:80%]' and data.eval_split='train[80%:]'.",
        ),
        ({'eval_split': 'train[:0]'}, "data.eval_split='train[:0]' has no examples."),
        ({'eval_split': 'train[:'}, "data.eval_split='train[:' is no part of train: "),
        ({'eval_split': 'dev[:10]'}, "data.eval_split='dev[:10]' is no part of train: "),
        ({'train_split': 'dev', 'eval_split': 'train'}, "data.train_split='dev' is unknown. Known: train."),
    ],
)
def test_parts_that_are_not_there_are_refused(prepared, splits, message):
    with pytest.raises(UserError) as error:
        make_only_train(prepared['tfrecord'], **splits)
    assert str(error.value).startswith(message) and '\n' not in str(error.value)


def damaged_copy(prepared, tmp_path, damage):
    """A TFRecord copy with one training shard's records rewritten by `damage`."""
    directory = tmp_path / 'tiny_images' / '1.0.0'
    tf.io.gfile.makedirs(str(directory))
    for file in tf.io.gfile.glob(f'{prepared["tfrecord"]}/tiny_images/1.0.0/*'):
        tf.io.gfile.copy(file, str(directory / file.rsplit('/', 1)[-1]))
    shard = str(directory / 'tiny_images-train.tfrecord-00003-of-00007')
    records = [record.numpy() for record in tf.data.TFRecordDataset(shard)]
    with tf.io.TFRecordWriter(shard) as writer:
        for record in damage(records):
            writer.write(record)
    return str(tmp_path)


def test_shard_that_was_cut_short_is_named(prepared, tmp_path):
    directory = damaged_copy(prepared, tmp_path, lambda records: records[:-2])
    for batches in (make(directory).train_batches(ONE), make(directory, eval_split='train').eval_batches(ONE)):
        with pytest.raises(
            UserError, match='/tiny_images-train.tfrecord-00003-of-00007 holds 13 records, but should hold 15.$'
        ):
            take(batches, 8)


def test_broken_image_is_named(prepared, tmp_path):
    png = b'\x89PNG'
    directory = damaged_copy(prepared, tmp_path, lambda records: [records[0].replace(png, b'\x00bad'), *records[1:]])
    message = r'/tiny_images-train.tfrecord-00003-of-00007 record 0 \(example 44\) cannot be read: '
    with pytest.raises(UserError, match=message):
        take(make(directory).train_batches(ONE), 8)


def test_missing_shard_is_named(prepared, tmp_path):
    directory = damaged_copy(prepared, tmp_path, lambda records: records)
    shard = f'{directory}/tiny_images/1.0.0/tiny_images-train.tfrecord-00005-of-00007'
    tf.io.gfile.remove(shard)
    with pytest.raises(UserError, match=f'^{shard} cannot be read: No such file or directory.$'):
        make(directory)


@pytest.mark.parametrize('file', ['dataset_info.json', 'features.json'])
@pytest.mark.parametrize(
    'content', ['', '{"name": "tiny', '[]', '{}', 'null', '{"splits": 3, "type": 5}', '[' * 100_000]
)
def test_a_broken_description_of_the_set_is_one_line(prepared, tmp_path, file, content):
    damaged_copy(prepared, tmp_path, lambda records: records)
    path = tmp_path / 'tiny_images' / '1.0.0' / file
    path.write_text(content)
    with pytest.raises(UserError, match=f"^data.name='tfds:tiny_images' cannot be read from {tmp_path}") as error:
        make(str(tmp_path))
    assert '\n' not in str(error.value) and len(str(error.value)) < 500


def test_fingerprints_are_of_the_shards_and_their_parts(prepared):
    first, again = (make(prepared['tfrecord']).fingerprints for _ in range(2))
    assert first == again and [count for _, count, _ in first[TRAIN]] == [
        part.take for part in make(prepared['tfrecord'])._train.parts
    ]
    parts = make_only_train(prepared['tfrecord'], train_split='train[:60]', eval_split='train[60:]').fingerprints
    other = make_only_train(prepared['tfrecord'], train_split='train[:61]', eval_split='train[61:]').fingerprints
    assert difference(parts[TRAIN], other[TRAIN]).startswith('61 examples, not 60; shard only_train-train.tfrecord-')
    shifted = make_only_train(prepared['tfrecord'], train_split='train[1:61]', eval_split='train[61:]').fingerprints
    assert difference(parts[TRAIN], shifted[TRAIN]).startswith('60 examples, as before; ')


class Cityscapes(tfds.core.GeneratorBasedBuilder):
    """The features of TFDS's own builder, of tiny images whose masks hold the ids 0 .. 33."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        features = {'image_id': tfds.features.Text(), 'image_left': tfds.features.Image(shape=(8, 16, 3))}
        features['segmentation_label'] = tfds.features.Image(shape=(8, 16, 1))
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(number) for split, number in (('train', 6), ('validation', 3))}

    def _generate_examples(self, number):
        for index in range(number):
            image, mask = np.full((8, 16, 3), 10 * index, np.uint8), cityscapes_ids(index)
            yield index, {'image_id': f'aachen_{index}', 'image_left': image, 'segmentation_label': mask}


class OldCityscapes(Cityscapes):
    """Without masks."""

    def _info(self):
        features = {'image_id': tfds.features.Text(), 'image_left': tfds.features.Image(shape=(8, 16, 3))}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, number):
        for key, example in super()._generate_examples(number):
            del example['segmentation_label']
            yield key, example


def cityscapes_ids(index):
    return ((np.arange(8 * 16) + 5 * index) % 34).reshape(8, 16, 1).astype(np.uint8)


@pytest.fixture(scope='module')
def cityscapes(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp('cityscapes'))
    Cityscapes(data_dir=directory, file_format='array_record').download_and_prepare()
    return directory


def test_cityscapes(cityscapes):
    arguments = {'directory': cityscapes, 'image_size': (8, 16), 'batch_size': 4, 'seed': 0}
    dataset = create_dataset('tfds:cityscapes', eval_size=(9, 17), **arguments)
    assert (dataset.num_train, dataset.num_eval, dataset.num_classes, len(dataset.palette)) == (6, 3, 19, 19)
    batch = {key: value[0] for key, value in next(dataset.eval_batches(ONE)).items()}
    assert batch['mask'].tolist() == [1, 1, 1, 0]
    found = {}
    for image, mask in zip(batch['image'][:3], batch['segmentation'][:3], strict=True):
        found[int(image[0, 0, 0]) // 10] = mask
        assert (mask[8:] == 255).all() and (mask[:, 16:] == 255).all()
    for index in range(3):
        ids = cityscapes_ids(index)[..., 0]
        mask = found[index][:8, :16]
        # road, sidewalk, sky, car and bicycle; unlabeled, parking, caravan and trailer
        assert [set(mask[ids == value]) for value in (7, 8, 23, 26, 33)] == [{0}, {1}, {10}, {13}, {18}]
        assert set(mask[np.isin(ids, (0, 9, 29, 30))]) == {255}
    train = next(dataset.train_batches(ONE))
    assert train['segmentation'].shape == (1, 4, 8, 16) and (train['segmentation'] < 19).any()


def test_cityscapes_with_images_that_are_too_large(cityscapes):
    dataset = create_dataset(
        'tfds:cityscapes', directory=cityscapes, image_size=8, batch_size=4, seed=0, eval_size=(8, 15)
    )
    with pytest.raises(UserError, match=r'record 0 \(example 0\) cannot be read: .*more than data.eval_size=\(8, 15\)'):
        next(dataset.eval_batches(ONE))


def test_cityscapes_without_masks(tmp_path):
    OldCityscapes(data_dir=str(tmp_path), file_format='array_record').download_and_prepare()
    (tmp_path / 'old_cityscapes').rename(tmp_path / 'cityscapes')
    with pytest.raises(UserError, match="^data.name='tfds:cityscapes' has no feature 'segmentation_label'.$"):
        create_dataset('tfds:cityscapes', directory=str(tmp_path), image_size=8, batch_size=4, seed=0)
