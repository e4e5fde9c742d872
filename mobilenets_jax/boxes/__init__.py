"""Boxes in pure JAX with fixed shapes: geometry, anchors, the box coder, matching and non-maximum suppression.

A box is float32 [ymin, xmin, ymax, xmax] in corners, or [y, x, height, width] with its centre, both as fractions of the
height and the width of its image. Intersection over union does not change when an axis is scaled, so that fractions
and pixels give the same.
"""
