"""Published weights: read safely, found a network for, described by cards.

from mobilenets_jax.weights import load_pretrained
model, variables, card = load_pretrained('torchvision:mobilenet_v3_large.IMAGENET1K_V2')
logits, _ = model.apply(variables, images, train=False)
"""

from mobilenets_jax.weights.cards import CARDS, Preprocessing, WeightCard
from mobilenets_jax.weights.pretrained import Pretrained, load_pretrained

__all__ = ['CARDS', 'Preprocessing', 'Pretrained', 'WeightCard', 'load_pretrained']
