"""Tiny image folders, written with PIL."""

import pytest
from photos import photo, write_class

from mobilenets_jax.data.manifest import FILE_FORMATS
from mobilenets_jax.data.prepare import prepare


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory):
    """23 training and 7 evaluation images of classes ant, bee and cat; the cats include a PNG, grey and CMYK."""
    root = tmp_path_factory.mktemp('folder')
    for i, (name, num_train, num_eval) in enumerate([('cat', 5, 2), ('ant', 10, 3), ('bee', 8, 2)]):
        write_class(root / 'train' / name, num_train, 100 * i)
        write_class(root / 'val' / name, num_eval, 100 * i + 50)
    cats = root / 'train' / 'cat'
    photo(0).save(cats / '000.jpg', format='png')
    photo(1, mode='L').save(cats / '001.jpg')
    photo(2, mode='CMYK').save(cats / '002.jpg')
    photo(3).save(cats / '003.PNG')
    (cats / '003.jpg').unlink()
    (cats / 'notes.txt').write_text('no image')
    (root / 'train' / '.hidden').mkdir()
    return root


@pytest.fixture(scope='session')
def prepared_folders(image_folder, tmp_path_factory):
    """File format -> `image_folder` as five shards of records."""
    folders = {}
    for file_format in FILE_FORMATS:
        folders[file_format] = tmp_path_factory.mktemp(file_format)
        prepare(str(image_folder), str(folders[file_format]), file_format=file_format, num_shards=5, report=print)
    return folders
