"""Settings of TensorFlow before its import, which happens when a data source or a reader of weights needs it."""

import os


def quiet() -> None:
    """Lets it start without a word; called by every command. Reading images needs none of oneDNN."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
