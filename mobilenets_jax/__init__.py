"""JAX/Flax implementations of the MobileNet line of mobile vision networks.

What is named here is imported when it is first used: `import mobilenets_jax` alone imports nothing else.
"""

import importlib

__version__ = '0.1.0'

_MODULES = {
    'create_model': 'mobilenets_jax.models',
    'freeze': 'mobilenets_jax.inference',
    'list_models': 'mobilenets_jax.models',
    'load_pretrained': 'mobilenets_jax.weights',
}
__all__ = ['__version__', 'create_model', 'freeze', 'list_models', 'load_pretrained']


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
