"""`mobilenets COMMAND`, or `python -m mobilenets_jax COMMAND`: training, evaluation and other tools."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from mobilenets_jax import buckets, lasting_output, tensorflow_settings
from mobilenets_jax.commands import (
    average,
    compare,
    compile,
    evaluate_tflite,
    export,
    inspect,
    latency,
    models,
    predict,
    prepare,
    redesign,
    report,
    search,
    sweep,
    weights,
)
from mobilenets_jax.errors import describe
from mobilenets_jax.stop_signals import Interruptible

# Each has `add_parser(subparsers)`, which sets `run` to a function of the parsed arguments; and `reads_config` if these
# shall hold what is unknown to the parser as `config_flags`.
COMMANDS = (
    *(models, weights, predict, compare, report, prepare, inspect, compile, export, evaluate_tflite, latency),
    *(average, search, redesign, sweep),
)

# These parse their own flags, which are those of train.py and eval.py: (module, help).
LAUNCHERS = {
    'train': ('mobilenets_jax.commands.train', 'train a network, as train.py does'),
    'eval': ('mobilenets_jax.commands.evaluate', 'evaluate a checkpoint or published weights, as eval.py does'),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Ends with status 2 and one line, as a `UserError` does."""
        self.exit(2, f'error: {message}\n')


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 2 for a user's mistake, 1 for a file's fault, 130 for Ctrl-C."""
    given = sys.argv[1:] if argv is None else list(argv)
    if given and given[0] in LAUNCHERS:
        module, _ = LAUNCHERS[given[0]]
        importlib.import_module(module).run([f'mobilenets {given[0]}', *given[1:]])
        return 0
    tensorflow_settings.quiet()
    buckets.use_one_client()
    parser = _Parser(prog='mobilenets', description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar='COMMAND')
    for name, (_, about) in LAUNCHERS.items():
        subparsers.add_parser(name, help=about)
    for command in COMMANDS:
        command.add_parser(subparsers)
    arguments, arguments.config_flags = parser.parse_known_args(given)
    if arguments.config_flags and not hasattr(arguments, 'reads_config'):
        parser.error(f'unrecognized arguments: {" ".join(arguments.config_flags)}')
    with Interruptible():
        try:
            arguments.run(arguments)
            sys.stdout.flush()
        except Exception as error:
            if isinstance(error, BrokenPipeError):
                lasting_output.discard(sys.stdout)
            described = describe(error)
            if described is None:
                raise
            line, status = described
            print(f'error: {line}', file=sys.stderr)
            return status
    return 0


if __name__ == '__main__':
    sys.exit(main())
