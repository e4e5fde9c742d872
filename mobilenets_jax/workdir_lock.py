"""A lock on a workdir, so that two runs never write into one.

`WORKDIR/run.lock` names the process that trains there. It is deleted when that process ends in good order. A kill
leaves it behind: the next run takes it over at once where it can see that the process is gone, because it ran on this
machine; else it waits until the heartbeat in the file has stood still for a minute.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import jax
from etils import epath

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.config import write_text
from mobilenets_jax.errors import UserError, one_line
from mobilenets_jax.hosts import broadcast_from_primary

LOCK_NAME = 'run.lock'
HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
# A heartbeat that is so old by the clock needs no watching: the clocks of two machines do not differ by as much.
_ABANDONED_SECONDS = 3600.0
_POLL_SECONDS = 1.0
# Where writers cannot keep each other out, the last of those that start at one moment holds the lock.
_SETTLE_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """The content of a lock file.

    Attributes:
        host: name of the machine.
        pid: of the process.
        machine: tells this start of the machine, and of the container, from all others; '' where that is not known.
        process_start: when the process started, in clock ticks of the machine: a process id is used again.
        since: when it took the lock, as people read it.
        token: no two holders have the same.
        heartbeat: seconds since 1970, written again and again while the process lives.
    """

    host: str
    pid: int
    machine: str
    process_start: int | None
    since: str
    token: str
    heartbeat: float

    @classmethod
    def this_process(cls) -> 'Holder':
        """The holder that this process will be."""
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            machine=_machine(),
            process_start=_process_start(os.getpid()),
            since=time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime()),
            token=uuid.uuid4().hex,
            heartbeat=time.time(),
        )

    @property
    def is_local(self) -> bool:
        """Whether this process can see that one, if it lives."""
        return self.machine != '' and self.machine == _machine()

    @property
    def is_gone(self) -> bool:
        """Whether it is sure that the process has ended."""
        if self.is_local:
            return _process_start(self.pid) != self.process_start
        return time.time() - self.heartbeat > _ABANDONED_SECONDS


class WorkdirLock:
    """Holds the lock of a workdir while it is entered; every process of a run enters it, the primary one holds it.

    The folder is created, and deleted again if nothing was written into it.

    Args:
        workdir: local or gs://.

    Raises:
        UserError: when it is entered: another process trains there, or the folder cannot be written.
    """

    def __init__(self, workdir: epath.PathLike):
        self._workdir = epath.Path(workdir)
        self._path = self._workdir / LOCK_NAME
        self._created: list[epath.Path] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name='workdir_lock', daemon=True)

    def __enter__(self) -> 'WorkdirLock':
        self._own = Holder.this_process()
        broadcast_from_primary(self._acquire)
        if jax.process_index() == 0:
            self._thread.start()
        return self

    def __exit__(self, *exc_info):
        if jax.process_index() == 0:
            self._ended.set()
            self._thread.join()
            with contextlib.suppress(OSError):  # the folder may be gone; the next run finds that this process has ended
                self._release()

    def _acquire(self) -> None:
        try:
            self._create_folder()
            other = self._take()
            if other is not None and not other.is_local:
                other = self._watch(other)
        except Exception as error:
            if isinstance(error, UserError) or not (isinstance(error, OSError) or is_bucket(self._workdir)):
                raise
            raise UserError(f'workdir={str(self._workdir)!r} cannot be written: {_reason(error)}.') from error
        if other is not None:
            raise UserError(
                f'workdir={str(self._workdir)!r} is in use by process {other.pid} on {other.host} since {other.since}.'
            )

    def _watch(self, other: Holder) -> Holder | None:
        """Waits until a holder on another machine shows that it lives; takes the lock if it does not."""
        print(
            f'workdir={str(self._workdir)!r} was left by process {other.pid} on {other.host}, or is in use: '
            f'waiting up to {STALE_SECONDS:.0f} s for a sign of it',
            file=sys.stderr,
            flush=True,
        )
        end = time.monotonic() + STALE_SECONDS
        while time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
            found = self._take()
            if found != other:
                return found
        return self._take(dead=other)

    def _take(self, dead: Holder | None = None) -> Holder | None:
        """Takes the lock unless a process holds it that is neither gone nor `dead`; returns that one."""
        with self._alone() as alone:
            holder = self._read()
            if holder is not None and holder != dead and not holder.is_gone:
                return holder
            self._write()
        if not alone:
            time.sleep(_SETTLE_SECONDS)
            holder = self._read()
            return None if holder is not None and holder.token == self._own.token else holder
        return None

    def _keep_alive(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(Exception):  # a full disk, or whatever a bucket raises: the next one may succeed
                self._renew()

    def _renew(self) -> None:
        with self._alone():
            holder = self._read()
            if holder is not None and holder.token not in ('', self._own.token):
                self._give_up(holder)
            self._own = dataclasses.replace(self._own, heartbeat=time.time())
            self._write()

    def _give_up(self, holder: Holder) -> None:
        """Ends this process: it was stopped for so long that another one has taken over its run."""
        print(
            f'error: workdir={str(self._workdir)!r} was taken over by process {holder.pid} on {holder.host}; '
            'this process ends.',
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    def _release(self) -> None:
        with self._alone():
            holder = self._read()
            if holder is not None and holder.token == self._own.token:
                self._path.unlink()
        for folder in self._created:
            os.rmdir(folder)  # fails where it is not empty

    def _create_folder(self) -> None:
        if not is_bucket(self._workdir):  # which has no folders
            folders = [self._workdir, *self._workdir.parents]
            self._created = [folder for folder in folders if not folder.exists()]  # the innermost first
        self._workdir.mkdir(parents=True, exist_ok=True)

    def _read(self) -> Holder | None:
        """The content of the lock file; None if there is none. A file that no version wrote has an unknown holder."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return None
        try:
            return Holder(**json.loads(text))
        except (ValueError, TypeError):
            unknown = {'host': 'an unknown machine', 'pid': 0, 'machine': '', 'process_start': None}
            return Holder(**unknown, since='an unknown time', token='', heartbeat=self._path.stat().mtime)

    def _write(self) -> None:
        write_text(self._path, json.dumps(dataclasses.asdict(self._own)))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Keeps all other processes out that are here, too; yields False where the file system has no such means."""
        with contextlib.ExitStack() as stack:
            try:
                descriptor = os.open(self._workdir, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # the kernel takes it back with the descriptor
                alone = True
            except OSError:
                alone = False
            yield alone


def _reason(error: Exception) -> str:
    """Why a folder cannot be written, in a line; the clients of a bucket raise what they like."""
    if isinstance(error, FileNotFoundError) and error.strerror is None:
        return 'there is no such bucket'
    return one_line(error)


def _machine() -> str:
    """Differs between machines, their starts, and containers, in which the same process ids mean other processes."""
    try:
        boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
        return f'{boot} {os.readlink("/proc/self/ns/pid")}'
    except OSError:
        return ''


def _process_start(pid: int) -> int | None:
    """When a process of this machine started, in clock ticks; None if there is none, or nothing but its exit status."""
    try:
        # After the name, which may have any characters, come the state and, as the 22nd field of all, the start time.
        state, *fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except OSError:
        return None
    return None if state in 'ZX' else int(fields[18])
