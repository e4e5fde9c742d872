"""Training speed beside the peers, in one run: `python -m benchmarks.train_step [--network=...] [--batch=...]`.

All contenders train the same network on the same batch with SGD and momentum, alternately. `make bench` makes the
environment that has all of them.
"""

from benchmarks.command import main
from benchmarks.race import Contender

OURS = 'mobilenets_jax'
CONTENDERS = (
    Contender(name=OURS, module='ours', keep_memory=True),
    Contender(name='mobilenets_jax, memory given back', module='ours'),
    Contender(
        name='mobilenets_jax, grouped convolutions',
        module='ours',
        options={'plain': True},
        keep_memory=True,
    ),
    Contender(name='Flax, grouped convolutions', module='flax_plain', keep_memory=True),
    Contender(name='PyTorch eager, contiguous', module='pytorch', options={'channels_last': False}),
    Contender(name='PyTorch eager, channels last', module='pytorch'),
    Contender(name='PyTorch eager, channels last, memory kept', module='pytorch', keep_memory=True),
    Contender(name='torch.compile, channels last', module='pytorch', options={'compiled': True}),
    Contender(
        name='torch.compile, channels last, memory kept', module='pytorch', options={'compiled': True}, keep_memory=True
    ),
    Contender(name='Keras on TensorFlow', module='keras_tensorflow'),
    Contender(name='Keras on TensorFlow, memory kept', module='keras_tensorflow', keep_memory=True),
)

if __name__ == '__main__':
    main('train', CONTENDERS, OURS)
