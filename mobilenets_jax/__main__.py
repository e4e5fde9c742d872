"""`python -m mobilenets_jax COMMAND`: the tools beside training and evaluation."""

import argparse
import sys
from collections.abc import Sequence

from mobilenets_jax import (
    buckets,
    compare_command,
    compile_command,
    evaluate_tflite_command,
    export_command,
    inspect_command,
    lasting_output,
    predict_command,
    search_command,
    tensorflow_settings,
)
from mobilenets_jax.data import prepare_command
from mobilenets_jax.errors import describe
from mobilenets_jax.report import models_command
from mobilenets_jax.stop_signals import Interruptible
from mobilenets_jax.weights import weights_command

# Each has `add_parser(subparsers)`, which sets `run` to a function of the parsed arguments; and `reads_config` if these
# shall hold what is unknown to the parser as `config_flags`.
COMMANDS = (
    *(models_command, weights_command, predict_command, compare_command),
    *(prepare_command, inspect_command, compile_command, export_command, evaluate_tflite_command),
    search_command,
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Ends with status 2 and one line, as a `UserError` does."""
        self.exit(2, f'error: {message}\n')


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 2 for a user's mistake, 1 for a file's fault, 130 for Ctrl-C."""
    tensorflow_settings.quiet()
    buckets.use_one_client()
    parser = _Parser(prog='python -m mobilenets_jax', description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar='COMMAND')
    for command in COMMANDS:
        command.add_parser(subparsers)
    arguments, arguments.config_flags = parser.parse_known_args(argv)
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
