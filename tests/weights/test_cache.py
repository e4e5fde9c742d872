"""Downloads: verified before they count, nothing left behind, and one line that says what to do without a network."""

import dataclasses
import hashlib
import io

import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.weights import CARDS, cache

CONTENT = b'weights' * 1000
CARD = dataclasses.replace(
    CARDS['torchvision:mobilenet_v2.IMAGENET1K_V1'], digest=f'sha256:{hashlib.sha256(CONTENT).hexdigest()[:8]}'
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'torchvision'


def test_downloads_once(folder):
    calls = []

    def open_url(url):
        calls.append(url)
        return io.BytesIO(CONTENT)

    for _ in range(2):
        path = cache.fetch(CARD, open_url)
    assert path == folder / 'mobilenet_v2-b0353104.pth' and path.read_bytes() == CONTENT
    assert calls == [CARD.url] and list(folder.iterdir()) == [path]


class _Truncated(io.BytesIO):
    length = 5


def _offline(url):
    raise OSError('Network is unreachable')


@pytest.mark.parametrize(
    ('open_url', 'message'),
    [
        (lambda url: io.BytesIO(CONTENT + b'x'), 'published is .*; nothing was kept'),
        (lambda url: io.BytesIO(CONTENT[:-1]), 'published is .*; nothing was kept'),
        (lambda url: _Truncated(CONTENT), 'ended 5 bytes early'),
        (
            _offline,
            r'cannot be downloaded \(Network is unreachable\). Fetch it by hand to .*/mobilenet_v2-b0353104.pth',
        ),
    ],
    ids=['wrong', 'short', 'interrupted', 'offline'],
)
def test_what_fails_leaves_nothing(open_url, message, folder):
    with pytest.raises(UserError, match=message) as error:
        cache.fetch(CARD, open_url)
    assert '\n' not in str(error.value) and CARD.url in str(error.value)
    assert list(folder.iterdir()) == []


def test_more_than_any_network_is_not_fetched(folder, monkeypatch):
    monkeypatch.setattr(cache, 'MAX_WEIGHTS_BYTES', 100)
    with pytest.raises(UserError, match='it has more than 100 bytes'):
        cache.fetch(CARD, lambda url: io.BytesIO(CONTENT))
    assert list(folder.iterdir()) == []


def test_redirections_stay_on_https(monkeypatch):
    class _Response(io.BytesIO):
        def geturl(self):
            return 'http://example.com/weights.pth'

    monkeypatch.setattr(cache.urllib.request, 'urlopen', lambda url, timeout: _Response(CONTENT))
    with pytest.raises(UserError, match='which is not https'):
        cache.fetch(CARD)
