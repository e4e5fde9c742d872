"""Published networks as options of the spaces they were found in. No test in here."""

from mobilenets_jax.models import get_spec

# op, kernel, SE, layers beside MobileNetV2's, filters beside MobileNetV2's.
MNASNET_A1 = (
    ('sepconv', 3, 0.0, 0, 1.0),
    ('mbconv6', 3, 0.0, 0, 1.0),
    ('mbconv3', 5, 0.25, 0, 1.25),
    ('mbconv6', 3, 0.0, 0, 1.25),
    ('mbconv6', 3, 0.25, -1, 1.25),
    ('mbconv6', 5, 0.25, 0, 1.0),
    ('mbconv6', 3, 0.0, 0, 1.0),
)
MNASNET_B1 = (
    ('sepconv', 3, 0.0, 0, 1.0),
    ('mbconv3', 3, 0.0, 1, 1.0),
    ('mbconv3', 5, 0.0, 0, 1.25),
    ('mbconv6', 5, 0.0, -1, 1.25),
    ('mbconv6', 3, 0.0, -1, 1.0),
    ('mbconv6', 5, 0.0, 1, 1.25),
    ('mbconv6', 3, 0.0, 0, 1.0),
)


def mnasnet_options(blocks) -> dict:
    """Only the first block's single layer has no shortcut in the code."""
    options = {}
    for number, (op, kernel, se, layers, filters) in enumerate(blocks, start=1):
        skip = 'none' if number == 1 else 'identity'
        chosen = {'op': op, 'kernel': kernel, 'se': se, 'layers': layers, 'filters': filters, 'skip': skip}
        options |= {f'block{number}/{part}': value for part, value in chosen.items()}
    return options


def v3_options(name: str) -> dict:
    """The rows of the published table, with no layer left out and no width changed."""
    spec, options, stages, width = get_spec(name), {}, 0, None
    for number, row in enumerate(spec.blocks, start=1):
        layer = f'layer{number:02d}'
        if row.out_channels == width and row.stride == 1:
            options[f'{layer}/skip'] = False
        else:
            stages += 1
            options[f'stage{stages}/width'] = 1.0
        options |= {f'{layer}/kernel': row.kernel_size, f'{layer}/expanded': row.expanded}
        options |= {f'{layer}/se': row.squeeze_excite is not None, f'{layer}/activation': row.activation}
        width = row.out_channels
    return options
