"""Code shared by train.py and eval.py: flags, their help, one-line errors, Ctrl-C, and joining the other hosts."""

import contextlib
import inspect
import math
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from mobilenets_jax import (
    allocator,
    background_errors,
    buckets,
    compiled_programs,
    hosts,
    lasting_output,
    tensorflow_settings,
)
from mobilenets_jax.config import ConfigView, check_finite, keep_overriding_spellings
from mobilenets_jax.errors import RUN_ERROR_STATUS, UserError, check, describe, did_you_mean
from mobilenets_jax.image_size import height_and_width
from mobilenets_jax.models.found import read_table
from mobilenets_jax.renamed_fields import describe_renamed
from mobilenets_jax.stop_signals import Interruptible

CONFIG = config_flags.DEFINE_config_file('config', lock_config=True, help_string='Config file, e.g. configs/digits.py.')
_COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0; on Cloud TPU it is found by itself.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Processes in the run, with --coordinator.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'This process, from 0, with --coordinator.')
_MULTIHOST = flags.DEFINE_boolean('multihost', False, 'Join the other hosts of a Cloud TPU slice.')
_JOIN_TIMEOUT = flags.DEFINE_integer('join_timeout_seconds', 300, 'How long to wait for the other hosts.', 1)
_HEARTBEAT_TIMEOUT = flags.DEFINE_integer(
    'heartbeat_timeout_seconds', 100, 'A host that is silent for so long is dead, and the others end.', 1
)

SPEC_FILE = 'spec_file'  # the field of `model` that names a file of a table
CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'  # beside the package, in a checkout and when installed
_HELP = ('-h', '-help', '--help', '-helpshort', '--helpshort', '-helpfull', '--helpfull')


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


def run(
    main: Callable[[], None],
    argv: Sequence[str],
    *,
    trains: bool = False,
    default_config: Callable[[Sequence[str]], str] | None = None,
) -> None:
    """Parses `argv`, joins the other hosts and calls `main`; an error that is not a bug of ours ends in one line.

    Exit status: 2 for a user's mistake; 1 if the run or a file failed; 130 for Ctrl-C, except for a run that saved
    before it stopped; 0 for `--help`.

    Args:
        main: reads the flags; the docstring of its module is the head of the help.
        argv: of the process.
        trains: whether the process continues after its output is closed, and keeps the memory of a step for the next
            one, see `allocator`.
        default_config: from `argv` to the value of `--config` if it is not given; it must not ask JAX for its devices,
            since the other hosts are not joined yet.
    """
    tensorflow_settings.quiet()
    with Interruptible():
        try:
            if any(argument in _HELP for argument in argv[1:]):
                print(help_text(main), flush=True)
                return
            background_errors.quiet()
            buckets.use_one_client()
            if trains:
                lasting_output.install()
            if default_config is not None and value_of(argv, 'config') is None:
                argv = [argv[0], f'--config={default_config(argv)}', *argv[1:]]
            parse(argv, inspect.getmodule(main).__name__)
            if trains and CONFIG.value is not None:
                _keep_memory(CONFIG.value)
            compiled_programs.enable_cache()
            _join_hosts(argv)
            main()
        except Exception as error:
            status = _status_of(error)
            if status == RUN_ERROR_STATUS and jax.process_count() == 1:
                background_errors.end(status)
            hosts.exit_process(status)


def _keep_memory(config: ConfigDict) -> None:
    pixels = math.prod(height_and_width(config.image_size))
    allocator.keep_memory(config.batch_size * pixels * 4 ** min(config.model.num_removed_strides, 8))


def _status_of(error: Exception) -> int:
    """Prints the line of an error; returns the exit status. On one host a bug is raised again."""
    if isinstance(error, BrokenPipeError):
        lasting_output.discard(sys.stdout)
    described = describe(error)
    if described is not None:
        line, status = described
        with contextlib.suppress(OSError):
            print(f'error: {line}', file=sys.stderr, flush=True)
        return status
    if jax.process_count() == 1:
        raise error
    traceback.print_exception(error)
    return RUN_ERROR_STATUS


def help_text(main: Callable[[], None]) -> str:
    """Usage, flags, and where the fields of a config are described."""
    rows, command = [], inspect.getmodule(main)
    for module in (command.__name__, __name__):
        for flag in flags.FLAGS.flags_by_module_dict().get(module, []):
            default = f' (default: {flag.default})' if flag.default not in (None, False) else ''
            rows.append((f'--{flag.name}', f'{flag.help}{default}'))
    width = max(len(name) for name, _ in rows)
    listed = '\n'.join(f'  {name:<{width}}  {text}' for name, text in rows)
    return (
        f'{inspect.getdoc(command)}\n\nflags:\n{listed}\n'
        f'  {"--config.FIELD":<{width}}  Any field of the config. configs/base.py names and describes all of them.'
    )


def config_view(fields: Mapping[str, Any] | None = None) -> ConfigView:
    """The config of the flags, with the command line's spelling of every duration.

    Args:
        fields: by dotted path, values that replace those of the config's file unless the command line sets them.
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
    """The config fields that the command line sets, by dotted path; with a table's file also the fields it sets."""
    overridden = config_flags.get_override_values(flags.FLAGS['config'])
    if overridden.get(f'model.{SPEC_FILE}') and CONFIG.value.model.table:
        of_table = {f'model.{field}': CONFIG.value.model[field] for field in ('name', 'table')}
        return {**overridden, **of_table}
    return overridden


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """The value of a flag, such as 'workdir', that is not parsed yet; None where it is not given."""
    found = None
    for argument, following in zip(argv, [*argv[1:], ''], strict=True):
        name, equals, value = argument.partition('=')
        if name in (f'-{flag}', f'--{flag}'):
            found = value if equals else following
    return found


def parse(argv: Sequence[str], command: str = '') -> None:
    """Parses the flags; any error of a wrong flag or config becomes one line.

    Args:
        argv: the name of the program, and flags.
        command: the module that has flags of its own, if there is one.
    """
    argv = [_with_config_file(argument) for argument in argv]
    try:
        rest = flags.FLAGS(argv)
        if CONFIG.value is not None:
            fields = CONFIG.value.to_dict()  # raises only now where the file could not be read
            _check_names(fields)
            _check_unset(CONFIG.value, overrides())
            _read_table(CONFIG.value)
            if 'task' in overrides():
                raise UserError(f'config.task={overrides()["task"]!r} is set by the file of --config alone.')
    except Exception as error:  # absl and ml_collections raise AttributeError, KeyError, TypeError, OSError and more
        raise UserError(_one_line(error, argv)) from error
    if len(rest) > 1:
        raise UserError(f'{rest[1]!r} is not a flag; flags are spelled --name=value.')
    for module in (command, __name__):
        for flag in flags.FLAGS.flags_by_module_dict().get(module, []):
            check(flag.value != '', f'--{flag.name}', flag.value, 'is empty')


def read_config(argv: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A config as some flags give it to another process, nested, and what they set of it, by dotted path.

    The flags of this process stay as they are.

    Args:
        argv: the name of the program, --config, and fields of it.

    Raises:
        UserError: a flag, a field or a value is wrong.
    """
    argv, values = [_with_config_file(argument) for argument in argv], flags.FlagValues()
    config = config_flags.DEFINE_config_file('config', flag_values=values, lock_config=True, sys_argv=argv)
    try:
        rest = values(argv)
        check(len(rest) == 1, 'argument', rest[-1], 'is not a flag; flags are spelled --name=value')
        check(config.value is not None, '--config', None, 'is missing, e.g. --config=configs/digits.py')
        given = config_flags.get_override_values(values['config'])
        _check_unset(config.value, given)
        return config.value.to_dict(), given
    except Exception as error:  # as in `parse`
        raise UserError(_one_line(error, argv)) from error


def _with_config_file(argument: str) -> str:
    """`--config=NAME[:ARGUMENT]` with the file of `NAME`, e.g. 'digits' or 'detection/bccd'; other arguments unchanged.

    A path that is not there, such as 'configs/digits.py', is looked for beside the package, too, where an installation
    has them.
    """
    flag, _, value = argument.partition('=')
    name, colon, rest = value.partition(':')
    if flag not in ('-config', '--config') or '://' in value or not name or os.path.isfile(name):
        return argument
    named = CONFIGS / f'{name}.py' if not name.endswith('.py') else CONFIGS.parent / name
    return f'{flag}={named}{colon}{rest}' if named.is_file() else argument


def _read_table(config: ConfigDict) -> None:
    """Puts the table that `model.spec_file` names in its fields, and the name of its network."""
    path, overridden = config.get('model', {}).get(SPEC_FILE), overrides()
    if not path:
        return
    for field in ('name', 'table'):
        value = overridden.get(f'model.{field}')
        check(value is None, f'model.{field}', value, f'has no effect with model.{SPEC_FILE}={path!r}')
    config.model.name, config.model.table = read_table(path, f'model.{SPEC_FILE}={path!r}')


def _check_unset(config: ConfigDict, overridden: Mapping[str, Any]) -> None:
    """Raises `UserError` if the command line unsets a field that cannot be: those that can are placeholders."""
    for path, value in overridden.items():
        section, _, field = path.rpartition('.')
        node = config[section] if section else config
        may_be_unset = isinstance(dict(node.items(preserve_field_references=True))[field], FieldReference)
        check(value is not None or may_be_unset, path, value, 'is no value of this field, which cannot be unset')


def _check_names(fields: Mapping[str, Any]) -> None:
    """Raises `UserError` if the config's file sets a field by the name of an older version."""
    paths = [path.removeprefix('config.') for path in ConfigView(fields).leaves()]
    for path in paths:
        if renamed := describe_renamed(path, paths):
            raise UserError(f'{renamed}; the file of --config sets the old name.')


def _unknown_field(argv: Sequence[str]) -> str | None:
    """The message on the first flag that names no field of the config; None if there is no such flag, or no config."""
    names = [argument.lstrip('-').partition('=')[0] for argument in argv if argument.startswith('-')]
    files = [argument.partition('=')[2] for argument in argv if argument.startswith(('-config=', '--config='))]
    config = flags.FLAGS['config'].parser.parse(files[0]) if files else None
    if not isinstance(config, ConfigDict):
        return None
    leaves = [path.removeprefix('config.') for path in ConfigView(config.to_dict()).leaves()]
    sections = {path.rpartition('.')[0] for path in leaves}
    for path in (name.removeprefix('config.') for name in names if name.startswith('config.')):
        if path not in (*leaves, *sections):
            if renamed := describe_renamed(path, leaves):
                return f'{renamed}.'
            # Its last part may be right, and belong to another section.
            elsewhere = [leaf for leaf in leaves if leaf.rpartition('.')[2] == path.rpartition('.')[2]]
            hint = did_you_mean(path, elsewhere, cutoff=0.0) or did_you_mean(path, leaves, cutoff=0.6)
            return f'config.{path} is no field of the config.{hint}'
    return None


def _one_line(error: Exception, argv: Sequence[str]) -> str:
    """One line on a wrong flag or config, without the tracebacks that ml_collections puts into its messages."""
    chain = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
    for cause in reversed(chain):
        if isinstance(cause, UserError):  # raised by a config file
            return str(cause)
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    if isinstance(error, KeyError) and (unknown := _unknown_field(argv)):
        return unknown
    first, *more = str(error.args[0] if error.args else error).strip().split('\n')
    if isinstance(error, flags.Error):
        return ' '.join([first, *more[-1:]])
    return f'--config: {(more or [first])[-1].strip() or type(error).__name__}'


def _join_hosts(argv: Sequence[str]) -> None:
    """Joins the other hosts, and checks that all run the same command and code on the same kind of devices."""
    if _COORDINATOR.value is None and not _MULTIHOST.value:
        for flag in (_NUM_PROCESSES, _PROCESS_ID):
            check(flag.value is None, f'--{flag.name}', flag.value, 'needs --coordinator=HOST:PORT')
        return
    if _MULTIHOST.value:
        for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID):
            requirement = (
                'excludes --multihost, with which the hosts of a Cloud TPU slice find each other by themselves'
            )
            check(flag.value is None, f'--{flag.name}', flag.value, requirement)
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
