"""Sets of images and boxes as files: what is found, what is learnt, and what is refused in one line."""

import json
import os
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
from batches import global_batches, hashes
from boxes import CLASSES, SIZE, coco_document, rows, voc_xml, write_coco, write_json, write_voc, write_yolo
from photos import photo

from mobilenets_jax.data import Layout, create_dataset, folder_index, image_sizes, index_file
from mobilenets_jax.data.box_classes import BOX_CLASSES, COCO_CATEGORIES
from mobilenets_jax.data.fingerprint import EVALUATION, TRAIN, difference
from mobilenets_jax.errors import UserError

SHARED = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')) / 'data'
ONE = Layout(0, 1, 1)
WIDTH, HEIGHT = SIZE
WRITERS = {'coco': write_coco, 'voc': write_voc, 'yolo': write_yolo}


def make(directory, name='coco', **choices):
    fields = {'class_names': CLASSES} if name == 'voc' and not {'class_names', 'classes'} & {*choices} else {}
    arguments = {'image_size': (32, 48), 'batch_size': 4, 'seed': 1, 'task': 'detection'} | fields | choices
    return create_dataset(name, directory=str(directory), **arguments)


def refused(directory, name='coco', **choices):
    """The line that ends the run, with ROOT for the folder."""
    with pytest.raises(UserError) as error:
        make(directory, name, **choices)
    assert '\n' not in str(error.value)
    return str(error.value).replace(str(directory), 'ROOT')


def said(capsys, directory):
    """The lines on standard error, with ROOT for the folder."""
    return capsys.readouterr().err.replace(str(directory), 'ROOT').splitlines()


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    return {name: write(tmp_path_factory.mktemp(name) / 'data') for name, write in WRITERS.items()}


@pytest.fixture
def copies(roots, tmp_path):
    """Makes a copy of a source's folder that may be damaged."""
    return lambda name: shutil.copytree(roots[name], tmp_path / name)


def change_json(root, change, split='train2017'):
    file = root / 'annotations' / f'instances_{split}.json'
    document = json.loads(file.read_text())
    change(document)
    write_json(file, document)


@pytest.mark.parametrize('name', WRITERS)
def test_every_source_finds_the_same_boxes(roots, name):
    dataset = make(roots[name], name)
    assert (dataset.name, dataset.num_train, dataset.num_eval) == (name, 9, 5)
    # COCO's classes in the order of their ids: bee 2, ant 3, cat 7.
    assert dataset.class_names == (('bee', 'ant', 'cat') if name == 'coco' else CLASSES)
    assert [pathlib.Path(image.name).stem for image in dataset.annotations] == ['050', '051', '052', '053', '054']
    assert list(dataset.eval_names) == [image.name for image in dataset.annotations]
    for place, image in enumerate(dataset.annotations):
        boxes, labels = rows(50 + place)
        np.testing.assert_allclose(image.boxes, boxes, atol=1e-3)
        assert [dataset.class_names[label] for label in image.labels] == [CLASSES[label] for label in labels]
        assert (image.height, image.width) == (HEIGHT, WIDTH)
        assert image.image_id == (10 * (50 + place) if name == 'coco' else place)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        np.testing.assert_allclose(image.area, 17 if name == 'coco' else areas, rtol=1e-3)
        assert image.boxes.dtype == image.area.dtype == np.float32 and image.labels.dtype == np.int32
        assert not image.crowd.any()
        assert image.difficult.tolist() == [name == 'voc' and number % 3 == 2 for number in range(len(boxes))]


@pytest.mark.parametrize('name', WRITERS)
def test_training_batches(roots, name):
    """The whole image, so that every box is where it was: in parts of the image, and padded."""
    every = {'train_difficult': True} if name == 'voc' else {}
    dataset = make(roots[name], name, augmentation='none', random_flip=False, **every)
    assert {key: (field.shape, field.dtype) for key, field in dataset.train_signature.items()} == {
        'image': ((32, 48, 3), np.uint8), 'boxes': ((4, 4), np.float32), 'labels': ((4,), np.int32),
        'valid': ((4,), np.bool_), 'epoch': ((), np.int32), 'index': ((), np.int32),
    }  # fmt: skip
    seen = set()
    for batch in global_batches(lambda _: dataset, count=3):
        for row in range(4):
            seed = 1 + batch['index'][row]
            boxes, labels = rows(seed)
            count = 0 if seed == 3 and name != 'voc' else len(boxes)
            boxes, labels = boxes[:count], labels[:count]
            assert batch['valid'][row].tolist() == [True] * count + [False] * (4 - count)
            expected = boxes / [HEIGHT, WIDTH, HEIGHT, WIDTH]
            np.testing.assert_allclose(batch['boxes'][row, :count], expected, atol=1e-4)
            assert [dataset.class_names[label] for label in batch['labels'][row, :count]] == [
                CLASSES[label] for label in labels
            ]
            assert (batch['boxes'][row, count:] == [0, 0, 1, 1]).all() and not batch['labels'][row, count:].any()
            seen.add(seed)
    assert len(seen) > 8


def test_evaluation_batches_have_every_image_once_and_no_box(roots):
    dataset = make(roots['coco'], image_size=(20, 30))
    assert set(dataset.eval_signature) == {'image', 'size', 'mask'}
    batches = list(dataset.eval_batches(ONE, with_index=True))
    found = {key: np.concatenate([batch[key][0] for batch in batches]) for key in batches[0]}
    assert found['index'].tolist() == [0, 1, 2, 3, 4, 0, 0, 0] and found['mask'].tolist() == [1] * 5 + [0] * 3
    assert (found['size'][:5] == [HEIGHT, WIDTH]).all() and found['size'].dtype == np.int32
    # Half the size at half-pixel centres is the mean of two by two pixels.
    whole = next(make(roots['coco'], image_size=(HEIGHT, WIDTH)).eval_batches(ONE))['image'][0]
    pixels = whole.astype(float).reshape(4, 20, 2, 30, 2, 3).mean((2, 4))
    np.testing.assert_array_equal(found['image'][:4], np.floor(pixels + 0.5))
    assert np.abs(whole[1] - np.asarray(photo(51, size=SIZE)).astype(float)).mean() < 3  # of a JPEG


def test_legacy_resize_reads_the_pixels_of_tensorflow_1(roots):
    images = {}
    for resize in ('half_pixel', 'legacy'):
        batches = make(roots['voc'], 'voc', image_size=(20, 30), resize=resize).eval_batches(ONE)
        images[resize] = next(batches)['image'][0, 0]
        whole = next(make(roots['voc'], 'voc', image_size=(HEIGHT, WIDTH)).eval_batches(ONE))['image'][0, 0]
    np.testing.assert_array_equal(images['legacy'], whole[::2, ::2])
    assert not np.array_equal(images['legacy'], images['half_pixel'])


@pytest.mark.parametrize('name', WRITERS)
def test_batches_do_not_depend_on_the_layout_and_resume(roots, name):
    expected = hashes(lambda _: make(roots[name], name), count=5)
    assert len(set(expected)) == 5
    assert hashes(lambda p: make(roots[name], name, num_threads=1 + p), processes=2, devices=2, count=5) == expected
    assert hashes(lambda _: make(roots[name], name), start=3 * 4, count=2) == expected[3:]


@pytest.mark.parametrize('augmentation', ['torchvision', 'mobilenext'])
def test_other_augmentations_resume(roots, augmentation):
    def source(_):
        return make(roots['yolo'], 'yolo', augmentation=augmentation)

    expected = hashes(source, count=3)
    assert hashes(source, start=2 * 4, count=1, processes=2) == expected[2:]


def test_images_without_a_box(roots, capsys):
    """Kept as negatives, or left out of the training set with a count; never of the evaluation set."""
    for name in ('coco', 'yolo'):
        batches = list(global_batches(lambda _, name=name: make(roots[name], name, augmentation='tf'), count=5))
        rows_of_it = [row for batch in batches for row in range(4) if batch['index'][row] == 2]
        assert rows_of_it
        for batch in batches:
            assert not batch['valid'][batch['index'] == 2].any()
            assert np.isfinite(batch['boxes']).all()
    capsys.readouterr()
    dataset = make(roots['coco'], keep_empty=False)
    assert (dataset.num_train, dataset.num_eval) == (8, 5)
    where = f'{roots["coco"]} train2017'
    assert capsys.readouterr().err == f'{where}: 1 images are left out, since they have no box to learn\n'
    make(roots['yolo'], 'yolo')
    assert said(capsys, roots['yolo']) == ['ROOT/labels/train: 1 of 9 images have no label file, so no box']


def test_a_set_whose_evaluation_images_have_one_without_a_box(tmp_path):
    dataset = make(write_coco(tmp_path / 'data', empty=(3, 51)))
    assert [len(image.labels) for image in dataset.annotations] == [3, 0, 1, 2, 3]
    assert dataset.annotations[1].boxes.shape == (0, 4)


def test_crowds_are_measured_but_not_learnt(copies):
    root = copies('coco')
    for split in ('train2017', 'val2017'):
        change_json(root, lambda document: document['annotations'][1].update(iscrowd=1), split)
    dataset, whole = make(root, augmentation='none', random_flip=False), make(copies('yolo'), 'yolo')
    crowds = [image.crowd.tolist() for image in dataset.annotations]
    assert crowds[0] == [False, True, False] and not any(map(any, crowds[1:]))
    counts = {}
    for batch in global_batches(lambda _: dataset, count=3):
        counts |= dict(zip(batch['index'].tolist(), batch['valid'].sum(-1).tolist(), strict=True))
    assert counts[0] == 1 and counts[1] == 3  # of two boxes and of three
    assert len(whole.annotations[0].labels) == 3


def test_difficult_boxes_are_measured_as_such_and_learnt_only_if_asked_for(roots):
    usual = make(roots['voc'], 'voc')
    assert usual.train_signature['valid'].shape == (3,)  # four boxes, one of them difficult
    assert make(roots['voc'], 'voc', train_difficult=True).train_signature['valid'].shape == (4,)
    assert usual.annotations[0].difficult.tolist() == [False, False, True]
    assert usual.fingerprints[TRAIN] != make(roots['voc'], 'voc', train_difficult=True).fingerprints[TRAIN]


def test_more_boxes_than_the_most_are_an_error_that_names_the_image(roots):
    assert make(roots['coco'], max_boxes=7).train_signature['boxes'].shape == (7, 4)
    line = refused(roots['coco'], max_boxes=3)
    assert line == 'ROOT/train2017/007.jpg has 4 boxes: the most of 1 images with more than data.max_boxes=3.'
    assert refused(roots['coco'], max_boxes=0) == 'data.max_boxes=0 must be positive.'


def test_evaluation_knows_no_most(roots):
    dataset = make(roots['coco'], train_split='val2017', eval_split='train2017', max_boxes=4)
    assert max(len(image.labels) for image in dataset.annotations) == 4
    assert make(roots['coco'], max_boxes=None, eval_split='train2017', train_split='val2017').num_train == 5


BAD_BOXES = [
    ([5, 5, 0, 10], '1 without area'),
    ([5, 5, 10, -2], '1 without area'),
    ([float('nan'), 5, 10, 10], '1 without area'),
    ([WIDTH, 5, 10, 10], '1 outside of the image'),
    ([5, -12, 10, 10], '1 outside of the image'),
]


@pytest.mark.parametrize(('box', 'fault'), BAD_BOXES)
def test_a_box_that_cannot_be_used_is_named_and_counted(copies, capsys, box, fault):
    """Zero or negative sides, no number, or outside of the image: neither learnt nor measured."""
    root = copies('coco')
    for split, image in (('train2017', '001'), ('val2017', '050')):
        change_json(root, lambda document: document['annotations'][1].update(bbox=box), split)
        total = len(json.loads((root / 'annotations' / f'instances_{split}.json').read_text())['annotations'])
        where = f'ROOT {split}'
        expected = f'{where}: 1 of {total} boxes are left out: {fault} (first: box 2 of ROOT/{split}/{image}.jpg)'
        make(root)
        assert expected in said(capsys, root)
    dataset = make(root, augmentation='none')
    assert [len(image.labels) for image in dataset.annotations] == [2, 4, 1, 2, 3]
    for batch in global_batches(lambda _, dataset=dataset: dataset, count=3):
        boxes = batch['boxes'][batch['valid']]
        assert np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes.min() >= 0 and boxes.max() <= 1


def test_what_reaches_beyond_an_image_is_measured_but_not_learnt(copies, capsys):
    """As pycocotools measures it, a box is as in the file; what is learnt lies in the image."""
    root = copies('coco')
    for split in ('train2017', 'val2017'):
        change_json(root, lambda document: document['annotations'][0].update(bbox=[-6, 30, 20, 14]), split)
    dataset = make(root, augmentation='none', random_flip=False)
    line = (
        'ROOT train2017: 1 boxes reach more than a pixel beyond their images (first: box 1 of ROOT/train2017/001.jpg)'
    )
    assert said(capsys, root)[0] == f'{line}: what is outside is measured, but not learnt'
    assert dataset.annotations[0].boxes[0].tolist() == [30, -6, 44, 14]
    for batch in global_batches(lambda _: dataset, count=3):
        for found in batch['boxes'][batch['index'] == 0]:
            np.testing.assert_allclose(found[0], [30 / HEIGHT, 0, 1, 14 / WIDTH], rtol=1e-6)


def test_thin_boxes_are_not_learnt(copies, capsys):
    root = copies('coco')
    change_json(root, lambda document: document['annotations'][0].update(bbox=[5, 5, 0.5, 20]))
    dataset = make(root, augmentation='none')
    assert said(capsys, root) == ['ROOT train2017: 1 boxes thinner than 1 pixel are not learnt']
    for batch in global_batches(lambda _: dataset, count=3):
        assert (batch['valid'].sum(-1)[batch['index'] == 0] == 1).all()


def test_classes_may_be_chosen(roots, capsys):
    """By name, in the order that is asked for: all others are left out, with a count."""
    dataset = make(roots['coco'], class_names=('cat', 'bee'))
    assert dataset.class_names == ('cat', 'bee')
    for place, image in enumerate(dataset.annotations):
        labels = [{2: 0, 1: 1}[label] for label in rows(50 + place)[1].tolist() if label]
        assert image.labels.tolist() == labels
    ants = sum((rows(seed)[1] == 0).sum() for seed in range(50, 55))
    total = sum(len(rows(seed)[1]) for seed in range(50, 55))
    line = f'ROOT val2017: {ants} of {total} boxes are left out: {ants} of other classes (first: box '
    (found,) = [one for one in said(capsys, roots['coco']) if one.startswith(line)]
    assert found.endswith(f"; their classes: 'ant' ({ants})")
    assert refused(roots['coco'], class_names=('dog',)).startswith(
        "ROOT train2017 has no box of the 1 classes, but 'cat' (8), 'ant' (7), 'bee' (3): see data.class_names."
    )
    assert refused(roots['coco'], class_names=('cat', 'cat')).startswith("data.class_names=('cat', 'cat') must differ")
    assert refused(roots['coco'], class_names=('cat',), classes='voc').startswith("data.classes='voc' names classes")
    assert refused(roots['coco'], classes='pascal') == "data.classes='pascal' is unknown. Known: coco, voc."


def test_voc_classes_of_coco_have_vocs_names_and_order(tmp_path):
    """Networks that know VOC's classes are measured on COCO's images so."""
    root = tmp_path
    document = coco_document([1, 2])
    document['categories'] = [{'id': number, 'name': name} for number, name in COCO_CATEGORIES.items()]
    for annotation, number in zip(document['annotations'], (72, 1, 5, 64, 2), strict=True):
        annotation['category_id'] = number
    (root / 'images').mkdir()
    for seed in (1, 2):
        photo(seed, size=SIZE).save(root / 'images' / f'{seed:03}.jpg')
    write_json(root / 'instances.json', document)
    places = {'annotation_file': 'instances.json', 'image_dir': 'images'}
    dataset = make(root, classes='voc', **places)
    assert dataset.class_names == BOX_CLASSES['voc'] and len(dataset.class_names) == 20
    names = [[dataset.class_names[label] for label in image.labels] for image in dataset.annotations]
    assert names == [['tvmonitor', 'person'], ['aeroplane', 'pottedplant', 'bicycle']]
    assert dataset.num_train == 0  # the only split is evaluated
    sparse = make(root, coco_ids='sparse', **places)
    assert sparse.num_classes == 90 and sparse.class_names[11] == 'unused 12'
    assert [image.labels.tolist() for image in sparse.annotations] == [[71, 0], [4, 63, 1]]
    contiguous = make(root, **places)
    assert contiguous.class_names == BOX_CLASSES['coco']
    assert [image.labels.tolist() for image in contiguous.annotations] == [[62, 0], [4, 58, 1]]


def test_sparse_ids_begin_at_one(copies):
    root = copies('coco')
    assert make(root, coco_ids='sparse').class_names == (
        *('unused 1', 'bee', 'ant', 'unused 4', 'unused 5', 'unused 6', 'cat'),
    )
    change_json(root, lambda document: document['categories'][0].update(id=0))
    assert refused(root, coco_ids='sparse') == "data.coco_ids='sparse' needs ids from 1 on; 'cat' has the id 0."
    line = "data.coco_ids='sparse' has no effect with data.classes or data.class_names, which say the labels."
    assert refused(root, coco_ids='sparse', class_names=('cat',)) == line
    assert refused(root, coco_ids='all') == "data.coco_ids='all' is unknown. Known: contiguous, sparse."


def test_the_first_class_is_learnt_as_any_other(copies):
    """An id of 0 in a file, which other code takes for the background."""
    root = copies('coco')
    for split in ('train2017', 'val2017'):

        def zero(document):
            for entry in document['categories']:
                entry['id'] -= 2
            for annotation in document['annotations']:
                annotation['category_id'] -= 2

        change_json(root, zero, split)
    dataset = make(root)
    assert dataset.class_names == ('bee', 'ant', 'cat')
    for place, image in enumerate(dataset.annotations):
        assert [dataset.class_names[label] for label in image.labels] == [CLASSES[i] for i in rows(50 + place)[1]]


def delete(*keys):
    def change(document):
        del document[keys[0]][0][keys[1]]

    return change


def test_a_split_without_boxes_is_refused(copies):
    """Neither can be learnt from it, nor is there a precision to measure."""
    root = copies('coco')
    change_json(root, lambda document: document['annotations'].clear(), 'val2017')
    assert refused(root) == 'ROOT val2017 has no box.'
    change_json(root, lambda document: [one.update(bbox=[5, 5, 0, 3]) for one in document['annotations']], 'train2017')
    assert refused(root, train_split='train2017', eval_split='train2017') == (
        'ROOT train2017 has no box that can be used: 18 without area (first: box 1 of ROOT/train2017/001.jpg).'
    )
    change_json(root, lambda document: [one.update(bbox=[5, 5, 3, 3]) for one in document['annotations']], 'train2017')
    change_json(root, lambda document: [one.update(iscrowd=1) for one in document['annotations']], 'train2017')
    line = 'ROOT train2017 has no box to learn: all are crowds, difficult or too thin.'
    assert refused(root, eval_split='train2017', train_split='train2017') == line


def twice(key):
    return lambda document: document[key].append(document[key][0])


FILE = 'ROOT/annotations/instances_train2017.json'


@pytest.mark.parametrize(
    ('change', 'line'),
    [
        (lambda document: document.pop('categories'), 'is no file of COCO annotations: it has no categories.'),
        (delete('annotations', 'bbox'), "is no file of COCO annotations: an entry has no 'bbox'."),
        (delete('images', 'height'), "is no file of COCO annotations: an entry has no 'height'."),
        (twice('images'), 'has two images with the id 90.'),
        (twice('categories'), 'has two categories of the same id or name.'),
        (
            lambda document: document['images'][0].update(height=0),
            'says that 009.jpg has 0x60 pixels (height x width).',
        ),
        (lambda document: document['images'].clear(), 'lists no images.'),
        (
            lambda document: document['images'][2].update(file_name='missing.jpg'),
            'lists 9 images; 1 are not there, the first is ROOT/train2017/missing.jpg.',
        ),
        (lambda document: document['annotations'][0].update(bbox=[1, 2, 3]), None),
        (lambda document: document['annotations'][0].update(bbox='box'), None),
    ],
)
def test_a_wrong_coco_file_is_one_line(copies, change, line):
    root = copies('coco')
    change_json(root, change)
    found = refused(root)
    assert found == f'{FILE} {line}' if line else found.startswith(('ROOT train2017', f'{FILE} is no file of COCO'))


@pytest.mark.parametrize('content', ['', '{"images": [', '[]', '3', 'null', '[' * 100_000])
def test_a_file_that_is_no_json_is_one_line(copies, content):
    root = copies('coco')
    (root / 'annotations' / 'instances_val2017.json').write_text(content)
    assert refused(root).startswith('ROOT/annotations/instances_val2017.json is no')


def test_annotations_of_images_that_are_not_listed_are_counted(copies, capsys):
    root = copies('coco')
    change_json(root, lambda document: document['annotations'][4].update(image_id=77))
    make(root)
    line = (
        'ROOT/annotations/instances_train2017.json: 1 annotations are left out, since they are of images that it lacks'
    )
    assert line in said(capsys, root)


def test_an_unknown_category_is_counted(copies, capsys):
    root = copies('coco')
    change_json(root, lambda document: document['annotations'][4].update(category_id=77))
    make(root)
    assert "; their classes: 'category 77' (1)" in said(capsys, root)[0]


def test_coco_files_in_other_places(copies, tmp_path):
    root = copies('coco')
    for split in ('train2017', 'val2017'):
        (root / 'annotations' / f'instances_{split}.json').rename(root / split / '_annotations.coco.json')
    dataset = make(root, annotation_file='{split}/_annotations.coco.json')
    assert (dataset.num_train, dataset.num_eval) == (9, 5)
    assert refused(root) == (
        "data.dir='ROOT' has no file annotations/instances_*.json; data.annotation_file says where it is."
    )
    assert refused(root, annotation_file='{split}/{split}.json').endswith('may have {split} once.')
    with pytest.raises(UserError, match="^data.dir='' must name the folder of images and boxes.$"):
        make('')
    both = make(root, annotation_file='{split}/_annotations.coco.json', eval_split='train2017')
    assert (both.num_train, both.num_eval) == (9, 9)  # learnt and measured
    line = refused(root, annotation_file='{split}/_annotations.coco.json', eval_split='test')
    assert line == "data.eval_split='test' is unknown. Known: train2017, val2017."


def test_two_years_of_one_split(copies):
    root = copies('coco')
    annotations = root / 'annotations'
    shutil.copy(annotations / 'instances_val2017.json', annotations / 'instances_val2014.json')
    assert (
        refused(root)
        == 'ROOT has val2014 and val2017, spellings of one split: data.eval_split says which one is meant.'
    )
    assert make(root, eval_split='val2017').num_eval == 5


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


XML = 'ROOT/Annotations/004.xml'


@pytest.mark.parametrize(
    ('damage', 'line'),
    [
        (lambda file: file.write_text('<annotation>'), f'{XML} is no XML file, or damaged: no element found'),
        (lambda file: file.write_bytes(b'\xff\x00'), f'{XML} is no XML file, or damaged: '),
        (lambda file: edit(file, '<xmin>', '<xmin>about '), f"{XML}: bndbox/xmin='about "),
        (lambda file: edit(file, '<height>40', '<height>0'), f"{XML}='0x60' is no height x width of an image."),
        (lambda file: edit(file, '<height>40</height>', ''), f"{XML}: size/height='' is no number."),
        (pathlib.Path.unlink, f'ROOT/JPEGImages/004.jpg has no annotations {XML}.'),
    ],
)
def test_a_wrong_voc_file_is_one_line(copies, damage, line):
    root = copies('voc')
    damage(root / 'Annotations' / '004.xml')
    assert refused(root, 'voc').startswith(line)


def test_a_voc_box_of_no_width_is_left_out(copies, capsys):
    """Xmin = xmax would be one column of pixels, but is a slip."""
    root = copies('voc')
    file = root / 'Annotations' / '001.xml'
    file.write_text(voc_xml(1).replace('<xmin>', '<xmin>9</xmin><xmax>9</xmax><xmin>', 1))
    make(root, 'voc')
    assert said(capsys, root) == [
        'ROOT train: 1 of 22 boxes are left out: 1 without area (first: box 1 of ROOT/JPEGImages/001.jpg)'
    ]


def test_training_on_two_years_of_voc(tmp_path):
    write_voc(tmp_path / 'VOC2007', train=range(1, 6), evaluation=range(50, 53))
    write_voc(tmp_path / 'VOC2012', train=range(101, 110), evaluation=range(150, 155))
    dataset = make(tmp_path, 'voc', train_split='VOC2007/train+VOC2012/train', eval_split='VOC2007/val')
    assert (dataset.num_train, dataset.num_eval) == (14, 3)
    assert {os.path.relpath(name, tmp_path) for name in dataset.eval_names} == {
        f'VOC2007/JPEGImages/05{number}.jpg' for number in range(3)
    }
    assert next(dataset.train_batches(ONE))['valid'].any()
    assert refused(tmp_path, 'voc', train_split='VOC2007/test', eval_split='VOC2007/val') == (
        "data.train_split='VOC2007/test' is unknown. Known: VOC2007/train, VOC2007/val, VOC2012/train, VOC2012/val."
    )


def test_vocs_lists(copies):
    root = copies('voc')
    lists = root / 'ImageSets' / 'Main'
    (lists / 'trainval.txt').write_text((lists / 'train.txt').read_text() + (lists / 'val.txt').read_text())
    dataset = make(root, 'voc', train_split='trainval', eval_split='val')
    assert (dataset.num_train, dataset.num_eval) == (14, 5)
    assert refused(root, 'voc', eval_split='ant') == "data.eval_split='ant' is unknown. Known: train, trainval, val."
    (lists / 'val.txt').write_text('050\n050\n')
    assert refused(root, 'voc') == "ROOT/ImageSets/Main/val.txt='050' stands there 2 times."
    (lists / 'val.txt').write_text('050\n999\n')
    assert refused(root, 'voc') == "ROOT/ImageSets/Main/val.txt='999' is not in ROOT/JPEGImages."
    (lists / 'val.txt').write_text('\n')
    assert refused(root, 'voc') == "data.dir='ROOT/ImageSets/Main/val.txt' names no image."
    shutil.rmtree(lists)
    assert refused(root, 'voc') == 'data.dir: cannot list ROOT/ImageSets/Main: No such file or directory.'


def test_vocs_classes_are_asked_for_unless_they_are_vocs_own(roots, tmp_path, capsys):
    own = write_voc(tmp_path / 'own', names=('dog', 'person', 'sheep'))
    assert make(own, 'voc', class_names=()).class_names == BOX_CLASSES['voc']
    line = refused(roots['voc'], 'voc', class_names=())
    assert line.startswith(
        "data.class_names must say which classes are meant, since ROOT train has not only VOC's, but "
    )
    assert "'ant' (" in line and "'cat' (" in line
    file = own / 'Annotations' / '001.xml'
    file.write_text(voc_xml(1, ('dgo', 'dgo', 'dgo')))
    assert "'dgo' (2)" in refused(own, 'voc', class_names=())
    capsys.readouterr()
    make(own, 'voc', classes='voc')
    assert '2 of other classes (first: box 1 of ' in capsys.readouterr().err


LABELS = 'ROOT/labels/train/004.txt'


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('0 0.5 0.5 0.1\n', f"{LABELS} line 1: '0 0.5 0.5 0.1' is not 'class x y width height'."),
        ('\n0 0.5 0.5 0.1 wide\n', f"{LABELS} line 2: '0 0.5 0.5 0.1 wide' is not 'class x y width height'."),
        ('ant 0.5 0.5 0.1 0.1\n', f"{LABELS} line 1: 'ant 0.5 0.5 0.1 0.1' is not 'class x y width height'."),
        ('0 0.1 0.2 0.3 0.4 0.5 0.6\n', f"{LABELS} line 1: '0 0.1 0.2 0.3 0.4 0.5 0.6' is not"),
    ],
)
def test_a_wrong_label_file_is_one_line(copies, text, line):
    root = copies('yolo')
    (root / 'labels' / 'train' / '004.txt').write_text(text)
    assert refused(root, 'yolo').startswith(line)


def test_yolo_boxes_in_pixels_or_of_unknown_classes_are_counted(copies, capsys):
    root = copies('yolo')
    (root / 'labels' / 'train' / '004.txt').write_text('1 30 20 10 10\n3 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n')
    make(root, 'yolo')
    line = said(capsys, root)[-1]
    assert '2 of 20 boxes are left out: 1 of other classes (first: box 2 of ROOT/images/train/004.jpg), ' in line
    assert line.endswith(
        "1 outside of the image (first: box 1 of ROOT/images/train/004.jpg); their classes: 'class 3' (1)"
    )


def test_yolo_names(copies):
    root = copies('yolo')
    (root / 'data.yaml').write_text('names: [x, y, z]\n')
    assert make(root, 'yolo').class_names == ('x', 'y', 'z')
    for text in ('names: 3', 'nc: 3', '- x', '{', 'names: {0: a, 2: b}'):
        (root / 'data.yaml').write_text(text)
        assert refused(root, 'yolo') == 'ROOT/data.yaml has no list of names.'
    (root / 'data.yaml').unlink()
    assert refused(root, 'yolo') == (
        'data.class_names must say the names of the classes by their numbers: '
        'ROOT has neither data.yaml nor classes.txt.'
    )
    assert make(root, 'yolo', class_names=CLASSES).class_names == CLASSES
    (root / 'classes.txt').write_text('x\ny\nz\n')
    assert make(root, 'yolo').class_names == ('x', 'y', 'z')
    shutil.rmtree(root / 'labels' / 'val')
    assert refused(root, 'yolo') == 'ROOT/labels/val has no file NAME.txt for any of the 5 images.'


@pytest.mark.parametrize('name', WRITERS)
def test_folders_are_listed_once(copies, name, monkeypatch):
    """Later starts find all that they need in the index."""
    monkeypatch.setattr(index_file, 'CLOCK_NANOSECONDS', 0)
    listed = []
    original = folder_index.list_images
    monkeypatch.setattr(folder_index, 'list_images', lambda folder: listed.append(folder) or original(folder))
    root = copies(name)
    make(root, name)
    count = len(listed)
    make(root, name)
    assert len(listed) == count == (1 if name == 'voc' else 2)


def test_yolo_grouped_by_split(tmp_path):
    dataset = make(write_yolo(tmp_path, by_split=True), 'yolo')
    assert (dataset.num_train, dataset.num_eval) == (9, 5)
    np.testing.assert_allclose(dataset.annotations[2].boxes, rows(52)[0], atol=1e-3)
    (tmp_path / 'empty').mkdir()
    assert refused(tmp_path / 'empty', 'yolo') == "data.dir='ROOT' has neither images/SPLIT nor SPLIT/images."


def test_sizes_are_read_again_only_where_images_changed(copies, monkeypatch):
    monkeypatch.setattr(index_file, 'CLOCK_NANOSECONDS', 0)
    read = []
    original = image_sizes._read
    monkeypatch.setattr(image_sizes, '_read', lambda file, stamps: read.append(file) or original(file, stamps))
    root = copies('yolo')
    make(root, 'yolo')
    assert len(read) == 14
    make(root, 'yolo')
    assert len(read) == 14
    photo(50, size=(80, 20)).save(root / 'images' / 'val' / '050.jpg')
    dataset = make(root, 'yolo')
    assert len(read) == 15 and (dataset.annotations[0].height, dataset.annotations[0].width) == (20, 80)
    (root / 'images' / 'val' / '051.jpg').write_bytes(b'no image')
    assert refused(root, 'yolo').startswith('ROOT/images/val/051.jpg is no image: ')


@pytest.mark.parametrize('name', ['coco', 'voc'])
def test_an_image_of_another_size_than_its_annotations_is_named(copies, name):
    """As an image that was turned behind its boxes' back."""
    root = copies(name)
    file = root / ('train2017/004.jpg' if name == 'coco' else 'JPEGImages/004.jpg')
    photo(4, size=SIZE[::-1]).save(file)
    with pytest.raises(UserError, match=r'^\S+/004.jpg cannot be read: .*its height and width are') as error:
        list(global_batches(lambda _: make(root, name), count=3))
    assert '\n' not in str(error.value)


def test_bad_images_are_replaced(copies, capsys):
    root = copies('coco')
    (root / 'train2017' / '004.jpg').write_bytes(b'')
    batches = list(global_batches(lambda _: make(root, skip_bad_records=1), count=3))
    assert 3 not in np.concatenate([batch['index'] for batch in batches])
    assert f'skipped 1 of at most 1: {root}/train2017/004.jpg' in capsys.readouterr().err


def test_fingerprints_cover_images_and_boxes(roots, copies):
    def prints(root):
        return json.loads(json.dumps(make(root).fingerprints))

    root = copies('coco')
    before = prints(root)
    assert before == prints(roots['coco']) == prints(f'{root}/') and before[TRAIN][0][:2] == ['images and boxes', 9]
    change_json(root, lambda document: document['annotations'][0]['bbox'].__setitem__(0, 1.0), 'val2017')
    changed = prints(root)
    assert difference(before[TRAIN], changed[TRAIN]) == ''
    assert difference(before[EVALUATION], changed[EVALUATION]) == '5 examples, as before; images and boxes has others'
    (root / 'train2017' / '004.jpg').rename(root / 'train2017' / '0040.jpg')
    change_json(root, lambda document: document['images'][5].update(file_name='0040.jpg'))
    assert difference(before[TRAIN], prints(root)[TRAIN]) == '9 examples, as before; images and boxes has others'


@pytest.mark.parametrize(
    ('name', 'choices', 'expected'),
    [
        ('coco', {}, (118_287, 5000, 80, 100)),
        ('tfds:coco/2017', {'coco_ids': 'sparse', 'max_boxes': 93}, (118_287, 5000, 90, 93)),
        ('coco', {'classes': 'voc'}, (118_287, 5000, 20, 100)),
    ],
)
def test_known_sets_can_be_compiled_for_without_their_files(name, choices, expected):
    dataset = make('', name, shapes_only=True, image_size=320, **choices)
    most = dataset.train_signature['boxes'].shape[0]
    assert (dataset.num_train, dataset.num_eval, dataset.num_classes, most) == expected
    assert dataset.train_signature['image'].shape == dataset.eval_signature['image'].shape == (320, 320, 3)
    with pytest.raises(UserError, match='known by its sizes alone'):
        next(dataset.train_batches(ONE))


def test_voc_has_masks_and_boxes(roots):
    """The task decides which; the known sources of a task are named."""
    assert refused(roots['voc'], 'voc', task='segmentation', class_names=()).startswith(
        'data.dir: cannot list ROOT/ImageSets/Segmentation'
    )
    assert refused(roots['voc'], 'digits') == (
        "data.name='digits' is unknown. Known: coco, tfds:coco, tfds:voc, voc, yolo."
    )


def unzipped(name, folder):
    with zipfile.ZipFile(SHARED / name) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.skipif(not (SHARED / 'bccd.zip').exists(), reason=f'{SHARED}/bccd.zip is not there')
def test_real_bccd(tmp_path, capsys):
    """The published lists; 4155 red and 372 white cells and 361 platelets, of which two boxes have no area."""
    root, names = unzipped('bccd.zip', tmp_path), ('RBC', 'WBC', 'Platelets')
    counts, left_out = np.zeros(3, int), []
    for train_split, eval_split in (('train', 'val'), ('train', 'test')):
        dataset = make(root, 'voc', class_names=names, train_split=train_split, eval_split=eval_split, batch_size=8)
        labels = np.concatenate([image.labels for image in dataset.annotations])
        counts += np.bincount(labels, minlength=3)
    left_out = said(capsys, root)
    assert (dataset.num_train, dataset.num_eval) == (205, 72)
    train = make(root, 'voc', class_names=names, train_split='test', eval_split='train', batch_size=8)
    counts += np.bincount(np.concatenate([image.labels for image in train.annotations]), minlength=3)
    assert counts.sum() == 4155 + 372 + 361 - 2 and counts[1:].tolist() == [372, 361]
    assert [line.partition(' of ')[2] for line in left_out[:1]] == [
        '2805 boxes are left out: 1 without area (first: box 4 of ROOT/JPEGImages/BloodImage_00343.jpg)'
    ]
    batch = next(dataset.train_batches(ONE))
    assert batch['image'].shape == (1, 8, 32, 48, 3) and batch['valid'].any()


@pytest.mark.skipif(not (SHARED / 'coco_val2017_92.zip').exists(), reason=f'{SHARED}/coco_val2017_92.zip is not there')
def test_real_coco(tmp_path):
    """616 boxes and 5 crowds of 71 classes on 92 images."""
    root = unzipped('coco_val2017_92.zip', tmp_path)
    places = {'annotation_file': 'instances.json', 'image_dir': 'images'}
    dataset = make(root, **places)
    assert (dataset.num_train, dataset.num_eval, dataset.class_names) == (0, 92, BOX_CLASSES['coco'])
    crowds = np.concatenate([image.crowd for image in dataset.annotations])
    labels = np.concatenate([image.labels for image in dataset.annotations])
    assert (len(labels), crowds.sum(), len(set(labels[~crowds].tolist()))) == (621, 5, 71)
    document = json.loads((root / 'instances.json').read_text())
    image = next(image for image in dataset.annotations if image.image_id == 139)
    expected = [one for one in document['annotations'] if one['image_id'] == 139]
    sides = np.stack(
        [image.boxes[:, 1], image.boxes[:, 0], *(image.boxes[:, 3:1:-1] - image.boxes[:, 1::-1]).T], axis=1
    )
    np.testing.assert_allclose(sides, [one['bbox'] for one in expected], atol=1e-3)
    assert [COCO_CATEGORIES[one['category_id']] for one in expected] == [dataset.class_names[i] for i in image.labels]
    np.testing.assert_allclose(image.area, [one['area'] for one in expected])
    voc = make(root, classes='voc', **places)
    assert (voc.num_eval, sum(len(image.labels) for image in voc.annotations)) == (92, 366)
    index = 0
    for batch in dataset.eval_batches(ONE):
        for size, real in zip(batch['size'][0], batch['mask'][0], strict=True):
            if real:
                assert size.tolist() == [dataset.annotations[index].height, dataset.annotations[index].width]
                index += 1
    assert index == 92


@pytest.mark.parametrize('name', WRITERS)
def test_boxes_of_a_bucket_are_those_of_a_disk(bucket, roots, name):
    """No index is kept there."""
    for file in roots[name].rglob('*.*'):
        if file.is_file() and not file.name.startswith('.'):
            bucket.write(f'{name}/{file.relative_to(roots[name])}', file.read_bytes())
    written = set(bucket.objects)
    local, remote = make(roots[name], name), make(f'gs://bucket/{name}', name)
    assert remote.fingerprints == local.fingerprints
    names = [path.replace(str(roots[name]), f'gs://bucket/{name}') for path in local.eval_names]
    assert remote.eval_names == names
    assert set(bucket.objects) == written
