"""A run whose images cannot be read ends by itself, names the file, and says so with its exit status."""

import numpy as np
from launching import SHORT_RUN
from PIL import Image


def test_corrupt_image_ends_the_run(tmp_path, launcher):
    for split in ('train', 'val'):
        for number in range(8):
            file = tmp_path / split / f'class_{number % 2}' / f'{number}.JPEG'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(file, 'jpeg')
    broken = tmp_path / 'train' / 'class_1' / '5.JPEG'
    broken.write_bytes(b'')
    fields = SHORT_RUN | {'data.name': 'image_folder', 'data.dir': tmp_path, 'batch_size': 8, 'image_size': 16}
    arguments = [f'--config.{name}={value}' for name, value in fields.items()]
    ended = launcher.run('train.py', '--config=configs/digits.py', f'--workdir={tmp_path}/run', *arguments)
    assert ended.status == 2, ended
    assert ended.errors[-1] == f'error: {broken} cannot be read: Input is empty.'
