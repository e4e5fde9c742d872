"""A Google Cloud Storage of this process alone: as much of its JSON API as the clients use that a run writes with.

These are gcsfs and google-cloud-storage (aiohttp, requests) and TensorStore (C++). No test in here.
"""

import base64
import contextlib
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = 'bucket'
PAGE = 1000  # names in a listing, as many as the real one gives
_OBJECT = re.compile(r'(/download)?/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)$')
_LIST = re.compile(r'/storage/v1/b/(?P<bucket>[^/]+)/o/?$')
_UPLOAD = re.compile(r'(/resumable)?/upload/storage/v1/b/(?P<bucket>[^/]+)/o$')
_BUCKET = re.compile(r'/storage/v1/b/(?P<bucket>[^/]+)$')


class FakeBucket:
    """Objects by name, served on a port of this machine. There is one bucket, `BUCKET`.

    Attributes:
        objects: name to (bytes, generation), as it is now; each change makes a new dict.
        changed: is called with the name of an object that was written or deleted, before the client hears of it.
        environment: what tells the clients of a process to come here.
    """

    def __init__(self):
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.changed: Callable[[str], None] = lambda name: None
        self._generations = itertools.count(1)
        self._sessions: dict[str, tuple[str, dict, bytearray]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
        self._server.bucket = self
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True)

    def __enter__(self) -> 'FakeBucket':
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it is served."""
        return f'http://127.0.0.1:{self._server.server_port}'

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that send the clients of a process to this server, without a password."""
        return {
            'STORAGE_EMULATOR_HOST': self.url,
            'TENSORSTORE_GCS_HTTP_URL': self.url,
            'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none',
            'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',  # for zonal and hierarchical buckets, over gRPC
        }

    def names(self, prefix: str = '') -> list[str]:
        """The sorted names of the objects that begin with `prefix`."""
        with self._lock:
            return sorted(name for name in self.objects if name.startswith(prefix))

    def read(self, name: str) -> bytes:
        """The bytes of an object."""
        return self.objects[name][0]

    def write(self, name: str, data: bytes, conditions: Mapping[str, str] | None = None) -> dict | None:
        """Writes an object in one move; returns what is known of it, None if a condition does not hold."""
        with self._lock:
            if not self._holds(name, conditions or {}):
                return None
            self.objects = self.objects | {name: (bytes(data), next(self._generations))}
            described = self.describe(name)
        self.changed(name)
        return described

    def delete(self, name: str, conditions: Mapping[str, str] | None = None) -> bool:
        """Deletes an object; returns whether the conditions held."""
        with self._lock:
            if not self._holds(name, conditions or {}):
                return False
            self.objects = {other: value for other, value in self.objects.items() if other != name}
        self.changed(name)
        return True

    def describe(self, name: str) -> dict:
        """What is known of an object."""
        data, generation = self.objects[name]
        time = '2026-01-01T00:00:00.000Z'
        return {
            'kind': 'storage#object',
            'bucket': BUCKET,
            'name': name,
            'size': str(len(data)),
            'generation': str(generation),
            'metageneration': '1',
            'md5Hash': base64.b64encode(hashlib.md5(data).digest()).decode(),
            'contentType': 'application/octet-stream',
            'timeCreated': time,
            'updated': time,
        }

    def listing(self, query: Mapping[str, str]) -> dict:
        """A page of names."""
        prefix, delimiter, start = query.get('prefix', ''), query.get('delimiter'), query.get('pageToken', '')
        limit = min(int(query.get('maxResults') or PAGE), PAGE)
        items, prefixes, last = [], [], ''
        for name in self.names(prefix):
            if query.get('startOffset', '') > name or ('endOffset' in query and name >= query['endOffset']):
                continue
            rest = name[len(prefix) :]
            folder = prefix + rest[: rest.index(delimiter) + 1] if delimiter and delimiter in rest else None
            entry = folder or name
            if entry <= start or entry == last:
                continue
            if len(items) + len(prefixes) == limit:
                return {'kind': 'storage#objects', 'items': items, 'prefixes': prefixes, 'nextPageToken': last}
            last = entry
            if folder:
                prefixes.append(folder)
            else:
                with contextlib.suppress(KeyError):  # deleted since
                    items.append(self.describe(name))
        return {'kind': 'storage#objects', 'items': items, 'prefixes': prefixes}

    def begin(self, name: str, conditions: dict) -> str:
        """Starts an upload in parts; returns its name."""
        session = str(next(self._generations))
        self._sessions[session] = name, conditions, bytearray()
        return session

    def add(self, session: str, data: bytes, total: int | None) -> dict | int | None:
        """Adds a part; what `write` returns for the last one, else how many bytes there are."""
        name, conditions, parts = self._sessions[session]
        parts += data
        return self.write(name, parts, conditions) if len(parts) == total else len(parts)

    def _holds(self, name: str, conditions: Mapping[str, str]) -> bool:
        generation = self.objects.get(name, (b'', 0))[1]
        wanted, unwanted = conditions.get('ifGenerationMatch'), conditions.get('ifGenerationNotMatch')
        return wanted in (None, str(generation)) and unwanted != str(generation)


class _Handler(BaseHTTPRequestHandler):
    """Answers one client after the other's question; its methods are named by `http.server`."""

    protocol_version = 'HTTP/1.1'
    wbufsize = -1  # an answer goes out as a whole: its second half would wait for a receipt of the first
    disable_nagle_algorithm = True

    @property
    def bucket(self) -> FakeBucket:
        return self.server.bucket

    def log_message(self, *args):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):  # of a client that was killed
            super().handle()

    def do_GET(self):
        self._serve()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _serve(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = self._body()
        for pattern, methods in (
            (_OBJECT, {'GET': self._get, 'DELETE': self._delete}),
            (_LIST, {'GET': self._list}),
            (_UPLOAD, {'POST': self._upload, 'PUT': self._upload}),
            (_BUCKET, {'GET': self._get_bucket}),
        ):
            found = pattern.match(url.path)
            if found and self.command in methods:
                if unquote(found['bucket']) != BUCKET:
                    return self._answer(404, {'error': {'code': 404, 'message': 'No such bucket'}})
                return methods[self.command](unquote(found.groupdict().get('name') or ''), query, body)
        return self._answer(501, {'error': {'code': 501, 'message': f'{self.command} {url.path}'}})

    def _body(self) -> bytes:
        if self.headers.get('Transfer-Encoding', '').lower() == 'chunked':
            parts = []
            while size := int(self.rfile.readline().split(b';')[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b''.join(parts)
        return self.rfile.read(int(self.headers.get('Content-Length') or 0))

    def _answer(self, status: int, content: dict | bytes = b'', headers: Mapping[str, str] | None = None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = 'application/octet-stream' if isinstance(content, bytes) else 'application/json'
        self.send_response(status)
        for name, value in {'Content-Type': kind, 'Content-Length': str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _get_bucket(self, name, query, body):
        self._answer(200, {'kind': 'storage#bucket', 'name': BUCKET, 'storageClass': 'STANDARD'})

    def _list(self, name, query, body):
        self._answer(200, self.bucket.listing(query))

    def _get(self, name, query, body):
        try:
            (data, generation), facts = self.bucket.objects[name], self.bucket.describe(name)
        except KeyError:
            return self._answer(404, {'error': {'code': 404, 'message': f'No such object: {name}'}})
        if query.get('alt') != 'media':
            return self._answer(200, facts)
        headers = {'x-goog-generation': str(generation), 'x-goog-stored-content-length': str(len(data))}
        if query.get('ifGenerationNotMatch') == str(generation):
            return self._answer(304, headers=headers)
        asked = re.match(r'bytes=(\d+)-(\d*)', self.headers.get('Range') or '')
        if not asked:
            return self._answer(200, data, headers)
        start, end = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
        if start >= len(data):
            return self._answer(416, headers=headers)
        headers['Content-Range'] = f'bytes {start}-{end}/{len(data)}'
        return self._answer(206, data[start : end + 1], headers)

    def _delete(self, name, query, body):
        if name not in self.bucket.objects:
            return self._answer(404, {'error': {'code': 404, 'message': f'No such object: {name}'}})
        return self._answer(204 if self.bucket.delete(name, query) else 412)

    def _upload(self, name, query, body):
        kind = query.get('uploadType')
        if 'upload_id' in query:
            return self._upload_part(query['upload_id'], body)
        if kind == 'multipart':
            facts, body = _parts(self.headers['Content-Type'], body)
            return self._written(self.bucket.write(facts.get('name') or query['name'], body, query))
        if kind == 'resumable':
            name = query.get('name') or json.loads(body)['name']
            session = self.bucket.begin(name, query)
            place = f'{self.bucket.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&upload_id={session}'
            return self._answer(200, headers={'Location': place})
        return self._written(self.bucket.write(query['name'], body, query))

    def _upload_part(self, session, body):
        total = self.headers['Content-Range'].rpartition('/')[2]
        added = self.bucket.add(session, body, None if total == '*' else int(total))
        if isinstance(added, int):
            return self._answer(308, headers={'Range': f'bytes=0-{added - 1}'} if added else {})
        return self._written(added)

    def _written(self, facts: dict | None):
        if facts is None:
            return self._answer(412, {'error': {'code': 412, 'message': 'conditionNotMet'}})
        return self._answer(200, facts)


def _parts(content_type: str, body: bytes) -> tuple[dict, bytes]:
    """What a multipart upload says of an object, and its bytes."""
    header = Message()
    header['Content-Type'] = content_type
    boundary = b'--' + header.get_param('boundary').encode()
    _, facts, data, _ = body.split(boundary, 3)
    return json.loads(_content(facts)), _content(data)


def _content(part: bytes) -> bytes:
    """The content after the header of a part."""
    end = b'\r\n' if part.startswith(b'\r\n') else b'\n'
    return part.partition(2 * end)[2].removesuffix(end)
