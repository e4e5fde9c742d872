"""Sets of images and masks as files: what is found, what is read, and what is refused in one line."""

import json
import os
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from batches import global_batches, hashes
from masks import SIZE, values, write_camvid, write_pair
from photos import photo
from PIL import Image

from mobilenets_jax.data import Layout, create_dataset, index_file, mask_index
from mobilenets_jax.data.class_sets import CLASS_SETS, IGNORED, voc_colour
from mobilenets_jax.data.fingerprint import EVALUATION, TRAIN, difference
from mobilenets_jax.data.mask_index import INDEX_FILE
from mobilenets_jax.errors import UserError

SHARED = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')) / 'data'
ONE = Layout(0, 1, 1)
HEIGHT, WIDTH = SIZE[::-1]


def make(directory, name='mask_folder', **choices):
    fields = {'classes': 'camvid'} if name == 'mask_folder' and 'class_names' not in choices else {}
    arguments = {'image_size': (32, 48), 'batch_size': 4, 'seed': 1} | fields | choices
    return create_dataset(name, directory=str(directory), **arguments)


def refused(directory, name='mask_folder', **choices):
    """The line that ends the run, with ROOT for the folder."""
    with pytest.raises(UserError) as error:
        make(directory, name, **choices)
    assert '\n' not in str(error.value)
    return str(error.value).replace(str(directory), 'ROOT')


def evaluated(dataset):
    """All evaluation examples, without padding."""
    batches = [{key: value[0] for key, value in batch.items()} for batch in dataset.eval_batches(ONE)]
    return {key: np.concatenate([batch[key][batch['mask'] > 0] for batch in batches]) for key in batches[0]}


@pytest.fixture(scope='module')
def camvid(tmp_path_factory):
    return write_camvid(tmp_path_factory.mktemp('camvid'))


@pytest.fixture
def folder(camvid, tmp_path):
    return shutil.copytree(camvid, tmp_path / 'copy')


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    """Palette masks, two lists, and an image of another size that is in neither."""
    root = tmp_path_factory.mktemp('voc')
    for seed in range(7):
        write_pair(root / 'JPEGImages', root / 'SegmentationClass', f'2007_{seed:06}', seed, count=21)
        mask = Image.fromarray(values(seed, 21))
        mask.putpalette([component for index in range(256) for component in voc_colour(index)])
        mask.save(root / 'SegmentationClass' / f'2007_{seed:06}.png')
    photo(9, size=(20, 20)).save(root / 'JPEGImages' / '2007_000009.jpg')
    lists = root / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('2007_000003\n2007_000001\n2007_000004\n2007_000005\n')
    (lists / 'val.txt').write_text('2007_000006\n2007_000000\n2007_000002')
    return root


@pytest.fixture(scope='module')
def cityscapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('cityscapes')
    for split, cities in (('train', ('aachen', 'bochum')), ('val', ('lindau',))):
        for city in cities:
            for seed in range(3):
                stem = f'{city}_{seed:06}_000019'
                images, masks = (root / part / split / city for part in ('leftImg8bit', 'gtFine'))
                write_pair(images, masks, stem, seed, count=34, suffix='.png')
                (images / f'{stem}.png').rename(images / f'{stem}_leftImg8bit.png')
                (masks / f'{stem}.png').rename(masks / f'{stem}_gtFine_labelIds.png')
                photo(0, size=SIZE).save(masks / f'{stem}_gtFine_color.png')
                (masks / f'{stem}_gtFine_polygons.json').write_text('{}')
    return root


def test_a_folder_as_camvid_has_it(camvid):
    dataset = make(camvid)
    assert (dataset.name, dataset.num_train, dataset.num_eval, dataset.num_classes) == ('mask_folder', 9, 5, 11)
    assert dataset.class_names == CLASS_SETS['camvid'].names and dataset.palette == CLASS_SETS['camvid'].palette
    assert dataset.train_signature['image'].shape == (32, 48, 3)
    assert dataset.eval_signature['segmentation'].shape == (HEIGHT, WIDTH)  # the largest of the evaluation set
    assert make(camvid, eval_split='test').num_eval == 2
    square = make(camvid, image_size=(48,))  # as the command line gives one number
    assert square.train_signature['image'].shape == (48, 48, 3)


def test_evaluation_images_are_whole_and_padded(camvid):
    dataset = make(camvid, eval_size=(49, 65), normalization='imagenet')
    found = evaluated(dataset)
    assert {key: (value.shape, value.dtype) for key, value in found.items()} == {
        'image': ((5, 49, 65, 3), np.uint8), 'segmentation': ((5, 49, 65), np.uint8), 'mask': ((5,), np.float32)
    }  # fmt: skip
    for number, path in enumerate(dataset.eval_names):
        difference = np.abs(found['image'][number, :HEIGHT, :WIDTH].astype(int) - np.asarray(Image.open(path)))
        assert difference.max() <= 1
        expected = values(50 + number, 12)
        real = found['segmentation'][number, :HEIGHT, :WIDTH]
        np.testing.assert_array_equal(real, np.where(expected == 11, IGNORED, expected))
    for field, fill in (('image', (124, 116, 104)), ('segmentation', IGNORED)):  # the mean of ImageNet, rounded
        assert (found[field][:, HEIGHT:] == fill).all() and (found[field][:, :, WIDTH:] == fill).all()


def test_resized_evaluation_images_know_where_their_masks_lie(camvid):
    dataset = make(camvid, eval_resize=30)
    found = evaluated(dataset)
    assert {key: (value.shape[1:], value.dtype) for key, value in found.items()} == {
        name: (field.shape, field.dtype) for name, field in dataset.eval_signature.items()
    }
    assert found['image'].shape == (5, 30, 30, 3) and found['segmentation'].shape == (5, HEIGHT, WIDTH)
    assert (found['image'][:, 20:] == 128).all()
    assert (found['rows'] == np.arange(40) // 2).all() and (found['columns'] == np.arange(60) // 2).all()
    np.testing.assert_array_equal(found['segmentation'], evaluated(make(camvid))['segmentation'])


def test_training_batches(camvid):
    dataset = make(camvid)
    for batch in global_batches(lambda _: dataset, count=3):
        assert set(batch) == {'image', 'segmentation', 'epoch', 'index'}
        assert set(np.unique(batch['segmentation'])) <= {*range(11), IGNORED}
    views = np.asarray(dataset.device_preprocess(batch, train=True))
    np.testing.assert_allclose(views, batch['image'] / 127.5 - 1, atol=1e-6)
    assert dataset.device_mix is None


@pytest.mark.parametrize('augmentation', ['deeplab', 'torchvision'])
def test_batches_do_not_depend_on_the_layout_and_resume(camvid, augmentation):
    choices = {'augmentation': augmentation} | ({'base_size': 40} if augmentation == 'torchvision' else {})
    expected = hashes(lambda _: make(camvid, **choices), count=5)
    assert len(set(expected)) == 5
    assert hashes(lambda p: make(camvid, num_threads=1 + p, **choices), processes=2, devices=2, count=5) == expected
    assert hashes(lambda _: make(camvid, **choices), start=3 * 4, count=2) == expected[3:]


def test_evaluation_is_exact_on_many_processes(camvid):
    expected = evaluated(make(camvid))
    parts = [
        [batch for batch in make(camvid).eval_batches(Layout(process, 2, 2), with_index=True)] for process in range(2)
    ]
    rows = {}
    for batch in (batch for part in parts for batch in part):
        for index, real, mask in zip(
            *(batch[key].reshape(2, *batch[key].shape[2:]) for key in ('index', 'mask', 'segmentation')), strict=True
        ):
            if real:
                assert rows.setdefault(int(index), mask) is mask  # each once
    assert sorted(rows) == list(range(5))
    for index, mask in rows.items():
        np.testing.assert_array_equal(mask, expected['segmentation'][index])


def test_voc_reads_indices_of_palette_masks_in_the_order_of_its_lists(voc):
    dataset = make(voc, 'voc')
    assert (dataset.num_train, dataset.num_eval, dataset.class_names) == (4, 3, CLASS_SETS['voc'].names)
    assert dataset.eval_signature['image'].shape == (513, 513, 3)
    found = evaluated(make(voc, 'voc', eval_size=(40, 60)))
    assert [os.path.basename(path) for path in dataset.eval_names] == [f'2007_{seed:06}.jpg' for seed in (6, 0, 2)]
    for mask, seed in zip(found['segmentation'], (6, 0, 2), strict=True):
        np.testing.assert_array_equal(mask, values(seed, 21))


def test_training_on_two_splits(camvid, voc, tmp_path):
    dataset = make(camvid, train_split='train+test', eval_split='val')
    assert (dataset.num_train, dataset.num_eval) == (11, 5)
    assert difference(make(camvid, eval_split='val').fingerprints[TRAIN], dataset.fingerprints[TRAIN])
    assert refused(camvid, train_split='train+train') == "data.train_split='train+train' names a split twice."
    assert refused(camvid, train_split='train+x') == "data.train_split='x' is unknown. Known: test, train, val."
    shutil.copytree(camvid / 'val', tmp_path / 'val+more')
    shutil.copytree(camvid / 'valannot', tmp_path / 'val+moreannot')
    assert make(tmp_path, eval_split='val+more').num_eval == 5  # the name of one split
    lists = voc / 'ImageSets' / 'Segmentation'
    first = (lists / 'train.txt').read_text().split()[0]
    (lists / 'more.txt').write_text(first + '\n')
    try:
        line = f"data.train_split='train+more' has ROOT/JPEGImages/{first}.jpg 2 times."
        assert refused(voc, 'voc', train_split='train+more') == line
    finally:
        (lists / 'more.txt').unlink()


def test_cityscapes_maps_ids_to_train_ids(cityscapes):
    dataset = make(cityscapes, 'cityscapes')
    assert (dataset.num_train, dataset.num_eval, dataset.num_classes) == (6, 3, 19)
    assert dataset.eval_signature['segmentation'].shape == (1025, 2049)
    found = evaluated(make(cityscapes, 'cityscapes', eval_size=(HEIGHT, WIDTH)))
    for seed, mask in enumerate(found['segmentation']):
        ids = values(seed, 34)
        assert (mask[ids == 26] == 13).all() and (mask[ids == 9] == IGNORED).all()  # car; parking
        np.testing.assert_array_equal(mask, CLASS_SETS['cityscapes'].train_ids()[ids])


def test_masks_may_lie_in_any_folder(camvid, tmp_path):
    shutil.copytree(camvid / 'val', tmp_path / 'images')
    shutil.copytree(camvid / 'valannot', tmp_path / 'void_is_eleven')
    dataset = make(tmp_path, mask_dir='void_is_eleven', eval_split='images')
    assert (dataset.num_train, dataset.num_eval) == (0, 5)
    with pytest.raises(UserError, match='has no training split'):
        dataset.train_batches(ONE)
    line = refused(tmp_path)
    assert line == (
        "data.dir='ROOT' has no folder with masks in 'NAMEannot' beside it; it has images, void_is_eleven. "
        'data.mask_dir says where masks are.'
    )
    assert refused(tmp_path, mask_dir='void_is_eleven') == "data.eval_split='' is unknown. Known: images."


def test_own_classes(folder):
    names = tuple(f'class {index}' for index in range(12))
    dataset = make(folder, class_names=names)
    assert dataset.class_names == names
    assert 11 in np.unique(evaluated(dataset)['segmentation'])
    dataset = make(folder, class_names=names[:2], remap=((11, 0), (10, 1)), ignore_labels=tuple(range(2, 10)))
    assert set(np.unique(evaluated(dataset)['segmentation'])) == {0, 1, IGNORED}


def colour(file):
    Image.open(file).convert('RGB').save(file)


def other_size(file):
    Image.fromarray(values(0, size=(50, 40))).save(file)


def unknown_value(file):
    Image.fromarray(np.full((HEIGHT, WIDTH), 200, np.uint8)).save(file)


def jpeg(file):
    Image.open(file).save(file, format='jpeg')


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-20])


MASK = 'ROOT/trainannot/004.png'


@pytest.mark.parametrize(
    ('damage', 'line'),
    [
        (
            colour,
            f'{MASK} is no mask: its pixels are colours (RGB), where the indices of classes are asked for.',
        ),
        (other_size, f'{MASK} has 40x50 pixels, but ROOT/train/004.jpg has 40x60.'),
        (
            unknown_value,
            f'{MASK} has the value 200, which is none of the 11 classes, nor ignored; '
            'see data.ignore_labels and data.remap.',
        ),
        (pathlib.Path.unlink, f'ROOT/train/004.jpg has no mask {MASK}.'),
        (
            jpeg,
            f'{MASK} is no mask: masks are PNG files; this one begins with '
            "b'\\xff\\xd8\\xff\\xe0\\x00\\x10JFIF\\x00\\x01'.",
        ),
        (cut_short, f'{MASK} is no mask: Invalid PNG: the checksum of its chunk IDAT is wrong.'),
        (lambda file: file.write_bytes(b''), f'{MASK} is no mask: Input is empty.'),
    ],
    ids=['colour', 'size', 'value', 'missing', 'JPEG', 'cut short', 'empty'],
)
def test_a_wrong_mask_is_one_line(folder, damage, line):
    damage(folder / 'trainannot' / '004.png')
    assert refused(folder) == line


def test_more_classes_than_are_named(folder):
    line = refused(folder, class_names=('a', 'b'))
    assert line.startswith('ROOT/trainannot/000.png has the value 2, 3, 4, 5, 6, ..., which is none of the 2 classes')


def test_images_larger_than_the_evaluation_size(camvid):
    line = refused(camvid, eval_size=(49, 48))
    assert line == 'ROOT/val/050.jpg has 40x60 pixels (height x width), more than data.eval_size=(49, 48).'


@pytest.mark.parametrize(
    ('choices', 'message'),
    [
        ({'image_size': 0}, 'image_size=0 must be a positive number of pixels, or a pair of them (height, width).'),
        (
            {'image_size': (3, 4, 5)},
            'image_size=(3, 4, 5) must be a positive number of pixels, or a pair of them (height, width).',
        ),
        (
            {'eval_size': (3, 0)},
            'data.eval_size=(3, 0) must be a positive number of pixels, or a pair of them (height, width).',
        ),
        ({'augmentation': 'slim'}, "data.augmentation='slim' is unknown. Known: deeplab, torchvision."),
        ({'min_scale': 0.0}, 'data.min_scale=0.0 must be positive.'),
        ({'max_scale': 0.4}, 'data.max_scale=0.4 must not be less than data.min_scale=0.5.'),
        ({'scale_step': -1.0}, 'data.scale_step=-1.0 must not be negative.'),
        ({'base_size': 0}, 'data.base_size=0 must be positive.'),
        ({'eval_resize': -1}, 'data.eval_resize=-1 must not be negative.'),
        (
            {'task': 'classification'},
            "data.name='mask_folder' is unknown. Known: digits, image_folder, memory_folder, records, tfds:NAME.",
        ),
    ],
)
def test_wrong_values(camvid, choices, message):
    assert refused(camvid, **choices) == message


def test_what_is_missing_is_named(voc, cityscapes, tmp_path):
    with pytest.raises(UserError, match="^data.dir='' must name the folder of images and masks.$"):
        make('', 'voc')
    (tmp_path / 'empty').mkdir()
    assert refused(tmp_path / 'empty', 'voc') == (
        'data.dir: cannot list ROOT/ImageSets/Segmentation: No such file or directory.'
    )
    assert refused(tmp_path / 'empty', 'cityscapes') == 'data.dir: cannot list ROOT/gtFine: No such file or directory.'
    copy = shutil.copytree(voc, tmp_path / 'voc')
    (copy / 'ImageSets' / 'Segmentation' / 'val.txt').write_text('2007_000000\n2008_000000\n')
    assert refused(copy, 'voc') == "ROOT/ImageSets/Segmentation/val.txt='2008_000000' is not in ROOT/JPEGImages."
    (copy / 'ImageSets' / 'Segmentation' / 'val.txt').write_text('2007_000009')
    line = 'ROOT/JPEGImages/2007_000009.jpg has no mask ROOT/SegmentationClass/2007_000009.png.'
    assert refused(copy, 'voc') == line
    copy = shutil.copytree(cityscapes, tmp_path / 'cityscapes')
    stem = 'val/lindau/lindau_000001_000019'
    (copy / 'gtFine' / f'{stem}_gtFine_labelIds.png').unlink()
    line = f'ROOT/leftImg8bit/{stem}_leftImg8bit.png has no mask ROOT/gtFine/{stem}_gtFine_labelIds.png.'
    assert refused(copy, 'cityscapes') == line


def test_what_is_left_out_is_said(folder, capsys):
    Image.fromarray(values(0)).save(folder / 'trainannot' / 'alone.png')
    (folder / 'train' / 'notes.txt').write_text('no image')
    make(folder)
    lines = capsys.readouterr().err.splitlines()
    assert f'{folder}: files that are no part of the data set: 1 .txt' in lines
    assert f'{folder}/trainannot: 1 files are left out, since they are masks of no image' in lines


def test_damage_after_the_masks_were_read_is_named(folder):
    dataset = make(folder)
    unknown_value(folder / 'trainannot' / '004.png')
    with pytest.raises(UserError) as error:
        list(global_batches(lambda _: dataset, count=3))
    pair = f'{folder}/train/004.jpg (mask {folder}/trainannot/004.png)'
    assert str(error.value).startswith(f'{pair} cannot be read: ')
    assert 'its mask has the value' in str(error.value) and '\n' not in str(error.value)


def test_bad_images_are_replaced(folder, capsys):
    (folder / 'train' / '004.jpg').write_bytes(b'')
    batches = list(global_batches(lambda _: make(folder, skip_bad_records=1), count=3))
    assert 4 not in np.concatenate([batch['index'] for batch in batches])
    assert f'skipped 1 of at most 1: {folder}/train/004.jpg' in capsys.readouterr().err


def test_masks_are_read_again_only_where_they_changed(folder, monkeypatch):
    monkeypatch.setattr(index_file, 'CLOCK_NANOSECONDS', 0)
    read = []
    original = mask_index.read_mask
    monkeypatch.setattr(mask_index, 'read_mask', lambda encoded: read.append(encoded) or original(encoded))
    make(folder)
    assert len(read) == 14
    make(folder)
    make(folder, eval_split='test')  # keeps what is known of the others
    make(folder)
    assert len(read) == 16
    unknown_value(folder / 'valannot' / '051.png')
    assert 'has the value 200' in refused(folder)
    assert len(read) == 17
    Image.fromarray(values(51)).save(folder / 'valannot' / '051.png')
    photo(0, size=(60, 60)).save(folder / 'val' / '051.jpg')
    assert 'ROOT/val/051.jpg has 60x60' in refused(folder)
    assert set(json.loads((folder / INDEX_FILE).read_text())['masks']) >= {'trainannot/000.png', 'testannot/080.png'}


def test_a_damaged_index_is_made_again(folder, monkeypatch, capsys):
    monkeypatch.setattr(index_file, 'CLOCK_NANOSECONDS', 0)
    (folder / INDEX_FILE).write_text('{"version": 1, "masks": {"trainannot/000.png": {}}}')
    make(folder)
    assert 'it is damaged, or something else wrote it): the masks are read again' in capsys.readouterr().err
    make(folder)
    assert capsys.readouterr().err == ''


def test_fingerprints_cover_images_and_masks(camvid, folder):
    def prints():
        return json.loads(json.dumps(make(folder).fingerprints))

    before = prints()
    assert before == make(camvid).fingerprints == make(f'{camvid}/').fingerprints and before[TRAIN][0][:2] == [
        'images and masks',
        9,
    ]
    (folder / 'val' / '050.jpg').rename(folder / 'val' / '049.jpg')
    (folder / 'valannot' / '050.png').rename(folder / 'valannot' / '049.png')
    renamed = prints()
    assert difference(before[TRAIN], renamed[TRAIN]) == ''
    assert difference(before[EVALUATION], renamed[EVALUATION]) == '5 examples, as before; images and masks has others'
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(folder / 'trainannot' / '004.png')
    assert difference(before[TRAIN], prints()[TRAIN]) == '9 examples, as before; images and masks has others'


def test_cityscapes_can_be_compiled_for_without_its_files():
    dataset = create_dataset('tfds:cityscapes', shapes_only=True, image_size=769, batch_size=16, seed=0)
    assert (dataset.num_train, dataset.num_eval, dataset.num_classes) == (2975, 500, 19)
    assert dataset.train_signature['image'].shape == (769, 769, 3)
    assert dataset.eval_signature['segmentation'].shape == (1025, 2049)


@pytest.mark.skipif(not (SHARED / 'camvid.zip').exists(), reason=f'{SHARED}/camvid.zip is not there')
def test_real_camvid(tmp_path):
    """The published split; the share of each class in some masks, counted by PIL."""
    with zipfile.ZipFile(SHARED / 'camvid.zip') as archive:
        archive.extractall(tmp_path)
    dataset = make(tmp_path, eval_split='test', eval_size=(361, 481), batch_size=8)
    assert (dataset.num_train, dataset.num_eval) == (367, 233)
    batch = {key: value[0] for key, value in next(dataset.eval_batches(ONE)).items()}
    for path, mask in zip(dataset.eval_names, batch['segmentation'], strict=False):
        stored = np.asarray(Image.open(path.replace('/test/', '/testannot/').replace('.jpg', '.png')))
        counts = np.bincount(mask[:360, :480].ravel(), minlength=256)
        assert counts[:11].tolist() == np.bincount(stored.ravel(), minlength=12)[:11].tolist()
        assert counts[IGNORED] == (stored == 11).sum()


DEEPLAB = SHARED.parent / 'weights' / 'deeplabv3_257_float.tflite'


@pytest.mark.slow
@pytest.mark.skipif(not DEEPLAB.exists(), reason=f'{DEEPLAB} is not there')
def test_a_published_network_scores_on_our_batches_what_it_scored_elsewhere(tmp_path):
    """Measured apart from this project, by PIL and LiteRT: mIoU .3213 over 20 classes, pixel accuracy .8247."""
    with zipfile.ZipFile(SHARED / 'coco_val2017_92.zip') as archive:
        archive.extractall(tmp_path)
    dataset = make(tmp_path, classes='voc', mask_dir='voc_masks', eval_split='images', eval_resize=257)
    network = tf.lite.Interpreter(str(DEEPLAB))
    network.allocate_tensors()
    fed, read = network.get_input_details()[0]['index'], network.get_output_details()[0]['index']
    confusion = np.zeros((21, 21), np.int64)
    for image, mask, rows, columns in zip(
        *(evaluated(dataset)[name] for name in ('image', 'segmentation', 'rows', 'columns')), strict=True
    ):
        network.set_tensor(fed, image[np.newaxis] / np.float32(127.5) - 1)
        network.invoke()
        predicted = network.get_tensor(read)[0].argmax(-1)[rows][:, columns]
        pairs = 21 * mask[mask != IGNORED].astype(int) + predicted[mask != IGNORED]
        confusion += np.bincount(pairs, minlength=21**2).reshape(21, 21)
    correct, present = np.diag(confusion), confusion.sum(axis=1) > 0
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - correct
    assert present.sum() == 20
    assert (correct / union.clip(1))[present].mean() == pytest.approx(0.3213, abs=0.0005)
    assert correct.sum() / confusion.sum() == pytest.approx(0.8247, abs=0.0005)


@pytest.mark.skipif(not (SHARED / 'coco_val2017_92.zip').exists(), reason=f'{SHARED}/coco_val2017_92.zip is not there')
def test_real_masks_of_voc_classes(tmp_path):
    with zipfile.ZipFile(SHARED / 'coco_val2017_92.zip') as archive:
        archive.extractall(tmp_path)
    dataset = make(tmp_path, classes='voc', mask_dir='voc_masks', eval_split='images')
    assert (dataset.num_eval, dataset.num_classes) == (92, 21)
    assert dataset.eval_signature['image'].shape == (640, 640, 3)


def test_masks_of_a_bucket_are_read_at_every_start(bucket, camvid, voc):
    """Listed, paired and checked as those of a disk; no index is kept."""
    for source, name in ((camvid, 'mask_folder'), (voc, 'voc')):
        for file in source.rglob('*.*'):
            bucket.write(f'{name}/{file.relative_to(source)}', file.read_bytes())
        local, remote = make(source, name), make(f'gs://bucket/{name}', name)
        assert remote.fingerprints == local.fingerprints
        assert remote.eval_names == [path.replace(str(source), f'gs://bucket/{name}') for path in local.eval_names]
    written = set(bucket.objects)
    make('gs://bucket/mask_folder')
    assert set(bucket.objects) == written
