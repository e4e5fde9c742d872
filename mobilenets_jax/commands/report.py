"""`report tables`: Tables 3 and 4 and Figures 1 and 2 of the MobileNetV3 paper, each published value beside ours.

Nothing here was measured, and no network was trained: ours is counted, or predicted by the fit of published latencies.
"""

import argparse
import pathlib
import textwrap
from collections.abc import Collection, Iterable, Sequence

from mobilenets_jax.config import write_bytes, write_text
from mobilenets_jax.errors import check
from mobilenets_jax.report import published_figures
from mobilenets_jax.report.counts import count_model
from mobilenets_jax.report.published_figures import Figure, Point
from mobilenets_jax.report.published_tables import FLOAT_ROWS, PHONES, QUANTIZED_ROWS, SOURCE, PublishedRow
from mobilenets_jax.search import published_latencies
from mobilenets_jax.search.latency import PapersPixel1
from mobilenets_jax.tables import markdown

PAGE = 'tables.md'
PICTURES = ('mobilenet_v3_figure1.png', 'mobilenet_v3_figure2.png')
OUR_TOP1 = 'not trained'


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('report', help="print a paper's tables, published values beside ours")
    parser.add_argument('what', choices=('tables',), help='Tables 3 and 4, Figures 1 and 2 of the MobileNetV3 paper')
    parser.add_argument('--out', metavar='DIR', help=f'a folder: {PAGE} and the figures go there')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the page as Markdown; with `--out` writes it with its pictures."""
    folder = None if arguments.out is None else pathlib.Path(arguments.out).expanduser()
    check(folder is None or folder.is_dir(), '--out', arguments.out, 'is no folder that exists')
    figures = (published_figures.latencies(), published_figures.multiply_adds())
    page = text(figures)
    if folder is None:
        print(page)
        return
    for name, figure in zip(PICTURES, figures, strict=True):
        write_bytes(folder / name, published_figures.draw(figure))
    write_text(folder / PAGE, f'{page}\n')
    print(f'written: {", ".join(str(folder / name) for name in (PAGE, *PICTURES))}')


def text(figures: tuple[Figure, Figure]) -> str:
    """The whole page."""
    of_latencies, of_madds = figures
    parts = [
        '# Tables and figures of the MobileNetV3 paper',
        _about(),
        '## Table 3: float',
        _float_table(),
        '## Table 4: 8 bit',
        'There is no prediction: the fit is of float.',
        _quantized_table(),
        '## Figure 1: top-1 and latency of a Pixel 1',
        f'![Published top-1 over published and predicted latency]({PICTURES[0]})',
        _points(of_latencies, 'ms'),
        '## Figure 2: top-1 and multiply-adds',
        f'![Published top-1 over published and counted multiply-adds]({PICTURES[1]})',
        _points(of_madds, 'millions'),
    ]
    return '\n\n'.join(parts)


def _about() -> str:
    count = len(published_latencies.ROWS)
    errors = published_latencies.fit_errors(published_latencies.feature_rows(), published_latencies.printed())
    about = f"""Made by `python -m mobilenets_jax report tables --out=docs`. *Printed* is {SOURCE}, or the source in the
        last column; *counted* is the network of this project; *predicted* is `papers_pixel1` of
        [search.md](search.md), a fit of the {count} latencies of a Pixel 1 that the paper and its code
        print, with a mean error of {errors.mean:.1f} %, and {errors.mean_left_out:.1f} % for a row left out of the
        fit. All networks of the two tables are among the {count} but ProxylessNAS, whose 7x7 kernels none
        of them has. Nothing on this page was measured, and none of these networks was trained on ImageNet here:
        top-1 is what others reached."""
    return textwrap.fill(' '.join(about.split()), width=120, break_on_hyphens=False)


def _float_table() -> str:
    madds, params = 'multiply-adds, printed', 'parameters, printed'
    first, *others = (f'{phone}, printed' for phone in PHONES)
    header = ('network', 'top-1, printed', 'ours', madds, 'counted', params, 'counted', first, 'predicted', *others)
    model = PapersPixel1()
    return _table(header, [_float_cells(row, model.milliseconds(row.spec)) for row in FLOAT_ROWS])


def _float_cells(row: PublishedRow, predicted: float) -> tuple[str, ...]:
    counts = count_model(**row.model)
    first, *others = (f'{value:g} ms' for value in row.milliseconds)
    return (
        *(row.label, f'{row.top1:.1f}', OUR_TOP1, f'{row.madds:g}M', f'{counts.madds:,}'),
        *(f'{row.params:.1f}M', f'{counts.params:,}', first, f'{predicted:.1f} ms', *others),
    )


def _quantized_table() -> str:
    header = ('network', 'top-1, printed', 'ours', *(f'{phone}, printed' for phone in PHONES))
    rows = [
        (row.label, f'{row.top1:.1f}', OUR_TOP1, *(f'{value:g} ms' for value in row.milliseconds))
        for row in QUANTIZED_ROWS
    ]
    return _table(header, rows)


def _points(figure: Figure, unit: str) -> str:
    ours = f'{unit}, {figure.ours}'
    header = ('network', 'width', 'top-1, printed', f'{unit}, printed', ours, 'difference', 'source')
    return _table(header, map(_point_cells, figure.points), text_columns=(0, len(header) - 1))


def _point_cells(point: Point) -> tuple[str, ...]:
    difference = 100 * (point.ours / point.published - 1)
    return (
        *(point.name, f'{point.width_multiplier:g}', f'{point.top1:g}', f'{point.published:g}', f'{point.ours:.1f}'),
        *(f'{difference:+.1f} %', point.source),
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: Collection[int] = (0,)) -> str:
    return '\n'.join(markdown([header, *rows], text_columns))
