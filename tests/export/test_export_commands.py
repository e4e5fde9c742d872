"""`export` and `evaluate_tflite`: what their files say, what they score, and mistakes in one line."""

import json
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
from PIL import Image
from small_networks import SIZE, pixels, small_network

from mobilenets_jax.__main__ import main
from mobilenets_jax.commands import evaluate_tflite as evaluate_tflite_command
from mobilenets_jax.export import exporting, metadata, packages
from mobilenets_jax.tasks.classified_images import trained_classifier
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.readers import tflite_metadata


@pytest.fixture(scope='module')
def exported(packages):
    pretrained = small_network()
    return pretrained, exporting.export(trained_classifier(pretrained), 'int8', pixels())


def test_a_file_says_what_it_is(exported, tmp_path):
    pretrained, made = exported
    path = tmp_path / 'small.tflite'
    path.write_bytes(made.content)
    record = metadata.read_record(made.content, 'small.tflite')
    assert record['model'] == 'mobilenet_v2' and record['quantization'] == 'int8'
    assert record['image_size'] == [SIZE, SIZE] and record['class_names'][9] == 'kind 9'
    assert zipfile.ZipFile(path).read('labels.txt').decode().splitlines() == list(pretrained.class_names)
    entries = metadata.flatbuffer.unpack(made.content)
    (tflite,) = (entry for entry in entries.metadata if entry.name == tflite_metadata.NAME)
    mean, std = tflite_metadata.normalization(bytes(entries.buffers[tflite.buffer].data))
    assert mean.tolist() == std.tolist() == [127.5] * 3
    assert metadata.read_record(made.content, 'x') == exporting.record(trained_classifier(pretrained), 'int8')


def test_a_file_is_read_as_weights_again(packages, tmp_path):
    pretrained = small_network()
    path = tmp_path / 'small.tflite'
    path.write_bytes(exporting.export(trained_classifier(pretrained)).content)
    again = load_pretrained(str(path))
    assert again.card.model == 'mobilenet_v2' and again.card.width_multiplier == 0.35
    assert again.card.preprocessing.image_size == SIZE and again.card.preprocessing.normalization == 'symmetric'
    images = np.random.default_rng(0).uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    logits = [one.model.apply(one.variables, images, train=False)[0] for one in (pretrained, again)]
    np.testing.assert_allclose(logits[1], logits[0], rtol=0, atol=1e-5 * np.abs(logits[0]).max())


@pytest.fixture
def folder(tmp_path):
    """Twelve images of ten classes."""
    for number, image in enumerate(pixels()):
        place = tmp_path / 'images' / f'kind {number % 10}'
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f'{number}.png')
    return str(tmp_path / 'images')


def test_evaluation_of_a_file(exported, folder, tmp_path):
    _, made = exported
    path = str(tmp_path / 'small.tflite')
    (tmp_path / 'small.tflite').write_bytes(made.content)
    command = [sys.executable, '-m', 'mobilenets_jax', 'evaluate_tflite', path, '--config.data.name=image_folder']
    command += [f'--config.data.dir={folder}', '--config.data.crop_fraction=1.0']
    command += ['--config.data.eval_crop=central_fraction', '--reference', path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    labels = [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]  # the images in the order of their classes
    images = pixels()[[0, 10, 1, 11, *range(2, 10)]].astype(np.float32) / 127.5 - 1
    logits = logits_by_hand(made.content, images)
    order = np.argsort(-logits, axis=1, kind='stable')
    expected = [100 * np.mean([label in row[:k] for label, row in zip(labels, order, strict=True)]) for k in (1, 5)]
    assert [result['top1'], result['top5'], result['count']] == pytest.approx([*expected, 12])
    assert result['same_as_reference'] >= 75 and result['model'] == 'mobilenet_v2'


def logits_by_hand(content, images):
    from ai_edge_litert.interpreter import Interpreter

    with packages.quiet():
        interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    entrance, end = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for image in images:
        scale, zero = entrance['quantization']
        stored = np.clip(np.round(image / scale) + zero, -128, 127)[None].astype(np.int8)
        interpreter.set_tensor(entrance['index'], stored)
        interpreter.invoke()
        rows.append(interpreter.get_tensor(end['index'])[0].astype(float))
    return np.stack(rows)


def test_mistakes_in_one_line(exported, tmp_path, capsys):
    _, made = exported
    path = tmp_path / 'small.tflite'
    path.write_bytes(made.content)
    (tmp_path / 'cut.tflite').write_bytes(made.content[:100_000])
    (tmp_path / 'text.tflite').write_text('no network')
    for arguments, message in (
        (['evaluate_tflite', str(tmp_path / 'none.tflite')], 'none.tflite cannot be read: No such file or directory.'),
        (['evaluate_tflite', str(tmp_path / 'cut.tflite')], 'cut.tflite is no TFLite file that LiteRT can run: '),
        (['evaluate_tflite', str(tmp_path / 'text.tflite')], 'text.tflite is no TFLite file that LiteRT can run: '),
        (['evaluate_tflite', str(path), '--threads=0'], '--threads=0 must be positive.'),
        (['export', '--weights=w.h5', '--out=f.onnx'], "--out='f.onnx' must end with .tflite."),
        (['export', '--weights=w.h5', '--out=no/f.tflite'], "--out='no/f.tflite' is in no folder that exists."),
        (['export', '--weights=w.h5', '--out=f.tflite', '--quantize=int8'], '--quantize=int8 needs --calibration=DIR'),
        (['export', '--weights=w.h5', '--out=f.tflite', '--percentile=99'], 'has no effect with --quantize=none.'),
        (['export', '--weights=w.h5', '--out=f.tflite', '--quantize=int4'], "invalid choice: 'int4'"),
        (['export', '--weights=w.h5', '--out=f.tflite'], "weights='w.h5': there is no such file or checkpoint."),
    ):
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = ended.code
        written = capsys.readouterr().err
        assert status == 2 and written.count('\n') == 1 and message in written, written


def test_a_missing_package_names_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, 'litert_converter', None)
    assert main(['export', '--weights=w.h5', f'--out={tmp_path}/f.tflite']) == 2
    needed = "litert_converter is needed and not installed: pip install 'mobilenets_jax[export]' brings it."
    assert capsys.readouterr().err == f'error: the Python package {needed}\n'


def test_a_foreign_file_is_asked_for_its_range(monkeypatch):
    record = {'task': 'classification', 'config': {'image_size': 224, 'data.normalization': None}}
    with pytest.raises(ValueError, match='^F does not say the range of its input: set --config.data.normalization'):
        evaluate_tflite_command._fields(record, {}, 'F')
    fields = evaluate_tflite_command._fields(record, {'data.normalization': 'unit'}, 'F')
    assert fields['data.normalization'] == 'unit'


def test_the_command_line_cannot_change_the_network_of_a_file():
    config = {'data.normalization': 'symmetric', 'model.name': 'mobilenet_v2'}
    record = {'task': 'detection', 'config': config}
    others = {'model.name': 'mobilenet_v1'}, {'model.divisor': 4}, {'detection.min_scale': 0.1}
    for given in ({'data.normalization': 'unit'}, *others):
        ((name, value),) = given.items()
        with pytest.raises(ValueError, match=f'^{name}={value!r} is not that of F: {config.get(name)!r}'):
            evaluate_tflite_command._fields(record, given, 'F')
    suppression = {'detection.iou_threshold': 0.5}  # of what the file returns
    assert evaluate_tflite_command._fields(record, suppression, 'F')['model.name'] == 'mobilenet_v2'


def test_of_files_of_others_only_classifiers_are_measured():
    for shapes in ({'logits': (5, 5, 2)}, {'boxes': (10, 4), 'scores': (10,)}):
        with pytest.raises(
            ValueError, match=r'^F returns \[\(.*\)\] for an image: of files of others only classifiers'
        ):
            evaluate_tflite_command._foreign('F', types.SimpleNamespace(shapes=shapes))
