"""`prepare` and `verify`: image folders as sharded records, and whether the shards are still what was written."""

import argparse

DEFAULT_SHARDS = 256  # ImageNet: about 550 MB each


def add_parser(subparsers) -> None:
    """Registers the commands."""
    parser = subparsers.add_parser('prepare', help='turn an image folder into sharded records')
    parser.add_argument('source', metavar='SRC', help='SRC/train/CLASS/*.jpg and SRC/val/CLASS/*.jpg; local or gs://')
    parser.add_argument('directory', metavar='DST', help="the new folder, then data.dir of data.name='records'")
    parser.add_argument(
        '--format', default='array_record', help='array_record (random access; local disks) or tfrecord (also gs://)'
    )
    parser.add_argument('--shards', type=int, default=DEFAULT_SHARDS, help='files of each split')
    parser.set_defaults(run=run_prepare)
    parser = subparsers.add_parser('verify', help='compare prepared records with the hashes of their manifest')
    parser.add_argument('directory', metavar='DIR', help='what `prepare` has written')
    parser.set_defaults(run=run_verify)


def run_prepare(arguments: argparse.Namespace) -> None:
    """Writes the records."""
    from mobilenets_jax.data.prepare import prepare  # needs TensorFlow, which the other commands do without

    prepare(
        arguments.source, arguments.directory, file_format=arguments.format, num_shards=arguments.shards, report=print
    )


def run_verify(arguments: argparse.Namespace) -> None:
    """Reads every byte and counts the shards."""
    from mobilenets_jax.data.manifest import Manifest

    manifest = Manifest.read(arguments.directory)
    manifest.check_hashes(arguments.directory)
    for split, shards in manifest.splits.items():
        print(f'{split}: {sum(shard.num_examples for shard in shards)} examples in {len(shards)} shards are unchanged')
