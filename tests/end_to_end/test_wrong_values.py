"""A wrong value ends a command with status 2 and one line that names it, before anything is compiled."""

import re

import pytest
from launching import forked_results

KNOWN_MODELS = r'Known: .*mobilenet_v1, mobilenet_v2, mobilenet_v3_large, .*mobilenet_v3_small\b'

TRAIN = 'train.py --config=configs/digits.py --workdir=FOLDER/run'
EVAL = 'eval.py --config=configs/digits.py'

# What is appended to TRAIN, on 8 devices, and the line that it ends with. FOLDER/empty is an empty folder.
WRONG_VALUES = [
    ('--config.model.name=mobilenet_v9', rf"model\.name='mobilenet_v9' is unknown\. {KNOWN_MODELS}.*"),
    ('--config.model.convention=caffe', r"convention .*='caffe' is unknown\. Known: .*keras, .*tf, .*torchvision\."),
    (
        '--config.model.dtype=float12',
        r"model\.dtype='float12' is unknown\. Known: bfloat16, float16, float32, float64\. Did you mean 'float32'\?",
    ),
    ('--config.model.dtype=int8', r"model\.dtype='int8' is unknown\. Known: .*"),
    ('--config.model.dtype=float64', r"model\.dtype='float64' needs JAX_ENABLE_X64=1 in the environment\."),
    ('--config.model.width_multiplier=0', r'width_multiplier=0\.0 must be positive\.'),
    ('--config.model.output_stride=4', r'model\.output_stride=4 is unknown\. Known: 16, 32, 8\.'),
    ('--config.model.dropout_rate=1', r'model\.dropout_rate=1\.0 must be in \[0, 1\)\.'),
    ('--config.model.bn_momentum=1', r'model\.bn_momentum=1\.0 must be in \[0, 1\)\.'),
    ('--config.model.bn_epsilon=0', r'model\.bn_epsilon=0\.0 must be positive\.'),
    ('--config.model.num_classes=9', r'model\.num_classes=9 is less than the 10 classes of digits\.'),
    ('--config.model.num_classes=0', r'model\.num_classes=0 is less than the 10 classes of digits\.'),
    (
        '--config.optimizer.accumulation_steps=3',
        r'optimizer\.accumulation_steps=3 must divide the 16 examples of a device\.',
    ),
    (
        '--config.schedule.name=linear',
        r"schedule\.name='linear' is unknown\. Known: constant, cosine, exponential, polynomial\.",
    ),
    (
        '--config.schedule.name=exponential',
        r"schedule\.decay=None must be set, e\.g\. decay_epochs, for 'exponential'\.",
    ),
    ('--config.schedule.learning_rate=-0.1', r'schedule\.learning_rate=-0\.1 must be positive\.'),
    ('--config.schedule.learning_rate_batch_size=0', r'schedule\.learning_rate_batch_size=0 must be positive\.'),
    ('--config.schedule.learning_rate=inf', r'schedule\.learning_rate=inf must be finite\.'),
    ('--config.data.mixup_alpha=nan', r'data\.mixup_alpha=nan must be finite\.'),
    (
        "--config.optimizer.rate_factors=(('^backbone/',1e999),)",
        r"optimizer\.rate_factors=\(\('\^backbone/', inf\),\) must be finite\.",
    ),
    ('--config.num_steps=None', r'num_steps=None must be set to a positive length, or num_epochs\.'),
    ('--config.batch_size=None', r'batch_size=None is no value of this field, which cannot be unset\.'),
    ('--config.ema.decay=None', r'ema\.decay=None is no value of this field, which cannot be unset\.'),
    ('--config.schedule.warmup_from=-1', r'schedule\.warmup_from=-1\.0 must not be negative\.'),
    ('--config.schedule.warmup_steps=541', r'schedule\.warmup=541 steps exceed the run of 540\.'),
    ('--config.schedule.warmup_epochs=-1', r'schedule\.warmup_epochs=-1\.0 must not be negative\.'),
    (
        '--config.schedule.warmup_steps=3 --config.schedule.warmup_percent=2',
        r'schedule\.warmup_steps=3 and schedule\.warmup_percent=2\.0 spell one duration twice; .*',
    ),
    ('--config.num_steps=9 --config.num_epochs=1', r'num_steps=9 and num_epochs=1\.0 spell one duration twice; .*'),
    ('--config.task=segmentation', r"config\.task='segmentation' is set by the file of --config alone\."),
    ('--config.num_step=3', r"config\.num_step is no field of the config\. Did you mean 'num_steps'\?"),
    ('--config.data.crop=resize', r'config\.data\.crop is now config\.data\.train_crop\.'),
    ('--config.learning_rate=3', r"config\.learning_rate is no .*\. Did you mean 'schedule\.learning_rate'\?"),
    ('--config.xyz=3', r'config\.xyz is no field of the config\.'),
    ('--workdirr=x', r"Unknown command line flag 'workdirr'\. Did you mean: workdir \?"),
    ('--workdir=', r"--workdir='' is empty\."),
    ('--workdir=FOLDER/file', r"workdir='.*/file' cannot be written: .*File exists: '.*/file'\."),
    ('--workdir=FOLDER/file/run', r"workdir='.*/file/run' cannot be written: .*Not a directory: '.*'\."),
    ('--coordinator=127.0.0.1:1', r'--num_processes=None must be positive\.'),
    ('--num_processes=2', r'--num_processes=2 needs --coordinator=HOST:PORT\.'),
    ('--process_id=0', r'--process_id=0 needs --coordinator=HOST:PORT\.'),
    ('--multihost', r'--multihost is for Cloud TPU, .* elsewhere give --coordinator=HOST:PORT, .*'),
    ('--multihost --coordinator=127.0.0.1:1', r"--coordinator='127\.0\.0\.1:1' excludes --multihost, .*"),
    *(
        (
            f'--coordinator={address} --num_processes=2 --process_id=1',
            rf"--coordinator='{re.escape(address)}' must be HOST:PORT, with a port from 1 to 65535\.",
        )
        for address in ('localhost', '127.0.0.1:', ':80', 'localhost:0', 'localhost:65536', 'localhost:http')
    ),
    (
        '--coordinator=no..host:80 --num_processes=2 --process_id=1',
        r"--coordinator='no\.\.host:80': the host is unknown: .*\.",
    ),
    ('--coordinator=127.0.0.1:1 --num_processes=2 --process_id=2', r'--process_id=2 must be in \[0, 2\)\.'),
    ('--config.hang_timeout_seconds=0', r'hang_timeout_seconds=0\.0 must be positive\.'),
    ('--config.num_steps=0', r'num_steps=0 must be set to a positive length, or num_epochs\.'),
    ('--config.log.every_steps=-1', r'log\.every_steps=-1 must not be negative\.'),
    ('--config.weight_decay.rate=-1', r'weight_decay\.rate=-1\.0 must not be negative\.'),
    ('--config.weight_decay.skip=/bn(/', r"weight_decay\.skip='/bn\(/' is no regular expression: .*"),
    ('--config.ema.decay=1', r'ema\.decay=1\.0 must be in \[0, 1\)\.'),
    ('--config.label_smoothing=1', r'label_smoothing=1\.0 must be in \[0, 1\)\.'),
    ('--config.seed=-1', r'seed=-1 must be in \[0, 2\*\*31\)\.'),
    ('--config.image_size=0', r'image_size=0 must be positive\.'),
    ('--config.batch_size=-8', r'batch_size=-8 must be positive\.'),
    ('--config.batch_size=100', r'batch_size=100 must be divisible by 8 devices\.'),
    ('--config.batch_size=2.5', r"flag --config\.batch_size=2\.5: invalid literal for int\(\) with base 10: '2\.5'"),
    ('--config.model=3', r'flag --config\.model=3: .* is not a dict\.'),
    ('--config.model.nme=x', r"config\.model\.nme is no field of the config\. Did you mean 'model\.name'\?"),
    ('--config.modle.name=x', r"config\.modle\.name is no field of the config\. Did you mean 'model\.name'\?"),
    (
        '--config.data.name=mnist',
        r"data\.name='mnist' is unknown\. Known: digits, image_folder, memory_folder, records, tfds:NAME\.",
    ),
    ('--config.data.name=tfds:mnist --config.data.dir=FOLDER/empty', r"data\.name='tfds:mnist' is not prepared in .*"),
    ('--config.data.name=image_folder', r"data\.dir='' must name the folder of images\."),
    (
        '--config.data.name=image_folder --config.data.dir=FOLDER/absent',
        r'data\.dir: cannot list .*/absent: No such file .*',
    ),
    (
        '--config.data.name=image_folder --config.data.dir=FOLDER/empty',
        r"data\.dir='.*' must have two classes .* but has 0\.",
    ),
    ('--config.data.name=records', r"data\.dir='' must name the folder of prepared records\."),
    ('--config.data.name=records --config.data.dir=FOLDER/empty', r"data\.dir='.*' has no manifest\.json; .*"),
    ('--config.data.normalization=zscore', r"data\.normalization='zscore' is unknown\. Known: imagenet, symmetric.*\."),
    ('--confg=x', r"Unknown command line flag 'confg'\. Did you mean: config \?"),
    ('digits', r"'digits' is not a flag; flags are spelled --name=value\."),
]

# The same, of values that are looked at when the schedule has been built, which computes a few numbers on the device.
WRONG_AFTER_THE_SCHEDULE = [
    (
        '--config.model.dtype=float16',
        r"model\.dtype='float16' cannot be trained: gradients below 6e-8 vanish in it, as the loss is not scaled\. "
        r"Take 'bfloat16'\.",
    ),
    ('--config.optimizer.name=lion', r"optimizer\.name='lion' is unknown\. Known: adamw, lamb, rmsprop, sgd\."),
    (
        '--config.data.train_crop=resize',
        r"data\.train_crop='resize' has no effect with data\.name='digits'; it needs data\.name='image_folder', .*\.",
    ),
    (
        '--config.schedule.decay_rate=0.9',
        r"schedule\.decay_rate=0\.9 has no effect with schedule\.name='cosine'; it needs schedule\.name='exponential'.",
    ),
    (
        '--config.optimizer.beta1=0.5',
        r"optimizer\.beta1=0\.5 has no effect with optimizer\.name='rmsprop'; "
        r"it needs optimizer\.name='adamw' or 'lamb'\.",
    ),
    ('--config.optimizer.momentum=1', r'optimizer\.momentum=1\.0 must be in \[0, 1\)\.'),
    ('--config.optimizer.epsilon=-1', r'optimizer\.epsilon=-1\.0 must be positive\.'),
    ('--config.optimizer.clip_norm=0', r'optimizer\.clip_norm=0\.0 must be positive\.'),
    ('--config.checkpoint.keep_last=0', r'keep_last=0 must be positive\.'),
]

WRONG_COMMANDS = [
    (
        f'{EVAL} --checkpoint=FOLDER/empty --config.data.name=image_folder --config.data.dir=FOLDER/file',
        r'data\.dir: cannot list .*/file: Not a directory\.',
    ),
    ('train.py --config=configs/digits.py', r'--workdir is missing, e\.g\. --workdir=runs/digits\.'),
    ('train.py --workdir=FOLDER/run', r'--config is missing, e\.g\. --config=configs/digits\.py\.'),
    ('train.py --workdir=FOLDER/run --config=absent.py', r"--config: .*No such file or directory: 'absent\.py'"),
    ('train.py --workdir=FOLDER/run --config=absent.py --config.seed=1', r"--config: .*No such file .*'absent\.py'"),
    ('train.py --workdir=FOLDER/run --config=FOLDER/broken.py', r"--config: name 'x' is not defined"),
    ('eval.py', r'give one of --workdir, --checkpoint or --weights\.'),
    ('eval.py --workdir=', r"--workdir='' is empty\."),
    ('eval.py --workdir=FOLDER/empty', r"checkpoint directory='.*/empty/checkpoints' does not exist\."),
    (f'{EVAL} --workdir=FOLDER/run --checkpoint=FOLDER/run', r'give one of --workdir, --checkpoint or --weights\.'),
    (
        f'{EVAL} --checkpoint=FOLDER/empty --config.data.train_crop=resize',
        r"data\.train_crop='resize' has no effect with data\.name='digits'; it needs .*",
    ),
    (
        f'{EVAL} --checkpoint=FOLDER/empty --config.model.dropout_rate=0.5',
        r'model\.dropout_rate=0\.5 has no effect in evaluation, only in training\.',
    ),
    (f'{EVAL} --checkpoint=FOLDER/run', r"checkpoint directory='.*/run/checkpoints' does not exist\."),
    (f'{EVAL} --checkpoint=FOLDER/empty', r"checkpoint directory='.*/empty/checkpoints' does not exist\."),
    (f'{EVAL} --checkpoint=FOLDER/empty --params=best', r'flag --params=best: value should be one of <ema\|raw>'),
]

CASES = [
    *((f'{TRAIN} {arguments}', line) for arguments, line in WRONG_VALUES + WRONG_AFTER_THE_SCHEDULE),
    *WRONG_COMMANDS,
]


@pytest.fixture
def results(made_once, launcher):
    """The folder of the commands, and the result of each."""

    def run_all(folder):
        (folder / 'empty').mkdir()
        (folder / 'file').write_text('')
        (folder / 'broken.py').write_text('def get_config():\n    return x\n')
        launcher.run_forked([command for command, _ in CASES], folder, devices=8)

    folder = made_once('wrong_values', run_all)
    results = forked_results(folder)
    return folder, dict(zip((command for command, _ in CASES), results, strict=True))


@pytest.mark.parametrize(('command', 'line'), CASES)
def test_one_line_names_the_value(command, line, results):
    folder, by_command = results
    result = by_command[command]
    assert result['status'] == 2, result
    (error,) = result['errors']
    assert re.fullmatch(f'error: {line}', error)
    assert result['output'] == []
    after_schedule = any(arguments in command for arguments, _ in WRONG_AFTER_THE_SCHEDULE)
    assert after_schedule or result['compiled'] == 0
    assert not (folder / 'run').exists()
    assert not list((folder / 'empty').iterdir())


@pytest.mark.parametrize(
    'case',
    ['model.name=mobilenet_v9', *(pytest.param(case, marks=pytest.mark.slow) for case in ('batch_size=100', 'confg'))],
)
def test_the_command_itself_says_the_same(case, results, launcher):
    ((command, expected),) = [(command, result) for command, result in results[1].items() if case in command]
    ended = launcher.run(*command.split(), devices=8)
    assert (ended.status, ended.output, ended.errors) == (2, [], expected['errors'])
