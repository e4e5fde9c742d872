"""A manifest finds every kind of damage to a file, and to itself."""

import hashlib
import json

import pytest

from mobilenets_jax.checkpoints import verify_manifest, write_manifest

FILES = {'a.txt': b'first', 'state/d/data': bytes(range(256)) * 9000, 'state/empty': b''}


@pytest.fixture
def step_dir(tmp_path):
    directory = tmp_path / '120'
    for name, content in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    write_manifest(directory)
    return directory


def test_manifest_lists_size_and_sha256_of_every_file(step_dir):
    manifest = json.loads((step_dir / 'manifest.json').read_text())
    assert manifest == {name: [len(content), hashlib.sha256(content).hexdigest()] for name, content in FILES.items()}
    assert verify_manifest(step_dir) == []
    assert sorted(path.name for path in step_dir.iterdir()) == ['a.txt', 'manifest.json', 'state']


def test_writing_again_replaces_the_manifest_and_does_not_list_it(step_dir):
    (step_dir / 'a.txt').write_bytes(b'second')
    write_manifest(step_dir)
    assert json.loads((step_dir / 'manifest.json').read_text())['a.txt'][0] == 6
    assert verify_manifest(step_dir) == []


def test_every_fault_is_named_in_path_order(step_dir):
    (step_dir / 'a.txt').write_bytes(b'fIrst')
    (step_dir / 'state/d/data').write_bytes(FILES['state/d/data'][:-1])
    (step_dir / 'state/empty').unlink()
    assert verify_manifest(step_dir) == [
        'a.txt changed',
        'state/d/data has 2303999 bytes instead of 2304000',
        'state/empty missing',
    ]


def test_a_file_that_is_not_listed_is_no_fault(step_dir):
    (step_dir / 'notes.txt').write_text('the best one')
    assert verify_manifest(step_dir) == []


def test_missing_or_torn_manifest_is_a_fault(step_dir):
    manifest = step_dir / 'manifest.json'
    content = manifest.read_bytes()
    for torn in (b'', content[:-1], b'[]', b'{"a.txt": 5}', b'\xff\xfe'):
        manifest.write_bytes(torn)
        assert verify_manifest(step_dir) == ['manifest.json changed']
    manifest.unlink()
    assert verify_manifest(step_dir) == ['manifest.json missing']


def test_any_flipped_bit_of_the_manifest_is_noticed(step_dir):
    manifest = step_dir / 'manifest.json'
    content = manifest.read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        manifest.write_bytes(flipped)
        assert verify_manifest(step_dir), f'bit {position % 8} of byte {position} ({content[position : position + 1]})'


def test_unreadable_file_is_a_fault(step_dir):
    (step_dir / 'a.txt').unlink()
    (step_dir / 'a.txt').symlink_to('a.txt')  # the system refuses to follow it
    assert len(verify_manifest(step_dir)) == 1
    assert verify_manifest(step_dir)[0].startswith('a.txt unreadable')
