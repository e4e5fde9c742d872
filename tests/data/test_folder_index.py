"""The index of an image folder: made once, brought up to date where a class has changed, never in the way."""

import json
import os
import pathlib
import tempfile

import pytest
from photos import photo, write_class

from mobilenets_jax.data import folder_index
from mobilenets_jax.data.folder_index import INDEX_FILE, list_files
from mobilenets_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ('a', 'b'):
        write_class(tmp_path / name, 3, 0)
    return tmp_path


def listed(folder, monkeypatch):
    """The files, and which folders had to be listed for them."""
    visited = []
    original = folder_index._list_images
    monkeypatch.setattr(folder_index, '_list_images', lambda path: visited.append(path[-1]) or original(path))
    files = list_files(str(folder), ['a', 'b', 'c'])
    monkeypatch.undo()
    return files, visited


def test_no_class_is_listed_twice(folder, monkeypatch):
    expected = {name: ['000.jpg', '001.jpg', '002.jpg'] for name in ('a', 'b')}
    assert listed(folder, monkeypatch) == (expected, ['a', 'b'])
    assert listed(folder, monkeypatch) == (expected, [])


def test_changed_class_is_listed_again(folder, monkeypatch):
    listed(folder, monkeypatch)
    photo(0).save(folder / 'b' / '003.jpg')
    (folder / 'b' / '000.jpg').unlink()
    files, visited = listed(folder, monkeypatch)
    assert files['b'] == ['001.jpg', '002.jpg', '003.jpg'] and visited == ['b']


def test_new_and_removed_classes_are_noticed(folder, monkeypatch):
    listed(folder, monkeypatch)
    write_class(folder / 'c', 1, 7)
    (folder / 'a').rename(folder / 'unknown')
    assert listed(folder, monkeypatch) == ({'b': ['000.jpg', '001.jpg', '002.jpg'], 'c': ['007.jpg']}, ['c'])


@pytest.mark.parametrize('content', ['', 'no json'])
def test_unreadable_index_is_made_again(folder, monkeypatch, content):
    (folder / INDEX_FILE).write_text(content)
    assert listed(folder, monkeypatch)[1] == ['a', 'b']
    assert list(json.loads((folder / INDEX_FILE).read_text())) == ['a', 'b']


@pytest.fixture
def readable_folder():
    """The folder where also others than root may go, who may write nothing there."""
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root)
        for name in ('a', 'b'):
            write_class(folder / name, 3, 0)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


@pytest.fixture
def unprivileged():
    """Gives up root's right to read and write everything, where the tests have it."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    yield
    os.seteuid(user)


def test_folder_that_cannot_be_written_to_is_read_anyway(readable_folder, unprivileged, capsys):
    assert len(list_files(str(readable_folder), ['a', 'b'])['a']) == 3
    assert 'cannot be written (Permission denied): the files are listed at every start' in capsys.readouterr().err


def test_unreadable_directory_is_named(readable_folder, request):
    (readable_folder / 'b').chmod(0)
    request.getfixturevalue('unprivileged')
    with pytest.raises(UserError, match=f'^data.dir: cannot list {readable_folder}/b: Permission denied.$'):
        list_files(str(readable_folder), ['a', 'b'])
