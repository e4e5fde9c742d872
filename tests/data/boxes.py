"""Sets of images with boxes made up for the tests, in the files of COCO, Pascal VOC and YOLO."""

import json

import numpy as np
from photos import photo

SIZE = (60, 40)  # width, height
CLASSES = ('ant', 'bee', 'cat')


def rows(seed, size=SIZE):
    """One to four boxes [ymin, xmin, ymax, xmax] in whole pixels and their labels, the same for each seed."""
    generator = np.random.default_rng(seed)
    count = 1 + seed % 4
    width, height = size
    top, left = generator.integers(0, height - 12, count), generator.integers(0, width - 12, count)
    bottom, right = top + generator.integers(4, 12, count), left + generator.integers(4, 12, count)
    return np.stack([top, left, bottom, right], axis=1).astype(np.float32), generator.integers(0, 3, count)


def coco_document(seeds, empty=()):
    """Images 10 x seed with sparse ids of categories, 2, 3 and 7; those in `empty` have no box."""
    categories = [{'id': number, 'name': name} for number, name in zip((7, 2, 3), CLASSES[::-1], strict=True)]
    ids = {'ant': 3, 'bee': 2, 'cat': 7}
    images = [
        {'id': 10 * seed, 'file_name': f'{seed:03}.jpg', 'height': SIZE[1], 'width': SIZE[0]} for seed in seeds[::-1]
    ]
    annotations = []
    for seed in seeds:
        for (top, left, bottom, right), label in zip(*rows(seed), strict=True):
            if seed not in empty:
                annotations.append(
                    {
                        'id': len(annotations) + 1,
                        'image_id': 10 * seed,
                        'category_id': ids[CLASSES[label]],
                        'bbox': [float(left), float(top), float(right - left), float(bottom - top)],
                        'area': 17.0,
                        'iscrowd': 0,
                    }
                )
    return {'images': images, 'annotations': annotations, 'categories': categories}


def write_images(folder, seeds):
    folder.mkdir(parents=True)
    for seed in seeds:
        photo(seed, size=SIZE).save(folder / f'{seed:03}.jpg', quality=95)


def write_coco(root, train=range(1, 10), evaluation=range(50, 55), empty=(3,)):
    """As COCO's own files lie, with an image without boxes."""
    (root / 'annotations').mkdir(parents=True)
    for split, seeds in (('train2017', list(train)), ('val2017', list(evaluation))):
        write_images(root / split, seeds)
        write_json(root / 'annotations' / f'instances_{split}.json', coco_document(seeds, empty))
    return root


def write_json(path, document):
    path.write_text(json.dumps(document))


def voc_xml(seed, names=CLASSES, size=SIZE):
    """An image's boxes as VOC counts: from 1, and with the last pixel; every third box is difficult."""
    objects = ''.join(
        f'<object><name>{names[label]}</name><difficult>{int(place % 3 == 2)}</difficult><bndbox>'
        f'<xmin>{left + 1:.0f}</xmin><ymin>{top + 1:.0f}</ymin><xmax>{right:.0f}</xmax><ymax>{bottom:.0f}</ymax>'
        '</bndbox></object>'
        for place, ((top, left, bottom, right), label) in enumerate(zip(*rows(seed), strict=True))
    )
    return f'<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>'


def write_voc(root, train=range(1, 10), evaluation=range(50, 55), names=CLASSES):
    write_images(root / 'JPEGImages', [*train, *evaluation])
    (root / 'Annotations').mkdir()
    for seed in (*train, *evaluation):
        (root / 'Annotations' / f'{seed:03}.xml').write_text(voc_xml(seed, names))
    lists = root / 'ImageSets' / 'Main'
    lists.mkdir(parents=True)
    for split, seeds in (('train', train), ('val', evaluation)):
        (lists / f'{split}.txt').write_text(''.join(f'{seed:03}\n' for seed in seeds))
        (lists / f'ant_{split}.txt').write_text(''.join(f'{seed:03} -1\n' for seed in seeds))
    return root


def yolo_text(seed):
    width, height = SIZE
    lines = []
    for (top, left, bottom, right), label in zip(*rows(seed), strict=True):
        sides = (right - left) / width, (bottom - top) / height
        lines.append(f'{label} {(left + right) / 2 / width} {(top + bottom) / 2 / height} {sides[0]} {sides[1]}\n')
    return ''.join(lines)


def write_yolo(root, train=range(1, 10), evaluation=range(50, 55), by_split=False):
    """Images without a box have no label file: 3."""
    for split, seeds in (('train', train), ('val', evaluation)):
        images, labels = (root / split / kind if by_split else root / kind / split for kind in ('images', 'labels'))
        write_images(images, seeds)
        labels.mkdir(parents=True)
        for seed in seeds:
            if seed != 3:
                (labels / f'{seed:03}.txt').write_text(yolo_text(seed))
    (root / 'data.yaml').write_text('train: images/train\nnames: {0: ant, 1: bee, 2: cat}\n')
    return root
