"""The peer of `input_pipeline.py` that runs in an environment of its own: torch's DataLoader with torchvision.

For every line on standard input it reads the images once and answers with a line: images, seconds and CPU seconds.
"""

import argparse
import resource
import time

import benchmarks.torchvision_operators  # noqa: F401, isort: skip
from torch.utils.data import DataLoader
from torchvision import datasets, transforms


def cpu_seconds() -> float:
    """Of this process and of those children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Serves rounds until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder')
    parser.add_argument('--batch-size', type=int, required=True)
    parser.add_argument('--image-size', type=int, required=True)
    parser.add_argument('--workers', type=int, required=True)
    arguments = parser.parse_args()
    steps = [transforms.RandomResizedCrop(arguments.image_size), transforms.RandomHorizontalFlip()]
    images = datasets.ImageFolder(arguments.folder, transforms.Compose([*steps, transforms.PILToTensor()]))
    while True:
        try:
            input()
        except EOFError:
            return
        loader = DataLoader(images, arguments.batch_size, shuffle=True, num_workers=arguments.workers, drop_last=True)
        cpu, start, count = cpu_seconds(), None, 0
        for batch, _ in loader:
            if start is None:  # The start of the workers is not counted, though that of their CPU time is.
                start = time.perf_counter()
            else:
                count += len(batch)
        seconds = time.perf_counter() - start
        del loader
        print(count, seconds, (cpu_seconds() - cpu) * count / (count + arguments.batch_size), flush=True)


if __name__ == '__main__':
    main()
