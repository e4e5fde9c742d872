"""What TensorFlow is told before it is imported, which data sources and readers of weights do when they are used."""

import os


def quiet() -> None:
    """Lets it start without a word; called by every command. Reading images needs none of oneDNN."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
