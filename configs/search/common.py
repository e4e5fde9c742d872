"""What all searches have beside the fields of a training run: the section `search`."""

import ml_collections
from ml_collections.config_dict import placeholder

from configs import base


def get_config(algorithm: str) -> ml_collections.ConfigDict:
    """A training of classification with the section of a search."""
    config = base.get_config()
    config.search = ml_collections.ConfigDict()
    config.search.algorithm = algorithm  # netadapt
    config.search.target_ms = placeholder(float)  # milliseconds of the network to find; also --target_ms
    config.search.latency = 'papers_pixel1'  # whose milliseconds: papers_pixel1, or the format of a table
    config.search.latency_file = ''  # of a table
    config.search.held_out_percent = 5.0  # of the training images, to choose by; 0: the evaluation set is chosen by
    return config
