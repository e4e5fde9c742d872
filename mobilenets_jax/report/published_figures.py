"""Figures 1 and 2 of the MobileNetV3 paper, published values beside ours.

The paper prints no numbers at its curves: the points are those of its tables, for V2 and MnasNet in Figure 2 also those
of their own papers and code. Its Figure 1 has of MobileNetV3 the widths 0.75, 1 and 1.25 alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mobilenets_jax.models import get_architecture, get_spec
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.report.pictures import png
from mobilenets_jax.report.published_tables import FLOAT_ROWS, SOURCE
from mobilenets_jax.search import proxylessnas_mobile
from mobilenets_jax.search.latency import PapersPixel1
from mobilenets_jax.search.published_latencies import ROWS, madds_by_kind

IMAGE_SIZE = 224  # pixels, of all points
V3 = ('mobilenet_v3_large', 'mobilenet_v3_small')
COUNTED = (*V3, 'mobilenet_v2', 'mnasnet_a1', 'mnasnet_small')
COLORS = {name: f'C{index}' for index, name in enumerate((*COUNTED, proxylessnas_mobile.NAME))}


class Point(NamedTuple):
    """A network in a figure.

    Attributes:
        name: of the network.
        width_multiplier: of it.
        top1: published, in percent.
        published: milliseconds, or millions of multiply-adds, as printed.
        ours: the same, predicted or counted.
        source: where the published values are printed.
    """

    name: str
    width_multiplier: float
    top1: float
    published: float
    ours: float
    source: str


class Figure(NamedTuple):
    """What is drawn: the points, and what their horizontal axis is.

    Attributes:
        points: those of one name are joined in this order.
        quantity: of the horizontal axis, with its unit.
        ours: how our value came about.
    """

    points: Sequence[Point]
    quantity: str
    ours: str


def latencies() -> Figure:
    """Figure 1: top-1 over the latency of a Pixel 1."""
    model, points = PapersPixel1(), []
    for row in ROWS:
        if row.name in V3 and row.image_size == IMAGE_SIZE:
            width = row.fields['width_multiplier']
            printed = get_architecture(row.name).published[width, IMAGE_SIZE]
            ours = model.milliseconds(get_spec(row.name, **row.fields))
            points.append(Point(row.name, width, printed.top1, row.milliseconds, ours, printed.source))
    for row in FLOAT_ROWS:
        if row.model['name'] not in V3:
            width = row.model.get('width_multiplier', 1.0)
            values = (row.top1, row.milliseconds[0], model.milliseconds(row.spec))
            points.append(Point(row.model['name'], width, *values, f'{SOURCE} Table 3'))
    return Figure(points, 'latency of a Pixel 1, ms', 'predicted')


def multiply_adds() -> Figure:
    """Figure 2: top-1 over multiply-adds."""
    points = []
    for name in COUNTED:
        for (width, image_size), printed in get_architecture(name).published.items():
            if image_size == IMAGE_SIZE:
                ours = _millions(get_spec(name, width))
                points.append(Point(name, width, printed.top1, printed.madds, ours, printed.source))
    (row,) = (row for row in FLOAT_ROWS if row.model['name'] not in COUNTED)
    ours = _millions(proxylessnas_mobile.spec())
    points.append(Point(row.model['name'], 1.0, row.top1, row.madds, ours, f'{SOURCE} Table 3'))
    return Figure(points, 'multiply-adds, millions', 'counted')


def _millions(spec: NetworkSpec) -> float:
    return sum(madds_by_kind(spec, IMAGE_SIZE).values()) / 1e6


def draw(figure: Figure) -> bytes:
    """The bytes of a PNG: published values as points, those of one network joined, and ours as crosses."""
    from matplotlib.figure import Figure as Canvas  # no part of pyplot, which is not for threads
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    canvas = Canvas(figsize=(9, 5.5), layout='constrained')
    axes = canvas.subplots()
    for name, color in COLORS.items():
        points = [point for point in figure.points if point.name == name]
        top1 = [point.top1 for point in points]
        axes.plot([point.published for point in points], top1, 'o-', color=color, label=name)
        axes.plot([point.ours for point in points], top1, 'x', color=color, markersize=9)
    axes.plot([], [], 'ok', label='published')
    axes.plot([], [], 'xk', markersize=9, label=figure.ours)
    axes.set(xscale='log', xlabel=figure.quantity, ylabel='ImageNet top-1, published, %')
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(which='both', alpha=0.3)
    axes.legend(loc='lower right')
    return png(canvas, dpi=120)
