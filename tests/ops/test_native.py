"""The native ops are built once; if that fails or is switched off, plain JAX is used, and a failure is printed."""

import os
import stat

import numpy as np
import pytest

from mobilenets_jax.ops.cpu import native


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Makes a shell script the compiler, in a cache that is empty."""

    def use(script):
        path = tmp_path / 'compiler'
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv('CXX', str(path))
        return path

    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv(native.SWITCH, raising=False)
    return use


def is_available():
    return native._library.__wrapped__() is not None  # without the memory of what this process found


def test_a_library_is_built_once_for_a_source_and_a_compiler(compiler, tmp_path, capsys):
    # The last argument is where the library goes.
    path = compiler(f'echo built >> {tmp_path}/log; for last; do :; done; echo library > "$last"')
    log = tmp_path / 'log'
    first, calls = native._built(str(path), 60), log.read_text()
    assert first.read_text() == 'library\n' and 'built' in calls
    assert native._built(str(path), 60) == first and log.read_text() == calls
    assert f'building native ops for this CPU, once ({native.SWITCH}=0 refuses)' in capsys.readouterr().err


def test_a_compiler_that_fails_is_one_line(compiler, tmp_path, capsys):
    compiler('echo "no such standard" >&2; echo "and more" >&2; exit 1')
    assert not is_available()
    assert capsys.readouterr().err.splitlines()[-1] == (
        'no native ops for this CPU, networks are slower: no such standard'
    )
    assert not list((tmp_path / 'cache').rglob('*.so'))


def test_a_failure_is_remembered_for_a_day_unless_somebody_asks_for_the_build(compiler, tmp_path, capsys, monkeypatch):
    def attempts():
        return capsys.readouterr().err.count('building native ops')

    compiler('echo "no such standard" >&2; exit 1')
    assert not is_available() and attempts() == 1
    assert not is_available()
    assert capsys.readouterr().err == (
        'no native ops for this CPU, networks are slower: no such standard '
        '(once a day; python -m mobilenets_jax.ops.cpu.native tries now)\n'
    )
    monkeypatch.setattr(native, 'is_available', is_available)
    assert not native.build_now() and attempts() == 1
    (failure,) = (tmp_path / 'cache').rglob('*.failed')
    yesterday = failure.stat().st_mtime - native.NEXT_ATTEMPT_SECONDS - 1
    os.utime(failure, (yesterday, yesterday))
    assert not is_available() and attempts() == 1


def test_a_compiler_that_takes_too_long_does_not_delay_the_start(compiler, monkeypatch, capsys):
    monkeypatch.setattr(native, 'BUILD_SECONDS', 0.2)
    compiler('exec sleep 60')
    assert not is_available()
    assert capsys.readouterr().err.splitlines()[-1] == (
        'no native ops for this CPU, networks are slower: the compiler was not ready after 0.2 s'
    )


def test_a_library_that_does_not_load_is_one_line(compiler, capsys):
    compiler('for last; do :; done; echo "no library" > "$last"')
    assert not is_available()
    assert 'no native ops for this CPU, networks are slower' in capsys.readouterr().err.splitlines()[-1]


def test_no_compiler_is_one_line(monkeypatch, capsys):
    monkeypatch.delenv(native.SWITCH, raising=False)
    monkeypatch.setenv('PATH', '')
    monkeypatch.delenv('CXX', raising=False)
    assert not is_available()
    assert capsys.readouterr().err == 'no native ops for this CPU, networks are slower: no C++ compiler was found\n'


def test_no_line_is_printed_if_native_ops_are_switched_off(monkeypatch, capsys):
    monkeypatch.setenv(native.SWITCH, '0')
    assert not is_available()
    assert capsys.readouterr().err == ''


def test_arrays_of_several_dtypes_are_refused():
    inputs = np.zeros((1, 2, 2, 4), np.float32)
    with pytest.raises(ValueError, match='The native op norm_sums takes float32 with inputs of float32, not float16'):
        native.call('norm_sums', inputs, inputs, inputs.astype(np.float16))
