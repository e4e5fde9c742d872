"""What train.py and eval.py share: flags, one-line errors with exit status 2, and joining the other hosts."""

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from mobilenets_jax import allocator, buckets, compiled_programs, hosts, tensorflow_settings
from mobilenets_jax.config import ConfigView, check_finite, keep_overriding_spellings
from mobilenets_jax.errors import UserError, check

CONFIG = config_flags.DEFINE_config_file('config', lock_config=True, help_string='Config file, e.g. configs/digits.py.')
_COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0; on Cloud TPU it is found by itself.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Processes in the run, with --coordinator.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'This process, from 0, with --coordinator.')
_MULTIHOST = flags.DEFINE_boolean('multihost', False, 'Join the other hosts of a Cloud TPU slice.')
_JOIN_TIMEOUT = flags.DEFINE_integer('join_timeout_seconds', 300, 'How long to wait for the other hosts.', 1)
_HEARTBEAT_TIMEOUT = flags.DEFINE_integer(
    'heartbeat_timeout_seconds', 100, 'A host that is silent for so long is dead, and the others end.', 1
)

USER_ERROR_STATUS = 2


class _NumberOrNone(flags.ArgumentParser):
    """Reads a number, or 'None' for a field that may be unset."""

    def __init__(self, numbers: flags.ArgumentParser):
        self._numbers = numbers

    def parse(self, argument: str):
        """The number."""
        return None if argument == 'None' else self._numbers.parse(argument)

    def flag_type(self) -> str:
        """What it reads, for the help."""
        return self._numbers.flag_type()


config_flags.register_flag_parser_for_type(int, _NumberOrNone(flags.IntegerParser()))
config_flags.register_flag_parser_for_type(float, _NumberOrNone(flags.FloatParser()))


def run(main: Callable[[], None], argv: Sequence[str], *, trains: bool = False) -> None:
    """Parses `argv`, joins the other hosts and calls `main`; a user's mistake ends in one line and status 2.

    Args:
        main: reads the flags.
        argv: of the process.
        trains: whether the memory of a step is worth keeping for the next, see `allocator`.
    """
    tensorflow_settings.quiet()
    buckets.use_one_client()
    try:
        parse(argv)
        if trains and CONFIG.value is not None:
            config = CONFIG.value
            allocator.keep_memory(config.batch_size * config.image_size**2 * 4 ** min(config.model.dropped_strides, 8))
        compiled_programs.keep()
        _join_hosts(argv)
        main()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        hosts.end(USER_ERROR_STATUS)
    except Exception:
        if jax.process_count() == 1:
            raise
        traceback.print_exc()
        hosts.end(1)


def config_view(fields: Mapping[str, Any] | None = None) -> ConfigView:
    """The config of the flags, with the command line's spelling of every duration.

    Args:
        fields: by dotted path, values that stand for those of the config's file where the command line is silent.
    """
    if CONFIG.value is None:
        raise UserError('--config is missing, e.g. --config=configs/digits.py.')
    config, overridden = CONFIG.value, overrides()
    with config.unlocked():
        keep_overriding_spellings(config, overridden)
    silent = {path: value for path, value in (fields or {}).items() if path not in overridden}
    view = ConfigView(config.to_dict()).updated(silent)
    check_finite(view.leaves())
    return view


def overrides() -> dict[str, Any]:
    """What the command line sets of the config, by dotted path."""
    return config_flags.get_override_values(flags.FLAGS['config'])


def parse(argv: Sequence[str]) -> None:
    """Parses the flags; whatever a wrong flag or config raises becomes one line."""
    try:
        rest = flags.FLAGS(list(argv))
        if CONFIG.value is not None:
            CONFIG.value.to_dict()  # raises only now where the file could not be read
            _check_unset(CONFIG.value, overrides())
    except Exception as error:  # absl and ml_collections raise AttributeError, KeyError, TypeError, OSError and more
        raise UserError(_one_line(error)) from error
    if len(rest) > 1:
        raise UserError(f'{rest[1]!r} is not a flag; flags are spelled --name=value.')


def _check_unset(config: ConfigDict, given: Mapping[str, Any]) -> None:
    """Raises `UserError` if the command line unsets a field that cannot be: those that can are placeholders."""
    for path, value in given.items():
        section, _, field = path.rpartition('.')
        node = config[section] if section else config
        may_be_unset = isinstance(dict(node.items(preserve_field_references=True))[field], FieldReference)
        check(value is not None or may_be_unset, path, value, 'is no value of this field, which cannot be unset')


def _one_line(error: Exception) -> str:
    """What a wrong flag or config is said to be, without the tracebacks that ml_collections puts into its messages."""
    chain = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
    for cause in reversed(chain):
        if isinstance(cause, UserError):  # raised by a config file
            return str(cause)
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    first, *more = str(error.args[0] if error.args else error).strip().split('\n')
    if isinstance(error, KeyError):
        return ' '.join([f'{first} is no field of the config.', *more])
    if isinstance(error, flags.Error):
        return ' '.join([first, *more[-1:]])
    return f'--config: {(more or [first])[-1].strip() or type(error).__name__}'


def _join_hosts(argv: Sequence[str]) -> None:
    """Joins the other hosts, and sees to it that all run one command with one code on one kind of devices."""
    if _COORDINATOR.value is None and not _MULTIHOST.value:
        return
    hosts.join(
        _COORDINATOR.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        timeout_seconds=_JOIN_TIMEOUT.value,
        heartbeat_timeout_seconds=_HEARTBEAT_TIMEOUT.value,
    )
    facts = {f'--{flag.name}': flag.value for flag in flags.FLAGS.get_key_flags_for_module(argv[0])}
    facts |= {'code version': hosts.code_version(), 'JAX version': jax.__version__}
    facts |= {'device kind': jax.local_devices()[0].device_kind, 'local device count': jax.local_device_count()}
    if CONFIG.value is not None:
        facts |= config_view().leaves()
    hosts.check_agreement(facts)
    hosts.connect()
