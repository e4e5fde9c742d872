"""A run's classes, network and examples stay what they were: in evaluation, when it goes on, as another's start."""

import json
import shutil

import numpy as np
import pytest
from launching import forked_results, read_summary
from PIL import Image

COLOURS = {'cat': (200, 40, 40), 'dog': (40, 40, 200)}
RENAMED = {'cat': (200, 40, 40), 'ant': (40, 40, 200)}  # as many classes, in another order
FIELDS = (
    'data.name=memory_folder image_size=16 batch_size=8 model.name=mobilenet_v1 model.width_multiplier=0.25 ema.decay=0'
    ' model.dropout_rate=0 model.bn_momentum=0.8'
)
STRIDES = 'model.num_removed_strides=2 model.output_stride=32 data.normalization=unit'
CLASSES = r"class 0 is 'ant' in data.dir='FOLDER/renamed', 'cat' in the checkpoint; 2 of 2 differ."
IMAGES_OF_A_CLASS = 8


def flags(fields):
    return ' '.join(f'--config.{field}' for field in fields.split())


TRAIN = f'train.py --config=configs/digits.py {flags(FIELDS)}'
FROM_RUN = f'{TRAIN} --config.init_from=FOLDER/run'
ONE_STEP = flags(
    'num_steps=1 schedule.learning_rate=1e-9 schedule.name=constant schedule.warmup_percent=0 model.bn_momentum=0.99999'
)
SHORT = f'{TRAIN} {flags(STRIDES)} --workdir=FOLDER/short'
GO_ON = f'{SHORT} --config.num_steps=5'
COMMANDS = {
    'run': f'{TRAIN} {flags(STRIDES)} --config.data.dir=FOLDER/pets --config.num_steps=20 --workdir=FOLDER/run',
    'eval renamed': 'eval.py --workdir=FOLDER/run --config.data.dir=FOLDER/renamed',
    'go on renamed': f'{TRAIN} {flags(STRIDES)} --config.data.dir=FOLDER/renamed --workdir=FOLDER/run',
    'start renamed': f'{FROM_RUN} --config.data.dir=FOLDER/renamed --workdir=FOLDER/new {ONE_STEP}',
    'eval other strides': 'eval.py --workdir=FOLDER/run --config.model.num_removed_strides=0',
    'start': f'{FROM_RUN} --config.data.dir=FOLDER/pets --workdir=FOLDER/start {ONE_STEP}',
    'short': f'{SHORT} --config.data.dir=FOLDER/pets --config.num_steps=4',
    'eval grown': 'eval.py --workdir=FOLDER/short --config.data.dir=FOLDER/grown',
    'go on grown': f'{GO_ON} --config.data.dir=FOLDER/grown',
    'go on grown, accepted': f'{GO_ON} --config.data.dir=FOLDER/grown --config.data.accept_changes=True',
    'go on accepted': f'{GO_ON} --config.data.dir=FOLDER/grown',
    'go on': f'{TRAIN} --config.init_from=FOLDER/gone --config.data.dir=FOLDER/pets --workdir=FOLDER/start {ONE_STEP}'
    ' --config.num_steps=2',
    'eval': 'eval.py --workdir=FOLDER/start',
    'few images': 'train.py --config=configs/image_folder.py --config.data.dir=FOLDER/few --workdir=FOLDER/few_run '
    + flags('image_size=32 model.name=mobilenet_v1 model.width_multiplier=0.25'),
    'new head': f'{FROM_RUN} --config.new_head=True --config.data.dir=FOLDER/renamed --workdir=FOLDER/head {ONE_STEP}',
}


def draw(folder, colours):
    generator = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name, colour in colours.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(IMAGES_OF_A_CLASS):
                pixels = np.clip(colour + generator.normal(0, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f'{number}.png')


@pytest.fixture
def results(made_once, launcher):
    """The folder of the runs, and the result of each command."""

    def run_all(folder):
        draw(folder / 'pets', COLOURS)
        draw(folder / 'renamed', RENAMED)
        draw(folder / 'grown', COLOURS)
        shutil.copy(folder / 'grown' / 'train' / 'cat' / '3.png', folder / 'grown' / 'train' / 'cat' / '33.png')
        (folder / 'grown' / 'val' / 'dog' / '5.png').unlink()
        draw(folder / 'few', COLOURS)
        for path in [*(folder / 'few').glob('*/*/[2-9].png'), *(folder / 'few').glob('*/dog/1.png')]:
            path.unlink()  # three images remain in training and as many in evaluation
        (folder / 'folder').write_text(str(folder))
        launcher.run_forked(list(COMMANDS.values()), folder)

    folder = made_once('other_data', run_all)
    results = forked_results(folder)
    return folder, (folder / 'folder').read_text(), dict(zip(COMMANDS, results, strict=True))


@pytest.mark.parametrize(
    ('command', 'held_by'),
    [
        ('eval renamed', 'checkpoint FOLDER/run/checkpoints/20'),
        ('go on renamed', 'checkpoint FOLDER/run/checkpoints/20'),
        ('start renamed', "init_from='FOLDER/run'"),
    ],
)
def test_renamed_class_is_refused_by_its_name(command, held_by, results):
    folder, made_in, by_command = results
    result = by_command[command]
    line = f'error: {held_by} knows other classes: {CLASSES}'.replace('FOLDER', made_in)
    assert (result['status'], result['errors'][-1], result['output']) == (2, line, [])
    assert not (folder / 'new').exists()


def test_other_strides_are_refused(results):
    _, made_in, by_command = results
    assert (by_command['eval other strides']['status'], by_command['eval other strides']['errors']) == (
        2,
        [
            f'error: checkpoint {made_in}/run/checkpoints/20 holds mobilenet_v1 (num_removed_strides=2); '
            'the run asks for mobilenet_v1 (num_removed_strides=0). Give the run a directory of its own.'
        ],
    )


def test_run_that_starts_from_another_computes_what_that_one_did(results):
    folder, _, by_command = results
    assert by_command['start']['status'] == 0, by_command['start']
    replaced = 'init_from replaces 1 field(s) of the config file: model.output_stride=32 instead of 16'
    assert replaced in by_command['start']['errors']
    config = json.loads((folder / 'start' / 'config.json').read_text())
    assert (config['model']['num_removed_strides'], config['data']['normalization']) == (2, 'unit')
    run, start = read_summary(folder / 'run'), read_summary(folder / 'start')
    assert start['test_top1'] == run['test_top1']
    assert start['test_loss'] == pytest.approx(run['test_loss'], rel=1e-3)  # after two steps of almost no length


def test_run_that_started_from_weights_needs_them_no_more(results):
    """The strides and the range that it took from them are those of its checkpoint."""
    folder, made_in, by_command = results
    assert by_command['go on']['status'] == 0, by_command['go on']
    assert by_command['go on']['errors'] == [
        f"config.init_from: '{made_in}/gone' instead of '{made_in}/run' in checkpoint 1; "
        'a run that goes on does not read it',
        'config.num_steps: 2 instead of 1 in checkpoint 1',
    ]
    config = json.loads((folder / 'start' / 'config.json').read_text())
    assert (config['model']['num_removed_strides'], config['data']['normalization']) == (2, 'unit')
    evaluated = json.loads(by_command['eval']['output'][-1])
    assert (evaluated['step'], evaluated['loss']) == (2, read_summary(folder / 'start')['test_loss'])


def test_recipe_for_image_folders_takes_three_images(results):
    """A hundred epochs of three images are nine batches of 32, in which each occurs many times."""
    folder, _, by_command = results
    assert by_command['few images']['status'] == 0, by_command['few images']
    assert 'image_folder: 3 training and 3 evaluation images' in by_command['few images']['output']
    summary = read_summary(folder / 'few_run')
    assert (summary['step'], summary['test_count']) == (9, 3)


def test_new_classifier_takes_other_classes(results):
    _, _, by_command = results
    assert by_command['new head']['status'] == 0, by_command['new head']


MORE_IMAGES = "the training data are others than those of step 4: 17 examples, not 16; class 'cat' has 9, not 8"
FEWER_IMAGES = "the evaluation data are others than those of step 4: 15 examples, not 16; class 'dog' has 7, not 8"


def test_an_added_image_is_refused_until_it_is_accepted(results):
    folder, _, by_command = results
    refused, accepted = by_command['go on grown'], by_command['go on grown, accepted']
    assert (refused['status'], refused['output']) == (2, [])
    assert refused['errors'][-1] == (
        f'error: {MORE_IMAGES}. What is left of the epoch would be other examples; '
        '--config.data.accept_changes=True goes on with them.'
    )
    assert accepted['status'] == 0 and 'going on from the checkpoint of step 4' in accepted['output']
    assert {f'{MORE_IMAGES}; the run goes on with them', FEWER_IMAGES} <= {*accepted['errors']}
    assert by_command['go on accepted']['status'] == 0 and by_command['go on accepted']['errors'] == []
    assert read_summary(folder / 'short')['step'] == 5


def test_other_evaluation_data_are_said(results):
    _, _, by_command = results
    assert (by_command['eval grown']['status'], by_command['eval grown']['errors']) == (0, [FEWER_IMAGES])
    assert json.loads(by_command['eval grown']['output'][-1])['count'] == 15
