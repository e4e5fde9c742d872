"""How fast images are read, decoded, cropped and batched, beside three peers, in one run.

Usage: python benchmarks/input_pipeline.py IMAGES [--torch-python=PYTHON] [--json=FILE], where IMAGES is a folder or a
    zip of CLASS/*.JPEG. `make bench-input` does it.

Every contender makes the same of the same files: a random crop of 8 % to 100 % of the area, 224 pixels, bilinear, half
of them mirrored, uint8, batches of 100. They take turns; the figure of each is the median of its rounds, each without
its first batch, and the ratios are those of the medians. On a machine that others use too, images per CPU second say
more than images per second.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
os.environ['JAX_PLATFORMS'] = 'cpu'
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import tensorflow as tf  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

from mobilenets_jax.allocator import TUNABLES  # noqa: E402
from mobilenets_jax.data import Layout, create_dataset  # noqa: E402
from mobilenets_jax.data.prepare import prepare  # noqa: E402

IMAGE_SIZE, BATCH_SIZE, WORKERS, NUM_SHARDS = 224, 100, 2, 8
MIN_AREA_FRACTION, ASPECT_RATIO_RANGE = 0.08, (3 / 4, 4 / 3)

# What is asked of us: at least so many times the speed of each peer.
BARS = {'tf.data, fused decode and crop': 1.0, 'TFDS as_dataset, decode then crop': 1.2, 'torch DataLoader': 2.0}


def cpu_seconds() -> float:
    """Of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def random_box(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The peers' crop, drawn by TensorFlow's stateful operation."""
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape,
        tf.zeros([0, 0, 4]),
        area_range=(MIN_AREA_FRACTION, 1.0),
        aspect_ratio_range=ASPECT_RATIO_RANGE,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return begin, size


def finish(image: tf.Tensor) -> tf.Tensor:
    """Resizes and mirrors a crop."""
    image = tf.image.resize(image, (IMAGE_SIZE, IMAGE_SIZE), 'bilinear')
    return tf.cast(tf.image.random_flip_left_right(image), tf.uint8)


def bare_tf_data(files: list[str]) -> Iterator:
    """What a careful person writes first: nothing is deterministic, named or resumable."""

    def read(path):
        encoded = tf.io.read_file(path)
        begin, size = random_box(tf.io.extract_jpeg_shape(encoded))
        window = tf.concat([begin[:2], size[:2]], axis=0)
        return finish(tf.io.decode_and_crop_jpeg(encoded, window, channels=3, dct_method='INTEGER_FAST'))

    dataset = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).repeat().map(read, tf.data.AUTOTUNE)
    return dataset.batch(BATCH_SIZE).prefetch(2).as_numpy_iterator()


def plain_tfds(builder: tfds.core.DatasetBuilder) -> Iterator:
    """As TFDS's documentation has it: decoded images, then the crop."""

    def crop(example):
        return finish(tf.slice(example['image'], *random_box(tf.shape(example['image']))))

    # Not shuffled further: a buffer of decoded images would only hide the time that it takes to fill it.
    dataset = builder.as_dataset(split='train', shuffle_files=True).repeat().map(crop, tf.data.AUTOTUNE)
    return dataset.batch(BATCH_SIZE).prefetch(2).as_numpy_iterator()


def ours(name: str, directory: str) -> Iterator:
    """This project's pipeline."""
    dataset = create_dataset(
        name,
        directory=directory,
        image_size=IMAGE_SIZE,
        batch_size=BATCH_SIZE,
        seed=0,
        min_area_fraction=MIN_AREA_FRACTION,
        color_distortion='none',
    )
    batches = dataset.train_batches(Layout(process_index=0, process_count=1, local_device_count=1))
    return (batch['image'][0] for batch in batches)


def measure(make: Callable[[], Iterator], num_batches: int) -> tuple[float, float]:
    """Images per second, and per second of each CPU that was busy, of one round."""
    batches = make()
    next(batches)
    cpu, start = cpu_seconds(), time.perf_counter()
    count = sum(len(next(batches)) for _ in range(num_batches))
    return count / (time.perf_counter() - start), count / (cpu_seconds() - cpu)


class TorchLoader:
    """The peer in another environment."""

    def __init__(self, python: str, folder: str):
        options = [f'--batch-size={BATCH_SIZE}', f'--image-size={IMAGE_SIZE}', f'--workers={WORKERS}']
        self._process = subprocess.Popen(
            [python, '-m', 'benchmarks.torch_loader', folder, *options],
            cwd=pathlib.Path(__file__).parents[1],
            env=os.environ | {'GLIBC_TUNABLES': TUNABLES},  # the others keep their memory, too
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self) -> tuple[float, float]:
        """As `measure`."""
        self._process.stdin.write('\n')
        self._process.stdin.flush()
        count, seconds, cpu = map(float, self._process.stdout.readline().split())
        return count / seconds, count / cpu

    def close(self) -> None:
        """Ends it."""
        self._process.stdin.close()
        self._process.wait()


class Photos(tfds.core.GeneratorBasedBuilder):
    """The files as TFDS stores ImageNet: their bytes in TFRecord shards."""

    VERSION = tfds.core.Version('1.0.0')
    files: list[str] = []  # set before it is prepared

    def _info(self):
        features = {
            'image': tfds.features.Image(encoding_format='jpeg'),
            'label': tfds.features.ClassLabel(num_classes=2),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        for number, file in enumerate(self.files):
            yield number, {'image': file, 'label': 0}


def set_up(images: str, work: pathlib.Path) -> tuple[list[str], dict[str, Callable[[], Iterator]]]:
    """Puts the files where each contender wants them; returns them and the contenders of this process."""
    folder = pathlib.Path(images).resolve()
    if folder.suffix == '.zip':
        folder = work / 'images'
        with zipfile.ZipFile(images) as archive:
            archive.extractall(folder)
    (work / 'folder').mkdir()
    for split in ('train', 'val'):
        (work / 'folder' / split).symlink_to(folder)
    files = sorted(str(path) for path in folder.glob('*/*') if path.suffix.lower() in ('.jpg', '.jpeg'))
    for file_format in ('array_record', 'tfrecord'):
        prepare(
            str(work / 'folder'), str(work / file_format), file_format=file_format, num_shards=8, report=lambda _: None
        )
    Photos.files = files
    builder = Photos(data_dir=str(work / 'tfds'), file_format='tfrecord')
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=NUM_SHARDS))
    return files, {
        'ours, image folder': functools.partial(ours, 'image_folder', str(work / 'folder')),
        'ours, ArrayRecord': functools.partial(ours, 'records', str(work / 'array_record')),
        'ours, TFRecord': functools.partial(ours, 'records', str(work / 'tfrecord')),
        'tf.data, fused decode and crop': functools.partial(bare_tf_data, files),
        'TFDS as_dataset, decode then crop': functools.partial(plain_tfds, builder),
    }


def compare(rates: dict[str, list[tuple[float, float]]]) -> list[dict]:
    """A row for each contender: its medians, and how many times as fast ours is, read from the image folder."""
    medians = {
        name: [statistics.median(values) for values in zip(*rounds, strict=True)] for name, rounds in rates.items()
    }
    own_rate, own_cpu_rate = medians['ours, image folder']
    return [
        {
            'name': name,
            'images_per_second': rate,
            'images_per_cpu_second': cpu_rate,
            'ratio': own_rate / rate,
            'cpu_ratio': own_cpu_rate / cpu_rate,
            'bar': BARS.get(name),
        }
        for name, (rate, cpu_rate) in medians.items()
    ]


def table(rows: list[dict]) -> str:
    """The rows in Markdown."""
    lines = ['| pipeline | images/s | images/CPU s | ours / this | of CPU | bar |', '|---|---:|---:|---:|---:|---:|']
    for row in rows:
        figures = f'{row["images_per_second"]:.0f} | {row["images_per_cpu_second"]:.0f} | {row["ratio"]:.2f}'
        lines.append(f'| {row["name"]} | {figures} | {row["cpu_ratio"]:.2f} | {row["bar"] or ""} |')
    return '\n'.join(lines)


def main() -> None:
    """Measures all contenders in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', help='a folder or a zip of CLASS/*.JPEG')
    parser.add_argument('--torch-python', help='the Python of an environment with torch and torchvision')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--json', help='where the figures go')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        files, contenders = set_up(arguments.images, pathlib.Path(work))
        num_batches = len(files) // BATCH_SIZE - 1
        measures = {name: functools.partial(measure, make, num_batches) for name, make in contenders.items()}
        torch_loader = None
        if arguments.torch_python:
            torch_loader = TorchLoader(arguments.torch_python, os.path.join(work, 'folder', 'train'))
            measures['torch DataLoader'] = torch_loader.measure
        rates = {name: [] for name in measures}
        for number in range(arguments.rounds + 1):
            for name, function in measures.items():
                rate = function()
                if number:  # The first round fills the caches.
                    rates[name].append(rate)
        if torch_loader:
            torch_loader.close()
    rows = compare(rates)
    print(f'{len(files)} images, {arguments.rounds} rounds, {os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}')
    print(table(rows))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
    main()
