"""Inference speed beside the peers, in one run: `python -m benchmarks.inference [--network=...] [--batch=...]`.

All contenders map the same images to logits, alternately. `make bench` makes the environment that has all of them.
"""

from benchmarks.command import main
from benchmarks.race import Contender

OURS = 'mobilenets_jax'
CONTENDERS = (
    Contender(name=OURS, module='ours', keep_memory=True),
    Contender(name='Flax, grouped convolutions', module='flax_plain', keep_memory=True),
    Contender(name='PyTorch eager, channels last', module='pytorch'),
    Contender(name='torch.compile, contiguous', module='pytorch', options={'compiled': True, 'channels_last': False}),
    Contender(name='torch.compile, channels last', module='pytorch', options={'compiled': True}),
    Contender(name='Keras on TensorFlow', module='keras_tensorflow'),
    Contender(name='ONNX Runtime', module='onnx_runtime'),
    Contender(name='LiteRT', module='litert'),
)

if __name__ == '__main__':
    main('inference', CONTENDERS, OURS)
