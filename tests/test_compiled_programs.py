"""Compiled programs are kept in the user's cache, unless the user says otherwise."""

import jax
import pytest

from mobilenets_jax import compiled_programs


@pytest.fixture(autouse=True)
def setting(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update('jax_compilation_cache_dir', None)
    yield
    jax.config.update('jax_compilation_cache_dir', before)


def test_programs_lie_in_the_cache_of_the_user(tmp_path):
    compiled_programs.enable_cache()
    assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path / 'mobilenets_jax' / 'programs-'))


def test_the_folder_of_the_user_stays():
    jax.config.update('jax_compilation_cache_dir', 'elsewhere')
    compiled_programs.enable_cache()
    assert jax.config.jax_compilation_cache_dir == 'elsewhere'
