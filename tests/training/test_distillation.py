"""The losses of a teacher, worked out by hand; and a teacher that a config names, in the step of a run."""

import importlib
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import random_variables

from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView
from mobilenets_jax.data.augmentation import change_normalization, normalize
from mobilenets_jax.errors import UserError
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.fake_quantization import QUANTIZATION
from mobilenets_jax.identity import Identity, network_fields
from mobilenets_jax.models import create_model
from mobilenets_jax.models.found import to_text
from mobilenets_jax.models.scaling import ScalingConvention
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec
from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.distillation import DistilledTask, Teacher
from mobilenets_jax.training.state import tree_sha256

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
digits = importlib.import_module('configs.digits')

DIGITS = tuple('0123456789')


class Echo:
    """A network whose logits are its images, times a number."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def apply(self, variables, images, *, train, **kwargs):
        outputs = (self.factor * images, {})
        return (outputs, {}) if train else outputs


def echo_teacher(factor):
    return Teacher(
        model=Echo(factor), variables={'params': {}}, to_input=lambda images: images, source='t', facts={'a': 1}
    )


def softmax(logits):
    values = np.exp(np.asarray(logits, np.float64))
    return values / values.sum(axis=-1, keepdims=True)


LOGITS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 4, 0])


def task(mix=None, smoothing=0.0, **fields):
    student = ClassificationTask(
        model=Echo(), preprocess=lambda batch, train: batch['image'], mix=mix, label_smoothing=smoothing
    )
    return DistilledTask(task=student, **fields).taught_by(echo_teacher(-2.0))


def loss_of(task):
    return task.loss({}, {}, {'image': LOGITS, 'label': LABELS}, jax.random.key(0))


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_soft_targets_by_hand(temperature):
    """T^2 times the sum of p log(p / q)."""
    p, q = softmax(-2 * LOGITS / temperature), softmax(LOGITS / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=-1)
    found = task(weight=1.0, temperature=temperature).losses_of_teacher(LOGITS, -2 * LOGITS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    loss, _ = loss_of(task(weight=1.0, temperature=temperature))
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)


@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_gradient_is_that_of_the_paper(temperature):
    """1503.02531 equation 2: (q - p) / T by each logit, times T^2."""
    distilled = task(weight=1.0, temperature=temperature)
    taught = np.roll(LOGITS, 1, axis=1)
    found = jax.grad(lambda logits: distilled.losses_of_teacher(logits, taught).sum())(jnp.asarray(LOGITS))
    expected = temperature * (softmax(LOGITS / temperature) - softmax(taught / temperature))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_hard_targets_are_the_likeliest_class_of_the_teacher():
    worst = LOGITS.argmin(axis=-1)  # the teacher has -2 times the logits
    expected = -np.log(softmax(LOGITS)[np.arange(6), worst])
    loss, _ = loss_of(task(weight=1.0, targets='hard'))
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)


def test_both_losses_are_weighed_also_of_mixed_images():
    others, share = np.roll(LABELS, 1), np.linspace(0.3, 1, 6).astype(np.float32)

    def mix(batch, images):
        return images[::-1], others, share

    distilled = task(mix=mix, smoothing=0.1, weight=0.25)
    loss, (_, sums) = loss_of(distilled)
    own, (_, own_sums) = loss_of(distilled.task)
    by_teacher = distilled.losses_of_teacher(LOGITS[::-1], -2 * LOGITS[::-1])
    np.testing.assert_allclose(loss, 0.75 * own + 0.25 * by_teacher.mean(), rtol=1e-5)
    np.testing.assert_allclose(sums['loss'], 6 * loss, rtol=1e-5)
    assert sums['correct'] == own_sums['correct'] and sums['agreement'] == 0
    metrics = distilled.training_metrics({name: np.asarray(value) for name, value in sums.items()})
    assert list(metrics) == [metric.name for metric in distilled.logged] == ['loss', 'accuracy', 'agreement']


def test_nothing_flows_into_the_teacher():
    teacher = echo_teacher(2.0)
    assert not jax.grad(lambda images: teacher.logits(images).sum())(jnp.asarray(LOGITS)).any()


@pytest.mark.parametrize('before', ['symmetric', 'imagenet', 'unit'])
@pytest.mark.parametrize('after', ['symmetric', 'imagenet', 'unit'])
def test_images_are_normalised_as_the_teacher_knows_them(before, after):
    images = np.random.default_rng(1).integers(0, 256, (2, 3, 4, 3))
    found = change_normalization(normalize(images, before), before, after)
    np.testing.assert_allclose(found, normalize(images, after), atol=2e-6)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'weight': 0.0}, r'distillation.weight=0.0 must be in \(0, 1\].'),
        ({'weight': 1.5}, r'distillation.weight=1.5 must be in \(0, 1\].'),
        ({'weight': 0.5, 'targets': 'firm'}, "distillation.targets='firm' is unknown. Known: hard, soft."),
        ({'weight': 0.5, 'temperature': 0.0}, 'distillation.temperature=0.0 must be positive.'),
    ],
)
def test_wrong_values_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        task(**fields)


_ROW = BlockSpec(kernel_size=3, expanded=16, out_channels=8, activation='relu', stride=2)
TINY = NetworkSpec(
    stem=ConvSpec(channels=8, kernel_size=3, stride=2, activation='relu'),
    blocks=(_ROW,),
    dropout_rate=0.0,
    convention=ScalingConvention(),
)
TABLE = to_text('tiny', TINY)

# A teacher that a run has saved.
RUN = {
    'image_size': 32,
    'model': {'name': 'tiny', 'table': TABLE, 'padding': 'symmetric'},
    'data': {'name': 'digits', 'normalization': 'imagenet'},
}


def save_run(workdir, step=3, names=DIGITS):
    model = create_model('tiny', len(names), table=TABLE, padding='symmetric')
    variables = random_variables(model, 32)
    identity = Identity(fields=network_fields(RUN) | {'num_classes': len(names)}, class_names=names)
    with CheckpointManager(workdir / 'checkpoints', identity=identity) as checkpoints:
        checkpoints.save(step, variables, meta={'config': RUN})
    return model, variables


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """The workdir of a teacher, its network and its variables."""
    workdir = tmp_path_factory.mktemp('teacher')
    return workdir, *save_run(workdir)


def config(source, **fields):
    small = {
        'model.name': 'tiny',
        'model.table': TABLE,
        'batch_size': 32,
        'num_steps': 4,
        'distillation.teacher': str(source),
        'label_smoothing': 0.0,
    }
    return ConfigView(digits.get_config().to_dict()).updated(small | fields)


def test_a_step_learns_from_the_teacher_of_the_config(teacher):
    """The metrics of a step whose batches are taken in two parts; the teacher gets the images as it knows them."""
    workdir, model, variables = teacher
    fields = {'distillation.weight': 1.0, 'distillation.targets': 'hard', 'optimizer.accumulation_steps': 2}
    experiment = Experiment(config(workdir, **fields))
    state, batch = experiment.initial_state(), next(experiment.dataset.train_batches(experiment.layout))
    student = {'params': state.params, 'batch_stats': state.batch_stats}

    @jax.jit
    @jax.vmap
    def expected(batch):
        images = experiment.dataset.device_preprocess(batch, train=True)
        taught, _ = model.apply(variables, change_normalization(images, 'symmetric', 'imagenet'), train=False)
        (logits, _), _ = experiment.model.apply(student, images, train=True, mutable=['batch_stats'])
        return taught, logits

    parts = {name: leaf.reshape(16, 2, *leaf.shape[2:]) for name, leaf in batch.items()}
    taught, logits = (np.asarray(outputs).reshape(32, 10) for outputs in expected(parts))
    best = taught.argmax(axis=-1)
    losses = -np.log(softmax(logits)[np.arange(32), best])
    _, metrics = experiment.train_step()(state, batch)
    np.testing.assert_allclose(metrics['loss'] / metrics['count'], losses.mean(), rtol=1e-4)
    agreed = (logits.argmax(axis=-1) == best).sum()
    assert (int(metrics['agreement']), int(metrics['count'])) == (agreed, 32) and 0 < agreed < 32


def test_a_run_that_goes_on_ends_as_one_that_was_not_stopped(teacher, tmp_path):
    """Bit for bit, with what a checkpoint holds; `tests/end_to_end/test_distillation.py` does it by the commands."""
    workdir, *_ = teacher

    def go_on(train_step, state, step, steps):
        stream = first.dataset.train_batches(first.layout, start=32 * step)
        state = parallel.replicate(state)
        for _ in range(steps):
            state, _ = train_step(state, next(stream))
        return parallel.to_host(state)

    first = Experiment(config(workdir))
    train_step = first.train_step()
    straight, stopped = (go_on(train_step, first.initial_state(), 0, steps) for steps in (4, 2))
    with CheckpointManager(tmp_path, identity=first.identity) as checkpoints:
        checkpoints.save(2, stopped, meta=first.facts)
        checkpoints.wait()
        second = Experiment(config(workdir))
        restored = checkpoints.restore(second.abstract_state())
    second.check_facts('step 2', restored.meta)
    assert restored.meta['teacher']['variables'] == second.teacher.facts['variables']
    assert (
        tree_sha256(go_on(second.train_step(), restored.state, 2, 2)) == tree_sha256(straight) != tree_sha256(stopped)
    )


def test_only_training_reads_the_teacher(tmp_path):
    experiment = Experiment(config(tmp_path / 'gone'))
    experiment.evaluator()
    assert [metric.name for metric in experiment.task.metrics] == ['top1', 'top5', 'loss']
    with pytest.raises(UserError, match=r"^distillation.teacher='\S+/gone': there is no such file or checkpoint\."):
        experiment.train_step()


def test_a_teacher_is_known_by_its_network_and_its_variables(teacher, tmp_path):
    workdir, *_ = teacher
    first = Experiment(config(workdir)).teacher
    save_run(tmp_path / 'copy', step=9)
    copy = Experiment(config(tmp_path / 'copy')).teacher
    copy.check('step 4', first.facts)
    assert Experiment(config('')).teacher is None
    stored = {**first.facts, 'variables': 'other', 'model.padding': 'same'}
    with pytest.raises(UserError) as error:
        copy.check('step 4', stored)
    assert str(error.value).startswith(
        f"distillation.teacher='{tmp_path / 'copy'}' is not the teacher of step 4, from which it differs in variables, "
        'model.padding. Name that one'
    )


def test_a_teacher_with_other_classes_is_refused_in_one_line(tmp_path):
    save_run(tmp_path / 'more', names=(*DIGITS, '10'))
    save_run(tmp_path / 'other', names=('zero', *DIGITS[1:]))
    lines = {
        'more': 'has 11 classes, where the network has 10.',
        'other': "knows other classes: class 0 is '0' in data.name='digits', 'zero' in the checkpoint; 1 of 10 differ.",
    }
    for name, line in lines.items():
        with pytest.raises(UserError) as error:
            Experiment(config(tmp_path / name)).train_step()
        assert str(error.value) == f"distillation.teacher='{tmp_path / name}' {line}"


def test_a_teacher_of_another_image_size_is_said(teacher, capsys):
    workdir, *_ = teacher
    Experiment(config(workdir, image_size=24)).train_step()
    line = f"distillation.teacher='{workdir}' is for images of 32 px; it gets those of the run, 24 x 24 px"
    assert line in capsys.readouterr().err.splitlines()


def test_a_quantized_student_learns_from_a_teacher_in_float(teacher):
    workdir, *_ = teacher
    experiment = Experiment(config(workdir, **{'quantization.enabled': True}))
    batch = {
        name: jax.ShapeDtypeStruct((8, 4, *field.shape), field.dtype)
        for name, field in experiment.dataset.train_signature.items()
    }
    lowered = experiment.train_step().lower(experiment.abstract_state(), batch)  # as the command `compile` does
    _, metrics = lowered.out_info
    assert experiment.identity.fields['quantization'] == QUANTIZATION and metrics['agreement'].shape == ()
