"""SSD's photometric distortion, as detection and segmentation train with it: TensorFlow operations for one example.

Paper: Liu et al., 1512.02325 section 3.6 (Howard, 1312.5402).
Reference: weiliu89/caffe, `ssd` branch, src/caffe/util/im_transforms.cpp and examples/ssd/ssd_coco.py;
    torchvision's RandomPhotometricDistort has the same ranges, except for brightness, which it multiplies.
Differs: no random order of the channels (its probability there is 0, too).
"""

import tensorflow as tf

MAX_BRIGHTNESS = 32.0  # levels of 0 .. 255 that are added
CONTRAST = SATURATION = (0.5, 1.5)  # factors
MAX_HUE = 18 / 360  # of the circle
PROBABILITY = 0.5  # of each


def photometric_distort(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Distorts brightness, contrast, saturation and hue, each of half of the images.

    Contrast is distorted before saturation and hue, or after them.

    Args:
        image: float32 [H, W, 3] in 0 .. 255.
        seed: int64 [2].

    Returns:
        As `image`, clipped to 0 .. 255.
    """
    order, *seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 9))
    chances, amounts = seeds[:4], seeds[4:]

    def sometimes(which, distort, image):
        happens = tf.random.stateless_uniform([], chances[which]) < PROBABILITY
        return tf.cond(happens, lambda: distort(image, amounts[which]), lambda: image)

    def contrast(image, seed):
        return image * tf.random.stateless_uniform([], seed, *CONTRAST)

    image = sometimes(0, lambda image, seed: image + _symmetric(seed, MAX_BRIGHTNESS), image)
    contrast_first = tf.random.stateless_uniform([], order) < 0.5
    image = tf.cond(contrast_first, lambda: sometimes(1, contrast, image), lambda: image)
    image = tf.clip_by_value(image, 0.0, 255.0) / 255  # TensorFlow turns hues of [0, 1] alone
    image = sometimes(2, lambda image, seed: tf.image.stateless_random_saturation(image, *SATURATION, seed), image)
    image = sometimes(3, lambda image, seed: tf.image.adjust_hue(image, _symmetric(seed, MAX_HUE)), image) * 255
    image = tf.cond(contrast_first, lambda: image, lambda: sometimes(1, contrast, image))
    return tf.clip_by_value(image, 0.0, 255.0)


def _symmetric(seed: tf.Tensor, most: float) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed, -most, most)
