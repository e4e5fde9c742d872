"""The index of an image folder: made once, brought up to date where a class has changed, never in the way."""

import json
import os
import pathlib
import shutil
import tempfile
from types import SimpleNamespace

import pytest
from photos import photo, write_class

from mobilenets_jax.data import folder_index, index_file
from mobilenets_jax.data.folder_index import INDEX_FILE, list_files
from mobilenets_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ('a', 'b'):
        write_class(tmp_path / name, 3, 0)
    return tmp_path


@pytest.fixture(autouse=True)
def fine_clock(monkeypatch):
    """As if every change were longer ago than the clock's coarseness; else the tests would have to wait for it."""
    monkeypatch.setattr(index_file, 'CLOCK_NANOSECONDS', 0)


def listed(folder, monkeypatch):
    """The files, and which folders had to be listed for them."""
    visited = []
    original = folder_index.list_images
    with monkeypatch.context() as patch:
        patch.setattr(folder_index, 'list_images', lambda path: visited.append(path[-1]) or original(path))
        listings = list_files(str(folder), [name for name in ('a', 'b', 'c') if (folder / name).exists()])
    return {name: listing.files for name, listing in listings.items()}, visited


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


@pytest.mark.parametrize(
    'content',
    [
        '',
        'no json',
        'null',
        '[]',
        '{"a": {"changed": 0, "files": ["000.jpg"]}}',
        '{"version": 2, "classes": null}',
        '{"version": 2, "classes": {"a": {"files": null, "left_out": {}, "folders": {"": [1, 1, 1]}}}}',
        '{"version": 2, "classes": {"a": {"files": [0], "left_out": {}, "folders": {"": [1, 1, 1]}}}}',
        '{"version": 2, "classes": {"a": {"files": [], "left_out": {".txt": "1"}, "folders": {"": [1, 1, 1]}}}}',
        '{"version": 2, "classes": {"a": {"files": [], "left_out": {}, "folders": {"": 1}}}}',
        '[' * 100_000,
        'caf\xe9',
    ],
)
def test_unreadable_index_is_made_again(folder, monkeypatch, content, capsys):
    index = folder / INDEX_FILE
    index.write_bytes(content.encode('latin1'))
    assert listed(folder, monkeypatch)[1] == ['a', 'b']
    reason = 'it is damaged, or something else wrote it'
    assert capsys.readouterr().err == f'{index} cannot be read ({reason}): the files are listed again\n'
    assert listed(folder, monkeypatch)[1] == [] and capsys.readouterr().err == ''
    assert list(json.loads((folder / INDEX_FILE).read_text())['classes']) == ['a', 'b']


def test_folder_with_the_old_time_of_modification_is_listed_again(folder, monkeypatch):
    """As after a reproducible tar archive was unpacked over another one."""
    os.utime(folder / 'a', (10**9, 10**9))
    listed(folder, monkeypatch)
    photo(0).save(folder / 'a' / 'new.jpg')
    os.utime(folder / 'a', (10**9, 10**9))
    files, visited = listed(folder, monkeypatch)
    assert files['a'] == ['000.jpg', '001.jpg', '002.jpg', 'new.jpg'] and visited == ['a']


def test_another_folder_with_the_same_times_is_listed(folder, monkeypatch):
    listed(folder, monkeypatch)
    original = index_file.status
    times = original(folder / 'a')
    (folder / 'a').rename(folder / 'old')
    write_class(folder / 'a', 1, 7)

    def status_of(path):
        status = original(path)
        if os.path.basename(path) != 'a':
            return status
        return SimpleNamespace(
            st_mtime_ns=times.st_mtime_ns, st_ctime_ns=times.st_ctime_ns, st_ino=status.st_ino, st_dev=status.st_dev
        )

    monkeypatch.setattr(index_file, 'status', status_of)
    assert listed(folder, monkeypatch)[0]['a'] == ['007.jpg']


def test_folder_that_has_just_changed_is_listed_at_every_start(folder, monkeypatch):
    """A second change within the same tick of a coarse clock leaves no trace."""
    monkeypatch.setattr(index_file, 'CLOCK_NANOSECONDS', 3600 * 10**9)
    assert listed(folder, monkeypatch)[1] == ['a', 'b']
    assert listed(folder, monkeypatch)[1] == ['a', 'b']
    assert not (folder / INDEX_FILE).exists()


def test_folders_without_times_are_listed_at_every_start(folder, monkeypatch):
    """As those of a mounted bucket."""
    original = index_file.status

    def status_of(path):
        status = original(path)
        return SimpleNamespace(st_mtime_ns=0, st_ctime_ns=0, st_ino=status.st_ino, st_dev=status.st_dev)

    for _ in range(2):
        monkeypatch.setattr(index_file, 'status', status_of)
        assert listed(folder, monkeypatch)[1] == ['a', 'b']


def test_change_of_an_inner_folder_is_noticed(folder, monkeypatch):
    write_class(folder / 'a' / 'x' / 'y', 2, 5)
    expected = ['000.jpg', '001.jpg', '002.jpg', 'x/y/005.jpg', 'x/y/006.jpg']
    assert listed(folder, monkeypatch)[0]['a'] == expected
    assert listed(folder, monkeypatch) == ({'a': expected, 'b': expected[:3]}, [])
    (folder / 'a' / 'x' / 'y' / '005.jpg').unlink()
    assert listed(folder, monkeypatch)[0]['a'] == [*expected[:3], 'x/y/006.jpg']
    shutil.rmtree(folder / 'a' / 'x')
    assert listed(folder, monkeypatch)[0]['a'] == expected[:3]


def test_links_in_a_circle_end(folder, monkeypatch):
    (folder / 'a' / 'self').symlink_to(folder / 'a')
    (folder / 'a' / 'up').symlink_to(folder)
    (folder / 'a' / 'nowhere').symlink_to(folder / 'a' / 'nowhere')
    (folder / 'a' / 'inner').mkdir()
    (folder / 'a' / 'inner' / 'back').symlink_to('..')
    listing = list_files(str(folder), ['a'])['a']
    assert listing.files == ['000.jpg', '001.jpg', '002.jpg']
    assert listing.left_out == {'links to folders that were listed already': 3, 'without a suffix': 1}
    assert list_files(str(folder), ['a'])['a'] == listing


def test_linked_folder_belongs_to_the_class(folder, monkeypatch):
    (folder / 'a' / 'more').symlink_to(folder / 'b')
    assert listed(folder, monkeypatch)[0]['a'][3:] == ['more/000.jpg', 'more/001.jpg', 'more/002.jpg']


def test_a_bucket_is_listed_at_every_start(bucket, capsys):
    for number in range(2500):
        bucket.objects[f'data/b/{number:05}.jpg'] = b'', 1
    for name in ('a/000.jpg', 'a/inner/007.JPEG', 'a/notes.txt', 'a/.hidden.jpg', 'top.jpg'):
        bucket.write(f'data/{name}', b'')
    listings = list_files('gs://bucket/data', ['a', 'b'])
    assert listings['a'].files == ['000.jpg', 'inner/007.JPEG'] and listings['a'].left_out == {'.txt': 1}
    assert listings['b'].files == [f'{number:05}.jpg' for number in range(2500)]
    bucket.write('data/a/001.jpg', b'')  # as another machine does
    bucket.delete('data/a/inner/007.JPEG')
    assert list_files('gs://bucket/data', ['a'])['a'].files == ['000.jpg', '001.jpg']
    assert folder_index.list_folders_and_images('gs://bucket/data') == (['a', 'b'], ['top.jpg'])
    assert len(bucket.names()) == 2505 and capsys.readouterr().err == ''


def test_a_folder_that_a_bucket_lacks_is_named(bucket):
    for directory in ('gs://bucket/nothing', 'gs://no-bucket/data'):
        with pytest.raises(UserError, match=f'^data.dir: cannot list {directory}: .'):
            folder_index.list_folders_and_images(directory)


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
    assert len(list_files(str(readable_folder), ['a', 'b'])['a'].files) == 3
    assert 'cannot be written (Permission denied): the files are listed at every start' in capsys.readouterr().err


def test_unreadable_directory_is_named(readable_folder, request):
    (readable_folder / 'b').chmod(0)
    request.getfixturevalue('unprivileged')
    with pytest.raises(UserError, match=f'^data.dir: cannot list {readable_folder}/b: Permission denied.$'):
        list_files(str(readable_folder), ['a', 'b'])


def test_an_index_that_may_not_be_read_is_said(readable_folder, request, capsys):
    index = readable_folder / INDEX_FILE
    index.write_text('{}')
    index.chmod(0)
    request.getfixturevalue('unprivileged')
    assert len(list_files(str(readable_folder), ['a'])['a'].files) == 3
    assert f'{index} cannot be read (Permission denied): the files are listed again\n' in capsys.readouterr().err


def test_a_folder_is_the_same_by_any_spelling(folder, monkeypatch):
    expected = folder_index.list_images(str(folder)).files
    assert expected and all(name.count('/') for name in expected)
    monkeypatch.chdir(folder)
    for spelling in ('.', f'{folder}/', f'../{folder.name}'):
        assert folder_index.list_images(spelling).files == expected
    (folder / 'none').mkdir()
    with pytest.raises(UserError, match='^--calibration: none has no images '):
        folder_index.list_images('none', '--calibration')
