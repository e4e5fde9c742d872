"""What all searches have beside the fields of a training run: the section `search`."""

import ml_collections
from ml_collections.config_dict import placeholder

from configs import base


def get_config(algorithm: str) -> ml_collections.ConfigDict:
    """A training of classification with the section of a search."""
    config = base.get_config()
    config.search = ml_collections.ConfigDict()
    config.search.algorithm = algorithm  # netadapt or weight_sharing
    config.search.target_ms = placeholder(float)  # milliseconds of the network to find; also --target_ms
    config.search.latency = 'papers_pixel1'  # whose milliseconds: papers_pixel1, or the format of a table
    config.search.latency_file = ''  # of a table
    # Pixels at which the latency is that of the network with all strides; unset: that of the network as it is trained.
    config.search.latency_image_size = placeholder(int)
    config.search.held_out_percent = 5.0  # of the training images, to choose by; 0: the evaluation set is chosen by
    return config


def get_stand_alone() -> ml_collections.ConfigDict:
    """The fields of a search whose networks are trained one by one; `search.space` takes the place of `model.name`."""
    config = get_config('stand_alone')
    config.search.space = 'mnasnet'
    config.search.options = ()  # (pattern, options): choices whose name has the pattern have these options alone
    config.search.controller = 'reinforce'  # reinforce, evolution, or random within 10 % below the target
    config.search.num_networks = 100  # that are trained, each for num_epochs or num_steps
    config.search.networks_per_update = 8  # after so many the controller learns
    config.search.reward = 'soft'  # soft or hard (MnasNet's), absolute (TuNAS's)
    config.search.exponent = placeholder(float)  # how much latency counts, negative; unset: the paper's
    config.search.learning_rate = 0.08  # reinforce
    config.search.baseline_decay = 0.95  # reinforce: of the moving average of the rewards
    config.search.population = 64  # evolution: how many networks are alive
    config.search.tournament = 16  # evolution: a parent is the best of so many
    config.search.mutation_rate = 0.1  # evolution: the probability that a decision is drawn anew
    return config


def get_weight_sharing() -> ml_collections.ConfigDict:
    """The fields of a search with shared weights (docs/search.md); `search.space` takes the place of `model.name`."""
    config = get_config('weight_sharing')
    config.search.space = 'proxylessnas'
    config.search.options = ()  # (pattern, options): choices whose name has the pattern have these options alone
    config.search.reward = 'absolute'  # absolute (TuNAS's), hard or soft (MnasNet's)
    config.search.exponent = placeholder(float)  # how much latency counts, negative; unset: the paper's
    config.search.learning_rate = 0.01  # of the controller
    config.search.baseline_decay = 0.95  # of the moving average of the rewards
    # So long the controller does not learn, and options give way to the largest ones with a falling probability.
    for unit, kind in (('steps', int), ('epochs', float), ('examples', int), ('percent', float)):
        config.search[f'warmup_{unit}'] = placeholder(kind)
    config.search.warmup_percent = 25.0
    config.model.dropout_rate = 0.0  # as it must be
    config.ema.decay = 0.0  # weights that no network is evaluated with need no average
    return config
